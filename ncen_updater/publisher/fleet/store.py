"""The Secretariat's record of receipts: one SQLite file, which receipts alone can fill.

A receipt is kept as it came for 13 months; then only its counts stay. Nothing here has a right over
any site: who takes the file can read it, and can neither sign nor publish.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import date, timedelta
from enum import StrEnum
from pathlib import Path

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import FLEET_SITE_UNKNOWN, FLEET_UNUSABLE
from ncen_updater.formats.receipt import SignedReceipt, read_receipt

SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE sites (
  site TEXT NOT NULL, key TEXT NOT NULL, country TEXT NOT NULL, confirmed_on TEXT,
  PRIMARY KEY (site, key)
) STRICT;
CREATE TABLE receipts (
  digest TEXT PRIMARY KEY, site TEXT NOT NULL, key TEXT NOT NULL, epoch TEXT NOT NULL,
  number INTEGER NOT NULL, received_on TEXT NOT NULL, marks TEXT NOT NULL, content BLOB NOT NULL,
  UNIQUE (site, key, epoch, number)
) STRICT;
CREATE TABLE counts (
  month TEXT NOT NULL, country TEXT NOT NULL, release TEXT NOT NULL, outcome TEXT NOT NULL,
  receipts INTEGER NOT NULL, PRIMARY KEY (month, country, release, outcome)
) STRICT;
CREATE TABLE waivers (
  day TEXT NOT NULL, product TEXT NOT NULL, version TEXT NOT NULL, count INTEGER NOT NULL,
  reached TEXT NOT NULL, reason TEXT NOT NULL, PRIMARY KEY (day, product, version, reason)
) STRICT;
"""
#: So long is a receipt kept as it came.
KEPT = timedelta(days=396)


class Mark(StrEnum):
    """What is unusual about a receipt that was stored."""

    GAP = "gap"  # a receipt before it never came
    RESTORED = "restored"  # the site began to count anew
    CONTRADICTED = "contradicted"  # another receipt has the same number
    CLOCK = "clock"  # its day is in the future


@dataclass(frozen=True)
class FleetSite:
    """One site by one key, with its last receipt.

    Attributes:
        confirmed_on: When its fingerprint was compared by telephone; None before.
        last: Its last receipt.
        received_on: When that came.
        marks: Of all its receipts.
        receipts: All that are kept, oldest first.
    """

    site: str
    key: str
    country: str
    confirmed_on: date | None
    last: SignedReceipt
    received_on: date
    marks: frozenset[Mark]
    receipts: tuple[SignedReceipt, ...]

    @property
    def is_confirmed(self) -> bool:
        """Return whether its key was compared."""
        return self.confirmed_on is not None


@dataclass(frozen=True)
class Waiver:
    """A publication that did not wait for the receipts that its signers asked for.

    Attributes:
        day: Of the publication.
        product: Of the release.
        version: Which one.
        count: How many countries were asked for.
        reached: Those that had reported.
        reason: Why nobody waited.
    """

    day: date
    product: str
    version: str
    count: int
    reached: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class LastReceipt:
    """What the next receipt of a site and key is judged by."""

    epoch: str
    number: int
    digest: str


