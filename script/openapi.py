"""OpenAPI 3.1 description of the local API, with the types of its responses.

``script/messages`` writes it to the file that the service serves. Existing record classes describe
themselves; responses built by functions have a class here, and
tests validate real responses against it. Additional fields are forbidden, except in records that
other agent versions may have written: their unknown fields are a :class:`Value`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel, TypeAdapter, create_model
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue

from ncen_updater.agent.adapters.databases.round_trip import RoundTripResult
from ncen_updater.agent.engine.recovery import RecoveryAction
from ncen_updater.agent.engine.rehearsal.rehearsal_store import RehearsalState
from ncen_updater.agent.engine.rehearsal.report import RehearsalReport, RehearsedHop
from ncen_updater.agent.model.change import (
    ChangeKind,
    ChangeState,
    DatabaseMode,
    StepName,
    StepState,
)
from ncen_updater.agent.model.change_facts import ChangeFacts
from ncen_updater.agent.policy.availability import Availability
from ncen_updater.agent.policy.downtime_prediction import DowntimeRange
from ncen_updater.agent.policy.upgrade_start import UpgradeStart
from ncen_updater.agent.service.api.authorization import ApiRole
from ncen_updater.agent.service.api.forms import (
    QUERY_TYPES,
    ApprovalForm,
    HoldForm,
    JobForm,
    ReceiptLevelForm,
    ScheduleForm,
)
from ncen_updater.agent.service.api.routes import EVENTS_PATH, ROUTES, ApiRoute
from ncen_updater.agent.service.inspections import InspectionForm, InspectionKind
from ncen_updater.agent.storage.journal.jobs import JobKind
from ncen_updater.agent.storage.journal.site_history import FailedReleaseRecord, HoldRecord
from ncen_updater.common.findings import Severity
from ncen_updater.common.http_server import PATH_PATTERNS
from ncen_updater.common.progress import Unit
from ncen_updater.feed.feed_summary import WithdrawalNotice
from ncen_updater.formats.receipt import ReceiptLevel

EVENTS_SUMMARY = "Events of the journal and the service, as server-sent events without end."
Schema = Mapping[str, Any]
TEXT: Schema = {"type": "string"}
# mypy: disable-error-code="valid-type"


Count = Annotated[int, Field(ge=0)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Code = Annotated[str, Field(pattern="^NU-[0-9]{4}$")]
Scalar = str | float | bool | None
_Inner = Scalar | list[Scalar] | dict[str, Scalar]
Rows = dict[str, dict[str, Count]]
#: Copy of each database, in terms of its engine.
Copy = Mapping[str, Mapping[str, str | int]]


class Value(RootModel[Scalar | list[_Inner] | dict[str, _Inner]]):
    """A placeholder's value in a template, or data written by another version of the agent."""


Values = dict[str, Value]


class _Document(BaseModel):
    """Part of a response; names that are Python keywords end in an underscore, as ``from_``."""

    model_config = ConfigDict(
        extra="forbid", alias_generator=lambda name: name.rstrip("_"), populate_by_name=True
    )


class _Found(_Document):
    """Result of an operation, optionally with its output lines."""

    lines: list[str] = []


def _document(name: str, base: Any = _Document, /, **fields: Any) -> Any:  # noqa: ANN401 - types
    """Create a model of a response; a field with a default may be missing."""
    model_fields: dict[str, Any] = {
        key: kind if isinstance(kind, tuple) else (kind, ...) for key, kind in fields.items()
    }
    return create_model(name, __base__=base, **model_fields)


# ---- records of the journal ----------------------------------------------------------------------


Statistics = _document(
    "Statistics", failed=(str, ""), tables=(dict[str, list[str]], {}), seconds=(float, 0.0)
)


@dataclass(frozen=True)
class Facts(ChangeFacts):
    """Facts of a change."""

    copy_plan: Copy | None = None
    remaining_parts_error: str | None = None  # type: ignore[assignment]
    soak_error: str | None = None  # type: ignore[assignment]
    statistics: Statistics | None = None


@dataclass(frozen=True, kw_only=True)
class Report(RehearsalReport):
    """Report of a rehearsal, as written by any version of the agent."""

    release_at_fault: bool = False


