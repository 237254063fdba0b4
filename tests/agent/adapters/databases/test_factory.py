"""Tests of building the adapter from the configuration, with paths below the site's root."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from ncen_updater.agent.adapters.databases.engines import make_engine
from ncen_updater.agent.adapters.databases.postgresql.engine import PostgresEngine
from ncen_updater.agent.adapters.databases.sqlite.engine import SqliteEngine
from ncen_updater.agent.config.agent_config import AgentConfig, DatabaseSettings
from ncen_updater.agent.engine.site_factory import build_site
from ncen_updater.agent.model.errors import DatabaseError

ROOT = Path(__file__).parents[4]
POSTGRESQL = {"host": "/run/postgresql", "user": "agent", "owner": "ncen"}


def sqlite(directory: str) -> DatabaseSettings:
    return DatabaseSettings.model_validate(
        {"engine": "sqlite", "names": {"cases": "cases"}, "sqlite": {"directory": directory}}
    )


def postgresql() -> DatabaseSettings:
    return DatabaseSettings.model_validate(
        {"engine": "postgresql", "names": {"a": "b"}, "postgresql": POSTGRESQL}
    )


@pytest.mark.parametrize(
    ("root", "directory", "expected"),
    [("/srv", "db", "/srv/db"), ("/srv", "/var/db", "/var/db"), (None, "/var/db", "/var/db")],
)
def test_sqlite_engine_is_created(root: str | None, directory: str, expected: str) -> None:
    engine = make_engine(sqlite(directory), Path(root) if root else None)
    assert isinstance(engine, SqliteEngine)
    assert engine.names == ("cases",)
    assert str(engine._layout.directory) == expected


def test_postgresql_engine_is_created() -> None:
    engine = make_engine(postgresql(), Path("/srv"))
    assert isinstance(engine, PostgresEngine)
    assert engine.names == ("a",)


def test_engine_without_its_table_is_rejected() -> None:
    broken = sqlite("db").model_copy(update={"sqlite": None})
    with pytest.raises(DatabaseError, match="unsupported database engine"):
        make_engine(broken)


def test_site_paths_are_below_its_root(tmp_path: Path) -> None:
    example = tomllib.loads((ROOT / "packaging" / "agent.toml.example").read_text())
    example["paths"] = {"root": str(tmp_path)}
    example["databases"] = sqlite("var/db").model_dump(exclude_none=True)
    site = build_site(AgentConfig.model_validate(example), tmp_path / "agent.toml")
    assert isinstance(site.database_engine, SqliteEngine)
    assert site.database_engine._layout.directory == tmp_path / "var" / "db"
