"""``hold`` and ``unhold``: an operator forbids upgrades, with a reason, and allows them again."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from ncen_updater.cli.commands.common import JOURNAL, agent_session
from ncen_updater.cli.errors import NOTHING_CHANGED, BadTime
from ncen_updater.cli.lazy import Command
from ncen_updater.cli.program import user_name
from ncen_updater.cli.render import clean, format_time
from ncen_updater.config.paths import load_places
from ncen_updater.errors import ExitCode
from ncen_updater.i18n import N_, Text
from ncen_updater.upgrade.journal import Journal
from ncen_updater.upgrade.memory import Memory

__all__ = ["hold", "parse_until", "unhold"]

MAX_REASON = 500


def parse_until(text: str | None, now: datetime) -> datetime | None:
    """Read the end of a hold: a date (its first instant) or a time, local unless it says otherwise.

    Raises:
        BadTime: If it cannot be read or has passed.
    """
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text).astimezone(UTC)
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
@click.pass_context
def hold(context: click.Context, reason: str, until: str | None) -> ExitCode:
    session = agent_session(context)
    places = load_places(session.config)
    reason = clean(reason).replace("\n", " ").strip()[:MAX_REASON]
    if not reason:
        raise click.BadParameter("empty", context, param_hint="--reason")
    end = parse_until(until, datetime.now(UTC))
    by = user_name()
    with Journal.open(places.state / JOURNAL) as journal:
        Memory(journal).hold(reason, by, end)
    values = {"by": by, "reason": reason, "until": format_time(end) if end else "-"}
    session.show(
        Text(
            N_("Upgrades are on hold until {until}: {reason}")
            if end
            else N_("Upgrades are on hold, without end: {reason}"),
            values,
        )
    )
    session.finish({"held": True, "reason": reason, "by": by, "until": end})
    return ExitCode.OK


@click.command("unhold", cls=Command, help=N_("Allow upgrades again."))
@click.pass_context
def unhold(context: click.Context) -> ExitCode:
    session = agent_session(context)
    places = load_places(session.config)
    with Journal.open(places.state / JOURNAL) as journal:
        lifted = Memory(journal).lift_holds(user_name())
    session.show(
        Text(N_("Holds lifted: {count}."), {"count": lifted})
        if lifted
        else Text(N_("There was no hold."))
    )
    session.finish({"held": False, "lifted": lifted})
    return ExitCode.OK
