"""Requests that write: each writes records into the journal and wakes the service.

Longer operations are queued as a job, which the service runs.
"""

from __future__ import annotations

import os

from packaging.version import Version

from ncen_updater.agent.engine.approvals.approval import SHARED_UIDS
from ncen_updater.agent.engine.approvals.approval_store import ApprovalStore
from ncen_updater.agent.engine.approvals.rollback_approvals import (
    RollbackRequest,
    RollbackSubject,
    approve_rollback,
    require_loss_accepted,
    require_rollback_consent,
)
from ncen_updater.agent.engine.change_guards import confirm_release as confirm_soak
from ncen_updater.agent.engine.change_guards import require_no_hold, require_no_open_change
from ncen_updater.agent.engine.change_outcome import serialize_change
from ncen_updater.agent.engine.pending_rollback import can_be_superseded
from ncen_updater.agent.model.change import ChangeState
from ncen_updater.agent.reports.receipt import read_receipt_state
from ncen_updater.agent.reports.receipt import set_receipt_level as write_receipt_level
from ncen_updater.agent.reports.status import read_status, require_part
from ncen_updater.agent.service.api.authorization import ApiContext, ApiRole, Caller
from ncen_updater.agent.service.api.forms import (
    ApprovalForm,
    HoldForm,
    JobForm,
    ReceiptLevelForm,
    RejectionForm,
    ScheduleForm,
)
from ncen_updater.agent.service.api.queries import (
    ApiRequest,
    Document,
    build_job_document,
    find_rollback_subject,
    require_approvable_release,
)
from ncen_updater.agent.service.errors import BadRequestError, RequestRefusedError
from ncen_updater.agent.storage.inbox import Inbox
from ncen_updater.agent.storage.journal.jobs import JobKind, JobQueue
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.site_history import SiteHistory
from ncen_updater.agent.storage.service_state import Assessment
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import (
    APPROVAL_SUBJECT_CHANGED,
    DATA_LOSS_NEEDS_APPROVER,
    FEED_NEVER_READ,
    JOB_ALREADY_QUEUED,
    NEXT_UPGRADE_UNKNOWN,
    NOT_REHEARSED,
    NOTHING_TO_APPROVE,
    TOO_MANY_JOBS,
)
from ncen_updater.formats.receipt import ReceiptLevel

MAX_QUEUED_JOBS = 20
#: If only one approval is required, an approver's job counts as the approval.
_JOBS_IMPLYING_APPROVAL = frozenset({JobKind.UPGRADE, JobKind.ROLLBACK})
#: Jobs that do not start while a change is open.
_EXCLUSIVE_JOBS = frozenset({JobKind.UPGRADE, JobKind.ROLLBACK, JobKind.REHEARSE})


def hold(context: ApiContext, request: ApiRequest) -> tuple[int, Document]:
    """Put upgrades on hold."""
    form, actor = request.get_form(HoldForm), request.caller.actor
    if form.until is not None and form.until <= context.now():
        raise BadRequestError(reason="'until' is in the past")
    reason = form.reason.strip()
    with context.write_journal() as journal:
        since = SiteHistory(journal).add_hold(reason, actor.name, form.until)
    return 201, {
        "held": True, "reason": reason, "actor": actor.name, "since": since, "until": form.until,
    }  # fmt: skip


def unhold(context: ApiContext, request: ApiRequest) -> tuple[int, Document]:
    """Remove all holds."""
    with context.write_journal() as journal:
        count = SiteHistory(journal).lift_holds(request.caller.actor.name)
    return 200, {"held": False, "lifted": count}


def _require_current_binding(
    context: ApiContext, binding: str, version: str | None, event: int
) -> tuple[Assessment, str]:
    """Return the assessment that can be approved now, and its release, if the caller saw it.

    The databases are not queried: the binding is compared again when the upgrade starts.

    Raises:
        NEXT_UPGRADE_UNKNOWN: If the service has not assessed the site yet.
        FEED_NEVER_READ: If the feed was never checked.
        NOTHING_TO_APPROVE, NOT_REHEARSED, NOT_THE_NEXT_UPGRADE: If nothing can be approved.
        APPROVAL_SUBJECT_CHANGED: If the binding differs from the one that the caller saw.
    """
    assessment = context.load_assessment()
    if assessment is None:
        raise RequestRefusedError(NEXT_UPGRADE_UNKNOWN)
    if version is not None:
        assessment = require_approvable_release(assessment, version)
    else:
        assessment = next(
            (one for one in assessment.alternatives if one.binding == binding), assessment
        )
    if assessment.target is None:
        if (
            require_part(
                read_status(context.essential_settings, context.now(), {"feed_view"}).feed_view
            )
            is None
        ):
            raise UpdaterError(FEED_NEVER_READ)
        raise UpdaterError(NOTHING_TO_APPROVE, current=str(assessment.current))
    if not assessment.binding or assessment.basis is None:
        if assessment.last_event != event:
            # a newer event, such as a passed rehearsal, is not assessed yet
            raise RequestRefusedError(NEXT_UPGRADE_UNKNOWN)
        raise UpdaterError(NOT_REHEARSED, version=assessment.target)
    if binding != assessment.binding:
        raise RequestRefusedError(APPROVAL_SUBJECT_CHANGED)
    return assessment, assessment.target


