"""What answers hold, for the description of the interface. Pure.

Records are described by their types (:mod:`.record_schemas`); what a function puts together is
described here, and the tests hold the answers to it. Nothing is left open: where an agent of
another version may have written more, that is a :data:`~.event_schema.VALUE`.
"""

from __future__ import annotations

from collections.abc import Mapping

from ncen_updater.agent.databases.tried import TriedValues
from ncen_updater.agent.engine.recovery import RecoveryAction
from ncen_updater.agent.journal.change import ChangeKind, ChangeState, Mode, StepName, StepState
from ncen_updater.agent.journal.facts import ChangeFacts
from ncen_updater.agent.journal.orders import OrderKind
from ncen_updater.agent.journal.site_history import BadReleaseRecord, HoldRecord
from ncen_updater.agent.policy.availability import Availability
from ncen_updater.agent.policy.beginning import Beginning
from ncen_updater.agent.rehearsal.report import PredictedRange, RehearsalReport
from ncen_updater.agent.rehearsal.store import RehearsalState
from ncen_updater.agent.service.api.event_schema import EVENT_DATA, SCALAR, VALUE, VALUES
from ncen_updater.agent.service.api.people import ApiRole
from ncen_updater.agent.service.api.record_schemas import (
    FIGURE,
    FLAG,
    NUMBER,
    TEXT,
    TIME,
    Schema,
    record,
    schema_of,
)
from ncen_updater.agent.service.api.record_schemas import optional as _or_null
from ncen_updater.agent.service.inspecting import InspectionKind
from ncen_updater.common.findings import Severity
from ncen_updater.feed.last_view import Notice

SHA256: Schema = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
CODE: Schema = {"type": "string", "pattern": "^NU-[0-9]{4}$"}


def named(name: str) -> Schema:
    """Return what refers to one of :data:`SCHEMAS`."""
    return {"$ref": f"#/components/schemas/{name}"}


def _object(**properties: Schema) -> Schema:
    return {
        "type": "object",
        "required": list(properties),
        "properties": properties,
        "additionalProperties": False,
    }


def _list(schema: Schema) -> Schema:
    return {"type": "array", "items": schema}


def _any_of(*schemas: Schema) -> Schema:
    return {"anyOf": list(schemas)}


def _each(schema: Schema) -> Schema:
    """A table whose names the site or the release chooses."""
    return {"type": "object", "additionalProperties": schema}


def _perhaps(schema: Schema, **properties: Schema) -> Schema:
    """Return it with parts that are there only where there is something to say."""
    return {**schema, "properties": {**schema["properties"], **properties}}


def _found(**properties: Schema) -> Schema:
    """What work came to; the lines for people may stand beside it."""
    return _perhaps(_object(**properties), words=_list(TEXT))


# ---- parts ---------------------------------------------------------------------------------------

