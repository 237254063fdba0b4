"""Tests of the place of copies and its free space, on a real server with two disks."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ncen_updater.agent.adapters.databases.postgresql import catalogue
from ncen_updater.agent.adapters.databases.postgresql.catalogue import (
    ServerDisk,
    read_databases,
    read_disks,
)
from ncen_updater.agent.adapters.databases.postgresql.connection import Server
from ncen_updater.common.disk_space import get_free_bytes
from tests.agent.adapters.databases.postgresql.site import LIMITS, NEWEST, Site
from tests.support.run_directory import other_than


def seen(site: Site, host: str | None = None) -> dict[str, ServerDisk]:
    settings = site.engine()._settings.model_copy(update={"host": host} if host else {})
    with Server(site.engine()._settings, LIMITS).open_control_session() as connection:
        oids = {n: read_databases(connection)[p].oid for n, p in site.names.items()}
        return {
            disk.directory: disk for disk in read_disks(Server(settings, LIMITS), connection, oids)
        }


@pytest.fixture
def elsewhere(site: Site) -> Iterator[Path]:
    """A tablespace on another file system."""
    other = other_than(site.server.data)
    if other is None:
        pytest.skip("there is no file system but that of the test's server")
    with tempfile.TemporaryDirectory(dir=other, prefix="nu-test-") as directory:
        place = Path(directory)
        shutil.chown(place, site.server.data.stat().st_uid)
        site.sql("postgres", f"CREATE TABLESPACE other LOCATION '{place}'")
        yield place
        site.sql("postgres", 'ALTER DATABASE "T""suspect" SET TABLESPACE pg_default')
        site.sql("postgres", "DROP TABLESPACE other")


@NEWEST
@pytest.mark.parametrize("inside", [True, False], ids=["server's account", "any account"])
def test_each_database_is_measured_on_its_own_disk(
    site: Site, elsewhere: Path, monkeypatch: pytest.MonkeyPatch, inside: bool
) -> None:
    if not inside:  # as an agent sees it that may not enter the data directory
        monkeypatch.setattr(catalogue, "find_data_directory", lambda *_: None)
    data = str(site.server.data / "base" if inside else site.server.data)
    free = get_free_bytes(Path(data))
    (only,) = seen(site).values()
    assert (only.directory, only.names, only.has_wal) == (data, ("seizure", "suspect"), True)
    assert abs(only.free_bytes - free) < 1 << 28
    site.sql("postgres", 'ALTER DATABASE "T""suspect" SET TABLESPACE other')
    found = seen(site)
    assert {place: (disk.names, disk.has_wal) for place, disk in found.items()} == {
        data: (("seizure",), True),
        str(elsewhere): (("suspect",), False),
    }
    assert abs(found[str(elsewhere)].free_bytes - get_free_bytes(elsewhere)) < 1 << 28


@NEWEST
def test_disk_of_a_possibly_remote_server_is_not_measured(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert seen(site, host="db.example") == {}
    # A directory of that name, but of another account: a container's server has its own files.
    uid = site.server.data.stat().st_uid
    monkeypatch.setattr(catalogue, "_find_server_uid", lambda _connection: uid + 1)
    assert seen(site) == {}
