"""Tests of each example of the guide: build, upgrade, kill, rollback."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from demo.embedded_postgres import EmbeddedPostgres
from ncen_updater.common.findings import Severity
from ncen_updater.common.messages import ExitCode
from ncen_updater.formats.manifest import load_manifest
from ncen_updater.publisher.cli.main import run
from ncen_updater.publisher.lint.release_lint import lint_release
from tests.examples.building import (
    ALEMBIC,
    CONTAINER,
    DJANGO,
    EXAMPLES,
    OLD,
    SOURCES,
    TOMCAT,
    Example,
    compiled,
    interpreter,
    packages,
    release,
    require,
)
from tests.examples.desk import Desk
from tests.support.forks import DEADLINE_S
from tests.support.migrators import not_as_root
from tests.support.podman import OVERRIDE, podman_settings
from tests.support.rotation import in_turns

#: The page that has the lines of an example, and in how many blocks.
GUIDES = {
    DJANGO: (SOURCES.parent / "tutorials/your-application.md", 4),
    CONTAINER: (SOURCES / "container/README.md", 1),
}
#: The release's own migrator: where it is in a container, only what runs within that.
MIGRATOR = re.compile(r"bin/ncen-migrate|^/bin/sh /app/migrate")
ENTERED = ["first", "second", "third"]


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """First in ``PATH``: the Python that the releases' wheels are for."""
    place = tmp_path / "tools"
    place.mkdir()
    (place / "python3").symlink_to(interpreter())
    monkeypatch.setenv("PATH", f"{place}{os.pathsep}{os.environ['PATH']}")
    return place


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_generated_manifest_passes_lint(example: Example, tmp_path: Path) -> None:
    """Also the build number of which the application knows nothing."""
    for version in (OLD, example.release):
        place = release(example, version, tmp_path)
        assert [f.code for f in lint_release(place) if f.severity is Severity.CRITICAL] == []
        assert load_manifest(place / "manifest.toml").reported == version.partition("+")[0]


def test_builds_are_reproducible(tmp_path: Path) -> None:
    """With another seed of hashes, elsewhere; of the packages two will do."""
    made, other = release(ALEMBIC, OLD, tmp_path), tmp_path / "elsewhere/of/another"
    others = shutil.ignore_patterns("__pycache__", "site")
    shutil.copytree(made / "app", other / "app", ignore=others)
    for name in ("alembic", "mako"):
        shutil.copytree(made / "app/site" / name, other / "app/site" / name, ignore=others)
    compiled(other, "app", seed="7")
    found = {path.relative_to(other): path.read_bytes() for path in other.rglob("*.pyc")}
    assert len(found) > 50
    differing = [path for path, content in found.items() if (made / path).read_bytes() != content]
    assert differing == []


@dataclass(frozen=True)
class Ground:
    """Where one example is tried."""

    server: EmbeddedPostgres
    tools: Path
    directory: Path
    capsys: pytest.CaptureFixture[str]

    @contextmanager
    def at_work(self, example: Example) -> Iterator[tuple[Desk, Path, Path]]:
        """A site of the older release, with records that were entered; and both releases."""
        old = release(example, OLD, self.directory)
        new = release(example, example.release, self.directory)
        self.capsys.readouterr()
        desk = Desk(example, self.server, self.directory / "desk", self.tools)
        try:
            desk.install(old)
            desk.enter(*ENTERED)
            yield desk, old, new
        finally:
            desk.drop()


def by_the_guide(example: Example, ground: Ground) -> None:
    """Its lines, run by a shell; only ports, and where pip and the agent find things, are ours."""
    tmp_path, tools, server = ground.directory, ground.tools, ground.server
    desk = Desk(example, server, tmp_path / "test-site", tools)
    require(example)
    if (example.sources / "requirements.txt").exists():
        packages(example, tmp_path / "packages")
        (tmp_path / "packages/bin").mkdir()
        shim = tools / "pip"
        shim.write_text(f'#!/bin/sh\nfor place; do :; done\ncp -r {tmp_path}/packages "$place"\n')
        shim.chmod(0o755)
    (tools / "ncen-publisher").symlink_to(Path(sys.executable).parent / "ncen-publisher")
    (tmp_path / "docs").symlink_to(SOURCES.parent)
    guide, count = GUIDES[example]
    blocks = re.findall(r"^```sh\n(.*?)^```$", guide.read_text("utf-8"), re.S | re.M)
    assert len(blocks) == count
    lines = "".join(blocks)
    ours = f"sed -i '/^.databases.postgresql/a bin_directory = \"{server.binaries.directory}\"'"
    ours += " test-site/agent.toml && "
    environment = {**desk.environment, "HOME": str(tmp_path)}
    if example is CONTAINER:
        environment[OVERRIDE] = str(tmp_path / "containers.conf")
        Path(environment[OVERRIDE]).write_text(podman_settings(), "utf-8")
        said = f'{OVERRIDE} = "{environment[OVERRIDE]}"'
        ours += f"sed -i '/environment.$/a {said}' test-site/agent.toml && "
    for said, here in {
        "8080": str(desk.port), "8930": str(desk.feed_port), "5432": str(server.port),
        "chmod 600": f"{ours}chmod 600",
    }.items():  # fmt: skip
        assert said in lines
        lines = lines.replace(said, here)
    try:
        desk.databases()
        ended = subprocess.run(["sh", "-eu", "-c", f"{lines.rstrip()} --yes"], cwd=tmp_path,
                               env=environment, capture_output=True, text=True,
                               timeout=DEADLINE_S, check=False)  # fmt: skip
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert "Passed: upgrade from 1.0" in ended.stdout
    finally:
        desk.drop()


