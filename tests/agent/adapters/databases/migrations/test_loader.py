"""Tests that every migration file of a release is validated before its use."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from ncen_updater.agent.adapters.databases.migrations import planner
from ncen_updater.agent.adapters.databases.migrations.planner import load_migrations
from ncen_updater.common.messages import MIGRATION_FILE_BAD
from ncen_updater.formats.manifest import Manifest, parse_manifest
from tests.support.errors import refused

FILES = {
    "db/sqlite/0001.up.sql": b"CREATE TABLE a (x int)",
    "db/sqlite/0001.down.sql": b"DROP TABLE a",
    "db/sqlite/0001.verify.sql": "SELECT 'ä' WHERE 1 = 0".encode(),
    "db/0002.up.sql": b"SELECT 1",
}


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


DIGESTS = {path: sha(content) for path, content in FILES.items()}


def manifest(second: str = "0002") -> Manifest:
    one = {name: f"db/{{engine}}/0001.{name}.sql" for name in ("up", "down", "verify")}
    two = {"id": second, "up": "db/0002.up.sql", "irreversible": "the codes were merged"}
    database = {"name": "cases", "migrations": [{"id": "0001", **one}, two]}
    notes = {"en": {"title": "Release"}}
    data = {"schema": 1, "product": "ncen", "version": "2.0", "databases": [database]}
    return parse_manifest({**data, "notes": notes}, "test")


@pytest.fixture
def slot(tmp_path: Path) -> Path:
    for path, content in FILES.items():
        (tmp_path / "slot" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "slot" / path).write_bytes(content)
    return tmp_path / "slot"


@pytest.mark.parametrize("digests", [DIGESTS, None], ids=["signed", "own"])
def test_migration_files_are_resolved(slot: Path, digests: dict[str, str] | None) -> None:
    found = load_migrations(manifest(), slot, "sqlite", digests)
    assert (found.release, found.slot, found.migrator) == ("2.0", slot, None)
    one, two = found.databases["cases"]
    assert one.up == slot / "db/sqlite/0001.up.sql"
    assert one.down == slot / "db/sqlite/0001.down.sql"
    assert one.verify == slot / "db/sqlite/0001.verify.sql"
    assert one.up_sha256 == DIGESTS["db/sqlite/0001.up.sql"]
    assert one.down_sha256 == DIGESTS["db/sqlite/0001.down.sql"]
    assert one.verify_sha256 == DIGESTS["db/sqlite/0001.verify.sql"]
    assert (two.up, two.down, two.verify) == (slot / "db/0002.up.sql", None, None)


def _write(content: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(content)

    return write


def _directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _link(path: Path) -> None:
    path.rename(path.with_name("real"))
    path.symlink_to("real")


def _outside(path: Path) -> None:
    outside = path.parents[3] / "elsewhere"
    path.parent.rename(outside)
    path.parent.symlink_to(outside)


BAD: dict[str, tuple[Callable[[Path], None], str]] = {
    "missing": (Path.unlink, "file not found"),
    "altered": (_write(b"DROP TABLE a; --"), "digest mismatch"),
    "latin-1": (_write(b"SELECT '\xe4'"), "UTF-8"),
    "null byte": (_write(b"SELECT 1\0"), "null byte"),
    "a link": (_link, "regular file"),
    "directory": (_directory, "regular file"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("path", ["db/0002.up.sql", "db/sqlite/0001.verify.sql"])
def test_bad_file_is_named(slot: Path, name: str, path: str) -> None:
    break_it, reason = BAD[name]
    break_it(slot / path)
    with refused(MIGRATION_FILE_BAD, match=reason) as caught:
        load_migrations(manifest(), slot, "sqlite", DIGESTS)
    assert path in str(caught.value)


def test_directory_outside_the_slot_is_rejected(slot: Path) -> None:
    _outside(slot / "db/sqlite/0001.up.sql")
    with refused(MIGRATION_FILE_BAD, match="regular file inside"):
        load_migrations(manifest(), slot, "sqlite", DIGESTS)


def test_unsigned_file_is_rejected(slot: Path) -> None:
    fewer = {path: digest for path, digest in DIGESTS.items() if path != "db/0002.up.sql"}
    with refused(MIGRATION_FILE_BAD, match="digest mismatch"):
        load_migrations(manifest(), slot, "sqlite", fewer)


def test_each_engine_has_its_own_files(slot: Path) -> None:
    with refused(MIGRATION_FILE_BAD, match=r"db/postgresql/0001\.up\.sql"):
        load_migrations(manifest(), slot, "postgresql", DIGESTS)


def test_oversized_file_is_rejected(slot: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planner, "MAX_FILE_BYTES", 21)
    with refused(MIGRATION_FILE_BAD, match="too large"):
        load_migrations(manifest(), slot, "sqlite", DIGESTS)
