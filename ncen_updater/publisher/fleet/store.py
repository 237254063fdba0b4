"""The Secretariat's record of receipts: one SQLite file, filled from receipts only.

Anybody who can write into the spool can submit receipts: files of a web server, mails, or files
from a USB stick. Each is stored, already known, or refused with a code; file names and file times
are ignored. A receipt is stored unchanged for 13 months, then only counted. The record gives no
rights over any site: a thief of the file can read it, but can neither sign nor publish.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import date, timedelta
from email import message_from_bytes
from enum import StrEnum
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING

from ncen_updater.common import messages
from ncen_updater.common.bounded_io import FileTooLargeError, NotRegularFileError, read_file
from ncen_updater.common.errors import UpdaterError
from ncen_updater.formats.receipt import Fault, Outcome, Receipt, SignedReceipt, read_receipt
from ncen_updater.formats.target_names import RELEASES_PREFIX
from ncen_updater.publisher.errors import describe_system_error
from ncen_updater.publisher.feed.role_policy import read_retired_versions

if TYPE_CHECKING:
    from tuf.api.metadata import Targets  # type: ignore[attr-defined]

    from ncen_updater.publisher.feed.feed_directory import FeedDirectory

SCHEMA_VERSION = 3
_SCHEMA = """
CREATE TABLE sites (
  site TEXT NOT NULL, key TEXT NOT NULL, country TEXT NOT NULL, confirmed_on TEXT,
  confirmed_by TEXT, PRIMARY KEY (site, key)
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
CREATE TABLE edition (day TEXT NOT NULL, counts TEXT NOT NULL) STRICT;
CREATE INDEX received ON receipts (received_on);
"""
#: Files of a spool during an import; a temporary table, removed with the connection.
_INCOMING = """
DROP TABLE IF EXISTS temp.incoming;
CREATE TEMP TABLE incoming (
  name BLOB NOT NULL, fate TEXT NOT NULL, site TEXT, key TEXT, epoch TEXT, day TEXT,
  number INTEGER, content BLOB
);
"""
#: In the order of creation by the sites, so that a receipt that arrives late is not a gap.
_AS_MADE = """
SELECT rowid, name, content FROM incoming WHERE fate = ''
ORDER BY site, key, min(day) OVER (PARTITION BY site, key, epoch), epoch, number, name
"""
#: Retention of receipts; later they are only counted.
RETENTION = timedelta(days=396)
#: How far a site's date may be ahead of the Secretariat's: time zones and inexact clocks.
CLOCK_AHEAD = timedelta(days=2)
#: Directory below the spool for refused files, whose names start with the code of the refusal.
REFUSED_DIRECTORY = "refused"
#: Maximum number of receipts of unconfirmed keys, shared among the countries that they name, so
#: that a flood of submitted receipts cannot fill the record.
MOST_UNCONFIRMED = 1000
#: Maximum number of files of one import, so that each import ends; the next one takes the others.
MOST_FILES = 100_000
#: Maximum size of a mail with a receipt.
MAX_MAIL_BYTES = 65_536
#: Maximum number of refused files per code, and of refused files that are named.
MOST_REFUSED, MOST_NAMED = 100, 20
#: Results for a file that is not refused; otherwise the result is the code of the refusal.
STORED, KNOWN = "stored", "known"
#: File name given by the web server; such a file is no mail, and may be deleted unread.
_SENT_NAME = re.compile(rb"[0-9a-f]{64}")


#: Outcomes of a failed upgrade.
FAILED = (Outcome.REVERTED, Outcome.SOAK_ROLLBACK, Outcome.SOAK_FAILED)
#: Replaces the outcome if a site reported none.
NO_WORD = "none"


class Mark(StrEnum):
    """Irregularity of a stored receipt."""

    GAP = "gap"  # the receipt before it is missing
    RESTORED = "restored"  # the site started a new series
    CONTRADICTED = "contradicted"  # another receipt has the same number
    CLOCK = "clock"  # its day is in the future


#: Marks that only a telephone call answers; the others go with the next receipt.
LASTING = frozenset({Mark.RESTORED, Mark.CONTRADICTED})
#: Stands among the marks of a receipt once the key was confirmed again after it.
ANSWERED = "answered"


@dataclass(frozen=True)
class FleetSite:
    """One site with one key, and its receipts.

    Attributes:
        confirmed_on: Day when its fingerprint was compared by telephone; None before.
        confirmed_by: Who compared it; None before.
        received_on: Day when its last receipt was received.
        marks: Marks that nobody has answered: of its last receipt, and :data:`LASTING` ones.
        answered: Marks that were answered when the key was confirmed.
        receipts: All stored receipts, oldest first.
    """

    site: str
    key: str
    country: str
    confirmed_on: date | None
    confirmed_by: str | None
    received_on: date
    marks: frozenset[Mark]
    answered: frozenset[Mark]
    receipts: tuple[SignedReceipt, ...]

    @property
    def is_confirmed(self) -> bool:
        """Return whether its fingerprint was compared."""
        return self.confirmed_on is not None

    @property
    def last(self) -> Receipt:
        """Return the last receipt."""
        return self.receipts[-1].receipt

    @property
    def since(self) -> date | None:
        """Return the day when its release was installed, if a receipt reports it."""
        for receipt in (signed.receipt for signed in reversed(self.receipts)):
            if receipt.running != self.last.running:
                break
            installed = receipt.outcome is not Outcome.REVERTED and receipt.change
            if installed and installed[1] == receipt.running:
                return receipt.ended
        return None


@dataclass(frozen=True)
class Edition:
    """Counts last published to all countries.

    Attributes:
        day: Day since when the counts are unchanged.
        counts: Number of countries by release, newest first, with small groups merged.
    """

    day: date
    counts: tuple[tuple[str, int], ...]


#: Name of a refused file, and the error.
Refusal = tuple[str, UpdaterError]


@dataclass(frozen=True)
class IntakeResult:
    """Result of an import from a spool.

    Attributes:
        stored: Number of new receipts.
        known: Number of receipts stored before.
        codes: Number of refused files by code, most frequent first.
        named: Some refused files; those that are valid receipts first.
        removed: Number of old receipts replaced by counts.
        dropped: Number of receipts of unconfirmed keys removed because there were too many.
    """

    stored: int
    known: int
    codes: Mapping[str, int]
    named: tuple[Refusal, ...]
    removed: int
    dropped: int

    @property
    def refused(self) -> int:
        """Return the number of refused files."""
        return sum(self.codes.values())


class FleetStore:
    """Database of receipts; open it with :meth:`open`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    @classmethod
    @contextmanager
    def open(cls, path: Path, *, create: bool = True) -> Iterator[FleetStore]:
        """Open the database.

        Args:
            path: Path of the database.
            create: Whether to create it if it is missing.

        Raises:
            FLEET_UNUSABLE: If it is missing, damaged or of a newer schema, or cannot be read or
                written.
        """
        try:
            if not (create or path.exists()):
                raise sqlite3.OperationalError("does not exist")
            with closing(sqlite3.connect(path, isolation_level=None, timeout=30)) as connection:
                connection.row_factory = sqlite3.Row
                connection.execute("PRAGMA synchronous = FULL")
                connection.execute("PRAGMA secure_delete = ON")
                found = connection.execute("PRAGMA user_version").fetchone()[0]
                if found == 0:
                    begin = f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION};"
                    connection.executescript(f"{begin} COMMIT;")
                elif found != SCHEMA_VERSION:
                    raise sqlite3.DatabaseError(f"version {found}, expected {SCHEMA_VERSION}")
                yield cls(connection)
        except sqlite3.Error as error:
            raise UpdaterError(messages.FLEET_UNUSABLE, path=path, detail=str(error)) from error

    # ---- receipts ------------------------------------------------------------------------------

    def import_spool(
        self, spool: Path, releases: Mapping[str, tuple[str, str]], today: date
    ) -> IntakeResult:
        """Import the files of a directory in one transaction, so that a crash stores all or none.

        The files are removed after the commit. The next import checks a file that a crash left
        behind again; it is then already known. Memory use does not depend on the number of files.

        Args:
            spool: Directory whose files may be receipts; symbolic links are not followed.
            releases: Releases from :func:`read_release_digests`.
            today: Current date.

        Raises:
            SPOOL_UNUSABLE: If the directory or a file cannot be read, or a file cannot be moved.
        """
        ask, add = self._connection.execute, "INSERT INTO incoming VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
        self._connection.executescript(_INCOMING)
        # The last ones, so that valid receipts come before noise, which is refused first.
        named: deque[Refusal] = deque(maxlen=MOST_NAMED)
        with _guard_spool(spool), os.scandir(os.fsencode(spool)) as entries:
            names = (entry.name for entry in entries if not entry.is_dir(follow_symlinks=False))
            for name in islice(names, MOST_FILES):
                try:
                    ask(add, (name, "", *_read_entry(spool / os.fsdecode(name))))
                except FileNotFoundError:
                    continue  # a concurrent import was faster
                except UpdaterError as error:
                    ask(add, (name, error.code, *[None] * 6))
                    named.appendleft((os.fsdecode(name), error))
        with self._connection:  # one transaction
            ask("BEGIN IMMEDIATE")
            for row in ask(_AS_MADE):
                try:
                    signed = read_receipt(row["content"], verify=False)
                    fate = self._take(signed, releases, today)
                except UpdaterError as error:
                    fate = error.code
                    named.appendleft((os.fsdecode(row["name"]), error))
                ask("UPDATE incoming SET fate = ? WHERE rowid = ?", (fate, row["rowid"]))
            removed, dropped = self._sum_up_old(today), self._drop_unconfirmed()
        with _guard_spool(spool):
            _clear(spool, ask("SELECT name, fate FROM incoming"))
        counts = ask("SELECT fate, count(*) FROM incoming GROUP BY fate ORDER BY 2 DESC, 1")
        codes: dict[str, int] = dict(map(tuple, counts))
        stored, known = codes.pop(STORED, 0), codes.pop(KNOWN, 0)
        return IntakeResult(stored, known, codes, tuple(named), removed, dropped)

    def _take(
        self, signed: SignedReceipt, releases: Mapping[str, tuple[str, str]], today: date
    ) -> str:
        """Store a receipt with its marks unless it is known; return the result.

        Raises:
            RECEIPT_COUNTRY_MISMATCH, RECEIPT_RELEASE_UNKNOWN, RECEIPT_CONTRADICTORY,
            RECEIPT_REPLAYED: If it is refused.
        """
        receipt = signed.receipt
        site, number, marks = receipt.site, receipt.number, []
        key, of_key = (site, receipt.key), "FROM receipts WHERE site = ? AND key = ?"
        if self._find("1 FROM receipts WHERE digest = ?", signed.digest):
            return KNOWN
        known = self._find("country FROM sites WHERE site = ? AND key = ?", *key)
        if known and known["country"] != receipt.country:
            values = {"country": receipt.country, "known": known["country"]}
            raise UpdaterError(messages.RECEIPT_COUNTRY_MISMATCH, site=site, **values)
        running, release = receipt.running, name_outcome(receipt)[0]
        if releases.get(signed.release_digest) != (receipt.product, running):
            raise UpdaterError(messages.RECEIPT_RELEASE_UNKNOWN, site=site, version=running)
        if (receipt.product, release) not in releases.values():
            raise UpdaterError(messages.RECEIPT_RELEASE_UNKNOWN, site=site, version=release)
        of_series = f"{of_key} AND epoch = ?"
        same = self._find(f"rowid, marks {of_series} AND number = ?", *key, receipt.epoch, number)
        if same:
            # Both are signed with the same key: the site used one number for two receipts.
            found = " ".join(sorted({*same["marks"].split(), Mark.CONTRADICTED} - {ANSWERED}))
            self._connection.execute(
                "UPDATE receipts SET marks = ? WHERE rowid = ?", (found, same["rowid"])
            )
            raise UpdaterError(messages.RECEIPT_CONTRADICTORY, site=site, number=number)
        last = self._find(f"* {of_key} ORDER BY rowid DESC LIMIT 1", *key)
        if last and last["epoch"] != receipt.epoch:
            marks.append(Mark.RESTORED)
            # A series that ended never continues.
            day = read_receipt(last["content"], verify=False).receipt.day
            is_old = receipt.day < min(day, date.fromisoformat(last["received_on"]))
            is_old = is_old or self._find(f"1 {of_series}", *key, receipt.epoch) is not None
        else:
            is_old = last is not None and number < last["number"]
            if receipt.previous != (last["digest"] if last else None):
                marks.append(Mark.GAP)
        if last and is_old:
            raise UpdaterError(
                messages.RECEIPT_REPLAYED, site=site, number=number, last=last["number"]
            )
        if receipt.day > today + CLOCK_AHEAD:
            marks.append(Mark.CLOCK)
        self._connection.execute(
            "INSERT OR IGNORE INTO sites VALUES (?, ?, ?, NULL, NULL)", (*key, receipt.country)
        )
        self._connection.execute(
            "INSERT INTO receipts VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                signed.digest, *key, receipt.epoch, number, today.isoformat(),
                " ".join(marks), signed.content,
            ),
        )  # fmt: skip
        return STORED

    def _sum_up_old(self, today: date) -> int:
        """Replace receipts older than 13 months by counts, except the last of each confirmed key.

        Receipts of unconfirmed keys are deleted without being counted.
        """
        old = self._connection.execute(
            "SELECT r.rowid, received_on, content, confirmed_on FROM receipts r"
            " JOIN sites USING (site, key) WHERE received_on < ? AND r.rowid NOT IN"
            " (SELECT max(r.rowid) FROM receipts r JOIN sites USING (site, key)"
            " WHERE confirmed_on IS NOT NULL GROUP BY site, key)",
            ((today - RETENTION).isoformat(),),
        ).fetchall()
        for row in old:
            self._connection.execute("DELETE FROM receipts WHERE rowid = ?", (row["rowid"],))
            receipt = read_receipt(row["content"], verify=False).receipt
            if row["confirmed_on"]:
                self._connection.execute(
                    "INSERT INTO counts VALUES (?, ?, ?, ?, 1)"
                    " ON CONFLICT DO UPDATE SET receipts = receipts + 1",
                    (row["received_on"][:7], receipt.country, *name_outcome(receipt)),
                )
        return len(old)

    def _drop_unconfirmed(self) -> int:
        """Delete the oldest receipts of unconfirmed keys if there are too many.

        Countries share the limit equally: many receipts of one do not displace those of another.
        """
        dropped = self._connection.execute(
            "DELETE FROM receipts WHERE rowid IN (SELECT r.rowid"
            " FROM sites CROSS JOIN receipts r USING (site, key) WHERE confirmed_on IS NULL"
            " ORDER BY row_number() OVER (PARTITION BY country ORDER BY r.rowid DESC), 1 DESC"
            " LIMIT -1 OFFSET ?)",
            (MOST_UNCONFIRMED,),
        )
        self._connection.execute(
            "DELETE FROM sites WHERE (site, key) NOT IN (SELECT site, key FROM receipts)"
        )
        return dropped.rowcount

    def _find(self, query: str, *values: object) -> sqlite3.Row | None:
        found: sqlite3.Row | None = self._connection.execute(f"SELECT {query}", values).fetchone()
        return found

    # ---- sites ---------------------------------------------------------------------------------

    def list_sites(self, site: str | None = None) -> tuple[FleetSite, ...]:
        """List the sites by country and name; a site with several keys once for each.

        Args:
            site: The only site; by default all.

        Raises:
            FLEET_UNUSABLE: If a stored receipt is invalid.
        """
        rows = self._connection.execute(
            "SELECT * FROM sites JOIN receipts r USING (site, key) WHERE site = coalesce(?, site)"
            " ORDER BY country, site, key, r.rowid",
            (site,),
        )
        found = []
        for (name, key), group in groupby(rows, key=lambda row: (row["site"], row["key"])):
            one = [*group]
            confirmed, marks = one[0]["confirmed_on"], [{*row["marks"].split()} for row in one]
            of_calls = [
                (mark, ANSWERED in some) for some in marks for mark in LASTING if mark in some
            ]
            open_marks = {mark for mark, is_answered in of_calls if not is_answered}
            open_marks |= {mark for mark in {*Mark} - LASTING if mark in marks[-1]}
            found.append(FleetSite(
                name, key, one[0]["country"], date.fromisoformat(confirmed) if confirmed else None,
                one[0]["confirmed_by"], date.fromisoformat(one[-1]["received_on"]),
                frozenset(open_marks), frozenset(mark for mark, answered in of_calls if answered),
                tuple(read_receipt(row["content"], verify=False) for row in one),
            ))  # fmt: skip
        return tuple(found)

    def confirm(self, site: str, key: str, today: date, actor: str = "-") -> None:
        """Confirm one key of a site; remove its other keys with their receipts.

        The telephone call also answers the marks of its receipts until now.

        Raises:
            FLEET_SITE_UNKNOWN: If its receipts were dropped during the telephone call.
        """
        with self._connection as connection:
            connection.execute("BEGIN IMMEDIATE")
            by = (today.isoformat(), actor, site, key)
            confirm = "UPDATE sites SET (confirmed_on, confirmed_by) = (?, ?)"
            confirm += " WHERE site = ? AND key = ?"
            if not connection.execute(confirm, by).rowcount:
                raise UpdaterError(messages.FLEET_SITE_UNKNOWN, site=site, known="-")
            answer = "UPDATE receipts SET marks = marks || ? WHERE site = ? AND key = ?"
            connection.execute(f"{answer} AND marks <> ''", (f" {ANSWERED}", site, key))
            connection.execute("DELETE FROM sites WHERE site = ? AND key <> ?", (site, key))
            connection.execute("DELETE FROM receipts WHERE site = ? AND key <> ?", (site, key))

    def list_keys(self, site: str) -> tuple[FleetSite, ...]:
        """List a site once for each of its keys, with the confirmed one first.

        Raises:
            FLEET_SITE_UNKNOWN: If no receipt of the site is stored.
        """
        if not (found := self.list_sites(site)):
            query = "SELECT site FROM sites ORDER BY confirmed_on IS NULL, site, rowid"
            names = [*dict.fromkeys(row["site"] for row in self._connection.execute(query))]
            known = ", ".join(names[:MOST_NAMED]) or "-"
            raise UpdaterError(messages.FLEET_SITE_UNKNOWN, site=site, known=known)
        return tuple(sorted(found, key=lambda row: not row.is_confirmed))

    def forget(self, site: str) -> int:
        """Remove all data of a site; return the number of its receipts.

        Counts are stored per country, so they are removed with its last confirmed site.

        Raises:
            FLEET_SITE_UNKNOWN: If no receipt of the site is stored.
        """
        self.list_keys(site)
        with self._connection as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("DELETE FROM sites WHERE site = ?", (site,))
            connection.execute(
                "DELETE FROM counts WHERE country NOT IN"
                " (SELECT country FROM sites WHERE confirmed_on IS NOT NULL)"
            )
            removed = connection.execute("DELETE FROM receipts WHERE site = ?", (site,)).rowcount
        self._connection.execute("VACUUM")
        return removed

    # ---- counts and editions --------------------------------------------------------------------

    def list_sums(self) -> tuple[Mapping[str, str | int], ...]:
        """List the number of receipts by month, country, release and outcome, newest first."""
        rows = self._connection.execute("SELECT * FROM counts ORDER BY month DESC, 2, 3, 4")
        return tuple(dict(row) for row in rows)

    def read_edition(self) -> Edition | None:
        """Return the edition last published to all countries."""
        row = self._find("day, counts FROM edition")
        counts = tuple(map(tuple, json.loads(row["counts"]))) if row else ()
        return Edition(date.fromisoformat(row["day"]), counts) if row else None

    def write_edition(self, edition: Edition) -> None:
        """Store the edition published to all countries."""
        self._connection.execute(
            "INSERT OR REPLACE INTO edition (rowid, day, counts) VALUES (1, ?, ?)",
            (edition.day.isoformat(), json.dumps(edition.counts)),
        )


