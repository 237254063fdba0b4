"""Tests that a rehearsal runs the same checks as an upgrade and a rollback, with one verdict."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from packaging.version import Version

from demo.site import DemoSite
from ncen_updater.agent.adapters.databases.base import DatabaseEngine
from ncen_updater.agent.engine.operations import Operations
from ncen_updater.agent.engine.path_selection import find_cached_path
from ncen_updater.agent.engine.rehearsal.rehearser import Rehearser
from ncen_updater.agent.engine.site import Site
from ncen_updater.agent.model.change import new_change_id
from ncen_updater.agent.model.errors import ChangeFailedError, MigrationFailedError
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import REHEARSAL_FAILED
from ncen_updater.common.progress import SilentProgress
from ncen_updater.feed.upgrade_path import UpgradePath
from tests.support.errors import refused
from tests.support.rotation import either_engine, in_turns
from tests.support.sites import TrialFeed, serve

pytestmark = either_engine("demo")

Event = tuple[str, ...]
#: A site that had entered for itself what the release brings.
ENTERED = "INSERT INTO ref_offence_category VALUES ('CULT', 'Artefacts', 'Objets')"


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TrialFeed, str]]:
    made = TrialFeed(tmp_path_factory.mktemp("feed"))
    made.publish(["3.3.0", "3.3.1", "3.3.2", "3.3.3"])
    with serve(made.directory) as url:
        yield made, url


def rehearse(site: Site, version: str) -> None:
    operations = Operations(site, SilentProgress())
    with operations.lock_idle_site("rehearse") as journal:
        path = find_cached_path(site, journal, Version(version))
        assert isinstance(path, UpgradePath)
        Rehearser(site, journal, SilentProgress(), new_change_id).rehearse(path)


class Overheard:
    """What an engine is asked while it holds the candidates that it migrates."""

    def __init__(self, engine: DatabaseEngine, monkeypatch: pytest.MonkeyPatch) -> None:
        self._sections: list[list[Event]] = []
        self._depth = 0
        held = engine.hold_sessions

        @contextlib.contextmanager
        def section(**named: bool) -> Iterator[None]:
            if not self._depth:
                self._sections.append([])
            self._depth += 1
            try:
                with held(**named):
                    yield
            finally:
                self._depth -= 1

        def overheard(name: str) -> Any:
            act = getattr(engine, name)

            def called(*values: Any, **named: Any) -> Any:
                if self._depth and name in ("run_queries", "read_schema"):
                    place, *sql = values
                    self._sections[-1].append((name, type(place).__name__, place.name, *sql))
                elif self._depth:
                    self._sections[-1].append((name,))
                return act(*values, **named)

            return called

        monkeypatch.setattr(engine, "hold_sessions", section)
        for name in ("run_queries", "read_schema", "migrate", "mark_candidates"):
            monkeypatch.setattr(engine, name, overheard(name))

    def take(self) -> list[tuple[list[Event], list[Event]]]:
        """What was asked before and after each migration; side by side is in any order."""
        found = []
        for events in self._sections:
            if ("migrate",) in events:
                at = events.index(("migrate",))
                found.append((sorted(events[:at]), sorted(events[at + 1 :])))
        self._sections.clear()
        return found


def test_rehearsal_runs_the_checks_of_the_steps(
    demo: DemoSite, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    overheard = Overheard(site.database_engine, monkeypatch)
    rehearse(site, "3.3.0")
    rehearsed = overheard.take()
    operations = Operations(site, SilentProgress())
    operations.upgrade(Version("3.3.0"))
    operations.rollback()
    assert overheard.take() == rehearsed
    assert len(rehearsed) == 2, "there and back"
    for before, after in rehearsed:
        assert {name for name, *_ in before} == {name for name, *_ in after}
        assert {name for name, *_ in before} == {"run_queries", "read_schema"}


def causes(site: Site, version: str) -> list[object]:
    """The codes with which a rehearsal and an upgrade fail."""
    with refused(REHEARSAL_FAILED) as rehearsed:
        rehearse(site, version)
    with pytest.raises(ChangeFailedError) as changed:
        Operations(site, SilentProgress()).upgrade(Version(version))
    assert changed.value.values["step"] == "migrate"
    for error in (rehearsed.value, changed.value):
        assert isinstance(error.__cause__, UpdaterError)
        assert str(error.__cause__.remedy_text) in str(error.remedy_text)
    return [error.value.values["cause_code"] for error in (rehearsed, changed)]


@in_turns("version")
@pytest.mark.parametrize("version", ["3.3.1", "3.3.2", "3.3.3"])
def test_rehearsal_and_upgrade_find_the_same_fault(
    demo: DemoSite, site: Site, version: str
) -> None:
    rehearsed, changed = causes(site, version)
    assert rehearsed == changed


def test_rehearsal_and_upgrade_find_the_same_reference_fault(demo: DemoSite, site: Site) -> None:
    address = demo.databases.address("seizures")
    if address.startswith("/"):
        with contextlib.closing(sqlite3.connect(address)) as database, database:
            database.execute(ENTERED)
    else:
        with psycopg.connect(address) as session:
            session.execute(ENTERED)
    assert causes(site, "3.3.0") == [MigrationFailedError.message.code] * 2
