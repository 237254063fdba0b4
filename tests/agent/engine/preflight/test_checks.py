from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import create_autospec

import pytest
from packaging.version import Version

from ncen_updater.agent.adapters.application.base import Application
from ncen_updater.agent.adapters.application.health_result import HealthResult, ProbeResult
from ncen_updater.agent.adapters.databases.base import (
    ChangeRef,
    DatabaseEngine,
    DatabaseFacts,
    DatabaseRole,
    MigrationPlan,
    MigrationSet,
)
from ncen_updater.agent.config.agent_config import AgentConfig
from ncen_updater.agent.engine.preflight import databases as space
from ncen_updater.agent.engine.preflight.base import PreflightContext, register_check, run_checks
from ncen_updater.agent.engine.preflight.databases import check_role_privileges
from ncen_updater.agent.engine.preflight.files import inspect_site_files, judge_directory
from ncen_updater.agent.engine.site_preflight import list_checks
from ncen_updater.agent.engine.steps.preflight import require_no_blockers
from ncen_updater.agent.model.errors import (
    ApplicationError,
    DatabaseUnreachableError,
    MigrationRefusedError,
)
from ncen_updater.agent.storage.site_files.directory_index import DirectorySurvey, SnapshotMethod
from ncen_updater.agent.storage.slots.store import SlotStore
from ncen_updater.common.disk_space import MARGIN_BYTES
from ncen_updater.common.findings import Finding, Severity
from ncen_updater.common.i18n import LazyText
from ncen_updater.common.messages import (
    CHECK_RESULT_INVALID,
    HEALTH_TOKEN_MISSING,
    PREFLIGHT_BLOCKED,
)
from ncen_updater.formats.manifest import SiteFileEffect, SiteFilesManifest
from tests.agent.storage.slots.factories import assemble, document_for, make_release
from tests.support.errors import refused
from tests.support.run_directory import other_than

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
OLD = Version("3.2.4")
NOTHING: dict[str, object] = {}
GB = 10**9


def settings(root: Path, **application: object) -> AgentConfig:
    return AgentConfig.model_validate(
        {
            "schema": 1,
            "site": {"id": "ke", "country": "KE"},
            "paths": {
                "root": root,
                "state": root / "state",
                "slots": root / "slots",
                "current": root / "current",
            },
            "feed": {"urls": ["https://example.org"]},
            "databases": {
                "engine": "postgresql",
                "names": {"cases": "ncen_cases"},
                "postgresql": {},
            },
            "application": {
                "adapter": "command",
                "start": [sys.executable],
                "stop": [sys.executable],
                "status": ["sh", "-c", "exit 0"],
                "health_url": "http://127.0.0.1:9",
                "maintenance_file": root / "door",
                **application,
            },
        }
    )


@dataclass(frozen=True)
class Report:
    """Findings by severity; truthy when nothing blocks."""

    findings: tuple[Finding, ...]

    def __bool__(self) -> bool:
        return not self.strict

    def _of(self, severity: Severity) -> tuple[Finding, ...]:
        return tuple(item for item in self.findings if item.severity is severity)

    @property
    def strict(self) -> tuple[Finding, ...]:
        return self._of(STRICT)

    @property
    def advisory(self) -> tuple[Finding, ...]:
        return self._of(ADVISORY)

    @property
    def info(self) -> tuple[Finding, ...]:
        return self._of(INFO)