@dataclass(frozen=True)
class SiteAvailability(Availability):
    """Whether users can work, in one language."""

    detail: str = ""
    unknown_because: str = ""


#: Records to which other agent versions add fields, and in which every field is optional.
_OPEN = frozenset({Facts, Report, RehearsedHop})


class _Import(BaseModel):
    """An import, with the other fields of its event."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Value]


Import = _document("Import", _Import, at=datetime, kind=str)

# ---- parts ---------------------------------------------------------------------------------------


Amount = _document("Amount", done=Count, total=Count | None, unit=Unit)
Progress = _document("Progress", template=str, values=dict[str, str], amount=Amount | None)
Finding = _document("Finding", code=Code, severity=Severity, title=str, remedy=str, figures=Values)
PredictedDowntime = _document("PredictedDowntime", low=float, likely=float, high=float)
Approval = _document("Approval", actor=str, uid=Count, at=datetime)
Notes = _document("Notes", title=str, text=str)
IrreversibleMigration = _document("IrreversibleMigration", database=str, id=str, reason=str)
Fault = _document(
    "Fault", code=Code, title=str, state=str, remedy=str, detail=str | None, values=Values,
)  # fmt: skip
NumberedFault = _document("NumberedFault", Fault, exit_code=Count)
#: A refusal, or in a status the error in place of a part.
Error = _document("Error", error=NumberedFault)
Change = _document(
    "Change",
    id=str,
    kind=ChangeKind,
    mode=DatabaseMode,
    state=ChangeState,
    product=str,
    from_=str,
    to=str,
    created_at=datetime,
    ended_at=datetime | None,
    downtime_s=float | None,
    error_code=str | None,
    attempts=Count,
    expand_started=bool,
    contract_abandoned=bool,
    ended_sessions=list[str],
    replaced=list[str],
)
OpenChange = _document(
    "OpenChange", Change, step=str | None, step_state=str | None, soak_ends_at=datetime | None,
    contracting=bool, next_version=str | None,
)  # fmt: skip
PastChange = _document(
    "PastChange", Change, predicted_downtime_s=PredictedDowntime | None, interrupted=bool
)
DoneChange = _document("DoneChange", Change, step_s=dict[str, float], facts=Facts)
Emergency = _document("Emergency", actor=str, reason=str)
ChangeFailure = _document(
    "ChangeFailure", at=datetime, step=str | None, code=str | None, error=str | None,
)  # fmt: skip
Interruption = _document("Interruption", step=str, at=datetime, during=bool, resumed_at=datetime)
Step = _document(
    "Step", name=StepName, state=StepState, started_at=datetime, ended_at=datetime | None,
    seconds=float | None,
)  # fmt: skip
Event = _document("Event", number=Count, at=datetime, change=str | None, kind=str, data=Values)
ChangeEvent = _document("ChangeEvent", number=Count, at=datetime, kind=str, data=Values)
ChangeReport = _document(
    "ChangeReport", Change, approved_by=list[str], requested_by=str | None,
    emergency=Emergency | None, predicted_downtime_s=PredictedDowntime | None,
    failure=ChangeFailure | None, interrupted=bool, interruption=Interruption | None,
    rolled_back_by=str | None, lines=list[str],
    steps=list[Step], facts=Facts, events=list[ChangeEvent],
)  # fmt: skip
JobData = _document(
    "JobData", version=(str, ''), retry=(bool, False), accept_loss=(Count, 0),
    undoes=(str, ''), emergency_reason=(str, ''), language=(str, ''), by_approver=(bool, False),
    file=(str, ''), dry_run=(bool, False),
)  # fmt: skip
JobRecord = _document(
    "JobRecord", id=Count, kind=JobKind, data=JobData, actor=str, uid=Count, at=datetime,
    started_at=datetime | None, ended_at=datetime | None,
)  # fmt: skip
SubmittedJob = _document("SubmittedJob", JobRecord, event=Count)
Rehearsal = _document(
    "Rehearsal", id=str, from_=str, to=str, state=RehearsalState, started_at=datetime,
    ended_at=datetime | None, error_code=str | None, report=Report | None,
)  # fmt: skip
Running = _document(
    "Running", command=list[str], title=str, since=datetime, progress=Progress | None
)
ServiceActivity = _document(
    "ServiceActivity", action=str | None, reason=str | None, status_read_at=datetime | None,
    running=Running | None,
)  # fmt: skip
ServiceFailure = _document(
    "ServiceFailure", action=str, title=str, code=str, failures=Count, at=datetime,
    again_at=datetime,
)  # fmt: skip
Service = _document(
    "Service", ServiceActivity, mode=str, timezone=str | None, failures=list[ServiceFailure]
)


# ---- plans --------------------------------------------------------------------------


PathHop = _document(
    "PathHop", version=str, required=bool, urgency=str, bytes=Count, download_bytes=Count,
)  # fmt: skip
RejectedRelease = _document("RejectedRelease", version=str, reason=str, text=str)
_Path = _document("_Path", available=bool, rejected=list[RejectedRelease])
Path = _document("Path", _Path, hops=list[PathHop])
Area = _document("Area", label=str, count=Count)
Coverage = _document(
    "Coverage", translated=Count, total=Count, percent=float | None, translated_before=Count,
    total_before=Count, percent_before=float | None, new=Count, areas=list[Area],
)  # fmt: skip
OverlayProblem = _document("OverlayProblem", path=str, reason=str, line=Count | None)
OverlayKey = _document("OverlayKey", key=str, outcome=str, text=str)
OverlayFile = _document(
    "OverlayFile", path=str, local_path=str, language=str | None, kind=str,
    coverage=Coverage | None,
    counts=dict[str, Count], problem=OverlayProblem | None,
    keys=list[OverlayKey],
)  # fmt: skip
Archive = _document("Archive", bytes=Count, sha256=Sha256)
PlannedMigration = _document("PlannedMigration", database=str, id=str, direction=str, sha256=str)
PlannedDatabase = _document("PlannedDatabase", name=str, physical_name=str, bytes=Count)
PlannedFile = _document(
    "PlannedFile", name=str, effect=str | None, description=str, configured=bool
)
PlannedHop = _document(
    "PlannedHop", from_=str, to=str, required=bool, urgency=str, archive=Archive,
    unpacked_bytes=Count, tree_digest=str, migrations=list[PlannedMigration],
    command=list[str] | None, irreversible=list[IrreversibleMigration],
    rollback_keeps_records=bool, no_copy=bool, expands=bool, rollback_kind=str,
    lost_objects=list[str], overlay=list[OverlayFile] | None,
    databases=list[PlannedDatabase], copy_=Copy | None, findings=list[Finding],
    settings_digest=(str, ''),
    contract=(list[str], []), files=(list[PlannedFile], []),
)  # fmt: skip
PlannedStep = _document("PlannedStep", name=str, title=str, downtime=bool, runs=bool)
Plan = _document(
    "Plan", digest=Sha256, blocked=bool, hops=list[PlannedHop],
    steps=list[PlannedStep],
)  # fmt: skip


# ---- results of operations -----------------------------------------------------------------------


PlannedRehearsal = _document(
    "PlannedRehearsal", from_=str, to=str, downtime_s=DowntimeRange,
    round_trip=RoundTripResult | None,
)  # fmt: skip
PlanFound = _document(
    "PlanFound", (_Found, Path), plan=Plan, findings=list[Finding],
    rehearsed=list[PlannedRehearsal], sql=(str, ''),
)  # fmt: skip
NoPlan = _document("NoPlan", (_Found, _Path), hops=Annotated[list[str], Field(max_length=0)])
DossierFound = _document(
    "DossierFound", _Found, version=str, binding=Sha256, sha256=Sha256, html=str, output=None,
    downtime_s=PredictedDowntime | None, keeps_records=bool, lost_objects=list[str],
)  # fmt: skip
RollbackApproval = _document("RollbackApproval", actor=str, at=datetime)
RollbackPlanFound = _document(
    "RollbackPlanFound", _Found, from_=str, to=str, mode=DatabaseMode, no_copy=bool,
    lost=Rows | None, uncounted=Rows | None, lost_total=Count | None, reason=str | None,
    undoes=str | None, binding=Sha256, in_soak=bool, approvals=list[RollbackApproval],
    missing=Count, round_trip=RoundTripResult | None, how=list[str],
)  # fmt: skip
DiagnosisFound = _document("DiagnosisFound", _Found, healthy=bool, findings=list[Finding])
VerificationFound = _document(
    "VerificationFound", _Found, chain_head=str, as_recorded=bool, findings=list[Finding]
)
BundlePart = _document("BundlePart", bytes=Count)
MissingPart = _document("MissingPart", missing=str | None)
Leak = _document("Leak", part=str, column=str)
BundleFound = _document(
    "BundleFound", _Found, parts=dict[str, BundlePart | MissingPart], shown=dict[str, str | None],
    leaks=list[Leak], not_compared_with=dict[str, str],
    archive=Annotated[str, Field(json_schema_extra={"contentEncoding": "base64"})] | None,
)  # fmt: skip
AgentFound = _document("AgentFound", version=str | None, error=str | None)
CheckDone = _document(
    "CheckDone", (_Found, Path), product=str, current=str, agent=AgentFound,
    running_withdrawn=WithdrawalNotice | None, imported=bool, checked_at=datetime | None,
    expires_at=datetime | None,
)  # fmt: skip
RehearsalDone = _document("RehearsalDone", _Found, rehearsal=Rehearsal, dossiers=list[str])
NothingToRehearse = _document("NothingToRehearse", (_Found, Path), rehearsal=None)
Decision = _document("Decision", action=RecoveryAction, reason=str)
ChangesDone = _document(
    "ChangesDone", _Found, changes=list[DoneChange], path=(Path | None, None),
    decision=(Decision | None, None),
)  # fmt: skip
ImportDone = _document(
    "ImportDone", _Found, imported=bool, imported_at=datetime, usable_until=datetime,
    timestamp=Count, product=str, releases=list[str], reachable_release=str | None, file=str,
    agents=list[str], reachable_agent=str | None,
)  # fmt: skip
SelfUpdateDone = _document("SelfUpdateDone", _Found, from_=str, to=str | None)
EndedFault = _document("EndedFault", Fault, exit_code=(Count, 0))
#: Result of a command that ended with an error.
Ended = _document("Ended", _Found, error=EndedFault)
#: Result of a command that was killed.
Nothing = _document("Nothing")
ReceiptState = _document("ReceiptState", level=ReceiptLevel, written=Count)
ReceiptPreview = _document(
    "ReceiptPreview", level=ReceiptLevel, sentences=list[str], statement=str
)  # fmt: skip
ReceiptsFound = _document(
    "ReceiptsFound", _Found, level=ReceiptLevel, levels=list[ReceiptPreview]
)  # fmt: skip


_Inspected = (
    PlanFound
    | NoPlan
    | DossierFound
    | RollbackPlanFound
    | DiagnosisFound
    | VerificationFound
    | BundleFound
    | ReceiptsFound
)
InspectionResult = _document("InspectionResult", exit_code=Count, document=_Inspected | Ended)
Inspection = _document(
    "Inspection", id=Count, kind=InspectionKind, actor=str, uid=Count, requested_at=datetime,
    ended_at=datetime | None, progress=Progress | None, result=InspectionResult | None,
)  # fmt: skip
_Done = CheckDone | RehearsalDone | NothingToRehearse | ChangesDone | ImportDone | SelfUpdateDone
JobResult = _document(
    "JobResult", exit_code=Count,
    document=_Done | PlanFound | NoPlan | RollbackPlanFound | Ended | Nothing,
)  # fmt: skip
InterruptedJob = _document("InterruptedJob", exit_code=None, interrupted=bool)
EndedJob = _document(
    "EndedJob", SubmittedJob, change=str | None, result=JobResult | InterruptedJob | None,
)  # fmt: skip


# ---- responses -----------------------------------------------------------------------------------


FullDisk = _document("FullDisk", path=str, free=Count, needed=Count)
RunningRelease = _document(
    "RunningRelease", version=str | None, open_to_users=bool | None, availability=SiteAvailability,
    full_disk=(FullDisk | None, None),
)  # fmt: skip
Configuration = _document("Configuration", checked=bool)
Clock = _document("Clock", code=str, signed_at=datetime)
PendingRollbackFacts = _document(
    "PendingRollbackFacts", version=str, attempts=Count, automatic=bool
)
WaitingJob = _document("WaitingJob", id=Count, kind=str, actor=str, at=datetime)
ApprovedRelease = _document(
    "ApprovedRelease", version=str, approvers=list[str], missing=Count, next=bool, unavailable=bool,
    valid=bool | None,
)  # fmt: skip
ApprovedRollback = _document(
    "ApprovedRollback", from_=str, version=str, approvers=list[str], missing=Count,
    accept_loss=Count,
)  # fmt: skip
ScheduleStatus = _document("ScheduleStatus", version=str, not_before=datetime, actor=str)
JournalStatus = _document(
    "JournalStatus", lock_holder=str | None, chain_head=str | None, open_change=OpenChange | None,
    pending_rollback=PendingRollbackFacts | None, last_change=Change | None,
    waiting_job=WaitingJob | None,
    holds=list[HoldRecord], bad_releases=list[FailedReleaseRecord], approvals=list[ApprovedRelease],
    schedules=list[ScheduleStatus],
    rollback_approved=ApprovedRollback | None, consumed_approvals=list[str],
    rehearsed=str | None, confirmed_by=str | None,
)  # fmt: skip
WithheldRelease = _document(
    "WithheldRelease", version=str, reason=str, explanation=str, opens=datetime | None
)
EmergencyHalt = _document(
    "EmergencyHalt", version=str, until=datetime | None, owner=str, reason=str
)
FeedStatus = _document(
    "FeedStatus", checked_at=datetime, expires_at=datetime, stale=bool, version=Count,
    versions=list[str], withdrawn=list[str], next_release=str | None, hops=list[str],
    withheld=list[WithheldRelease], running_withdrawn=WithdrawalNotice | None,
    emergency_halts=list[EmergencyHalt],
)  # fmt: skip
GroupOfRight = _document("GroupOfRight", group=str, members=list[str])
You = _document("You", name=str, uid=Count, roles=list[ApiRole], missing=dict[str, GroupOfRight])
Status = _document(
    "Status", site=str, country=str, product=str, at=datetime, running=RunningRelease | Error,
    configuration=Configuration | Error, clock=Clock | None, journal=JournalStatus | Error,
    feed=FeedStatus | Error | None, service=Service, you=You,
)  # fmt: skip
Setting = _document(
    "Setting", table=str, name=str, value=Scalar | list[Scalar], explicit=bool, redacted=bool,
)  # fmt: skip
Settings = _document("Settings", settings=list[Setting])
Right = _document("Right", name=str, role=str)
Scheduled = _document("Scheduled", not_before=datetime, actor=str)
NextUpgradeReport = _document(
    "NextUpgradeReport",
    up_to_date=bool,
    checked_at=datetime | None,
    next_check=datetime | None,
    current=str | None,
    target=str | None,
    hops=list[str],
    agent=str | None,
    slot_built=bool,
    rehearsal_status=str | None,
    plan=str | None,
    binding=str | None,
    retry_at=datetime | None,
    void_reasons=list[str],
    approvals=list[Approval],
    required_approvals=Count,
    missing=Count,
    scheduled=Scheduled | None,
    rehearsal=Rehearsal | None,
    downtime_s=PredictedDowntime | None,
    starts_at=UpgradeStart,
    starts_at_if_approved=UpgradeStart,
    newest=str | None,
    also_approved=list[str],
    approved_but_unavailable=list[str],
    consumed_approvals=list[str],
    open_change=OpenChange | None,
)
Held = _document(
    "Held", held=bool, reason=str, actor=str, since=datetime, until=datetime | None,
)  # fmt: skip
Unheld = _document("Unheld", held=bool, lifted=Count)
FailedRehearsal = _document(
    "FailedRehearsal", at=datetime, from_=str, version=str, code=str | None, error=str | None,
)  # fmt: skip
AdoptedRestore = _document(
    "AdoptedRestore", at=datetime, version=str, by=list[str], reasons=list[str]
)
History = _document(
    "History", changes=list[PastChange], imports=list[Import],
    failed_rehearsals=list[FailedRehearsal], adopted_restores=list[AdoptedRestore],
)  # fmt: skip
GivenApproval = _document("GivenApproval", added=bool, version=str, binding=Sha256)
Withdrawn = _document("Withdrawn", withdrawn=Count)
Rejected = _document("Rejected", rejected=bool, version=str, reason=str, withdrawn=Count)
Schedule = _document("Schedule", version=str, binding=Sha256, not_before=datetime)
Cancelled = _document("Cancelled", cancelled=Count)
Confirmation = _document("Confirmation", confirmed=bool, change=Change)
JobList = _document("JobList", jobs=list[JobRecord])
InboxFile = _document(
    "InboxFile", name=str, size_bytes=Count, since=datetime, owner=str, yours=bool,
    refused_because=str | None,
)  # fmt: skip
Inbox = _document("Inbox", directory=str, more=Count, files=list[InboxFile])
ReleaseNotes = _document(
    "ReleaseNotes", product=str, version=str, required=bool, urgency=str, notes=dict[str, Notes],
)  # fmt: skip
SelectedAgent = _document(
    "SelectedAgent", version=str, previous=str | None, state=str, attempts=Count
)
FailedAgent = _document("FailedAgent", version=str, failures=Count, at=datetime)
Agent = _document(
    "Agent", version=str, available=str | None, self_update=bool, selected=SelectedAgent | None,
    failed=list[FailedAgent],
)  # fmt: skip
Information = _document("Information", title=str, version=str, description=str)


class Description(BaseModel):
    """An OpenAPI document, as https://spec.openapis.org/oas/v3.1 describes it."""

    model_config = ConfigDict(json_schema_extra={"additionalProperties": True})
    openapi: Literal["3.1.0"]
    info: Information


