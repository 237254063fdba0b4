"""A few of the random kills; hundreds: ``python -m tests.faults.full``."""

from __future__ import annotations

import pytest

from tests.faults.full import Report, agent_kills, prepared, server_kills


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_random_kills_of_the_agent(engine: str) -> None:
    report = Report()
    with prepared(engine) as made:
        agent_kills(made, engine, report, 6, seed=20)
    assert len(report.rows) == 6
    assert [row for row in report.rows if row["problem"]] == []


def test_random_kills_of_the_server() -> None:
    report = Report()
    with prepared("postgresql") as made:
        server_kills(made, "postgresql", report, 4, seed=30)
    assert len(report.rows) == 4
    assert [row for row in report.rows if row["problem"]] == []
