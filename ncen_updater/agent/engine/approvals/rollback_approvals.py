"""Approvals of a rollback: how many it needs, and those in the journal. Light.

A rollback needs as many approvals as an upgrade (``service.required_approvals``): it interrupts
users, and may bring an old security hole back. It needs none in the soak period or while a change
is stuck, because that is what the soak period is for; and none in an emergency, which is notified
to everybody at once instead.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from enum import StrEnum

from packaging.version import Version

from ncen_updater.agent.engine.approvals.approval import (
    SHARED_UIDS,
    ApprovalCount,
    count_accepted_loss,
    count_approvals,
)
from ncen_updater.agent.engine.approvals.approval_store import ApprovalStore, read_accepted_loss
from ncen_updater.agent.engine.change_guards import find_last_upgrade, require_no_open_change
from ncen_updater.agent.engine.pending_rollback import find_pending_rollback
from ncen_updater.agent.model.change import Actor, Change, ChangeKind
from ncen_updater.agent.model.event_names import ROLLBACK_EMERGENCY
from ncen_updater.agent.storage.journal.jobs import JobKind, JobQueue
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.rows import guard_reads
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import (
    DATA_LOSS_ABOVE_APPROVAL,
    EMERGENCY_WITHOUT_REASON,
    NOTHING_TO_ROLL_BACK,
    ROLLBACK_NEEDS_APPROVAL,
)


@dataclass(frozen=True)
class RollbackRequest:
    """Who asks for a rollback, and how.

    Attributes:
        actor: Who.
        may_approve: Whether they may approve.
        emergency_reason: Why it cannot wait; None where it can.
        accept_loss: So many records may be lost, says who asks.
    """

    actor: Actor
    may_approve: bool
    emergency_reason: str | None = None
    accept_loss: int = 0


@dataclass(frozen=True)
class RollbackSubject:
    """A rollback that can be approved.

    Attributes:
        undoes: The upgrade that it undoes.
        origin: The release in use.
        target: The release that is gone back to.
        count: Who approved it.
        in_soak: Whether the upgrade is still watched, so that nobody has to.
        accepted_loss: So many records may be lost by all who approved it; 0 until they are enough.
    """

    undoes: str
    origin: str
    target: str
    count: ApprovalCount
    in_soak: bool
    accepted_loss: int = 0

    @property
    def binding(self) -> str:
        """Return what approvals of it carry."""
        return compute_rollback_binding(self.undoes, self.origin, self.target)

    @property
    def approver_names(self) -> str:
        """Names of those who approved it; empty where nobody did."""
        return ", ".join(given.actor for given in self.count.approvals)

    def to_json(self) -> dict[str, object]:
        """Return who has approved and who is missing, as JSON has it."""
        return {
            "binding": self.binding,
            "in_soak": self.in_soak,
            "approvals": [{"actor": given.actor, "at": given.at} for given in self.count.approvals],
            "missing": 0 if self.in_soak else self.count.missing,
        }


def find_installing_upgrade(journal: Journal, current: str) -> Change | None:
    """Return the upgrade that brought the release in use; only upgrades to it are read whole.

    Raises:
        JournalUnreadableError: If the journal holds what no agent wrote.
    """
    wanted = Version(current)
    with guard_reads(journal.path):
        rows = journal.query(
            f"SELECT id, to_version FROM changes WHERE kind = '{ChangeKind.UPGRADE}'"  # noqa: S608
            " ORDER BY rowid DESC"
        )
        found = (journal.read_change(r["id"]) for r in rows if Version(r["to_version"]) == wanted)
        return next((change for change in found if find_last_upgrade((change,), wanted)), None)


def find_rollback_to_approve(journal: Journal, current: str, needed: int) -> RollbackSubject:
    """Return the rollback that can be approved now.

    Args:
        journal: The journal.
        current: The release in use.
        needed: How many people have to approve.

    Raises:
        NOTHING_TO_ROLL_BACK: If no upgrade brought the release in use.
    """
    upgrade = find_installing_upgrade(journal, current)
    if upgrade is None:
        raise UpdaterError(NOTHING_TO_ROLL_BACK)
    binding = compute_rollback_binding(upgrade.id, current, upgrade.from_version)
    given = ApprovalStore(journal).list_for_rollbacks()
    people = count_approvals((one.approval for one in given), binding, needed)
    watched = journal.find_open_change() is not None or find_pending_rollback(journal) is not None
    return RollbackSubject(
        upgrade.id,
        current,
        upgrade.from_version,
        people,
        watched,
        count_accepted_loss(given, people),
    )


def approve_rollback(
    journal: Journal,
    subject: RollbackSubject,
    actor: Actor,
    shared_uids: frozenset[int] = SHARED_UIDS,
    accept_loss: int = 0,
) -> bool:
    """Write a person's approval of a rollback; False where they had given it.

    An approval with another number of records replaces the earlier one.

    Args:
        journal: Open to write.
        subject: The rollback.
        actor: Who says yes.
        shared_uids: As for :meth:`ApprovalStore.add`.
        accept_loss: So many records may be lost.

    Raises:
        OPEN_CHANGE: If a change is open.
        APPROVER_IS_SHARED_ACCOUNT: If it could be anybody's, where two people have to approve.
    """
    store = ApprovalStore(journal)
    basis: dict[str, object] = {
        "rollback": subject.undoes, "from": subject.origin, "to": subject.target,
    }  # fmt: skip
    if accept_loss:
        basis["accept_loss"] = accept_loss
    before = [
        one.accept_loss for one in store.list_for_rollbacks()
        if (one.approval.binding, one.approval.uid) == (subject.binding, actor.uid)
    ]  # fmt: skip
    if before and before[-1] != accept_loss:
        require_no_open_change(journal)
        store.withdraw(subject.binding, actor)
    return store.add(
        subject.binding,
        f"back to {subject.target}",
        basis,
        actor,
        subject.count.needed,
        shared_uids,
        event=("rollback-approved", subject.target),
    )


def require_rollback_consent(
    journal: Journal, subject: RollbackSubject, request: RollbackRequest
) -> RollbackVerdict:
    """Refuse a rollback that people have not agreed to; write an emergency down.

    Raises:
        ROLLBACK_NEEDS_APPROVAL: If somebody has to approve it yet.
        DATA_LOSS_ABOVE_APPROVAL: If who asks may not approve, and fewer records may be lost by
            those who may.
        EMERGENCY_WITHOUT_REASON: If nobody could know afterwards why it could not wait.
    """
    if request.emergency_reason is not None and not request.emergency_reason.strip():
        raise UpdaterError(EMERGENCY_WITHOUT_REASON)
    verdict = decide_rollback(
        in_soak=subject.in_soak,
        needed=subject.count.needed,
        approvals=len(subject.count.approvals),
        approver=request.may_approve,
        emergency=request.emergency_reason is not None,
    )
    if not verdict:
        raise UpdaterError(
            ROLLBACK_NEEDS_APPROVAL,
            version=subject.target,
            missing=verdict.missing,
            needed=subject.count.needed,
            who=subject.approver_names or "-",
            loss=format_accept_loss_option(request.accept_loss),
        )
    if not request.may_approve:
        require_loss_accepted(subject, request.accept_loss)
    if verdict.consent is RollbackConsent.EMERGENCY:
        journal.record_event(
            ROLLBACK_EMERGENCY,
            undoes=subject.undoes,
            version=subject.target,
            origin=subject.origin,
            reason=request.emergency_reason,
            by=request.actor.name,
            uid=request.actor.uid,
        )
    return verdict


def require_loss_accepted(subject: RollbackSubject, count: int) -> None:
    """Refuse a loss that is greater than all who approved a rollback agreed to.

    Raises:
        DATA_LOSS_ABOVE_APPROVAL: If so.
    """
    if count > subject.accepted_loss:
        raise UpdaterError(
            DATA_LOSS_ABOVE_APPROVAL,
            version=subject.target,
            who=subject.approver_names or LazyText(N_("nobody")),
            agreed=subject.accepted_loss,
            count=count,
        )


def format_accept_loss_option(count: int) -> str:
    """Format the command option that accepts a data loss; empty where nothing is lost."""
    return f" --accept-loss {count}" if count else ""


def read_rollback_request(journal: Journal, number: int) -> RollbackRequest:
    """Return who asked for a rollback by a job of the service.

    Raises:
        NOTHING_TO_ROLL_BACK: If there is no such job.
    """
    job = JobQueue(journal).find(number)
    if job is None or job.kind is not JobKind.ROLLBACK:
        raise UpdaterError(NOTHING_TO_ROLL_BACK)
    emergency = job.data.get("emergency_reason")
    return RollbackRequest(
        job.actor,
        job.data.get("by_approver") is True,
        str(emergency) if emergency is not None else None,
        read_accepted_loss(job.data),
    )


class RollbackConsent(StrEnum):
    """Why a rollback may begin, or that it may not."""

    NOT_REQUIRED = "watched"
    REQUESTED_BY_APPROVER = "agreed"
    APPROVED = "approved"
    EMERGENCY = "emergency"
    MISSING = "missing"


@dataclass(frozen=True)
class RollbackVerdict:
    """Whether a rollback may begin.

    Attributes:
        consent: Why.
        missing: So many people have to approve yet.
    """

    consent: RollbackConsent
    missing: int = 0

    def __bool__(self) -> bool:
        """Tell whether it may."""
        return self.consent is not RollbackConsent.MISSING


def decide_rollback(
    *, in_soak: bool, needed: int, approvals: int, approver: bool, emergency: bool
) -> RollbackVerdict:
    """Decide whether a rollback may begin.

    Args:
        in_soak: Whether the upgrade is still watched, or a change is stuck.
        needed: How many people have to approve an upgrade at this site.
        approvals: How many have approved this rollback.
        approver: Whether who asks may approve: where one is enough, asking is approving.
        emergency: Whether they say that it cannot wait.
    """
    if in_soak:
        return RollbackVerdict(RollbackConsent.NOT_REQUIRED)
    if emergency:
        return RollbackVerdict(RollbackConsent.EMERGENCY)
    if approvals >= needed:
        return RollbackVerdict(RollbackConsent.APPROVED)
    if needed == 1 and approver:
        return RollbackVerdict(RollbackConsent.REQUESTED_BY_APPROVER)
    return RollbackVerdict(RollbackConsent.MISSING, needed - approvals)


def compute_rollback_binding(undoes: str, origin: str, target: str) -> str:
    """Return what approvals of a rollback carry: of this upgrade, and of no other.

    Args:
        undoes: The upgrade that is undone.
        origin: The release in use.
        target: The release that is gone back to.
    """
    parts = {"rollback": undoes, "from": origin, "to": target}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
