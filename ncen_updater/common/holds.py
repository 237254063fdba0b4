"""A hold in one sentence: on a terminal and in a browser. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, tzinfo

from ncen_updater.common.cli.characters import strip_control_characters
from ncen_updater.common.cli.render import format_time
from ncen_updater.common.i18n import N_, LazyText


def format_hold(hold: Mapping[str, str | None], zone: tzinfo | None = None) -> LazyText:
    """Say since when upgrades are on hold, until when, and who set that.

    Args:
        hold: As the document of a site has it.
        zone: Zone of the site; that of the machine by default.
    """
    values: dict[str, object] = {
        "by": strip_control_characters(hold["actor"] or "-"),
        "reason": strip_control_characters(hold["reason"] or "-"),
        "since": format_time(datetime.fromisoformat(hold["since"] or ""), zone),
    }
    until = hold.get("until")
    if until is None:
        return LazyText(N_("Upgrades on hold since {since} by {by}: {reason}"), values)
    words = N_("Upgrades on hold since {since} until {until} by {by}: {reason}")
    return LazyText(words, {**values, "until": format_time(datetime.fromisoformat(until), zone)})