class FleetStore:
    """The record. Use :meth:`open`, and :meth:`transaction` around what belongs together."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator[FleetStore]:
        """Open the record, and make it if there is none.

        Raises:
            FLEET_UNUSABLE: If it is damaged, of a newer version, or cannot be read or written.
        """
        try:
            with closing(sqlite3.connect(path, isolation_level=None, timeout=30)) as connection:
                connection.row_factory = sqlite3.Row
                connection.execute("PRAGMA synchronous = FULL")
                found = connection.execute("PRAGMA user_version").fetchone()[0]
                if found == 0:
                    begin = f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION};"
                    connection.executescript(f"{begin} COMMIT;")
                elif found != SCHEMA_VERSION:
                    raise sqlite3.DatabaseError(f"version {found}, expected {SCHEMA_VERSION}")
                yield cls(connection)
        except sqlite3.Error as error:
            raise UpdaterError(FLEET_UNUSABLE, path=path, detail=str(error)) from error

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Keep everything that is done in the block, or nothing of it."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    # ---- receipts ------------------------------------------------------------------------------

    def has(self, digest: str) -> bool:
        """Return whether a receipt was stored before."""
        row = self._connection.execute("SELECT 1 FROM receipts WHERE digest = ?", (digest,))
        return row.fetchone() is not None

    def find_confirmed(self, site: str) -> tuple[str, str] | None:
        """Return key and country of a site whose key was confirmed."""
        row = self._connection.execute(
            "SELECT key, country FROM sites WHERE site = ? AND confirmed_on IS NOT NULL", (site,)
        ).fetchone()
        return (row["key"], row["country"]) if row else None

    def find_last(self, site: str, key: str) -> LastReceipt | None:
        """Return the last receipt that came of a site and key."""
        row = self._connection.execute(
            "SELECT epoch, number, digest FROM receipts WHERE site = ? AND key = ?"
            " ORDER BY rowid DESC LIMIT 1",
            (site, key),
        ).fetchone()
        return LastReceipt(row["epoch"], row["number"], row["digest"]) if row else None

    def find_highest(self, site: str, key: str, epoch: str) -> int:
        """Return the highest number that came of an epoch; 0 for none."""
        row = self._connection.execute(
            "SELECT max(number) AS highest FROM receipts WHERE site = ? AND key = ? AND epoch = ?",
            (site, key, epoch),
        ).fetchone()
        return int(row["highest"] or 0)

    def add(self, signed: SignedReceipt, marks: Iterable[Mark], today: date) -> None:
        """Store a receipt that was judged."""
        receipt = signed.receipt
        self._connection.execute(
            "INSERT OR IGNORE INTO sites VALUES (?, ?, ?, NULL)",
            (receipt.site, receipt.key, receipt.country),
        )
        self._connection.execute(
            "INSERT INTO receipts VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                signed.digest, receipt.site, receipt.key, receipt.epoch, receipt.number,
                today.isoformat(), " ".join(sorted(marks)), signed.content,
            ),
        )  # fmt: skip

    def mark_contradicted(self, signed: SignedReceipt) -> bool:
        """Mark the receipt that has the number of another one; return whether there is one."""
        receipt = signed.receipt
        changed = self._connection.execute(
            "UPDATE receipts SET marks = CASE WHEN instr(marks, ?) THEN marks"
            " ELSE trim(marks || ' ' || ?) END"
            " WHERE site = ? AND key = ? AND epoch = ? AND number = ? AND digest <> ?",
            (
                Mark.CONTRADICTED, Mark.CONTRADICTED, receipt.site, receipt.key, receipt.epoch,
                receipt.number, signed.digest,
            ),
        )  # fmt: skip
        return changed.rowcount > 0

    # ---- sites ---------------------------------------------------------------------------------

    def list_sites(self) -> tuple[FleetSite, ...]:
        """List the sites by country and name. An unconfirmed key of a confirmed site is left out.

        Raises:
            FLEET_UNUSABLE: If what is stored is no receipt.
        """
        rows = self._connection.execute(
            "SELECT s.site, s.key, s.country, s.confirmed_on, r.received_on, r.marks, r.content"
            " FROM sites s JOIN receipts r ON r.site = s.site AND r.key = s.key"
            " ORDER BY s.country, s.site, s.key, r.rowid"
        )
        found: dict[tuple[str, str], FleetSite] = {}
        for row in rows:
            signed = read_receipt(row["content"], verify=False)
            marks = frozenset(Mark(mark) for mark in row["marks"].split())
            before = found.get((row["site"], row["key"]))
            received = date.fromisoformat(row["received_on"])
            if before is not None:
                found[row["site"], row["key"]] = replace(
                    before, last=signed, received_on=received, marks=before.marks | marks,
                    receipts=(*before.receipts, signed),
                )  # fmt: skip
                continue
            confirmed = row["confirmed_on"]
            found[row["site"], row["key"]] = FleetSite(
                row["site"], row["key"], row["country"],
                date.fromisoformat(confirmed) if confirmed else None,
                signed, received, marks, (signed,),
            )  # fmt: skip
        certain = {one.site for one in found.values() if one.is_confirmed}
        return tuple(one for one in found.values() if one.is_confirmed or one.site not in certain)

    def confirm(self, site: str, key: str, today: date) -> None:
        """Take a key for that of a site, in place of any other.

        Raises:
            FLEET_SITE_UNKNOWN: If no receipt of this site and key came.
        """
        self._require(site, key)
        self._connection.execute("UPDATE sites SET confirmed_on = NULL WHERE site = ?", (site,))
        self._connection.execute(
            "UPDATE sites SET confirmed_on = ? WHERE site = ? AND key = ?",
            (today.isoformat(), site, key),
        )

    def list_keys(self, site: str) -> tuple[str, ...]:
        """List the keys of a site, the confirmed one first.

        Raises:
            FLEET_SITE_UNKNOWN: If no receipt of it came.
        """
        self._require(site, None)
        rows = self._connection.execute(
            "SELECT key FROM sites WHERE site = ? ORDER BY confirmed_on IS NULL, rowid", (site,)
        )
        return tuple(str(row["key"]) for row in rows)

    def forget(self, site: str) -> int:
        """Remove everything that a site told; return the number of its receipts.

        Raises:
            FLEET_SITE_UNKNOWN: If no receipt of it came.
        """
        self._require(site, None)
        removed = self._connection.execute("DELETE FROM receipts WHERE site = ?", (site,)).rowcount
        self._connection.execute("DELETE FROM sites WHERE site = ?", (site,))
        return removed

    # ---- minutes -------------------------------------------------------------------------------

    def record_waiver(self, waiver: Waiver) -> None:
        """Write down why a publication did not wait."""
        self._connection.execute(
            "INSERT OR IGNORE INTO waivers VALUES (?, ?, ?, ?, ?, ?)",
            (
                waiver.day.isoformat(), waiver.product, waiver.version, waiver.count,
                " ".join(waiver.reached), waiver.reason,
            ),
        )  # fmt: skip

    def list_waivers(self) -> tuple[Waiver, ...]:
        """List them, oldest first."""
        rows = self._connection.execute("SELECT * FROM waivers ORDER BY rowid")
        return tuple(
            Waiver(
                date.fromisoformat(row["day"]), row["product"], row["version"], row["count"],
                tuple(row["reached"].split()), row["reason"],
            )
            for row in rows
        )  # fmt: skip

    # ---- age -----------------------------------------------------------------------------------

    def summarize_old(self, today: date) -> int:
        """Replace receipts older than 13 months by counts; the last of each site stays."""
        limit = (today - KEPT).isoformat()
        old = self._connection.execute(
            "SELECT digest, received_on, content FROM receipts WHERE received_on < ? AND rowid NOT"
            " IN (SELECT max(rowid) FROM receipts GROUP BY site, key)",
            (limit,),
        ).fetchall()
        for row in old:
            receipt = read_receipt(row["content"], verify=False).receipt
            self._connection.execute(
                "INSERT INTO counts VALUES (?, ?, ?, ?, 1) ON CONFLICT DO UPDATE"
                " SET receipts = receipts + 1",
                (
                    row["received_on"][:7], receipt.country, receipt.running,
                    receipt.outcome or "unknown",
                ),
            )  # fmt: skip
            self._connection.execute("DELETE FROM receipts WHERE digest = ?", (row["digest"],))
        return len(old)

    def _require(self, site: str, key: str | None) -> None:
        rows = self._connection.execute("SELECT site, key FROM sites ORDER BY site").fetchall()
        if not any(row["site"] == site and key in (None, row["key"]) for row in rows):
            known = ", ".join(dict.fromkeys(row["site"] for row in rows)) or "-"
            raise UpdaterError(FLEET_SITE_UNKNOWN, site=site, sites=known)