def name_outcome(receipt: Receipt) -> tuple[str, str]:
    """Return release and outcome that a receipt reports, as the board counts them. Pure.

    A receipt without a change reports no outcome of the running release.
    """
    outcome = receipt.outcome
    if receipt.change is None or outcome is None:
        return receipt.running, NO_WORD
    # A rollback counts for the release that it removed, which is the first of the two.
    release = receipt.change[outcome not in (Outcome.ROLLED_BACK, Outcome.SOAK_ROLLBACK)]
    if outcome in FAILED:
        # Without a stated cause the failure is not attributed to the release.
        return release, f"failed-{Fault.SITE if receipt.fault is None else receipt.fault}"
    early = outcome is Outcome.UPGRADED and not receipt.soaked
    return release, "upgraded-early" if early else str(outcome)


def remove_refused(spool: Path, site: str) -> int:
    """Remove refused files that are receipts of a site; return their number.

    Raises:
        SPOOL_UNUSABLE: If a file cannot be removed.
    """
    place, removed = spool / REFUSED_DIRECTORY, 0
    with _guard_spool(spool):
        for path in () if place.is_symlink() or not place.exists() else place.iterdir():
            with suppress(UpdaterError, FileNotFoundError):
                if _read_entry(path)[0] == site:
                    path.unlink()
                    removed += 1
    return removed


