"""Tests that the stand-in's health reports full databases, on a real full disk."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from demo.embedded_postgres import EmbeddedPostgres

STORE = Path(__file__).parents[2] / "manifests/base/app/lib/nucen/store.py"


@pytest.fixture
def small() -> Iterator[Path]:
    """A file system of a few megabytes on which the server may write."""
    with tempfile.TemporaryDirectory(prefix="nu-small-") as directory:
        place = Path(directory)
        place.chmod(0o755)
        command = ["mount", "-t", "tmpfs", "-o", "size=24m,mode=0777", "tmpfs", directory]
        mounted = subprocess.run(command, capture_output=True, text=True, check=False)
        if mounted.returncode:
            pytest.skip(f"no disk can be mounted here: {mounted.stderr}")
        try:
            yield place
        finally:
            subprocess.run(["umount", directory], check=True)


def fill(place: Path) -> None:
    with (place / "filler").open("wb", buffering=0) as filler:
        while True:
            try:
                filler.write(b"x" * 4096)
            except OSError:
                return


def test_probe_fails_on_a_full_disk_despite_free_pages(
    postgres: EmbeddedPostgres, small: Path
) -> None:
    spec = importlib.util.spec_from_file_location("stand_in_store", STORE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    space = small / "space"
    space.mkdir()
    owner = postgres.directory.stat()
    os.chown(space, owner.st_uid, owner.st_gid)
    with psycopg.connect(postgres.conninfo(), autocommit=True) as session:
        session.execute(f"CREATE TABLESPACE small LOCATION '{space}'".encode())
        try:
            session.execute("CREATE DATABASE filled TABLESPACE small")
            store = module.Store("postgresql", "filled", postgres.conninfo("filled"))
            store.run(lambda execute: execute("CREATE TABLE ncen_write_probe (token text)"))
            assert store.takes_writes("one")
            fill(small)
            # What a probe did before: the page that the table has is room enough.
            store.run(lambda execute: execute("INSERT INTO ncen_write_probe VALUES ('two')"))
            with pytest.raises(psycopg.Error, match="No space left"):
                store.takes_writes("three")
            (small / "filler").unlink()
            assert store.takes_writes("four")
            store._forget()
        finally:
            session.execute("DROP DATABASE IF EXISTS filled WITH (FORCE)")
            session.execute("DROP TABLESPACE small")
