"""Adopt databases that were restored from a backup by hand (``adopt --restored``).

A database administrator may restore databases from a backup of before an upgrade, or recreate them
under their names. Code, journal and databases then contradict each other, and the agent refuses all
changes. Two people confirm that this was done on purpose. The databases are compared with the
release that they name, and then code, databases and journal are set to that release.

Order of writes: first the marker in the databases, then the names of the site's own files, then
``current``, then the journal. Until that last record the site is as contradictory as before, and
either of the two people may repeat the command.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from packaging.version import Version

from ncen_updater.agent.adapters.databases.base import ChangeRef, LiveDatabase
from ncen_updater.agent.engine import file_snapshots as site_files
from ncen_updater.agent.engine.approvals.approval import ApprovalCount
from ncen_updater.agent.engine.approvals.approval_store import ApprovalStore, reject_shared_account
from ncen_updater.agent.engine.change_guards import find_last_upgrade
from ncen_updater.agent.engine.observed_state import (
    observe_site,
    read_recorded_state,
    read_release_fingerprints,
)
from ncen_updater.agent.engine.recovery import RecoveryAction, decide_recovery
from ncen_updater.agent.engine.schema_fingerprints import DatabaseSchemas, read_schemas
from ncen_updater.agent.engine.site import Site, make_change_ref
from ncen_updater.agent.model.change import Actor, Change, ChangeState, new_change_id
from ncen_updater.agent.model.errors import MigrationRefusedError
from ncen_updater.agent.model.event_names import RESTORED_ADOPTED, RESTORED_APPROVAL_PREFIX
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import (
    OPEN_CHANGE,
    RELEASE_FILES_ALTERED,
    RELEASE_NOT_ON_DISK,
    RESTORED_DATABASE_MISMATCH,
    STOP_APPLICATION_FIRST,
)
from ncen_updater.common.progress import ProgressListener, SilentProgress

#: So many altered files of a release are named; 'verify' lists all.
MAX_FILES_SHOWN = 5

#: So many people have to say it, whatever the site wants for an upgrade.
REQUIRED_APPROVALS = 2


@dataclass(frozen=True)
class RestoredDatabases:
    """Databases as they were found, and what taking them would do.

    Attributes:
        release: What they are to be taken as.
        current: The release whose code is in use.
        fingerprints: Of their schemas, by logical name,
        schema_kinds: and of each kind of things in them.
        unverified: Databases of which it cannot be seen that they are of this release.
        closes: A change that recovery gave up, and that ends with it.
        approvals: Who said so,
        reasons: and why, by their names; who said so to an agent that did not ask has none.
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
        """Whether the code of another release has to be put in use."""
        return self.current != self.release

    @property
    def binding(self) -> str:
        """What people say yes to: the release, and the shape of what was restored."""
        return _compute_binding(self.release, self.fingerprints)


def _compute_binding(release: Version, fingerprints: Mapping[str, str]) -> str:
    content = {"adopt-restored": str(release), "schemas": dict(fingerprints)}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def inspect_restored(
    site: Site, journal: Journal, release: Version, progress: ProgressListener
) -> RestoredDatabases:
    """Look at restored databases. Changes nothing.

    Raises:
        OPEN_CHANGE: A change is open that a resume can bring to its end.
        RELEASE_NOT_ON_DISK: The slot of the release is not here, or not whole.
        STOP_APPLICATION_FIRST: The application runs with other code.
        RESTORED_DATABASE_MISMATCH: A database is not of this release.
        UpdaterError: Something cannot be looked at.
    """
    change = journal.find_open_change()
    if change is not None:
        decision = decide_recovery(observe_site(site, change, by_operator=True))
        if decision.action is not RecoveryAction.STOP:
            raise UpdaterError(
                OPEN_CHANGE, change=change.id, kind=change.kind, version=change.to_version
            )
    versions = site.slots.list_versions()
    if release not in versions:
        names = ", ".join(str(version) for version in sorted(versions))
        raise UpdaterError(RELEASE_NOT_ON_DISK, version=release, versions=names or "-")
    differs = site.slots.verify_slot(release, progress)
    if differs:
        raise UpdaterError(
            RELEASE_FILES_ALTERED,
            version=release,
            files=", ".join(one.path for one in differs[:MAX_FILES_SHOWN]),
        )
    current = site.slots.read_current()
    # Files are put back only while nobody works with them.
    files = change is not None and site_files.must_restore_files(journal, change)
    if (current != release or files) and site.application.is_running():
        product = site.config.site.product
        raise UpdaterError(
            STOP_APPLICATION_FIRST, product=product, current=current or "-", version=release
        )
    schemas, unproved = _inspect_schemas(site, journal, release)
    binding = _compute_binding(release, schemas.fingerprints)
    people = ApprovalStore(journal).count_for_binding(binding, REQUIRED_APPROVALS)
    return RestoredDatabases(
        release, current, schemas.fingerprints, schemas.kinds, unproved, change, people,
        _read_reasons(journal, binding),
    )  # fmt: skip


