"""Receipts of this site: their facts, restricted by the sharing level, and the key that signs them.

The journal records the agreed level and every receipt that was written. A crash in between leaves
at most a receipt number that the Secretariat never received, which it sees as a gap. A receipt
describes ended changes, never an open one.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ncen_updater.agent.engine.change_outcome import measure_downtime
from ncen_updater.agent.engine.path_selection import require_current_version
from ncen_updater.agent.engine.rehearsal.downtime_forecasts import find_predicted_range
from ncen_updater.agent.engine.site import Site
from ncen_updater.agent.model.change import Change, ChangeKind, ChangeState
from ncen_updater.agent.model.change_facts import ChangeFacts
from ncen_updater.agent.model.event_names import (
    RECEIPT_LEVEL_SET,
    RECEIPT_SENT,
    RECEIPT_WRITTEN,
    RESTORED_ADOPTED,
)
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.rows import JournalEvent, guard_reads
from ncen_updater.common import atomic_files as durable
from ncen_updater.common.bounded_io import FileTooLargeError, parse_json, read_file
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.json_records import compute_sha256
from ncen_updater.common.messages import (
    DATABASE_UNREACHABLE,
    INTERRUPTED,
    RECEIPT_KEY_UNUSABLE,
    RECEIPTS_OFF,
    SOAK_DATABASES_DOWN,
    SOAK_DISK_FULL,
    ExitCode,
    find_message,
)
from ncen_updater.feed.trust_state import TrustStateStore
from ncen_updater.formats.receipt import (
    ALLOWED,
    MAX_RECEIPT_BYTES,
    MAX_SECONDS,
    Fault,
    Outcome,
    Receipt,
    ReceiptAddresses,
    ReceiptLevel,
    SignedReceipt,
    encode_public_key,
    make_receipt,
    make_signer,
    read_receipt,
    read_receipt_addresses,
    sign_receipt,
)

#: The site's private key, below the state directory: 32 bytes, readable only by root.
KEY_FILE = "receipt.key"
#: Directory of receipts not sent yet, below the state directory.
OUTGOING_DIRECTORY = "receipts"
#: Directory of sent receipts below that one, so that the site can review them.
SENT_DIRECTORY = "sent"
#: Interval of receipts without a change, and maximum random delay, which hides the time of day.
REPORT_INTERVAL = timedelta(days=30)
MAX_DELAY = timedelta(days=1)
#: Maximum delay for a failure caused by the release, since other countries may install it soon.
MAX_FAILURE_DELAY = timedelta(minutes=15)


@dataclass(frozen=True)
class ReceiptState:
    """State of the receipts in the journal.

    Attributes:
        level: The agreed sharing level.
        number: Number of the last receipt; 0 before the first.
        previous: Digest of the last receipt.
        epoch: Changes when the journal may have been restored to an earlier state.
        allowed_from: Number of the event since which at least this level is allowed.
    """

    level: ReceiptLevel
    number: int
    previous: str | None
    epoch: str
    allowed_from: int


def read_receipt_state(journal: Journal) -> ReceiptState:
    """Return the agreed level and the data of the last receipt.

    Raises:
        JournalUnreadableError: If the journal has invalid data on receipts.
    """
    with guard_reads(journal.path):
        events = list_receipt_events(journal)
        written = next((one for one in reversed(events) if one.kind == RECEIPT_WRITTEN), None)
        set_levels = [one for one in events if one.kind == RECEIPT_LEVEL_SET]
        levels = {one.number: ReceiptLevel(str(one["level"])) for one in set_levels}
        agreed = [ReceiptLevel.NONE, *levels.values()][-1]
        allowed_from = 0
        for number, one in levels.items():
            allowed_from = 0 if one.rank < agreed.rank else allowed_from or number
        query = f"SELECT max(number) FROM events WHERE kind = '{RESTORED_ADOPTED}'"  # noqa: S608
        origin_hash = journal.read_event_hash(journal.query(query)[0][0] or 1) or ""
        return ReceiptState(
            level=agreed,
            number=int(str(written["number"])) if written else 0,
            previous=str(written["digest"]) if written else None,
            epoch=compute_sha256(origin_hash.encode())[:8],
            allowed_from=allowed_from,
        )


def set_receipt_level(journal: Journal, level: ReceiptLevel, actor: str) -> None:
    """Record the agreed level; remove unsent receipts of a higher level."""
    journal.record_event(RECEIPT_LEVEL_SET, level=level.value, by=actor)
    list_outgoing(journal.path.parent, level)


def prepare_receipt(site: Site, journal: Journal, level: ReceiptLevel) -> tuple[Receipt, str]:
    """Return the next receipt at a level, and the digest of the installed release's document.

    Creates the site's key if there is none.

    Raises:
        RECEIPT_KEY_UNUSABLE: If the key cannot be created or read.
        RECEIPTS_OFF: If the level is none.
        InterventionRequiredError: If no release is installed.
    """
    if level is ReceiptLevel.NONE:
        raise UpdaterError(RECEIPTS_OFF)
    key = load_key(site.state_directory)
    state = read_receipt_state(journal)
    running = require_current_version(site)
    config, last = site.config.site, find_last_change(journal)
    facts = {
        **(last.facts if last is not None else {}),
        "site": config.id,
        "country": config.country,
        "product": config.product,
        "running": str(running),
        "agent": str(site.agent_version),
        "root": TrustStateStore(site.state_directory).load().root_version or 1,
        "number": state.number + 1,
        "previous": state.previous,
        "epoch": state.epoch,
        "chain_head": re.sub(r"(:.{16}).*", r"\1", str(journal.read_head())),
        "day": journal.read_time().astimezone().date(),
        "key": encode_public_key(key),
    }
    document = site.slots.read_document(running).to_canonical_json()
    return make_receipt(facts, level), compute_sha256(document)


def write_receipt(
    site: Site, journal: Journal, level: ReceiptLevel, directory: Path, actor: str
) -> tuple[SignedReceipt, Path]:
    """Sign the next receipt and write it into a directory.

    Args:
        site: The site.
        journal: Journal, open for writing.
        level: The agreed level.
        directory: Directory of the file.
        actor: User who requested it.

    Raises:
        UpdaterError: As :func:`prepare_receipt`.
        OSError: If the file cannot be written; then nothing was recorded.
    """
    receipt, release = prepare_receipt(site, journal, level)
    signed = sign_receipt(receipt, release, make_signer(load_key(site.state_directory)))
    path = directory / f"receipt-{receipt.site}-{receipt.number}.json"
    with durable.open_for_replace(path) as stream:
        stream.write(signed.content)
        # Recorded before the file is renamed to its final name: no number is ever used for two
        # different receipts, neither after a crash nor by two commands at once.
        with journal.transaction():
            if read_receipt_state(journal).number != receipt.number - 1:
                raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(path))
            journal.append_event(
                RECEIPT_WRITTEN, None, number=receipt.number, digest=signed.digest,
                epoch=receipt.epoch, level=level.value, by=actor,
            )  # fmt: skip
    return signed, path


def list_addresses(site: Site) -> ReceiptAddresses:
    """Return the addresses for receipts in the newest verified root metadata."""
    root = TrustStateStore(site.state_directory).load().root
    return read_receipt_addresses(parse_json(root.encode())["signed"] if root else {})


def list_outgoing(state: Path, level: ReceiptLevel) -> list[tuple[SignedReceipt, Path]]:
    """Return unsent receipts by number; remove unreadable ones and those above the agreed level."""
    receipts = []
    for path in (state / OUTGOING_DIRECTORY).glob("receipt-*.json"):
        with suppress(UpdaterError, FileTooLargeError):  # written by another version of the agent
            signed = read_receipt(read_file(path, MAX_RECEIPT_BYTES), verify=False)
            if signed.receipt.level.rank <= level.rank:
                receipts.append((signed, path))
                continue
        durable.remove_file(path)
    return sorted(receipts, key=lambda one: one[0].receipt.number)


def queue_receipt(site: Site, journal: Journal, level: ReceiptLevel, actor: str) -> None:
    """Write the next receipt for sending, unless an unsent one has the same content.

    Raises:
        UpdaterError, OSError: As :func:`write_receipt`.
    """
    receipt, _ = prepare_receipt(site, journal, level)
    queued = [_select_content(one.receipt) for one, _ in list_outgoing(site.state_directory, level)]
    if _select_content(receipt) not in queued:
        durable.make_directory(site.state_directory / OUTGOING_DIRECTORY, 0o700)
        write_receipt(site, journal, level, site.state_directory / OUTGOING_DIRECTORY, actor)


def send_outgoing(
    journal: Journal,
    level: ReceiptLevel,
    deliver: Callable[[SignedReceipt], None],
    *,
    method: str,
    actor: str,
    scheduled: bool = False,
) -> list[SignedReceipt]:
    """Deliver and record the unsent receipts. Delivering one again after a crash is harmless.

    Args:
        journal: Journal, open for writing.
        level: The agreed level.
        deliver: Delivers one receipt, or raises.
        method: ``https`` or ``mailto``; the service uses the method that a user chose last.
        actor: User who requested it.
        scheduled: Whether the service sends automatically.
    """
    sent, last = [], find_last_change(journal)
    for signed, path in list_outgoing(journal.path.parent, level):
        deliver(signed)
        journal.record_event(
            RECEIPT_SENT, number=signed.receipt.number, digest=signed.digest, method=method,
            level=signed.receipt.level.value, outcome_id=last.outcome_id if last else "",
            by=actor, scheduled=scheduled,
        )  # fmt: skip
        durable.make_directory(path.parent / SENT_DIRECTORY, 0o700)
        durable.rename_entry(path, path.parent / SENT_DIRECTORY / path.name)
        sent.append(signed)
    return sent


def list_receipt_events(journal: Journal) -> list[JournalEvent]:
    """List the events about receipts (level set, written, sent), oldest first."""
    with guard_reads(journal.path):
        query = "SELECT * FROM events WHERE kind LIKE 'receipt-%' ORDER BY number"
        return [JournalEvent(row) for row in journal.query(query)]


def find_due_receipt(journal: Journal) -> tuple[datetime, str] | None:
    """Return when the next receipt is sent automatically, and by which method.

    After each change with an outcome, otherwise 30 days after the last one, in both cases with the
    delay of :func:`compute_delay`.

    Returns:
        None if receipts are off, or if no user has sent one since this level was allowed.
    """
    state = read_receipt_state(journal)
    sent = [event for event in list_receipt_events(journal) if event.kind == RECEIPT_SENT]
    with guard_reads(journal.path):
        by_users = [one for one in sent if not one["scheduled"] and one.number > state.allowed_from]
        if state.level is ReceiptLevel.NONE or not by_users:
            return None
        due_from, is_urgent, last = sent[-1].at + REPORT_INTERVAL, False, find_last_change(journal)
        if last is not None and last.outcome_id != sent[-1]["outcome_id"]:
            is_release_bad = last.facts["fault"] is Fault.RELEASE
            due_from, is_urgent = last.since, is_release_bad and "fault" in ALLOWED[state.level]
        secret = f"{journal.read_event_hash(sent[-1].number)} {last.outcome_id if last else ''}"
        return due_from + compute_delay(secret, is_urgent=is_urgent), str(by_users[-1]["method"])


def compute_delay(secret: str, *, is_urgent: bool) -> timedelta:
    """Return the pseudorandom delay after which a receipt is sent. Pure.

    Args:
        secret: Seed that outsiders do not know and that survives a restart.
        is_urgent: Whether the receipt reports a failure caused by the release.
    """
    most = MAX_FAILURE_DELAY if is_urgent else MAX_DELAY
    return most * (int(compute_sha256(secret.encode())[:8], 16) / 2**32)


def _select_content(receipt: Receipt) -> object:
    return receipt.running, receipt.level, receipt.change, receipt.outcome, receipt.ended


def load_key(state: Path) -> Ed25519PrivateKey:
    """Return the site's key; create it at the first use.

    Raises:
        RECEIPT_KEY_UNUSABLE: If the key cannot be read or created.
    """
    path = state / KEY_FILE
    try:
        if not path.exists():
            durable.write_file(path, Ed25519PrivateKey.generate().private_bytes_raw(), 0o600)
        return Ed25519PrivateKey.from_private_bytes(read_file(path, 32))
    except (OSError, ValueError) as error:
        raise UpdaterError(RECEIPT_KEY_UNUSABLE, path=path, detail=str(error)) from error


def classify_outcome(change: Change, facts: ChangeFacts) -> Outcome:
    """Return the outcome of a change. Pure."""
    if change.state is ChangeState.REVERTED:
        return Outcome.REVERTED
    if change.kind is ChangeKind.UPGRADE:
        return Outcome.SOAK_FAILED if facts.is_soak_failed else Outcome.UPGRADED
    return Outcome.SOAK_ROLLBACK if facts.failed_soak_upgrade else Outcome.ROLLED_BACK


@dataclass(frozen=True)
class LastChange:
    """The newest change that has an outcome.

    Attributes:
        outcome_id: Identifies change and outcome, to detect the next outcome.
        since: When it had this outcome.
        facts: Values by fields of a receipt.
    """

    outcome_id: str
    since: datetime
    facts: Mapping[str, object]


def find_last_change(journal: Journal) -> LastChange | None:
    """Return the newest change that has an outcome; None before the first."""
    for change in journal.list_changes(limit=10):
        facts = journal.read_facts(change.id)
        # An open change has an outcome only if its release failed in the soak period.
        if not change.state.is_open or (change.is_soaking and facts.is_soak_failed):
            return _read_outcome(journal, change, facts)
    return None


def _read_outcome(journal: Journal, change: Change, facts: ChangeFacts) -> LastChange:
    actual, predicted = measure_downtime(change, facts), find_predicted_range(journal, change.id)
    limits = (predicted.low, predicted.high) if predicted else ()
    seconds = [min(round(one), MAX_SECONDS) for one in (actual or 0, *limits)]
    outcome = classify_outcome(change, facts)
    blame = find_blame(journal, facts.failed_soak_upgrade or change.id)
    code = change.error_code or (str(blame["code"]) if blame else None)
    ended, soaking_since = change.ended_at or change.created_at, facts.soak_started_at
    return LastChange(
        outcome_id=f"{change.id} {outcome}",
        since=change.ended_at or (blame.at if blame else soaking_since) or change.created_at,
        facts={
            "change": [change.from_version, change.to_version],
            "outcome": outcome,
            "code": code,
            "fault": choose_fault(outcome, code, blamed=blame is not None),
            # An operator can end the soak period early.
            "soaked": facts.confirmed_by is None if outcome is Outcome.UPGRADED else None,
            "ended": ended.astimezone().date(),
            "downtime": None if actual is None else seconds,
        },
    )


#: Exit statuses of temporary errors: a full disk, no network, a hold, a closed window.
_TEMPORARY = (ExitCode.SPACE, ExitCode.NETWORK, ExitCode.BUSY, ExitCode.OUTSIDE_WINDOW_OR_HELD)
_INTERRUPTIONS = (INTERRUPTED, DATABASE_UNREACHABLE, SOAK_DATABASES_DOWN, SOAK_DISK_FULL)


def choose_fault(outcome: Outcome, code: str | None, *, blamed: bool) -> Fault | None:
    """Return the cause of a failure; None if the change did not fail. Pure.

    Args:
        outcome: The outcome of the change.
        code: Its error code; None if a power failure or a kill ended the change.
        blamed: Whether the release was marked bad for the failure.
    """
    if outcome in (Outcome.ROLLED_BACK, Outcome.UPGRADED):
        return None
    if blamed:
        return Fault.RELEASE
    error = find_message(code) if code is not None else INTERRUPTED
    if error is not None and (error in _INTERRUPTIONS or error.exit_code in _TEMPORARY):
        return Fault.INTERRUPTED
    return Fault.SITE


def find_blame(journal: Journal, change: str) -> JournalEvent | None:
    """Return the event by which a change marked its release bad; None without one."""
    blames = []
    for event in journal.list_events(change=change):
        if event.kind == "release-bad":
            blames.append(event)
        elif event.kind == "release-bad-withdrawn" and blames:
            blames.pop()
    return blames[-1] if blames else None