def approve(context: ApiContext, request: ApiRequest) -> tuple[int, Document]:
    """Approve an upgrade or a rollback; repeating an approval changes nothing."""
    form, actor = request.get_form(ApprovalForm), request.caller.actor
    needed, shared_uids = (
        context.snapshots.settings.required_approvals,
        SHARED_UIDS | {os.geteuid()},
    )
    if form.accept_loss is not None and form.change_kind != "rollback":
        raise BadRequestError(
            reason=LazyText("'{name}' requires a rollback", {"name": "accept_loss"})
        )
    with context.write_journal() as journal:
        if form.change_kind == "rollback":
            rollback = _require_rollback_subject(context, journal)
            if form.binding != rollback.binding:
                raise RequestRefusedError(APPROVAL_SUBJECT_CHANGED)
            added = approve_rollback(journal, rollback, actor, shared_uids, form.accept_loss or 0)
            document = {"added": added, "version": rollback.target, "binding": rollback.binding}
            return (201 if added else 200), document
        assessment, target = _require_current_binding(
            context, form.binding, form.version, journal.read_last_event_number()
        )
        basis = assessment.basis or {}
        added = ApprovalStore(journal).add(
            assessment.binding, target, basis, actor, needed, shared_uids
        )
    return (201 if added else 200), {
        "added": added,
        "version": target,
        "binding": assessment.binding,
    }


def _require_rollback_subject(context: ApiContext, journal: Journal) -> RollbackSubject:
    """Return the rollback that can be approved, according to the service's last assessment.

    Raises:
        NEXT_UPGRADE_UNKNOWN: If the service does not know the installed release.
        APPROVAL_SUBJECT_CHANGED: If there is nothing to roll back, so that nobody can have seen it.
    """
    found = context.load_assessment()
    if found is None or found.current is None:
        raise RequestRefusedError(NEXT_UPGRADE_UNKNOWN)
    subject = find_rollback_subject(context, journal, found)
    if subject is None:
        raise RequestRefusedError(APPROVAL_SUBJECT_CHANGED)
    return subject


def withdraw_approvals(context: ApiContext, request: ApiRequest) -> tuple[int, Document]:
    """Withdraw all approvals of the caller for upgrades or for rollbacks, also outdated ones."""
    kind = request.query.get("change_kind", "upgrade")
    version_text, actor = request.query.get("version"), request.caller.actor
    if version_text is not None and kind == "rollback":
        values = {"value": kind, "name": "version"}
        raise BadRequestError(reason=LazyText("{value} takes no {name}", values))
    version = None if version_text is None else Version(version_text)
    with context.write_journal() as journal:
        count = ApprovalStore(journal).withdraw_all(actor, version, rollbacks=kind == "rollback")
    return 200, {"withdrawn": count}


def reject(context: ApiContext, request: ApiRequest) -> tuple[int, Document]:
    """Reject the upgrade: put upgrades on hold, and withdraw the caller's own approval."""
    form, actor = request.get_form(RejectionForm), request.caller.actor
    with context.write_journal() as journal:
        require_no_open_change(journal)
        _, target = _require_current_binding(
            context, form.binding, form.version, journal.read_last_event_number()
        )
        values = {"version": target, "reason": form.reason.strip()}
        reason = LazyText(N_("{version} rejected: {reason}"), values).render(form.language)
        SiteHistory(journal).add_hold(reason, actor.name, None)
        count = ApprovalStore(journal).withdraw(form.binding, actor)
    return 201, {"rejected": True, "version": target, "reason": reason, "withdrawn": count}


def schedule(context: ApiContext, request: ApiRequest) -> tuple[int, Document]:
    """Schedule the earliest start of the upgrade."""
    form = request.get_form(ScheduleForm)
    if form.not_before <= context.now():
        raise BadRequestError(reason="'not_before' is in the past")
    with context.write_journal() as journal:
        found, target = _require_current_binding(
            context, form.binding, form.version, journal.read_last_event_number()
        )
        actor = request.caller.actor
        ApprovalStore(journal).set_schedule(found.binding, target, form.not_before, actor)
    return 200, {"version": target, "binding": found.binding, "not_before": form.not_before}


def cancel_schedule(context: ApiContext, request: ApiRequest) -> tuple[int, Document]:
    """Cancel the schedule."""
    with context.write_journal() as journal:
        count = ApprovalStore(journal).cancel_schedule(request.caller.actor)
    return 200, {"cancelled": count}


def confirm_release(context: ApiContext, request: ApiRequest) -> tuple[int, Document]:
    """End the soak period."""
    with context.write_journal() as journal:
        change = confirm_soak(journal, request.caller.actor.name)
    return 200, {"confirmed": True, "change": serialize_change(change)}


