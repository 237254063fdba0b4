"""The example of the guide for an application of Node, without the application itself.

Unleash comes from npm, which tests do not ask. In its place stands what its two programs call.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from ncen_updater.agent.config.loader import load_config
from tests.examples.building import SOURCES

EXAMPLE = SOURCES / "unleash"
SERVER = """exports.start = (options) => {
  options.preHook({ get: (path, tell) => tell(null, { json: (it) => { options[path] = it; } }) });
  console.log(JSON.stringify(options));
};"""
MIGRATOR = """exports.migrateDb = async (options) => {
  console.log(JSON.stringify(options));
  if (process.env.FAILS) throw new Error("no");
};"""


@pytest.fixture
def slot(tmp_path: Path) -> Path:
    if shutil.which("node") is None:
        pytest.skip("Node is not installed here")
    shutil.copytree(EXAMPLE / "bin", tmp_path / "bin")
    package = tmp_path / "node_modules/unleash-server"
    (package / "dist").mkdir(parents=True)
    (package / "package.json").write_text('{"version": "6.3.0", "main": "server.js"}')
    (package / "server.js").write_text(SERVER)
    (package / "dist/migrator.js").write_text(MIGRATOR)
    return tmp_path


def run(slot: Path, program: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(slot / "bin" / program)], cwd=slot, env={"PATH": os.environ["PATH"], **variables},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_migrator_opens_only_the_given_database(slot: Path) -> None:
    given = {"HOST": "db.example", "PORT": "5433", "USER": "unleash", "NAME": "unleash__next_x"}
    variables = {f"NCEN_DB_UNLEASH_{name}": value for name, value in given.items()}
    ended = run(slot, "migrate", DATABASE_URL="postgres://live", **variables)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert json.loads(ended.stdout)["db"] == {
        "driver": "pg", "host": "db.example", "port": "5433", "user": "unleash",
        "database": "unleash__next_x", "schema": "public",
    }  # fmt: skip
    assert run(slot, "migrate", FAILS="1", **variables).returncode == 1


def test_application_does_not_migrate_and_reports_its_version(slot: Path) -> None:
    ended = run(slot, "web", PORT="8080", DB_PORT="5433")
    told = json.loads(ended.stdout)
    assert told["disableMigration"] is True
    assert (told["server"]["port"], told["db"]["port"]) == (8080, "5433")
    assert told["/version"] == {"version": "6.3.0"}


def test_example_configuration_is_valid(tmp_path: Path) -> None:
    text = (EXAMPLE / "agent.toml").read_text("utf-8")
    values = {"root": tmp_path, "control": "/bin/true", "port": 8080, "feed_port": 8930,
              "db_port": 5432}  # fmt: skip
    for name, value in values.items():
        text = text.replace(f"{{{name}}}", str(value))
    path = tmp_path / "agent.toml"
    path.write_text(text, "utf-8")
    path.chmod(0o600)
    assert load_config(path).site.product == "unleash"