CHANGE = {
    "id": TEXT, "kind": schema_of(ChangeKind), "mode": schema_of(Mode),
    "state": schema_of(ChangeState), "product": TEXT, "from": TEXT,
    "to": TEXT, "strategy": TEXT, "created_at": TIME, "ended_at": _or_null(TIME),
    "stop_s": _or_null(FIGURE), "error_code": _or_null(TEXT), "attempts": NUMBER,
    "expanded": FLAG, "contract_left": FLAG, "ended_sessions": _list(TEXT), "replaced": _list(TEXT),
}  # fmt: skip
PREDICTED = _or_null(_object(low=FIGURE, high=FIGURE))
ORDER = {
    "id": NUMBER, "kind": schema_of(OrderKind), "data": named("OrderData"), "who": TEXT,
    "uid": NUMBER, "at": TIME, "taken_at": _or_null(TIME), "ended_at": _or_null(TIME),
}  # fmt: skip
FAULT = {
    "code": CODE, "what": TEXT, "state": TEXT, "remedy": TEXT, "detail": _or_null(TEXT),
    "values": VALUES,
}  # fmt: skip
#: A part of a status that could not be had, in its place.
BROKEN = _object(error=_object(**FAULT, exit_code=NUMBER))
STOP = _object(low=FIGURE, likely=FIGURE, high=FIGURE)
APPROVAL = _object(who=TEXT, uid=NUMBER, at=TIME)
NOTES = _each(_object(title=TEXT, text=TEXT))
WITHOUT = _list(_object(database=TEXT, id=TEXT, reason=TEXT))
FINDINGS = _list(named("Finding"))
ROWS = _each(_each(NUMBER))
#: How each database is copied, in the words of its engine.
COPY = _each(_each({"type": ["string", "integer"]}))
PATH = {
    "available": FLAG,
    "hops": _list(
        _object(version=TEXT, required=FLAG, urgency=TEXT, bytes=NUMBER, download_bytes=NUMBER)
    ),
    "rejected": _list(_object(version=TEXT, reason=TEXT, words=TEXT)),
}
NOW = {
    "action": _or_null(TEXT), "why": _or_null(TEXT), "looked_at": _or_null(TIME),
    "running": _or_null(
        _object(words=_list(TEXT), what=TEXT, since=TIME, progress=_or_null(named("Progress")))
    ),
}  # fmt: skip
COUNTRY = _object(
    path=TEXT, own=TEXT, language=_or_null(TEXT), kind=TEXT,
    coverage=_or_null(
        _object(
            translated=NUMBER, total=NUMBER, percent=_or_null(FIGURE), translated_before=NUMBER,
            total_before=NUMBER, percent_before=_or_null(FIGURE), new=NUMBER,
            areas=_list(_object(words=TEXT, count=NUMBER)),
        )
    ),
    counts=_each(NUMBER),
    problem=_or_null(_object(path=TEXT, why=TEXT, line=_or_null(NUMBER), shipped=FLAG)),
    keys=_list(_object(key=TEXT, outcome=TEXT, words=TEXT)),
)  # fmt: skip
PLANNED_HOP = _perhaps(
    _object(
        **{
            "from": TEXT, "to": TEXT, "required": FLAG, "urgency": TEXT,
            "archive": _object(bytes=NUMBER, sha256=SHA256), "unpacked_bytes": NUMBER,
            "tree_digest": TEXT,
            "migrations": _list(_object(database=TEXT, id=TEXT, direction=TEXT, sha256=SHA256)),
            "command": _or_null(_list(TEXT)), "irreversible": WITHOUT,
            "rollback_keeps_records": FLAG, "by_code": FLAG, "expands": FLAG,
            "way_back": TEXT, "loses": _list(TEXT),
            "country": _or_null(_list(COUNTRY)),
            "databases": _list(_object(name=TEXT, physical=TEXT, bytes=NUMBER)),
            "copy": _or_null(COPY), "findings": FINDINGS,
        }
    ),
    settings=TEXT,
    contract=_list(TEXT),
    files=_list(
        _object(name=TEXT, effect=_or_null(TEXT), words=TEXT, covered=FLAG)
    ),
)  # fmt: skip
DOSSIER_HOP = _object(
    **{
        "from": TEXT, "to": TEXT, "required": FLAG, "urgency": TEXT, "notes": NOTES,
        "by_code": FLAG, "expands": FLAG, "contract": _list(TEXT), "way_back": TEXT,
        "way_words": TEXT,
        "why_no_way_back": WITHOUT, "loses": _list(TEXT),
        "migrations": NUMBER, "unpacked_bytes": NUMBER, "stop_s": _or_null(STOP),
        "files": _list(TEXT), "country": _list(TEXT),
        "tables": _list(_object(table=TEXT, before=TEXT, after=TEXT, what=TEXT)),
        "codes": _list(TEXT), "unmapped": NUMBER, "values": _list(TEXT),
    }
)  # fmt: skip
CHANGE_REPORT = _object(
    **CHANGE, approved_by=_list(TEXT), ordered_by=_or_null(TEXT),
    emergency=_or_null(_object(by=TEXT, reason=TEXT)),
    predicted_stop_s=PREDICTED,
    failure=_or_null(
        _object(at=TIME, step=_or_null(TEXT), code=_or_null(TEXT), error=_or_null(TEXT))
    ),
    cut_off=_or_null(_object(step=TEXT, at=TIME, during=FLAG, resumed_at=TIME)),
    taken_back_by=_or_null(TEXT),
    words=_list(TEXT),
    steps=_list(
        _object(
            name=schema_of(StepName), state=schema_of(StepState), started_at=TIME,
            ended_at=_or_null(TIME), seconds=_or_null(FIGURE),
        )
    ),
    facts=named("Facts"),
    events=_list(_object(number=NUMBER, at=TIME, kind=TEXT, data=named("EventData"))),
)  # fmt: skip

