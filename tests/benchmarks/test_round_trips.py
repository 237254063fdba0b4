"""What an upgrade and its rollback ask of server and disk while users are out."""

from __future__ import annotations

from benchmarks.round_trips import measure


def test_sessions_statements_and_synchronous_writes_stay_few() -> None:
    found = {title: counts["downtime"] for title, counts in measure(3e6).items()}
    limits = {
        "upgrade": {"sessions": 7, "statements": 220, "synchronous_writes": 12},
        "rollback": {"sessions": 11, "statements": 220, "synchronous_writes": 12},
    }
    for title, limit in limits.items():
        assert {
            name: found[title][name] for name in limit if found[title][name] > limit[name]
        } == {}
        assert found[title]["sessions"] > 0
