"""A few of the random kills; hundreds: ``python -m tests.faults.full``."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.full import Report, agent_kills, prepared, server_kills
from tests.faults.trial import Trial
from tests.support.rotation import either_engine, seed


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def made(request: pytest.FixtureRequest) -> Iterator[Trial]:
    with prepared(request.param) as trial:
        yield trial


@either_engine("made")
def test_random_agent_kills_are_survived(made: Trial) -> None:
    report = Report()
    agent_kills(made, "", report, 2, seed())
    assert len(report.rows) == 2
    assert [row for row in report.rows if row["problem"]] == []


@pytest.mark.parametrize("made", ["postgresql"], indirect=True)
def test_random_server_kills_are_survived(made: Trial) -> None:
    report = Report()
    server_kills(made, "", report, 2, seed())
    assert len(report.rows) == 2
    assert [row for row in report.rows if row["problem"]] == []
