"""Publish a signing event: check thresholds, sign online roles, write files in a safe order.

A client reads ``timestamp.json``, then the snapshot and roles that it names by version, and every
next root that exists. So the order of writes is:

1. targets, 2. product roles, 3. targets role, 4. snapshot: new names that nothing refers to yet;
5. a new root, under which the old metadata must still be valid (this is checked);
6. ``timestamp.json``, replaced by a rename: from here on clients see the new feed.

An interruption between any two writes leaves the old or the new feed. If a change of keys makes the
old metadata invalid under the new root, the timestamp is written first, provided that the new
metadata is also valid under the old root (old and new keys have both signed). If neither holds,
there is no safe order, and nothing is written unless that is accepted explicitly.

An interrupted publication is completed by the same call. Published files are never deleted;
temporary files are, by the next call that writes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from securesystemslib.signer import Signer
from tuf.api.metadata import Metadata, Root, TargetFile  # type: ignore[attr-defined]

from ncen_updater.common import atomic_files as durable
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.json_records import compute_sha256
from ncen_updater.common.messages import (
    FEED_BROKEN,
    PUBLISHER_TARGET_MISSING,
    STALE_EVENT,
)
from ncen_updater.common.progress import Amount, ProgressListener, SilentProgress
from ncen_updater.formats.rollout import (
    EMERGENCY_HALTS_FIELD,
    WAIVERS_FIELD,
    EmergencyHaltStatement,
    Waiver,
)
from ncen_updater.formats.target_names import ROOT_VERSION_FIELD
from ncen_updater.formats.tree import hash_file
from ncen_updater.publisher.distribute.emergency_halts import merge_emergency_halts
from ncen_updater.publisher.errors import make_write_error, report_errors
from ncen_updater.publisher.feed.feed_directory import (
    DurableWriter,
    FeedDirectory,
    FeedRepository,
    FeedState,
    SourceChangedError,
    get_target_file_name,
    list_delegated_roles,
    must_write_root_last,
    verify_role,
)
from ncen_updater.publisher.feed.role_policy import ONLINE_ROLES
from ncen_updater.publisher.signing.keys import make_key_error
from ncen_updater.publisher.signing.metadata_rules import (
    refuse_clock_behind,
    refuse_expired_roles,
    refuse_invalid_dates,
    refuse_invalid_drafts,
    require_signatures,
    require_threshold,
)
from ncen_updater.publisher.signing.signing_event import SigningEvent, compute_signed_digest

#: Signers of ``snapshot`` and ``timestamp``; a role has two during a change of its key.
OnlineSigners = Mapping[str, Sequence[Signer]]


@dataclass(frozen=True)
class PublishReport:
    """Result of a publication.

    Attributes:
        versions: The version of every role that is now served.
        new_roles: Roles with a new version.
        new_targets: Targets that were copied.
    """

    versions: Mapping[str, int]
    new_roles: tuple[str, ...]
    new_targets: tuple[str, ...] = ()


class Publisher:
    """Writes to one feed.

    Args:
        feed: The feed directory.
        clock: Returns the time (UTC).
        writer: Writes the files; tests pass one that stops midway.
        progress: Receives the progress.
    """

    def __init__(
        self,
        feed: FeedDirectory,
        clock: Callable[[], datetime],
        writer: DurableWriter | None = None,
        progress: ProgressListener | None = None,
    ) -> None:
        self._feed = feed
        self._clock = clock
        self._progress = progress or SilentProgress()
        self._writer = writer or DurableWriter()

    def publish_event(
        self,
        event: SigningEvent,
        staging: Sequence[Path],
        online: OnlineSigners,
        accept_interruption: bool = False,
        waivers: Sequence[Waiver] = (),
    ) -> PublishReport:
        """Publish an event whose roles all have enough signatures.

        Args:
            event: The event, with the signers' signatures.
            staging: Directories with new target files, each with a ``targets`` directory.
            online: Signers of snapshot and timestamp.
            accept_interruption: Whether to publish a change of keys even if a request of a client
                between two writes fails once.
            waivers: Waived conditions, which the snapshot records for ever.

        Raises:
            BELOW_THRESHOLD: If a role has too few signatures, also those of the previous root.
            STALE_EVENT: If the feed changed since the event was drafted.
            PUBLISHER_ROLE_EXPIRED: If an offline role has expired.
            PUBLISHER_TARGET_MISSING: If a target's file is missing or differs.
            KEY_CHANGE_NOT_ATOMIC: If there is no safe order of writes.
            DUPLICATE_KEY, KEY_NOT_ALLOWED: If a key is used for roles that exclude each other.
            FEED_BROKEN, FEED_BUSY: If the feed cannot be read or locked.
        """
        with self._feed.lock(make=not event.base):
            self._progress.report(LazyText(N_("verifying the signatures and the feed")))
            drafts = event.apply_signatures()
            base = self._read_base(event, drafts)
            state = _apply_drafts(base, drafts)
            now = self._clock()
            refuse_clock_behind(base, now)
            self._check_drafts(state, base, drafts, now)
            new_files = self._find_targets(state, base, drafts, staging)
            online_roles = self._sign_online(state, base, online, now, waivers=waivers)
            whole = state.replace_roles(online_roles)
            root_last = must_write_root_last(base, whole, accept=accept_interruption)
            if root_last and base is not None:
                # The timestamp is written before the root, so it must not name the new root.
                seen = base.root.signed.version
                online_roles = self._sign_online(state, base, online, now, seen, waivers=waivers)
                whole = state.replace_roles(online_roles)
            for role in ONLINE_ROLES:
                _require_signatures(whole, role)
            self._write(drafts, online_roles, new_files, root_last)
            return _make_report(whole, [*drafts, *online_roles], [t.path for t, _ in new_files])

    def refresh_online_roles(self, online: OnlineSigners) -> PublishReport:
        """Sign and publish the online roles that are due; write nothing if none is.

        A role is due when its renewal window has begun, when the newest root does not accept its
        signatures (after an interrupted change of keys), or when it does not name the newest
        versions.

        Returns:
            The versions now served; ``new_roles`` is empty if nothing was due.

        Raises:
            FEED_BROKEN, FEED_BUSY: If the feed cannot be read or locked.
            ONLINE_KEY_MISSING, KEY_NOT_ALLOWED: If the root does not list the online keys.
            BAD_DATES: If this machine's clock is behind.
        """
        with self._feed.lock():
            state = self._feed.read_state(verify=False)
            for role in state.list_offline_roles():
                _require_signatures(state, role)
            for role in ONLINE_ROLES:
                self._require_once_signed(state, role)
            now = self._clock()
            refuse_clock_behind(state, now)
            self._refuse_other_keys(state, state, online)
            if not any(_is_due(state, role, now) for role in ONLINE_ROLES):
                return _make_report(state, [])
            online_roles = self._sign_online(state, state, online, now)
            return self._publish_online(state, online_roles)

    def publish_emergency_halt(
        self,
        statement: Callable[[FeedState, datetime], EmergencyHaltStatement],
        online: OnlineSigners,
    ) -> PublishReport:
        """Publish an emergency halt, or its end: only the timestamp is signed again.

        Args:
            statement: Signs the halt for the present feed.
            online: Signers of snapshot and timestamp.

        Raises:
            TOO_MANY_EMERGENCY_HALTS: If the maximum number is reached.
            FEED_BROKEN, FEED_BUSY: If the feed cannot be read or locked.
            KEY_NOT_ALLOWED, BAD_DATES: As :meth:`refresh_online_roles`.
        """
        with self._feed.lock():
            state = self._feed.read_state()
            now = self._clock()
            refuse_clock_behind(state, now)
            halts = merge_emergency_halts(state, statement(state, now), now)
            online_roles = self._sign_online(state, state, online, now, halts=halts)
            return self._publish_online(state, online_roles)

    def _publish_online(
        self, state: FeedState, online_roles: Mapping[str, Metadata[Any]]
    ) -> PublishReport:
        whole = state.replace_roles(online_roles)
        for role in ONLINE_ROLES:
            _require_signatures(whole, role)
        self._write({}, online_roles, [], root_last=False)
        return _make_report(whole, list(online_roles))

    def _require_once_signed(self, state: FeedState, role: str) -> None:
        """Refuse a role that neither of the last two roots verifies."""
        if not any(
            verify_role(replace(state, root=root), role) for root in state.previous_roots[-2:]
        ):
            raise UpdaterError(
                FEED_BROKEN,
                path=self._feed.directory,
                reason=LazyText(
                    "signature threshold not reached for {role} under the last two roots",
                    {"role": role},
                ),
            )

    # ---- base and checks -------------------------------------------------------------------------

    def _read_base(
        self, event: SigningEvent, drafts: Mapping[str, Metadata[Any]]
    ) -> FeedState | None:
        if not self._feed.exists:
            if event.base:
                raise UpdaterError(FEED_BROKEN, path=self._feed.directory, reason="no timestamp")
            started = (self._feed.metadata_directory / "1.root.json").exists()
            # An interrupted first publication; only the same event may complete it.
            if started and compute_signed_digest(
                self._feed.read_roots()[0]
            ) != compute_signed_digest(drafts["root"]):
                raise UpdaterError(STALE_EVENT, role="root", found=1)
            return None
        state = self._feed.read_state(verify=False)
        for role, draft in drafts.items():
            live = state.get_role(role)
            found = live.signed.version if live else 0
            known = event.base.get(role)
            fits = (compute_signed_digest(live) if live else None) in (
                compute_signed_digest(draft),
                compute_signed_digest(known) if known else None,
            )
            if not fits:
                raise UpdaterError(STALE_EVENT, role=role, found=found)
        return state

    def _check_drafts(
        self,
        state: FeedState,
        base: FeedState | None,
        drafts: Mapping[str, Metadata[Any]],
        now: datetime,
    ) -> None:
        root = state.root.signed
        refuse_invalid_drafts(root, state.targets.signed, drafts)
        refuse_invalid_dates(root, drafts, now)
        previous: Root | None = None
        if "root" in drafts and base is not None and root.version > 1:
            previous = base.previous_roots[root.version - 2].signed
        require_signatures(state, previous, state.list_offline_roles())
        refuse_expired_roles(state, now)

    def _find_targets(
        self,
        state: FeedState,
        base: FeedState | None,
        drafts: Mapping[str, Metadata[Any]],
        staging: Sequence[Path],
    ) -> list[tuple[TargetFile, Path]]:
        roles = list_delegated_roles(state.targets.signed)
        missing: list[tuple[TargetFile, Path]] = []
        for role in [r for r in drafts if r != "root"]:
            before = base.get_role(role) if base else None
            for path, target in drafts[role].signed.targets.items():
                if role in roles and not roles[role].is_delegated_path(path):
                    raise UpdaterError(
                        PUBLISHER_TARGET_MISSING,
                        target=path,
                        detail=LazyText("{role} is not authorized for this name", {"role": role}),
                    )
                place = self._feed.get_target_path(target)
                old = before.signed.targets.get(path) if before else None
                if old is not None and old.hashes == target.hashes and place.is_file():
                    continue
                if place.is_file() and _is_target_file(place, target):
                    continue
                places = [folder / "targets" / path for folder in staging]
                source = next(
                    (p for p in places if p.is_file() and _is_target_file(p, target)), None
                )
                if source is None:
                    raise UpdaterError(PUBLISHER_TARGET_MISSING, target=path)
                if all(get_target_file_name(t) != get_target_file_name(target) for t, _ in missing):
                    missing.append((target, source))
        return missing

    def _sign_online(
        self,
        state: FeedState,
        base: FeedState | None,
        online: OnlineSigners,
        now: datetime,
        root_seen: int | None = None,
        halts: Sequence[Mapping[str, Any]] | None = None,
        waivers: Sequence[Waiver] = (),
    ) -> dict[str, Metadata[Any]]:
        self._refuse_other_keys(state, base, online)
        repository = FeedRepository(state, state.policy, now, online)
        repository.do_snapshot(force=base is None or _is_due(state, "snapshot", now))
        if waivers:
            with repository.edit_snapshot() as snapshot:
                recorded = [waiver.model_dump(mode="json") for waiver in waivers]
                snapshot.unrecognized_fields[WAIVERS_FIELD] = recorded
        with repository.edit_timestamp() as timestamp:
            timestamp.snapshot_meta = repository.snapshot_info
            timestamp.unrecognized_fields[ROOT_VERSION_FIELD] = (
                root_seen or state.root.signed.version
            )
            if halts is not None:
                timestamp.unrecognized_fields[EMERGENCY_HALTS_FIELD] = list(halts)
        return repository.changed

    def _refuse_other_keys(
        self, state: FeedState, base: FeedState | None, online: OnlineSigners
    ) -> None:
        for role in ONLINE_ROLES:
            roots = [one.root.signed for one in (base, state) if one]
            allowed = {k: root.keys[k] for root in roots for k in root.roles[role].keyids}
            for signer in online.get(role, ()):
                if signer.public_key.keyid not in allowed:
                    raise make_key_error(signer.public_key, role, allowed.values())

    def _write(
        self,
        drafts: Mapping[str, Metadata[Any]],
        online_roles: Mapping[str, Metadata[Any]],
        files: Sequence[tuple[TargetFile, Path]],
        root_last: bool,
    ) -> None:
        try:
            self._remove_leftovers()
            self._write_in_order(drafts, online_roles, files, root_last)
        except OSError as error:
            raise make_write_error(error) from error

    def _remove_leftovers(self) -> None:
        """Remove partial files that an interrupted publication left behind, under its lock."""
        for path in self._feed.directory.rglob(".*"):
            if path.is_file() and durable.is_partial_file(path):
                durable.remove_file(path)

    def _write_in_order(
        self,
        drafts: Mapping[str, Metadata[Any]],
        online_roles: Mapping[str, Metadata[Any]],
        files: Sequence[tuple[TargetFile, Path]],
        root_last: bool,
    ) -> None:
        for number, (target, source) in enumerate(files):
            words = LazyText(N_("publishing {name}"), {"name": target.path})
            self._progress.report(words, Amount(number + 1, len(files)))
            with report_errors(PUBLISHER_TARGET_MISSING, SourceChangedError, target=target.path):
                self._writer.copy_file(
                    self._feed.get_target_path(target), source, target.hashes["sha256"]
                )
        self._progress.report(LazyText(N_("writing the metadata")))
        order = [r for r in drafts if r not in ("root", "targets")] + ["targets", "snapshot"]
        order += ["timestamp", "root"] if root_last else ["root", "timestamp"]
        for role in order:
            metadata = drafts.get(role) or online_roles.get(role)
            if metadata is None:
                continue
            path = self._feed.get_metadata_path(role, metadata.signed.version)
            content = metadata.to_bytes()
            if not (
                path.is_file() and compute_sha256(path.read_bytes()) == compute_sha256(content)
            ):
                self._writer.write_file(path, content)


def _apply_drafts(base: FeedState | None, drafts: Mapping[str, Metadata[Any]]) -> FeedState:
    if base is not None:
        return base.replace_roles(drafts)
    rest = {r: m for r, m in drafts.items() if r not in ("root", "targets")}
    return FeedState(drafts["root"], drafts["targets"], rest)


def _is_due(state: FeedState, role: str, now: datetime) -> bool:
    """Return whether an online role has to be signed again."""
    metadata = state.get_role(role)
    if metadata is None or not verify_role(state, role):
        return True
    named = metadata.signed.unrecognized_fields.get(ROOT_VERSION_FIELD)
    left = metadata.signed.expires - now
    other_root = role == "timestamp" and named != state.root.signed.version
    return other_root or bool(left < state.policy.get_renewal_window(role))


def _require_signatures(state: FeedState, role: str) -> None:
    require_threshold(role, verify_role(state, role))


def _is_target_file(path: Path, target: TargetFile) -> bool:
    return path.stat().st_size == target.length and hash_file(path) == target.hashes["sha256"]


def _make_report(
    state: FeedState, roles: Sequence[str], targets: Sequence[str] = ()
) -> PublishReport:
    versions = {
        role: metadata.signed.version
        for role in (*state.list_offline_roles(), *ONLINE_ROLES)
        if (metadata := state.get_role(role)) is not None
    }
    return PublishReport(versions, tuple(sorted(set(roles))), tuple(targets))
