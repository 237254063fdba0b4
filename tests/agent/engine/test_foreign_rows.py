"""Somebody writes to the SQLite files of a whole site at every part of a stop: no row is lost."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from demo.databases import SqlitePlace
from demo.site import DemoSite, digests, version_of
from ncen_updater.agent.engine.operations import Operations
from ncen_updater.agent.engine.prune import drop_quarantined
from ncen_updater.agent.model.change import StepName, StepPhase
from ncen_updater.agent.model.errors import ChangeFailedError
from ncen_updater.agent.model.event_names import JOURNAL_FILE
from ncen_updater.agent.reports.diagnostics.doctor import diagnose
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common.progress import SilentProgress
from tests.support.rotation import either_engine, in_turns
from tests.support.sites import running_site, site_in_process

pytestmark = either_engine("demo")

OLD, NEW = "3.2.4", "3.3.0"


@pytest.fixture
def demo() -> Iterator[DemoSite]:
    with running_site(OLD, NEW) as site:
        yield site


def sets(demo: DemoSite) -> Path:
    assert isinstance(demo.databases, SqlitePlace)
    return demo.databases.directory / "sets"


def enter_person(directory: Path) -> None:
    """As a person with a shell and every right does."""
    path = directory / "suspects.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(
            "INSERT INTO persons (person_ref, family_name, workflow_state)"
            " VALUES ('BY-HAND', 'of somebody', 'new')"
        )
        connection.commit()


def persons(directory: Path) -> int:
    uri = f"{(directory / 'suspects.sqlite').as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True)) as connection:
        (row,) = connection.execute(
            "SELECT count(*) FROM persons WHERE person_ref = 'BY-HAND'"
        ).fetchall()
    return int(row[0])


def at(step: StepName, act: Callable[[], None]) -> Callable[[StepName, StepPhase], None]:
    def checkpoint(now: StepName, phase: StepPhase) -> None:
        if (now, phase) == (step, StepPhase.AFTER_RECORD):
            act()

    return checkpoint


@in_turns("after", "failed")
@pytest.mark.parametrize(
    ("after", "failed"),
    [
        (StepName.FENCE, "cut-over"),
        (StepName.COPY, "cut-over"),
        (StepName.MIGRATE, "cut-over"),
        (StepName.CUT_OVER, "commit"),
        (StepName.HEALTH, "commit"),
    ],
)
def test_change_reverts_to_the_files_that_were_written(
    demo: DemoSite, after: StepName, failed: str
) -> None:
    if after in (StepName.CUT_OVER, StepName.HEALTH) and os.geteuid() != 0:
        pytest.skip("only root, or a program that has them open, writes to files that were frozen")
    base = sets(demo) / "base"
    site = site_in_process(demo)
    with pytest.raises(ChangeFailedError) as caught:
        Operations(
            site, SilentProgress(), checkpoint=at(after, lambda: enter_person(base))
        ).upgrade()
    assert caught.value.values["step"] == failed
    assert caught.value.values["cause_code"] == "NU-4222"
    assert version_of(demo).whole == version_of(demo).reported == OLD
    assert persons(sets(demo).parent / "live") == 1
    assert not demo.maintenance_file.exists()
    with Journal.open(demo.state / JOURNAL_FILE, read_only=True) as journal:
        assert journal.query("SELECT * FROM bad_releases") == []
    Operations(site_in_process(demo), SilentProgress()).upgrade()
    assert version_of(demo).whole == NEW
    assert persons(sets(demo).parent / "live") == 1


def test_rows_entered_in_the_new_files_are_retained_and_reported(demo: DemoSite) -> None:
    before = digests(demo)
    live = sets(demo).parent / "live"

    def enter_then_fail() -> None:
        enter_person(live)
        raise RuntimeError("the trial wants the change to go back")

    site = site_in_process(demo)
    with pytest.raises(ChangeFailedError):
        Operations(
            site, SilentProgress(), checkpoint=at(StepName.HEALTH, enter_then_fail)
        ).upgrade()
    assert version_of(demo).whole == version_of(demo).reported == OLD
    assert digests(demo) == before
    (kept,) = site.database_engine.list_quarantined()
    assert kept.figures["rows"] == "suspects.persons 1"
    assert persons(Path(str(kept.figures["path"]))) == 1
    with Journal.open(demo.state / JOURNAL_FILE, read_only=True) as journal:
        (event,) = [e for e in journal.list_events() if e.kind == "databases-retained"]
    assert event.data["path"] == kept.figures["path"]
    assert kept.code == "NU-4251"
    assert "NU-4251" in {finding.code for finding in diagnose(demo.config_path, SilentProgress())}
    Operations(site_in_process(demo), SilentProgress()).upgrade()
    assert site.database_engine.list_quarantined() == (kept,)
    # A drop that was interrupted has taken its name away, and goes on when it is asked for again.
    place = Path(str(kept.figures["path"]))
    place.rename(place.with_name(f"gone_{place.name}.partial"))
    with Journal.open(demo.state / JOURNAL_FILE) as journal:
        assert drop_quarantined(site, journal, str(kept.figures["change"]), SilentProgress()) == ()
    assert list(sets(demo).glob("*written*")) == []


def test_revert_without_foreign_rows_retains_nothing(demo: DemoSite) -> None:
    def fail() -> None:
        raise RuntimeError("the trial wants the change to go back")

    site = site_in_process(demo)
    with pytest.raises(ChangeFailedError):
        Operations(site, SilentProgress(), checkpoint=at(StepName.HEALTH, fail)).upgrade()
    assert site.database_engine.list_quarantined() == ()
    assert [path.name for path in sets(demo).iterdir()] == ["base"]
