"""``approve`` and ``schedule``: people say yes to what was rehearsed, and when it may begin."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from time import sleep
from typing import TYPE_CHECKING, Any

import click

from ncen_updater.agent.cli.common import agent_session
from ncen_updater.agent.cli.hold import parse_until
from ncen_updater.agent.cli.person import person
from ncen_updater.agent.cli.rehearse import show_rehearsal
from ncen_updater.agent.cli.remote import service_for
from ncen_updater.agent.cli.session import AgentSession
from ncen_updater.agent.config.paths import site_zone
from ncen_updater.agent.engine.errors import NothingToApprove, NotRehearsed, RehearsalOutdated
from ncen_updater.agent.rehearsal.store import rehearsal_document
from ncen_updater.agent.service.errors import NotNext
from ncen_updater.common.cli.arguments import parse_version
from ncen_updater.common.cli.errors import NOTHING_CHANGED
from ncen_updater.common.cli.lazy import Command
from ncen_updater.common.cli.render import format_time, jsonable
from ncen_updater.common.errors import ExitCode
from ncen_updater.common.i18n import N_, Text

if TYPE_CHECKING:
    from packaging.version import Version

    from ncen_updater.agent.approvals.approving import Subject
    from ncen_updater.agent.service.client import Client

__all__ = ["approve", "schedule"]

Document = Mapping[str, Any]
#: How often, and how long after one another, the service is asked whether it has looked.
LOOKS, LOOK_S = 60, 0.5


@click.command("approve", cls=Command, help=N_("Say yes to what was rehearsed."))
@click.argument("version", required=False)
@click.option("--withdraw", is_flag=True, help=N_("Take your own approval back."))
@click.option("--yes", is_flag=True, help=N_("Do not ask. Nothing that blocks is passed over."))
@click.option(
    "--dry-run", is_flag=True, help=N_("Show what would be approved, and change nothing.")
)
@click.pass_context
def approve(
    context: click.Context, version: str | None, withdraw: bool, yes: bool, dry_run: bool
) -> ExitCode:
    session = agent_session(context)
    target = parse_version(version)
    service = service_for(session)
    if service is not None:
        return _approve_there(session, service, target, withdraw=withdraw, yes=yes, dry_run=dry_run)
    from ncen_updater.agent.approvals import approving
    from ncen_updater.agent.dossier.store import keep_dossiers
    from ncen_updater.agent.journal.journal import Journal
    from ncen_updater.agent.journal.names import JOURNAL

    site = session.open_site()
    with Journal.open(site.state / JOURNAL, read_only=dry_run) as journal:
        with session.progress() as progress:
            found = approving.subject(site, journal, progress, target)
        if found.standing.rehearsal is not None and not withdraw:
            show_rehearsal(session, rehearsal_document(found.standing.rehearsal))
        if not dry_run:
            if withdraw:
                approving.withdraw(journal, found, person())
            else:
                question = Text(N_("Approve the upgrade to {version}?"), {"version": found.target})
                session.agree(question, yes=yes)
                approving.approve(journal, found, person())
            keep_dossiers(site, journal, found.target)
            with session.progress() as progress:
                found = approving.subject(site, journal, progress, target)
    _show(session, _standing_here(session, found))
    return ExitCode.OK


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
        raise click.UsageError("give a TIME, or --cancel", context)
    moment = parse_until(time, datetime.now(UTC), site_zone(session.config))
    target = parse_version(version)
    service = service_for(session)
    if service is not None:
        seen = _outlook(session, service, target)
        if cancel and not dry_run:
            service.call("DELETE", "/v1/schedule")
        elif moment is not None and not dry_run:
            body = {"binding": _binding(seen), "not_before": moment.isoformat()}
            service.call("PUT", "/v1/schedule", body)
        _show(session, _standing_of(_outlook(session, service, target)))
        return ExitCode.OK
    from ncen_updater.agent.approvals import approving
    from ncen_updater.agent.approvals.store import Consent
    from ncen_updater.agent.journal.journal import Journal
    from ncen_updater.agent.journal.names import JOURNAL

    site = session.open_site()
    with Journal.open(site.state / JOURNAL, read_only=dry_run) as journal:
        if cancel and not dry_run:
            Consent(journal).cancel_schedule(person())
        with session.progress() as progress:
            found = approving.subject(site, journal, progress, target)
            if moment is not None and not dry_run:
                approving.schedule(journal, found, moment, person())
                found = approving.subject(site, journal, progress, target)
    _show(session, _standing_here(session, found))
    return ExitCode.OK


def _approve_there(
    session: AgentSession,
    service: Client,
    target: Version | None,
    *,
    withdraw: bool,
    yes: bool,
    dry_run: bool,
) -> ExitCode:
    """Let the service write it down: it asks the kernel who says so."""
    seen = _outlook(session, service, target)
    rehearsal = seen["rehearsal"]
    if rehearsal is not None and rehearsal["state"] == "passed" and not withdraw:
        show_rehearsal(session, rehearsal)
    if withdraw and not dry_run and seen["binding"] is not None:
        service.call("DELETE", f"/v1/approvals/{seen['binding']}")
    elif not withdraw and not dry_run:
        binding = _binding(seen)
        question = Text(N_("Approve the upgrade to {version}?"), {"version": seen["target"]})
        session.agree(question, yes=yes)
        service.call("POST", "/v1/approvals", {"binding": binding})
    _show(session, _standing_of(_outlook(session, service, target)))
    return ExitCode.OK


def _outlook(session: AgentSession, service: Client, target: Version | None) -> Document:
    """Return what comes next, once the service has looked at what happened last.

    Raises:
        NothingToApprove: If nothing does.
        NotNext: If it is another release than the one that was named.
    """
    seen = service.get("/v1/outlook")
    with session.progress() as progress:
        for _ in range(LOOKS):
            if seen["up_to_date"] or service.get("/v1/status")["service"]["running"]:
                break
            progress.tell(Text(N_("the service looks at the site")))
            sleep(LOOK_S)
            seen = service.get("/v1/outlook")
    if seen["target"] is None:
        raise NothingToApprove(current=str(seen["current"]), state=NOTHING_CHANGED)
    if target is not None and target != type(target)(seen["target"]):
        raise NotNext(version=target, target=seen["target"])
    return seen


def _binding(seen: Document) -> str:
    """Return what is approved.

    Raises:
        NotRehearsed, RehearsalOutdated: If there is nothing that holds.
    """
    if isinstance(seen["binding"], str):
        return seen["binding"]
    if seen["voids"]:
        reasons = "; ".join(seen["voids"])
        raise RehearsalOutdated(version=seen["target"], reasons=reasons, state=NOTHING_CHANGED)
    raise NotRehearsed(version=seen["target"], state=NOTHING_CHANGED)


def _standing_of(seen: Document) -> Document:
    """Return where an approval stands, as the service sees it."""
    scheduled = seen["scheduled"] or {}
    names = ("binding", "plan", "rehearsed", "approvals", "missing", "voids", "bad_until")
    return {
        "version": seen["target"],
        **{name: seen[name] for name in names},
        "scheduled": scheduled.get("not_before"),
        "scheduled_by": scheduled.get("who"),
    }


def _standing_here(session: AgentSession, found: Subject) -> Document:
    """Return where an approval stands, as this process sees it."""
    scheduled = found.scheduled
    document = {
        "version": found.target,
        "binding": found.binding or None,
        "plan": found.plan.digest,
        "rehearsed": found.standing.rehearsed.value,
        "approvals": [{"who": a.who, "uid": a.uid, "at": a.at} for a in found.people.given],
        "missing": found.people.missing,
        "voids": [void.text for void in found.standing.voids],
        "bad_until": None,  # one that failed here lately is nothing to approve
        "scheduled": scheduled.not_before if scheduled else None,
        "scheduled_by": scheduled.who if scheduled else None,
    }
    return {key: jsonable(value, session.language) for key, value in document.items()}


def _when(session: AgentSession, text: str) -> str:
    return format_time(datetime.fromisoformat(text), site_zone(session.config))


def _show(session: AgentSession, standing: Document) -> None:
    """Show where an approval stands."""
    for void in standing["voids"]:
        session.show(Text(N_("No longer what was approved: {reason}"), {"reason": void}))
    for approval in standing["approvals"]:
        values: dict[str, object] = {"who": approval["who"], "at": _when(session, approval["at"])}
        session.show(Text(N_("Approved by {who}, {at}"), values))
    if standing["binding"]:
        digest = {"digest": standing["binding"]}
        session.show(Text(N_("Digest of what is approved: {digest}"), digest))
    missing = {"version": standing["version"], "count": standing["missing"]}
    if standing["missing"]:
        session.show(Text(N_("{version} needs {count} more approval(s)."), missing))
    else:
        session.show(Text(N_("{version} is approved."), missing))
    if standing["bad_until"] is not None:
        again = {"version": standing["version"], "at": _when(session, standing["bad_until"])}
        session.show(Text(N_("{version} failed here; it begins at the earliest {at}."), again))
    if standing["scheduled"] is not None:
        chosen = {"at": _when(session, standing["scheduled"]), "who": standing["scheduled_by"]}
        session.show(Text(N_("It begins at the earliest {at}, as {who} chose."), chosen))
    session.finish(standing)