# ---- what work comes to --------------------------------------------------------------------------

#: What inspections find.
FOUND: Mapping[str, Schema] = {
    "PlanFound": _perhaps(
        _found(
            **PATH, plan=named("Plan"), findings=FINDINGS,
            rehearsed=_list(
                _object(
                    **{
                        "from": TEXT, "to": TEXT, "stop_s": schema_of(PredictedRange),
                        "values": schema_of(TriedValues | None),
                    }
                )
            ),
        ),
        sql=TEXT,
    ),
    "NoPlan": _found(**{**PATH, "hops": {"type": "array", "maxItems": 0, "items": TEXT}}),
    "DossierFound": _found(
        version=TEXT, binding=SHA256, sha256=SHA256, output={"type": "null"}, html=TEXT,
        facts=named("DossierFacts"),
    ),
    "WayBackFound": _found(
        **{
            "from": TEXT, "to": TEXT, "mode": schema_of(Mode), "by_code": FLAG,
            "lost": _or_null(ROWS), "passed_over": _or_null(ROWS),
            "lost_total": _or_null(NUMBER), "reason": _or_null(TEXT), "undoes": _or_null(TEXT),
            "binding": SHA256, "watched": FLAG, "approvals": _list(_object(who=TEXT, at=TIME)),
            "missing": NUMBER, "values": schema_of(TriedValues | None), "how": _list(TEXT),
        }
    ),
    "DiagnosisFound": _found(healthy=FLAG, findings=FINDINGS),
    "ProofFound": _found(head=TEXT, as_recorded=FLAG, findings=FINDINGS),
    "BundleFound": _found(
        parts=_each(_any_of(_object(bytes=NUMBER), _object(missing=_or_null(TEXT)))),
        shown=_each(_or_null(TEXT)), leaks=_list(_object(part=TEXT, column=TEXT)),
        not_compared_with=_each(TEXT),
        archive=_or_null({"type": "string", "contentEncoding": "base64"}),
    ),
}  # fmt: skip
#: What orders come to.
DONE: Mapping[str, Schema] = {
    "CheckDone": _found(
        **PATH, product=TEXT, current=TEXT,
        agent=_object(version=_or_null(TEXT), error=_or_null(TEXT)), others=_list(TEXT),
        running_withdrawn=schema_of(Notice | None), imported=FLAG, checked_at=_or_null(TIME),
        expires_at=_or_null(TIME),
    ),
    "RehearsalDone": _found(rehearsal=named("Rehearsal"), dossiers=_list(TEXT)),
    "NothingToRehearse": _found(rehearsal={"type": "null"}, **PATH),
    "ChangesDone": _perhaps(
        _found(changes=_list(_object(**CHANGE, step_s=_each(FIGURE), facts=named("Facts")))),
        path=_object(**PATH),
        decision=_object(action=schema_of(RecoveryAction), reason=TEXT),
    ),
    "ImportDone": _found(
        kept=FLAG, imported_at=TIME, usable_until=TIME, timestamp=NUMBER, product=TEXT,
        releases=_list(TEXT), reaches=_or_null(TEXT), file=TEXT, agents=_list(TEXT),
        agent=_or_null(TEXT),
    ),
    "SelfUpdateDone": _found(**{"from": TEXT, "to": _or_null(TEXT), "chosen": FLAG}),
}  # fmt: skip
#: The error that a command ended with, beside its lines.
ENDED = _found(error=_perhaps(_object(**FAULT), exit_code=NUMBER))
#: A command that was ended from outside left nothing.
NOTHING = {**_object(), "maxProperties": 0}

