"""Approvals of a rollback, as the journal has them. Light: the service asks it, too."""

from __future__ import annotations

from dataclasses import dataclass

from packaging.version import Version

from ncen_updater.agent.engine.approvals.model import (
    ROOT,
    ApprovalCount,
    agreed_loss,
    count_approvals,
)
from ncen_updater.agent.engine.approvals.store import ApprovalStore, accepted_loss
from ncen_updater.agent.engine.last_upgrade import last_upgrade
from ncen_updater.agent.engine.pending_rollback import pending_rollback
from ncen_updater.agent.engine.permitted import require_no_change
from ncen_updater.agent.model.change import Change, ChangeKind
from ncen_updater.agent.model.names import ROLLBACK_EMERGENCY
from ncen_updater.agent.model.person import Person
from ncen_updater.agent.policy.going_back import BackConsent, BackVerdict, back_binding, may_go_back
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.orders import OrderKind, Orders
from ncen_updater.agent.storage.journal.rows import reading
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_
from ncen_updater.common.messages import (
    BACK_NEEDS_APPROVAL,
    EMERGENCY_WITHOUT_REASON,
    LOSS_NOT_AGREED,
    NOTHING_TO_ROLL_BACK,
)


@dataclass(frozen=True)
class BackRequest:
    """Who asks for a rollback, and how.

    Attributes:
        person: Who.
        approver: Whether they may approve.
        emergency: Why it cannot wait; None where it can.
        accept_loss: So many records may be lost, says who asks.
    """

    person: Person
    approver: bool
    emergency: str | None = None
    accept_loss: int = 0


@dataclass(frozen=True)
class BackSubject:
    """A rollback that can be approved.

    Attributes:
        undoes: The upgrade that it undoes.
        origin: The release in use.
        target: The release that is gone back to.
        people: Who approved it.
        watched: Whether the upgrade is still watched, so that nobody has to.
        agreed_loss: So many records may be lost by all who approved it; 0 until they are enough.
    """

    undoes: str
    origin: str
    target: str
    people: ApprovalCount
    watched: bool
    agreed_loss: int = 0

    @property
    def binding(self) -> str:
        """What approvals of it carry."""
        return back_binding(self.undoes, self.origin, self.target)

    @property
    def who(self) -> str:
        """Names of those who approved it; empty where nobody did."""
        return ", ".join(given.who for given in self.people.given)

    def document(self) -> dict[str, object]:
        """Who has approved and who is missing, as JSON has it."""
        return {
            "binding": self.binding,
            "watched": self.watched,
            "approvals": [{"who": given.who, "at": given.at} for given in self.people.given],
            "missing": 0 if self.watched else self.people.missing,
        }


def brought_by(journal: Journal, current: str) -> Change | None:
    """Return the upgrade that brought the release in use; only upgrades to it are read whole.

    Raises:
        JournalUnreadable: If the journal holds what no agent wrote.
    """
    wanted = Version(current)
    with reading(journal.path):
        rows = journal.rows(
            f"SELECT id, to_version FROM changes WHERE kind = '{ChangeKind.UPGRADE}'"  # noqa: S608
            " ORDER BY rowid DESC"
        )
        found = (journal.change(r["id"]) for r in rows if Version(r["to_version"]) == wanted)
        return next((change for change in found if last_upgrade((change,), wanted)), None)


def back_subject(journal: Journal, current: str, needed: int) -> BackSubject:
    """Return the rollback that can be approved now.

    Args:
        journal: The journal.
        current: The release in use.
        needed: How many people have to approve.

    Raises:
        NothingToRollBack: If no upgrade brought the release in use.
    """
    upgrade = brought_by(journal, current)
    if upgrade is None:
        raise UpdaterError(NOTHING_TO_ROLL_BACK)
    binding = back_binding(upgrade.id, current, upgrade.from_version)
    given = ApprovalStore(journal).of_rollbacks()
    people = count_approvals((one.approval for one in given), binding, needed)
    watched = journal.open_change() is not None or pending_rollback(journal) is not None
    return BackSubject(
        upgrade.id, current, upgrade.from_version, people, watched, agreed_loss(given, people)
    )