class World:
    """A healthy site, until a test changes it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = SlotStore(root / "slots", root / "current")
        document, tree = make_release(root / "source", str(OLD))
        assemble(self.store, document, tree, lambda place: copy(root / "source", place))
        self.store.switch_current(OLD)
        self.engine: Any = create_autospec(DatabaseEngine, instance=True)
        self.engine.engine_name = "postgresql"
        self.engine.names = ("cases",)
        self.engine.read_version.return_value = "17.10"
        self.engine.find_blockers.return_value = ()
        self.engine.find_exposures.return_value = ()
        self.engine.list_leftovers.return_value = ()
        self.engine.run_queries.return_value = [[]]
        self.engine.measure_free_bytes.return_value = {}
        self.engine.describe_databases.return_value = (
            DatabaseFacts("cases", "ncen_cases", 5 * GB),
        )
        self.engine.plan_migrations.return_value = MigrationPlan(())
        self.application: Any = create_autospec(Application, instance=True)
        self.application.is_running.return_value = True
        self.application.find_missing_parts.return_value = ()
        self.application.check_health_token.return_value = None
        self.application.read_maintenance_change.return_value = ""
        self.application.check_health.return_value = HealthResult((ProbeResult("health"),))
        self.tree = tree
        self.context = PreflightContext(
            config=settings(root),
            change=ChangeRef("abcdefgh", 2, "3.3.0"),
            document=document_for("3.3.0", tree),
            engine=self.engine,
            slots=self.store,
            application=self.application,
            agent_version=Version("0.1.0"),
            now=NOW,
            newest_signed_time=NOW - timedelta(days=1),
            target=MigrationSet("3.3.0", root, {}),
            reboot_file=root / "reboot-required",
            free_bytes=lambda path: 100 * GB,
        )
        self.manifest()

    def manifest(self, **changes: object) -> None:
        base = {"upgrade_from": ">=3.2.4,<3.3", "databases": [{"name": "cases"}]}
        self.change(document=document_for("3.3.0", self.tree, **{**base, **changes}))

    def change(self, **changes: Any) -> None:
        self.context = replace(self.context, **changes)

    def report(self) -> Report:
        return Report(run_checks(list_checks(), self.context))


def copy(source: Path, place: Path) -> None:
    shutil.copytree(source, place, symlinks=True, dirs_exist_ok=True)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_healthy_site_has_only_informational_findings(world: World) -> None:
    report = world.report()
    assert report
    assert report.strict == report.advisory == ()
    assert {item.code for item in report.info} == {"NU-6302"}


def _damage(world: World) -> None:
    path = world.store.get_slot_directory(OLD) / "VERSION"
    path.chmod(0o644)


def _flip(world: World) -> None:
    path = world.store.get_slot_directory(OLD) / "VERSION"
    path.chmod(0o644)
    path.write_text("3.2.5")
    path.chmod(0o444)
    world.change(verify_slot=True)


def _part_without_program(world: World) -> None:
    part = {"name": "mail", "start": ["/no/such"], "stop": ["sh"], "status": ["sh"]}
    world.change(config=settings(world.root, parts=[part]))


def _unhealthy(world: World) -> None:
    down = ProbeResult("health", LazyText("down"))
    world.application.check_health.return_value = HealthResult((down,))


def _unanswered(world: World) -> None:
    world.application.check_health.return_value = HealthResult(
        (ProbeResult("health", LazyText("down")),), answered=False
    )


def _token_refused(world: World) -> None:
    problem = LazyText("HTTP status 401: credentials rejected (health_token_file)")
    world.application.check_health.return_value = HealthResult(
        (ProbeResult("health", problem),), credentials_refused=True
    )


def _token_away(world: World) -> None:
    world.application.check_health_token.return_value = ApplicationError(
        HEALTH_TOKEN_MISSING, path="/no/token", reason="No such file or directory"
    )


def _refuse(world: World) -> None:
    world.engine.plan_migrations.side_effect = MigrationRefusedError(
        database="cases", reason="edited"
    )


def _irreversible(world: World) -> None:
    world.engine.plan_migrations.return_value = MigrationPlan((), (("cases", "0002", "merges"),))


def _unmapped(strict: bool) -> Callable[[World], None]:
    def act(world: World) -> None:
        reference = {"name": "CITES classes", "database": "cases", "unmapped": "SELECT 1"}
        world.manifest(reference_maps=[{**reference, "strict": strict}])
        world.engine.run_queries.return_value = [[("B7", 12), ("C1", 3)]]

    return act


def _leftover(role: DatabaseRole) -> Callable[[World], None]:
    def act(world: World) -> None:
        world.engine.list_leftovers.return_value = (("zzzzzzzz", role, "cases"),)
        world.change(known_changes=frozenset({"zzzzzzzz"}))

    return act


def _blocker(world: World) -> None:
    finding = Finding("NU-4101", Severity.CRITICAL, LazyText("a slot"), LazyText("drop it"))
    world.engine.find_blockers.return_value = (finding,)


def _exposed(world: World) -> None:
    finding = Finding(
        "NU-4163", Severity.CRITICAL, LazyText("a superuser"), LazyText("another role")
    )
    world.engine.find_exposures.return_value = (finding,)


def _unwritable(world: World) -> None:
    # Something that is no directory cannot be written into, not even by root.
    (world.root / "file").write_text("")
    world.change(config=settings(world.root, maintenance_file=world.root / "file" / "door"))


def _other_disk(world: World) -> None:
    slot = world.store.get_slot_directory(OLD)
    world.change(device=lambda path: 2 if path == slot else 1)


def _unreachable(world: World) -> None:
    world.engine.find_blockers.side_effect = DatabaseUnreachableError(
        database="cases", detail="refused"
    )


def _needs(world: World, name: str, version: str) -> None:
    world.change(config=settings(world.root, user="nobody" if os.geteuid() == 0 else None))
    world.manifest(needs={"programs": [{"name": name, "version": version}]})


STRICT, ADVISORY, INFO = Severity.CRITICAL, Severity.WARNING, Severity.INFO
ROWS: dict[str, tuple[Callable[[World], object], str, Severity, str]] = {
    "no space": (
        lambda w: w.change(free_bytes=lambda path: 1000),
        "NU-6301", STRICT, "1.0 kB free",
    ),
    "agent too old": (
        lambda w: w.manifest(agent=">=0.2"), "NU-6303", STRICT, "requires ncen-updater >=0.2",
    ),
    "database too old": (
        lambda w: w.manifest(needs={"postgresql": ">=18"}), "NU-6304", STRICT, "17.10",
    ),
    "database of no version": (
        lambda w: setattr(w.engine.read_version, "return_value", "??"), "NU-6304", STRICT, "??",
    ),
    "no such interpreter": (
        lambda w: _needs(w, "no-such-node", ">=22"),
        "NU-6327", STRICT, "requires no-such-node >=22; installed: none",
    ),
    "interpreter too old": (
        lambda w: _needs(w, "bash", ">=99"),
        "NU-6327", STRICT, "requires bash >=99; installed: 5.",
    ),
    "no such path": (
        lambda w: w.manifest(upgrade_from=">=3.2.5,<3.3"), "NU-6305", STRICT, "3.2.4 is installed",
    ),
    "nothing in use": (lambda w: w.store.current_link.unlink(), "NU-6306", STRICT, "impossible"),
    "current slot writable": (_damage, "NU-6307", STRICT, "VERSION: mode"),
    "current slot changed": (_flip, "NU-6307", STRICT, "VERSION: content"),
    "no such program": (
        lambda w: w.change(config=settings(w.root, start=["/no/such"])),
        "NU-6308", STRICT, "/no/such",
    ),
    "not executable": (
        lambda w: w.change(config=settings(w.root, stop=["/etc/passwd"])),
        "NU-6308", STRICT, "'stop'",
    ),
    "does not run": (
        lambda w: setattr(w.application.is_running, "return_value", False),
        "NU-6309", ADVISORY, "not running",
    ),
    "a part that does not run": (
        lambda w: setattr(w.application.find_missing_parts, "return_value", ("worker",)),
        "NU-6332", ADVISORY, "'worker'",
    ),
    "a program of a part that is not there": (
        _part_without_program, "NU-6308", STRICT, "'parts.mail.start'",
    ),
    "not well": (_unhealthy, "NU-6310", ADVISORY, "down"),
    "no answer": (_unanswered, "NU-6128", STRICT, "not responding: http"),
    "a token that cannot be read": (_token_away, "NU-5090", STRICT, "/no/token"),
    "a token that is refused": (_token_refused, "NU-5094", STRICT, "status 401"),
    "no such program for the version": (
        lambda w: w.change(config=settings(w.root, version_command=["/no/such", "version"])),
        "NU-6308", STRICT, "'version_command'",
    ),
    "clock an hour behind": (
        lambda w: w.change(newest_signed_time=NOW + timedelta(hours=1)),
        "NU-6311", ADVISORY, "behind",
    ),
    "clock years behind": (
        lambda w: w.change(newest_signed_time=NOW + timedelta(days=900)),
        "NU-6311", STRICT, "UTC",
    ),
    "clock far ahead": (
        lambda w: w.change(newest_signed_time=NOW - timedelta(days=900)),
        "NU-6312", ADVISORY, "UTC",
    ),
    "not writable": (_unwritable, "NU-6313", STRICT, "Cannot write"),
    "different file systems": (_other_disk, "NU-6314", STRICT, "different file systems"),
    "restart": (lambda w: w.context.reboot_file.touch(), "NU-6315", ADVISORY, "restart"),
    "open change": (
        lambda w: w.change(open_change="zzzzzzzz"), "NU-6316", STRICT, "not finished",
    ),
    "old candidates": (_leftover(DatabaseRole.CANDIDATE), "NU-6317", ADVISORY, "cases"),
    "old partial slot": (
        lambda w: (w.root / "slots" / "3.1.0.partial").mkdir(), "NU-6317", ADVISORY, "3.1.0",
    ),
    "previous databases": (_leftover(DatabaseRole.PREVIOUS), "NU-6318", INFO, "retained"),
    "other databases": (
        lambda w: w.manifest(databases=[{"name": "x"}]), "NU-6319", STRICT, "(x)",
    ),
    "edited migration": (_refuse, "NU-6320", STRICT, "edited"),
    "irreversible": (_irreversible, "NU-6321", ADVISORY, "merges"),
    "not fetched": (lambda w: w.change(target=None), "NU-6322", INFO, "after the download"),
    "unmapped": (_unmapped(strict=False), "NU-6323", ADVISORY, "15 ("),
    "unmapped, strict": (_unmapped(strict=True), "NU-6323", STRICT, "B7: 12"),
    "roles that reach too far": (_exposed, "NU-4163", STRICT, "a superuser"),
    "engine's own": (_blocker, "NU-4101", STRICT, "a slot"),
    "unreachable": (_unreachable, "NU-4002", STRICT, "Cannot connect"),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_each_problem_is_found_with_code_and_remedy(world: World, name: str) -> None:
    act, code, severity, words = ROWS[name]
    act(world)
    report = world.report()
    found = [item for item in report.findings if item.code == code]
    assert found
    assert found[0].severity is severity
    assert words in str(found[0].title)
    assert str(found[0].remedy) or severity is INFO
    assert bool(report) is (not report.strict)
    assert (severity is STRICT) <= (not report)


@pytest.mark.parametrize("name", ["old candidates", "old partial slot"])
def test_databases_of_an_open_change_are_not_leftovers(world: World, name: str) -> None:
    ROWS[name][0](world)
    world.change(open_change="zzzzzzzz")
    assert "NU-6317" not in {item.code for item in world.report().findings}


def test_missing_release_is_named_in_french(world: World) -> None:
    """Seen: "... ; nothing est installé"."""
    world.store.current_link.unlink()
    (found,) = (item for item in world.report().findings if item.code == "NU-6305")
    assert "nothing" not in found.title.render("fr")


def test_uncounted_reference_rows_are_refused(world: World) -> None:
    """Seen: a query without a number ended the preflight as an unexpected error."""
    _unmapped(strict=False)(world)
    world.engine.run_queries.return_value = [[("B7", None)]]
    assert CHECK_RESULT_INVALID.code in {item.code for item in world.report().strict}


def test_rehearsal_copies_are_not_leftovers(world: World) -> None:
    _leftover(DatabaseRole.CANDIDATE)(world)
    world.change(known_changes=frozenset())
    assert "NU-6317" not in {item.code for item in world.report().findings}


def test_unexpected_exception_is_not_swallowed(world: World) -> None:
    world.engine.find_blockers.side_effect = ZeroDivisionError
    with pytest.raises(ZeroDivisionError):
        world.report()


def test_leftovers_of_this_change_are_ignored(world: World) -> None:
    world.engine.list_leftovers.return_value = (
        (world.context.change.id, DatabaseRole.CANDIDATE, "cases"),
    )
    (world.root / "slots" / "3.3.0.partial").mkdir()
    world.change(open_change=world.context.change.id)
    assert not world.report().advisory
    assert world.report()


@pytest.mark.parametrize(
    ("disks", "free", "blocked"),
    [
        # State and slots on two disks of their own: each needs its part and the margin of 256 MiB.
        ({"state": 1, "slots": 2}, {1: 300, 2: 2500}, []),
        ({"state": 1, "slots": 2}, {1: 300, 2: 2100}, [2]),
        ({"state": 1, "slots": 2}, {1: 200, 2: 2500}, [1]),
        # On one disk the parts add up.
        ({"state": 1, "slots": 1}, {1: 2200}, [1]),
        ({"state": 1, "slots": 1}, {1: 2500}, []),
    ],
)
def test_space_is_counted_per_file_system(
    world: World, disks: dict[str, int], free: dict[int, int], blocked: list[int]
) -> None:
    (world.root / "state").mkdir()
    world.manifest(needs={"disk_bytes": 2 * GB})
    places = {world.root / name: number for name, number in disks.items()}

    def device(path: Path) -> int:
        return next((n for p, n in places.items() if path.is_relative_to(p)), disks["slots"])

    # The archive of the tests has no bytes; the download is the document's.
    document = world.context.document
    archive = document.archive.model_copy(update={"length": 20_000_000})
    world.change(
        document=document.model_copy(update={"archive": archive}),
        device=device,
        free_bytes=lambda path: free[device(path)] * 1_000_000,
    )
    short = [item for item in world.report().strict if item.code == "NU-6301"]
    assert [device(Path(str(item.figures["path"]))) for item in short] == blocked


@pytest.mark.parametrize("full", ["state", "slots", "photos", "databases"])
def test_upgrade_needs_space_on_each_disk_that_it_writes_to(world: World, full: str) -> None:
    """Seen: an upgrade began with 5 MB free, and its soak period waited for 16 MiB."""
    disks = [world.root / name for name in ("state", "slots", "photos", "databases")]

    def device(path: Path) -> int:
        return next((n for n, disk in enumerate(disks) if path.is_relative_to(disk)), -1)

    def free(path: Path) -> int:
        return 5_000_000 if path.is_relative_to(world.root / full) else 100 * GB

    for disk in disks:
        disk.mkdir(exist_ok=True)
    source = world.root / "source"
    assemble(world.store, world.context.document, world.tree, lambda place: copy(source, place))
    world.engine.measure_free_bytes.return_value = {disks[3] / "base": free(disks[3])}
    world.change(
        config=snapshot_settings(world.root),
        device=device,
        free_bytes=free,
        slot_built=True,
    )
    (short,) = (item for item in world.report().strict if item.code == "NU-6301")
    assert Path(str(short.figures["path"])).is_relative_to(world.root / full)
    assert short.figures["needed_bytes"] == MARGIN_BYTES
    checks = list_checks(upgrade=False)
    assert not [f for f in run_checks(checks, world.context) if f.code == "NU-6301"]


def test_engine_learns_of_other_space_on_its_disk(world: World) -> None:
    for name in ("state", "data", "elsewhere"):
        (world.root / name).mkdir()
    world.manifest(needs={"disk_bytes": 2 * GB})
    world.change(device=lambda path: 2 if path.is_relative_to(world.root / "elsewhere") else 1)
    world.report()
    told = world.engine.find_blockers.call_args.kwargs["other_bytes"]
    assert told(world.root / "elsewhere" / "main") == 0
    assert told(world.root / "data") == told(world.root / "slots") > 2 * GB


def test_existing_files_are_not_counted_again(world: World) -> None:
    document = world.context.document
    archive = document.archive.model_copy(update={"length": 200 * GB})
    world.change(document=document.model_copy(update={"archive": archive}))
    assert not world.report()
    world.change(slot_built=True)
    assert world.report()


def test_two_checks_cannot_have_one_position(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len({check.__name__ for check in list_checks()}) == len(list_checks())
    assert set(list_checks(upgrade=False)) < set(list_checks())
    # Nothing is the safer for keeping a site from rolling back.
    assert check_role_privileges not in list_checks(upgrade=False)
    monkeypatch.setattr(
        space, "check_again", register_check(70)(lambda _context: ()), raising=False
    )
    with pytest.raises(ValueError, match="position 70"):
        list_checks()


def test_every_code_is_used_once_and_tested() -> None:
    folder = Path(sys.modules["ncen_updater.agent.engine.preflight.base"].__file__ or "").parent
    source = "".join(path.read_text() for path in sorted(folder.glob("*.py")))
    tested = {row[1] for row in ROWS.values()} | {"NU-6302"}
    for number in range(6301, 6324):
        assert str(number) in source
        assert f"NU-{number}" in tested


# ---- files -------------------------------------------------------------------------------------


def snapshot_settings(root: Path, keep: str = "auto") -> AgentConfig:
    files = [{"name": "photographs", "directory": root / "photos", "snapshot_method": keep}]
    return AgentConfig.model_validate({**settings(root).model_dump(by_alias=True), "files": files})


def test_site_files_that_cannot_be_preserved_are_reported(tmp_path: Path) -> None:
    config = snapshot_settings(tmp_path)
    (missing,) = inspect_site_files(config, {})
    assert (missing.code, missing.severity) == ("NU-6328", Severity.CRITICAL)
    (tmp_path / "real").mkdir()
    (tmp_path / "photos").symlink_to("real")
    (link,) = inspect_site_files(config, {})
    assert link.code == "NU-6328"
    (tmp_path / "photos").unlink()
    (tmp_path / "photos").write_bytes(b"")
    (file,) = inspect_site_files(config, {})
    assert file.code == "NU-6328"
    (tmp_path / "photos").unlink()
    (tmp_path / "photos").mkdir()
    assert all(finding.severity is Severity.INFO for finding in inspect_site_files(config, {}))
    assert list(inspect_site_files(settings(tmp_path), {})) == []


def test_snapshot_on_another_file_system_is_reported() -> None:
    shared = Path("/dev/shm")
    if not shared.is_dir() or shared.stat().st_dev == shared.parent.stat().st_dev:
        pytest.skip("needs a file system that is mounted somewhere")
    files = [{"name": "photographs", "directory": shared}]
    with tempfile.TemporaryDirectory(dir=other_than(shared)) as site:  # not below it
        plain = settings(Path(site)).model_dump(by_alias=True)
        (found,) = inspect_site_files(AgentConfig.model_validate({**plain, "files": files}), {})
    assert found.code == "NU-6328"
    assert "mounted" in str(found.title)


@pytest.mark.parametrize(
    ("method", "effect", "size", "free", "inodes", "codes"),
    [
        ("link", None, 10**9, 10**6, 100, ["NU-6330"]),
        ("link", "moves", 10**9, 10**6, 100, ["NU-6330"]),
        ("link", "rewrites", 10**9, 10**6, 100, ["NU-6331"]),
        ("link", None, 10**9, 10**6, 2, ["NU-6329", "NU-6330"]),
        ("clone", "rewrites", 10**9, 10**6, 100, []),
        ("clone", None, 10**9, 10**6, None, []),
        ("clone", None, 10**9, 10**6, 20, ["NU-6329"]),
        ("copy", "rewrites", 10**9, 10**10, 100, []),
        ("copy", None, 10**9, 10**6, 100, ["NU-6329"]),
    ],
)
def test_space_for_site_files_is_checked(
    tmp_path: Path, method: str, effect: str | None, size: int, free: int, inodes: int | None,
    codes: list[str],
) -> None:  # fmt: skip
    item = snapshot_settings(tmp_path).files[0]
    said = None
    if effect:
        said = SiteFilesManifest(
            name="photographs", effect=SiteFileEffect(effect), description="writes into each"
        )
    found = judge_directory(
        item, tmp_path, SnapshotMethod(method), DirectorySurvey(20, 3, size, free, inodes), said
    )
    assert [finding.code for finding in found] == codes


@pytest.mark.parametrize("where", ["state", "state/photos", ".", "slots/3.2.4", "current"])
def test_site_files_cannot_contain_agent_directories(tmp_path: Path, where: str) -> None:
    files = [{"name": "photographs", "directory": tmp_path / where}]
    with pytest.raises(ValueError, match="are nested"):
        AgentConfig.model_validate({**settings(tmp_path).model_dump(by_alias=True), "files": files})


def test_refusal_is_in_the_language_of_the_reader() -> None:
    """Seen: "Que faire : Free at least 1099.9 TB there."."""
    values = {"path": "/srv", "free_bytes": 1, "needed_bytes": 2, "missing_bytes": 1}
    blocker = Finding(
        "NU-6301",
        Severity.CRITICAL,
        LazyText(
            "Not enough disk space in {path}: {free_bytes} free, {needed_bytes} required", values
        ),
        LazyText("Free at least {missing_bytes} in {path}.", values),
    )
    with refused(PREFLIGHT_BLOCKED) as caught:
        require_no_blockers([blocker, blocker])
    assert str(caught.value.remedy_text).count("/srv") == 1
    assert "NU-6301 Espace disque" in caught.value.title_text.render("fr")
    assert caught.value.remedy_text.render("fr").startswith("Libérez ")
