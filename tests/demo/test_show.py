"""The guided demonstration, played shortly, as a process of its own."""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from demo.embedded_postgres import PostgresBinaries
from demo.session import BLOCK, README, extract_session, normalize
from demo.show.commands import Commands, ended
from demo.show.narrator import Narrator
from demo.show.proof import lost_rows
from demo.show.report import HEADINGS, WIDTHS, Row, broken_rows, report_lines
from demo.show.server import by_preference
from demo.site import DemoSite
from ncen_updater.common.i18n import LazyText
from tests.support.forks import DEADLINE_S
from tests.support.postgres import available, running
from tests.support.rotation import either_engine

DEMO = (sys.executable, "-m", "demo", "--lang", "en")


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


@pytest.fixture
def place() -> Iterator[Path]:
    """A world-readable directory: for root the server runs as the user nobody."""
    with tempfile.TemporaryDirectory(prefix="nu-show-") as directory:
        path = Path(directory)
        path.chmod(0o755)
        yield path


@either_engine("engine")
@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_short_run_keeps_every_promise_and_leaves_nothing(place: Path, engine: str) -> None:
    chosen = ["--sqlite"] if engine == "sqlite" else []
    run = subprocess.run(
        [*DEMO, "--quick", "--cases", "60", *chosen],
        env={**os.environ, "TMPDIR": str(place)},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "FAILED" not in run.stdout
    if engine == "postgresql":
        shown = BLOCK.search(README.read_text("utf-8"))
        assert shown is not None
        recorded = shown[0].removeprefix(shown[1]).removesuffix(shown[2])
        assert normalize(extract_session(run.stdout)) == normalize(recorded), "see demo/session.py"
    words = " ".join(run.stdout.split())
    assert "one signature of three" in words
    assert "All checks passed: 12 of 12" in words
    assert "NU-9323" not in words, "a report of a release that is not there"
    assert re.search(r"SIGKILL to process \d+ of the agent during: ", words)
    assert "\x1b" not in run.stdout
    assert run.stderr == ""
    assert list(place.iterdir()) == []
    assert processes_with(str(place)) == []


def test_interrupted_run_ends_its_processes(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    process = subprocess.Popen(
        [*DEMO, "--quick", "--sqlite", "--cases", "20", "--keep", str(kept)],
        stdout=subprocess.PIPE,
        text=True,
    )
    with ended(process):
        assert process.stdout is not None
        for line in process.stdout:
            if "ncen-updater adopt" in line:
                break
        assert processes_with(str(kept))
        process.send_signal(signal.SIGTERM)
        rest = process.stdout.read()
        process.wait(DEADLINE_S)
    assert process.returncode == 130, rest
    assert "Interrupted" in rest
    deadline = time.monotonic() + DEADLINE_S
    while processes_with(str(kept)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes_with(str(kept)) == []


class _Struck(BaseException):
    pass


@pytest.fixture
def newly_started(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[subprocess.Popen[bytes]]]:
    """A signal arrives when a process has just started, before its pid is stored."""
    found: list[subprocess.Popen[bytes]] = []

    def strike(_number: int, _frame: FrameType | None) -> None:
        raise _Struck

    class Popen(subprocess.Popen[bytes]):
        def __init__(self, argv: Sequence[str], **options: Any) -> None:
            super().__init__(argv, **options)
            if Path(argv[0]).name not in ("cp", "initdb", "pg_ctl"):
                found.append(self)
                signal.raise_signal(signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, strike)
    monkeypatch.setattr(subprocess, "Popen", Popen)
    yield found
    signal.signal(signal.SIGTERM, before)
    for process in found:
        process.kill()
        process.wait()


def test_newly_started_command_is_terminated(
    newly_started: list[subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    commands = Commands(Narrator(io.StringIO(), "en"), tmp_path, tmp_path / "agent.toml")
    with pytest.raises(_Struck), commands.started("ncen-updater", "--version"):
        pytest.fail("nobody was told of the signal")
    assert [process.returncode is None for process in newly_started] == [False]


def test_newly_started_front_end_is_terminated(
    newly_started: list[subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    site = DemoSite(tmp_path)
    with contextlib.closing(site), pytest.raises(_Struck):
        site.start_front_door()
    assert [process.returncode is None for process in newly_started] == [False]


@pytest.mark.parametrize("binaries", available()[-1:], ids=lambda b: f"pg{b.major}")
def test_newly_started_server_is_terminated(
    newly_started: list[subprocess.Popen[bytes]], binaries: PostgresBinaries, place: Path
) -> None:
    with pytest.raises(_Struck), running(binaries, place):
        pytest.fail("nobody was told of the signal")
    assert [process.returncode is None for process in newly_started] == [False]


def test_lost_and_altered_rows_are_counted() -> None:
    before = {"a.t": Counter(["x", "x", "y"]), "b.t": Counter(["z"])}
    after = {"a.t": Counter(["x", "y", "new"]), "b.t": Counter(["z", "z"])}
    assert lost_rows(before, after) == {"a.t": 1}


def test_report_names_broken_promises() -> None:
    kept = Row(LazyText("one"), LazyText("good"), LazyText("good"), 1.25, 1000)
    broken = Row(LazyText("two"), LazyText("good"), LazyText("bad"), broken=(LazyText("gone"),))
    lines = report_lines((kept, broken), "en")
    assert broken_rows((kept, broken)) == (broken,)
    assert [line.split() for line in lines[2:]] == [
        ["one", "good", "good", "1.2", "s", "1,000", "passed"],
        ["two", "good", "bad", "-", "-", "FAILED"],
    ]
    assert max(map(len, lines)) <= 100


def test_report_does_not_wrap_before_french_punctuation() -> None:
    cell = LazyText("code de sortie 0 : ok")
    lines = report_lines((Row(cell, cell, cell),), "fr")
    assert not [line for line in lines if " : ok" in line or line.lstrip().startswith(":")]
    assert any("0\N{NO-BREAK SPACE}: ok" in line for line in lines)


def test_packaged_servers_are_preferred() -> None:
    machine = PostgresBinaries(Path("/usr/lib/postgresql/18/bin"), 18)
    old = PostgresBinaries(Path("/home/x/.venv/a/bin"), 17)
    new = PostgresBinaries(Path("/home/x/.venv/b/bin"), 18)
    assert by_preference((machine, old, new)) == (new, old, machine)


@pytest.mark.parametrize("language", ["en", "fr"])
def test_headings_of_the_table_are_not_broken(language: str) -> None:
    for heading, width in zip(HEADINGS, WIDTHS, strict=True):
        assert len(LazyText(heading).render(language)) <= width, heading
