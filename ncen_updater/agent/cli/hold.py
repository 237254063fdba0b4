"""``hold`` and ``unhold``: an operator forbids upgrades, with a reason, and allows them again."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING, Any

import click

from ncen_updater.agent.cli.common import agent_session, plain_reason
from ncen_updater.agent.config.paths import site_zone
from ncen_updater.common.cli.errors import NOTHING_CHANGED
from ncen_updater.common.cli.lazy import Command
from ncen_updater.common.cli.render import format_time
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, Figure, Text
from ncen_updater.common.messages import BAD_TIME, TIME_PASSED, ExitCode
from ncen_updater.common.records import within_calendar

if TYPE_CHECKING:
    from ncen_updater.agent.cli.session import AgentSession


def parse_until(text: str | None, now: datetime, zone: tzinfo | None = None) -> datetime | None:
    """Read a date (its first instant) or a time, at the site's hours unless it says otherwise.

    Args:
        text: What a person wrote.
        now: The time.
        zone: Zone of the site, as its windows are reckoned; that of the machine by default.

    Raises:
        BadTime, TimePassed: If it cannot be read, or has passed; it is quoted as it was typed.
    """
    if text is None:
        return None
    try:
        written = datetime.fromisoformat(text)
        moment = within_calendar(written.replace(tzinfo=written.tzinfo or zone))
    except ValueError as error:
        raise UpdaterError(BAD_TIME, text=Figure(text), state=NOTHING_CHANGED) from error
    if moment <= now:
        raise UpdaterError(TIME_PASSED, text=Figure(text), state=NOTHING_CHANGED)
    return moment


def show_beginning(
    session: AgentSession, begins: Mapping[str, Any] | None, words: str = "{begins}"
) -> None:
    """Say when the next upgrade begins by itself.

    Args:
        session: This run.
        begins: When it does; None where that is not known.
        words: The sentence around it.
    """
    if begins is None:
        return
    from ncen_updater.agent.policy.beginning import Beginning, beginning_words

    said = beginning_words(Beginning.from_json(begins), site_zone(session.config))
    session.show(Text(words, {"begins": said}))


@click.command("hold", cls=Command, help=N_("Forbid upgrades, with a reason."))
@click.option("--reason", required=True, help=N_("Why, for whoever finds the hold."))
@click.option(
    "--until", metavar="TIME", help=N_("When it ends by itself; without end if left out.")
)
@click.option("--dry-run", is_flag=True, help=N_("Say what would be done, and change nothing."))
@click.pass_context
def hold(context: click.Context, reason: str, until: str | None, dry_run: bool) -> ExitCode:
    session = agent_session(context)
    reason = plain_reason(reason, context)
    zone = site_zone(session.config)
    end = parse_until(until, datetime.now(UTC), zone)
    found = session.client().hold(reason, end, dry_run=dry_run)
    values = {"by": found["by"], "reason": reason, "until": format_time(end, zone) if end else "-"}
    until_then, for_good = (
        (
            N_("Upgrades would be on hold until {until}: {reason}"),
            N_("Upgrades would be on hold, without end: {reason}"),
        )
        if dry_run
        else (
            N_("Upgrades are on hold until {until}: {reason}"),
            N_("Upgrades are on hold, without end: {reason}"),
        )
    )
    session.show(Text(until_then if end else for_good, values))
    session.finish(found)
    return ExitCode.OK


@click.command("unhold", cls=Command, help=N_("Allow upgrades again."))
@click.option("--dry-run", is_flag=True, help=N_("Say what would be done, and change nothing."))
@click.pass_context
def unhold(context: click.Context, dry_run: bool) -> ExitCode:
    session = agent_session(context)
    site = session.client()
    count = site.holds() if dry_run else site.unhold()
    if not count:
        text = N_("There was no hold.")
    elif dry_run:
        text = N_("Holds that would be lifted: {count}.")
    else:
        text = N_("Holds lifted: {count}.")
    session.show(Text(text, {"count": count}))
    version, begins = (None, None) if dry_run else site.comes_next()
    if version is not None:
        session.show(Text(N_("Next is the upgrade to {version}."), {"version": version}))
    show_beginning(session, begins)
    lifted = 0 if dry_run else count
    session.finish({"held": dry_run and count > 0, "lifted": lifted, "begins": begins})
    return ExitCode.OK
