"""Requests that change something: each writes one record into the journal, and wakes the service.

What takes longer than that is an order, which the service carries out.
"""

from __future__ import annotations

import os

from packaging.version import InvalidVersion, Version

from ncen_updater.agent.engine.approvals.model import ROOT
from ncen_updater.agent.engine.approvals.rollback_approvals import (
    BackRequest,
    BackSubject,
    approve_back,
    back_subject,
    brought_by,
    require_back,
    require_loss,
)
from ncen_updater.agent.engine.approvals.store import ApprovalStore
from ncen_updater.agent.engine.outcome import change_document
from ncen_updater.agent.engine.pending_rollback import may_be_left
from ncen_updater.agent.engine.permitted import require_no_change, require_no_hold
from ncen_updater.agent.engine.soaking import confirm as confirm_soak
from ncen_updater.agent.model.change import ChangeState
from ncen_updater.agent.reports.status import need, read_status
from ncen_updater.agent.service.api.context import ApiContext
from ncen_updater.agent.service.api.forms import ApprovalForm, HoldForm, OrderForm, ScheduleForm
from ncen_updater.agent.service.api.people import ApiRole, Caller
from ncen_updater.agent.service.api.queries import Document, Request, named_release, order_document
from ncen_updater.agent.service.errors import BadRequest, Refused
from ncen_updater.agent.storage.inbox import Tray
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.orders import OrderKind, Orders
from ncen_updater.agent.storage.journal.site_history import SiteHistory
from ncen_updater.agent.storage.service_state import Assessment
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import Text
from ncen_updater.common.messages import (
    ALREADY_ORDERED,
    BINDING_CHANGED,
    FEED_NEVER_READ,
    LOSS_FOR_APPROVERS,
    NOT_ASSESSED,
    NOT_REHEARSED,
    NOTHING_TO_APPROVE,
    TOO_MANY_ORDERS,
)

MOST_ORDERS = 20
#: Where one person is enough, whoever may approve agrees by ordering it.
_CONSENTED = frozenset({OrderKind.UPGRADE, OrderKind.ROLLBACK})
#: What is not begun beside a change.
_ALONE = frozenset({OrderKind.UPGRADE, OrderKind.ROLLBACK, OrderKind.REHEARSE})


def hold(context: ApiContext, request: Request) -> tuple[int, Document]:
    """Forbid upgrades."""
    form, person = request.form, request.caller.person
    assert isinstance(form, HoldForm)  # noqa: S101 - the table of routes says so
    if form.until is not None and form.until <= context.now():
        raise BadRequest(reason="until has passed")
    reason = form.reason.strip()
    with context.writing() as journal:
        SiteHistory(journal).hold(reason, person.who, form.until)
    context.wake()
    return 201, {"held": True, "reason": reason, "by": person.who, "until": form.until}


def unhold(context: ApiContext, request: Request) -> tuple[int, Document]:
    """Allow upgrades again."""
    with context.writing() as journal:
        count = SiteHistory(journal).lift_holds(request.caller.person.who)
    context.wake()
    return 200, {"held": False, "lifted": count}


def _seen(
    context: ApiContext, binding: str, version: str | None, event: int
) -> tuple[Assessment, str]:
    """Return what can be approved now, if it is what was seen.

    Databases are not asked: what is begun is compared with what was approved once more then.

    Raises:
        NotAssessed: If the service does not know what comes next.
        FeedNeverRead: If what is on offer is not known.
        NothingToApprove, NotRehearsed, NotNext: If there is nothing of that kind.
        BindingChanged: If it is something else than what was seen.
    """
    found = context.assessment()
    if found is None:
        raise Refused(NOT_ASSESSED)
    if version is not None:
        found = named_release(found, version)
    else:
        found = next((one for one in found.others if one.binding == binding), found)
    if found.target is None:
        if need(read_status(context.places, context.now(), {"view"}).view) is None:
            raise UpdaterError(FEED_NEVER_READ)
        raise UpdaterError(NOTHING_TO_APPROVE, current=str(found.current))
    if not found.binding or found.basis is None:
        if found.event != event:
            raise Refused(NOT_ASSESSED)  # something happened since, such as a rehearsal that passed
        raise UpdaterError(NOT_REHEARSED, version=found.target)
    if binding != found.binding:
        raise Refused(BINDING_CHANGED)
    return found, found.target


