"""Plan of the migrations from a ledger to a release: pure except for reading the files.

The ledger is a list of actions, oldest first: a ``down`` cancels the ``up`` before it. The result
is the *effective state*, a stack. A release can be reached if its list and the stack have a common
beginning. The rest of the stack is undone, newest first, with the files of the installed release;
then the rest of the release's list is applied, in order. Anything else is refused: an edited file,
an unknown migration, or a missing one below an applied one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import stat
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from ncen_updater.agent.adapters.databases.base import (
    AppliedMigration,
    ChangeRef,
    MigrationDirection,
    MigrationPlan,
    MigrationSet,
    PlannedMigration,
    RollbackKind,
    SqlMigration,
)
from ncen_updater.agent.adapters.databases.engines import get_engine_descriptor
from ncen_updater.agent.model.errors import DatabaseError, MigrationRefusedError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import MIGRATION_FILE_BAD
from ncen_updater.formats.data_loss import (
    DataLoss,
    LiveNames,
    LossKind,
    parse_declared_loss,
    read_down_migration,
)
from ncen_updater.formats.manifest import Manifest, Migration, fill_engine
from ncen_updater.formats.sql import MAX_FILE_BYTES, check_file_content

#: Database, migration or program, and the reason why undoing it loses records.
IrreversibleItem = tuple[str, str, str]
#: Data, by database, that down migrations do not keep.
LossesByDatabase = Mapping[str, tuple[DataLoss, ...]]


class MigrationReason(StrEnum):
    """Reason why a ledger and a release do not match; the value is the message."""

    LEDGER_BROKEN = N_("inconsistent migration history at {migration}")
    EDITED = N_("migration {migration} was modified after it was applied")
    UNKNOWN = N_("applied migration {migration} is in no installed release")
    GAP = N_("migration {migration} is missing, but a later one is applied")
    OUT_OF_ORDER = N_("migration {migration} cannot be reverted before a later one")
    IRREVERSIBLE = N_("migration {migration} is irreversible")


def make_refusal(database: str, reason: MigrationReason, migration: str) -> MigrationRefusedError:
    """Return the error for a reason."""
    text = LazyText(str(reason), {"migration": migration})
    return MigrationRefusedError(
        database=database, reason=text, kind=reason.name.lower(), migration=migration
    )


def read_sql(path: Path) -> str:
    """Return a migration file's text; the loader has checked size and encoding."""
    return path.read_bytes().decode("utf-8")


def index_by_id(
    target: Sequence[SqlMigration], origin: Sequence[SqlMigration] | None
) -> dict[str, SqlMigration]:
    """Return the migrations of both releases by id; the target's takes precedence."""
    return {m.migration.id: m for m in (*(origin or ()), *target)}


def reduce_ledger(
    database: str, applied: Sequence[AppliedMigration]
) -> tuple[AppliedMigration, ...]:
    """Return the ``up`` rows in effect, oldest first.

    Raises:
        MigrationRefusedError: If a row undoes a migration that is not the newest, or applies one
            twice.
    """
    stack: list[AppliedMigration] = []
    for row in applied:
        if row.direction is MigrationDirection.UP:
            if any(row.id == other.id for other in stack):
                raise make_refusal(database, MigrationReason.LEDGER_BROKEN, row.id)
            stack.append(row)
        elif stack and stack[-1].id == row.id:
            stack.pop()
        else:
            raise make_refusal(database, MigrationReason.LEDGER_BROKEN, row.id)
    return tuple(stack)


def _check_known(
    database: str,
    stack: Sequence[AppliedMigration],
    target: Mapping[str, SqlMigration],
    origin: Mapping[str, SqlMigration],
) -> None:
    for row in stack:
        known = [m for m in (target.get(row.id), origin.get(row.id)) if m is not None]
        if not known:
            raise make_refusal(database, MigrationReason.UNKNOWN, row.id)
        if any(m.up_sha256 != row.sha256 for m in known):
            raise make_refusal(database, MigrationReason.EDITED, row.id)


def _check_order(
    database: str, to_undo: Sequence[AppliedMigration], missing: Sequence[SqlMigration]
) -> None:
    """Refuse a target that shares a migration with the stack beyond the common beginning."""
    beyond = {m.migration.id for m in missing}
    for position, row in enumerate(to_undo):
        if row.id in beyond:
            if position == 0:
                raise make_refusal(database, MigrationReason.GAP, missing[0].migration.id)
            raise make_refusal(database, MigrationReason.OUT_OF_ORDER, to_undo[0].id)