def read_release_digests(feed: FeedDirectory) -> Mapping[str, tuple[str, str]]:
    """Return product and version of every release, by digest.

    Retired releases, which sites may still run, are looked up in earlier versions of the metadata,
    as far as the feed has them.

    Raises:
        FEED_BROKEN: If the feed cannot be read.
    """
    found: dict[str, tuple[str, str]] = {}
    for role, metadata in feed.read_state().delegated.items():
        signed: Targets | None = metadata.signed
        number, missing = metadata.signed.version, set(read_retired_versions(metadata.signed))
        while signed is not None:
            for name, target in signed.targets.items():
                product, _, file = name.removeprefix(RELEASES_PREFIX).partition("/")
                if name.startswith(RELEASES_PREFIX):
                    found[str(target.hashes["sha256"])] = product, file.removesuffix(".json")
            missing -= {version for owner, version in found.values() if owner == role}
            while (number := number - 1) and not feed.get_metadata_path(role, number).exists():
                continue  # a copy of the feed may lack earlier versions
            signed = feed.read_targets(role, number) if missing and number else None
    return found


def _read_entry(path: Path) -> tuple[object, ...]:
    """Return the sort keys and the receipt from a file, which may be a mail.

    Raises:
        RECEIPT_INVALID: If it contains no valid receipt.
        OSError: If it cannot be read now; it may be a valid one.
    """
    try:
        if path.is_symlink():
            raise UpdaterError(messages.RECEIPT_INVALID, reason="a link")
        content = read_file(path, MAX_MAIL_BYTES)
    except (NotRegularFileError, FileTooLargeError) as error:
        raise UpdaterError(messages.RECEIPT_INVALID, reason=describe_system_error(error)) from error
    if not content.startswith(b"{") and not _SENT_NAME.fullmatch(os.fsencode(path.name)):
        content = _read_attachment(content)
    receipt = read_receipt(content).receipt
    keys = receipt.site, receipt.key, receipt.epoch, receipt.day.isoformat(), receipt.number
    return (*keys, content)


