"""Read-only requests. Each handler takes the context and the request, and returns a document."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

from packaging.version import Version

from ncen_updater.agent.config.loader import load_config
from ncen_updater.agent.config.raw_config import (
    COMMAND_SETTINGS,
    FREE_FORM_TABLES,
    read_raw_config,
    strip_credentials,
)
from ncen_updater.agent.engine.approvals.approval import SHARED_UIDS
from ncen_updater.agent.engine.approvals.approval_store import reject_shared_account
from ncen_updater.agent.engine.approvals.rollback_approvals import (
    RollbackSubject,
    find_installing_upgrade,
    find_rollback_to_approve,
)
from ncen_updater.agent.policy.operation_labels import label_operation
from ncen_updater.agent.reports.change_lines import format_change
from ncen_updater.agent.reports.receipt import read_receipt_state
from ncen_updater.agent.reports.status import SiteStatus, read_status, require_part
from ncen_updater.agent.service.api.authorization import (
    ApiContext,
    ApiRole,
    Caller,
    list_group_members,
)
from ncen_updater.agent.service.api.forms import AnyForm, ApiForm
from ncen_updater.agent.service.assessment import NEXT_UPGRADE_PARTS, build_next_upgrade
from ncen_updater.agent.service.errors import BadRequestError, RequestRefusedError
from ncen_updater.agent.service.site_report import (
    SITE_REPORT_PARTS,
    build_change_report,
    build_history_report,
    build_site_report,
    list_unresolved_failures,
)
from ncen_updater.agent.service.snapshot import ServiceSnapshot
from ncen_updater.agent.storage.inbox import Inbox
from ncen_updater.agent.storage.journal.jobs import Job, JobQueue
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.service_state import Assessment
from ncen_updater.common.json_records import to_json_value
from ncen_updater.common.messages import (
    API_PATH_UNKNOWN,
    NOT_THE_NEXT_UPGRADE,
    RELEASE_NOT_REHEARSED,
    TARGET_HALTED,
    TARGET_WITHDRAWN,
)
from ncen_updater.feed.upgrade_path import RejectionReason


@dataclass(frozen=True)
class SettingRow:
    """One setting.

    Attributes:
        table: Its table, such as ``service`` or ``application.parts.1``; empty at the top level.
        name: Its name.
        value: The effective value, or a list of values.
        explicit: Whether the file sets it; otherwise it is the default.
        redacted: Whether a part of the value is hidden.
    """

    table: str
    name: str
    value: object
    explicit: bool
    redacted: bool


def get_openapi_document(context: ApiContext, request: ApiRequest) -> tuple[int, Document]:
    """Return this document.

    ``script/messages`` writes it from the models of ``script/openapi.py``.
    """
    del context, request
    document = json.loads(Path(__file__).with_name("openapi.json").read_bytes())
    document["info"]["version"] = version("ncen-updater")
    return 200, document


def get_settings(context: ApiContext, request: ApiRequest) -> tuple[int, Document]:
    """Return the settings in force, without secrets.

    Raises:
        ConfigError: If the file cannot be used.
    """
    explicit = read_raw_config(context.config_path).data
    effective = load_config(context.config_path).model_dump(mode="json", by_alias=True)
    return 200, {"settings": list(list_settings(effective, explicit))}


def list_settings(
    effective: Mapping[str, object], explicit: object, table: str = ""
) -> Iterator[SettingRow]:
    """Yield every setting of a configuration. Pure.

    Args:
        effective: Effective settings, with defaults.
        explicit: Settings of the file in the same table.
        table: The table.
    """
    content = explicit if isinstance(explicit, Mapping) else {}
    for name, value in effective.items():
        path = f"{table}.{name}" if table else name
        explicit_value = content.get(name)
        rows = value if isinstance(value, list) else ()
        tables = [row for row in rows if isinstance(row, Mapping)]
        for number, inner in enumerate(tables, 1):
            explicit_row = (
                explicit_value[number - 1]
                if isinstance(explicit_value, list) and len(explicit_value) >= number
                else None
            )
            yield from list_settings(inner, explicit_row, f"{path}.{number}")
        if isinstance(value, Mapping):
            yield from list_settings(value, explicit_value, path)
        elif not tables:
            shown, hidden = _redact(table.rpartition(".")[2], name, value)
            yield SettingRow(table, name, shown, name in content, hidden)


def _redact(table: str, name: str, value: object) -> tuple[object, bool]:
    """Return a value without its secrets, and whether anything was hidden."""
    if table in FREE_FORM_TABLES:
        return None, True
    if name in COMMAND_SETTINGS and isinstance(value, list):
        return value[:1], len(value) > 1
    if isinstance(value, list):
        shown: object = [strip_credentials(one) for one in value]
    else:
        shown = strip_credentials(value)
    return shown, shown != value


Document = Mapping[str, Any]
#: Number of attempts to read a consistent status while operations start and end.
MAX_STATUS_READS = 3


@dataclass(frozen=True)
class ApiRequest:
    """One parsed request of a caller with the required role.

    Attributes:
        caller: The user who sent it.
        path: The path, for messages.
        path_parameters: Parameters in the path.
        query: Query parameters.
        form: The body.
        language: Language of texts in the response.
        last_event: Event after which a stream continues.
    """

    caller: Caller
    path: str
    path_parameters: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, Any] = field(default_factory=dict)
    form: ApiForm | None = None
    language: str = "en"
    last_event: str | None = None

    def get_form(self, kind: type[AnyForm]) -> AnyForm:
        """Return the body, which has the type that the route declares."""
        assert isinstance(self.form, kind)  # noqa: S101 - the table of routes says so
        return self.form

    @property
    def limit(self) -> int:
        """Return the requested number of rows."""
        return int(self.query.get("limit", 50))


#: HTTP status and document.
Handler = Callable[[ApiContext, ApiRequest], tuple[int, Document]]


def get_receipt_state(context: ApiContext, request: ApiRequest) -> tuple[int, Document]:
    """Return the sharing level of receipts and the number of receipts created."""
    with context.open_journal() as journal:
        state = read_receipt_state(journal)
    return 200, {"level": state.level.value, "written": state.number}


def get_status(context: ApiContext, request: ApiRequest) -> tuple[int, Document]:
    """Return the running release, the last change, available releases and current operation."""
    status, snapshot = _read_consistent_status(context)
    document, _ = build_site_report(status, request.language)
    settings, state = context.snapshots.settings, context.load_service_state()
    caller = request.caller
    roles = _find_usable_roles(caller, settings.required_approvals)
    you = {
        "name": caller.actor.name,
        "uid": caller.actor.uid,
        "roles": sorted(role.value for role in roles),
        "missing": {
            role.value: {"group": group, "members": list_group_members(group)}
            for role, group in caller.groups.items()
            if role not in roles
        },
    }
    service = {
        "mode": settings.mode,
        "timezone": settings.timezone,
        **build_activity_document(snapshot, request.language),
        "failures": [
            {"action": action.value, "title": label_operation(action).render(request.language),
             "code": failure.code, "failures": failure.failures, "at": failure.at,
             "again_at": failure.compute_retry_at(action)}
            for action, failure in list_unresolved_failures(
                state.failures, state.assessment, status
            )
        ],
    }  # fmt: skip
    return 200, {**document, "service": service, "you": you}


def _read_consistent_status(context: ApiContext) -> tuple[SiteStatus, ServiceSnapshot]:
    """Read the site and the current operation; repeat if that started or ended meanwhile."""
    snapshot = context.snapshots.get_latest()
    for _ in range(MAX_STATUS_READS):
        previous = snapshot
        status = read_status(
            context.essential_settings,
            context.now(),
            SITE_REPORT_PARTS,
            probe=context.read_availability,
        )
        snapshot = context.snapshots.get_latest()
        if _get_running_command(previous) == _get_running_command(snapshot):
            break
    return status, snapshot


def _get_running_command(snapshot: ServiceSnapshot) -> tuple[tuple[str, ...], datetime] | None:
    """Return the running command and its start; None without an operation."""
    running = snapshot.running
    return None if running is None else (running.command, running.since)


def build_activity_document(snapshot: ServiceSnapshot, language: str) -> dict[str, object]:
    """Return the current operation as a JSON document, with the reason in a language."""
    running = snapshot.running
    return {
        "action": snapshot.action,
        "reason": snapshot.reason and snapshot.reason.render(language),
        "status_read_at": snapshot.status_read_at,
        "running": running
        and {
            "command": running.command, "since": running.since, "progress": running.progress,
            "title": label_operation(running.command[0]).render(language),
        },
    }  # fmt: skip


def check_role(context: ApiContext, request: ApiRequest) -> tuple[int, Document]:
    """Check whether the caller has a role; refused like a request that needs the role.

    Raises:
        RequestRefusedError: If the caller lacks the role.
        APPROVER_IS_SHARED_ACCOUNT: If the caller is a shared account and two approvals are
            required.
    """
    role, actor = ApiRole(request.path_parameters["role"]), request.caller.actor
    request.caller.require_role(role)
    if role is ApiRole.APPROVE:
        needed = context.snapshots.settings.required_approvals
        reject_shared_account(actor, needed, SHARED_UIDS | {os.geteuid()})
    return 200, {"name": actor.name, "role": role.value}


def get_next_upgrade(context: ApiContext, request: ApiRequest) -> tuple[int, Document]:
    """Return the next upgrade, or a rehearsed release, and what it waits for.

    With a time: also when it would start if that time were scheduled.

    Raises:
        NOT_THE_NEXT_UPGRADE: If the requested release cannot be approved.
    """
    status = read_status(context.essential_settings, context.now(), NEXT_UPGRADE_PARTS)
    service_state, journal = require_part(status.service_state), require_part(status.journal)
    latest, version = service_state.assessment, request.query.get("version")
    assessment = latest or Assessment(last_event=0)
    if version is not None:
        assessment = require_approvable_release(assessment, version)
    return 200, {
        "up_to_date": latest is not None and assessment.last_event == journal.last_event,
        "checked_at": service_state.checked_at,
        "next_check": service_state.next_check,
        "agent": assessment.agent_version,
        "slot_built": assessment.slot_built,
        **build_next_upgrade(
            status,
            context.snapshots.settings,
            request.caller.actor.uid,
            release=assessment if version is not None else None,
        ),
    }


def _find_usable_roles(caller: Caller, needed: int) -> frozenset[ApiRole]:
    """Return the caller's roles; a shared account cannot approve if two are required."""
    shared = needed > 1 and caller.actor.uid in SHARED_UIDS | {os.geteuid()}
    return caller.roles - {ApiRole.APPROVE} if shared else caller.roles