def plan_database_migrations(
    database: str,
    applied: Sequence[AppliedMigration],
    target: Sequence[SqlMigration],
    current: Sequence[SqlMigration] | None,
    *,
    read: Callable[[Path], str] = read_sql,
) -> MigrationPlan:
    """Plan the steps that bring a database from its ledger to a release.

    Args:
        database: Logical name.
        applied: The ledger, oldest row first.
        target: Migrations of the release to reach, in order.
        current: Migrations of the installed release; needed only for down migrations.
        read: Returns a file's text.

    Returns:
        The steps, down migrations first. ``irreversible`` lists migrations without a down
        migration: those to be undone (then the plan cannot run, see
        :func:`find_irreversible_downs`) and those to be applied (then a rollback will not keep
        records).

    Raises:
        MigrationRefusedError: If ledger and releases do not match; ``values["kind"]`` holds the
            reason.
    """
    stack = reduce_ledger(database, applied)
    known_target = {m.migration.id: m for m in target}
    known_origin = {m.migration.id: m for m in current or ()}
    _check_known(database, stack, known_target, known_origin)
    common = 0
    while common < min(len(stack), len(target)) and stack[common].id == target[common].migration.id:
        common += 1
    to_undo, missing = stack[common:], target[common:]
    _check_order(database, to_undo, missing)

    steps: list[PlannedMigration] = []
    irreversible: list[tuple[str, str, str]] = []
    for row in reversed(to_undo):
        item = known_origin[row.id]
        if item.down is None or item.down_sha256 is None:
            irreversible.append((database, row.id, item.migration.irreversible or ""))
        else:
            steps.append(
                _make_planned_migration(
                    database, MigrationDirection.DOWN, item, item.down, item.down_sha256, read
                )
            )
    for item in missing:
        steps.append(
            _make_planned_migration(
                database, MigrationDirection.UP, item, item.up, item.up_sha256, read
            )
        )
        if item.down is None:
            reason = item.migration.irreversible or ""
            irreversible.append((database, item.migration.id, reason))
    return MigrationPlan(tuple(steps), tuple(irreversible))


def _make_planned_migration(
    database: str,
    direction: MigrationDirection,
    item: SqlMigration,
    path: Path,
    sha256: str,
    read: Callable[[Path], str],
) -> PlannedMigration:
    return PlannedMigration(database, direction, item.migration.id, path, sha256, read(path))


def plan_site_migrations(
    names: Sequence[str],
    ledgers: Mapping[str, Sequence[AppliedMigration]],
    target: MigrationSet,
    current: MigrationSet | None,
    *,
    read: Callable[[Path], str] = read_sql,
) -> MigrationPlan:
    """Plan the steps that bring all databases of a site to a release.

    Args:
        names: Logical names, in order.
        ledgers: The ledger of each; ignored if the release has its own migrator.
        target: The release to reach.
        current: The installed release.
        read: Returns a file's text.

    Raises:
        MigrationRefusedError: If a ledger and the releases do not match.
    """
    if target.migrator is not None:
        return MigrationPlan((), _list_migrator_irreversible(names, target))
    plans = [
        plan_database_migrations(
            name,
            ledgers.get(name, ()),
            target.databases.get(name, ()),
            current.databases.get(name, ()) if current else None,
            read=read,
        )
        for name in names
    ]
    return MigrationPlan(
        tuple(step for plan in plans for step in plan.steps),
        tuple(item for plan in plans for item in plan.irreversible),
    )


def _list_migrator_irreversible(
    names: Sequence[str], release: MigrationSet
) -> tuple[IrreversibleItem, ...]:
    command = release.migrator
    return (
        tuple((name, command.argv[0], command.no_rollback_reason) for name in names)
        if command
        else ()
    )


def predict_ledgers(
    ledgers: Mapping[str, Sequence[AppliedMigration]], plan: MigrationPlan, change: ChangeRef
) -> dict[str, tuple[AppliedMigration, ...]]:
    """Return the ledgers as they will be after a plan has run in a change."""
    predicted = {name: tuple(rows) for name, rows in ledgers.items()}
    for step in plan.steps:
        row = AppliedMigration(step.id, step.direction, step.sha256, change.release, change.id, "")
        predicted[step.database] = (*predicted.get(step.database, ()), row)
    return predicted