def approve(context: ApiContext, request: Request) -> tuple[int, Document]:
    """Say yes to what was seen; who had done so before changes nothing."""
    form, person = request.form, request.caller.person
    assert isinstance(form, ApprovalForm)  # noqa: S101 - the table of routes says so
    needed, nobody = context.snapshots.settings.approvals, ROOT | {os.geteuid()}
    if form.accept_loss is not None and form.of != "rollback":
        raise BadRequest(reason="accept_loss belongs to a rollback")
    with context.writing() as journal:
        if form.of == "rollback":
            back = _back(context, journal)
            if form.binding != back.binding:
                raise Refused(BINDING_CHANGED)
            given = approve_back(journal, back, person, nobody, form.accept_loss or 0)
            context.wake()
            document = {"given": given, "version": back.target, "binding": back.binding}
            return (201 if given else 200), document
        found, target = _seen(context, form.binding, form.version, journal.last_event())
        basis = found.basis or {}
        given = ApprovalStore(journal).approve(found.binding, target, basis, person, needed, nobody)
    context.wake()
    return (201 if given else 200), {"given": given, "version": target, "binding": found.binding}


def _back(context: ApiContext, journal: Journal) -> BackSubject:
    """Return the rollback that can be approved, by what the service saw last.

    Raises:
        NotAssessed: If it does not know what runs.
        BindingChanged: If there is nothing to go back from, so that nobody can have seen it.
    """
    found = context.assessment()
    if found is None or found.current is None:
        raise Refused(NOT_ASSESSED)
    if brought_by(journal, found.current) is None:
        raise Refused(BINDING_CHANGED)
    return back_subject(journal, found.current, context.snapshots.settings.approvals)


def withdraw(context: ApiContext, request: Request) -> tuple[int, Document]:
    """Take one's own yes back, whatever stands now."""
    with context.writing() as journal:
        count = ApprovalStore(journal).withdraw(request.names["binding"], request.caller.person)
    context.wake()
    return 200, {"withdrawn": count}


def take_back(context: ApiContext, request: Request) -> tuple[int, Document]:
    """Take back every yes of one's own: to upgrades, or to going back; whatever is on offer."""
    of = request.query.get("of", "upgrade")
    if of not in ("upgrade", "rollback"):
        raise BadRequest(reason="of: upgrade or rollback")
    named, person = request.query.get("version"), request.caller.person
    if named is not None and of == "rollback":
        raise BadRequest(reason="a rollback takes no version")
    try:
        version = None if named is None else Version(named if len(named) <= 50 else "")
    except InvalidVersion as error:
        raise BadRequest(reason="version: not a version") from error
    with context.writing() as journal:
        count = ApprovalStore(journal).take_back(person, version, back=of == "rollback")
    context.wake()
    return 200, {"withdrawn": count}


def schedule(context: ApiContext, request: Request) -> tuple[int, Document]:
    """Choose when what was seen may begin."""
    form = request.form
    assert isinstance(form, ScheduleForm)  # noqa: S101 - the table of routes says so
    if form.not_before <= context.now():
        raise BadRequest(reason="not_before has passed")
    with context.writing() as journal:
        found, target = _seen(context, form.binding, form.version, journal.last_event())
        person = request.caller.person
        ApprovalStore(journal).schedule(found.binding, target, form.not_before, person)
    context.wake()
    return 200, {"version": target, "binding": found.binding, "not_before": form.not_before}


def cancel(context: ApiContext, request: Request) -> tuple[int, Document]:
    """Take the chosen time back."""
    with context.writing() as journal:
        count = ApprovalStore(journal).cancel_schedule(request.caller.person)
    context.wake()
    return 200, {"cancelled": count}


def confirm(context: ApiContext, request: Request) -> tuple[int, Document]:
    """End the watched time."""
    with context.writing() as journal:
        change = confirm_soak(journal, request.caller.person.who)
    context.wake()
    return 200, {"confirmed": True, "change": change_document(change)}


