"""An adoption of SQLite's files undone, and killed in it: the application always finds them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from ncen_updater.agent.adapters.databases.migrations.ledger import AGENT_PREFIX
from ncen_updater.agent.adapters.databases.sqlite.engine import SqliteEngine
from ncen_updater.agent.config.engines import PostgresSettings, SqliteSettings
from ncen_updater.agent.setup.adoption_step import (
    _ask,
    _drop_agent_parts,
    _find_agent_parts,
    _make_plain,
)
from ncen_updater.common import atomic_files
from ncen_updater.common.messages import NOT_A_PLAIN_FILE, SETUP_DATABASE_REFUSED
from tests.support.errors import refused
from tests.support.kill_points import changes_of, killed_at

if TYPE_CHECKING:
    from ncen_updater.agent.config.agent_config import AgentConfig


def lay_out(place: Path) -> SqliteEngine:
    """A plain directory of files, adopted."""
    (place / "live").mkdir(parents=True)
    (place / "live/cases.sqlite").touch()
    engine = SqliteEngine(place, ("cases",))
    engine.adopt_databases()
    assert (place / "live").is_symlink()
    return engine


def undo(place: Path) -> None:
    _make_plain(place / "live", place / "sets/base")


def test_files_exist_at_every_instant_of_an_undo(tmp_path: Path) -> None:
    lay_out(tmp_path / "counted")
    last = changes_of(lambda: undo(tmp_path / "counted"))
    assert last > 0
    for instant in range(1, last + 1):
        place = tmp_path / str(instant)
        lay_out(place)
        assert killed_at(instant, lambda: undo(place))  # noqa: B023
        assert (place / "live/cases.sqlite").exists(), instant
        undo(place)
        undo(place)
        assert (place / "live/cases.sqlite").exists()
        assert not (place / "live").is_symlink()
        assert not (place / "sets/base").exists()


def test_file_system_without_rename_exchange_is_supported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atomic_files, "RENAME_EXCHANGE", 1 << 20)  # no such flag
    lay_out(tmp_path)
    undo(tmp_path)
    assert (tmp_path / "live/cases.sqlite").exists()
    assert not (tmp_path / "live").is_symlink()


def test_undo_opens_no_database_behind_a_link(tmp_path: Path) -> None:
    """The application's user can replace its files, and the undo runs as root."""
    other, live = tmp_path / "other.sqlite", tmp_path / "live"
    with closing(sqlite3.connect(other)) as session:
        session.execute(f"CREATE TABLE {AGENT_PREFIX}x (y)")
    live.mkdir()
    (live / "cases.sqlite").symlink_to(other)
    config = cast(
        "AgentConfig",
        SimpleNamespace(
            databases=SimpleNamespace(engine_settings=SqliteSettings(directory=tmp_path))
        ),
    )
    for act in (
        lambda: _drop_agent_parts(config, {"plain": False, "databases": []}),
        lambda: list(_find_agent_parts(config)),
    ):
        with refused(NOT_A_PLAIN_FILE):
            act()
    with closing(sqlite3.connect(other)) as session:
        session.execute(f"SELECT y FROM {AGENT_PREFIX}x")


def test_stopped_server_is_named() -> None:
    with refused(SETUP_DATABASE_REFUSED) as caught:
        _ask(PostgresSettings(host="/nowhere"), "postgres", "SELECT 1")
    assert "not running" in str(caught.value.detail)