@dataclass(frozen=True)
class RollbackPath:
    """Rollback from a release to the previous one.

    Attributes:
        kind: Kind of the rollback.
        reasons: (database, migration or program, reason) why records are not, or may not be, kept.
        unchanged_databases: Whether no database is migrated, and only the code changes.
        no_copy: Whether no database is copied either, since both releases declare that the older
            one works with the databases of the newer one.
        losses: Values entered after the upgrade that the down migrations do not keep, as far as
            their text shows or the release declares.
    """

    kind: RollbackKind
    reasons: tuple[IrreversibleItem, ...] = ()
    unchanged_databases: bool = False
    no_copy: bool = False
    losses: LossesByDatabase = field(default_factory=dict)

    @property
    def lost_objects(self) -> tuple[str, ...]:
        """Return the objects whose new values are not kept: database, table, column.

        Tables that the release itself fills are left out: they lose records only if somebody adds
        rows, which is counted before a rollback.
        """
        named = {
            f"{database}.{loss.object_name}": None
            for database, found in self.losses.items()
            for loss in found
            if not loss.is_release_table
        }
        return tuple(named)

    def resolve_kind(self, *, unchanged: bool) -> RollbackPath:
        """Return the path once it is known whether the release's program changes anything."""
        if self.kind is not RollbackKind.DEPENDS_ON_MIGRATOR:
            return self
        return (
            UNCHANGED_DATABASES
            if unchanged
            else dataclasses.replace(self, kind=RollbackKind.RESTORES_PREVIOUS)
        )


#: Only the code changes; the databases are copied and cut over.
UNCHANGED_DATABASES = RollbackPath(RollbackKind.KEEPS_RECORDS, unchanged_databases=True)
#: Only the code changes; no database is copied.
NO_COPY = RollbackPath(RollbackKind.KEEPS_RECORDS, unchanged_databases=True, no_copy=True)


def build_rollback_target(
    names: Sequence[str],
    ledgers: Mapping[str, Sequence[AppliedMigration]],
    newer: MigrationSet,
    older: MigrationSet,
    change: str,
) -> MigrationSet:
    """Return the target of a rollback: files only, never a program.

    If the older release has its own migrator, it has no list of files: then the target is the set
    of migrations in effect before the change.

    Raises:
        MigrationRefusedError: If a ledger is inconsistent, or contains migrations unknown to the
            newer release.
    """
    if older.migrator is None:
        return older
    known = {n: {m.migration.id: m for m in newer.databases.get(n, ())} for n in names}
    databases: dict[str, tuple[SqlMigration, ...]] = {}
    for name in names:
        earlier = reduce_ledger(name, [r for r in ledgers.get(name, ()) if r.change != change])
        for row in earlier:
            if row.id not in known[name]:
                raise make_refusal(name, MigrationReason.UNKNOWN, row.id)
        databases[name] = tuple(known[name][row.id] for row in earlier)
    return dataclasses.replace(older, databases=databases, migrator=None)


def is_schema_compatible(newer: MigrationSet, older: MigrationSet) -> bool:
    """Tell whether both releases declare that the older one runs on the newer one's databases."""
    new, old = newer.compatibility, older.compatibility
    return new is not None and old is not None and old.schema_number >= new.compatible_down_to


def is_copy_free_upgrade(plan: MigrationPlan, newer: MigrationSet, older: MigrationSet) -> bool:
    """Tell whether an upgrade copies no database, since only the code changes.

    That is so if no migration file has to run, both releases declare the same schema, and the older
    one runs on data of the newer one.
    """
    new, old = newer.compatibility, older.compatibility
    if new is None or old is None or new.schema_number != old.schema_number:
        return False
    return not plan.steps and is_schema_compatible(newer, older)


def is_expand_upgrade(newer: MigrationSet, older: MigrationSet) -> bool:
    """Tell whether the release's program may run on the live databases of the older release in use.

    The newer release declares it, and both declare that the older one runs on its result. Only for
    a release with its own migrator, which keeps its own ledger and can safely run again.
    """
    new, old = newer.compatibility, older.compatibility
    if newer.migrator is None or new is None or old is None or not new.expand:
        return False
    return new.schema_number > old.schema_number and is_schema_compatible(newer, older)


