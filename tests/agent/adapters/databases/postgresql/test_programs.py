"""Tests that programs of the server's own version are found, and others refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ncen_updater.agent.adapters.databases.postgresql import rehearsal_copies as rehearsing
from ncen_updater.agent.adapters.databases.postgresql.connection import Server
from ncen_updater.agent.adapters.databases.postgresql.rehearsal_copies import (
    find_matching_program,
    find_program,
    read_program_version,
)
from ncen_updater.common.messages import PROGRAMS_DIFFER
from ncen_updater.common.progress import SilentProgress
from tests.agent.adapters.databases.postgresql.site import CHANGE, LIMITS, NEWEST, Site
from tests.support.errors import refused


def test_program_lookup_prefers_setting_then_version_then_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rehearsing, "PROGRAM_DIRECTORIES", (f"{tmp_path}/{{major}}/bin",))
    (tmp_path / "15" / "bin").mkdir(parents=True)
    own = tmp_path / "15" / "bin" / "pg_dump"
    own.touch()
    assert find_program("pg_dump", 15, None) == own
    assert find_program("pg_dump", 15, Path("/set")) == Path("/set/pg_dump")
    assert find_program("pg_dump", 16, None) == Path("pg_dump")
    assert find_program("pg_restore", 15, None) == Path("pg_restore")


def test_version_of_an_unusable_program_is_unknown(tmp_path: Path) -> None:
    other = tmp_path / "pg_dump"
    assert read_program_version(other) is None
    other.write_text("#!/bin/sh\necho hello\n")
    other.chmod(0o755)
    assert read_program_version(other) is None


def test_program_version_is_read(site: Site) -> None:
    server = Server(site.engine()._settings, LIMITS)
    found = find_matching_program(server, "pg_dump")
    assert read_program_version(Path(found)) == site.server.binaries.major


@NEWEST
def test_mismatched_program_version_is_refused_before_copying(site: Site, tmp_path: Path) -> None:
    # A stand-in: what counts is the version that it says.
    for name in rehearsing.DUMP_PROGRAMS:
        (tmp_path / name).write_text(f"#!/bin/sh\necho '{name} (PostgreSQL) 9.6.24'\n")
        (tmp_path / name).chmod(0o755)
    engine = site.engine(bin_directory=tmp_path)
    plan = engine.plan_copy(replace(CHANGE, id="rehearse"))
    with refused(PROGRAMS_DIFFER, match=r"; it belongs to PostgreSQL 9$"):
        engine.copy_online(replace(CHANGE, id="rehearse"), plan, SilentProgress())
    assert site.databases() == set(site.names.values())
