"""Rollback plan of a site: keep every record if possible, otherwise count the data loss."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from packaging.version import Version

from ncen_updater.agent.adapters.databases.base import ChangeRef, LiveDatabase, RollbackKind
from ncen_updater.agent.adapters.databases.migrations.planner import (
    NO_COPY,
    RollbackPath,
    plan_rollback_path,
)
from ncen_updater.agent.engine.change_guards import find_last_upgrade
from ncen_updater.agent.engine.site import Site
from ncen_updater.agent.model.change import Change, DatabaseMode
from ncen_updater.agent.model.errors import LedgerUnreadableError
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.site_history import PreviousDatabases, SiteHistory
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText

logger = logging.getLogger(__name__)

#: Text for a change that leaves the databases as they are, also in its rollback.
NO_COPY_TEXT = LazyText(
    N_("Code only: databases are not copied or migrated; downtime is one restart.")
)
#: Text for an upgrade whose expand program works on the live databases before the downtime.
EXPAND_TEXT = LazyText(
    N_("The databases are migrated before the downtime and not copied; downtime is one restart.")
)
_PATH_TEXTS = {
    RollbackKind.KEEPS_RECORDS: N_("Rollback from {origin} to {target} keeps all records."),
    RollbackKind.RESTORES_PREVIOUS: N_(
        "Rollback from {origin} to {target} restores the previous databases; records"
        " entered since the upgrade are lost."
    ),
    RollbackKind.DEPENDS_ON_MIGRATOR: N_(
        "Rollback from {origin} to {target} may lose records entered since the upgrade; a"
        " rehearsal shows whether it does."
    ),
}
#: Text for a release that was not rehearsed yet; a rehearsal may show that less is kept.
_UNREHEARSED_TEXT = N_(
    "Rollback from {origin} to {target} keeps all records, according to the release;"
    " confirm by a rehearsal."
)
_PARTIAL_LOSS_TEXT = N_(
    "Rollback from {origin} to {target} keeps all records except values entered in {objects}."
)


def subtract_release_rows(
    lost: Mapping[str, Mapping[str, int]], release_rows: Mapping[str, Mapping[str, int]]
) -> dict[str, dict[str, int]]:
    """Subtract rows that the release itself wrote, such as reference codes, from a loss; pure."""
    remaining: dict[str, dict[str, int]] = {}
    for database, tables in lost.items():
        for table, count in tables.items():
            entered = count - release_rows.get(database, {}).get(table, 0)
            if entered > 0:
                remaining.setdefault(database, {})[table] = entered
    return remaining


@dataclass(frozen=True)
class DataLoss:
    """Rows that a rollback loses, by database and table.

    Attributes:
        records: Lost records, which the operator must accept.
        uncounted: Lost rows of tables that the installed release declares as holding no records.
    """

    records: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    uncounted: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


def split_uncounted(
    lost: Mapping[str, Mapping[str, int]], tables_without_records: Mapping[str, Sequence[str]]
) -> DataLoss:
    """Split off the tables that a release declares as holding no records; pure.

    Args:
        lost: Rows by database and table, or by database and object of a table.
        tables_without_records: Patterns of tables by database.
    """
    sides: tuple[dict[str, dict[str, int]], dict[str, dict[str, int]]] = ({}, {})
    for database, objects in lost.items():
        for name, count in objects.items():
            is_uncounted = any(
                fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")
                for pattern in tables_without_records.get(database, ())
            )
            sides[is_uncounted].setdefault(database, {})[name] = count
    return DataLoss(*sides)


def count_record_loss(site: Site, journal: Journal, reference: ChangeRef) -> DataLoss:
    """Count the data loss of a rollback to the databases before ``reference.retained_from``."""
    source = reference.retained_from or ""
    release_rows = journal.read_facts(source).release_rows
    lost = subtract_release_rows(
        site.database_engine.count_lost_rows(reference), release_rows or {}
    )
    return split_uncounted(lost, _read_uncounted_patterns(site, journal.read_change(source)))


def _read_uncounted_patterns(site: Site, upgrade: Change) -> Mapping[str, Sequence[str]]:
    """Return the tables that the installed release declares as holding no records.

    Empty if its slot cannot be read any more; then every row counts.
    """
    try:
        databases = site.slots.read_document(Version(upgrade.to_version)).manifest.databases
    except UpdaterError as error:
        logger.warning("counting every row: %s", error)
        return {}
    return {item.name: item.tables_without_records or () for item in databases}


def format_loss(lost: Mapping[str, Mapping[str, int]]) -> str:
    """Format a loss as text: table and count."""
    return ", ".join(
        f"{database}.{table} {count}"
        for database, tables in lost.items()
        for table, count in tables.items()
    )


@dataclass(frozen=True)
class RollbackPlan:
    """Plan of one rollback.

    Attributes:
        origin: The installed release.
        target: The release to which it leads.
        mode: MIGRATE runs down migrations and keeps records; RESTORE uses the previous databases.
        source: For RESTORE, the change whose previous databases are used.
        undoes: The upgrade that is undone.
        unchanged_databases: Whether only the code changes, and no database is migrated.
        no_copy: Whether no database is copied either.
        reason: Why records cannot be kept.
        lost: For RESTORE, lost rows by database and table; for MIGRATE, rows entered since the
            upgrade that the down migrations do not keep, by database and object.
        uncounted: The same for tables that the installed release declares as holding no records.
        includes_program_rows: Whether a program of that release wrote some of the rows while users
            worked.
        accepted_loss: Number of lost records that the operator accepted.
        retention_days: For MIGRATE, how long the databases of the installed release are retained.
    """

    origin: Version
    target: Version
    mode: DatabaseMode
    source: str | None = None
    undoes: str = ""
    unchanged_databases: bool = False
    no_copy: bool = False
    reason: str | LazyText = ""
    lost: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    uncounted: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    includes_program_rows: bool = False
    accepted_loss: int = 0
    retention_days: float = 0.0

    @property
    def summary(self) -> LazyText:
        """Return one sentence on the rollback, worded as in the upgrade's plan."""
        kind = (
            RollbackKind.KEEPS_RECORDS
            if self.mode is DatabaseMode.MIGRATE
            else RollbackKind.RESTORES_PREVIOUS
        )
        loses = [f"{name}.{item}" for name, objects in self.lost.items() for item in objects]
        return describe_rollback(kind, self.origin, self.target, loses)

    @property
    def is_lossless(self) -> bool:
        """Return whether no data loss is known, so that no operator has to accept one."""
        return self.mode is DatabaseMode.MIGRATE and not self.lost_total

    @property
    def loses_values(self) -> bool:
        """Return whether it uses down migrations that do not keep every value."""
        return self.mode is DatabaseMode.MIGRATE and bool(self.lost_total)

    @property
    def retention_days_text(self) -> str:
        """Return the retention in days, for a sentence."""
        return f"{self.retention_days:g}"

    @property
    def lost_total(self) -> int:
        """Return the total number of lost rows."""
        return sum(sum(tables.values()) for tables in self.lost.values())

    @property
    def loss_text(self) -> str:
        """Return the loss as text: table and count."""
        return format_loss(self.lost)

    @property
    def uncounted_text(self) -> str:
        """Return the uncounted loss as text, likewise."""
        return format_loss(self.uncounted)

    @property
    def program_rows_text(self) -> LazyText | None:
        """Return a note if the count includes rows that a program wrote, else None."""
        if not (self.includes_program_rows and self.lost_total):
            return None
        template = N_("including rows written by the program of {version}")
        return LazyText(template, {"version": self.origin})

    @property
    def full_loss_text(self) -> str | LazyText:
        """Return counted and uncounted losses, for an error."""
        counted: str | LazyText = self.loss_text or LazyText(N_("none"))
        if self.program_rows_text is not None:
            counted = LazyText(
                "{tables}; {program}", {"tables": counted, "program": self.program_rows_text}
            )
        if not self.uncounted:
            return counted
        template = N_("{tables}; not counted as records by {version}: {uncounted}")
        values = {"tables": counted, "version": self.origin, "uncounted": self.uncounted_text}
        return LazyText(template, values)


