"""``hold`` and ``unhold``: an operator forbids upgrades, with a reason, and allows them again."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo

import click

from ncen_updater.agent.cli.common import agent_session
from ncen_updater.agent.cli.remote import service_for
from ncen_updater.agent.config.paths import load_places, site_zone
from ncen_updater.agent.journal.journal import Journal
from ncen_updater.agent.journal.names import JOURNAL
from ncen_updater.agent.journal.site_history import SiteHistory
from ncen_updater.common.cli.errors import NOTHING_CHANGED, BadTime
from ncen_updater.common.cli.lazy import Command
from ncen_updater.common.cli.program import user_name
from ncen_updater.common.cli.render import clean, format_time
from ncen_updater.common.errors import ExitCode
from ncen_updater.common.i18n import N_, Text

__all__ = ["hold", "parse_until", "unhold"]

MAX_REASON = 500


def parse_until(text: str | None, now: datetime, zone: tzinfo | None = None) -> datetime | None:
    """Read a date (its first instant) or a time, at the site's hours unless it says otherwise.

    Args:
        text: What a person wrote.
        now: The time.
        zone: Zone of the site, as its windows are reckoned; that of the machine by default.

    Raises:
        BadTime: If it cannot be read or has passed.
    """
    if text is None:
        return None
    try:
        written = datetime.fromisoformat(text)
        local = written.replace(tzinfo=written.tzinfo or zone)
        moment = local.astimezone(UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise BadTime(text=text, state=NOTHING_CHANGED) from error
    if moment <= now:
        raise BadTime(text=text, state=NOTHING_CHANGED)
    return moment


@click.command("hold", cls=Command, help=N_("Forbid upgrades, with a reason."))
@click.option("--reason", required=True, help=N_("Why, for whoever finds the hold."))
@click.option(
    "--until", metavar="TIME", help=N_("When it ends by itself; without end if left out.")
)
@click.option("--dry-run", is_flag=True, help=N_("Say what would be done, and change nothing."))
@click.pass_context
def hold(context: click.Context, reason: str, until: str | None, dry_run: bool) -> ExitCode:
    session = agent_session(context)
    reason = clean(reason).replace("\n", " ").strip()[:MAX_REASON]
    if not reason:
        raise click.BadParameter("empty", context, param_hint="--reason")
    zone = site_zone(session.config)
    end = parse_until(until, datetime.now(UTC), zone)
    service = None if dry_run else service_for(session)
    if service is not None:
        until_text = end.isoformat() if end else None
        by = service.call("POST", "/v1/holds", {"reason": reason, "until": until_text})["by"]
    else:
        by = user_name()
        places = load_places(session.config)
        with Journal.open(places.state / JOURNAL, read_only=dry_run) as journal:
            if not dry_run:
                SiteHistory(journal).hold(reason, by, end)
    values = {"by": by, "reason": reason, "until": format_time(end, zone) if end else "-"}
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
    session.finish({"held": not dry_run, "reason": reason, "by": by, "until": end})
    return ExitCode.OK


@click.command("unhold", cls=Command, help=N_("Allow upgrades again."))
@click.option("--dry-run", is_flag=True, help=N_("Say what would be done, and change nothing."))
@click.pass_context
def unhold(context: click.Context, dry_run: bool) -> ExitCode:
    session = agent_session(context)
    service = None if dry_run else service_for(session)
    if service is not None:
        count = service.call("DELETE", "/v1/holds")["lifted"]
    else:
        places = load_places(session.config)
        with Journal.open(places.state / JOURNAL, read_only=dry_run) as journal:
            memory = SiteHistory(journal)
            count = len(memory.holds()) if dry_run else memory.lift_holds(user_name())
    if not count:
        text = N_("There was no hold.")
    elif dry_run:
        text = N_("Holds that would be lifted: {count}.")
    else:
        text = N_("Holds lifted: {count}.")
    session.show(Text(text, {"count": count}))
    session.finish({"held": dry_run and count > 0, "lifted": 0 if dry_run else count})
    return ExitCode.OK
