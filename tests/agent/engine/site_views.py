"""Helpers of engine tests: views of a site, users' entries, and ends of an agent."""

from __future__ import annotations

from pathlib import Path

from demo.databases import PostgresPlace
from demo.site import DemoSite, digests
from ncen_updater.agent.adapters.databases.base import LiveDatabase
from ncen_updater.agent.engine.change_guards import confirm_release
from ncen_updater.agent.model.change import Change
from ncen_updater.agent.model.change_facts import ChangeFacts
from ncen_updater.agent.model.event_names import JOURNAL_FILE
from ncen_updater.agent.reports.diagnostics.verify import verify_site
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common.findings import Finding
from ncen_updater.common.progress import SilentProgress
from tests.agent.engine.trial_releases import execute
from tests.support.sites import site_in_process


class Killed(BaseException):
    """Stands for a SIGKILL: nothing of the runner's own handling takes part."""


def latest(demo: DemoSite) -> tuple[Change, ChangeFacts]:
    """The newest change, and its facts."""
    with Journal.open(demo.state / JOURNAL_FILE, read_only=True) as journal:
        change = journal.list_changes(1)[0]
        return change, journal.read_facts(change.id)


def facts(demo: DemoSite) -> ChangeFacts:
    """Facts of the newest change."""
    return latest(demo)[1]


def confirm(demo: DemoSite) -> None:
    """Confirm the release, as an operator does."""
    with Journal.open(demo.state / JOURNAL_FILE) as journal:
        confirm_release(journal, "a person")


def came(demo: DemoSite, table: str = "came_with_new") -> set[str]:
    """The databases that have what the program of a release makes (:data:`made.DOES`)."""
    return {name.partition(".")[0] for name in digests(demo) if name.endswith(f".{table}")}


def numbers(demo: DemoSite) -> list[object]:
    """Object ids, which distinguish databases of the same name."""
    engine = site_in_process(demo).database_engine
    if isinstance(demo.databases, PostgresPlace):
        sql = "SELECT oid FROM pg_database WHERE datname = current_database()"
        return [engine.run_query(LiveDatabase(name), sql) for name in engine.names]
    return [Path(database.physical_name).stat().st_ino for database in engine.describe_databases()]


def list_findings(demo: DemoSite) -> list[Finding]:
    """What ``verify`` finds."""
    site = site_in_process(demo)
    with Journal.open(demo.state / JOURNAL_FILE) as journal:
        return list(verify_site(site, journal, SilentProgress()))


def strict(demo: DemoSite) -> set[str]:
    """Whether the journal does not know a schema: NU-6106, or nothing."""
    return {finding.code for finding in list_findings(demo)} & {"NU-6106"}


def enter(demo: DemoSite) -> None:
    """A user's record."""
    execute(
        demo.databases.address("suspects"),
        "INSERT INTO persons (person_ref, family_name, workflow_state)"
        " VALUES ('LATER-1', 'entered later', 'new')",
    )


def is_there(demo: DemoSite) -> bool:
    """Whether the record of :func:`enter` is in the databases."""
    sql = "SELECT count(*) FROM persons WHERE person_ref = 'LATER-1'"
    return site_in_process(demo).database_engine.run_query(LiveDatabase("suspects"), sql) == [(1,)]
