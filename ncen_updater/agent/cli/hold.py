"""``hold`` and ``unhold``: put upgrades on hold, with a reason, and remove the holds."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING, Any

import click

from ncen_updater.agent.cli.common import agent_command, parse_reason
from ncen_updater.agent.config.essential_settings import read_site_timezone
from ncen_updater.common.cli.usage import NOTHING_CHANGED
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText, LocalizedFigure
from ncen_updater.common.json_records import within_calendar
from ncen_updater.common.labels import format_hold, format_upgrade_path, format_upgrade_start
from ncen_updater.common.messages import BAD_TIME, TIME_PASSED, ExitCode

if TYPE_CHECKING:
    from ncen_updater.agent.cli.session import AgentSession


def parse_future_time(
    text: str | None, now: datetime, zone: tzinfo | None = None
) -> datetime | None:
    """Parse a date (its first moment) or a time, by default in the site's time zone.

    Args:
        text: The text; None is returned as None.
        now: The current time.
        zone: Time zone of the site's maintenance windows; by default that of the machine.

    Raises:
        BAD_TIME, TIME_PASSED: If the text is invalid or the time has passed; the error quotes the
            text.
    """
    if text is None:
        return None
    try:
        written = datetime.fromisoformat(text)
        moment = within_calendar(written.replace(tzinfo=written.tzinfo or zone))
    except ValueError as error:
        raise UpdaterError(BAD_TIME, text=LocalizedFigure(text), state=NOTHING_CHANGED) from error
    if moment <= now:
        raise UpdaterError(TIME_PASSED, text=LocalizedFigure(text), state=NOTHING_CHANGED)
    return moment


def show_next_start(
    session: AgentSession, start: Mapping[str, Any] | None, heading: str | None = None
) -> None:
    """Show when the next upgrade starts automatically.

    Args:
        session: The session.
        start: The start; None if unknown.
        heading: Line above it.
    """
    if start is None:
        return
    if heading is not None:
        session.add_line(LazyText(heading))
    session.add_line(format_upgrade_start(start, read_site_timezone(session.config)))
    if start["wait_reason"] == "not-scheduled":
        session.add_line(
            LazyText(N_("Run ncen-updater upgrade or ncen-updater schedule TIME to start it."))
        )


@agent_command
@click.option("--reason", required=True, help=N_("Reason, shown by status"))
@click.option("--until", metavar="TIME", help=N_("End of the hold (default: none)"))
def hold(session: AgentSession, reason: str, until: str | None) -> ExitCode:
    reason = parse_reason(reason)
    zone = read_site_timezone(session.config)
    end = parse_future_time(until, datetime.now(UTC), zone)
    found = session.get_client().set_hold(reason, end)
    session.add_line(format_hold(found, zone))
    session.write_output(found)
    return ExitCode.OK


@agent_command
def unhold(session: AgentSession) -> ExitCode:
    site = session.get_client()
    count = site.lift_holds()
    text = N_("Removed: {count} holds") if count else N_("No holds.")
    session.add_line(LazyText(text, {"count": count}))
    hops, next_start = site.read_next_upgrade_summary()
    if hops:
        following = {"version": format_upgrade_path(hops)}
        session.add_line(LazyText(N_("Next upgrade: {version}"), following))
    show_next_start(session, next_start)
    session.write_output({"held": False, "lifted": count, "starts_at": next_start})
    return ExitCode.OK