def _read_reasons(journal: Journal, binding: str) -> dict[str, str]:
    """Why people said yes to this, by their names."""
    return {
        str(event.data.get("by")): str(event.data["reason"])
        for event in journal.list_events()
        if event.data.get("binding") == binding and "reason" in event.data
    }


def _inspect_schemas(
    site: Site, journal: Journal, release: Version
) -> tuple[DatabaseSchemas, tuple[str, ...]]:
    engine, migrations = site.database_engine, site.load_migrations(release)
    left: dict[str, str] = {}
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
            left.setdefault(step.database, step.id)
    schemas = read_schemas(engine, LiveDatabase)
    if migrations.migrator is None and not left:
        return schemas, ()
    known = {
        version: read_release_fingerprints(journal, version)
        for version in site.slots.list_versions()
    }
    unproved: list[str] = []
    for name, fingerprint in schemas.fingerprints.items():
        if migrations.migrator is None and name not in left:
            continue
        had = {v for v, retained in known.items() if retained.get(name) == fingerprint}
        reason = match_release(release, had, left.get(name))
        if isinstance(reason, LazyText):
            raise UpdaterError(
                RESTORED_DATABASE_MISMATCH, database=name, version=release, reason=reason
            )
        if not reason:
            unproved.append(name)
    return schemas, tuple(unproved)


def match_release(
    release: Version, matching_releases: Collection[Version], unapplied_migration: str | None
) -> bool | LazyText:
    """Say whether a database is one of a release: yes, no with the reason, or not to be seen; pure.

    A schema that no release is known to have had here may be this one's all the same: a server may
    reword it when a backup is restored, and an application may change it while it runs.

    Args:
        release: Which.
        matching_releases: Releases whose databases had this very schema here.
        unapplied_migration: A migration of the release that is not applied; None where it has a
            program instead.
    """
    if release in matching_releases:
        return True
    if unapplied_migration is not None:
        words = N_("migration {migration} belongs to it and is not applied")
        return LazyText(words, {"migration": unapplied_migration})
    if matching_releases:
        return LazyText(
            N_("its schema is that of release {other}"), {"other": max(matching_releases)}
        )
    return False


def approve_restored(
    journal: Journal, restored: RestoredDatabases, actor: Actor, reason: str
) -> ApprovalCount:
    """Write down that a person says so, and why, and return who has.

    Raises:
        APPROVER_IS_SHARED_ACCOUNT: If it could be anybody's.
    """
    reject_shared_account(actor, REQUIRED_APPROVALS)
    basis = {"adopt-restored": str(restored.release), "schemas": dict(restored.fingerprints)}
    consent = ApprovalStore(journal)
    name = f"{RESTORED_APPROVAL_PREFIX}{restored.release}"
    consent.add(restored.binding, name, basis, actor, reason=reason)
    return consent.count_for_binding(restored.binding, REQUIRED_APPROVALS)


def adopt_restored(
    site: Site,
    journal: Journal,
    restored: RestoredDatabases,
    approvals: ApprovalCount,
    new_id: Callable[[], str] = new_change_id,
    progress: ProgressListener | None = None,
) -> None:
    """Make databases, code and journal say the same; may be repeated after a crash.

    Photographs and other files that the change had kept go with the release.

    Args:
        site: The site.
        journal: Open for writing, under the lock of changes.
        restored: As :func:`inspect_restored` gave it, under the same lock.
        approvals: Who said so.
        new_id: Gives ids.
        progress: Told what is put back.

    Raises:
        SITE_FILES_NOT_RESTORED: If files cannot be put back now.
    """
    reasons = _read_reasons(journal, restored.binding)
    generations = [
        read_recorded_state(journal).generation,
        *(c.generation for c in journal.list_changes()),
    ]
    change = ChangeRef(new_id(), max(generations) + 1, str(restored.release))
    closes = make_change_ref(restored.closes) if restored.closes else None
    site.database_engine.adopt_restored(change, site.load_migrations(restored.release), closes)
    # Before the code is another one: from then on it cannot be told any more which upgrade it was.
    ended = restored.closes
    if ended is None and restored.current is not None:
        ended = find_last_upgrade(journal.list_changes(), restored.current)
    if ended is not None:
        back = restored.release != Version(ended.to_version)
        site_files.settle_files_by_operator(
            journal, ended, progress or SilentProgress(), restore=back
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
        reasons=[reasons.get(approval.actor, "-") for approval in approvals.approvals],
    )
    if restored.closes is not None:
        journal.set_change_state(
            restored.closes.id,
            ChangeState.REVERTED,
            reason="the databases were restored by an operator",
        )
    ApprovalStore(journal).consume_all(change.id)
