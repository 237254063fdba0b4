"""Tests that an upgrade's plan shows the rollback that is found afterwards."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ncen_updater.agent.adapters.databases.base import (
    AppliedMigration,
    ChangeRef,
    MigrationDirection,
    MigrationSet,
    RollbackKind,
    SqlMigration,
)
from ncen_updater.agent.adapters.databases.migrations.planner import (
    NO_COPY,
    RollbackPath,
    build_rollback_target,
    is_copy_free_upgrade,
    is_expand_upgrade,
    plan_rollback_path,
    plan_site_migrations,
    predict_ledgers,
    reduce_ledger,
)
from ncen_updater.agent.model.errors import MigrationRefusedError
from ncen_updater.formats.data_loss import DataLoss, LossKind
from ncen_updater.formats.manifest import MigratorCommand, SchemaCompatibility
from tests.agent.adapters.databases.migrations.factories import RENAMED, find_losses, make

NAMES = ("a", "b")
PROGRAM = MigratorCommand(argv=("bin/migrate",), no_rollback_reason="it only goes forward")
FIRST, SECOND = (
    ChangeRef(id_, 1, release) for id_, release in (("firstaaa", "1.0"), ("secondaa", "2.0"))
)
Ledgers = Mapping[str, Sequence[AppliedMigration]]


def item(name: str, *, way_down: bool = True) -> SqlMigration:
    with tempfile.TemporaryDirectory() as directory:
        return make(Path(directory), name, f"-- {name}", f"-- not {name}" if way_down else None)


A, B, C = (item(f"000{number}") for number in (1, 2, 3))
ONE_WAY = item("0004", way_down=False)


def release(
    version: str, *migrations: SqlMigration, program: MigratorCommand | None = None
) -> MigrationSet:
    return MigrationSet(version, Path("/"), dict.fromkeys(NAMES, migrations), program)


def installed(ledgers: Ledgers, older: MigrationSet, change: ChangeRef = FIRST) -> Ledgers:
    """The ledgers of a site to which a release was installed."""
    return predict_ledgers(
        ledgers, plan_site_migrations(NAMES, ledgers, older, None, read=str), change
    )


def upgraded(older: MigrationSet, newer: MigrationSet) -> Ledgers:
    ledgers = installed({}, older)
    return predict_ledgers(
        ledgers, plan_site_migrations(NAMES, ledgers, newer, older, read=str), SECOND
    )


@dataclass(frozen=True)
class Case:
    name: str
    older: MigrationSet
    newer: MigrationSet
    unchanged: bool | None
    back: RollbackKind
    by_code: bool = False


OLD, NEW = release("1.0", A), release("2.0", A, B)
CASES = [
    Case("files with a way down", OLD, NEW, None, RollbackKind.KEEPS_RECORDS),
    Case(
        "files without one", OLD, release("2.0", A, ONE_WAY), None, RollbackKind.RESTORES_PREVIOUS
    ),
    Case("nothing to do", OLD, release("2.0", A), None, RollbackKind.KEEPS_RECORDS, by_code=True),
    Case(
        "neither has anything",
        release("1.0"),
        release("2.0"),
        None,
        RollbackKind.KEEPS_RECORDS,
        by_code=True,
    ),
    *(
        Case(f"{name}, {seen}", older, release("2.0", program=PROGRAM), seen, back, by_code)
        for name, older in (
            ("only the newer has a program", OLD),
            ("both have one", release("1.0", program=PROGRAM)),
        )
        for seen, back, by_code in (
            (None, RollbackKind.DEPENDS_ON_MIGRATOR, False),
            (False, RollbackKind.RESTORES_PREVIOUS, False),
            (True, RollbackKind.KEEPS_RECORDS, True),
        )
    ),
    Case(
        "only the older has one, no files",
        release("1.0", program=PROGRAM),
        release("2.0"),
        None,
        RollbackKind.KEEPS_RECORDS,
        by_code=True,
    ),
    Case(
        "only the older has one, files",
        release("1.0", program=PROGRAM),
        NEW,
        None,
        RollbackKind.KEEPS_RECORDS,
    ),
    Case(
        "only the older has one, no way down",
        release("1.0", program=PROGRAM),
        release("2.0", ONE_WAY),
        None,
        RollbackKind.RESTORES_PREVIOUS,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_rollback_kind_is_decided(case: Case) -> None:
    ledgers = upgraded(case.older, case.newer)
    way = plan_rollback_path(
        NAMES,
        ledgers,
        case.newer,
        case.older,
        SECOND.id,
        unchanged=case.unchanged,
        engine="postgresql",
        read=str,
    )
    assert (way.kind, way.unchanged_databases) == (case.back, case.by_code)
    assert bool(way.reasons) is (case.back is not RollbackKind.KEEPS_RECORDS)


def test_schema_from_before_a_migrator_stays() -> None:
    """From files over a program to files: what the first release applied is not undone."""
    with_program = release("2.0", program=PROGRAM)
    ledgers = installed({}, OLD)
    newer = release("3.0", A, B)
    change = ChangeRef("thirdaaa", 3, "3.0")
    after = predict_ledgers(
        ledgers, plan_site_migrations(NAMES, ledgers, newer, with_program, read=str), change
    )
    target = build_rollback_target(NAMES, after, newer, with_program, change.id)
    assert target.migrator is None
    assert {name: [m.migration.id for m in target.databases[name]] for name in NAMES} == {
        name: ["0001"] for name in NAMES
    }
    back = plan_site_migrations(NAMES, after, target, newer, read=str)
    assert [(s.direction, s.id) for s in back.steps] == [(MigrationDirection.DOWN, "0002")] * 2


def test_unmatched_ledger_requires_restore_and_names_the_reason() -> None:
    way = plan_rollback_path(
        NAMES, upgraded(OLD, NEW), NEW, release("1.0", C), SECOND.id, engine="postgresql", read=str
    )  # fmt: skip
    assert way.kind is RollbackKind.KEEPS_RECORDS  # 0001 and 0002 are undone, 0003 is done
    edited = release("1.0", SqlMigration(**{**A.__dict__, "up_sha256": "f" * 64}))
    way = plan_rollback_path(
        NAMES, upgraded(OLD, NEW), NEW, edited, SECOND.id, engine="postgresql", read=str
    )
    assert way.kind is RollbackKind.RESTORES_PREVIOUS
    assert [reason[:2] for reason in way.reasons] == [("a", "0001")]


def test_schema_comparison_resolves_only_dependent_rollback_kinds() -> None:
    depends = RollbackPath(
        RollbackKind.DEPENDS_ON_MIGRATOR, (("a", "bin/migrate", "it only goes forward"),)
    )
    assert depends.resolve_kind(unchanged=True) == RollbackPath(
        RollbackKind.KEEPS_RECORDS, unchanged_databases=True
    )
    assert depends.resolve_kind(unchanged=False).kind is RollbackKind.RESTORES_PREVIOUS
    assert depends.resolve_kind(unchanged=False).reasons == depends.reasons
    for back in (RollbackKind.KEEPS_RECORDS, RollbackKind.RESTORES_PREVIOUS):
        way = RollbackPath(back)
        assert way.resolve_kind(unchanged=True) is way.resolve_kind(unchanged=False) is way


# ---- the plan against what is found after the upgrade --------------------------------------------

POOL = [item(f"{number:04}", way_down=number % 3 != 2) for number in range(7)]
lists = st.lists(st.sampled_from(range(7)), unique=True, max_size=5).map(sorted)


@st.composite
def releases(draw: st.DrawFn, version: str) -> MigrationSet:
    if draw(st.booleans()):
        return MigrationSet(version, Path("/"), dict.fromkeys(NAMES, ()), PROGRAM)
    return MigrationSet(version, Path("/"), {n: [POOL[i] for i in draw(lists)] for n in NAMES})


@settings(max_examples=300, deadline=None)
@given(
    first=releases("0.9"), older=releases("1.0"), newer=releases("2.0"),
    changes=st.booleans(), rehearsed=st.booleans(),
)  # fmt: skip
def test_planned_rollback_matches_the_actual_one(
    first: MigrationSet, older: MigrationSet, newer: MigrationSet, changes: bool, rehearsed: bool
) -> None:
    begun = installed({}, first, ChangeRef("zerothaa", 0, "0.9"))
    try:
        ledgers = predict_ledgers(
            begun, plan_site_migrations(NAMES, begun, older, first, read=str), FIRST
        )
        there = plan_site_migrations(NAMES, ledgers, newer, older, read=str)
    except MigrationRefusedError:
        return  # such an upgrade does not begin
    unchanged = not changes and newer.migrator is not None
    # As make_plan does: the ledgers as they would be, rows carry the id of a change to come.
    to_come = ChangeRef("planned2", 0, "2.0")
    planned = plan_rollback_path(
        NAMES,
        predict_ledgers(ledgers, there, to_come),
        newer,
        older,
        to_come.id,
        engine="postgresql",
        read=str,
    )
    if rehearsed:
        planned = planned.resolve_kind(unchanged=unchanged)
    # As way_back does: the ledgers as they are, and what the upgrade wrote into the journal.
    after = predict_ledgers(ledgers, there, SECOND)
    found = plan_rollback_path(
        NAMES, after, newer, older, SECOND.id, unchanged=unchanged, engine="postgresql", read=str
    )
    assert found.kind is not RollbackKind.DEPENDS_ON_MIGRATOR
    assert planned.resolve_kind(unchanged=unchanged) == found
    if planned.kind is not RollbackKind.DEPENDS_ON_MIGRATOR:
        assert planned.kind is found.kind
    if found.kind is RollbackKind.RESTORES_PREVIOUS:
        assert found.reasons
        return
    if found.unchanged_databases and newer.migrator is not None:
        return
    # What keeps every record can be run, and leads to where the site was.
    target = build_rollback_target(NAMES, after, newer, older, SECOND.id)
    back = plan_site_migrations(NAMES, after, target, newer, read=str)
    assert (not back.steps) is found.unchanged_databases
    returned = predict_ledgers(after, back, ChangeRef("backaaaa", 3, "1.0"))
    for name in NAMES:
        stands = [row.id for row in reduce_ledger(name, returned.get(name, ()))]
        stood = [row.id for row in reduce_ledger(name, ledgers.get(name, ()))]
        assert stands == stood


@pytest.mark.parametrize(
    ("loses", "found"),
    [
        (
            None,
            [
                DataLoss("a", None, LossKind.ROWS, 1, cascades=True),
                DataLoss("b", "c", LossKind.COLUMN, 2),
                DataLoss("d", None, LossKind.ROWS, 3),
            ],
        ),
        # What goes with it is counted all the same.
        (
            ("A", "B.C", "d"),
            [
                DataLoss("a", None, LossKind.ROWS, 1, cascades=True),
                DataLoss("b", "c", LossKind.DECLARED),
                DataLoss("d", None, LossKind.ROWS, 3),
            ],
        ),
    ],
)
def test_declared_loss_does_not_hide_cascading_loss(
    tmp_path: Path, loses: tuple[str, ...] | None, found: list[DataLoss]
) -> None:
    down = "TRUNCATE a CASCADE;\nALTER TABLE b DROP c;\nDELETE FROM d"
    made = make(tmp_path, "0005", "SELECT 1", down)
    migration = made.migration.model_copy(update={"data_loss": loses})
    newer = release("2.0", A, dataclasses.replace(made, migration=migration))

    def read(path: Path) -> str:
        return path.read_text("utf-8") if path.exists() else ""

    ledgers = upgraded(OLD, newer)
    way = plan_rollback_path(
        NAMES, ledgers, newer, OLD, SECOND.id, engine="postgresql", read=read
    )  # fmt: skip
    assert list(way.losses["a"]) == found


@pytest.mark.parametrize("engine", ["postgresql", "sqlite"])
@pytest.mark.parametrize("declared", [(), ("cases.mark", "hints")])
def test_losses_have_the_live_names(tmp_path: Path, engine: str, declared: tuple[str, ...]) -> None:
    """Seen: names that the rollback gives first; no row has them, so that no loss was counted."""
    found = find_losses(tmp_path, engine, *RENAMED, declared=declared)
    assert [loss.object_name for loss in found] == ["dossiers.label", "clues"]


REBUILT = (
    "CREATE TABLE again (id int); INSERT INTO again SELECT id FROM cases; DROP TABLE cases;"
    " ALTER TABLE again RENAME TO cases"
)
SWAPPED = (
    "ALTER TABLE one RENAME TO spare; ALTER TABLE two RENAME TO one;"
    " ALTER TABLE spare RENAME TO two"
)


@pytest.mark.parametrize(
    ("first", "later", "names"),
    [
        ("ALTER TABLE cases DROP COLUMN mark", [REBUILT], ["cases.mark"]),
        ("ALTER TABLE cases DROP COLUMN mark", [REBUILT, "ALTER TABLE f RENAME TO cases"],
         ["f.mark"]),
        ("DROP TABLE one", [SWAPPED], ["two"]),
        ("DROP TABLE one", [SWAPPED, SWAPPED], ["one"]),
        ("ALTER TABLE one DROP COLUMN b",
         ["ALTER TABLE one RENAME a TO b", "ALTER TABLE one RENAME b TO a"], ["one.b"]),
        ("DELETE FROM one", ["ALTER TABLE audit.one SET SCHEMA public"], ["audit.one"]),
    ],
)  # fmt: skip
def test_losses_follow_renames_of_later_migrations(
    tmp_path: Path, first: str, later: list[str], names: list[str]
) -> None:
    migrations = [("SELECT 1", first), *(("SELECT 1", down) for down in later)]
    found = find_losses(tmp_path, "postgresql", *migrations)
    assert [loss.object_name for loss in found] == names


def with_compatibility(made: MigrationSet, number: int, compatible_down_to: int) -> MigrationSet:
    return dataclasses.replace(
        made,
        compatibility=SchemaCompatibility(
            schema_number=number, compatible_down_to=compatible_down_to
        ),
    )


@dataclass(frozen=True)
class DeclaredCompatibility:
    """Two releases and what each says: (number, how far back), or nothing."""

    name: str
    older: tuple[int, int] | None
    newer: tuple[int, int] | None
    forward: bool
    back: bool


SAID = [
    DeclaredCompatibility("neither declares anything", None, None, forward=False, back=False),
    DeclaredCompatibility("the older declares nothing", None, (1, 1), forward=False, back=False),
    DeclaredCompatibility("the newer declares nothing", (1, 1), None, forward=False, back=False),
    DeclaredCompatibility("the same", (1, 1), (1, 1), forward=True, back=True),
    DeclaredCompatibility(
        "the same, with an older one in sight", (5, 3), (5, 1), forward=True, back=True
    ),
    DeclaredCompatibility(
        "newer, and the older runs on it", (4, 4), (5, 4), forward=False, back=True
    ),
    DeclaredCompatibility(
        "newer, and the older does not", (3, 3), (5, 4), forward=False, back=False
    ),
    DeclaredCompatibility("older", (5, 5), (4, 4), forward=False, back=True),
]


@pytest.mark.parametrize("said", SAID, ids=lambda said: said.name)
@pytest.mark.parametrize("by", ["files", "a program"])
def test_declared_schema_compatibility_decides_on_copies(
    said: DeclaredCompatibility, by: str
) -> None:
    program = PROGRAM if by == "a program" else None
    older, newer = (
        made if words is None else with_compatibility(made, *words)
        for made, words in (
            (release("1.0", *(() if program else (A,)), program=program), said.older),
            (release("2.0", *(() if program else (A,)), program=program), said.newer),
        )
    )
    ledgers = upgraded(older, newer)
    plan = plan_site_migrations(NAMES, ledgers, newer, older, read=str)
    assert is_copy_free_upgrade(plan, newer, older) is said.forward
    way = plan_rollback_path(NAMES, ledgers, newer, older, SECOND.id, engine="postgresql", read=str)
    assert way.no_copy is said.back
    if said.back:
        assert way == NO_COPY and way.kind is RollbackKind.KEEPS_RECORDS and way.unchanged_databases


def test_required_migrations_need_a_copy_despite_declarations() -> None:
    older, newer = with_compatibility(OLD, 1, 1), with_compatibility(NEW, 1, 1)
    ledgers = installed({}, older)
    assert not is_copy_free_upgrade(
        plan_site_migrations(NAMES, ledgers, newer, older, read=str), newer, older
    )
    after = upgraded(older, newer)
    way = plan_rollback_path(NAMES, after, newer, older, SECOND.id, engine="postgresql", read=str)
    assert (way.kind, way.unchanged_databases, way.no_copy) == (
        RollbackKind.KEEPS_RECORDS,
        False,
        False,
    )


@pytest.mark.parametrize("by", ["files", "a program"])
@pytest.mark.parametrize("expand", [True, False])
@pytest.mark.parametrize("said", SAID, ids=lambda said: said.name)
def test_expand_program_runs_before_the_downtime(
    said: DeclaredCompatibility, expand: bool, by: str
) -> None:
    """A program, on databases of a lower number, on which the older release runs on."""
    program = PROGRAM if by == "a program" else None
    older, newer = release("1.0", program=program), release("2.0", program=program)
    if said.older is not None:
        older = with_compatibility(older, *said.older)
    if said.newer is not None:
        compatibility = SchemaCompatibility.model_construct(
            schema_number=said.newer[0], compatible_down_to=said.newer[1], expand=expand
        )
        newer = dataclasses.replace(newer, compatibility=compatibility)
    wanted = expand and program is not None and said.name == "newer, and the older runs on it"
    assert is_expand_upgrade(newer, older) is wanted
