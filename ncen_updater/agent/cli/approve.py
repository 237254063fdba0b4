"""``approve`` and ``schedule``: people say yes to what was rehearsed, and when it may begin."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from ncen_updater.agent.cli.common import agent_session
from ncen_updater.agent.cli.hold import parse_until, show_beginning
from ncen_updater.agent.cli.session import AgentSession
from ncen_updater.agent.engine.approvals.model import used_up_words
from ncen_updater.agent.engine.approvals.outlook import require_binding
from ncen_updater.agent.reports.answers import rehearsal_words
from ncen_updater.common.cli.arguments import parse_version
from ncen_updater.common.cli.lazy import Command
from ncen_updater.common.cli.render import grouped
from ncen_updater.common.cli.usage import Misuse
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, Text
from ncen_updater.common.messages import (
    FEED_NEVER_READ,
    NOT_NEXT,
    NOTHING_TO_APPROVE,
    OPEN_CHANGE,
    WATCHED_FIRST,
    ExitCode,
)

if TYPE_CHECKING:
    from packaging.version import Version

    from ncen_updater.agent.cli.site_client import SiteClient

Document = Mapping[str, Any]

#: Two sentences: what stands in the place is one.
AFTER_YES = N_("This is what your yes leads to. {begins}")
AT_THAT_TIME = N_("This is what that time leads to. {begins}")
#: Why there is nothing to show of an approval, after it was taken back.
_NOTHING_LEFT = frozenset(
    one.code for one in (NOTHING_TO_APPROVE, FEED_NEVER_READ, NOT_NEXT, OPEN_CHANGE, WATCHED_FIRST)
)


@click.command("approve", cls=Command, help=N_("Say yes to what was rehearsed."))
@click.argument("version", required=False)
@click.option(
    "--rollback", is_flag=True, help=N_("Say yes to going back to the release before, instead.")
)
@click.option(
    "--accept-loss",
    type=click.IntRange(min=0),
    metavar="N",
    help=N_("Agree to lose this many records, as the refusal counted them."),
)
@click.option("--withdraw", is_flag=True, help=N_("Take your own approval back."))
@click.option("--yes", is_flag=True, help=N_("Do not ask. Nothing that blocks is passed over."))
@click.option(
    "--dry-run", is_flag=True, help=N_("Show what would be approved, and change nothing.")
)
@click.pass_context
def approve(
    context: click.Context,
    version: str | None,
    rollback: bool,
    accept_loss: int | None,
    withdraw: bool,
    yes: bool,
    dry_run: bool,
) -> ExitCode:
    session = agent_session(context)
    target = parse_version(version)
    if rollback:
        if version is not None:
            raise Misuse(N_("a rollback takes no VERSION"), context)
        if withdraw and not dry_run:
            return _withdraw(session, None, back=True)
        return _approve_back(session, accept_loss, yes=yes, dry_run=dry_run)
    if accept_loss is not None:
        raise Misuse(N_("--accept-loss belongs to --rollback"), context)
    if withdraw and not dry_run:
        return _withdraw(session, target, back=False)
    site = session.client()
    if withdraw:
        return _show_left(session, site, target)
    if not dry_run:
        site.require_right("approve")
    seen = site.outlook(target)
    rehearsal = seen["rehearsal"]
    if rehearsal is not None and rehearsal["state"] == "passed":
        for line in rehearsal_words(rehearsal, session.language):
            session.show(line)
    if not dry_run:
        require_binding(seen)
        _show_digest(session, seen)
        _show_others(session, seen)
        show_beginning(session, seen["begins_after_yes"], AFTER_YES)
        question = Text(N_("Approve the upgrade to {version}?"), {"version": seen["target"]})
        session.agree(question, yes=yes)
        before = seen["approvals"]
        site.approve(seen)
        seen = site.outlook(target)
        if before and seen["approvals"] == before:
            session.show(Text(N_("You had approved it before; nothing changes by this.")))
    return _show(session, seen)


@click.command("schedule", cls=Command, help=N_("Choose when an approved upgrade may begin."))
@click.argument("time", required=False)
@click.option("--release", "version", metavar="VERSION", help=N_("The release that is meant."))
@click.option("--cancel", is_flag=True, help=N_("Take the chosen time back."))
@click.option("--dry-run", is_flag=True, help=N_("Say what would be done, and change nothing."))
@click.pass_context
def schedule(
    context: click.Context, time: str | None, version: str | None, cancel: bool, dry_run: bool
) -> ExitCode:
    session = agent_session(context)
    if (time is None) is not cancel:
        raise Misuse(N_("give a TIME, or --cancel"), context)
    moment = parse_until(time, datetime.now(UTC), session.zone)
    target = parse_version(version)
    site = session.client()
    if not dry_run:
        site.require_right("operate")
    if moment is None:
        return _cancel(session, site, target, dry_run=dry_run)
    if dry_run:
        return _show(session, site.outlook(target, not_before=moment), AT_THAT_TIME)
    seen = site.outlook(target)
    require_binding(seen)
    site.schedule(seen, moment)
    return _show(session, site.outlook(target))


def _cancel(
    session: AgentSession, site: SiteClient, target: Version | None, *, dry_run: bool
) -> ExitCode:
    """Take a chosen time back, whatever is on offer by now, and say where that leaves the site."""
    if dry_run:
        count = site.schedules()
        said = N_("A chosen time would be taken back.") if count else N_("No time is chosen.")
    else:
        count = site.cancel_schedule()
        said = (
            N_("The chosen time is taken back.")
            if count
            else N_("No time was chosen; nothing is taken back.")
        )
    session.show(Text(said))
    return _show_left(session, site, target, cancelled=0 if dry_run else count)


def _withdraw(session: AgentSession, target: Version | None, *, back: bool) -> ExitCode:
    """Take one's own yes back, whatever is on offer by now, and say where that leaves the site."""
    site = session.client()
    site.require_right("approve")
    count = site.withdraw(target, back=back)
    said = (
        N_("Your approval is taken back.")
        if count
        else N_("You had approved nothing of the kind; nothing is taken back.")
    )
    session.show(Text(said))
    if back:
        session.finish({"withdrawn": count})
        return ExitCode.OK
    return _show_left(session, site, target, withdrawn=count)


