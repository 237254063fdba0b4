"""Take databases that people restored from a backup as those of a release: the way out by hand.

A database administrator may restore databases from a backup of before an upgrade, or make them anew
under their names. Code, journal and databases then contradict each other, and nothing is touched
any more. Two people say that this was done on purpose; it is looked whether the databases are those
of the release that they name, and then code, databases and journal are made to say the same.

On the disk: the databases say it first, then the site's own files get the names of before, then
``current``, then the journal. Until that last record the site is as contradictory as before, and
the command may be repeated by either of the two.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from packaging.version import Version

from ncen_updater.agent.adapters.databases.base import ChangeRef, Live
from ncen_updater.agent.engine import site_files
from ncen_updater.agent.engine.approvals.model import ApprovalCount
from ncen_updater.agent.engine.approvals.store import ApprovalStore, require_somebody
from ncen_updater.agent.engine.fingerprints import Schemas, schemas_of
from ncen_updater.agent.engine.last_upgrade import last_upgrade
from ncen_updater.agent.engine.recovery import RecoveryAction, decide
from ncen_updater.agent.engine.site import Site, reference
from ncen_updater.agent.engine.situation import fingerprints_of, known, look
from ncen_updater.agent.model.change import Change, ChangeState
from ncen_updater.agent.model.errors import MigrationRefused
from ncen_updater.agent.model.ids import new_change_id
from ncen_updater.agent.model.names import RESTORED, RESTORED_AS
from ncen_updater.agent.model.person import Person
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, Text
from ncen_updater.common.messages import (
    OPEN_CHANGE,
    RELEASE_NOT_HERE,
    RELEASE_NOT_WHOLE,
    RESTORED_IS_OTHER,
    STOP_APPLICATION_FIRST,
)
from ncen_updater.common.progress import Progress, Silent

#: So many altered files of a release are named; 'verify' lists all.
SHOWN = 5

#: So many people have to say it, whatever the site wants for an upgrade.
PEOPLE = 2


@dataclass(frozen=True)
class Restored:
    """Databases as they were found, and what taking them would do.

    Attributes:
        release: What they are to be taken as.
        current: The release whose code is in use.
        fingerprints: Of their schemas, by logical name,
        kinds: and of each kind of things in them.
        unproved: Databases of which it cannot be seen that they are of this release.
        closes: A change that recovery gave up, and that ends with it.
        people: Who said so,
        reasons: and why, by their names; who said so to an agent that did not ask has none.
    """

    release: Version
    current: Version | None
    fingerprints: Mapping[str, str]
    kinds: Mapping[str, Mapping[str, str]]
    unproved: tuple[str, ...]
    closes: Change | None
    people: ApprovalCount
    reasons: Mapping[str, str]

    @property
    def switches(self) -> bool:
        """Whether the code of another release has to be put in use."""
        return self.current != self.release

    @property
    def binding(self) -> str:
        """What people say yes to: the release, and the shape of what was restored."""
        return _binding(self.release, self.fingerprints)


def _binding(release: Version, fingerprints: Mapping[str, str]) -> str:
    content = {"accept-restore": str(release), "schemas": dict(fingerprints)}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def find(site: Site, journal: Journal, release: Version, progress: Progress) -> Restored:
    """Look at restored databases. Changes nothing.

    Raises:
        OpenChange: A change is open that a resume can bring to its end.
        ReleaseNotHere: The slot of the release is not here, or not whole.
        StopApplicationFirst: The application runs with other code.
        RestoredIsOther: A database is not of this release.
        UpdaterError: Something cannot be looked at.
    """
    change = journal.open_change()
    if change is not None:
        decision = decide(look(site, change, by_person=True))
        if decision.action is not RecoveryAction.STOP:
            raise UpdaterError(
                OPEN_CHANGE, change=change.id, kind=change.kind, version=change.to_version
            )
    versions = site.slots.versions()
    if release not in versions:
        names = ", ".join(str(version) for version in sorted(versions))
        raise UpdaterError(RELEASE_NOT_HERE, version=release, versions=names or "-")
    differs = site.slots.verify(release, progress)
    if differs:
        raise UpdaterError(
            RELEASE_NOT_WHOLE, version=release, files=", ".join(one.path for one in differs[:SHOWN])
        )
    current = site.slots.current()
    # Files are put back only while nobody works with them.
    files = change is not None and site_files.owed(journal, change)
    if (current != release or files) and site.application.running():
        product = site.config.site.product
        raise UpdaterError(
            STOP_APPLICATION_FIRST, product=product, current=current or "-", version=release
        )
    schemas, unproved = _look_at_databases(site, journal, release)
    binding = _binding(release, schemas.fingerprints)
    people = ApprovalStore(journal).people(binding, PEOPLE)
    return Restored(
        release, current, schemas.fingerprints, schemas.kinds, unproved, change, people,
        _reasons(journal, binding),
    )  # fmt: skip


def _reasons(journal: Journal, binding: str) -> dict[str, str]:
    """Why people said yes to this, by their names."""
    return {
        str(event.data.get("by")): str(event.data["reason"])
        for event in journal.events()
        if event.data.get("binding") == binding and "reason" in event.data
    }


def _look_at_databases(
    site: Site, journal: Journal, release: Version
) -> tuple[Schemas, tuple[str, ...]]:
    engine, migrations = site.engine, site.migrations(release)
    left: dict[str, str] = {}
    if migrations.command is None:
        try:
            steps = engine.plan_migrations(Live, migrations, None).steps
        except MigrationRefused as error:
            database = str(error.values.get("database", "-"))
            reason = error.values.get("reason", "-")
            raise UpdaterError(
                RESTORED_IS_OTHER, database=database, version=release, reason=reason
            ) from error
        for step in steps:
            left.setdefault(step.database, step.id)
    schemas = schemas_of(engine, Live)
    if migrations.command is None and not left:
        return schemas, ()
    known = {version: fingerprints_of(journal, version) for version in site.slots.versions()}
    unproved: list[str] = []
    for name, fingerprint in schemas.fingerprints.items():
        if migrations.command is None and name not in left:
            continue
        had = {v for v, kept in known.items() if kept.get(name) == fingerprint}
        reason = whose(release, had, left.get(name))
        if isinstance(reason, Text):
            raise UpdaterError(RESTORED_IS_OTHER, database=name, version=release, reason=reason)
        if not reason:
            unproved.append(name)
    return schemas, tuple(unproved)


def whose(release: Version, had: Collection[Version], left: str | None) -> bool | Text:
    """Say whether a database is one of a release: yes, no with the reason, or not to be seen; pure.

    A schema that no release is known to have had here may be this one's all the same: a server may
    word it anew when a backup is restored, and an application may change it while it runs.

    Args:
        release: Which.
        had: Releases whose databases had this very schema here.
        left: A migration of the release that is not applied; None where it has a program instead.
    """
    if release in had:
        return True
    if left is not None:
        words = N_("migration {migration} belongs to it and is not applied")
        return Text(words, {"migration": left})
    if had:
        return Text(N_("its schema is that of release {other}"), {"other": max(had)})
    return False


def agree(journal: Journal, found: Restored, person: Person, reason: str) -> ApprovalCount:
    """Write down that a person says so, and why, and return who has.

    Raises:
        RootIsNobody: If it could be anybody's.
    """
    require_somebody(person, PEOPLE)
    basis = {"accept-restore": str(found.release), "schemas": dict(found.fingerprints)}
    consent = ApprovalStore(journal)
    name = f"{RESTORED_AS}{found.release}"
    consent.approve(found.binding, name, basis, person, reason=reason)
    return consent.people(found.binding, PEOPLE)


def accept(
    site: Site,
    journal: Journal,
    found: Restored,
    people: ApprovalCount,
    new_id: Callable[[], str] = new_change_id,
    progress: Progress | None = None,
) -> None:
    """Make databases, code and journal say the same; may be repeated after a crash.

    Photographs and other files that the change had kept go with the release.

    Args:
        site: The site.
        journal: Open for writing, under the lock of changes.
        found: As :func:`find` gave it, under the same lock.
        people: Who said so.
        new_id: Gives ids.
        progress: Told what is put back.

    Raises:
        FilesNotPutBack: If files cannot be put back now.
    """
    reasons = _reasons(journal, found.binding)
    generations = [known(journal).generation, *(c.generation for c in journal.changes())]
    change = ChangeRef(new_id(), max(generations) + 1, str(found.release))
    closes = reference(found.closes) if found.closes else None
    site.engine.take_as(change, site.migrations(found.release), closes)
    # Before the code is another one: from then on it cannot be told any more which upgrade it was.
    ended = found.closes
    if ended is None and found.current is not None:
        ended = last_upgrade(journal.changes(), found.current)
    if ended is not None:
        back = found.release != Version(ended.to_version)
        site_files.end_by_hand(journal, ended, progress or Silent(), back=back)
    if found.switches:
        site.slots.switch(found.release)
    journal.note(
        RESTORED,
        release=str(found.release),
        generation=change.generation,
        databases=change.id,
        fingerprints=dict(found.fingerprints),
        schema_kinds=dict(found.kinds),
        by=[approval.who for approval in people.given],
        reasons=[reasons.get(approval.who, "-") for approval in people.given],
    )
    if found.closes is not None:
        journal.state(found.closes.id, ChangeState.UNDONE, reason="the databases were restored")
    ApprovalStore(journal).spend(change.id)