def find_rollback_subject(
    context: ApiContext, journal: Journal, known: Assessment | None
) -> RollbackSubject | None:
    """Return the rollback that can be approved; None if there is nothing to roll back."""
    if known is None or known.current is None:
        return None
    if find_installing_upgrade(journal, known.current) is None:
        return None
    return find_rollback_to_approve(
        journal, known.current, context.snapshots.settings.required_approvals
    )


def require_approvable_release(known: Assessment, version: str) -> Assessment:
    """Return the assessment of a release that can be approved.

    Raises:
        RequestRefusedError: If the release cannot be approved.
    """
    found = known.find_release(version)
    if found is None:
        raise _build_not_approvable_error(known, version)
    return found


def _build_not_approvable_error(known: Assessment, version: str) -> RequestRefusedError:
    """Return why a release cannot be approved: it is withheld or was not rehearsed here."""
    messages = {
        RejectionReason.HALTED.value: TARGET_HALTED,
        RejectionReason.WITHDRAWN.value: TARGET_WITHDRAWN,
    }
    for one in known.withheld:
        if Version(one.version) == Version(version) and one.reason in messages:
            return RequestRefusedError(
                messages[one.reason], version=version, reason=one.explanation
            )
    if known.target is None:
        return RequestRefusedError(RELEASE_NOT_REHEARSED, version=version)
    return RequestRefusedError(NOT_THE_NEXT_UPGRADE, version=version, target=known.target)