def _show_left(
    session: AgentSession, site: SiteClient, target: Version | None, **done: int
) -> ExitCode:
    """Show where an approval stands after what was done, or why there is none to show.

    Args:
        session: This run.
        site: The site.
        target: The release that was named.
        done: What was done, for the document.
    """
    try:
        seen = site.outlook(target)
    except UpdaterError as error:
        if error.code not in _NOTHING_LEFT:
            raise
        session.show(error.what_text)
        session.finish({"version": None, "scheduled": None, **done})
        return ExitCode.OK
    return _show(session, seen, **done)


def _approve_back(
    session: AgentSession, accept_loss: int | None, *, yes: bool, dry_run: bool
) -> ExitCode:
    """Say yes to a rollback."""
    site = session.client()
    if not dry_run:
        site.require_right("approve")
    way = site.way_back(accept_loss)
    if dry_run or "binding" not in way.document or way.document.get("watched"):
        return session.answer(way)
    for line in way.words:
        session.show(line)
    question = Text(N_("Approve going back to {version}?"), {"version": way.document["to"]})
    session.agree(question, yes=yes)
    site.approve_back(way.document, accept_loss)
    return session.answer(site.way_back(accept_loss))


def _show_digest(session: AgentSession, seen: Document) -> None:
    """Say what people compare with the paper before they say yes, and find in the journal later."""
    if seen["binding"]:
        digest = {"digest": grouped(str(seen["binding"]))}
        session.show(Text(N_("Digest of what is approved: {digest}"), digest))


def _show_others(session: AgentSession, seen: Document) -> None:
    """Say where this is not the newest release, and where others are approved, too."""
    newest, target = seen["newest"], seen["target"]
    if newest is not None:
        values = {"version": target, "newest": newest}
        session.show(Text(N_("{version} is not the newest release here: {newest} is."), values))
    for other in seen["also_approved"]:
        text = N_("{other} was approved as well; what was approved last goes first.")
        session.show(Text(text, {"other": other}))
    for other in seen["approved_but_gone"]:
        text = N_("{other} was approved, and can no longer be taken here.")
        session.show(Text(text, {"other": other}))


def _begins_then(standing: Document) -> bool:
    """Whether it begins at the very time that somebody chose, which is then told once."""
    at = standing["begins"]["at"]
    chosen = standing["scheduled"]
    return at is not None and datetime.fromisoformat(at) == datetime.fromisoformat(chosen)


def _show(
    session: AgentSession, seen: Document, words: str = "{begins}", /, **beside: object
) -> ExitCode:
    """Show where an approval stands.

    Args:
        session: This run.
        seen: The outlook.
        words: The sentence around when it begins.
        beside: What the document has, too.
    """
    names = (
        "binding",
        "plan",
        "rehearsed",
        "approvals",
        "missing",
        "voids",
        "bad_until",
        "begins",
        "newest",
        "also_approved",
        "approved_but_gone",
        "approvals_used_up",
    )
    scheduled = seen["scheduled"] or {}
    standing = {
        "version": seen["target"],
        **{name: seen[name] for name in names},
        "scheduled": scheduled.get("not_before"),
        "scheduled_by": scheduled.get("who"),
        **beside,
    }
    for void in standing["voids"]:
        session.show(Text(N_("No longer what was approved: {reason}"), {"reason": void}))
    if standing["approvals_used_up"]:
        session.show(used_up_words(standing["approvals_used_up"]))
    for approval in standing["approvals"]:
        values: dict[str, object] = {"who": approval["who"], "at": session.when(approval["at"])}
        session.show(Text(N_("Approved by {who}, {at}"), values))
    _show_digest(session, standing)
    missing = {"version": standing["version"], "count": standing["missing"]}
    if not standing["binding"]:
        text = N_("Nothing can be approved yet: {version} has to pass a rehearsal here first.")
        session.show(Text(text, missing))
    elif standing["missing"]:
        session.show(Text(N_("{version} needs {count} more approvals."), missing))
    else:
        session.show(Text(N_("{version} is approved."), missing))
    _show_others(session, seen)
    if standing["bad_until"] is not None:
        again = {"version": standing["version"], "at": session.when(standing["bad_until"])}
        session.show(Text(N_("{version} failed here; it begins at the earliest {at}."), again))
    if standing["scheduled"] is not None:
        chosen = {"at": session.when(standing["scheduled"]), "who": standing["scheduled_by"]}
        text = (
            N_("{who} chose the time.")
            if _begins_then(standing)
            else N_("{who} chose {at}; it begins no earlier.")
        )
        session.show(Text(text, chosen))
    show_beginning(session, standing["begins"], words)
    session.finish(standing)
    return ExitCode.OK
