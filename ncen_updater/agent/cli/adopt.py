"""``adopt``: start managing a site whose release was installed by hand."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from ncen_updater.agent.cli.common import (
    agent_command,
    dry_run_option,
    identify_actor,
    parse_reason,
)
from ncen_updater.common.cli.render import finding_to_json, format_findings
from ncen_updater.common.cli.usage import (
    NOTHING_CHANGED,
    OPTION_EXCLUDED,
    OPTION_NEEDED,
    CommandUsageError,
    parse_version,
)
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import CONFIRMATION_DECLINED, ExitCode

if TYPE_CHECKING:
    from packaging.version import Version

    from ncen_updater.agent.cli.session import AgentSession
    from ncen_updater.agent.engine.adopt import AdoptionPlan, RestoredDatabases
    from ncen_updater.agent.engine.approvals.approval import ApprovalCount
    from ncen_updater.agent.engine.site import Site


@agent_command
@click.argument("version")
@dry_run_option
@click.option(
    "--application-is-down",
    "confirmed",
    is_flag=True,
    help=N_("Confirm that VERSION is installed while the application is stopped"),
)
@click.option(
    "--restored",
    is_flag=True,
    help=N_("Adopt databases restored from a backup"),
)
@click.option("--reason", metavar="TEXT", help=N_("With --restored: reason"))
@click.option("--yes", is_flag=True, help=N_("With --restored: skip the confirmation prompt"))
def adopt(
    session: AgentSession,
    version: str,
    dry_run: bool,
    confirmed: bool,
    restored: bool,
    reason: str | None,
    yes: bool,
) -> ExitCode:
    from ncen_updater.agent.engine import adopt as adopting
    from ncen_updater.agent.model.event_names import JOURNAL_FILE

    release = parse_version(version)
    assert release is not None, "the argument is required"  # noqa: S101
    if restored:
        if confirmed:
            raise CommandUsageError(
                OPTION_EXCLUDED, option="--application-is-down", other="--restored"
            )
        return _adopt_restored(session, release, reason, yes, dry_run)
    if reason is not None or yes:
        raise CommandUsageError(OPTION_NEEDED, option="--reason, --yes", other="--restored")
    site = session.open_site()
    session.adopting = not (site.state_directory / JOURNAL_FILE).exists()
    with session.make_progress() as progress:
        progress.report(LazyText(N_("reading the metadata")))
        found = adopting.inspect_adoption(site, release, progress)
    for line in found.installed.format_lines(found.version):
        session.add_line(line)
    for note in format_findings(found.findings, session.language):
        session.add_line(note)
    if not confirmed and not dry_run and not found.installed.application.version:
        adopting.require_matching_release(
            found, confirmed=True
        )  # no question if the release does not match anyway
        confirmed = _confirm_version(session, found)
    if dry_run:
        # A dry run does not ask; it reports that a confirmation is needed.
        adopting.require_matching_release(found, confirmed=True)
        return _show_dry_run(session, site, found)
    adopting.require_matching_release(found, confirmed=confirmed)
    with session.make_progress() as progress:
        progress.report(LazyText(N_("adopting the installation")))
        done = adopting.adopt_site(site, release, progress, confirmed=confirmed)
    values = {
        "product": site.config.site.product, "version": done.version, "before": done.corrects,
    }  # fmt: skip
    session.add_line(LazyText(N_("Adopted: {product} {version}"), values))
    if done.corrects is not None:
        session.add_line(LazyText(N_("Replaces the adoption of {before}."), values))
    words = N_("Point the application's unit to {link}, then run: ncen-updater doctor")
    session.add_line(LazyText(words, {"link": site.slots.current_link}))
    session.write_output(
        {"adopted": True, "product": values["product"], **_build_document(done, session.language)}
    )
    return ExitCode.OK


def _confirm_version(session: AgentSession, adoption: AdoptionPlan) -> bool:
    """Let the user type the version if the application does not report it.

    Raises:
        CONFIRMATION_DECLINED: If the user types another version.
    """
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    for line in adoption.installed.format_lines(adoption.version):
        session.print_message(line)
    words = N_("Check which release is installed, then type its version")
    answer = str(session.prompt(session.translate(words))).strip()
    typed = parse_version(answer)
    if typed != adoption.version:
        raise UpdaterError(CONFIRMATION_DECLINED, state=NOTHING_CHANGED)
    return True


def _build_document(adoption: AdoptionPlan, language: str) -> dict[str, object]:
    seen = adoption.installed
    return {
        "version": adoption.version,
        "corrects": adoption.corrects,
        "application": seen.application.version or None,
        "checks": [
            {"database": i.database, "name": i.name, "passed": i.passed} for i in seen.probes
        ],
        "findings": [finding_to_json(finding, language) for finding in adoption.findings],
    }  # fmt: skip


def _show_dry_run(session: AgentSession, site: Site, adoption: AdoptionPlan) -> ExitCode:
    values = {
        "product": site.config.site.product,
        "version": adoption.version,
        "slot": adoption.slot,
    }
    if not adoption.installed.application.version:
        session.add_line(
            LazyText(N_("Confirmation required: type the version, or add --application-is-down."))
        )
    session.add_line(LazyText(N_("Available: {product} {version}"), values))
    session.add_line(
        LazyText(
            N_("{slot} would be verified and used for the release.")
            if adoption.slot_exists
            else N_("The release would be unpacked in {slot}."),
            values,
        )
    )
    if adoption.sets_current:
        session.add_line(LazyText(N_("'current' would point to it."), values))
    session.add_line(
        LazyText(
            N_("Migration ledgers and a journal would be created; no record would be changed.")
        )
    )
    document = {**_build_document(adoption, session.language), "slot_exists": adoption.slot_exists}
    session.write_output(
        {"adopted": False, **values, **document, "sets_current": adoption.sets_current}
    )
    return ExitCode.OK


def _adopt_restored(
    session: AgentSession, release: Version, reason: str | None, yes: bool, dry_run: bool
) -> ExitCode:
    """Record the approval to adopt restored databases as a release, and adopt them with the last.

    Raises:
        CommandUsageError: If no reason is given.
    """
    from ncen_updater.agent.engine import adopt as adopting
    from ncen_updater.agent.engine.operations import Operations

    if reason is None and not dry_run:
        raise CommandUsageError(OPTION_NEEDED, option="--restored", other="--reason")
    why = "" if reason is None else parse_reason(reason)
    site = session.open_site()
    with session.make_progress() as progress:
        operations = Operations(site, progress)
        progress.report(LazyText(N_("checking the restored databases")))
        with operations.read_journal() as journal:
            found = adopting.inspect_restored(site, journal, release, progress)
    _show_restored(session, found)
    if dry_run:
        _show_restored_effect(session, found)
        return _finish_restored(session, found, found.approvals, adopted=False, code=ExitCode.OK)
    values = {"version": release}
    session.ask_confirmation(
        LazyText(N_("Adopt the restored databases as {version}?"), values),
        assume_yes=yes,
    )
    with session.make_progress() as progress:
        operations = Operations(site, progress)
        with operations.lock_site("adopt-restored") as journal:
            found = adopting.inspect_restored(site, journal, release, progress)
            approvers = adopting.approve_restored(journal, found, identify_actor(), why)
            if approvers:
                adopting.adopt_restored(site, journal, found, approvers, progress=progress)
    if not approvers:
        words = N_("Approval recorded. {count} more approvals required with the same command.")
        session.add_line(LazyText(words, {"count": approvers.missing}))
        return _finish_restored(
            session, found, approvers, adopted=False, code=ExitCode.APPROVAL_MISSING
        )
    session.add_line(LazyText(N_("Databases adopted as {version}."), values))
    session.add_line(LazyText(N_("Run ncen-updater doctor, then start the application.")))
    return _finish_restored(session, found, approvers, adopted=True, code=ExitCode.OK)


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
        given = {"who": approval.actor, "reason": restored.reasons.get(approval.actor) or "-"}
        words = N_("Approved by {who}: {reason}")
        session.add_line(LazyText(words, given))


def _show_restored_effect(session: AgentSession, restored: RestoredDatabases) -> None:
    """Show what this user's approval would do."""
    approvers = {approval.actor for approval in restored.approvals.approvals}
    left = restored.approvals.missing - (identify_actor().name not in approvers)
    words = (
        N_("Your approval would be recorded; approvals missing after it: {count}.")
        if left > 0
        else N_("The databases would be recorded as {version} and opened to the application.")
    )
    session.add_line(LazyText(words, {"count": left, "version": restored.release}))
    session.add_line(LazyText(N_("No migration would run, and no record would be changed.")))


def _finish_restored(
    session: AgentSession,
    restored: RestoredDatabases,
    approvers: ApprovalCount,
    *,
    adopted: bool,
    code: ExitCode,
) -> ExitCode:
    session.write_output(
        {
            "release": restored.release,
            "current": restored.current,
            "sets_current": restored.switches_code,
            "unverified": list(restored.unverified),
            "closes": restored.closes.id if restored.closes else None,
            "approvers": [approval.actor for approval in approvers.approvals],
            "reasons": [restored.reasons.get(approval.actor) for approval in approvers.approvals],
            "missing": approvers.missing,
            "adopted": adopted,
        }
    )
    return code