def give_order(context: ApiContext, request: Request) -> tuple[int, Document]:
    """Write down what the service is to do."""
    form, caller = request.form, request.caller
    assert isinstance(form, OrderForm)  # noqa: S101 - the table of routes says so
    _fits(form)
    kind = OrderKind(form.kind)
    meant = OrderKind.ROLLBACK if form.of == "rollback" else kind
    data = form.model_dump(exclude={"kind"}, exclude_defaults=True)
    if kind in _CONSENTED and ApiRole.APPROVE in caller.roles:
        data["by_approver"] = True
    with context.writing() as journal:
        if form.accept_loss:
            _may_lose(context, journal, caller, form.accept_loss)
        orders = Orders(journal)

        def guard() -> None:
            _may_begin(context, journal, meant, goes=kind is OrderKind.ROLLBACK)
            if kind is OrderKind.ROLLBACK:
                _agreed(context, journal, caller, form.emergency)
            if form.file is not None:
                Tray(context.places.state).require_file(form.file, caller.person.uid)
            _not_twice(journal, kind)

        number = orders.give(kind, data, caller.person, guard)
        event = journal.last_event()
        given = orders.order(number)
    assert given is not None  # noqa: S101 - written above
    context.wake()
    return 202, {**order_document(given), "event": event}


def _fits(form: OrderForm) -> None:
    """Refuse details that mean nothing for a kind."""
    back = form.kind == "rollback" or form.of == "rollback"
    if form.of != "upgrade" and form.kind != "prepare":
        raise BadRequest(reason="of belongs to a prepare")
    if form.accept_loss is not None and not back:
        raise BadRequest(reason="accept_loss belongs to a rollback")
    if form.undoes is not None and form.kind != "rollback":
        raise BadRequest(reason="undoes belongs to a rollback")
    if form.emergency is not None and form.kind != "rollback":
        raise BadRequest(reason="emergency belongs to a rollback")
    if (form.kind == "import") is (form.file is None):
        raise BadRequest(reason="an import takes a file, and nothing else does")
    if form.dry_run and form.kind != "import":
        raise BadRequest(reason="dry_run belongs to an import")
    if (back or form.kind in ("check", "resume", "import")) and (form.version or form.retry):
        raise BadRequest(reason=Text("a {kind} takes no version", {"kind": form.kind}))


def _may_begin(context: ApiContext, journal: Journal, kind: OrderKind, *, goes: bool) -> None:
    """Refuse at once what would be refused later.

    Raises:
        OpenChange: If a change is open, which the service brings to its end first; one that is
            stuck may be resumed or rolled back, and an order to go back (``goes``) ends the
            watching of a release.
        Held: If upgrades are on hold.
    """
    change, back = journal.open_change(), kind is OrderKind.ROLLBACK
    if change is not None and goes and change.watched and may_be_left(journal, change):
        return
    if kind in _ALONE and not (back and change and change.state is ChangeState.STUCK):
        require_no_change(journal)
    if kind is OrderKind.UPGRADE:
        require_no_hold(journal, context.now(), context.snapshots.settings.zone())


def _agreed(context: ApiContext, journal: Journal, caller: Caller, emergency: str | None) -> None:
    """Refuse at once a rollback that people have to approve yet; it is asked again when it begins.

    Raises:
        BackNeedsApproval: If so.
    """
    found = context.assessment()
    if found is None or found.current is None or emergency is not None:
        return
    if brought_by(journal, found.current) is None:
        return  # that there is nothing to go back from is for the work to say
    back = _back(context, journal)
    require_back(journal, back, BackRequest(caller.person, ApiRole.APPROVE in caller.roles))


def _may_lose(context: ApiContext, journal: Journal, caller: Caller, count: int) -> None:
    """Refuse whoever agrees to a loss that nobody who may has agreed to.

    Raises:
        LossNotAgreed: If they may not approve, and those who have to approve it have not all
            agreed to so many records.
        Refused: If they may not approve, and nobody else can: the loss is an approver's to take.
    """
    if ApiRole.APPROVE in caller.roles:
        return
    found = context.assessment()
    current = found.current if found is not None else None
    back = None
    if current is not None and brought_by(journal, current) is not None:
        back = _back(context, journal)
    if back is None or back.watched or (back.people.needed < 2 and not back.people):
        caller.require(ApiRole.APPROVE, LOSS_FOR_APPROVERS, count=count)
    else:
        require_loss(back, count)


def _not_twice(journal: Journal, kind: OrderKind) -> None:
    waiting = Orders(journal).unended()
    for given in waiting:
        if given.kind is kind:
            raise Refused(ALREADY_ORDERED, order=given.id, who=given.person.who)
    if len(waiting) >= MOST_ORDERS:
        raise Refused(TOO_MANY_ORDERS, count=len(waiting))