def run_trial(example: Example, ground: Ground) -> None:
    """``try`` adopts the site, rehearses, upgrades, verifies, rolls back, verifies."""
    with ground.at_work(example) as (desk, old, new):
        words = ["try", str(new), "--before", str(old), "--site", str(desk.config), "--yes"]
        status = run([*words, "--json"])
        said = ground.capsys.readouterr()
        assert status == 0, said.err
        assert [stage["passed"] for stage in json.loads(said.out)["stages"]] == [True] * 8
        desk.control("start")
        assert desk.entered() == ENTERED


def at_a_site(example: Example, ground: Ground) -> None:
    """With a feed: killed in the application's own migrator, over, and back."""
    with (
        ground.at_work(example) as (desk, *releases),
        desk.followed(releases, ground.directory),
    ):
        over_killed_and_back(desk)


CELLS = [
    (DJANGO, by_the_guide), (ALEMBIC, run_trial), (TOMCAT, run_trial), (CONTAINER, by_the_guide),
    *((example, at_a_site) for example in EXAMPLES),
]  # fmt: skip


@not_as_root
@in_turns("cell")
@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: f"{cell[0].name} {cell[1].__name__}")
def test_example_is_built_upgraded_and_rolled_back(
    cell: tuple[Example, Callable[[Example, Ground], None]],
    server: EmbeddedPostgres,
    tools: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    example, way = cell
    way(example, Ground(server, tools, tmp_path, capsys))


def over_killed_and_back(desk: Desk) -> None:
    """What was entered, by the application's own interface, at each turn."""
    desk.agent("adopt", OLD)
    desk.agent("check")
    kill_in_the_migrator(desk)
    # Of one that works while users do, nothing was stopped.
    assert desk.running() == (desk.parts if desk.example.expands else [])
    desk.agent("resume")
    assert (desk.version(), desk.entered()) == (OLD, ENTERED)
    desk.enter("fourth")

    desk.agent("upgrade", desk.example.release, "--yes")
    assert desk.current.resolve().name == desk.example.release
    assert (desk.version(), desk.entered()) == ("2.0", [*ENTERED, "fourth"])
    assert desk.running() == desk.parts
    assert "Status: running" in desk.agent("status")
    desk.agent("verify")
    if desk.example is ALEMBIC:
        assert desk.has("permits_letter"), "its second program was not run, or not to its end"
    desk.enter("fifth")
    desk.settled()
    assert {row.get("issued", 1) for row in desk.rows()} == {1}, "done twice, or not at all"

    if desk.example.expands:
        desk.agent("rollback", "--yes")
        assert (desk.version(), desk.entered()) == (OLD, [*ENTERED, "fourth", "fifth"])
        desk.enter("sixth")  # on a table that has more than it knows of
        desk.agent("verify")
        return
    refused = desk.agent("rollback", "--yes", "--json", status=ExitCode.APPROVAL_MISSING)
    count = json.loads(refused)["error"]["values"]["count"]
    desk.agent("rollback", "--yes", "--accept-loss", str(count))
    assert (desk.version(), desk.entered()) == (OLD, [*ENTERED, "fourth"])
    desk.agent("verify")


def kill_in_the_migrator(desk: Desk) -> None:
    """SIGKILL the agent while the release's own migrator runs; that one has to end with it."""
    words = [sys.executable, "-m", "ncen_updater.agent.cli.main", "upgrade", desk.example.release]
    deadline = time.monotonic() + DEADLINE_S
    with subprocess.Popen(
        [*words, "--yes"], env=desk.environment, cwd=Path(__file__).parents[2],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        while not any(MIGRATOR.search(line) for line in migrators(desk)):
            assert process.poll() is None, "it ended before its migrator was seen"
            assert time.monotonic() < deadline
            time.sleep(0.005)  # between two looks
        process.send_signal(signal.SIGKILL)
    while migrators(desk):
        assert time.monotonic() < deadline, "the migrator runs on without its agent"
        time.sleep(0.005)  # between two looks


def migrators(desk: Desk) -> list[str]:
    """Command lines of programs that got the address of a database of this site."""
    product, name = desk.example.product, "" if desk.example.expands else "__next_"
    told = re.compile(
        rf"(^|\0)NCEN_DB_{product.upper()}_URL=(?=[^\0]*{desk.server.port})[^\0]*{name}"
    )
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            if told.search((place / "environ").read_text("utf-8", "replace")):
                line = (place / "cmdline").read_bytes().replace(b"\0", b" ")
                found.append(line.decode(errors="replace"))
    return found
