"""An adoption of SQLite's files undone, and killed in it: the application always finds them."""

from __future__ import annotations

from pathlib import Path

import pytest

from ncen_updater.agent.adapters.databases.sqlite.engine import SqliteEngine
from ncen_updater.agent.config.engines import PostgresSettings
from ncen_updater.agent.setup.adoption_step import _ask, _make_plain
from ncen_updater.common import atomic_files
from ncen_updater.common.messages import SETUP_DATABASE_REFUSED
from tests.support.errors import refused
from tests.support.kill_points import changes_of, killed_at


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


def test_stopped_server_is_named() -> None:
    with refused(SETUP_DATABASE_REFUSED) as caught:
        _ask(PostgresSettings(host="/nowhere"), "postgres", "SELECT 1")
    assert "not running" in str(caught.value.detail)
