"""The judge of the trials finds what it is there to find: each broken promise is seen once."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest

from demo.site import version_of
from ncen_updater.agent.model.event_names import JOURNAL_FILE
from ncen_updater.agent.storage.journal.journal import Journal
from tests.faults.full import prepared
from tests.faults.trial import OLD, BrokenPromiseError, Trial


@pytest.fixture(scope="module")
def made() -> Iterator[Trial]:
    with prepared("sqlite") as trial:
        yield trial


@pytest.fixture(autouse=True)
def fresh(made: Trial) -> None:
    made.reset(OLD)
    assert made.judge() == OLD


def _sql(made: Trial, name: str, sql: str) -> None:
    path = made.demo.databases.address(name)
    with sqlite3.connect(path) as connection:
        connection.execute(sql)
    connection.close()


def test_lost_row_is_detected(made: Trial) -> None:
    _sql(made, "seizures", "DELETE FROM photographs WHERE rowid = 1")
    with pytest.raises(BrokenPromiseError, match="rows of"):
        made.judge()


def test_version_mixture_is_detected(made: Trial) -> None:
    _sql(made, "suspects", "UPDATE ncen_release SET release = '3.3.0'")
    assert version_of(made.demo).whole is None
    with pytest.raises(BrokenPromiseError, match="mixture"):
        made.judge()


def test_locked_out_users_are_detected(made: Trial) -> None:
    made.demo.maintenance_file.write_text("{}")
    with pytest.raises(BrokenPromiseError, match="kept out"):
        made.judge()


def test_stopped_application_is_detected(made: Trial) -> None:
    made.demo.stop_app()
    with pytest.raises(BrokenPromiseError, match="nothing that runs"):
        made.judge()


def test_changed_schema_is_detected(made: Trial) -> None:
    _sql(made, "companies", "CREATE INDEX of_nobody ON companies (name)")
    with (
        pytest.raises(BrokenPromiseError, match="verify"),
        Journal.open(made.demo.state / JOURNAL_FILE) as journal,
    ):
        journal.record_event("adopted", None, fingerprints={"companies": "another"})
        made.judge()
