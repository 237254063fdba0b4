"""Trust state: verified metadata, stored where the process that reads the feed cannot write.

A chain of signatures from the installed root shows that signers signed a list, not that it is the
last that they signed: keys that were revoked since, a list from before a release was withdrawn, and
a time that nobody signed all fit such a chain. So the verifying process stores, in the state
directory::

    proved.json     the newest root; of each list the highest version, who signed it and when; the
                    newest time that signers signed; emergency halts that were seen

and takes nothing lower. That a release was withdrawn or halted is kept by the version of the list
that says so. The rules are :func:`record_roles`, which is pure.

* A root never goes back: a chain begins at the newest one that was proved, not at the installed.
* A list never goes back while who signed the one seen may still sign it. Where signers took these
  keys away, as after a theft, their next list may have any number, but none may have been signed
  earlier than the one seen; unless that says a time to come, as a thief may.
* A signed time counts only if the lists hold under it, as for the reader.

A missing file is built from the next proof. A damaged one is an error: what
it protects from would otherwise be had by damaging it.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from ncen_updater.common import atomic_files as durable
from ncen_updater.common.bounded_io import (
    FileTooLargeError,
    NotRegularFileError,
    parse_json,
    read_file,
)
from ncen_updater.common.json_records import JsonRecord, compute_sha256, encode_canonical_json
from ncen_updater.common.messages import (
    LOCAL_STORE_FAILED,
    METADATA_OLDER_THAN_TRUSTED,
    TRUST_STATE_DAMAGED,
)
from ncen_updater.feed.clock import get_system_time
from ncen_updater.feed.errors import TrustError
from ncen_updater.feed.feed_summary import KnownEmergencyHalt

logger = logging.getLogger(__name__)

TRUST_STATE_NAME = "proved.json"
TRUST_STATE_LOCK_NAME = "proved.lock"
SCHEMA = 1
MAX_TRUST_STATE_BYTES = 2_000_000


@dataclass(frozen=True)
class VerifiedRole(JsonRecord):
    """The newest list of a role that was proved.

    Attributes:
        version: Its number.
        signers: Ids of the keys whose signatures counted.
        issued: When signers signed it, where it says so.
    """

    version: int
    signers: tuple[str, ...] = ()
    issued: datetime | None = None


@dataclass(frozen=True)
class VerifiedSet(JsonRecord):
    """A list of a product that was proved together with snapshot and timestamp.

    Attributes:
        version: Its number.
        expires: When the first of them lapses.
    """

    version: int
    expires: datetime


@dataclass(frozen=True)
class TrustState(JsonRecord):
    """All that is remembered.

    Attributes:
        root: The newest root, as it was signed; empty before the first.
        root_version: Its number.
        roles: The newest list by role.
        verified_sets: The last whole proof by product.
        clock_floor: The newest time that signers signed.
        offline_timestamp_version: The timestamp that came on the medium imported last: it alone
            counts beyond
            its expiry, and the reader does not choose which that is.
        emergency_halts: What one signer halted for a while, by key and release.
    """

    root: str = ""
    root_version: int = 0
    roles: Mapping[str, VerifiedRole] = field(default_factory=dict)
    verified_sets: Mapping[str, VerifiedSet] = field(default_factory=dict)
    clock_floor: datetime | None = None
    offline_timestamp_version: int | None = None
    emergency_halts: Mapping[str, KnownEmergencyHalt] = field(default_factory=dict)


@dataclass(frozen=True)
class RoleVerification:
    """A list whose signatures were just verified.

    Attributes:
        verified: What is remembered of it.
        keys: Ids of the keys that may sign it now.
        threshold: How many of them must.
    """

    verified: VerifiedRole
    keys: frozenset[str]
    threshold: int


def record_roles(
    before: TrustState, verifications: Mapping[str, RoleVerification], now: datetime
) -> TrustState:
    """Return the memory after some lists were verified under the newest root; pure.

    Args:
        before: What is remembered.
        verifications: The lists by their roles.
        now: The time by which a signed time is one to come.

    Raises:
        TrustError: If one of them is older than what was proved before.
    """
    seen = dict(before.roles)
    for role, proof in verifications.items():
        known = seen.get(role)
        if known is not None and proof.verified.version < known.version:
            still_valid = len(proof.keys & set(known.signers)) >= proof.threshold
            if still_valid or _is_signed_earlier(proof.verified, known, now):
                raise make_older_error(role, proof.verified.version, known.version)
        seen[role] = proof.verified
    return replace(before, roles=seen)


def _is_signed_earlier(found: VerifiedRole, known: VerifiedRole, now: datetime) -> bool:
    if known.issued is None or known.issued > now:
        return False
    return found.issued is None or found.issued < known.issued


def make_older_error(role: str, version: int, known: int) -> TrustError:
    """Say that a list or a root is older than what was proved here."""
    return TrustError(METADATA_OLDER_THAN_TRUSTED, role=role, version=version, known=known)


def record_verified_set(
    before: TrustState, product: str, verified_set: VerifiedSet, floor: datetime | None
) -> TrustState:
    """Return the memory after a product's list was proved whole; a signed time only rises; pure."""
    times = [time for time in (before.clock_floor, floor) if time is not None]
    retained = {**before.verified_sets, product: verified_set}
    return replace(before, verified_sets=retained, clock_floor=max(times, default=None))


