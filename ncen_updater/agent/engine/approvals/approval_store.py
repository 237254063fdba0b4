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

#: Prefix of a change's id in the column of the withdrawing actor; no user name contains it.
CONSUMED_BY_PREFIX = "change "


@dataclass(frozen=True)
class ScheduleRecord:
    """Start time that an operator chose for an approved upgrade."""

    binding: str
    to_version: str
    not_before: datetime
    actor: str


def reject_shared_account(
    actor: Actor, needed: int, shared_uids: frozenset[int] = SHARED_UIDS
) -> None:
    """Refuse an approval by a shared account if two approvers are required.

    Args:
        actor: The approver.
        needed: The required number of approvals.
        shared_uids: Uids that several users share.

    Raises:
        APPROVER_IS_SHARED_ACCOUNT: If so.
    """
    if needed > 1 and actor.uid in shared_uids:
        raise UpdaterError(APPROVER_IS_SHARED_ACCOUNT, who=actor.name)


class ApprovalStore:
    """Store of approvals and schedules in the journal."""

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
        """Record an approval; return False if this approver has already given it.

        Args:
            binding: The binding.
            to_version: Target release.
            basis: The document whose digest is the binding.
            actor: The approver.
            needed: The required number of approvals.
            shared_uids: Uids that several users share.
            event: Kind of the event and the release it names; those of an upgrade by default.
            reason: The reason, if one is required.

        Raises:
            OPEN_CHANGE: If a change is open; its outcome must be known first.
            APPROVER_IS_SHARED_ACCOUNT: If the account is shared and two approvers are required.
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
            details = {} if reason is None else {"reason": reason}
            given = "SELECT count(*) FROM approvals WHERE binding = ? AND withdrawn_at IS NULL"
            (count,) = connection.execute(given, (binding,)).fetchone()
            self._journal.append_event(
                kind, None, binding=binding, version=version, by=actor.name, uid=actor.uid,
                count=count, needed=needed, **details,
            )  # fmt: skip
        return True

    def withdraw(self, binding: str, actor: Actor) -> int:
        """Withdraw an approver's approvals of a binding; return their number."""
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
        """Withdraw an approver's approvals, whatever the feed offers now.

        Args:
            actor: The approver.
            version: The release; all releases if omitted.
            rollbacks: Withdraw approvals of rollbacks, not of upgrades.

        Returns:
            The number of withdrawn approvals.
        """
        releases = self.list_for_upgrades()
        if rollbacks:
            upgrades = {one.approval.binding for one in releases}
            approvals = [one for one in self.list_active() if one.binding not in upgrades]
        else:
            approvals = [
                one.approval for one in releases if version in (None, Version(one.target_version))
            ]
        bindings = dict.fromkeys(one.binding for one in approvals if one.uid == actor.uid)
        return sum(self.withdraw(binding, actor) for binding in bindings)

    def consume_all(self, change: str) -> int:
        """Consume every approval and schedule: an approval is valid for one downtime.

        Args:
            change: The upgrade whose downtime begins.

        Returns:
            The number of consumed approvals.
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
        """Consume the approvals of one binding; return their number."""
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
        """Tell whether approvals of a binding were consumed by a change."""
        with guard_reads(self._journal.path):
            rows = self._journal.query("SELECT binding, withdrawn_by FROM approvals")
            return any(
                row["binding"] == binding
                and str(row["withdrawn_by"]).startswith(CONSUMED_BY_PREFIX)
                for row in rows
            )

    def list_consumed_by(self, change: str, binding: str | None) -> tuple[str, ...]:
        """Return the approvers of a change that was begun, in the order of their approvals.

        Args:
            change: The change.
            binding: The approved binding; None for all approvals that the change consumed.
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
        """Return the approvals in force, in the order in which they were given."""
        with guard_reads(self._journal.path):
            rows = self._journal.query(
                "SELECT * FROM approvals WHERE withdrawn_at IS NULL ORDER BY id"
            )
            return tuple(_build_approval(row) for row in rows)

    def list_for_upgrades(self) -> tuple[ReleaseApproval, ...]:
        """Return the approvals of upgrades in force, in the order in which they were given."""
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
        """Return the releases with enough approvals; the one that takes precedence is first."""
        return list_approved_releases(self.list_for_upgrades(), needed)

    def list_for_binding(self, binding: str) -> tuple[Approval, ...]:
        """Return the approvals of a binding in force."""
        return tuple(found for found in self.list_active() if found.binding == binding)

    def list_for_rollbacks(self) -> tuple[RollbackApproval, ...]:
        """Return the approvals of rollbacks in force, in the order in which they were given."""
        with guard_reads(self._journal.path):
            rows = self._journal.query(
                "SELECT * FROM approvals WHERE withdrawn_at IS NULL ORDER BY id"
            )
            parsed = ((parse_stored_value(row["basis"]), _build_approval(row)) for row in rows)
            return tuple(
                RollbackApproval(
                    str(basis["rollback"]), str(basis["from"]), str(basis["to"]),
                    read_accepted_loss(basis), approval,
                )
                for basis, approval in parsed
                if "rollback" in basis
            )  # fmt: skip

    def count_for_binding(self, binding: str, needed: int) -> ApprovalCount:
        """Count the approvals of a binding."""
        return count_approvals(self.list_active(), binding, needed)

    def read_last_basis(self, to_version: str) -> Mapping[str, object] | None:
        """Return the basis of a release's last approval in force, valid or not."""
        with guard_reads(self._journal.path):
            rows = self._journal.query(
                "SELECT to_version, basis FROM approvals WHERE withdrawn_at IS NULL ORDER BY id"
            )
            stored = [row["basis"] for row in rows if row["to_version"] == to_version]
            if not stored:
                return None
            data = parse_stored_value(stored[-1])
            if not isinstance(data, dict):
                raise TypeError("an approval without its basis")
            return data

    def set_schedule(
        self, binding: str, to_version: str, not_before: datetime, actor: Actor
    ) -> None:
        """Record the start time of an upgrade; it replaces an earlier one.

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
        """Cancel the chosen start time; return the number of cancelled ones."""
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
        """Return the start times in force, newest first."""
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
        """Return the start time chosen for a binding; None if there is none."""
        return next((found for found in self.list_schedules() if found.binding == binding), None)


def read_accepted_loss(basis: Mapping[str, object]) -> int:
    """Return the accepted number of lost records from an approval or a job."""
    number = basis.get("accept_loss", 0)
    return number if type(number) is int else 0


def _build_approval(row: sqlite3.Row) -> Approval:
    return Approval(row["binding"], row["actor"], row["uid"], parse_stored_time(row["at"]))


def _cancel_schedules(connection: sqlite3.Connection, at: str, actor: Actor) -> int:
    return connection.execute(
        "UPDATE schedules SET cancelled_at = ?, cancelled_by = ? WHERE cancelled_at IS NULL",
        (at, actor.name),
    ).rowcount