def _read_attachment(mail: bytes) -> bytes:
    """Return the only attachment of a mail; the rest of the mail is ignored.

    Raises:
        RECEIPT_INVALID: If there is no attachment, or more than one.
    """
    try:
        parts = message_from_bytes(mail).walk()
        found = [part for part in parts if part.get_content_disposition() == "attachment"]
        content = found[0].get_payload(decode=True) if len(found) == 1 else None
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UpdaterError(messages.RECEIPT_INVALID, reason=f"not a mail: {error}"[:200]) from error
    if not isinstance(content, bytes):
        raise UpdaterError(messages.RECEIPT_INVALID, reason="neither a receipt nor a mail with one")
    return content.strip() + b"\n"  # mail transport changes line ends


@contextmanager
def _guard_spool(spool: Path) -> Iterator[None]:
    """Report an error of the file system as one of the spool.

    Raises:
        SPOOL_UNUSABLE: If there was one.
    """
    try:
        yield
    except OSError as error:
        raise UpdaterError(messages.SPOOL_UNUSABLE, path=spool, detail=str(error)) from error


def _clear(spool: Path, fates: Iterable[sqlite3.Row]) -> None:
    """Delete stored files from the spool; move refused files to a directory below it.

    At most :data:`MOST_REFUSED` refused files per code remain, so that submissions cannot fill the
    disk. Only files named by the web server are deleted for this limit, never those that an
    administrator placed there.
    """
    place = spool / REFUSED_DIRECTORY
    place.mkdir(exist_ok=True)
    # Do not follow a symbolic link that replaced the directory.
    directory = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        there = Counter(entry.name.partition("_")[0] for entry in os.scandir(directory))
        for name, fate in fates:
            path, there[fate] = spool / os.fsdecode(name), there[fate] + 1
            too_many = there[fate] > MOST_REFUSED and _SENT_NAME.fullmatch(name)
            with suppress(FileNotFoundError):  # a concurrent import was faster
                if fate in (STORED, KNOWN) or too_many:
                    path.unlink()
                else:
                    moved = b"%s_%s" % (fate.encode(), name[:200])
                    os.rename(path, moved, dst_dir_fd=directory)
    finally:
        os.close(directory)
    with suppress(OSError):
        place.rmdir()  # only if empty
