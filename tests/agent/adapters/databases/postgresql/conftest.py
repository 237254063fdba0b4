"""A fresh site on each server, with a superuser and with an ordinary role as the agent."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from demo.embedded_postgres import EmbeddedPostgres
from ncen_updater.agent.adapters.databases.postgresql import control_database as control
from tests.agent.adapters.databases.postgresql.site import AGENT, Site

TURNS = itertools.count()


@pytest.fixture(autouse=True)
def fresh_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test object ids of its own, as each change of a site has.

    Here all changes have the same id. A server (16.14 did) may refuse to drop a database whose
    number it had before: "trying to drop stats entry already dropped".
    """
    monkeypatch.setattr(control, "FIRST_OID", control.FIRST_OID + 1000 * next(TURNS))


@pytest.fixture
def site(postgres: EmbeddedPostgres) -> Iterator[Site]:
    """A site whose agent is a superuser."""
    site = Site(postgres)
    site.build()
    yield site
    site.clear()


@pytest.fixture(params=["postgres", AGENT])
def any_site(postgres: EmbeddedPostgres, request: pytest.FixtureRequest) -> Iterator[Site]:
    """The same, once more with an agent that is not a superuser."""
    site = Site(postgres, user=request.param)
    site.build()
    yield site
    site.clear()
