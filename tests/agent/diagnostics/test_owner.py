"""Roles of the databases that are wrong: told before there is a release to upgrade to."""

from __future__ import annotations

import psycopg

from demo.databases import PostgresPlace
from ncen_updater.agent.diagnostics.doctor import diagnose
from ncen_updater.common.findings import Severity
from ncen_updater.common.progress import Silent
from tests.faults.full import prepared


def test_an_owner_that_the_server_does_not_know() -> None:
    """Told as that, once, whatever follows from it."""
    with prepared("postgresql") as trial:
        trial.reset()
        config = trial.demo.config_path
        lines = config.read_text().splitlines()
        lines = ['owner = "ownner"' if line.startswith("owner =") else line for line in lines]
        assert 'owner = "ownner"' in lines
        config.write_text("\n".join(lines))
        found = [one for one in diagnose(config, Silent()) if one.severity is Severity.STRICT]
    assert [one.code for one in found] == ["NU-4136"]
    assert "ownner" in str(found[0].what)
    assert 'Correct "owner" in [databases.postgresql].' in str(found[0].remedy)


def test_a_role_of_the_agent_that_has_the_server() -> None:
    with prepared("postgresql") as trial:
        trial.reset()
        place = trial.demo.databases
        assert isinstance(place, PostgresPlace)
        with psycopg.connect(place.conninfo("postgres", place.superuser)) as connection:
            connection.execute(f"ALTER ROLE {place.agent} SUPERUSER".encode())
        found = diagnose(trial.demo.config_path, Silent())
    assert [one.code for one in found if one.severity is Severity.STRICT] == ["NU-4163"]
