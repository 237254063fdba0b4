"""Requests for inspections by a worker, and for the state of the agent itself.

They change nothing. Viewers see the data on which approvers decide; the support bundle, which
contains log lines, is for operators only.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version as installed

from packaging.version import Version

from ncen_updater.agent.engine.change_guards import require_no_open_change
from ncen_updater.agent.model.change import ChangeState
from ncen_updater.agent.model.errors import SlotRecordError
from ncen_updater.agent.service.api.authorization import ApiContext, ApiRole
from ncen_updater.agent.service.api.queries import (
    ApiRequest,
    Document,
)
from ncen_updater.agent.service.errors import (
    NOTHING_CHANGED,
    BadRequestError,
    RequestRefusedError,
)
from ncen_updater.agent.service.inspections import (
    RULES,
    Inspection,
    InspectionForm,
    InspectionKind,
)
from ncen_updater.agent.storage.agent_selection import AgentSelectionFile
from ncen_updater.agent.storage.slots.records import SlotRecords
from ncen_updater.common.i18n import LazyText
from ncen_updater.common.json_records import error_to_json
from ncen_updater.common.messages import (
    API_PATH_UNKNOWN,
    NEXT_UPGRADE_UNKNOWN,
    NOT_PREPARED,
)

#: Roles that a kind requires in addition to the viewer's.
REQUIRED_ROLES: Mapping[InspectionKind, ApiRole] = {InspectionKind.SUPPORT_BUNDLE: ApiRole.OPERATE}


def start_inspection(context: ApiContext, request: ApiRequest) -> tuple[int, Document]:
    """Start an inspection, or return the pending one with the same parameters."""
    inspection = _submit_inspection(context, request, request.get_form(InspectionForm))
    return 202, _build_inspection_document(inspection, request.language)


def get_inspection(context: ApiContext, request: ApiRequest) -> tuple[int, Document]:
    """Return an inspection and its result; with 'wait', after its end or that many seconds."""
    inspection = context.inspections.find(int(request.path_parameters["number"]))
    if inspection is None:
        raise RequestRefusedError(API_PATH_UNKNOWN, path=request.path)
    _require_role(request, inspection.request.kind)
    context.inspections.wait(inspection, request.query.get("wait", 0))
    return 200, _build_inspection_document(inspection, request.language)


def get_release_notes(context: ApiContext, request: ApiRequest) -> tuple[int, Document]:
    """Return the release notes of the next or a named release."""
    assessment = context.load_assessment()
    version_text = request.query.get("version") or (
        assessment.target or assessment.current if assessment else None
    )
    if version_text is None:
        raise RequestRefusedError(NEXT_UPGRADE_UNKNOWN)
    version = Version(version_text)
    records = SlotRecords(context.essential_settings.slots)
    if not records.exists(version):
        raise RequestRefusedError(NOT_PREPARED, version=version)
    try:
        manifest = records.read_document(version).manifest
    except SlotRecordError as error:
        error.state = NOTHING_CHANGED
        raise
    return 200, {
        "product": manifest.product,
        "version": manifest.version,
        "required": manifest.required,
        "urgency": manifest.urgency.value,
        "notes": {
            language: {"title": value.title, "text": value.text}
            for language, value in manifest.notes.items()
        },
    }


def get_agent(context: ApiContext, request: ApiRequest) -> tuple[int, Document]:
    """Return the running, selected, available and failed versions of the agent."""
    selection = AgentSelectionFile(context.agent_directory).load()
    assessment = context.load_assessment()
    return 200, {
        "version": installed("ncen-updater"),
        "available": assessment.agent_version if assessment else None,
        "self_update": context.snapshots.settings.self_update,
        "selected": selection
        and {
            "version": selection.current,
            "previous": selection.previous,
            "state": selection.state.value,
            "attempts": selection.attempts,
        },
        "failed": [
            {"version": version, "failures": failure.failures, "at": failure.at}
            for version, failure in (selection.failed.items() if selection else ())
        ],
    }


# ---- helpers -------------------------------------------------------------------------------------


def _require_role(request: ApiRequest, kind: InspectionKind) -> None:
    request.caller.require_role(REQUIRED_ROLES.get(kind, ApiRole.READ))


def _submit_inspection(
    context: ApiContext, request: ApiRequest, form: InspectionForm
) -> Inspection:
    """Queue an inspection.

    Raises:
        RequestRefusedError: If the caller lacks the role, or too many inspections are pending.
        BadRequestError: If a field does not apply to the kind.
        OPEN_CHANGE: If a change is in progress; not in a soak period, and not if the change is
            stuck and waits for an operator.
    """
    kind = form.kind
    _require_role(request, kind)
    fields = form.model_dump(exclude={"kind", "language"}, exclude_defaults=True)
    for name in fields.keys() - RULES[kind].fields:
        raise BadRequestError(
            reason=LazyText("{value} takes no {name}", {"value": kind.value, "name": name})
        )
    if not RULES[kind].is_always_allowed:
        with context.open_journal() as journal:
            change = journal.find_open_change()
            may_inspect = change is not None and (
                change.state is ChangeState.STUCK or change.is_soaking
            )
            if not may_inspect:
                require_no_open_change(journal)
    return context.inspections.submit(form, request.caller.actor)


def _build_inspection_document(inspection: Inspection, language: str) -> dict[str, object]:
    result = None
    if inspection.ended_at is not None and inspection.error is None:
        result = {"exit_code": inspection.exit_code, "document": inspection.document}
    elif inspection.error is not None:
        value = error_to_json(inspection.error, [NOTHING_CHANGED], language)
        result = {"exit_code": int(inspection.error.exit_code), "document": {"error": value}}
    return {
        "id": inspection.number,
        "kind": inspection.request.kind.value,
        "actor": inspection.actor.name,
        "uid": inspection.actor.uid,
        "requested_at": inspection.requested_at,
        "ended_at": inspection.ended_at,
        "progress": inspection.progress,
        "result": result,
    }
