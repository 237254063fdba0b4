"""How a site can go back: keeping every record where it can, else with the loss counted."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from packaging.version import Version

from ncen_updater.agent.adapters.databases.base import ChangeRef, Live
from ncen_updater.agent.adapters.databases.migrations.planner import AS_IS, WayBack, plan_way_back
from ncen_updater.agent.adapters.databases.ways import Back
from ncen_updater.agent.engine.last_upgrade import last_upgrade
from ncen_updater.agent.engine.rollback_words import way_words
from ncen_updater.agent.engine.site import Site
from ncen_updater.agent.model.change import Change, Mode
from ncen_updater.agent.model.errors import LedgerUnreadable
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.site_history import PreviousSet, SiteHistory
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, Text

logger = logging.getLogger(__name__)


def entered_since(
    lost: Mapping[str, Mapping[str, int]], made: Mapping[str, Mapping[str, int]]
) -> dict[str, dict[str, int]]:
    """Take what a release itself put in (new codes of a reference table) out of a loss; pure."""
    found: dict[str, dict[str, int]] = {}
    for database, tables in lost.items():
        for table, count in tables.items():
            entered = count - made.get(database, {}).get(table, 0)
            if entered > 0:
                found.setdefault(database, {})[table] = entered
    return found


@dataclass(frozen=True)
class LostRows:
    """Rows that going back loses, by database and table.

    Attributes:
        records: What a person has to agree to.
        passed_over: What the release that is left calls no records.
    """

    records: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    passed_over: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


def set_apart(
    lost: Mapping[str, Mapping[str, int]], no_records: Mapping[str, Sequence[str]]
) -> LostRows:
    """Take out what a release calls no records; pure.

    Args:
        lost: Rows by database and table, or by database and object of a table.
        no_records: Patterns of tables by database.
    """
    sides: tuple[dict[str, dict[str, int]], dict[str, dict[str, int]]] = ({}, {})
    for database, objects in lost.items():
        for name, count in objects.items():
            is_none = any(
                fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")
                for pattern in no_records.get(database, ())
            )
            sides[is_none].setdefault(database, {})[name] = count
    return LostRows(*sides)


def records_lost(site: Site, journal: Journal, reference: ChangeRef) -> LostRows:
    """Count the records that going back to the kept databases of ``reference.source`` loses."""
    source = reference.source or ""
    made = journal.facts(source).made_by_release
    lost = entered_since(site.engine.lost_rows(reference), made or {})
    return set_apart(lost, _no_records(site, journal.change(source)))


def _no_records(site: Site, upgrade: Change) -> Mapping[str, Sequence[str]]:
    """What the release that is left calls no records; nothing where it cannot be asked any more."""
    try:
        databases = site.slots.document(Version(upgrade.to_version)).manifest.databases
    except UpdaterError as error:
        logger.warning("every row is counted: %s", error)
        return {}
    return {item.name: item.no_records or () for item in databases}


def lost_words(lost: Mapping[str, Mapping[str, int]]) -> str:
    """Say a loss: table and count."""
    return ", ".join(
        f"{database}.{table} {count}"
        for database, tables in lost.items()
        for table, count in tables.items()
    )


@dataclass(frozen=True)
class RollbackPlan:
    """One way back.

    Attributes:
        mode: Migrate down, keeping every record, or restore what was kept.
        source: For a restore, the change whose previous databases are used.
        undoes: The upgrade that is undone.
        by_code: Whether only the code goes back, since the upgrade changed no database.
        as_is: Whether no database is copied for it either.
        reason: Why records cannot be kept.
        lost: Rows by database and table that a restore loses; for a way down, rows by database and
            object with something in it that was entered since and that is not kept.
        passed_over: The same of tables that the release that is left calls no records.
        by_program: Whether a program of that release wrote some of the rows while officers worked.
        accepted: So many a person agreed to lose.
        keep_days: How long the databases stay that are left.
    """

    origin: Version
    target: Version
    mode: Mode
    source: str | None = None
    undoes: str = ""
    by_code: bool = False
    as_is: bool = False
    reason: str | Text = ""
    lost: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    passed_over: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    by_program: bool = False
    accepted: int = 0
    keep_days: float = 0.0

    @property
    def words(self) -> Text:
        """The way in the words of the plan that was made before the upgrade."""
        back = Back.KEEPS if self.mode is Mode.MIGRATE else Back.RESTORES
        loses = [f"{name}.{of}" for name, objects in self.lost.items() for of in objects]
        return way_words(back, self.origin, self.target, loses)

    @property
    def keeps_all(self) -> bool:
        """Whether nothing is known that would be lost, so that nobody has to be asked."""
        return self.mode is Mode.MIGRATE and not self.lost_total

    @property
    def keeps_but(self) -> bool:
        """Whether it goes by ways down, which do not keep everything."""
        return self.mode is Mode.MIGRATE and bool(self.lost_total)

    @property
    def days(self) -> str:
        """How long the databases stay that are left, for a sentence."""
        return f"{self.keep_days:g}"

    @property
    def lost_total(self) -> int:
        """All lost rows together."""
        return sum(sum(tables.values()) for tables in self.lost.values())

    @property
    def lost_words(self) -> str:
        """The loss for a person: table and count."""
        return lost_words(self.lost)

    @property
    def passed_words(self) -> str:
        """What is lost and not counted, likewise."""
        return lost_words(self.passed_over)

    @property
    def program_words(self) -> Text | None:
        """What stands in the count that nobody entered."""
        if not (self.by_program and self.lost_total):
            return None
        words = N_("Rows that a program of {version} wrote while officers worked are among them")
        return Text(words, {"version": self.origin})

    @property
    def whole_words(self) -> str | Text:
        """Both, for an error."""
        counted: str | Text = self.lost_words or Text(N_("none was counted"))
        if self.program_words is not None:
            counted = Text(
                "{tables}. {program}", {"tables": counted, "program": self.program_words}
            )
        if not self.passed_over:
            return counted
        words = N_("{tables}; not counted, since {version} calls them no records: {passed}")
        values = {"tables": counted, "version": self.origin, "passed": self.passed_words}
        return Text(words, values)


def _kept(sets: Sequence[PreviousSet], change: Change) -> bool:
    return any(kept.change == change.id and kept.dropped_at is None for kept in sets)


def way_back(site: Site, journal: Journal, current: Version) -> RollbackPlan | None:
    """Find the way back from the release in use. Reads only.

    Returns:
        None if there is no earlier release, or neither ways down nor kept databases.
    """
    upgrade = last_upgrade(journal.changes(), current)
    if upgrade is None or Version(upgrade.from_version) not in site.slots.versions():
        return None
    target = Version(upgrade.from_version)
    reference = ChangeRef(upgrade.id, upgrade.generation, str(target), source=upgrade.id)
    planned, reason = _planned(site, journal, upgrade, reference)
    if planned.back is Back.KEEPS:
        values = _values_lost(site, upgrade, planned, reference)
        return RollbackPlan(
            current,
            target,
            Mode.MIGRATE,
            undoes=upgrade.id,
            by_code=planned.by_code,
            as_is=planned.as_is,
            lost=values.records,
            passed_over=values.passed_over,
            keep_days=site.config.keep.previous_days,
        )
    if not _kept(SiteHistory(journal).previous_sets(), upgrade):
        return None
    loss = records_lost(site, journal, reference)
    return RollbackPlan(
        current,
        target,
        Mode.RESTORE,
        source=upgrade.id,
        undoes=upgrade.id,
        reason=reason,
        lost=loss.records,
        passed_over=loss.passed_over,
        by_program=journal.facts(upgrade.id).contracted is not None,
    )


def _values_lost(site: Site, upgrade: Change, planned: WayBack, reference: ChangeRef) -> LostRows:
    if not planned.losses:
        return LostRows()
    found = site.engine.entered(reference, planned.losses)
    return set_apart(found, _no_records(site, upgrade))


def values_lost(site: Site, journal: Journal, undoes: str) -> LostRows:
    """Count once more what the ways down from an upgrade do not keep of what was entered since."""
    upgrade = journal.change(undoes)
    reference = ChangeRef(upgrade.id, upgrade.generation, upgrade.from_version, source=upgrade.id)
    planned, _ = _planned(site, journal, upgrade, reference)
    return _values_lost(site, upgrade, planned, reference)


def _planned(
    site: Site, journal: Journal, upgrade: Change, reference: ChangeRef
) -> tuple[WayBack, str | Text]:
    """Say which way it is, and why records are lost; what is not whole bars the ways down only."""
    engine, ledgers = site.engine, {}
    if journal.facts(upgrade.id).as_is:
        return AS_IS, ""  # nothing was copied, and nothing is to be undone
    try:
        newer = older = site.migrations(Version(upgrade.to_version))
        if newer.command is None:
            older = site.migrations(Version(upgrade.from_version))
    except UpdaterError as error:
        return _not_whole(error)
    try:
        if newer.command is None:
            ledgers = {n: engine.applied(Live(n)) for n in engine.names}
    except LedgerUnreadable as error:
        return _not_whole(error)
    unchanged = journal.facts(upgrade.id).databases_unchanged or False
    way = plan_way_back(
        engine.names, ledgers, newer, older, upgrade.id, engine=engine.kind, unchanged=unchanged
    )
    return way, "; ".join(f"{name} {id_}: {why}" for name, id_, why in way.reasons)


def _not_whole(error: UpdaterError) -> tuple[WayBack, Text]:
    words = N_("the ways down cannot be used: {cause} ({code})")
    values = {"cause": error.what_text, "code": error.code}
    return WayBack(Back.RESTORES), Text(words, values)
