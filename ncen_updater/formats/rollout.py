"""When a release opens to which sites: what the officers sign, and may sign anew at any time."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated

from pydantic import BeforeValidator, Field, PlainSerializer, StringConstraints

from ncen_updater.common.records import within_calendar
from ncen_updater.formats.manifest import Country, Model

MAX_WAVES = 100
FORM = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)


def _moment(value: object) -> datetime:
    if isinstance(value, str) and FORM.fullmatch(value):
        return within_calendar(datetime.fromisoformat(value))
    if isinstance(value, datetime) and value.tzinfo is not None and not value.microsecond:
        return within_calendar(value)
    raise ValueError("write a time as 2026-12-01T08:00:00Z")


def format_moment(moment: datetime) -> str:
    """Write a time (UTC) as it is signed; there is one way only."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


Moment = Annotated[
    datetime, BeforeValidator(_moment), PlainSerializer(format_moment, when_used="json")
]


class Wave(Model):
    """A part of the sites, and when a release opens to them.

    Attributes:
        opens: When (UTC).
        percent: So many of a hundred sites, always the same ones for one release.
        countries: Of these countries only; of all if there is none.
    """

    opens: Moment
    percent: Annotated[int, Field(ge=1, le=100, strict=True)]
    countries: Annotated[tuple[Country, ...], Field(max_length=300)] = ()


class Halt(Model):
    """A release that no further site shall begin with, and why."""

    reason: Annotated[str, StringConstraints(min_length=1, max_length=1000)]
