"""Approvals and the chosen start time, as events of the journal."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from packaging.version import Version

from ncen_updater.agent.engine.approvals.approval import (
    SHARED_UIDS,
    Approval,
    ApprovalCount,
    ReleaseApproval,
    RollbackApproval,
    count_approvals,
    list_approved_releases,
)
from ncen_updater.agent.engine.change_guards import require_no_open_change
from ncen_updater.agent.model.change import Actor
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.rows import guard_reads, parse_stored_value
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.json_records import parse_stored_time
from ncen_updater.common.messages import APPROVER_IS_SHARED_ACCOUNT

#: Before the id of a change, in the place of who took an approval back; no user has such a name.
CONSUMED_BY_PREFIX = "change "


@dataclass(frozen=True)
class ScheduleRecord:
    """A time that a person chose for an approved upgrade."""

    binding: str
    to_version: str
    not_before: datetime
    actor: str


def reject_shared_account(
    actor: Actor, needed: int, shared_uids: frozenset[int] = SHARED_UIDS
) -> None:
    """Refuse an approval that could be anybody's, where two people have to approve.

    Args:
        actor: Who says yes.
        needed: How many people have to.
        shared_uids: Numbers of users that many people may act as.

    Raises:
        APPROVER_IS_SHARED_ACCOUNT: If so.
    """
    if needed > 1 and actor.uid in shared_uids:
        raise UpdaterError(APPROVER_IS_SHARED_ACCOUNT, who=actor.name)


class ApprovalStore:
    """Reads and writes approvals and schedules through the journal."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def add(
        self,
        binding: str,
        to_version: str,
        basis: Mapping[str, object],
        actor: Actor,
        needed: int = 1,
        shared_uids: frozenset[int] = SHARED_UIDS,
        event: tuple[str, str] | None = None,
        reason: str | None = None,
    ) -> bool:
        """Write a person's approval; False where they had given it already.

        Args:
            binding: What is approved.
            to_version: Where it leads.
            basis: The document of which the binding is the digest.
            actor: Who says yes.
            needed: How many people have to.
            shared_uids: Numbers of users that many people may act as.
            event: Kind of the event and the release that it names; an upgrade's by default.
            reason: Why, where people are asked.

        Raises:
            OPEN_CHANGE: If a change is open: what it comes to is to be seen first.
            APPROVER_IS_SHARED_ACCOUNT: If it could be anybody's, where two people have to approve.
        """
        at = self._journal.read_time().isoformat()
        with self._journal.transaction() as connection:
            require_no_open_change(self._journal)
            reject_shared_account(actor, needed, shared_uids)
            given = connection.execute(
                "SELECT 1 FROM approvals WHERE binding = ? AND uid = ? AND withdrawn_at IS NULL",
                (binding, actor.uid),
            ).fetchone()
            if given is not None:
                return False
            connection.execute(
                "INSERT INTO approvals (binding, to_version, basis, actor, uid, at)"
                " VALUES (?,?,?,?,?,?)",
                (binding, to_version, json.dumps(basis, sort_keys=True), actor.name,
                 actor.uid, at),
            )  # fmt: skip
            kind, version = event or ("approved", to_version)
            why = {} if reason is None else {"reason": reason}
            given = "SELECT count(*) FROM approvals WHERE binding = ? AND withdrawn_at IS NULL"
            (count,) = connection.execute(given, (binding,)).fetchone()
            self._journal.append_event(
                kind, None, binding=binding, version=version, by=actor.name, uid=actor.uid,
                count=count, needed=needed, **why,
            )  # fmt: skip
        return True

    def withdraw(self, binding: str, actor: Actor) -> int:
        """Take back a person's own approvals of a binding; return how many there were."""
        at = self._journal.read_time().isoformat()
        with self._journal.transaction() as connection:
            count = connection.execute(
                "UPDATE approvals SET withdrawn_at = ?, withdrawn_by = ?"
                " WHERE binding = ? AND uid = ? AND withdrawn_at IS NULL",
                (at, actor.name, binding, actor.uid),
            ).rowcount
            if count:
                self._journal.append_event(
                    "approval-withdrawn", None, binding=binding, by=actor.name, uid=actor.uid
                )
        return count

    def withdraw_all(
        self, actor: Actor, version: Version | None = None, *, rollbacks: bool = False
    ) -> int:
        """Take back what a person has approved, whatever is on offer by now.

        Args:
            actor: Who.
            version: The release that is meant; all of them where it is left out.
            rollbacks: Rollbacks are meant, not upgrades.

        Returns:
            How many approvals there were.
        """
        releases = self.list_for_upgrades()
        if rollbacks:
            upgrades = {one.approval.binding for one in releases}
            found = [one for one in self.list_active() if one.binding not in upgrades]
        else:
            found = [
                one.approval for one in releases if version in (None, Version(one.target_version))
            ]
        mine = dict.fromkeys(one.binding for one in found if one.uid == actor.uid)
        return sum(self.withdraw(binding, actor) for binding in mine)

    def consume_all(self, change: str) -> int:
        """Use up every approval and chosen time: an approval is for one downtime.

        Args:
            change: The upgrade that is about to keep users out.

        Returns:
            How many approvals there were.
        """
        at, by = self._journal.read_time().isoformat(), f"{CONSUMED_BY_PREFIX}{change}"
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
                self._journal.append_event("approvals-spent", change, count=count)
        return count

    def consume(self, change: str, binding: str) -> int:
        """Use up the approvals of one binding; return how many there were."""
        at, by = self._journal.read_time().isoformat(), f"{CONSUMED_BY_PREFIX}{change}"
        with self._journal.transaction() as connection:
            count = connection.execute(
                "UPDATE approvals SET withdrawn_at = ?, withdrawn_by = ?"
                " WHERE withdrawn_at IS NULL AND binding = ?",
                (at, by, binding),
            ).rowcount
            if count:
                self._journal.append_event("approvals-spent", change, count=count, binding=binding)
        return count

    def was_consumed(self, binding: str) -> bool:
        """Tell whether an upgrade was begun on approvals of a binding."""
        with guard_reads(self._journal.path):
            rows = self._journal.query("SELECT binding, withdrawn_by FROM approvals")
            return any(
                row["binding"] == binding
                and str(row["withdrawn_by"]).startswith(CONSUMED_BY_PREFIX)
                for row in rows
            )

    def list_consumed_by(self, change: str, binding: str | None) -> tuple[str, ...]:
        """List who had approved a change that was begun, in the order in which they did.

        Args:
            change: The change.
            binding: What was approved; whatever was used up with it where that is not known.
        """
        with guard_reads(self._journal.path):
            rows = self._journal.query(
                "SELECT actor, binding, withdrawn_by FROM approvals ORDER BY id"
            )
            return tuple(
                dict.fromkeys(
                    row["actor"]
                    for row in rows
                    if row["withdrawn_by"] == f"{CONSUMED_BY_PREFIX}{change}"
                    and binding in (None, row["binding"])
                )
            )

    def list_active(self) -> tuple[Approval, ...]:
        """Approvals that nobody took back, in the order in which they came."""
        with guard_reads(self._journal.path):
            rows = self._journal.query(
                "SELECT * FROM approvals WHERE withdrawn_at IS NULL ORDER BY id"
            )
            return tuple(_build_approval(row) for row in rows)

    def list_for_upgrades(self) -> tuple[ReleaseApproval, ...]:
        """Approvals of upgrades in force, in the order in which they came."""
        with guard_reads(self._journal.path):
            rows = self._journal.query(
                "SELECT * FROM approvals WHERE withdrawn_at IS NULL ORDER BY id"
            )
            return tuple(
                ReleaseApproval(row["to_version"], _build_approval(row))
                for row in rows
                if "rollback" not in parse_stored_value(row["basis"])
            )

    def list_approved_releases(self, needed: int) -> tuple[str, ...]:
        """Return the releases that enough people approved, the one that comes first at the head."""
        return list_approved_releases(self.list_for_upgrades(), needed)

    def list_for_binding(self, binding: str) -> tuple[Approval, ...]:
        """Approvals of a binding in force."""
        return tuple(found for found in self.list_active() if found.binding == binding)

    def list_for_rollbacks(self) -> tuple[RollbackApproval, ...]:
        """Approvals of rollbacks in force, in the order in which they came."""
        with guard_reads(self._journal.path):
            rows = self._journal.query(
                "SELECT * FROM approvals WHERE withdrawn_at IS NULL ORDER BY id"
            )
            seen = ((parse_stored_value(row["basis"]), _build_approval(row)) for row in rows)
            return tuple(
                RollbackApproval(
                    str(basis["rollback"]), str(basis["from"]), str(basis["to"]),
                    read_accepted_loss(basis), approval,
                )
                for basis, approval in seen
                if "rollback" in basis
            )  # fmt: skip

    def count_for_binding(self, binding: str, needed: int) -> ApprovalCount:
        """Return who approved a binding, of so many who have to."""
        return count_approvals(self.list_active(), binding, needed)

    def read_last_basis(self, to_version: str) -> Mapping[str, object] | None:
        """Return the basis of the last approval of a release, whether it still holds or not."""
        with guard_reads(self._journal.path):
            rows = self._journal.query(
                "SELECT to_version, basis FROM approvals WHERE withdrawn_at IS NULL ORDER BY id"
            )
            found = [row["basis"] for row in rows if row["to_version"] == to_version]
            if not found:
                return None
            data = parse_stored_value(found[-1])
            if not isinstance(data, dict):
                raise TypeError("an approval without its basis")
            return data

    def set_schedule(
        self, binding: str, to_version: str, not_before: datetime, actor: Actor
    ) -> None:
        """Choose the time of an upgrade; an earlier choice no longer counts.

        Raises:
            OPEN_CHANGE: If a change is open.
        """
        at = self._journal.read_time().isoformat()
        with self._journal.transaction() as connection:
            require_no_open_change(self._journal)
            _cancel_schedules(connection, at, actor)
            connection.execute(
                "INSERT INTO schedules (binding, to_version, not_before, actor, uid, at)"
                " VALUES (?,?,?,?,?,?)",
                (binding, to_version, not_before.isoformat(), actor.name, actor.uid, at),
            )
            self._journal.append_event(
                "scheduled", None, binding=binding, version=to_version,
                not_before=not_before.isoformat(), by=actor.name, uid=actor.uid,
            )  # fmt: skip

    def cancel_schedule(self, actor: Actor) -> int:
        """Take back the chosen time; return how many there were."""
        at = self._journal.read_time().isoformat()
        with self._journal.transaction() as connection:
            chosen = self.list_schedules()
            count = _cancel_schedules(connection, at, actor)
            if count:
                self._journal.append_event(
                    "schedule-cancelled", None, version=chosen[0].to_version, by=actor.name,
                    uid=actor.uid,
                )  # fmt: skip
        return count

    def list_schedules(self) -> tuple[ScheduleRecord, ...]:
        """List start times that were chosen and not cancelled, newest first."""
        with guard_reads(self._journal.path):
            rows = self._journal.query(
                "SELECT * FROM schedules WHERE cancelled_at IS NULL ORDER BY id DESC"
            )
            return tuple(
                ScheduleRecord(
                    row["binding"], row["to_version"], parse_stored_time(row["not_before"]),
                    row["actor"],
                )
                for row in rows
            )  # fmt: skip

    def find_schedule(self, binding: str) -> ScheduleRecord | None:
        """Return the start time chosen for a binding."""
        return next((found for found in self.list_schedules() if found.binding == binding), None)


def read_accepted_loss(basis: Mapping[str, object]) -> int:
    """Read how many records may be lost, by what a person approved or ordered."""
    number = basis.get("accept_loss", 0)
    return number if type(number) is int else 0


def _build_approval(row: sqlite3.Row) -> Approval:
    return Approval(row["binding"], row["actor"], row["uid"], parse_stored_time(row["at"]))


def _cancel_schedules(connection: sqlite3.Connection, at: str, person: Actor) -> int:
    return connection.execute(
        "UPDATE schedules SET cancelled_at = ?, cancelled_by = ? WHERE cancelled_at IS NULL",
        (at, person.name),
    ).rowcount
