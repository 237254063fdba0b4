"""Trust state: the newest verified metadata, where the feed-reading process cannot write.

A chain of signatures from the installed root shows that signers signed the metadata, but not that
it is the newest. Metadata signed by keys revoked since, metadata from before a withdrawal, and a
false time all have a valid chain. So the verifying process stores, in the state directory::

    trust-state.json  the newest root; the highest version of each role, with its signers and issue
                      time; the newest signed time; known emergency halts

and accepts nothing older. A withdrawal or halt by the signers is covered by the version of the
metadata that contains it. The rules are in :func:`record_roles`, which is pure:

* The root version never decreases: a chain starts at the newest verified root, not at the
  installed one.
* The version of a role never decreases while the signers of the known version may still sign for
  the role. If their keys were removed, for example after a theft, the next version may have any
  number, but its issue time may not be earlier than the known one; a known issue time in the
  future is ignored, because a thief may have set it.
* A signed time is stored only if the metadata has not expired at that time.

A missing file is created by the next verification. A damaged file is an error: otherwise an
attacker could remove the protection by damaging the file.
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

TRUST_STATE_NAME = "trust-state.json"
TRUST_STATE_LOCK_NAME = "trust-state.lock"
SCHEMA = 1
MAX_TRUST_STATE_BYTES = 2_000_000


@dataclass(frozen=True)
class VerifiedRole(JsonRecord):
    """The newest verified metadata of a role.

    Attributes:
        version: Version of the metadata.
        signers: Ids of the keys with valid signatures.
        issued: When it was signed, if the metadata says so.
    """

    version: int
    signers: tuple[str, ...] = ()
    issued: datetime | None = None


@dataclass(frozen=True)
class VerifiedSet(JsonRecord):
    """A product's metadata that was verified together with snapshot and timestamp.

    Attributes:
        version: Version of the product's metadata.
        expires: When the first role expires.
    """

    version: int
    expires: datetime


@dataclass(frozen=True)
class TrustState(JsonRecord):
    """The content of the trust state.

    Attributes:
        root: The newest root as signed; empty before the first verification.
        root_version: Version of that root.
        roles: The newest metadata by role.
        verified_sets: The last complete verification by product.
        clock_floor: The newest signed time.
        offline_timestamp_version: Timestamp version of the last imported bundle. Only this
            timestamp gets the grace for bundles, and the feed-reading process cannot set it.
        emergency_halts: Known emergency halts, by key and release.
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
    """Metadata whose signatures were just verified.

    Attributes:
        verified: The values to store.
        keys: Ids of the keys that may sign for the role now.
        threshold: Required number of signatures.
    """

    verified: VerifiedRole
    keys: frozenset[str]
    threshold: int


def record_roles(
    before: TrustState, verifications: Mapping[str, RoleVerification], now: datetime
) -> TrustState:
    """Return the trust state after metadata was verified under the newest root. Pure.

    Args:
        before: The present trust state.
        verifications: The verified metadata by role.
        now: The present time; a later issue time is in the future.

    Raises:
        TrustError: If metadata is older than the trust state.
    """
    roles = dict(before.roles)
    for role, verification in verifications.items():
        known = roles.get(role)
        if known is not None and verification.verified.version < known.version:
            still_valid = len(verification.keys & set(known.signers)) >= verification.threshold
            if still_valid or _is_signed_earlier(verification.verified, known, now):
                raise make_older_error(role, verification.verified.version, known.version)
        roles[role] = verification.verified
    return replace(before, roles=roles)


def _is_signed_earlier(found: VerifiedRole, known: VerifiedRole, now: datetime) -> bool:
    if known.issued is None or known.issued > now:
        return False
    return found.issued is None or found.issued < known.issued


def make_older_error(role: str, version: int, known: int) -> TrustError:
    """Return the error for metadata or a root that is older than the trust state."""
    return TrustError(METADATA_OLDER_THAN_TRUSTED, role=role, version=version, known=known)


def record_verified_set(
    before: TrustState, product: str, verified_set: VerifiedSet, floor: datetime | None
) -> TrustState:
    """Return the trust state after a complete verification; the clock floor never falls. Pure."""
    times = [time for time in (before.clock_floor, floor) if time is not None]
    verified_sets = {**before.verified_sets, product: verified_set}
    return replace(before, verified_sets=verified_sets, clock_floor=max(times, default=None))


class TrustStateStore:
    """The trust state on disk: one per site, since all products share root and snapshot.

    Args:
        state: State directory of the verifying process; the feed-reading process cannot write it.
        now: The system clock.
    """

    def __init__(self, state: Path, now: Callable[[], datetime] = get_system_time) -> None:
        self._path, self.now = state / TRUST_STATE_NAME, now

    def load(self) -> TrustState:
        """Return the trust state; an empty one before the first verification.

        Raises:
            TrustError: If the file is damaged or cannot be read.
        """
        try:
            data = parse_json(read_file(self._path, MAX_TRUST_STATE_BYTES))
            if not isinstance(data, dict) or data.get("schema") != SCHEMA:
                raise ValueError("invalid format")
            state = data["trust_state"]
            if compute_sha256(encode_canonical_json(state)) != data["sha256"]:
                raise ValueError("digest mismatch")
            return TrustState.from_json(state)
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
        """Apply a change to the trust state, and store the result before it is returned.

        Args:
            change: Pure function that returns the new state or raises. It is called again under
                the lock.

        Raises:
            TrustError: Raised by ``change``, or if the file is damaged or cannot be written.
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
                # A user with read access only: nothing is installed on the basis of the result.
                logger.info("no write access to %s: %s", self._path, error)
                return after
            raise TrustError(LOCAL_STORE_FAILED, detail=str(error)) from error
        return after

    def _write_state(self, state: TrustState) -> None:
        data = state.to_json()
        digest = compute_sha256(encode_canonical_json(data))
        durable.write_file(
            self._path,
            encode_canonical_json({"schema": SCHEMA, "sha256": digest, "trust_state": data}),
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