def approve_back(
    journal: Journal,
    found: BackSubject,
    person: Person,
    nobody: frozenset[int] = ROOT,
    accept_loss: int = 0,
) -> bool:
    """Write a person's approval of a rollback; False where they had given it.

    Who gives it with another number than before gives it anew.

    Args:
        journal: Open to write.
        found: The rollback.
        person: Who says yes.
        nobody: As for :meth:`ApprovalStore.approve`.
        accept_loss: So many records may be lost.

    Raises:
        OpenChange: If a change is open.
        RootIsNobody: If it could be anybody's, where two people have to approve.
    """
    store = ApprovalStore(journal)
    basis: dict[str, object] = {
        "rollback": found.undoes, "from": found.origin, "to": found.target,
    }  # fmt: skip
    if accept_loss:
        basis["accept_loss"] = accept_loss
    before = [
        one.accept_loss for one in store.of_rollbacks()
        if (one.approval.binding, one.approval.uid) == (found.binding, person.uid)
    ]  # fmt: skip
    if before and before[-1] != accept_loss:
        require_no_change(journal)
        store.withdraw(found.binding, person)
    return store.approve(
        found.binding, f"back to {found.target}", basis, person, found.people.needed, nobody,
        told=("rollback-approved", found.target),
    )  # fmt: skip


def require_back(journal: Journal, found: BackSubject, asked: BackRequest) -> BackVerdict:
    """Refuse a rollback that people have not agreed to; write an emergency down.

    Raises:
        BackNeedsApproval: If somebody has to approve it yet.
        LossNotAgreed: If who asks may not approve, and fewer records may be lost by those who may.
        EmergencyWithoutReason: If nobody could know afterwards why it could not wait.
    """
    if asked.emergency is not None and not asked.emergency.strip():
        raise UpdaterError(EMERGENCY_WITHOUT_REASON)
    verdict = may_go_back(
        watched=found.watched,
        needed=found.people.needed,
        given=len(found.people.given),
        approver=asked.approver,
        emergency=asked.emergency is not None,
    )
    if not verdict:
        raise UpdaterError(
            BACK_NEEDS_APPROVAL,
            version=found.target,
            missing=verdict.missing,
            needed=found.people.needed,
            who=found.who or NOBODY_YET,
            loss=loss_words(asked.accept_loss),
        )
    if not asked.approver:
        require_loss(found, asked.accept_loss)
    if verdict.consent is BackConsent.EMERGENCY:
        journal.note(
            ROLLBACK_EMERGENCY, undoes=found.undoes, version=found.target, origin=found.origin,
            reason=asked.emergency, by=asked.person.who, uid=asked.person.uid,
        )  # fmt: skip
    return verdict


#: In the place of names.
NOBODY_YET = N_("nobody yet")


def require_loss(found: BackSubject, count: int) -> None:
    """Refuse a loss that is greater than all who approved a rollback agreed to.

    Raises:
        LossNotAgreed: If so.
    """
    if count > found.agreed_loss:
        raise UpdaterError(
            LOSS_NOT_AGREED, version=found.target, who=found.who or NOBODY_YET,
            agreed=found.agreed_loss, count=count,
        )  # fmt: skip


def loss_words(count: int) -> str:
    """What is typed behind a command that may lose so many records; nothing where none is lost."""
    return f" --accept-loss {count}" if count else ""


def asked_by_order(journal: Journal, number: int) -> BackRequest:
    """Return who asked for a rollback by an order of the service.

    Raises:
        NothingToRollBack: If there is no such order.
    """
    order = Orders(journal).order(number)
    if order is None or order.kind is not OrderKind.ROLLBACK:
        raise UpdaterError(NOTHING_TO_ROLL_BACK)
    emergency = order.data.get("emergency")
    return BackRequest(
        order.person,
        order.data.get("by_approver") is True,
        str(emergency) if emergency is not None else None,
        accepted_loss(order.data),
    )
