"""Tests that the files of ``docs/examples/kinto`` are accepted."""

from __future__ import annotations

from pathlib import Path

from ncen_updater.agent.config.loader import load_config
from ncen_updater.formats.manifest import load_manifest
from tests.kinto.build import NEW, SCHEMAS
from tests.kinto.site import DATABASES

EXAMPLE = Path(__file__).parents[2] / "docs/examples/kinto"


def test_example_manifest_is_valid() -> None:
    manifest = load_manifest(EXAMPLE / "manifest.toml")
    assert manifest.version == NEW
    assert [database.name for database in manifest.databases] == list(DATABASES)
    assert manifest.checks[-1].expect == SCHEMAS[NEW]


def test_example_configuration_is_valid(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    text = (EXAMPLE / "agent.toml").read_text("utf-8")
    path.write_text(text.replace("/run/kinto/", f"{tmp_path}/"), "utf-8")  # it has to exist
    path.chmod(0o600)
    config = load_config(path)
    assert config.databases.names == DATABASES
    assert config.application.version_field == "project_version"
