"""Every release of the stand-in is complete and says what it is there to show."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from demo.errors import InvalidReleaseSourceError, ReleaseSourceNotFoundError
from demo.releases import assemble, manifests_directory, releases
from ncen_updater.agent.adapters.databases.migrations.planner import load_migrations
from ncen_updater.formats.manifest import Manifest, load_manifest
from ncen_updater.formats.sql import ENGINE_NAMES

VERSIONS = [release.version for release in releases()]


def manifest_of(version: str, directory: Path) -> Manifest:
    return load_manifest(assemble(version, directory / version) / "manifest.toml")


@pytest.mark.parametrize("version", VERSIONS)
def test_every_release_is_complete(version: str, tmp_path: Path) -> None:
    source = assemble(version, tmp_path / "source")
    manifest = load_manifest(source / "manifest.toml")
    assert manifest.version == version
    assert [d.name for d in manifest.databases] == ["seizures", "suspects", "companies"]
    assert set(manifest.notes) == {"en", "fr"}
    assert os.access(source / "app/bin/ncenctl", os.X_OK)
    for engine in ENGINE_NAMES:
        load_migrations(manifest, source, engine, None)


def test_later_releases_contain_the_same_migrations(tmp_path: Path) -> None:
    first = assemble("3.3.0", tmp_path / "first")
    for version in VERSIONS[2:]:
        later = assemble(version, tmp_path / version)
        for path in (first / "migrations").rglob("*.sql"):
            assert (later / path.relative_to(first)).read_bytes() == path.read_bytes()


def test_every_source_is_used() -> None:
    found = {path.parent.name for path in manifests_directory().glob("*/manifest.toml")}
    assert found == set(VERSIONS)


def test_bad_releases_have_their_faults(tmp_path: Path) -> None:
    assert manifest_of("3.3.7", tmp_path).needs.disk_bytes >= 10**15
    assert manifest_of("3.3.8", tmp_path).countries == ("ZZ",)
    assert manifest_of("3.3.10", tmp_path).required
    behind = manifest_of("3.4.0", tmp_path)
    assert behind.upgrade_from == ">=3.3.10,<3.4.0"
    irreversible = manifest_of("3.3.9", tmp_path).databases[0].migrations
    assert [m.id for m in irreversible if m.down is None] == ["0001_schema", "0003_anonymous"]


def test_unknown_release_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReleaseSourceNotFoundError):
        assemble("9.9.9", tmp_path / "x")


def test_missing_file_is_named(tmp_path: Path) -> None:
    copy = tmp_path / "manifests"
    shutil.copytree(manifests_directory(), copy)
    (copy / "base/migrations/sqlite/suspects/0002_v330.down.sql").unlink()
    with pytest.raises(InvalidReleaseSourceError) as caught:
        assemble("3.3.0", tmp_path / "x", source=copy)
    assert caught.value.detail == "migrations/sqlite/suspects/0002_v330.down.sql"