def set_receipt_level(context: ApiContext, request: ApiRequest) -> tuple[int, Document]:
    """Set the sharing level of receipts; it is in force at once, and nobody is notified."""
    level = ReceiptLevel(request.get_form(ReceiptLevelForm).level)
    with context.write_journal() as journal:
        before = read_receipt_state(journal)
        if level is not before.level:
            write_receipt_level(journal, level, request.caller.actor.name)
    return 200, {"level": level.value, "written": before.number}


def create_job(context: ApiContext, request: ApiRequest) -> tuple[int, Document]:
    """Queue a job for the service."""
    form, caller = request.get_form(JobForm), request.caller
    _validate_job_form(form)
    kind = JobKind(form.kind)
    data = form.model_dump(exclude={"kind"}, exclude_defaults=True)
    if kind in _JOBS_IMPLYING_APPROVAL and ApiRole.APPROVE in caller.roles:
        data["by_approver"] = True
    with context.write_journal() as journal:
        if form.accept_loss:
            _require_loss_approval(context, journal, caller, form.accept_loss)
        jobs = JobQueue(journal)

        def guard() -> None:
            _require_startable(context, journal, kind)
            if kind is JobKind.ROLLBACK:
                _require_rollback_approval(context, journal, caller, form.emergency_reason)
            if form.file is not None:
                Inbox(context.essential_settings.state).require_file(form.file, caller.actor.uid)
            _require_no_duplicate_job(journal, kind)

        number = jobs.enqueue(kind, data, caller.actor, guard)
        event = journal.read_last_event_number()
        job = jobs.find(number)
    assert job is not None  # noqa: S101 - written above
    return 202, {**build_job_document(job), "event": event}


def _validate_job_form(form: JobForm) -> None:
    """Refuse fields that do not apply to a kind of job."""
    for name in ("accept_loss", "undoes", "emergency_reason"):
        if getattr(form, name) is not None and form.kind != "rollback":
            raise BadRequestError(reason=LazyText("'{name}' requires a rollback", {"name": name}))
    if (form.kind == "import") is (form.file is None):
        raise BadRequestError(reason="'file' is required by an import and only there")
    if form.dry_run and form.kind != "import":
        raise BadRequestError(reason="'dry_run' requires an import")
    takes_no_version = form.kind in ("check", "resume", "import", "rollback")
    if takes_no_version and (form.version or form.retry):
        values = {"value": form.kind, "name": "version"}
        raise BadRequestError(reason=LazyText("{value} takes no {name}", values))


def _require_startable(context: ApiContext, journal: Journal, kind: JobKind) -> None:
    """Refuse a job that would be refused when it starts.

    Raises:
        OPEN_CHANGE: If a change is open, which the service completes first. A stuck change may be
            resumed or rolled back, and a rollback ends a soak period.
        HELD: If upgrades are on hold.
    """
    change, is_rollback = journal.find_open_change(), kind is JobKind.ROLLBACK
    if (
        change is not None
        and is_rollback
        and change.is_soaking
        and can_be_superseded(journal, change)
    ):
        return
    if kind in _EXCLUSIVE_JOBS and not (
        is_rollback and change and change.state is ChangeState.STUCK
    ):
        require_no_open_change(journal)
    if kind is JobKind.UPGRADE:
        require_no_hold(journal, context.now(), context.snapshots.settings.get_timezone())


def _require_rollback_approval(
    context: ApiContext, journal: Journal, caller: Caller, emergency: str | None
) -> None:
    """Refuse a rollback with missing approvals; they are checked again when it starts.

    Raises:
        ROLLBACK_NEEDS_APPROVAL: If approvals are missing.
    """
    # If there is nothing to roll back, the job itself reports that.
    subject = find_rollback_subject(context, journal, context.load_assessment())
    if subject is not None and emergency is None:
        request = RollbackRequest(caller.actor, ApiRole.APPROVE in caller.roles)
        require_rollback_consent(journal, subject, request)


def _require_loss_approval(
    context: ApiContext, journal: Journal, caller: Caller, count: int
) -> None:
    """Refuse a data loss that no approver has accepted.

    Raises:
        DATA_LOSS_ABOVE_APPROVAL: If the caller is not an approver, and not all required approvers
            have accepted the loss of this number of records.
        RequestRefusedError: If the caller is not an approver, and there are no approvals that
            could accept the loss.
    """
    if ApiRole.APPROVE in caller.roles:
        return
    rollback = find_rollback_subject(context, journal, context.load_assessment())
    if rollback is None or rollback.in_soak or (rollback.count.needed < 2 and not rollback.count):
        caller.require_role(ApiRole.APPROVE, DATA_LOSS_NEEDS_APPROVER, count=count)
    else:
        require_loss_accepted(rollback, count)


def _require_no_duplicate_job(journal: Journal, kind: JobKind) -> None:
    waiting = JobQueue(journal).list_unfinished()
    for job in waiting:
        if job.kind is kind:
            raise RequestRefusedError(JOB_ALREADY_QUEUED, job=job.id, who=job.actor.name)
    if len(waiting) >= MAX_QUEUED_JOBS:
        raise RequestRefusedError(TOO_MANY_JOBS, count=len(waiting))
