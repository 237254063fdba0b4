"""Programs of the server's own version are found; those of another one are refused in time."""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from ncen_updater.agent.databases.postgresql import programs
from ncen_updater.agent.databases.postgresql.connection import Server
from ncen_updater.agent.databases.postgresql.programs import (
    find_program,
    program_for,
    program_version,
    run_to_end,
)
from ncen_updater.agent.engine.interruption import Interruption
from ncen_updater.common.messages import INTERRUPTED, PROGRAMS_DIFFER
from ncen_updater.common.progress import Silent
from tests.agent.databases.postgresql.site import CHANGE, IN_PLACE, LIMITS, NEWEST, Site
from tests.support.errors import refused
from tests.support.forks import DEADLINE_S


def test_what_is_set_comes_first_then_the_version_then_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs, "PLACES", (f"{tmp_path}/{{major}}/bin",))
    (tmp_path / "15" / "bin").mkdir(parents=True)
    own = tmp_path / "15" / "bin" / "pg_dump"
    own.touch()
    assert find_program("pg_dump", 15, None) == own
    assert find_program("pg_dump", 15, Path("/set")) == Path("/set/pg_dump")
    assert find_program("pg_dump", 16, None) == Path("pg_dump")
    assert find_program("pg_restore", 15, None) == Path("pg_restore")


def test_the_version_of_what_cannot_be_run_is_unknown(tmp_path: Path) -> None:
    other = tmp_path / "pg_dump"
    assert program_version(other) is None
    other.write_text("#!/bin/sh\necho hello\n")
    other.chmod(0o755)
    assert program_version(other) is None


def test_the_version_of_a_real_one(site: Site) -> None:
    server = Server(site.engine()._settings, LIMITS)
    found = program_for(server, "pg_dump")
    assert program_version(Path(found)) == site.server.binaries.major


@NEWEST
def test_another_version_is_refused_before_anything_is_made(site: Site, tmp_path: Path) -> None:
    # A stand-in: what counts is the version that it says.
    for name in programs.DUMP_AND_RESTORE:
        (tmp_path / name).write_text(f"#!/bin/sh\necho '{name} (PostgreSQL) 9.6.24'\n")
        (tmp_path / name).chmod(0o755)
    engine = site.engine(bin_directory=tmp_path, way_back="dump", dump_directory=tmp_path / "dumps")
    blockers = [found.code for found in engine.blockers(IN_PLACE, final=False)]
    assert blockers == ["NU-4140", "NU-4140"]
    plan = engine.plan_copy(replace(CHANGE, id="rehearse"))
    with refused(PROGRAMS_DIFFER, match=r"; it is of PostgreSQL 9\.$"):
        engine.copy_online(replace(CHANGE, id="rehearse"), plan, Silent())
    assert site.databases() == set(site.names.values())


def test_a_signal_ends_a_program_and_its_workers(tmp_path: Path) -> None:
    numbers, interruption = tmp_path / "numbers", Interruption()
    script = f"trap '' TERM; sleep 3600 & echo $$ $! > {numbers}.new;"
    script += f" mv {numbers}.new {numbers}; wait; sleep 3600"

    def ask() -> None:
        until = time.monotonic() + DEADLINE_S
        while not numbers.exists() and time.monotonic() < until:
            threading.Event().wait(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    asking = threading.Thread(target=ask)
    with interruption.handled(), refused(INTERRUPTED), interruption.allowed():
        asking.start()
        run_to_end(["/bin/sh", "-c", script], dict(os.environ), 60)
    asking.join()
    leader, worker = (int(number) for number in numbers.read_text().split())
    with pytest.raises(ProcessLookupError):
        os.kill(leader, 0)
    until = time.monotonic() + DEADLINE_S
    while _alive(worker):  # it was killed; to be gone takes a moment
        assert time.monotonic() < until, "the worker lives on"
        asking.join(0.01)


def _alive(number: int) -> bool:
    try:
        state = Path(f"/proc/{number}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"  # killed, and not yet reaped by whoever inherited it


def test_what_a_program_says_is_kept() -> None:
    assert run_to_end(["/bin/sh", "-c", "echo no >&2; exit 3"], dict(os.environ), 60) == (
        3,
        b"no\n",
    )
