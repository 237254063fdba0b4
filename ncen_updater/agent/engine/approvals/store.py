"""What people said yes to, and when it may begin. Lives in the journal; every word is an event."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from packaging.version import Version

from ncen_updater.agent.engine.approvals.model import (
    ROOT,
    Approval,
    ApprovalCount,
    BackApproval,
    ReleaseApproval,
    approved_releases,
    count_approvals,
)
from ncen_updater.agent.engine.permitted import require_no_change
from ncen_updater.agent.model.person import Person
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.rows import reading, stored_value
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import ROOT_IS_NOBODY
from ncen_updater.common.records import stored_time

#: Before the id of a change, in the place of who took an approval back; no user has such a name.
SPENT_BY = "change "


@dataclass(frozen=True)
class ScheduleRecord:
    """A time that a person chose for an approved upgrade."""

    binding: str
    to_version: str
    not_before: datetime
    who: str


def require_somebody(person: Person, needed: int, nobody: frozenset[int] = ROOT) -> None:
    """Refuse an approval that could be anybody's, where two people have to approve.

    Args:
        person: Who says yes.
        needed: How many people have to.
        nobody: Numbers of users that many people may act as.

    Raises:
        RootIsNobody: If so.
    """
    if needed > 1 and person.uid in nobody:
        raise UpdaterError(ROOT_IS_NOBODY, who=person.who)


class ApprovalStore:
    """Reads and writes approvals and schedules through the journal."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def approve(
        self,
        binding: str,
        to_version: str,
        basis: Mapping[str, object],
        person: Person,
        needed: int = 1,
        nobody: frozenset[int] = ROOT,
        told: tuple[str, str] | None = None,
        reason: str | None = None,
    ) -> bool:
        """Write a person's approval; False where they had given it already.

        Args:
            binding: What is approved.
            to_version: Where it leads.
            basis: The document of which the binding is the digest.
            person: Who says yes.
            needed: How many people have to.
            nobody: Numbers of users that many people may act as.
            told: Kind of the event and the release that it names; an upgrade's by default.
            reason: Why, where people are asked.

        Raises:
            OpenChange: If a change is open: what it comes to is to be seen first.
            RootIsNobody: If it could be anybody's, where two people have to approve.
        """
        at = self._journal.now().isoformat()
        with self._journal.transaction() as connection:
            require_no_change(self._journal)
            require_somebody(person, needed, nobody)
            given = connection.execute(
                "SELECT 1 FROM approvals WHERE binding = ? AND uid = ? AND withdrawn_at IS NULL",
                (binding, person.uid),
            ).fetchone()
            if given is not None:
                return False
            connection.execute(
                "INSERT INTO approvals (binding, to_version, basis, who, uid, at)"
                " VALUES (?,?,?,?,?,?)",
                (binding, to_version, json.dumps(basis, sort_keys=True), person.who,
                 person.uid, at),
            )  # fmt: skip
            kind, version = told or ("approved", to_version)
            why = {} if reason is None else {"reason": reason}
            given = "SELECT count(*) FROM approvals WHERE binding = ? AND withdrawn_at IS NULL"
            (count,) = connection.execute(given, (binding,)).fetchone()
            self._journal.event(
                kind, None, binding=binding, version=version, by=person.who, uid=person.uid,
                count=count, needed=needed, **why,
            )  # fmt: skip
        return True

    def withdraw(self, binding: str, person: Person) -> int:
        """Take back a person's own approvals of a binding; return how many there were."""
        at = self._journal.now().isoformat()
        with self._journal.transaction() as connection:
            count = connection.execute(
                "UPDATE approvals SET withdrawn_at = ?, withdrawn_by = ?"
                " WHERE binding = ? AND uid = ? AND withdrawn_at IS NULL",
                (at, person.who, binding, person.uid),
            ).rowcount
            if count:
                self._journal.event(
                    "approval-withdrawn", None, binding=binding, by=person.who, uid=person.uid
                )
        return count

    def take_back(
        self, person: Person, version: Version | None = None, *, back: bool = False
    ) -> int:
        """Take back what a person has approved, whatever is on offer by now.

        Args:
            person: Who.
            version: The release that is meant; all of them where it is left out.
            back: Rollbacks are meant, not upgrades.

        Returns:
            How many approvals there were.
        """
        releases = self.of_releases()
        if back:
            upgrades = {one.approval.binding for one in releases}
            found = [one for one in self.in_force() if one.binding not in upgrades]
        else:
            found = [one.approval for one in releases if version in (None, Version(one.version))]
        mine = dict.fromkeys(one.binding for one in found if one.uid == person.uid)
        return sum(self.withdraw(binding, person) for binding in mine)

    def spend(self, change: str) -> int:
        """Use up every approval and chosen time: one yes is for one stop of the officers.

        Args:
            change: The upgrade that is about to keep officers out.

        Returns:
            How many approvals there were.
        """
        at, by = self._journal.now().isoformat(), f"{SPENT_BY}{change}"
        with self._journal.transaction() as connection:
            count = connection.execute(
                "UPDATE approvals SET withdrawn_at = ?, withdrawn_by = ?"
                " WHERE withdrawn_at IS NULL",
                (at, by),
            ).rowcount
            chosen = connection.execute(
                "UPDATE schedules SET cancelled_at = ?, cancelled_by = ?"
                " WHERE cancelled_at IS NULL",
                (at, by),
            ).rowcount
            if count or chosen:
                self._journal.event("approvals-spent", change, count=count)
        return count

    def spend_one(self, change: str, binding: str) -> int:
        """Use up the approvals of one binding; return how many there were."""
        at, by = self._journal.now().isoformat(), f"{SPENT_BY}{change}"
        with self._journal.transaction() as connection:
            count = connection.execute(
                "UPDATE approvals SET withdrawn_at = ?, withdrawn_by = ?"
                " WHERE withdrawn_at IS NULL AND binding = ?",
                (at, by, binding),
            ).rowcount
            if count:
                self._journal.event("approvals-spent", change, count=count, binding=binding)
        return count

    def spent(self, binding: str) -> bool:
        """Whether an upgrade was begun on approvals of a binding."""
        with reading(self._journal.path):
            rows = self._journal.rows("SELECT binding, withdrawn_by FROM approvals")
            return any(
                row["binding"] == binding and str(row["withdrawn_by"]).startswith(SPENT_BY)
                for row in rows
            )

    def spent_on(self, change: str, binding: str | None) -> tuple[str, ...]:
        """Who had approved a change that was begun, in the order in which they did.

        Args:
            change: The change.
            binding: What was approved; whatever was used up with it where that is not known.
        """
        with reading(self._journal.path):
            rows = self._journal.rows(
                "SELECT who, binding, withdrawn_by FROM approvals ORDER BY id"
            )
            return tuple(
                dict.fromkeys(
                    row["who"]
                    for row in rows
                    if row["withdrawn_by"] == f"{SPENT_BY}{change}"
                    and binding in (None, row["binding"])
                )
            )

    def in_force(self) -> tuple[Approval, ...]:
        """Approvals that nobody took back, in the order in which they came."""
        with reading(self._journal.path):
            rows = self._journal.rows(
                "SELECT * FROM approvals WHERE withdrawn_at IS NULL ORDER BY id"
            )
            return tuple(_approval(row) for row in rows)

    def of_releases(self) -> tuple[ReleaseApproval, ...]:
        """Approvals of upgrades in force, in the order in which they came."""
        with reading(self._journal.path):
            rows = self._journal.rows(
                "SELECT * FROM approvals WHERE withdrawn_at IS NULL ORDER BY id"
            )
            return tuple(
                ReleaseApproval(row["to_version"], _approval(row))
                for row in rows
                if "rollback" not in stored_value(row["basis"])
            )

    def approved_releases(self, needed: int) -> tuple[str, ...]:
        """Return the releases that enough people approved, the one that comes first at the head."""
        return approved_releases(self.of_releases(), needed)

    def approvals(self, binding: str) -> tuple[Approval, ...]:
        """Approvals of a binding in force."""
        return tuple(found for found in self.in_force() if found.binding == binding)

    def of_rollbacks(self) -> tuple[BackApproval, ...]:
        """Approvals of rollbacks in force, in the order in which they came."""
        with reading(self._journal.path):
            rows = self._journal.rows(
                "SELECT * FROM approvals WHERE withdrawn_at IS NULL ORDER BY id"
            )
            seen = ((stored_value(row["basis"]), _approval(row)) for row in rows)
            return tuple(
                BackApproval(
                    str(basis["rollback"]), str(basis["from"]), str(basis["to"]),
                    accepted_loss(basis), approval,
                )
                for basis, approval in seen
                if "rollback" in basis
            )  # fmt: skip

    def people(self, binding: str, needed: int) -> ApprovalCount:
        """Who approved a binding, of so many who have to."""
        return count_approvals(self.in_force(), binding, needed)

    def last_basis(self, to_version: str) -> Mapping[str, object] | None:
        """What was last approved for a release, whether it still holds or not."""
        with reading(self._journal.path):
            rows = self._journal.rows(
                "SELECT to_version, basis FROM approvals WHERE withdrawn_at IS NULL ORDER BY id"
            )
            found = [row["basis"] for row in rows if row["to_version"] == to_version]
            if not found:
                return None
            data = stored_value(found[-1])
            if not isinstance(data, dict):
                raise TypeError("an approval without its basis")
            return data

    def schedule(self, binding: str, to_version: str, not_before: datetime, person: Person) -> None:
        """Choose the time of an upgrade; an earlier choice no longer counts.

        Raises:
            OpenChange: If a change is open.
        """
        at = self._journal.now().isoformat()
        with self._journal.transaction() as connection:
            require_no_change(self._journal)
            _cancel(connection, at, person)
            connection.execute(
                "INSERT INTO schedules (binding, to_version, not_before, who, uid, at)"
                " VALUES (?,?,?,?,?,?)",
                (binding, to_version, not_before.isoformat(), person.who, person.uid, at),
            )
            self._journal.event(
                "scheduled", None, binding=binding, version=to_version,
                not_before=not_before.isoformat(), by=person.who, uid=person.uid,
            )  # fmt: skip

    def cancel_schedule(self, person: Person) -> int:
        """Take back the chosen time; return how many there were."""
        at = self._journal.now().isoformat()
        with self._journal.transaction() as connection:
            chosen = self.schedules()
            count = _cancel(connection, at, person)
            if count:
                self._journal.event(
                    "schedule-cancelled", None, version=chosen[0].to_version, by=person.who,
                    uid=person.uid,
                )  # fmt: skip
        return count

    def schedules(self) -> tuple[ScheduleRecord, ...]:
        """Times that somebody chose and nobody took back, newest first."""
        with reading(self._journal.path):
            rows = self._journal.rows(
                "SELECT * FROM schedules WHERE cancelled_at IS NULL ORDER BY id DESC"
            )
            return tuple(
                ScheduleRecord(
                    row["binding"], row["to_version"], stored_time(row["not_before"]),
                    row["who"],
                )
                for row in rows
            )  # fmt: skip

    def scheduled(self, binding: str) -> ScheduleRecord | None:
        """The time that was chosen for a binding."""
        return next((found for found in self.schedules() if found.binding == binding), None)


def accepted_loss(basis: Mapping[str, object]) -> int:
    """How many records may be lost, by what a person approved or ordered."""
    number = basis.get("accept_loss", 0)
    return number if type(number) is int else 0


def _approval(row: sqlite3.Row) -> Approval:
    return Approval(row["binding"], row["who"], row["uid"], stored_time(row["at"]))


def _cancel(connection: sqlite3.Connection, at: str, person: Person) -> int:
    return connection.execute(
        "UPDATE schedules SET cancelled_at = ?, cancelled_by = ? WHERE cancelled_at IS NULL",
        (at, person.who),
    ).rowcount
