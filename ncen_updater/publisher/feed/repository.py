"""Editing metadata: the library's repository over a feed state that stays untouched.

One place for version, expiry, issue time and signing. Offline roles come out as drafts without
signatures; online roles come out signed, or not at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any

from securesystemslib.signer import Signer
from tuf.api.metadata import Metadata, MetaFile, Snapshot, Targets, Timestamp  # type: ignore[attr-defined]
from tuf.repository import Repository  # type: ignore[attr-defined]

from ncen_updater.publisher.feed.feed import FeedState
from ncen_updater.publisher.signing.roles import FeedPolicy, stamp


class FeedRepository(Repository):
    """New versions of roles on top of a state.

    Args:
        state: What they stand on, never changed; None for the first versions of a feed.
        policy: Where the periods come from; that of the newest root.
        now: Moment of the edit (UTC); issue time and expiry count from it.
        signers: Signers of the online roles.

    Attributes:
        changed: The new versions, by role.
    """

    def __init__(
        self,
        state: FeedState | None,
        policy: FeedPolicy,
        now: datetime,
        signers: Mapping[str, Sequence[Signer]] | None = None,
    ) -> None:
        self._state = state
        self._policy = policy
        self._now = now.astimezone(UTC).replace(microsecond=0)
        self._signers = signers or {}
        self.changed: dict[str, Metadata[Any]] = {}

    def open(self, role: str) -> Metadata[Any]:
        """Return a copy of the role's newest version, or a first one."""
        known = self.changed.get(role) or self._published(role)
        if known is not None:
            return deepcopy(known)
        kinds: dict[str, type[Any]] = {"snapshot": Snapshot, "timestamp": Timestamp}
        return Metadata(kinds.get(role, Targets)(version=1))

    def _published(self, role: str) -> Metadata[Any] | None:
        return None if self._state is None else self._state.get(role)

    def _now_known(self) -> FeedState:
        if self._state is None:
            raise RuntimeError("online roles need the offline roles first")
        return self._state.with_changes(self.changed)

    def close(self, role: str, md: Metadata[Any]) -> None:
        """Number, date and sign a new version; one step above the state, however often edited."""
        before = self._published(role)
        md.signed.version = (before.signed.version if before else 0) + 1
        days = self._policy.expiry_days[role]
        md.signed.expires = self._now + timedelta(days=days)
        stamp(md.signed, role, self._now)
        md.signatures.clear()
        for signer in self._signers.get(role, ()):
            signature = md.sign(signer, append=True)
            # A token whose key is not the one of its public file signs without complaint.
            signer.public_key.verify_signature(signature, md.signed_bytes)
        self.changed[role] = md

    @property
    def targets_infos(self) -> dict[str, MetaFile]:
        """Versions of the roles that the next snapshot names."""
        state = self._now_known()
        return {
            "targets.json": MetaFile(version=state.targets.signed.version),
            **{
                f"{role}.json": MetaFile(version=metadata.signed.version)
                for role, metadata in state.delegated.items()
            },
        }

    @property
    def snapshot_info(self) -> MetaFile:
        """Version of the snapshot that the next timestamp names."""
        snapshot = self._now_known().snapshot
        if snapshot is None:
            raise RuntimeError("the snapshot comes before the timestamp")
        return MetaFile(version=snapshot.signed.version)