#: Model of each successful response, by method and path.
RESPONSES: Mapping[tuple[str, str], Any] = {
    ("GET", "/v1/status"): Status,
    ("GET", "/v1/settings"): Settings,
    ("GET", "/v1/rights/{role}"): Right,
    ("GET", "/v1/next-upgrade"): NextUpgradeReport,
    ("POST", "/v1/holds"): Held,
    ("DELETE", "/v1/holds"): Unheld,
    ("GET", "/v1/history"): History,
    ("GET", "/v1/history/{id}"): ChangeReport,
    ("POST", "/v1/approvals"): GivenApproval,
    ("POST", "/v1/rejections"): Rejected,
    ("DELETE", "/v1/approvals"): Withdrawn,
    ("PUT", "/v1/schedule"): Schedule,
    ("DELETE", "/v1/schedule"): Cancelled,
    ("POST", "/v1/confirmation"): Confirmation,
    ("GET", "/v1/jobs"): JobList,
    ("POST", "/v1/jobs"): SubmittedJob,
    ("GET", "/v1/jobs/{number}"): EndedJob,
    ("GET", "/v1/inbox"): Inbox,
    ("GET", "/v1/receipts"): ReceiptState,
    ("PUT", "/v1/receipts"): ReceiptState,
    ("GET", "/v1/notes"): ReleaseNotes,
    ("GET", "/v1/agent"): Agent,
    ("POST", "/v1/inspections"): Inspection,
    ("GET", "/v1/inspections/{number}"): Inspection,
    ("GET", "/v1/openapi.json"): Description,
}
#: Models of the event stream and of errors.
OTHERS: Mapping[str, Any] = {"Error": Error, "Event": Event, "ServiceActivity": ServiceActivity}
FORMS = (HoldForm, ApprovalForm, ScheduleForm, JobForm, InspectionForm, ReceiptLevelForm)


