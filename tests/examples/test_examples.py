"""Each example of the guide, from its tree to a site that went over, was killed, and went back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from demo.embedded_postgres import EmbeddedPostgres
from ncen_updater.common.errors import ExitCode
from ncen_updater.common.findings import Severity
from ncen_updater.formats.manifest import load_manifest
from ncen_updater.publisher.cli.main import run
from ncen_updater.publisher.lint.lint import lint_release
from tests.examples.building import EXAMPLES, OLD, Example, interpreter, release
from tests.examples.desk import Desk
from tests.support.forks import DEADLINE_S
from tests.support.migrators import not_as_root
from tests.support.rotation import in_turns

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
def test_what_new_writes_passes_lint(example: Example, tmp_path: Path) -> None:
    """Also the build number of which the application knows nothing."""
    for version in (OLD, example.release):
        place = release(example, version, tmp_path)
        assert [f.code for f in lint_release(place) if f.severity is Severity.STRICT] == []
        assert load_manifest(place / "manifest.toml").reported == version.partition("+")[0]


@not_as_root
@in_turns("example", "way")
@pytest.mark.parametrize("way", ["tried", "at a site"])
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_from_a_tree_to_a_site_that_went_over_and_back(
    example: Example,
    way: str,
    server: EmbeddedPostgres,
    tools: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    old, new = (release(example, version, tmp_path) for version in (OLD, example.release))
    with at_work(example, server, tmp_path / "desk", tools, old) as desk:
        if way == "tried":
            capsys.readouterr()
            tried(desk, old, new, capsys)
        else:
            with desk.followed((old, new), tmp_path):
                over_killed_and_back(desk)


@contextmanager
def at_work(
    example: Example, server: EmbeddedPostgres, root: Path, tools: Path, old: Path
) -> Iterator[Desk]:
    """A site of the older release, with records that were entered."""
    desk = Desk(example, server, root, tools)
    try:
        desk.install(old)
        desk.enter(*ENTERED)
        yield desk
    finally:
        desk.drop()


def tried(desk: Desk, old: Path, new: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``try`` takes the site over, rehearses, upgrades, verifies, goes back, verifies."""
    words = ["try", str(new), "--before", str(old), "--site", str(desk.config), "--yes", "--json"]
    status = run(words)
    said = capsys.readouterr()
    assert status == 0, said.err
    assert [stage["passed"] for stage in json.loads(said.out)["stages"]] == [True] * 8
    desk.control("start")
    assert desk.entered() == ENTERED


def over_killed_and_back(desk: Desk) -> None:
    """What was entered, by the application's own interface, at each turn."""
    desk.agent("adopt", OLD)
    desk.agent("check")
    kill_in_the_migrator(desk)
    assert desk.running() == []
    desk.agent("resume")
    assert (desk.version(), desk.entered()) == (OLD, ENTERED)
    desk.enter("fourth")

    desk.agent("upgrade", desk.example.release, "--yes")
    assert desk.current.resolve().name == desk.example.release
    assert (desk.version(), desk.entered()) == ("2.0", [*ENTERED, "fourth"])
    assert desk.running() == desk.parts
    assert "Officers can work: the application answers as it should." in desk.agent("status")
    desk.agent("verify")
    desk.enter("fifth")
    desk.settled()
    assert {row.get("issued", 1) for row in desk.rows()} == {1}, "done twice, or not at all"

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
        while not migrators(desk):
            assert process.poll() is None, "it ended before its migrator was seen"
            assert time.monotonic() < deadline
            time.sleep(0.005)  # between two looks
        process.send_signal(signal.SIGKILL)
    while migrators(desk):
        assert time.monotonic() < deadline, "the migrator runs on without its agent"
        time.sleep(0.005)  # between two looks


def migrators(desk: Desk) -> list[str]:
    """Command lines of what migrates in a slot of this site."""
    slot = str(desk.root / f"opt/{desk.example.product}/slots/{desk.example.release}")
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            line = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if "bin/ncen-migrate" in line and str((place / "cwd").readlink()) == slot:
                found.append(line)
        except OSError:  # it ended meanwhile
            continue
    return found
