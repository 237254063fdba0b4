"""Format signed values and digests for display and typing. Pure.

Values without the expected format are shown unchanged: a drafter may have written anything, and
signers must see all of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from ncen_updater.common.cli.render import format_scheduled_time
from ncen_updater.common.i18n import N_, LazyText, LocalizedFigure, join_texts
from ncen_updater.formats.rollout import TIME_PATTERN


def parse_signed_time(text: str) -> datetime | None:
    """Parse a signed time; return None if it does not have the signed format."""
    if not TIME_PATTERN.fullmatch(text):
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def format_signed_time(text: object) -> LocalizedFigure | str:
    """Format a signed time in the local time zone; return other values unchanged."""
    moment = parse_signed_time(str(text))
    if moment is None:
        return str(text)
    return format_scheduled_time(moment)


def format_schedule(waves: list[dict[str, Any]]) -> LazyText:
    """Format all steps of a rollout with their countries; an omitted one would mislead."""
    if not waves:
        return LazyText(N_("all sites at once"))
    return join_texts(map(_format_wave, sorted(waves, key=_make_wave_key)), ", ")


def _make_wave_key(wave: Mapping[str, Any]) -> tuple[str, int]:
    return str(wave.get("opens")), int(wave.get("percent") or 0)


def _format_wave(wave: Mapping[str, Any]) -> LazyText:
    values = {
        "percent": wave.get("percent"),
        "opens": format_signed_time(wave.get("opens")),
        "countries": ", ".join(sorted(wave.get("countries") or [])),
    }
    if values["countries"]:
        words = N_("{percent} % in {countries} from {opens}")
        return LazyText(words, values)
    return LazyText(N_("{percent} % from {opens}"), values)


def format_change(
    path: LazyText | LocalizedFigure, old: LocalizedFigure | None, new: LocalizedFigure | None
) -> LazyText:
    """Describe a changed, added (no old) or removed (no new) value.

    Args:
        path: Where the value is.
        old: The old value.
        new: The new value.
    """
    words = N_("changed: {path}: {old} to {new}")
    if old is None:
        words = N_("added: {path}: {new}")
    elif new is None:
        words = N_("removed: {path}: {old}")
    return LazyText(words, {"path": path, "old": old, "new": new})
