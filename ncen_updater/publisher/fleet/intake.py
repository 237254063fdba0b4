"""Intake of receipts: each is stored, known already, or refused with a code; nothing else happens.

Receipts come from anybody who can write into the spool: as files of a web server, by mail, on a
medium. Their content is all that counts; names and times of files do not.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from packaging.version import Version

from ncen_updater.common.bounded_io import FileTooLargeError, NotRegularFileError, read_file
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import (
    RECEIPT_CONTRADICTORY,
    RECEIPT_COUNTRY_MISMATCH,
    RECEIPT_INVALID,
    RECEIPT_KEY_MISMATCH,
    RECEIPT_RELEASE_UNKNOWN,
    RECEIPT_REPLAYED,
)
from ncen_updater.formats.receipt import (
    MAX_RECEIPT_BYTES,
    SignedReceipt,
    compute_fingerprint,
    read_receipt,
)
from ncen_updater.formats.target_names import RELEASES_PREFIX
from ncen_updater.publisher.errors import describe_system_error
from ncen_updater.publisher.feed.feed_directory import FeedState
from ncen_updater.publisher.fleet.store import FleetStore, LastReceipt, Mark

#: A clock may be so far ahead: the day of the site is not that of the Secretariat.
CLOCK_AHEAD = timedelta(days=2)


@dataclass(frozen=True)
class Refusal:
    """A file that was refused.

    Attributes:
        name: Of the file.
        code: Why.
    """

    name: str
    code: str


@dataclass(frozen=True)
class IntakeResult:
    """What became of the files of a spool.

    Attributes:
        stored: How many were new.
        known: How many were stored before.
        refused: The others.
        summarized: How many old receipts became counts.
        done: Files that are not needed any more.
    """

    stored: int
    known: int
    refused: tuple[Refusal, ...]
    summarized: int
    done: tuple[Path, ...]


@dataclass(frozen=True)
class Known:
    """What is known of a site when its receipt is judged.

    Attributes:
        confirmed: Its confirmed key and country; None before.
        last: The last receipt of this site and key.
        highest: The highest number of this receipt's epoch.
    """

    confirmed: tuple[str, str] | None = None
    last: LastReceipt | None = None
    highest: int = 0


def read_release_digests(state: FeedState) -> Mapping[str, tuple[str, str]]:
    """Return product and version of every release that the feed signed, by its digest."""
    found = {}
    for metadata in state.delegated.values():
        for name, target in metadata.signed.targets.items():
            if name.startswith(RELEASES_PREFIX):
                product, _, file = name.removeprefix(RELEASES_PREFIX).partition("/")
                found[str(target.hashes["sha256"])] = product, file.removesuffix(".json")
    return found


def judge_receipt(
    signed: SignedReceipt,
    known: Known,
    releases: Mapping[str, tuple[str, str]],
    today: date,
) -> frozenset[Mark]:
    """Return the marks under which a receipt is stored; pure.

    Args:
        signed: Read and verified with the key it names.
        known: What is known of its site.
        releases: Of :func:`read_release_digests`.
        today: The day.

    Raises:
        RECEIPT_KEY_MISMATCH, RECEIPT_COUNTRY_MISMATCH, RECEIPT_RELEASE_UNKNOWN, RECEIPT_REPLAYED:
            If it is not to be stored.
    """
    receipt, last = signed.receipt, known.last
    if known.confirmed is not None:
        key, country = known.confirmed
        if receipt.key != key:
            fingerprint = compute_fingerprint(receipt.key)[:16]
            raise UpdaterError(RECEIPT_KEY_MISMATCH, site=receipt.site, key=fingerprint)
        if receipt.country != country:
            raise UpdaterError(
                RECEIPT_COUNTRY_MISMATCH, site=receipt.site, country=receipt.country,
                confirmed=country,
            )  # fmt: skip
    product, version = releases.get(signed.release_digest, ("", "0"))
    if product != receipt.product or Version(version) != Version(receipt.running):
        raise UpdaterError(RECEIPT_RELEASE_UNKNOWN, site=receipt.site, version=receipt.running)
    if receipt.number <= known.highest:
        raise UpdaterError(
            RECEIPT_REPLAYED, site=receipt.site, number=receipt.number, last=known.highest
        )
    marks = set()
    if last is not None and last.epoch != receipt.epoch:
        marks.add(Mark.RESTORED)
    elif receipt.previous != (last.digest if last else None):
        marks.add(Mark.GAP)
    if receipt.day > today + CLOCK_AHEAD:
        marks.add(Mark.CLOCK)
    return frozenset(marks)


def import_receipts(
    store: FleetStore, spool: Path, releases: Mapping[str, tuple[str, str]], today: date
) -> IntakeResult:
    """Take in the files of a directory, in one transaction: a kill stores all of them or none.

    The files stay: who called removes ``done`` once this returned. A file that comes twice is known
    the second time.

    Args:
        store: The record.
        spool: A directory of files of which each may be a receipt; links are not followed.
        releases: Of :func:`read_release_digests`.
        today: The day.

    Raises:
        OSError: If the directory cannot be read.
    """
    stored = known = 0
    refused: list[Refusal] = []
    done: list[Path] = []
    read: list[_ReadFile] = []
    for name in sorted(path.name for path in spool.iterdir()):
        try:
            read.append(_ReadFile.read(spool / name))
        except UpdaterError as error:
            refused.append(Refusal(name, error.code))
    _sort_as_made(read)
    with store.transaction():
        for one in read:
            path, signed = one.path, read_receipt(one.content, verify=False)
            if store.has(signed.digest):
                known += 1
                done.append(path)
                continue
            try:
                _store(store, signed, releases, today)
            except UpdaterError as error:
                refused.append(Refusal(path.name, error.code))
            else:
                stored += 1
                done.append(path)
        summarized = store.summarize_old(today)
    return IntakeResult(stored, known, tuple(refused), summarized, tuple(done))


@dataclass(frozen=True, slots=True)
class _ReadFile:
    """A receipt that was verified; parsed again when its turn comes, since thousands may wait."""

    path: Path
    content: bytes
    series: tuple[str, str]
    day: date
    number: int

    @classmethod
    def read(cls, path: Path) -> _ReadFile:
        content = _read_file(path)
        receipt = read_receipt(content).receipt
        series = sys.intern(receipt.site), sys.intern(receipt.epoch)
        return cls(path, content, series, receipt.day, receipt.number)


def _sort_as_made(read: list[_ReadFile]) -> None:
    """Sort receipts as they were made, whatever their files are called: a late one is no gap."""
    began: dict[tuple[str, str], date] = {}
    for one in read:
        began[one.series] = min(began.get(one.series, date.max), one.day)
    read.sort(key=lambda one: (one.series[0], began[one.series], one.series[1], one.number))


def _store(
    store: FleetStore, signed: SignedReceipt, releases: Mapping[str, tuple[str, str]], today: date
) -> None:
    receipt = signed.receipt
    known = Known(
        store.find_confirmed(receipt.site),
        store.find_last(receipt.site, receipt.key),
        store.find_highest(receipt.site, receipt.key, receipt.epoch),
    )
    try:
        marks = judge_receipt(signed, known, releases, today)
    except UpdaterError as error:
        # Signed with the same key: the site itself said two things under one number.
        if error.message is RECEIPT_REPLAYED and store.mark_contradicted(signed):
            raise UpdaterError(
                RECEIPT_CONTRADICTORY, site=receipt.site, number=receipt.number
            ) from error
        raise
    store.add(signed, marks, today)


def _read_file(path: Path) -> bytes:
    try:
        if path.is_symlink():
            raise UpdaterError(RECEIPT_INVALID, reason="a link")
        return read_file(path, MAX_RECEIPT_BYTES)
    except (OSError, NotRegularFileError, FileTooLargeError) as error:
        raise UpdaterError(RECEIPT_INVALID, reason=describe_system_error(error)) from error


def count_by_code(refused: tuple[Refusal, ...]) -> tuple[tuple[str, int], ...]:
    """Count refusals by code, the most frequent first."""
    return tuple(Counter(one.code for one in refused).most_common())
