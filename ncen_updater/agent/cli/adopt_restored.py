"""``adopt --restored``: two people say that databases were restored from a backup on purpose."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ncen_updater.agent.cli.common import get_agent_session, parse_reason
from ncen_updater.agent.cli.person import identify_actor
from ncen_updater.common.cli.usage import CommandUsageError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import ExitCode

if TYPE_CHECKING:
    import click
    from packaging.version import Version

    from ncen_updater.agent.cli.session import AgentSession
    from ncen_updater.agent.engine.adopt_restored import RestoredDatabases
    from ncen_updater.agent.engine.approvals.approval import ApprovalCount


def adopt_restored(
    context: click.Context, release: Version, reason: str | None, yes: bool, dry_run: bool
) -> ExitCode:
    """Have one of two people say that the databases are those of a release.

    Raises:
        CommandUsageError: If no reason is given.
    """
    from ncen_updater.agent.engine import adopt_restored as accepting
    from ncen_updater.agent.engine.operations import Operations

    session = get_agent_session(context)
    if reason is None and not dry_run:
        raise CommandUsageError(N_("--reason is required"), context)
    why = "" if reason is None else parse_reason(reason, context)
    site = session.open_site()
    with session.make_progress() as progress:
        operations = Operations(site, progress)
        progress.report(LazyText(N_("checking the restored databases")))
        with operations.read_journal() as journal:
            found = accepting.inspect_restored(site, journal, release, progress)
    _show_restored(session, found)
    if dry_run:
        return _finish(session, found, found.approvals, taken=False, code=ExitCode.OK)
    values = {"version": release}
    session.ask_confirmation(
        LazyText(N_("Adopt the restored databases as {version}?"), values),
        assume_yes=yes,
    )
    with session.make_progress() as progress:
        operations = Operations(site, progress)
        with operations.lock_site("adopt-restored") as journal:
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
    for name in restored.unverified:
        words = N_("Release of {database} cannot be verified; you confirm it.")
        session.add_line(LazyText(words, {"database": name}))
    if restored.switches_code:
        session.add_line(LazyText(N_("The code is switched from {current} to {version}."), values))
    if restored.closes is not None:
        change = {"change": restored.closes.id, "version": restored.closes.to_version}
        session.add_line(
            LazyText(N_("Change {change} to {version} is closed as reverted."), change)
        )
    for approval in restored.approvals.approvals:
        document = {"who": approval.actor, "reason": restored.reasons.get(approval.actor) or "-"}
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
            "sets_current": restored.switches_code,
            "unverified": list(restored.unverified),
            "closes": restored.closes.id if restored.closes else None,
            "people": [approval.actor for approval in people.approvals],
            "reasons": [restored.reasons.get(approval.actor) for approval in people.approvals],
            "missing": people.missing,
            "taken": taken,
        }
    )
    return code