class _Generator(GenerateJsonSchema):
    """Describes records as they are serialised: all fields required, no others allowed."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ANN401 - of pydantic's core
        """Omit field titles, which repeat the names."""
        return False

    def default_schema(self, schema: Any) -> JsonSchemaValue:  # noqa: ANN401
        """Include defaults only in forms."""
        if self.mode == "validation":
            return super().default_schema(schema)
        return self.generate_inner(schema["schema"])

    def dataclass_schema(self, schema: Any) -> JsonSchemaValue:  # noqa: ANN401
        """Describe a dataclass; remove the underscore after names that are Python keywords."""
        found = super().dataclass_schema(schema)
        parts = {name.rstrip("_"): kind for name, kind in found["properties"].items()}
        found = {**found, "properties": parts, "additionalProperties": False}
        if schema["cls"] not in _OPEN:
            return {**found, "required": list(parts)}
        parts.pop("unknown_facts", None)
        found.pop("required", None)
        return {**found, "additionalProperties": make_reference("Value")}


def make_reference(name: str) -> JsonSchemaValue:
    """Return a reference to a component."""
    return {"$ref": f"#/components/schemas/{name}"}


def components() -> tuple[Mapping[tuple[str, str], JsonSchemaValue], JsonSchemaValue]:
    """Return the response schema of each route, and all components."""
    models: list[tuple[Any, JsonSchemaMode, TypeAdapter[Any]]]
    models = [
        *((route, "serialization", TypeAdapter(kind)) for route, kind in RESPONSES.items()),
        *((name, "serialization", TypeAdapter(kind)) for name, kind in OTHERS.items()),
        *((form, "validation", TypeAdapter(form)) for form in FORMS),
    ]
    schemas, definitions = TypeAdapter.json_schemas(
        models, ref_template=make_reference("{model}")["$ref"], schema_generator=_Generator
    )
    responses = {route: schemas[route, "serialization"] for route in RESPONSES}
    components_by_name: JsonSchemaValue = definitions["$defs"]
    return responses, {name: _brief(schema) for name, schema in components_by_name.items()}


def _brief(schema: JsonSchemaValue) -> JsonSchemaValue:
    """Shorten a description to its first line."""
    if "description" not in schema:
        return schema
    return {**schema, "description": str(schema["description"]).partition("\n")[0]}


def build_openapi_document() -> dict[str, Any]:
    """Return the OpenAPI document."""
    paths: dict[str, dict[str, Any]] = {}
    answers, schemas = components()
    for route in ROUTES:
        answer = answers.get((route.method, route.path_template), TEXT)
        paths.setdefault(route.path_template, {})[route.method.lower()] = _build_operation(
            route, answer
        )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "ncen-updater: local API",
            "version": "",  # filled by the service
            "description": "Over a Unix socket; the kernel reports the caller.",
        },
        "servers": [{"url": "http://localhost"}],
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _build_operation(route: ApiRoute, answer: Schema) -> dict[str, Any]:
    doc = (route.handler.__doc__ if route.handler else None) or EVENTS_SUMMARY
    operation: dict[str, Any] = {
        "operationId": route.method.lower() + re.sub(r"[^a-z]+", "_", route.path_template),
        "summary": doc.splitlines()[0],
        "description": f"Requires the role '{route.role.value}'.",
        "responses": {
            **{
                str(status): _build_success_response(route, status, answer)
                for status in route.statuses
            },
            "default": {
                "description": "Refused, and nothing was changed.",
                "content": {"application/json": {"schema": make_reference("Error")}},
            },
        },
    }
    parameters = [
        {
            "name": name, "in": "path", "required": True,
            "schema": {"type": "string", "pattern": f"^{PATH_PATTERNS[name]}$"},
        }
        for name in re.findall(r"{([a-z]+)}", route.path_template)
    ] + [
        {"name": name, "in": "query", "required": False, "schema": QUERY_TYPES[name].json_schema()}
        for name in sorted(route.query)
    ]  # fmt: skip
    if parameters:
        operation["parameters"] = parameters
    if route.form is not None:
        schema = make_reference(route.form.__name__)
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schema}},
        }
    return operation


def _build_success_response(route: ApiRoute, status: int, answer: Schema) -> dict[str, Any]:
    description = HTTPStatus(status).phrase
    if route.path_template == EVENTS_PATH:
        return {"description": description, "content": {"text/event-stream": {"schema": answer}}}
    content = {"application/json": {"schema": answer}}
    return {"description": description, "content": content}