def plan_rollback_path(
    names: Sequence[str],
    ledgers: Mapping[str, Sequence[AppliedMigration]],
    newer: MigrationSet,
    older: MigrationSet,
    change: str,
    *,
    engine: str,
    unchanged: bool | None = None,
    read: Callable[[Path], str] = read_sql,
) -> RollbackPath:
    """Determine the rollback from a release to the previous one.

    The only place of this decision: for the plan before the upgrade, for the facts that the upgrade
    journals, and for the rollback itself. It considers what *undoing* needs, so the program of the
    older release does not count: a rollback never runs it.

    Args:
        names: Logical names, in order.
        ledgers: The ledgers after the upgrade; ignored if the newer release has its own migrator,
            which writes no ledger.
        newer: Migrations of the newer release.
        older: Migrations of the older release.
        change: Id of the upgrade, as in its ledger rows.
        engine: Engine whose SQL the files contain.
        unchanged: Whether the newer release's program changed neither schema nor rows of any
            database; None if it has not been run yet.
        read: Returns a file's text.
    """
    if newer.migrator is not None and is_schema_compatible(newer, older):
        return NO_COPY
    if newer.migrator is not None:
        path = RollbackPath(
            RollbackKind.DEPENDS_ON_MIGRATOR, _list_migrator_irreversible(names, newer)
        )
        return path if unchanged is None else path.resolve_kind(unchanged=unchanged)
    try:
        target = build_rollback_target(names, ledgers, newer, older, change)
        plan = plan_site_migrations(names, ledgers, target, newer, read=read)
    except MigrationRefusedError as error:
        reason = (str(error.values["database"]), str(error.values["migration"]), str(error))
        return RollbackPath(RollbackKind.RESTORES_PREVIOUS, (reason,))
    irreversible = find_irreversible_downs(plan)
    if irreversible:
        return RollbackPath(RollbackKind.RESTORES_PREVIOUS, irreversible)
    lost = _find_losses(plan, newer, engine, read)
    if not plan.steps:
        return NO_COPY if is_schema_compatible(newer, older) else UNCHANGED_DATABASES
    return RollbackPath(RollbackKind.KEEPS_RECORDS, losses=lost)


def _find_losses(
    plan: MigrationPlan, newer: MigrationSet, engine: str, read: Callable[[Path], str]
) -> LossesByDatabase:
    """Return the losses of the down migrations of a plan: by their text, and as declared.

    A rollback may rename an object before it loses it; its rows are counted under its live name.
    """
    losses: dict[str, tuple[DataLoss, ...]] = {}
    names: defaultdict[str, LiveNames] = defaultdict(LiveNames)
    for step in plan.steps:
        if step.direction is not MigrationDirection.DOWN:
            continue
        item = index_by_id(newer.databases[step.database], None)[step.id]
        from_text, renames = read_down_migration(read(item.up), step.sql, engine)
        dependent = {loss.object_name: loss for loss in from_text if loss.needs_catalog}
        # A declared object may have dependent objects; then it is counted as the text is read.
        declared = [
            dependent.get(name.lower()) or parse_declared_loss(name)
            for name in item.migration.data_loss or ()
        ]
        undeclared = [
            loss
            for loss in from_text
            # A constraint that rejects values loses nothing: the rollback then fails and is
            # reverted.
            if loss.kind is not LossKind.REFUSES
            and loss.object_name not in {other.object_name.lower() for other in declared}
        ]
        if declared or undeclared:
            live = map(names[step.database].translate, (*declared, *undeclared))
            losses[step.database] = (*losses.get(step.database, ()), *live)
        names[step.database].add(renames)
    return losses


def find_irreversible_downs(plan: MigrationPlan) -> tuple[tuple[str, str, str], ...]:
    """Return the irreversible migrations that would have to be undone: the plan cannot run."""
    applied = {(s.database, s.id) for s in plan.steps if s.direction is MigrationDirection.UP}
    return tuple(item for item in plan.irreversible if item[:2] not in applied)