# ---- by their names ------------------------------------------------------------------------------

_SAID_IN_TEXT = ("$ref", "format", "pattern", "title", "description", "contentEncoding")
_REPORT = record(
    RehearsalReport, others=VALUE,
    proof={
        "type": "object",
        "properties": {"basis": TEXT, "schemas": _each(_list(TEXT)), "releases": _list(TEXT)},
        "additionalProperties": VALUE,
    },
)  # fmt: skip
SCHEMAS: Mapping[str, Schema] = {
    "Error": BROKEN,
    "Progress": _object(
        tell=TEXT, values=_each(TEXT), done=_or_null(NUMBER), total=_or_null(NUMBER)
    ),
    "Finding": _object(
        code=CODE, severity=schema_of(Severity), what=TEXT, remedy=TEXT, figures=VALUES
    ),
    "Facts": record(
        ChangeFacts, without={"others"}, others=VALUE, copy=COPY,
        statistics={
            "type": "object", "additionalProperties": False,
            "properties": {"failed": TEXT, "tables": _each(_list(TEXT)), "seconds": FIGURE},
        },
    ),
    "EventData": EVENT_DATA,
    "Event": _object(
        number=NUMBER, at=TIME, change=_or_null(TEXT), kind=TEXT, data=named("EventData")
    ),
    "Change": _object(**CHANGE),
    "OpenChange": _object(
        **CHANGE, step=_or_null(TEXT), step_state=_or_null(TEXT), watched_until=_or_null(TIME),
        contracting=FLAG,
    ),
    "ChangeReport": CHANGE_REPORT,
    "Import": {
        **EVENT_DATA,
        "required": ["at", "kind"],
        "properties": {**EVENT_DATA["properties"], "at": TIME, "kind": TEXT},
    },
    "Beginning": record(Beginning),
    "Availability": record(Availability),
    "Hold": record(HoldRecord),
    "BadRelease": record(BadReleaseRecord),
    "OrderData": {
        "type": "object", "additionalProperties": False,
        "properties": {
            "version": TEXT, "retry": FLAG, "of": TEXT, "accept_loss": NUMBER, "undoes": TEXT,
            "emergency": TEXT, "language": TEXT, "by_approver": FLAG,
            "file": TEXT, "dry_run": FLAG,
        },
    },
    "Order": _object(**ORDER),
    "Rehearsal": _object(
        **{
            "id": TEXT, "from": TEXT, "to": TEXT, "state": schema_of(RehearsalState),
            "started_at": TIME, "ended_at": _or_null(TIME), "error_code": _or_null(TEXT),
            "report": _or_null(named("RehearsalReport")),
        }
    ),
    # As whichever agent made it kept it; of one that failed whether the release is to blame.
    "RehearsalReport": _perhaps(_REPORT, blamed=FLAG),
    "Moment": _object(**NOW),
    "Service": _object(
        mode=TEXT, timezone=_or_null(TEXT), **NOW,
        said=_list(_object(tell=TEXT, values=_each(TEXT), seconds=FIGURE)),
        failures=_list(
            _object(action=TEXT, what=TEXT, code=TEXT, times=NUMBER, at=TIME, again_at=TIME)
        ),
    ),
    "Plan": _object(
        digest=SHA256, strategy=TEXT, blocked=FLAG, hops=_list(PLANNED_HOP),
        steps=_list(_object(name=TEXT, title=TEXT, downtime=FLAG, runs=FLAG)),
    ),
    "DossierFacts": _object(
        site=TEXT, country=TEXT, product=TEXT, agent=TEXT, made_at=TIME, current=TEXT, target=TEXT,
        strategy=TEXT, stop_s=_or_null(STOP), keeps_records=FLAG, loses=_list(TEXT),
        hops=_list(DOSSIER_HOP), findings=FINDINGS, sizes=_each(NUMBER),
        rehearsed_at=_or_null(TIME), rehearsal=_or_null(TEXT), holds_until=_or_null(TIME),
        backup_s=_or_null(FIGURE), not_carried=_each(_list(TEXT)), not_before=_or_null(TIME),
        opens=_or_null(TIME), closes=_or_null(TIME), by_itself=FLAG, approvals=_list(APPROVAL),
        needed=NUMBER, keep_days=FIGURE, soak_s=FIGURE, rolls_back=FLAG, head=TEXT,
    ),
    **FOUND,
    **DONE,
    "Ended": ENDED,
    "Nothing": NOTHING,
    "Inspection": _object(
        id=NUMBER, kind=schema_of(InspectionKind), who=TEXT, uid=NUMBER, begun_at=TIME,
        ended_at=_or_null(TIME), progress=_or_null(named("Progress")),
        result=_or_null(
            _object(exit_code=NUMBER, document=_any_of(*map(named, FOUND), named("Ended")))
        ),
    ),
    "Setting": _object(
        table=TEXT, name=TEXT, value=_any_of(SCALAR, _list(SCALAR)), chosen=FLAG, hidden=FLAG
    ),
    # This document itself: as much of JSON Schema and of OpenAPI as it says things in.
    "Schema": {
        "type": "object",
        "properties": {
            **dict.fromkeys(_SAID_IN_TEXT, TEXT),
            **{
                name: {"type": "integer"}
                for name in ("minimum", "maximum", "minLength", "maxLength", "minItems",
                             "maxItems", "maxProperties")
            },
            "type": _any_of(TEXT, _list(TEXT)),
            "enum": _list(SCALAR),
            "default": _any_of(SCALAR, _list(SCALAR)),
            "required": _list(TEXT),
            "anyOf": _list(named("Schema")),
            "oneOf": _list(named("Schema")),
            "properties": _each(named("Schema")),
            "items": named("Schema"),
            "additionalProperties": _any_of(FLAG, named("Schema")),
        },
        "additionalProperties": False,
    },
    "Operation": _perhaps(
        _object(
            operationId=TEXT, summary=TEXT, description=TEXT,
            responses=_each(
                _object(description=TEXT, content=_each(_object(schema=named("Schema"))))
            ),
        ),
        parameters=_list(
            _object(**{"name": TEXT, "in": TEXT, "required": FLAG, "schema": named("Schema")})
        ),
        requestBody=_object(required=FLAG, content=_each(_object(schema=named("Schema")))),
    ),
}  # fmt: skip
#: What a success answers with, by method and address.
ANSWERS: Mapping[tuple[str, str], Schema] = {
    ("GET", "/v1/status"): _object(
        site=TEXT, country=TEXT, product=TEXT, at=TIME,
        running=_any_of(
            _perhaps(
                _object(
                    version=_or_null(TEXT), open_to_officers=_or_null(FLAG),
                    officers=named("Availability"),
                ),
                full_disk=_object(path=TEXT, free=NUMBER, needed=NUMBER),
            ),
            BROKEN,
        ),
        configuration=_any_of(_object(checked=FLAG), BROKEN),
        clock=_or_null(_object(code=TEXT, signed_at=TIME)),
        journal=_any_of(
            _object(
                at_work=_or_null(TEXT), head=_or_null(TEXT),
                open_change=_or_null(named("OpenChange")),
                owed_rollback=_or_null(_object(version=TEXT, tries=NUMBER, by_itself=FLAG)),
                last_change=_or_null(named("Change")),
                order=_or_null(_object(id=NUMBER, kind=TEXT, who=TEXT, at=TIME)),
                holds=_list(named("Hold")), bad_releases=_list(named("BadRelease")),
                approvals=_list(
                    _object(
                        version=TEXT, who=_list(TEXT), missing=NUMBER, next=FLAG, gone=FLAG,
                        holds=_or_null(FLAG),
                    )
                ),
                rollback_approved=_or_null(
                    _object(
                        **{"from": TEXT}, version=TEXT, who=_list(TEXT), missing=NUMBER,
                        accept_loss=NUMBER,
                    )
                ),
                approvals_used_up=_list(TEXT), confirmed_by=_or_null(TEXT),
            ),
            BROKEN,
        ),
        feed=_any_of(
            _object(
                checked_at=TIME, expires_at=TIME, stale=FLAG, version=NUMBER,
                versions=_list(TEXT), withdrawn=_list(TEXT), comes_next=_or_null(TEXT),
                barred=_list(
                    _object(version=TEXT, reason=TEXT, why=TEXT, opens=_or_null(TIME))
                ),
                running_withdrawn=schema_of(Notice | None),
                brakes=_list(
                    _object(version=TEXT, until=_or_null(TIME), owner=TEXT, reason=TEXT)
                ),
            ),
            BROKEN,
            {"type": "null"},
        ),
        service=named("Service"),
        you=_object(
            who=TEXT, uid=NUMBER, roles=_list(schema_of(ApiRole)),
            missing=_each(_object(group=TEXT, members=_list(TEXT))),
        ),
    ),
    ("GET", "/v1/settings"): _object(settings=_list(named("Setting"))),
    ("GET", "/v1/rights/{role}"): _object(who=TEXT, role=TEXT),
    ("GET", "/v1/outlook"): _object(
        up_to_date=FLAG, checked_at=_or_null(TIME), next_check=_or_null(TIME),
        current=_or_null(TEXT), target=_or_null(TEXT), agent=_or_null(TEXT), prepared=FLAG,
        rehearsed=_or_null(TEXT), plan=_or_null(TEXT), binding=_or_null(TEXT),
        bad_until=_or_null(TIME), voids=_list(TEXT),
        approvals=_list(APPROVAL), needed=NUMBER, missing=NUMBER,
        scheduled=_or_null(_object(not_before=TIME, who=TEXT)),
        rehearsal=_or_null(named("Rehearsal")), stop_s=_or_null(_object(low=FIGURE, high=FIGURE)),
        begins=named("Beginning"), begins_after_yes=named("Beginning"),
        newest=_or_null(TEXT), also_approved=_list(TEXT), approved_but_gone=_list(TEXT),
        approvals_used_up=_list(TEXT), open_change=_or_null(named("OpenChange")),
    ),
    ("GET", "/v1/holds"): _object(holds=_list(named("Hold"))),
    ("POST", "/v1/holds"): _object(held=FLAG, reason=TEXT, by=TEXT, until=_or_null(TIME)),
    ("DELETE", "/v1/holds"): _object(held=FLAG, lifted=NUMBER),
    ("GET", "/v1/history"): _object(
        changes=_list(_object(**CHANGE, predicted_stop_s=PREDICTED, turned_bad=FLAG)),
        imports=_list(named("Import")),
        failed_rehearsals=_list(
            _object(
                at=TIME, **{"from": TEXT}, version=TEXT, code=_or_null(TEXT), error=_or_null(TEXT)
            )
        ),
        accepted=_list(_object(at=TIME, version=TEXT, by=_list(TEXT), reasons=_list(TEXT))),
    ),
    ("GET", "/v1/history/{id}"): named("ChangeReport"),
    ("GET", "/v1/rehearsals"): _object(rehearsals=_list(named("Rehearsal"))),
    ("GET", "/v1/approvals"): _object(
        needed=NUMBER, group=TEXT, members=_list(TEXT),
        you=_object(who=TEXT, may=FLAG),
        upgrade=_or_null(
            _object(
                version=TEXT, binding=SHA256, approvals=_list(APPROVAL), missing=NUMBER, yours=FLAG
            )
        ),
        rollback=_or_null(
            _object(
                **{
                    "from": TEXT, "to": TEXT, "undoes": TEXT, "binding": SHA256,
                    "approvals": _list(APPROVAL), "missing": NUMBER, "yours": FLAG,
                    "watched": FLAG,
                }
            )
        ),
    ),
    ("POST", "/v1/approvals"): _object(given=FLAG, version=TEXT, binding=SHA256),
    ("DELETE", "/v1/approvals"): _object(withdrawn=NUMBER),
    ("DELETE", "/v1/approvals/{binding}"): _object(withdrawn=NUMBER),
    ("PUT", "/v1/schedule"): _object(version=TEXT, binding=SHA256, not_before=TIME),
    ("DELETE", "/v1/schedule"): _object(cancelled=NUMBER),
    ("GET", "/v1/confirmation"): _object(confirmed=FLAG, change=named("Change")),
    ("POST", "/v1/confirmation"): _object(confirmed=FLAG, change=named("Change")),
    ("GET", "/v1/orders"): _object(orders=_list(named("Order"))),
    ("POST", "/v1/orders"): _object(**ORDER, event=NUMBER),
    ("GET", "/v1/orders/{number}"): _object(
        **ORDER, event=NUMBER,
        result=_or_null(
            _any_of(
                _object(
                    exit_code=NUMBER,
                    document=_any_of(
                        *map(named, DONE), named("PlanFound"), named("NoPlan"),
                        named("WayBackFound"), named("Ended"), named("Nothing"),
                    ),
                ),
                _object(exit_code={"type": "null"}, torn=FLAG),
            )
        ),
    ),
    ("GET", "/v1/tray"): _object(
        directory=TEXT, more=NUMBER,
        files=_list(
            _object(
                name=TEXT, size_bytes=NUMBER, since=TIME, owner=TEXT, yours=FLAG,
                why_not=_or_null(TEXT),
            )
        ),
    ),
    ("GET", "/v1/plan"): _any_of(named("PlanFound"), named("NoPlan")),
    ("GET", "/v1/notes"): _object(
        product=TEXT, version=TEXT, required=FLAG, urgency=TEXT, notes=NOTES
    ),
    ("GET", "/v1/dossier"): named("DossierFound"),
    ("GET", "/v1/way-back"): named("WayBackFound"),
    ("GET", "/v1/findings"): named("DiagnosisFound"),
    ("GET", "/v1/proof"): named("ProofFound"),
    ("GET", "/v1/agent"): _object(
        version=TEXT, on_offer=_or_null(TEXT), renews_itself=FLAG,
        chosen=_or_null(
            _object(version=TEXT, previous=_or_null(TEXT), state=TEXT, attempts=NUMBER)
        ),
        given_up=_list(_object(version=TEXT, times=NUMBER, at=TIME)),
    ),
    ("POST", "/v1/inspections"): named("Inspection"),
    ("GET", "/v1/inspections/{number}"): named("Inspection"),
    ("GET", "/v1/openapi.json"): _object(
        openapi=TEXT,
        info=_object(title=TEXT, version=TEXT, description=TEXT),
        servers=_list(_object(url=TEXT)),
        paths=_each(_each(named("Operation"))),
        components=_object(schemas=_each(named("Schema"))),
    ),
}  # fmt: skip
