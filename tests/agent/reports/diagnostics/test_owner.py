"""Tests of misspelt names of a server, reported once each; and of its roles."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from demo.databases import PostgresPlace
from ncen_updater.agent.cli.session import AgentSession
from ncen_updater.agent.model.change import StepName, StepPhase
from ncen_updater.agent.model.event_names import JOURNAL_FILE
from ncen_updater.agent.reports.diagnostics.doctor import diagnose
from ncen_updater.agent.reports.diagnostics.verify import verify_site
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common.findings import Finding, Severity
from ncen_updater.common.messages import DATABASE_UNKNOWN, ROLE_UNKNOWN
from ncen_updater.common.progress import SilentProgress
from tests.faults.cells import Fault, Strike
from tests.faults.full import prepared
from tests.faults.trial import OLD
from tests.support.sites import site_in_process

FRIGHTENING = ("Do not upgrade", "ask the database administrator what happened")


@pytest.fixture(scope="module")
def config() -> Iterator[Path]:
    with prepared("postgresql") as trial:
        trial.reset()
        yield trial.demo.config_path


def blocking(config: Path, begins: str, line: str) -> list[Finding]:
    """Findings that block an upgrade once a line of the configuration is changed."""
    text = config.read_text()
    lines = [line if old.startswith(begins) else old for old in text.splitlines()]
    assert line in lines
    config.write_text("\n".join(lines))
    try:
        return [
            one for one in diagnose(config, SilentProgress()) if one.severity is Severity.CRITICAL
        ]
    finally:
        config.write_text(text)


def test_unknown_owner_role_is_reported(config: Path) -> None:
    found = blocking(config, "owner =", 'owner = "ownner"')
    assert [one.code for one in found] == ["NU-4136"]
    assert "ownner" in str(found[0].title)
    assert "Correct 'owner' in [databases.postgresql]." in str(found[0].remedy)


def test_unknown_database_is_reported(config: Path) -> None:
    """Seen: "the databases do not belong together, do not start the application" for a typo."""
    found = blocking(config, "suspects =", 'suspects = "suspcts"')
    assert [one.code for one in found] == ["NU-4065"]
    assert "suspcts does not exist" in str(found[0].title)
    assert "Correct [databases.names]" in str(found[0].remedy)
    assert not any(words in str(found[0].remedy) for words in FRIGHTENING)


@pytest.mark.parametrize(
    ("detail", "code"),
    [
        ('database "suspcts" does not exist (3D000)', DATABASE_UNKNOWN.code),
        ('role "ownner" does not exist (42704)', ROLE_UNKNOWN.code),
        ('relation "cases" does not exist (42P01)', None),
        (None, None),
    ],
)
def test_refused_command_is_explained(config: Path, detail: str | None, code: str | None) -> None:
    """Where the server reports it during another query, as in ``plan``."""
    from ncen_updater.agent.model.errors import DatabaseError

    error = DatabaseError(database="postgres", detail=detail)
    assert error.code == "NU-4001"
    told = AgentSession("ncen-updater", config).clarify_error(error)
    assert (told and told.code) == code
    if told is not None:
        assert told.detail == detail


def test_application_is_not_blamed_for_an_unreachable_server() -> None:
    """Seen: "Repair the application, or run: ncen-updater rollback" while PostgreSQL was down."""
    with prepared("postgresql") as trial:
        trial.reset()
        trial.demo.stop_app()
        found = blocking(trial.demo.config_path, "port =", "port = 9")
    assert {one.code for one in found} == {"NU-4002"}


def test_verify_asks_to_resume_an_interrupted_change() -> None:
    """Seen: "Check the server: systemctl status postgresql" for databases that the agent closed."""
    cut = Strike(StepName.MIGRATE, StepPhase.AFTER_EFFECT, Fault.SIGKILL)
    with prepared("postgresql") as trial:
        trial.reset(OLD)
        trial.operate("upgrade", (cut,))
        with Journal.open(trial.demo.state / JOURNAL_FILE) as journal:
            found = verify_site(site_in_process(trial.demo), journal, SilentProgress())
        trial.settle()
    assert [one.code for one in found] == ["NU-6103"]
    assert "sudo ncen-updater resume" in str(found[0].remedy)


def test_superuser_agent_role_is_reported() -> None:
    """Reported before there is a release to upgrade to."""
    with prepared("postgresql") as trial:
        trial.reset()
        place = trial.demo.databases
        assert isinstance(place, PostgresPlace)
        with psycopg.connect(place.conninfo("postgres", place.superuser)) as connection:
            connection.execute(f"ALTER ROLE {place.agent} SUPERUSER".encode())
        found = diagnose(trial.demo.config_path, SilentProgress())
    assert [one.code for one in found if one.severity is Severity.CRITICAL] == ["NU-4163"]