class TrustStateStore:
    """The memory of a site; one for all products, since they have one root and one snapshot.

    Args:
        state: The state directory of the verifying process. The reader may not write there.
        now: The system clock.
    """

    def __init__(self, state: Path, now: Callable[[], datetime] = get_system_time) -> None:
        self._path, self.now = state / TRUST_STATE_NAME, now

    def load(self) -> TrustState:
        """Return what is remembered; nothing before the first proof.

        Raises:
            TrustError: If the file is damaged or cannot be read.
        """
        try:
            data = parse_json(read_file(self._path, MAX_TRUST_STATE_BYTES))
            if not isinstance(data, dict) or data.get("schema") != SCHEMA:
                raise ValueError("invalid format")
            proved = data["proved"]
            if compute_sha256(encode_canonical_json(proved)) != data["sha256"]:
                raise ValueError("digest mismatch")
            return TrustState.from_json(proved)
        except FileNotFoundError:
            return TrustState()
        except (
            ValueError, KeyError, TypeError, OverflowError, NotRegularFileError, FileTooLargeError,
        ) as error:  # fmt: skip
            raise TrustError(
                TRUST_STATE_DAMAGED, path=self._path, detail=str(error)[:500]
            ) from error
        except OSError as error:
            raise TrustError(LOCAL_STORE_FAILED, detail=str(error)) from error

    def get_reference_time(self) -> datetime:
        """Return the system time, but never earlier than the newest verified signed time."""
        floor, now = self.load().clock_floor, self.now()
        return now if floor is None else max(now, floor)

    def update(self, change: Callable[[TrustState], TrustState]) -> TrustState:
        """Apply a change to what is remembered and keep the result before it is relied on.

        Args:
            change: Pure; raises what the memory refuses. Called again under the lock.

        Raises:
            TrustError: As the change raises, or if the memory is damaged or cannot be kept.
        """
        before = self.load()
        after = change(before)
        if after == before:
            return after
        try:
            with self._lock_state():
                before = self.load()
                after = change(before)
                if after != before:
                    self._write_state(after)
        except OSError as error:
            if isinstance(error, PermissionError) and os.geteuid() != 0:
                # Somebody who may look and not work: nothing is installed by what they see.
                logger.info("%s is not ours to write: %s", self._path, error)
                return after
            raise TrustError(LOCAL_STORE_FAILED, detail=str(error)) from error
        return after

    def _write_state(self, proved: TrustState) -> None:
        data = proved.to_json()
        digest = compute_sha256(encode_canonical_json(data))
        durable.write_file(
            self._path, encode_canonical_json({"schema": SCHEMA, "sha256": digest, "proved": data})
        )

    @contextlib.contextmanager
    def _lock_state(self) -> Iterator[None]:
        durable.make_directory(self._path.parent, 0o750)
        lock = self._path.with_name(TRUST_STATE_LOCK_NAME)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)
