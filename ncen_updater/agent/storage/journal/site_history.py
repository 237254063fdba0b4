"""History of a site beyond one change: bad releases, holds, previous databases. In the journal."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.rows import guard_reads, parse_optional_time
from ncen_updater.common.json_records import JsonRecord, parse_stored_time


@dataclass(frozen=True)
class FailedReleaseRecord:
    """A release that is marked bad at this site."""

    product: str
    version: str
    code: str
    failures: int
    last_at: datetime


@dataclass(frozen=True)
class HoldRecord(JsonRecord):
    """An operator's hold on upgrades."""

    id: int
    reason: str
    actor: str
    since: datetime
    until: datetime | None = None

    def is_active_at(self, at: datetime) -> bool:
        """Tell whether it blocks an upgrade that begins then.

        Also before ``since``: a clock that was set back must not lift a hold.
        """
        return self.until is None or at < self.until


def select_longest_hold(holds: Iterable[HoldRecord]) -> HoldRecord | None:
    """Return the hold that ends last, or one without an end; None without a hold. Pure."""
    return max(holds, key=lambda hold: (hold.until is None, hold.until), default=None)


@dataclass(frozen=True)
class PreviousDatabases:
    """Previous databases of a change, and when they were dropped."""

    change: str
    since: datetime
    dropped_at: datetime | None = None


class SiteHistory:
    """History of a site in its journal."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def mark_bad(self, product: str, version: str, code: str, change: str | None) -> None:
        """Mark a release bad, or count another failure of it."""
        at = self._journal.read_time().isoformat()
        with self._journal.transaction() as connection:
            connection.execute(
                "INSERT INTO bad_releases VALUES (?, ?, ?, 1, ?) ON CONFLICT (product, version)"
                " DO UPDATE SET times = times + 1, code = excluded.code,"
                " last_at = excluded.last_at",
                (product, version, code, at),
            )
            self._journal.append_event("release-bad", change, version=version, code=code)

    def withdraw_bad(self, change: str) -> None:
        """Withdraw a change's verdict on its release: something else was to blame."""
        kinds = [event.kind for event in self._journal.list_events(change=change)]
        if kinds.count("release-bad") <= kinds.count("release-bad-withdrawn"):
            return
        failed = self._journal.read_change(change)
        statement = "UPDATE bad_releases SET times = times - 1 WHERE product = ? AND version = ?"
        with self._journal.transaction() as connection:
            connection.execute(statement, (failed.product, failed.to_version))
            connection.execute("DELETE FROM bad_releases WHERE times < 1")
            self._journal.append_event("release-bad-withdrawn", change, version=failed.to_version)

    def list_bad_releases(self) -> tuple[FailedReleaseRecord, ...]:
        """Return every release that is marked bad."""
        with guard_reads(self._journal.path):
            rows = self._journal.query("SELECT * FROM bad_releases ORDER BY product, version")
            return tuple(
                FailedReleaseRecord(
                    row["product"], row["version"], row["code"], row["times"],
                    parse_stored_time(row["last_at"]),
                )
                for row in rows
            )  # fmt: skip

    def add_hold(self, reason: str, actor: str, until: datetime | None) -> datetime:
        """Record a hold from now on; return its start time."""
        since = self._journal.read_time()
        with self._journal.transaction() as connection:
            connection.execute(
                "INSERT INTO holds (reason, actor, since, until) VALUES (?, ?, ?, ?)",
                (reason, actor, since.isoformat(), until and until.isoformat()),
            )
            self._journal.append_event(
                "held", None, reason=reason, by=actor, until=until and str(until)
            )
        return since

    def lift_holds(self, actor: str) -> int:
        """Lift every hold; return their number."""
        at = self._journal.read_time().isoformat()
        with self._journal.transaction() as connection:
            cursor = connection.execute(
                "UPDATE holds SET lifted_at = ?, lifted_by = ? WHERE lifted_at IS NULL", (at, actor)
            )
            if cursor.rowcount:
                self._journal.append_event("unheld", None, by=actor, count=cursor.rowcount)
            return cursor.rowcount

    def list_holds(self) -> tuple[HoldRecord, ...]:
        """Return holds that were not lifted, including expired ones."""
        with guard_reads(self._journal.path):
            rows = self._journal.query("SELECT * FROM holds WHERE lifted_at IS NULL ORDER BY id")
            return tuple(
                HoldRecord(
                    row["id"], row["reason"], row["actor"], parse_stored_time(row["since"]),
                    parse_optional_time(row["until"]),
                )
                for row in rows
            )  # fmt: skip

    def list_active_holds(self, at: datetime) -> tuple[HoldRecord, ...]:
        """Return holds that block an upgrade at a given time."""
        return tuple(row for row in self.list_holds() if row.is_active_at(at))

    def list_previous_databases(self) -> tuple[PreviousDatabases, ...]:
        """Return every set of previous databases, oldest first."""
        with guard_reads(self._journal.path):
            rows = self._journal.query("SELECT * FROM previous_sets ORDER BY since")
            return tuple(
                PreviousDatabases(
                    row["change"],
                    parse_stored_time(row["since"]),
                    parse_optional_time(row["dropped_at"]),
                )
                for row in rows
            )

    def mark_previous_dropped(self, change: str) -> None:
        """Record that the previous databases of a change are dropped."""
        at = self._journal.read_time().isoformat()
        with self._journal.transaction() as connection:
            connection.execute(
                "UPDATE previous_sets SET dropped_at = ? WHERE change = ?", (at, change)
            )
            self._journal.append_event("previous-dropped", change)
