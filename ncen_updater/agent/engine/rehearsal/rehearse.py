"""A rehearsal: the real migrations on copies of the site's own data, while officers work.

The copies are a backup of each database, restored, so that every rehearsal also proves that a
backup can be restored; what a backup by the agent's role does not carry is left out and told. They
are candidates of a change that will never be; whatever happens they
are removed, and one that was torn is cleaned up by the next rehearsal or resume.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ncen_updater.agent.adapters.databases.base import ChangeRef, CopyPlan, TableDigest
from ncen_updater.agent.adapters.databases.migrations.checks import Value, question, unmapped
from ncen_updater.agent.adapters.databases.migrations.planner import WayBack
from ncen_updater.agent.adapters.databases.tried import TriedValues, untold
from ncen_updater.agent.adapters.databases.ways import Back
from ncen_updater.agent.engine.approvals.binding import basis_now
from ncen_updater.agent.engine.fingerprints import (
    differing,
    fingerprints_of,
)
from ncen_updater.agent.engine.full_words import full_remedy, keep_full
from ncen_updater.agent.engine.interruption import Interruption
from ncen_updater.agent.engine.migrating import (
    Migrated,
    down_target,
    mark_only,
    migrate_and_check,
)
from ncen_updater.agent.engine.plan import HopPlan, Plan, make_plan
from ncen_updater.agent.engine.rehearsal.predictions import history, past
from ncen_updater.agent.engine.rehearsal.report import (
    MappedCodes,
    PredictedRange,
    RehearsalCopies,
    RehearsalFailure,
    RehearsalReport,
    RehearsedHop,
)
from ncen_updater.agent.engine.rehearsal.store import RehearsalRecord, Rehearsals, RehearsalState
from ncen_updater.agent.engine.rehearsal.values_on_trial import try_values
from ncen_updater.agent.engine.runner import blames_release
from ncen_updater.agent.engine.site import Site
from ncen_updater.agent.engine.steps.guards import refuse_lasting, refuse_strict
from ncen_updater.agent.model.errors import MigrationFailed, NeedsPerson, UntoldLoss
from ncen_updater.agent.policy.prediction import Measured, predict
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common.database_words import said as words_of
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, Text
from ncen_updater.common.messages import (
    NOT_AS_KEPT,
    REHEARSAL_FAILED,
    REHEARSAL_LIMITED,
    SMOKE_FAILED,
)
from ncen_updater.common.progress import Progress
from ncen_updater.feed.upgrade_path import UpgradePath
from ncen_updater.formats.manifest import Manifest

logger = logging.getLogger(__name__)

#: Where ``down`` files park what the old shape cannot hold: a schema, or the prefix of a table.
PARKED = "ncen_kept"

Digests = dict[str, dict[str, TableDigest]]


def _reference(number: str, release: str) -> ChangeRef:
    return ChangeRef(number, 0, release)


def clean_interrupted(site: Site, journal: Journal) -> int:
    """Remove what rehearsals left that never came to their end; return how many there were.

    Raises:
        UpdaterError: If something of them cannot be removed.
    """
    rehearsals = Rehearsals(journal)
    torn = rehearsals.interrupted()
    for record in torn:
        copies = record.copies or RehearsalCopies()
        if copies.again is not None and copies.again_id is not None:
            second = _reference(copies.again_id, record.to_version)
            site.engine.discard(second, CopyPlan(copies.again))
        if copies.copy is not None:
            site.engine.discard(_reference(record.id, record.to_version), CopyPlan(copies.copy))
        rehearsals.end(record.id, RehearsalState.FAILED, error_code="NU-6010")
    return len(torn)


@dataclass
class _Hop:
    """What was found of one hop."""

    plan: HopPlan
    copy_s: float = 0.0
    migrate_s: float = 0.0
    contract_s: float | None = None
    back_s: float | None = None
    restore_s: float | None = None
    maps: tuple[MappedCodes, ...] = ()
    tables: dict[str, dict[str, tuple[int, int]]] = field(default_factory=dict)
    back_differs: list[str] = field(default_factory=list)
    migrated: Migrated | None = None
    stood: dict[str, int] = field(default_factory=dict)
    values: TriedValues | None = None

    @property
    def unchanged(self) -> bool:
        """Whether the migration changed neither schema nor rows."""
        return self.migrated is not None and self.migrated.unchanged and not self.tables

    @property
    def checks(self) -> dict[str, tuple[Value, Value]]:
        """The value of each check before and after."""
        found = self.migrated
        if found is None:
            return {}
        names = (*found.before, *found.after)
        return {name: (found.before.get(name), found.after.get(name)) for name in names}

    @property
    def way(self) -> WayBack:
        """The way back, with what was seen here."""
        return self.plan.way.learnt(unchanged=self.unchanged)


class Rehearser:
    """Rehearses a path on one site.

    Args:
        site: The site.
        journal: Open for writing, under the lock of changes.
        progress: Told what is being done.
        new_id: Gives ids.
        interruption: Where signals may end the work.
    """

    def __init__(
        self,
        site: Site,
        journal: Journal,
        progress: Progress,
        new_id: Callable[[], str],
        interruption: Interruption | None = None,
    ) -> None:
        self._site, self._journal, self._progress = site, journal, progress
        self._new_id = new_id
        self._interruption = interruption or Interruption()
        self._clock = site.clock.monotonic
        self._lacking: dict[str, tuple[str, ...]] = {}

    def run(self, path: UpgradePath) -> RehearsalRecord:
        """Rehearse a path and return what is in the journal of it.

        Raises:
            RehearsalFailed: With its cause; the copies are gone.
            UpdaterError: Nothing was begun.
        """
        site, journal = self._site, self._journal
        current = site.slots.current()
        if current is None:
            raise NeedsPerson(reason="no release was ever chosen here")
        clean_interrupted(site, journal)
        plan = make_plan(site, current, path, self._progress)
        number, again = self._new_id(), self._new_id()
        target = path.target.version
        reference = _reference(number, target)
        blockers = site.engine.blockers(reference, final=False)
        refuse_strict([f for f in blockers if "missing_bytes" in f.figures])
        # To restore a backup runs what somebody may have left in the databases.
        refuse_strict(site.engine.exposures(rehearsing=True))
        refuse_lasting(plan.findings)
        copy = site.engine.plan_copy(reference)
        second = site.engine.plan_copy(_reference(again, target))
        rehearsals = Rehearsals(journal)
        rehearsals.begin(
            number, str(current), target,
            RehearsalCopies(copy.data, second.data, again),
        )  # fmt: skip
        started = site.clock.now()
        try:
            with self._interruption.allowed():
                basis = basis_now(site, plan.digest, "", started)
                report = self._perform(plan, reference, copy, _reference(again, target))
        except BaseException as error:
            self._clear(reference, copy, again, second)
            code = error.code if isinstance(error, UpdaterError) else UpdaterError.message.code
            full = keep_full(journal.path.parent, number, error)
            rehearsals.end(
                number, RehearsalState.FAILED, error_code=code,
                error=str(error) if isinstance(error, UpdaterError) else words_of(error),
                # What is not in the copies may be what it failed for.
                left=RehearsalFailure(
                    blamed=blames_release(error) and not self._lacking,
                    not_carried=self._lacking or None,
                ),
            )  # fmt: skip
            if isinstance(error, UpdaterError):
                values: dict[str, Any] = {
                    "version": target, "cause": error.what_text, "cause_code": code,
                    "detail": error.detail, "cause_remedy": full_remedy(error.remedy_text, full),
                }  # fmt: skip
                if self._lacking:
                    raise UpdaterError(
                        REHEARSAL_LIMITED, **values, objects=lacking_words(self._lacking)
                    ) from error
                raise UpdaterError(REHEARSAL_FAILED, **values) from error
            raise
        self._clear(reference, copy, again, second)
        rehearsals.end(number, RehearsalState.PASSED, basis=basis.to_json(), left=report)
        found = rehearsals.last(str(current), target)
        assert found is not None  # noqa: S101 - written just now
        return found

    # ---- parts ---------------------------------------------------------------------------------

    def _clear(self, reference: ChangeRef, copy: CopyPlan, again: str, second: CopyPlan) -> None:
        self._tell(N_("removing the copies of the rehearsal"))
        self._site.engine.discard(_reference(again, reference.release), second)
        self._site.engine.discard(reference, copy)

    def _tell(self, words: str, **values: object) -> None:
        self._progress.tell(Text(words, values))

    def _timed(self, act: Callable[[], object]) -> float:
        begin = self._clock()
        act()
        return round(self._clock() - begin, 3)

    def _perform(
        self, plan: Plan, reference: ChangeRef, copy: CopyPlan, again: ChangeRef
    ) -> RehearsalReport:
        engine = self._site.engine
        self._tell(N_("backing up and restoring the databases beside the live ones"))
        backup_s = self._timed(lambda: self._copy(reference, copy))
        self._tell(N_("timing a copy as an upgrade makes it"))
        made: list[CopyPlan] = []
        if any(item.get("method") == "clone" for item in copy.data.values()):
            # The first one also flushes all that was just restored, which no upgrade finds.
            engine.discard(again, engine.copy_again(reference, again, self._progress))
        copy_s = self._timed(
            lambda: made.append(engine.copy_again(reference, again, self._progress))
        )
        kept_s = self._as_kept(reference, again, str(plan.hops[0].origin))
        engine.discard(again, made[0])
        before = self._digests(reference)
        hops = [_Hop(hop, copy_s=0.0 if hop.as_is else copy_s) for hop in plan.hops]
        digests = [before]
        for hop in hops:
            self._up(hop, reference)
            if hop.plan.contracts:
                self._contract(hop, reference)
            self._smoke(hop, reference)
            digests.append(self._digests(reference))
            hop.tables = _tables(digests[-2], digests[-1])
        for hop in hops:
            if hop.way.back is not Back.KEEPS:
                hop.restore_s = round(copy_s + kept_s, 3)
        for number in range(len(hops) - 1, -1, -1):
            if hops[number].way.back is not Back.KEEPS:
                break  # and with it every hop before: there is no way back over it
            self._back(hops[number], reference)
            hops[number].back_differs = _differences(digests[number], self._digests(reference))
        # Last: from here on rows are in the copies that nobody entered.
        for number, hop in enumerate(hops):
            if hop.back_s is None:
                continue
            if hop.way.by_code:
                if hop.plan.expands or not hop.plan.as_is:
                    self._migrate(hop, reference)  # the next one begins there
                continue
            hop.values = self._values(hop, reference, number)
            if hop.values.stopped is not None:
                break
        return RehearsalReport(
            plan=plan.digest,
            backup_s=backup_s,
            not_carried=self._lacking or None,
            sizes={facts.name: facts.size_bytes for facts in engine.describe()},
            hops=tuple(self._report(hop) for hop in hops),
        )

    def _as_kept(self, reference: ChangeRef, again: ChangeRef, release: str) -> float:
        """Rehearse the way back to kept databases, on a copy of those from before; in seconds.

        Raises:
            NotAsKept: If a copy is not what it was copied from.
        """
        engine = self._site.engine
        self._tell(N_("rehearsing the way back to kept databases"))
        before = fingerprints_of(engine, reference.candidate)
        begin = self._clock()
        differs = differing(before, fingerprints_of(engine, again.candidate))
        if differs:
            raise UpdaterError(NOT_AS_KEPT, database=", ".join(differs), version=release)
        engine.mark(again)
        return round(self._clock() - begin, 3)

    def _copy(self, reference: ChangeRef, copy: CopyPlan) -> None:
        """Make the copies; keep what they lack."""
        lacking = self._site.engine.copy_online(reference, copy, self._progress)
        self._lacking = {name: tuple(objects) for name, objects in lacking.items()}

    def _digests(self, reference: ChangeRef) -> Digests:
        engine = self._site.engine
        return {n: engine.table_digests(reference.candidate(n)) for n in engine.names}

    def _up(self, hop: _Hop, reference: ChangeRef) -> None:
        """What the step *migrate* does, and what a manifest says of its data."""
        site, engine = self._site, self._site.engine
        manifest = hop.plan.document.manifest
        step = _reference(reference.id, manifest.version)
        self._tell(N_("rehearsing the migrations to {version}"), version=manifest.version)
        hop.maps = self._maps(manifest, step)
        hop.stood = {n: len(engine.applied(step.candidate(n))) for n in engine.names}
        if hop.plan.as_is and not hop.plan.expands:
            # Neither files nor the release's program run.
            found = mark_only(engine, step)
            hop.migrated = Migrated(
                {}, {}, found.fingerprints, found.fingerprints, found.kinds, wrote=False
            )
            return
        origin, begin = site.migrations(hop.plan.origin), self._clock()
        hop.migrated = migrate_and_check(
            engine, step, manifest.checks, hop.plan.target, origin, self._progress, up=True
        )
        hop.migrate_s = round(self._clock() - begin, 3)

    def _contract(self, hop: _Hop, reference: ChangeRef) -> None:
        """What the step *soak* does at its end."""
        target = hop.plan.target
        self._tell(N_("rehearsing what {version} does later"), version=target.release)
        if target.contract is not None:
            beside = partial(self._site.engine.run_beside, target.contract, target.slot)
            hop.contract_s = self._timed(lambda: beside(self._progress, change=reference))

    def _smoke(self, hop: _Hop, reference: ChangeRef) -> None:
        """Try the code of the release on the migrated copies, as it says that it can be.

        Raises:
            MigrationFailed: If it says that it does not work.
        """
        target, smoke = hop.plan.target, hop.plan.document.manifest.smoke
        if smoke is None:
            return
        self._tell(N_("trying whether {version} works on the copies"), version=target.release)
        try:
            self._site.engine.run_beside(smoke, target.slot, self._progress, change=reference)
        except MigrationFailed as error:
            how = error.values.get("how", error.what_text)  # a file may have been left unwell
            raise MigrationFailed(
                SMOKE_FAILED, version=target.release, program=smoke.argv[0], how=how,
                detail=error.detail,
            ).privately(error.private) from error  # fmt: skip

    def _back(self, hop: _Hop, reference: ChangeRef) -> None:
        """What the step *migrate* does in a rollback."""
        engine, newer = self._site.engine, hop.plan.target
        step = _reference(reference.id, str(hop.plan.origin))
        self._tell(N_("rehearsing the way back to {version}"), version=hop.plan.origin)
        if hop.way.by_code:
            hop.back_s = self._timed(lambda: mark_only(engine, step))
            return
        older = self._site.migrations(hop.plan.origin)
        # All hops are one change here: only the rows beyond those of before are this one's.
        target = down_target(engine, step, newer, older, reference.id, hop.stood)
        checks = hop.plan.document.manifest.checks
        hop.back_s = self._timed(
            lambda: migrate_and_check(engine, step, checks, target, newer, self._progress, up=False)
        )

    def _migrate(self, hop: _Hop, reference: ChangeRef) -> None:
        step = _reference(reference.id, hop.plan.document.manifest.version)
        origin = self._site.migrations(hop.plan.origin)
        self._site.engine.migrate(step, hop.plan.target, origin, self._progress)
        if hop.plan.contracts:
            self._contract(hop, reference)

    def _values(self, hop: _Hop, reference: ChangeRef, number: int) -> TriedValues:
        """Try what the way back keeps of values.

        Raises:
            UpdaterError: If it loses some of which nothing says so.
        """
        engine, newer = self._site.engine, hop.plan.target
        older = self._site.migrations(hop.plan.origin)
        version = hop.plan.document.manifest.version
        self._tell(N_("trying what the way back from {version} keeps of values"), version=version)
        stood = {n: len(engine.applied(reference.candidate(n))) for n in engine.names}

        def back() -> None:
            step = _reference(reference.id, str(hop.plan.origin))
            target = down_target(engine, step, newer, older, reference.id, stood)
            engine.migrate(step, target, newer, self._progress)

        found = try_values(
            engine, reference, str(number),
            up=lambda: self._migrate(hop, reference), back=back,
        )  # fmt: skip
        lost = untold(found.columns, hop.way.losses)
        if lost:
            raise UntoldLoss(version=version, origin=hop.plan.origin, objects=", ".join(lost))
        return found

    def _maps(self, manifest: Manifest, step: ChangeRef) -> tuple[MappedCodes, ...]:
        engine = self._site.engine
        without = {
            item.name: item.rows
            for item in unmapped(engine, step.candidate, manifest.reference_maps)
        }
        found = []
        for item in manifest.reference_maps:
            affected = None
            if item.affected is not None:
                rows = question(engine, step.candidate(item.database), item.affected)
                affected = int(str(rows[0][0])) if rows and rows[0] else 0
            found.append(
                MappedCodes(item.name, item.database, affected, without.get(item.name, ()))
            )
        return tuple(found)

    def _report(self, hop: _Hop) -> RehearsedHop:
        # What runs while officers work is none of the stop.
        in_stop_s = 0.0 if hop.plan.expands else hop.migrate_s
        prediction = predict(
            Measured(hop.copy_s, in_stop_s), history(self._journal), past(self._journal)
        )
        return RehearsedHop(
            from_=str(hop.plan.origin),
            to=hop.plan.document.manifest.version,
            copy_s=hop.copy_s,
            migrate_s=hop.migrate_s,
            contract_s=hop.contract_s,
            back_s=hop.back_s,
            back_differs=tuple(hop.back_differs),
            restore_s=hop.restore_s,
            way_back=hop.way.back,
            loses=tuple(hop.way.loses),
            values=hop.values,
            unchanged=hop.unchanged,
            checks=hop.checks,
            maps=hop.maps,
            tables=hop.tables,
            stop_s=PredictedRange(
                round(prediction.low_s, 2), round(prediction.likely_s, 2),
                round(prediction.high_s, 2), prediction.learnt,
            ),
        )  # fmt: skip


def lacking_words(lacking: Mapping[str, Sequence[str]]) -> str:
    """Say what a backup does not carry: database and objects."""
    return "; ".join(f"{name}: {', '.join(objects)}" for name, objects in lacking.items())


def _tables(before: Digests, after: Digests) -> dict[str, dict[str, tuple[int, int]]]:
    """Tables whose rows changed: rows before and after; -1 where the table is not there."""
    found: dict[str, dict[str, tuple[int, int]]] = {}
    for database in after:
        old, new = before.get(database, {}), after[database]
        for table in sorted(old.keys() | new.keys()):
            if old.get(table) != new.get(table):
                found.setdefault(database, {})[table] = (_rows(old, table), _rows(new, table))
    return found


def _rows(side: Mapping[str, TableDigest], table: str) -> int:
    return side[table].rows if table in side else -1


def _differences(before: Digests, after: Digests) -> list[str]:
    """Tables that the way back did not bring to what they were.

    What it parks for the next upgrade is meant to be there.
    """
    return [
        f"{database}.{table}"
        for database, tables in _tables(before, after).items()
        for table in tables
        if not table.startswith(PARKED)
    ]
