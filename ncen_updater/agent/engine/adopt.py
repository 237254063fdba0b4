"""Adopt an installation made by hand, or databases restored by hand (``adopt --restored``).

A database administrator may restore databases from a backup older than an upgrade, or recreate them
under their names. Code, journal and databases then contradict each other, and the agent refuses all
changes. Two approvers confirm that this was done on purpose. The databases are compared with the
release that they name, and then code, databases and journal are set to that release.

Order of writes: the marker in the databases, then the names of the site files, then ``current``,
then the journal. Until that last record the contradiction remains, and the command can be repeated.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.version import Version

from ncen_updater.agent.adapters.databases.base import ChangeRef, LiveDatabase
from ncen_updater.agent.adapters.databases.migrations.planner import load_migrations
from ncen_updater.agent.engine import file_snapshots as site_files
from ncen_updater.agent.engine.approvals.approval import ApprovalCount
from ncen_updater.agent.engine.approvals.approval_store import ApprovalStore, reject_shared_account
from ncen_updater.agent.engine.change_guards import find_last_upgrade, require_no_open_change
from ncen_updater.agent.engine.installed_release import (
    InstalledRelease,
    find_mismatch,
    inspect_installed,
)
from ncen_updater.agent.engine.lock import hold_change_lock
from ncen_updater.agent.engine.observed_state import (
    ADOPTED,
    observe_site,
    read_recorded_state,
    read_release_fingerprints,
)
from ncen_updater.agent.engine.recovery import RecoveryAction, decide_recovery
from ncen_updater.agent.engine.schema_fingerprints import DatabaseSchemas, read_schemas
from ncen_updater.agent.engine.site import Site, make_change_ref
from ncen_updater.agent.model.change import Actor, Change, ChangeState, new_change_id
from ncen_updater.agent.model.errors import MigrationRefusedError
from ncen_updater.agent.model.event_names import (
    CHANGE_LOCK_FILE,
    JOURNAL_FILE,
    RESTORED_ADOPTED,
    RESTORED_APPROVAL_PREFIX,
)
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.findings import Finding
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import (
    ALREADY_ADOPTED,
    CURRENT_LINK_MISMATCH,
    DATABASES_ALREADY_MANAGED,
    JOURNAL_EXISTS,
    RELEASE_FILES_ALTERED,
    RELEASE_NOT_ON_DISK,
    RELEASE_NOT_ON_OFFER,
    RESTORED_DATABASE_MISMATCH,
    STOP_APPLICATION_FIRST,
)
from ncen_updater.common.progress import ProgressListener, SilentProgress
from ncen_updater.feed.offers import DownloadedRelease
from ncen_updater.formats.archive import unpack_selected_files
from ncen_updater.formats.release_document import Offer

#: Maximum number of changed files named in an error; 'verify' lists all.
MAX_FILES_SHOWN = 5

#: Required number of approvals, whatever the site requires for an upgrade.
REQUIRED_APPROVALS = 2
#: Id of the adoption in migration ledgers; no change has it, since its alphabet lacks the digit 1.
ADOPTION_ID = "adopted1"

#: Events after which an adoption can no longer be corrected, since it was relied on.
EVENTS_AFTER_ADOPTION = frozenset({RESTORED_ADOPTED, "rehearsal-started", "approved"})


@dataclass(frozen=True)
class AdoptionPlan:
    """Effects of an adoption, and the evidence for it.

    Attributes:
        version: The release, in its own spelling.
        release_files: Its document, tree and archive.
        slot: Directory of its slot, existing or not.
        slot_exists: Whether a directory exists there, to be compared and adopted as the slot.
        sets_current: Whether ``current`` would be set.
        installed: Evidence from application and databases.
        corrects: The release with which the site was adopted by mistake.
        findings: Findings on roles and logins in the databases; none of them refuses the adoption.
    """

    version: Version
    release_files: DownloadedRelease
    slot: Path
    slot_exists: bool
    sets_current: bool
    installed: InstalledRelease
    corrects: Version | None = None
    findings: tuple[Finding, ...] = ()


def inspect_adoption(site: Site, version: Version, progress: ProgressListener) -> AdoptionPlan:
    """Query application and databases and describe an adoption. The site is not changed.

    Raises:
        JOURNAL_EXISTS: If the site was already adopted with this release.
        ALREADY_ADOPTED: If it was adopted with another one, and events have happened since.
        OPEN_CHANGE: If a change is open.
        DATABASES_ALREADY_MANAGED: If an agent changed the databases, and its journal is lost.
        CURRENT_LINK_MISMATCH: If ``current`` points to another release.
        RELEASE_NOT_ON_OFFER: If the feed does not offer this release.
        UpdaterError: If application or databases cannot be queried, or the databases would not let
            the application in again.
    """
    corrects = _find_correctable_adoption(site, version)
    trace = next(_find_agent_traces(site), None)
    if trace is not None:
        raise UpdaterError(
            DATABASES_ALREADY_MANAGED, path=site.state_directory / JOURNAL_FILE, sign=trace
        )
    offer = _find_offer(site, version)
    installed_version = offer.release_version
    current = site.slots.read_current()
    if current not in (None, installed_version, corrects):
        raise UpdaterError(
            CURRENT_LINK_MISMATCH,
            link=site.slots.current_link,
            current=current,
            version=installed_version,
        )
    download = site.release_source.download_release(offer, progress)
    slot = site.slots.get_slot_directory(installed_version)
    document = download.document
    with tempfile.TemporaryDirectory(prefix=".looking-", dir=site.state_directory) as directory:
        unpack_selected_files(download.archive, download.tree, document.migrations, Path(directory))
        migrations = load_migrations(
            document.manifest,
            Path(directory),
            site.database_engine.engine_name,
            document.migrations,
        )
        progress.report(LazyText(N_("querying the application and the databases")))
        findings = site.database_engine.find_exposures()
        installed = inspect_installed(
            site, installed_version, document.manifest, migrations, ADOPTION_ID
        )
    slot_exists = slot.is_dir() and installed_version not in site.slots.list_versions()
    return AdoptionPlan(
        installed_version,
        download,
        slot,
        slot_exists,
        current != installed_version,
        installed,
        corrects,
        findings,
    )


def require_matching_release(adoption: AdoptionPlan, *, confirmed: bool) -> None:
    """Refuse if application or databases show that another release is installed.

    Args:
        adoption: Result of :func:`inspect_adoption`.
        confirmed: Whether an operator confirms the version that the application does not report.

    Raises:
        ADOPT_VERSION_MISMATCH: The application reports another release.
        ADOPT_DATABASE_MISMATCH: A database does not match the release.
        VERSION_NOT_REPORTED: The application reports no version, and no operator confirms it.
    """
    error = find_mismatch(adoption.installed, adoption.version, confirmed=confirmed)
    if error is not None:
        raise error


def adopt_site(
    site: Site, version: Version, progress: ProgressListener, *, confirmed: bool = False
) -> AdoptionPlan:
    """Build the slot of the installed release, write the ledgers, and create the journal.

    The release is fetched from the feed and verified like any other. If a directory exists in place
    of its slot, it is compared with the signed tree and becomes the slot; otherwise the slot is
    built. The journal is created last: until then the adoption can be repeated. Afterwards it can
    be corrected as long as nothing else has happened; the correction is recorded as a second event.

    Args:
        site: The site.
        version: The release that the operator named.
        progress: Receives progress reports.
        confirmed: Whether an operator confirms the version that the application does not report.

    Raises:
        UpdaterError: As :func:`inspect_adoption` and :func:`require_matching_release`, or because
            the installed files are not the signed ones.
    """
    with hold_change_lock(site.state_directory / CHANGE_LOCK_FILE, "adopt"):
        adoption = inspect_adoption(site, version, progress)
        require_matching_release(adoption, confirmed=confirmed)
        installed_version, download = adoption.version, adoption.release_files
        if adoption.slot_exists:
            site.slots.adopt_directory(installed_version, download.document, download.tree)
        else:
            site.slots.build_slot(download.document, download.tree, download.archive, progress)
        if adoption.sets_current:
            site.slots.switch_current(installed_version)
        reference = ChangeRef(ADOPTION_ID, 0, str(installed_version))
        migrations = site.load_migrations(installed_version)
        site.database_engine.adopt_databases()
        if migrations.migrator is None or adoption.corrects is not None:
            site.database_engine.baseline_ledger(reference, migrations)
        schemas = read_schemas(site.database_engine, LiveDatabase)
        facts: dict[str, object] = {
            "release": str(installed_version),
            "fingerprints": dict(schemas.fingerprints),
            "schema_kinds": dict(schemas.kinds),
            "generation": 0,
            "application": adoption.installed.application.version or None,
            "confirmed_by_operator": confirmed and not adoption.installed.application.version,
        }
        path = site.state_directory / JOURNAL_FILE
        if adoption.corrects is None:
            Journal.create(path, now=site.clock.now, first_event=(ADOPTED, facts)).close()
        else:
            with Journal.open(path, now=site.clock.now) as journal:
                journal.record_event(ADOPTED, None, **facts, corrects=str(adoption.corrects))
    return adoption


def _find_correctable_adoption(site: Site, version: Version) -> Version | None:
    """Return the release of an adoption that may be corrected; None if the site was not adopted."""
    path = site.state_directory / JOURNAL_FILE
    if not (path.exists() or path.is_symlink()):
        return None
    with Journal.open(path, read_only=True) as journal:
        require_no_open_change(journal)
        events = journal.list_events()
        adopted = [event for event in events if event.kind == ADOPTED]
        correctable = not journal.list_changes(1) and not any(
            e.kind in EVENTS_AFTER_ADOPTION for e in events
        )
    if not adopted:
        raise UpdaterError(JOURNAL_EXISTS, path=path)
    adopted_version = Version(str(adopted[-1].data["release"]))
    if adopted_version == version:
        raise UpdaterError(JOURNAL_EXISTS, path=path)
    if not correctable:
        raise UpdaterError(ALREADY_ADOPTED, current=adopted_version)
    return adopted_version


def _find_agent_traces(site: Site) -> Iterator[LazyText]:
    """Yield the signs in the databases that an agent has changed them."""
    marker = site.database_engine.read_marker()
    if marker is not None:
        values = {"change": marker.change, "release": marker.release}
        yield LazyText(N_("databases marked as {release} by change {change}"), values)
    changes = sorted({change for change, _, _ in site.database_engine.list_leftovers()})
    if changes:
        template = N_("copies of earlier changes found ({changes})")
        yield LazyText(template, {"changes": ", ".join(changes)})
    if site.database_engine.read_evidence(None).fenced:
        yield LazyText(N_("databases closed by a change"))


def _find_offer(site: Site, version: Version) -> Offer:
    for offer in site.release_source.refresh().offers:
        if offer.release_version == version:
            return offer
    raise UpdaterError(RELEASE_NOT_ON_OFFER, version=version)


@dataclass(frozen=True)
class RestoredDatabases:
    """Restored databases, and the effects of adopting them.

    Attributes:
        release: The release that the operator named for them.
        current: The release whose code is in use.
        fingerprints: Fingerprints of their schemas, by logical name.
        schema_kinds: Fingerprints of each kind of schema object.
        unverified: Databases that cannot be verified to be of this release.
        closes: The change that recovery gave up; the adoption closes it.
        approvals: The approvals.
        reasons: The reasons by approver.
    """

    release: Version
    current: Version | None
    fingerprints: Mapping[str, str]
    schema_kinds: Mapping[str, Mapping[str, str]]
    unverified: tuple[str, ...]
    closes: Change | None
    approvals: ApprovalCount
    reasons: Mapping[str, str]

    @property
    def switches_code(self) -> bool:
        """Return whether the code of another release must be selected."""
        return self.current != self.release

    @property
    def binding(self) -> str:
        """Return the binding of an approval: the release and the restored schemas."""
        return _compute_binding(self.release, self.fingerprints)


def _compute_binding(release: Version, fingerprints: Mapping[str, str]) -> str:
    content = {"adopt-restored": str(release), "schemas": dict(fingerprints)}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def inspect_restored(
    site: Site, journal: Journal, release: Version, progress: ProgressListener
) -> RestoredDatabases:
    """Inspect restored databases. Changes nothing.

    Raises:
        OPEN_CHANGE: A change is open that a resume can complete or revert.
        RELEASE_NOT_ON_DISK: The slot of the release does not exist.
        RELEASE_FILES_ALTERED: Files of the slot were changed.
        STOP_APPLICATION_FIRST: The application runs with other code, or while site files must be
            restored.
        RESTORED_DATABASE_MISMATCH: A database is not of this release.
        UpdaterError: Something cannot be inspected.
    """
    change = journal.find_open_change()
    if change is not None:
        decision = decide_recovery(observe_site(site, change, by_operator=True))
        if decision.action is not RecoveryAction.STOP:
            require_no_open_change(journal)
    versions = site.slots.list_versions()
    if release not in versions:
        names = ", ".join(str(version) for version in sorted(versions))
        raise UpdaterError(RELEASE_NOT_ON_DISK, version=release, versions=names or "-")
    differences = site.slots.verify_slot(release, progress)
    if differences:
        raise UpdaterError(
            RELEASE_FILES_ALTERED,
            version=release,
            files=", ".join(difference.path for difference in differences[:MAX_FILES_SHOWN]),
        )
    current = site.slots.read_current()
    # Site files are restored only while the application is stopped.
    restores_files = change is not None and site_files.must_restore_files(journal, change)
    if (current != release or restores_files) and site.application.is_running():
        product = site.config.site.product
        raise UpdaterError(
            STOP_APPLICATION_FIRST, product=product, current=current or "-", version=release
        )
    schemas, unverified = _inspect_schemas(site, journal, release)
    binding = _compute_binding(release, schemas.fingerprints)
    approvals = ApprovalStore(journal).count_for_binding(binding, REQUIRED_APPROVALS)
    return RestoredDatabases(
        release, current, schemas.fingerprints, schemas.kinds, unverified, change, approvals,
        _read_reasons(journal, binding),
    )  # fmt: skip


def _read_reasons(journal: Journal, binding: str) -> dict[str, str]:
    """Return the reasons of the approvers, by name."""
    return {
        str(event.data.get("by")): str(event.data["reason"])
        for event in journal.list_events()
        if event.data.get("binding") == binding and "reason" in event.data
    }


def _inspect_schemas(
    site: Site, journal: Journal, release: Version
) -> tuple[DatabaseSchemas, tuple[str, ...]]:
    engine, migrations = site.database_engine, site.load_migrations(release)
    unapplied: dict[str, str] = {}
    if migrations.migrator is None:
        try:
            steps = engine.plan_migrations(LiveDatabase, migrations, None).steps
        except MigrationRefusedError as error:
            database = str(error.values.get("database", "-"))
            reason = error.values.get("reason", "-")
            raise UpdaterError(
                RESTORED_DATABASE_MISMATCH, database=database, version=release, reason=reason
            ) from error
        for step in steps:
            unapplied.setdefault(step.database, step.id)
    schemas = read_schemas(engine, LiveDatabase)
    if migrations.migrator is None and not unapplied:
        return schemas, ()
    recorded = {
        version: read_release_fingerprints(journal, version)
        for version in site.slots.list_versions()
    }
    unverified: list[str] = []
    for name, fingerprint in schemas.fingerprints.items():
        if migrations.migrator is None and name not in unapplied:
            continue
        matching = {v for v, known in recorded.items() if known.get(name) == fingerprint}
        match = match_release(release, matching, unapplied.get(name))
        if match.mismatch is not None:
            raise UpdaterError(
                RESTORED_DATABASE_MISMATCH, database=name, version=release, reason=match.mismatch
            )
        if not match.verified:
            unverified.append(name)
    return schemas, tuple(unverified)


@dataclass(frozen=True)
class ReleaseMatch:
    """Whether a database belongs to a release.

    Attributes:
        verified: Whether that is certain.
        mismatch: Why it does not; None if it does or may.
    """

    verified: bool
    mismatch: LazyText | None = None


def match_release(
    release: Version, matching_releases: Collection[Version], unapplied_migration: str | None
) -> ReleaseMatch:
    """Determine whether a database belongs to a release; pure.

    A schema that is recorded for no release may still be this one's: a server may reword it when a
    backup is restored, and an application may change it while it runs.

    Args:
        release: The release.
        matching_releases: Releases whose databases had exactly this schema at this site.
        unapplied_migration: A migration of the release that is not applied; None if there is none,
            or if the release has a migrator instead.
    """
    if release in matching_releases:
        return ReleaseMatch(verified=True)
    if unapplied_migration is not None:
        text = N_("migration {migration} of this release is not applied")
        return ReleaseMatch(False, LazyText(text, {"migration": unapplied_migration}))
    if matching_releases:
        text = N_("its schema is that of release {other}")
        return ReleaseMatch(False, LazyText(text, {"other": max(matching_releases)}))
    return ReleaseMatch(verified=False)


def approve_restored(
    journal: Journal, restored: RestoredDatabases, actor: Actor, reason: str
) -> ApprovalCount:
    """Record the approval and its reason, and return all approvals.

    Raises:
        APPROVER_IS_SHARED_ACCOUNT: If the actor is a shared account.
    """
    reject_shared_account(actor, REQUIRED_APPROVALS)
    basis = {"adopt-restored": str(restored.release), "schemas": dict(restored.fingerprints)}
    store = ApprovalStore(journal)
    name = f"{RESTORED_APPROVAL_PREFIX}{restored.release}"
    store.add(restored.binding, name, basis, actor, reason=reason)
    return store.count_for_binding(restored.binding, REQUIRED_APPROVALS)


def adopt_restored(
    site: Site,
    journal: Journal,
    restored: RestoredDatabases,
    approvals: ApprovalCount,
    new_id: Callable[[], str] = new_change_id,
    progress: ProgressListener | None = None,
) -> None:
    """Set databases, code and journal to the same release; can be repeated after a crash.

    Site files are restored from the snapshot of the replaced change, unless the adopted release is
    the one that it installed.

    Args:
        site: The site.
        journal: The journal, open for writing, under the lock of changes.
        restored: Result of :func:`inspect_restored`, under the same lock.
        approvals: The approvals.
        new_id: Creates the id of a change.
        progress: Receives reports on restored files.

    Raises:
        SITE_FILES_NOT_RESTORED: If site files cannot be restored now.
    """
    reasons = _read_reasons(journal, restored.binding)
    generations = [
        read_recorded_state(journal).generation,
        *(c.generation for c in journal.list_changes()),
    ]
    change = ChangeRef(new_id(), max(generations) + 1, str(restored.release))
    closes = make_change_ref(restored.closes) if restored.closes else None
    site.database_engine.adopt_restored(change, site.load_migrations(restored.release), closes)
    # Before the code is switched: afterwards the last upgrade can no longer be determined.
    settled_change = restored.closes
    if settled_change is None and restored.current is not None:
        settled_change = find_last_upgrade(journal.list_changes(), restored.current)
    if settled_change is not None:
        restore = restored.release != Version(settled_change.to_version)
        site_files.settle_files_by_operator(
            journal, settled_change, progress or SilentProgress(), restore=restore
        )
    if restored.switches_code:
        site.slots.switch_current(restored.release)
    journal.record_event(
        RESTORED_ADOPTED,
        release=str(restored.release),
        generation=change.generation,
        databases=change.id,
        fingerprints=dict(restored.fingerprints),
        schema_kinds=dict(restored.schema_kinds),
        by=[approval.actor for approval in approvals.approvals],
        reasons=[reasons[approval.actor] for approval in approvals.approvals],
    )
    if restored.closes is not None:
        journal.set_change_state(
            restored.closes.id,
            ChangeState.REVERTED,
            reason="the databases were restored by an operator",
        )
    ApprovalStore(journal).consume_all(change.id)