def get_history(context: ApiContext, request: ApiRequest) -> tuple[int, Document]:
    """Return changes and bundle imports, newest first."""
    before = request.query.get("before")
    with context.open_journal() as journal:
        try:
            return 200, build_history_report(journal, request.limit, before)
        except KeyError as error:
            raise BadRequestError(reason="change not found in this journal") from error


def get_change(context: ApiContext, request: ApiRequest) -> tuple[int, Document]:
    """Return one complete change."""
    with context.open_journal() as journal:
        try:
            report = build_change_report(journal, request.path_parameters["id"])
        except KeyError as error:
            raise RequestRefusedError(API_PATH_UNKNOWN, path=request.path) from error
    # The lines are formatted from JSON values.
    reported = cast("Document", to_json_value(report, request.language))
    lines = [
        line.render(request.language).strip() for line in format_change(reported, request.language)
    ]
    return 200, {**report, "lines": lines}


def build_job_document(job: Job) -> dict[str, object]:
    """Return a job as a JSON document, without its result."""
    return {
        "id": job.id,
        "kind": job.kind.value,
        "data": job.data,
        "actor": job.actor.name,
        "uid": job.actor.uid,
        "at": job.requested_at,
        "started_at": job.started_at,
        "ended_at": job.ended_at,
    }


def list_jobs(context: ApiContext, request: ApiRequest) -> tuple[int, Document]:
    """Return the jobs, newest first."""
    with context.open_journal() as journal:
        found = JobQueue(journal).list_newest(request.limit)
        return 200, {"jobs": [build_job_document(one) for one in found]}


def get_job(context: ApiContext, request: ApiRequest) -> tuple[int, Document]:
    """Return one job, the change that it started or resumed, and its result."""
    number = int(request.path_parameters["number"])
    with context.open_journal() as journal:
        event = journal.read_last_event_number()
        jobs = JobQueue(journal)
        found = jobs.find(number)
        change = jobs.find_change(found) if found is not None else None
    if found is None:
        raise RequestRefusedError(API_PATH_UNKNOWN, path=request.path)
    document = {**build_job_document(found), "event": event, "change": change}
    return 200, {**document, "result": found.result}


def list_inbox(context: ApiContext, request: ApiRequest) -> tuple[int, Document]:
    """Return the files in the import directory, newest first, and which the caller may import."""
    inbox, caller = Inbox(context.essential_settings.state), request.caller
    files, more = inbox.list_files(caller.actor.uid)
    rows = [
        {
            "name": file.name,
            "size_bytes": file.size_bytes,
            "since": file.since,
            "owner": file.owner,
            "yours": file.refused_because is None,
            "refused_because": file.refused_because,
        }
        for file in files
    ]
    return 200, {"directory": str(inbox.path), "files": rows, "more": more}
