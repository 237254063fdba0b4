"""``accept-restore``: two people say that the databases were restored from a backup on purpose."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ncen_updater.agent.cli.common import (
    dry_run_option,
    get_agent_session,
    parse_reason,
    yes_option,
)
from ncen_updater.agent.cli.person import identify_actor
from ncen_updater.common.cli.arguments import parse_version
from ncen_updater.common.cli.lazy import CliCommand
from ncen_updater.common.cli.usage import CommandUsageError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import ExitCode

if TYPE_CHECKING:
    from ncen_updater.agent.cli.session import AgentSession
    from ncen_updater.agent.engine.accept_restore import RestoredDatabases
    from ncen_updater.agent.engine.approvals.model import ApprovalCount


@click.command(
    "accept-restore",
    cls=CliCommand,
    help=N_("Adopt databases restored from a backup"),
)
@click.argument("version")
@click.option("--reason", metavar="TEXT", help=N_("Reason"))
@yes_option
@dry_run_option
@click.pass_context
def accept_restore(
    context: click.Context, version: str, reason: str | None, yes: bool, dry_run: bool
) -> ExitCode:
    from ncen_updater.agent.engine import accept_restore as accepting
    from ncen_updater.agent.engine.operations import Operations

    session = get_agent_session(context)
    if reason is None and not dry_run:
        raise CommandUsageError(N_("--reason is required"), context)
    why = "" if reason is None else parse_reason(reason, context)
    release = parse_version(version)
    assert release is not None, "the argument is required"  # noqa: S101
    site = session.open_site()
    with session.make_progress() as progress:
        operations = Operations(site, progress)
        progress.report(LazyText(N_("checking the restored databases")))
        with operations.read_journal() as journal:
            found = accepting.inspect_restored(site, journal, release, progress)
    _show_restored(session, found)
    if dry_run:
        return _finish(session, found, found.people, taken=False, code=ExitCode.OK)
    values = {"version": release}
    session.ask_confirmation(
        LazyText(N_("Adopt the restored databases as {version}?"), values),
        assume_yes=yes,
    )
    with session.make_progress() as progress:
        operations = Operations(site, progress)
        with operations.lock_site("accept-restore") as journal:
            found = accepting.inspect_restored(site, journal, release, progress)
            people = accepting.approve_restored(journal, found, identify_actor(), why)
            if people:
                accepting.adopt_restored(site, journal, found, people, progress=progress)
    if not people:
        words = N_("Approval recorded. {count} more approvals required with the same command.")
        session.add_line(LazyText(words, {"count": people.missing}))
        return _finish(session, found, people, taken=False, code=ExitCode.APPROVAL_MISSING)
    session.add_line(LazyText(N_("Databases adopted as {version}."), values))
    session.add_line(LazyText(N_("Run ncen-updater doctor, then start the application.")))
    return _finish(session, found, people, taken=True, code=ExitCode.OK)


def _show_restored(session: AgentSession, restored: RestoredDatabases) -> None:
    values: dict[str, object] = {"version": restored.release, "current": restored.current or "-"}
    session.add_line(LazyText(N_("Restored databases to adopt as {version}"), values))
    for name in restored.unproved:
        words = N_("Release of {database} cannot be verified; you confirm it.")
        session.add_line(LazyText(words, {"database": name}))
    if restored.switches_code:
        session.add_line(LazyText(N_("The code is switched from {current} to {version}."), values))
    if restored.closes is not None:
        change = {"change": restored.closes.id, "version": restored.closes.to_version}
        session.add_line(
            LazyText(N_("Change {change} to {version} is closed as reverted."), change)
        )
    for approval in restored.people.given:
        document = {"who": approval.who, "reason": restored.reasons.get(approval.who) or "-"}
        words = N_("Approved by {who}: {reason}")
        session.add_line(LazyText(words, document))


def _finish(
    session: AgentSession,
    restored: RestoredDatabases,
    people: ApprovalCount,
    *,
    taken: bool,
    code: ExitCode,
) -> ExitCode:
    session.write_output(
        {
            "release": restored.release,
            "current": restored.current,
            "switches": restored.switches_code,
            "unproved": list(restored.unproved),
            "closes": restored.closes.id if restored.closes else None,
            "people": [approval.who for approval in people.given],
            "reasons": [restored.reasons.get(approval.who) for approval in people.given],
            "missing": people.missing,
            "taken": taken,
        }
    )
    return code
