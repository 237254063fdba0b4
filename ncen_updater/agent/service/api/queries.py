"""Requests that only look. Each takes the context and the request, and returns a document."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, cast

from packaging.version import Version

from ncen_updater.agent.config.loader import load_config
from ncen_updater.agent.config.read import read_config
from ncen_updater.agent.config.secrets import FREE_TABLES, without_password
from ncen_updater.agent.engine.approvals.model import ROOT, ApprovalCount
from ncen_updater.agent.engine.approvals.outlook import approved_beside, outlook_document
from ncen_updater.agent.engine.approvals.rollback_approvals import (
    BackSubject,
    back_subject,
    brought_by,
)
from ncen_updater.agent.engine.approvals.store import require_somebody
from ncen_updater.agent.engine.outcome import change_document
from ncen_updater.agent.engine.rehearsal.store import Rehearsals, rehearsal_document
from ncen_updater.agent.engine.soaking import in_soak
from ncen_updater.agent.policy.beginning import beginning, behind_another, with_yes
from ncen_updater.agent.policy.deeds import deed_words
from ncen_updater.agent.reports.change_lines import change_lines
from ncen_updater.agent.reports.status import SiteStatus, need, read_status
from ncen_updater.agent.service.api.context import ApiContext
from ncen_updater.agent.service.api.forms import Form, moment_of, whole_number
from ncen_updater.agent.service.api.people import ApiRole, Caller, members_of
from ncen_updater.agent.service.decision_inputs import inputs_for
from ncen_updater.agent.service.errors import BadRequest, Refused
from ncen_updater.agent.service.report import (
    REPORTED,
    change_report,
    history_report,
    lasting_failures,
    open_change,
    site_report,
)
from ncen_updater.agent.service.snapshot import ServiceSnapshot
from ncen_updater.agent.storage.inbox import Tray
from ncen_updater.agent.storage.journal.orders import Order, Orders
from ncen_updater.agent.storage.service_state import Assessment
from ncen_updater.common.documents import jsonable
from ncen_updater.common.messages import (
    NO_SUCH_THING,
    NOT_NEXT,
    NOT_REHEARSED_BY_NAME,
    TARGET_HALTED,
    TARGET_WITHDRAWN,
)
from ncen_updater.common.progress import ProgressUpdate
from ncen_updater.feed.upgrade_path import RejectionReason

#: Settings that are command lines: what stands behind the program may be anything.
COMMANDS = frozenset({"start", "stop", "status", "version_command"})


@dataclass(frozen=True)
class SettingRow:
    """One setting.

    Attributes:
        table: Its table, such as ``service`` or ``application.parts.1``; empty at the top.
        name: Its name.
        value: What is in force: a value, or a list of them.
        chosen: Whether the file says so; else it is what is meant where a file says nothing.
        hidden: Whether a part of it is not told.
    """

    table: str
    name: str
    value: object
    chosen: bool
    hidden: bool


def settings(context: ApiContext, request: Request) -> tuple[int, Document]:
    """The settings in force, without secrets; those of a file that cannot be used are refused.

    Raises:
        ConfigError: If the file cannot be used.
    """
    del request
    given = read_config(context.config).data
    whole = load_config(context.config).model_dump(mode="json", by_alias=True)
    return 200, {"settings": list(rows_of(whole, given))}


def rows_of(whole: Mapping[str, object], given: object, table: str = "") -> Iterator[SettingRow]:
    """Yield every setting of a configuration; pure.

    Args:
        whole: What is in force, with what is meant where the file says nothing.
        given: What the file says at the same place.
        table: The place.
    """
    said = given if isinstance(given, Mapping) else {}
    for name, value in whole.items():
        place = f"{table}.{name}" if table else name
        own = said.get(name)
        rows = value if isinstance(value, list) else ()
        tables = [row for row in rows if isinstance(row, Mapping)]
        for number, inner in enumerate(tables, 1):
            of_it = own[number - 1] if isinstance(own, list) and len(own) >= number else None
            yield from rows_of(inner, of_it, f"{place}.{number}")
        if isinstance(value, Mapping):
            yield from rows_of(value, own, place)
        elif not tables:
            shown, hidden = _shown(table.rpartition(".")[2], name, value)
            yield SettingRow(table, name, shown, name in said, hidden)


def _shown(table: str, name: str, value: object) -> tuple[object, bool]:
    """Return a value as it may be told, and whether something of it is not."""
    if table in FREE_TABLES:
        return None, True
    if name in COMMANDS and isinstance(value, list):
        return value[:1], len(value) > 1
    if isinstance(value, list):
        shown: object = [without_password(one) for one in value]
    else:
        shown = without_password(value)
    return shown, shown != value


Document = Mapping[str, Any]
MAX_ROWS = 10_000
#: So many times a site is looked at for one answer, while the service begins and ends work.
MOST_LOOKS = 3
#: Parts of a site that :func:`outlook` tells of.
OUTLOOK = frozenset({"journal", "soak_s", "rehearsals", "service_state"})


@dataclass(frozen=True)
class Request:
    """One request, after everything that can be judged without the site was judged.

    Attributes:
        caller: Who asks.
        path: The address, for words.
        names: Parts of the address.
        query: What stands behind the question mark.
        form: The body.
        language: Of sentences in the answer.
        last_event: Where a listener wants to go on.
    """

    caller: Caller
    path: str
    names: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    form: Form | None = None
    language: str = "en"
    last_event: str | None = None

    def limit(self) -> int:
        """How many rows are wanted."""
        return whole_number(self.query.get("limit"), "limit", 50, MAX_ROWS, 1)


@dataclass(frozen=True)
class Page:
    """An answer that is a page of HTML: whole in itself, and without scripts."""

    content: bytes


#: Status of HTTP, and the document.
Handler = Callable[[ApiContext, Request], tuple[int, Document | Page]]


def status(context: ApiContext, request: Request) -> tuple[int, Document]:
    """What runs, what was done last, what is on offer, and what the service does."""
    looked, moment = _of_one_moment(context)
    document, _ = site_report(looked, request.language)
    settings, known = context.snapshots.settings, context.service_state()
    caller = request.caller
    you = {
        "who": caller.person.who,
        "uid": caller.person.uid,
        "roles": sorted(role.value for role in caller.roles),
        "missing": {
            role.value: {"group": group, "members": members_of(group)}
            for role, group in caller.groups.items()
            if role not in caller.roles
        },
    }
    service = {
        "mode": settings.mode,
        "timezone": settings.timezone,
        **moment_document(moment, request.language),
        "said": [
            {"tell": told.template, "values": told.values, "seconds": round(seconds, 3)}
            for told, seconds in (moment.running.said if moment.running else ())
        ],
        "failures": [
            {"action": action.value, "what": deed_words(action).render(request.language),
             "code": failure.code, "times": failure.times, "at": failure.at,
             "again_at": failure.again_at(action)}
            for action, failure in lasting_failures(
                known.failures, known.assessment, looked
            )
        ],
    }  # fmt: skip
    return 200, {**document, "service": service, "you": you}


def _of_one_moment(context: ApiContext) -> tuple[SiteStatus, ServiceSnapshot]:
    """Read the site and what the service does; again where it did something else meanwhile."""
    moment = context.snapshots.latest()
    for _ in range(MOST_LOOKS):
        before = moment
        looked = read_status(context.places, context.now(), REPORTED, ask=context.ask)
        moment = context.snapshots.latest()
        if _work_of(before) == _work_of(moment):
            break
    return looked, moment


def _work_of(moment: ServiceSnapshot) -> tuple[tuple[str, ...], datetime] | None:
    """What goes on, whatever it says of itself."""
    running = moment.running
    return None if running is None else (running.words, running.since)


def progress_document(told: ProgressUpdate | None) -> dict[str, object] | None:
    """Return what work said last of itself as JSON has it."""
    if told is None:
        return None
    return {
        "tell": told.template, "values": told.values, "done": told.done, "total": told.total,
    }  # fmt: skip


def moment_document(moment: ServiceSnapshot, language: str) -> dict[str, object]:
    """Return what goes on just now as JSON has it, with its reason in a language."""
    running = moment.running
    progress = progress_document(running.told if running else None)
    return {
        "action": moment.action,
        "why": moment.why and moment.why.render(language),
        "looked_at": moment.looked_at,
        "running": running
        and {
            "words": running.words, "since": running.since, "progress": progress,
            "what": deed_words(running.words[0]).render(language),
        },
    }  # fmt: skip


def right(context: ApiContext, request: Request) -> tuple[int, Document]:
    """Whether who asks has a right; refused as what takes it would be.

    Raises:
        Refused: If they have not.
        RootIsNobody: If their approval could be anybody's, where two people have to approve.
    """
    role, person = ApiRole(request.names["role"]), request.caller.person
    request.caller.require(role)
    if role is ApiRole.APPROVE:
        needed = context.snapshots.settings.approvals
        require_somebody(person, needed, ROOT | {os.geteuid()})
    return 200, {"who": person.who, "role": role.value}


def outlook(context: ApiContext, request: Request) -> tuple[int, Document]:
    """What comes next here, or a release that was rehearsed, and what it waits for.

    With a time: when it would begin if somebody chose that.

    Raises:
        NotNext: If the release that is named cannot be approved.
        BadRequest: If the time is none.
    """
    chosen = moment_of(request.query.get("not_before"), "not_before")
    status = read_status(context.places, context.now(), OUTLOOK)
    service_state, journal, known = need(status.service_state), need(status.journal), status.next
    found = known or Assessment(event=0)
    named = request.query.get("version")
    if named is not None:
        found = named_release(found, named)
        service_state = replace(service_state, assessment=found)
        status = replace(status, service_state=service_state)
    facts = inputs_for(status, service_state, context.snapshots.settings, context.now())
    if chosen is not None:
        facts = replace(facts, not_before=chosen)
    approved = known.approved if known else ()
    people = journal.people(found.binding, context.snapshots.settings.approvals)
    begins = behind_another(beginning(facts), found.target, approved)
    return 200, {
        "up_to_date": known is not None and found.event == journal.event,
        "checked_at": service_state.checked_at,
        "next_check": service_state.next_check,
        "agent": found.agent,
        "prepared": found.prepared,
        **outlook_document(
            current=found.current,
            target=found.target,
            rehearsed=found.rehearsed if known else None,
            plan=found.plan or str((found.basis or {}).get("plan", "")),
            binding=found.binding,
            bad_until=found.bad_until,
            voids=found.voids,
            people=people,
            scheduled=journal.scheduled(found.binding) if found.binding else None,
            rehearsal=status.rehearsal,
            begins=begins.to_json(),
            begins_after_yes=with_yes(
                facts, begins, counts=people.adds(request.caller.person.uid)
            ).to_json(),
            newest=known.newest if known and known.newest != found.target else None,
            approved=approved_beside(found.target, approved),
            gone=known.gone if known else (),
            used_up=journal.used_up,
            open_change=open_change(status),
        ),
    }


def approvals(context: ApiContext, request: Request) -> tuple[int, Document]:
    """Who has said yes to what can be approved now, how many are missing, and who may."""
    status = read_status(context.places, context.now(), {"journal", "service_state"})
    journal, known = need(status.journal), need(status.service_state).assessment
    settings, asks = context.snapshots.settings, request.caller
    needed, group = settings.approvals, settings.approve_group
    nobody = ROOT | {os.geteuid()} if needed > 1 else frozenset()
    upgrade = rollback = None
    if known is not None and known.target is not None and known.binding:
        people = journal.people(known.binding, needed)
        upgrade = {
            "version": known.target, "binding": known.binding, **_given(people, asks),
            "missing": people.missing,
        }  # fmt: skip
    back = _rollback(context, known)
    if back is not None:
        rollback = {
            "from": back.origin, "to": back.target, "undoes": back.undoes,
            "binding": back.binding, **_given(back.people, asks), "watched": back.watched,
            "missing": 0 if back.watched else back.people.missing,
        }  # fmt: skip
    return 200, {
        "needed": needed,
        "group": group,
        "members": members_of(group),
        "you": {
            "who": asks.person.who,
            "may": ApiRole.APPROVE in asks.roles and asks.person.uid not in nobody,
        },
        "upgrade": upgrade,
        "rollback": rollback,
    }


def _given(people: ApprovalCount, asks: Caller) -> dict[str, object]:
    return {
        "approvals": [{"who": one.who, "uid": one.uid, "at": one.at} for one in people.given],
        "yours": any(one.uid == asks.person.uid for one in people.given),
    }


def _rollback(context: ApiContext, known: Assessment | None) -> BackSubject | None:
    """The rollback that can be approved; None where there is nothing to go back from."""
    if known is None or known.current is None:
        return None
    with context.reading() as journal:
        if brought_by(journal, known.current) is None:
            return None
        return back_subject(journal, known.current, context.snapshots.settings.approvals)


def named_release(known: Assessment, version: str) -> Assessment:
    """Return what is known of a release that can be approved.

    Raises:
        BadRequest: If it is no version.
        Refused: If it cannot.
    """
    try:
        found = known.of(version[:50])
    except ValueError as error:
        raise BadRequest(reason="version: not a version") from error
    if found is None:
        raise _not_approvable(known, version[:50])
    return found


def _not_approvable(known: Assessment, version: str) -> Refused:
    """Why a release cannot be approved: it is kept back, or it was not rehearsed here."""
    kept = {
        RejectionReason.HALTED.value: TARGET_HALTED,
        RejectionReason.WITHDRAWN.value: TARGET_WITHDRAWN,
    }
    for one in known.barred:
        if Version(one.version) == Version(version) and one.reason in kept:
            return Refused(kept[one.reason], version=version, reason=one.why)
    if known.target is None:
        return Refused(NOT_REHEARSED_BY_NAME, version=version)
    return Refused(NOT_NEXT, version=version, target=known.target)


def confirmation(context: ApiContext, request: Request) -> tuple[int, Document]:
    """The change whose watched time can be ended."""
    del request
    with context.reading() as journal:
        return 200, {"confirmed": False, "change": change_document(in_soak(journal))}


def holds(context: ApiContext, request: Request) -> tuple[int, Document]:
    """Holds in force."""
    del request
    status = read_status(context.places, context.now(), {"journal"})
    return 200, {"holds": need(status.journal).holds}


def history(context: ApiContext, request: Request) -> tuple[int, Document]:
    """Changes, and imports of bundles, newest first."""
    before = request.query.get("before")
    with context.reading() as journal:
        try:
            return 200, history_report(journal, request.limit(), before)
        except KeyError as error:
            raise BadRequest(reason="no such change in this journal") from error


def change(context: ApiContext, request: Request) -> tuple[int, Document]:
    """One change whole."""
    with context.reading() as journal:
        try:
            report = change_report(journal, request.names["id"])
        except KeyError as error:
            raise Refused(NO_SUCH_THING, path=request.path) from error
    # As JSON has it, which is what the lines are made of.
    told = cast("Document", jsonable(report, request.language))
    lines = [line.render(request.language).strip() for line in change_lines(told, request.language)]
    return 200, {**report, "words": lines}


def rehearsals(context: ApiContext, request: Request) -> tuple[int, Document]:
    """Rehearsals, newest first."""
    with context.reading() as journal:
        found = Rehearsals(journal).all(request.limit())
        return 200, {"rehearsals": [rehearsal_document(record) for record in found]}


def order_document(found: Order) -> dict[str, object]:
    """Return an order as JSON has it, without what it came to."""
    return {
        "id": found.id,
        "kind": found.kind.value,
        "data": found.data,
        "who": found.person.who,
        "uid": found.person.uid,
        "at": found.at,
        "taken_at": found.taken_at,
        "ended_at": found.ended_at,
    }


def orders(context: ApiContext, request: Request) -> tuple[int, Document]:
    """Orders, newest first."""
    with context.reading() as journal:
        found = Orders(journal).newest(request.limit())
        return 200, {"orders": [order_document(one) for one in found]}


def order(context: ApiContext, request: Request) -> tuple[int, Document]:
    """One order, and what it came to."""
    number = int(request.names["number"])
    with context.reading() as journal:
        event = journal.last_event()
        found = Orders(journal).order(number)
    if found is None:
        raise Refused(NO_SUCH_THING, path=request.path)
    return 200, {**order_document(found), "event": event, "result": found.result}


def tray(context: ApiContext, request: Request) -> tuple[int, Document]:
    """What lies in the tray, newest first, and which of it whoever asks may have imported."""
    place, caller = Tray(context.places.state), request.caller
    files, more = place.files(caller.person.uid)
    rows = [
        {
            "name": file.name, "size_bytes": file.size_bytes, "since": file.since,
            "owner": file.owner, "yours": file.why_not is None, "why_not": file.why_not,
        }
        for file in files
    ]  # fmt: skip
    return 200, {"directory": str(place.path), "files": rows, "more": more}
