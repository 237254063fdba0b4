"""The examples of ``docs/using-your-own-application.md`` are what the programs accept."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ncen_updater.agent.config.loader import load_config
from ncen_updater.formats.manifest import load_manifest
from tests.kinto.build import NEW, SCHEMAS
from tests.kinto.site import DATABASES

GUIDE = Path(__file__).parents[2] / "docs/using-your-own-application.md"


@pytest.fixture
def example(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """The example that begins with this comment, as a file."""
    blocks = re.findall(r"^```toml\n(# [^\n]*\n.*?)^```$", GUIDE.read_text("utf-8"), re.S | re.M)
    (block,) = [block for block in blocks if block.startswith(f"# {request.param}\n")]
    path = tmp_path / Path(request.param).name
    path.write_text(block.replace("/run/kinto/", f"{tmp_path}/"), "utf-8")  # it has to exist
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("example", ["manifest.toml"], indirect=True)
def test_manifest(example: Path) -> None:
    manifest = load_manifest(example)
    assert manifest.version == NEW
    assert [database.name for database in manifest.databases] == list(DATABASES)
    assert manifest.checks[-1].expect == SCHEMAS[NEW]


@pytest.mark.parametrize("example", ["/etc/ncen-updater/agent.toml"], indirect=True)
def test_configuration(example: Path) -> None:
    config = load_config(example)
    assert config.databases.names == DATABASES
    assert config.application.version_field == "project_version"
