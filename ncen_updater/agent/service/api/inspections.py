"""Requests that have the site looked at by a child, and what is known of the agent itself.

Whatever is asked, nothing is changed. Who may see what: everybody who may look sees what people are
asked to decide on; the support bundle, which quotes the log, is for those who operate.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version as installed

from packaging.version import InvalidVersion, Version

from ncen_updater.agent.engine.permitted import require_no_change
from ncen_updater.agent.model.change import ChangeState
from ncen_updater.agent.model.errors import RecordUnusable
from ncen_updater.agent.service.api.context import ApiContext
from ncen_updater.agent.service.api.forms import InspectionForm, validated, whole_number
from ncen_updater.agent.service.api.people import ApiRole
from ncen_updater.agent.service.api.queries import Document, Page, Request, progress_document
from ncen_updater.agent.service.errors import (
    UNCHANGED,
    BadRequest,
    Refused,
    refusal,
)
from ncen_updater.agent.service.inspecting import (
    ALWAYS,
    Inspection,
    InspectionKind,
    InspectionOrder,
)
from ncen_updater.agent.storage.agent_selection import SequenceFile
from ncen_updater.agent.storage.slots.records import Records
from ncen_updater.common.documents import error_document
from ncen_updater.common.i18n import Text
from ncen_updater.common.messages import (
    INSPECTION_GOES_ON,
    NO_SUCH_THING,
    NOT_ASSESSED,
    NOT_PREPARED,
)

#: What one needs beside the right to look.
ROLES: Mapping[InspectionKind, ApiRole] = {InspectionKind.SUPPORT_BUNDLE: ApiRole.OPERATE}
#: An address that answers with what was found waits so long; after that it tells a number.
WAIT_S = 30.0
#: Longest that somebody may wait for an inspection by its number.
MAX_WAIT_S = 30
#: What a kind takes beside a language.
TAKES: Mapping[InspectionKind, frozenset[str]] = {
    InspectionKind.PLAN: frozenset({"version", "retry"}),
    InspectionKind.DOSSIER: frozenset({"version"}),
    InspectionKind.WAY_BACK: frozenset({"accept_loss"}),
    InspectionKind.FINDINGS: frozenset(),
    InspectionKind.VERIFY: frozenset({"heads"}),
    InspectionKind.PROOF: frozenset({"heads"}),
    InspectionKind.SUPPORT_BUNDLE: frozenset({"leave_out", "show"}),
}


def order_inspection(context: ApiContext, request: Request) -> tuple[int, Document]:
    """Have something looked at; the one that is under way, if it is the same."""
    form = request.form
    assert isinstance(form, InspectionForm)  # noqa: S101 - the table of routes says so
    return 202, _document(_begun(context, request, form), request.language)


def inspection(context: ApiContext, request: Request) -> tuple[int, Document]:
    """One inspection, and what it found; with 'wait', once it has ended or that time is over."""
    seconds = whole_number(request.query.get("wait"), "wait", 0, MAX_WAIT_S)
    found = context.inspections.find(int(request.names["number"]))
    if found is None:
        raise Refused(NO_SUCH_THING, path=request.path)
    _require(request, found.order.kind)
    context.inspections.wait(found, seconds)
    return 200, _document(found, request.language)


def plan(context: ApiContext, request: Request) -> tuple[int, Document]:
    """The plan of the release that comes next, or of a named one, with every statement."""
    return 200, _found(context, request, {"kind": "plan", **_named(request)})


def dossier(context: ApiContext, request: Request) -> tuple[int, Document | Page]:
    """What people decide on: its facts, its page, and the binding of approvals."""
    form = request.query.get("form", "json")
    if form not in ("json", "html"):
        raise BadRequest(reason="form is not json or html")
    found = _found(context, request, {"kind": "dossier", **_named(request)})
    if form == "html":
        return 200, Page(str(found["html"]).encode())
    return 200, found


def way_back(context: ApiContext, request: Request) -> tuple[int, Document]:
    """How a rollback would go, what it would lose, and who has to approve it yet."""
    return 200, _found(context, request, {"kind": "way-back"})


def findings(context: ApiContext, request: Request) -> tuple[int, Document]:
    """Everything that would stand in the way of an upgrade."""
    return 200, _found(context, request, {"kind": "findings"})


def proof(context: ApiContext, request: Request) -> tuple[int, Document]:
    """Whether the journal is whole, and holds an event that somebody kept elsewhere."""
    head = request.query.get("head")
    return 200, _found(context, request, {"kind": "proof", "heads": [] if head is None else [head]})


def notes(context: ApiContext, request: Request) -> tuple[int, Document]:
    """What the Secretariat says of the release that comes next, or of a named one."""
    known = context.assessment()
    wanted = request.query.get("version") or (known.target or known.current if known else None)
    if wanted is None:
        raise Refused(NOT_ASSESSED)
    try:
        version = Version(wanted[:50])
    except InvalidVersion as error:
        raise BadRequest(reason="version: not a version") from error
    records = Records(context.places.slots)
    if not records.exists(version):
        raise Refused(NOT_PREPARED, version=version)
    try:
        manifest = records.document(version).manifest
    except RecordUnusable as error:
        error.state = UNCHANGED
        raise
    return 200, {
        "product": manifest.product,
        "version": manifest.version,
        "required": manifest.required,
        "urgency": manifest.urgency.value,
        "notes": {
            language: {"title": said.title, "text": said.text}
            for language, said in manifest.notes.items()
        },
    }


def agent(context: ApiContext, request: Request) -> tuple[int, Document]:
    """The agent itself: which one runs, which is chosen, and what is on offer."""
    del request
    sequence = SequenceFile(context.agent).load()
    known = context.assessment()
    return 200, {
        "version": installed("ncen-updater"),
        "on_offer": known.agent if known else None,
        "renews_itself": context.snapshots.settings.self_update,
        "chosen": sequence
        and {
            "version": sequence.current,
            "previous": sequence.previous,
            "state": sequence.state.value,
            "attempts": sequence.attempts,
        },
        "given_up": [
            {"version": version, "times": bad.times, "at": bad.at}
            for version, bad in (sequence.bad.items() if sequence else ())
        ],
    }


# ---- parts ---------------------------------------------------------------------------------------


def _named(request: Request) -> dict[str, object]:
    version = request.query.get("version")
    return {} if version is None else {"version": version}


def _require(request: Request, kind: InspectionKind) -> None:
    request.caller.require(ROLES.get(kind, ApiRole.READ))


def _begun(context: ApiContext, request: Request, form: InspectionForm) -> Inspection:
    """Begin an inspection.

    Raises:
        Refused: If this person may not see it.
        BadRequest: If something is said that means nothing for its kind.
        OpenChange: If a change is open which the service brings to its end; one that is stuck waits
            for a person, who has to see why, and while a release is watched one may look.
        Refused: If too many are open.
    """
    kind = InspectionKind(form.kind)
    _require(request, kind)
    given = form.model_dump(exclude={"kind", "language"}, exclude_defaults=True)
    for name in given.keys() - TAKES[kind]:
        raise BadRequest(
            reason=Text("{value} takes no {name}", {"value": kind.value, "name": name})
        )
    if kind not in ALWAYS:
        with context.reading() as journal:
            change = journal.open_change()
            looked_at = change is not None and (change.state is ChangeState.STUCK or change.watched)
            if not looked_at:
                require_no_change(journal)
    order = InspectionOrder(
        kind=kind,
        version=form.version,
        retry=form.retry,
        heads=tuple(form.heads),
        accept_loss=form.accept_loss,
        leave_out=tuple(form.leave_out),
        show=tuple(form.show),
        language=form.language,
    )
    return context.inspections.begin(order, request.caller.person)


def _found(context: ApiContext, request: Request, data: Mapping[str, object]) -> Document:
    """Have something looked at, and return what was found.

    Raises:
        Refused: If that takes longer; its number tells where to ask.
        UpdaterError: Why nothing was found.
    """
    form = validated(InspectionForm, {**data, "language": request.language})
    begun = _begun(context, request, form)
    context.inspections.wait(begun, WAIT_S)
    if begun.ended_at is None:
        raise Refused(INSPECTION_GOES_ON, number=begun.number)
    if begun.error is not None:
        begun.error.state = UNCHANGED
        raise begun.error
    document = begun.document or {}
    error = document.get("error")
    if isinstance(error, dict):
        raise refusal({**error, "exit_code": begun.exit_code})
    return {key: value for key, value in document.items() if key != "words"}


def _document(found: Inspection, language: str) -> dict[str, object]:
    result = None
    if found.ended_at is not None and found.error is None:
        result = {"exit_code": found.exit_code, "document": found.document}
    elif found.error is not None:
        said = error_document(found.error, [UNCHANGED], language)
        result = {"exit_code": int(found.error.exit_code), "document": {"error": said}}
    return {
        "id": found.number,
        "kind": found.order.kind.value,
        "who": found.person.who,
        "uid": found.person.uid,
        "begun_at": found.begun_at,
        "ended_at": found.ended_at,
        "progress": progress_document(found.told),
        "result": result,
    }