def render_plan_sql(
    plan: MigrationPlan,
    engine: str,
    target: MigrationSet,
    current: MigrationSet | None = None,
    change: str = "<change>",
) -> str:
    """Return every statement of a plan with its database, time-outs, transaction and ledger row.

    Args:
        plan: The plan.
        engine: A name in :data:`.engines.ENGINES`.
        target: The release to reach, for limits and ``verify`` files.
        current: The installed release, for those of ``down`` files.
        change: Id of the change, if it is known already.
    """
    lines = [f"-- Release {target.release}, {engine}: {len(plan.steps)} migrations"]
    for database, migration, reason in plan.irreversible:
        lines.append(f"-- {database}: {migration} has no down migration: {_join_lines(reason)}")
    if target.migrator is not None:
        lines.append(f"-- The application's own migrator runs: {' '.join(target.migrator.argv)}")
    if target.contract_program is not None:
        lines.append(f"-- Contract migrations run with: {' '.join(target.contract_program.argv)}")
    descriptor = get_engine_descriptor(engine)
    for step in plan.steps:
        source = target if step.direction is MigrationDirection.UP else current
        item = _find_migration(source.databases.get(step.database, ()) if source else (), step.id)
        limits = item.migration if item else None
        lines += [
            "",
            f"-- database {step.database}, migration {step.id}, {step.direction.value}",
            f"-- sha256 {step.sha256}",
        ]
        lock = limits.lock_timeout_ms if limits else 0
        statement = limits.statement_timeout_ms if limits else 0
        outside_transaction = limits is not None and not limits.transactional
        text = step.sql.rstrip()
        if outside_transaction:
            lines += [
                "-- outside a transaction:",
                *descriptor.format_timeouts(lock, statement, in_transaction=False),
                text,
            ]
        lines += [
            descriptor.begin_statement,
            *descriptor.format_timeouts(lock, statement, in_transaction=True),
        ]
        if not outside_transaction:
            lines += [text, *descriptor.pre_commit_statements]
        if step.direction is MigrationDirection.UP and item is not None and item.verify is not None:
            lines += ["-- each of these must return no row:", read_sql(item.verify).rstrip()]
        values = (step.id, step.direction.value, step.sha256, target.release, change, "<time>")
        insert = descriptor.ledger_tables.insert_row.split(" VALUES ", 1)[0]
        lines.append(f"{insert} VALUES ({', '.join(_quote_literal(value) for value in values)});")
        lines += ["-- and the row of the table alembic_version, if there is one", "COMMIT;"]
    return "\n".join(lines) + "\n"


def _find_migration(migrations: Sequence[SqlMigration], name: str) -> SqlMigration | None:
    return next((item for item in migrations if item.migration.id == name), None)


def _quote_literal(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _join_lines(text: str) -> str:
    return " ".join(text.split())


def load_migrations(
    manifest: Manifest, slot: Path, engine: str, digests: Mapping[str, str] | None
) -> MigrationSet:
    """Resolve, check and hash every migration file of a release.

    Args:
        manifest: The release's manifest.
        slot: Directory of the release.
        engine: Replaces ``{engine}`` in paths.
        digests: SHA-256 by path, from the signed release document; None only for the author's own
            files (building, linting).

    Raises:
        MIGRATION_FILE_BAD: A file is missing, not a regular file inside the slot, too large, not
            UTF-8, or not the signed one.
    """
    files = _ReleaseFiles(manifest.version, slot, engine, digests)
    return MigrationSet(
        release=manifest.version,
        slot=slot,
        databases={
            database.name: tuple(files.load_migration(item) for item in database.migrations)
            for database in manifest.databases
        },
        migrator=manifest.migrator,
        compatibility=manifest.compatibility,
    )


class _ReleaseFiles:
    def __init__(
        self, release: str, slot: Path, engine: str, digests: Mapping[str, str] | None
    ) -> None:
        self._release = release
        self._slot = slot
        self._engine = engine
        self._digests = digests

    def load_migration(self, item: Migration) -> SqlMigration:
        up, up_sha256 = self._read_file(item.up)
        down, down_sha256 = self._read_file(item.down) if item.down else (None, None)
        verify, verify_sha256 = self._read_file(item.verify) if item.verify else (None, None)
        return SqlMigration(item, up, down, verify, up_sha256, down_sha256, verify_sha256)

    def _read_file(self, declared_path: str) -> tuple[Path, str]:
        relative_path = fill_engine(self._engine, declared_path)
        path = self._slot / relative_path
        try:
            info = path.lstat()
            # lstat does not follow links: a link to itself would raise another error.
            is_regular = stat.S_ISREG(info.st_mode)
            outside = is_regular and not path.resolve().is_relative_to(self._slot.resolve())
        except (OSError, ValueError) as error:
            raise self._file_error(relative_path, N_("file not found"), str(error)) from error
        if outside or not is_regular:
            raise self._file_error(relative_path, N_("not a regular file inside the release"))
        if info.st_size > MAX_FILE_BYTES:
            raise self._file_error(
                relative_path, N_("file too large"), f"{info.st_size} > {MAX_FILE_BYTES}"
            )
        try:
            content = path.read_bytes()
        except OSError as error:
            raise self._file_error(relative_path, N_("cannot be read"), str(error)) from error
        problem = check_file_content(content)
        if problem:
            raise self._file_error(relative_path, *problem)
        digest = hashlib.sha256(content).hexdigest()
        if self._digests is not None and self._digests.get(relative_path) != digest:
            raise self._file_error(relative_path, N_("digest mismatch"), digest)
        return path, digest

    def _file_error(self, path: str, reason: str, detail: str | None = None) -> DatabaseError:
        return DatabaseError(
            MIGRATION_FILE_BAD,
            path=path,
            release=self._release,
            reason=LazyText(reason),
            detail=detail,
        )