def _has_previous_databases(sets: Sequence[PreviousDatabases], change: Change) -> bool:
    return any(previous.change == change.id and previous.dropped_at is None for previous in sets)


def plan_rollback(site: Site, journal: Journal, current: Version) -> RollbackPlan | None:
    """Plan the rollback from the installed release. Reads only.

    Returns:
        None if there is no earlier release, or neither down migrations nor previous databases.
    """
    upgrade = find_last_upgrade(journal.list_changes(), current)
    if upgrade is None or Version(upgrade.from_version) not in site.slots.list_versions():
        return None
    target = Version(upgrade.from_version)
    reference = ChangeRef(upgrade.id, upgrade.generation, str(target), retained_from=upgrade.id)
    path, reason = _choose_rollback_path(site, journal, upgrade, reference)
    if path.kind is RollbackKind.KEEPS_RECORDS:
        loss = _count_value_loss(site, upgrade, path, reference)
        return RollbackPlan(
            current,
            target,
            DatabaseMode.MIGRATE,
            undoes=upgrade.id,
            unchanged_databases=path.unchanged_databases,
            no_copy=path.no_copy,
            lost=loss.records,
            uncounted=loss.uncounted,
            retention_days=site.config.retention.previous_days,
        )
    if not _has_previous_databases(SiteHistory(journal).list_previous_databases(), upgrade):
        return None
    record_loss = count_record_loss(site, journal, reference)
    return RollbackPlan(
        current,
        target,
        DatabaseMode.RESTORE,
        source=upgrade.id,
        undoes=upgrade.id,
        reason=reason,
        lost=record_loss.records,
        uncounted=record_loss.uncounted,
        includes_program_rows=journal.read_facts(upgrade.id).contract_started is not None,
    )


