"""The guided demonstration, played shortly, as a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from ncen_updater.demo.embedded_postgres import PostgresBinaries
from ncen_updater.demo.show.proof import lost_rows
from ncen_updater.demo.show.report import Row, broken_rows, report_lines
from ncen_updater.demo.show.server import by_preference
from ncen_updater.i18n import Text

DEMO = (sys.executable, "-m", "ncen_updater.demo", "--lang", "en")


def processes_with(text: str) -> list[str]:
    """Command lines of processes that name a text."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it ended meanwhile
            continue
        if text in line:
            found.append(line)
    return found


@pytest.mark.parametrize("engine", ["postgresql", "sqlite"])
def test_a_short_run_keeps_every_promise_and_leaves_nothing(engine: str, tmp_path: Path) -> None:
    more = ("--sqlite",) if engine == "sqlite" else ()
    ended = subprocess.run(
        [*DEMO, "--quick", "--cases", "60", *more],
        env={**os.environ, "TMPDIR": str(_temporary(tmp_path))},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "BROKEN" not in ended.stdout
    assert "one of three" in ended.stdout
    assert "SIGKILL to the agent's process" in ended.stdout
    assert "\x1b" not in ended.stdout
    assert ended.stderr == ""
    assert list(_temporary(tmp_path).iterdir()) == []
    assert processes_with(str(tmp_path)) == []


def test_an_interrupted_run_ends_its_processes(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    process = subprocess.Popen(
        [*DEMO, "--quick", "--sqlite", "--cases", "20", "--keep", str(kept)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "ncen-updater adopt" in line:
            break
    assert processes_with(str(kept))
    process.send_signal(signal.SIGTERM)
    rest, _ = process.communicate(timeout=60)
    assert process.returncode == 130, rest
    assert "Interrupted" in rest
    deadline = time.monotonic() + 10
    while processes_with(str(kept)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes_with(str(kept)) == []


def _temporary(tmp_path: Path) -> Path:
    place = tmp_path / "temporary"
    place.mkdir(exist_ok=True)
    return place


def test_lost_and_altered_rows_are_counted() -> None:
    before = {"a.t": Counter(["x", "x", "y"]), "b.t": Counter(["z"])}
    after = {"a.t": Counter(["x", "y", "new"]), "b.t": Counter(["z", "z"])}
    assert lost_rows(before, after) == {"a.t": 1}


def test_the_table_says_what_is_broken() -> None:
    kept = Row(Text("one"), Text("good"), Text("good"), 1.25, 1000)
    broken = Row(Text("two"), Text("good"), Text("bad"), broken=(Text("gone"),))
    lines = report_lines((kept, broken), "en")
    assert broken_rows((kept, broken)) == (broken,)
    assert [line.split() for line in lines[2:]] == [
        ["one", "good", "good", "1.2", "s", "1,000", "kept"],
        ["two", "good", "bad", "-", "-", "BROKEN"],
    ]
    assert max(map(len, lines)) <= 100


def test_servers_of_a_package_come_first() -> None:
    machine = PostgresBinaries(Path("/usr/lib/postgresql/18/bin"), 18)
    old = PostgresBinaries(Path("/home/x/.venv/a/bin"), 17)
    new = PostgresBinaries(Path("/home/x/.venv/b/bin"), 18)
    assert by_preference((machine, old, new)) == (new, old, machine)