def _count_value_loss(
    site: Site, upgrade: Change, path: RollbackPath, reference: ChangeRef
) -> DataLoss:
    if not path.losses:
        return DataLoss()
    lost = site.database_engine.count_entered_rows(reference, path.losses)
    return split_uncounted(lost, _read_uncounted_patterns(site, upgrade))


def count_value_loss(site: Site, journal: Journal, undoes: str) -> DataLoss:
    """Count again the entered values that the down migrations of an upgrade lose."""
    upgrade = journal.read_change(undoes)
    reference = ChangeRef(
        upgrade.id, upgrade.generation, upgrade.from_version, retained_from=upgrade.id
    )
    path, _ = _choose_rollback_path(site, journal, upgrade, reference)
    return _count_value_loss(site, upgrade, path, reference)


def _choose_rollback_path(
    site: Site, journal: Journal, upgrade: Change, reference: ChangeRef
) -> tuple[RollbackPath, str | LazyText]:
    """Return the path and why it loses records; unreadable migrations rule out a down migration."""
    engine, ledgers = site.database_engine, {}
    if journal.read_facts(upgrade.id).no_copy:
        return NO_COPY, ""  # Nothing was copied, so nothing has to be undone.
    try:
        newer = older = site.load_migrations(Version(upgrade.to_version))
        if newer.migrator is None:
            older = site.load_migrations(Version(upgrade.from_version))
    except UpdaterError as error:
        return _make_unusable_down_path(error)
    try:
        if newer.migrator is None:
            ledgers = {n: engine.read_ledger(LiveDatabase(n)) for n in engine.names}
    except LedgerUnreadableError as error:
        return _make_unusable_down_path(error)
    unchanged = journal.read_facts(upgrade.id).databases_unchanged or False
    path = plan_rollback_path(
        engine.names,
        ledgers,
        newer,
        older,
        upgrade.id,
        engine=engine.engine_name,
        unchanged=unchanged,
    )
    return path, "; ".join(f"{name} {id_}: {why.rstrip('.')}" for name, id_, why in path.reasons)


def _make_unusable_down_path(error: UpdaterError) -> tuple[RollbackPath, LazyText]:
    template = N_("the down migrations cannot be used: {cause} ({code})")
    values = {"cause": error.title_text, "code": error.code}
    return RollbackPath(RollbackKind.RESTORES_PREVIOUS), LazyText(template, values)


def describe_copy_free_downtime(*, no_copy: bool, expands: bool) -> LazyText | None:
    """Describe the downtime of a change without copies; None if databases are copied; pure."""
    if expands:
        return EXPAND_TEXT
    return NO_COPY_TEXT if no_copy else None


def describe_contract(program: Sequence[str]) -> LazyText | None:
    """Describe the contract program after the soak period; None if there is none; pure.

    Args:
        program: The program with its arguments.
    """
    if not program:
        return None
    template = N_("After the soak period, {program} completes the migrations without downtime.")
    return LazyText(template, {"program": shlex.join(program)})


def describe_rollback(
    path: RollbackKind,
    origin: object,
    target: object,
    loses: Sequence[str] = (),
    *,
    rehearsed: bool = True,
) -> LazyText:
    """Describe the rollback in one sentence, for plan, dossier and the rollback itself; pure.

    Args:
        path: The kind of rollback.
        origin: The installed release.
        target: The release to which the rollback leads.
        loses: Tables and columns whose new values the down migrations do not keep.
        rehearsed: Whether a rehearsal tested it, or the loss was counted.
    """
    values = {"origin": str(origin), "target": str(target)}
    if path is RollbackKind.KEEPS_RECORDS and loses:
        return LazyText(_PARTIAL_LOSS_TEXT, {**values, "objects": ", ".join(loses)})
    if path is RollbackKind.KEEPS_RECORDS and not rehearsed:
        return LazyText(_UNREHEARSED_TEXT, values)
    return LazyText(_PATH_TEXTS[path], values)
