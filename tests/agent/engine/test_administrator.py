"""An administrator who renames, drops, restores, opens and revokes while a change is open.

The stand-in on a real server, and the real steps: a rollback never passes over what is away.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from packaging.version import Version

from demo.databases import PostgresPlace, SqlitePlace
from demo.embedded_postgres import EmbeddedPostgres
from demo.evidence import database_digests
from demo.site import DemoSite
from ncen_updater.agent.engine import change_runner as runner
from ncen_updater.agent.engine.operations import Operations
from ncen_updater.agent.engine.site import Site
from ncen_updater.agent.model.change import StepName, StepPhase
from ncen_updater.agent.model.errors import ChangeFailedError, DatabaseUnreachableError
from ncen_updater.agent.model.event_names import JOURNAL_FILE
from ncen_updater.agent.reports.diagnostics.doctor import diagnose
from ncen_updater.agent.reports.diagnostics.verify import verify_site
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.site_history import SiteHistory
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.findings import Severity
from ncen_updater.common.messages import REVERT_FAILED
from ncen_updater.common.progress import SilentProgress
from tests.agent.engine.trial_releases import run_text
from tests.support.errors import refused

NEW = Version("3.3.0")
At = tuple[StepName, StepPhase]
POSTGRESQL = pytest.mark.parametrize("demo", ["postgresql"], indirect=True)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "UNREACHABLE_LIMIT_S", 0.0)


class Administrator:
    """A superuser of the server, who knows nothing of the change."""

    def __init__(self, demo: DemoSite) -> None:
        assert isinstance(demo.databases, PostgresPlace)
        self.place = demo.databases
        self.name = self.place.names["seizures"]
        self.aside = f"{self.name}_x"

    def sql(self, *statements: str) -> list[tuple[object, ...]]:
        conninfo = self.place.conninfo("postgres", "postgres")
        with psycopg.connect(conninfo, autocommit=True) as session:
            for statement in statements:
                cursor = session.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def rename(self, old: str, new: str) -> None:
        self.sql(f'ALTER DATABASE "{old}" RENAME TO "{new}"')

    def open(self) -> None:
        self.sql(f'ALTER DATABASE "{self.name}" ALLOW_CONNECTIONS true')

    def closed(self) -> set[object]:
        """The live databases that refuse sessions."""
        found = self.sql("SELECT datname FROM pg_database WHERE NOT datallowconn")
        return {name for (name,) in found} & set(self.place.names.values())

    def fences(self) -> int:
        with psycopg.connect(self.place.conninfo(f"{self.place.prefix}control", "postgres")) as c:
            return len(c.execute("SELECT * FROM fences").fetchall())


def at(instant: At, act: Callable[[], object]) -> Callable[[StepName, StepPhase], None]:
    left = [instant]

    def checkpoint(step: StepName, phase: StepPhase) -> None:
        if left and (step, phase) == left[0]:
            left.clear()
            act()

    return checkpoint


def upgrade(site: Site, instant: At, act: Callable[[], object]) -> None:
    Operations(site, SilentProgress(), checkpoint=at(instant, act)).upgrade(NEW, retry=True)


def strict(demo: DemoSite, site: Site) -> set[str]:
    """Codes of what doctor and verify hold against the site."""
    with Journal.open(site.state_directory / JOURNAL_FILE, read_only=True) as journal:
        found = [
            *verify_site(site, journal, SilentProgress()),
            *diagnose(demo.config_path, SilentProgress()),
        ]
    return {finding.code for finding in found if finding.severity is Severity.CRITICAL}


def waits_with(site: Site, act: Callable[[], object]) -> Site:
    """The site, where this happens at the first wait."""
    left = [act]

    def wait(seconds: float) -> None:
        if seconds == runner.UNREACHABLE_POLL_S and left:
            left.pop()()
        time.sleep(min(seconds, 0.05))

    return dataclasses.replace(site, clock=dataclasses.replace(site.clock, wait=wait))


BEFORE_CUT_OVER = (StepName.CUT_OVER, StepPhase.BEFORE_EFFECT)


@POSTGRESQL
@pytest.mark.parametrize("opens", [False, True])
def test_renamed_database_is_opened_after_it_was_renamed_back(
    demo: DemoSite, site: Site, impatient: None, opens: bool
) -> None:
    dba, before = Administrator(demo), database_digests(demo.databases)
    with refused(REVERT_FAILED, match=f"{dba.name} is missing"):
        upgrade(site, BEFORE_CUT_OVER, lambda: dba.rename(dba.name, dba.aside))
    assert site.database_engine.list_leftovers(), "copies of what is missing are kept"
    assert {"NU-4102", "NU-6103"} <= strict(demo, site)
    dba.rename(dba.aside, dba.name)
    if opens:
        dba.open()
    Operations(site, SilentProgress()).resume(by_operator=True)
    assert (dba.closed(), dba.fences(), strict(demo, site)) == (set(), 0, set())
    assert database_digests(demo.databases) == before
    Operations(site, SilentProgress()).upgrade(NEW, retry=True)
    assert strict(demo, site) == set()


@POSTGRESQL
@pytest.mark.parametrize(
    "instant",
    [(StepName.PREFLIGHT, StepPhase.BEFORE_EFFECT), (StepName.STOP, StepPhase.AFTER_RECORD)],
    ids=["before the stop", "before the fence"],
)
def test_database_closed_by_an_administrator_is_named_and_reopened(
    demo: DemoSite, site: Site, instant: At
) -> None:
    dba, running = Administrator(demo), instant[0] is StepName.PREFLIGHT

    def close() -> None:
        dba.sql(f'ALTER DATABASE "{dba.name}" ALLOW_CONNECTIONS false')

    with pytest.raises(UpdaterError, match=dba.name) as caught:
        upgrade(site, instant, close)
    assert "ALLOW_CONNECTIONS true" in str(caught.value.remedy_text)
    assert dba.closed() == {dba.name}
    assert site.application.is_running() is running is not site.application.is_in_maintenance()
    dba.open()
    Operations(site, SilentProgress()).resume(by_operator=True)
    assert (dba.closed(), strict(demo, site)) == (set(), set())
    Operations(site, SilentProgress()).upgrade(NEW, retry=True)
    assert (dba.closed(), strict(demo, site)) == (set(), set())


@POSTGRESQL
def test_revert_waits_for_a_renamed_database(demo: DemoSite, site: Site) -> None:
    dba = Administrator(demo)
    patient = waits_with(site, lambda: dba.rename(dba.aside, dba.name))
    with pytest.raises(ChangeFailedError):
        upgrade(patient, BEFORE_CUT_OVER, lambda: dba.rename(dba.name, dba.aside))
    assert (dba.closed(), dba.fences(), strict(demo, site)) == (set(), 0, set())


@POSTGRESQL
def test_dropped_and_restored_database_is_reported(
    demo: DemoSite, site: Site, impatient: None
) -> None:
    dba, before = Administrator(demo), database_digests(demo.databases)

    def drop() -> None:
        dba.sql(
            f'CREATE DATABASE "{dba.aside}" OWNER ncen TEMPLATE "{dba.name}"',
            f'DROP DATABASE "{dba.name}"',
        )

    with refused(REVERT_FAILED, match=f"{dba.name} is missing"):
        upgrade(site, (StepName.MIGRATE, StepPhase.AFTER_RECORD), drop)
    dba.rename(dba.aside, dba.name)
    Operations(site, SilentProgress()).resume(by_operator=True)
    assert (dba.closed(), dba.fences()) == (set(), 0)
    assert not {"NU-6102", "NU-4016", "NU-4102"} & strict(demo, site)
    assert database_digests(demo.databases) == before
    told = run_text(demo, "status")
    assert f"not reverted: {dba.name} (replaced meanwhile)" in told
    assert "no data loss" not in told


@POSTGRESQL
def test_leftover_fence_of_a_finished_change_is_removed(demo: DemoSite, site: Site) -> None:
    dba = Administrator(demo)

    def fail() -> None:
        raise RuntimeError

    with pytest.raises(ChangeFailedError):
        upgrade(site, BEFORE_CUT_OVER, fail)
    with Journal.open(site.state_directory / JOURNAL_FILE, read_only=True) as journal:
        change = journal.list_changes()[0].id
    with psycopg.connect(
        dba.place.conninfo(f"{dba.place.prefix}control", "postgres"), autocommit=True
    ) as control:
        control.execute("INSERT INTO fences VALUES (%s, %s, true, -1)", [dba.name, change])
    assert strict(demo, site) == set()
    dba.sql(f'ALTER DATABASE "{dba.name}" ALLOW_CONNECTIONS false')
    assert "NU-4016" in strict(demo, site)
    Operations(site, SilentProgress()).resume(by_operator=True)
    assert (dba.closed(), dba.fences(), strict(demo, site)) == (set(), 0, set())


@POSTGRESQL
def test_revert_waits_for_an_unreachable_server(
    demo: DemoSite, site: Site, server: EmbeddedPostgres
) -> None:
    with pytest.raises(ChangeFailedError):
        upgrade(waits_with(site, server.start), BEFORE_CUT_OVER, server.kill)
    assert strict(demo, site) == set()


@POSTGRESQL
def test_revert_waits_for_a_free_connection(demo: DemoSite, site: Site) -> None:
    dba = Administrator(demo)
    limit = f'ALTER ROLE "{dba.place.agent}" CONNECTION LIMIT'

    def exhaust() -> None:
        dba.sql(f"{limit} 0")
        raise RuntimeError

    with pytest.raises(ChangeFailedError):
        upgrade(waits_with(site, lambda: dba.sql(f"{limit} -1")), BEFORE_CUT_OVER, exhaust)
    assert strict(demo, site) == set()


@POSTGRESQL
def test_automatic_resume_waits_for_the_databases(
    demo: DemoSite, site: Site, impatient: None
) -> None:
    dba = Administrator(demo)
    with refused(REVERT_FAILED):
        upgrade(site, BEFORE_CUT_OVER, lambda: dba.rename(dba.name, dba.aside))
    patient = waits_with(site, lambda: dba.rename(dba.aside, dba.name))
    Operations(patient, SilentProgress()).resume(by_operator=False)
    assert (dba.closed(), dba.fences(), strict(demo, site)) == (set(), 0, set())


@POSTGRESQL
def test_automatic_resume_waits_two_minutes_for_a_refused_login(
    demo: DemoSite, site: Site, impatient: None
) -> None:
    dba = Administrator(demo)
    role = f'ALTER ROLE "{dba.place.agent}"'
    ends = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename ="
    end = f"{ends} '{dba.place.agent}'"
    with restored_afterwards(f"{role} LOGIN", dba=dba):
        with refused(REVERT_FAILED):
            upgrade(site, BEFORE_CUT_OVER, lambda: dba.sql(f"{role} NOLOGIN", end))
        with pytest.raises(DatabaseUnreachableError, match="not permitted to log in"):
            Operations(site, SilentProgress()).resume(by_operator=False, at_boot=True)
    Operations(site, SilentProgress()).resume(by_operator=False)
    assert (dba.closed(), dba.fences(), strict(demo, site)) == (set(), 0, set())


@POSTGRESQL
def test_change_continues_with_its_existing_sessions(demo: DemoSite, site: Site) -> None:
    """A login that is refused meanwhile is found by what needs a new one, once users are in."""
    dba = Administrator(demo)
    role = f'ALTER ROLE "{dba.place.agent}"'
    with restored_afterwards(f"{role} LOGIN", dba=dba):
        with pytest.raises(DatabaseUnreachableError, match="login"):
            upgrade(site, BEFORE_CUT_OVER, lambda: dba.sql(f"{role} NOLOGIN"))
        assert not demo.maintenance_file.exists(), "users are in"
        with pytest.raises(DatabaseUnreachableError, match="login"):
            Operations(site, SilentProgress()).resume(by_operator=True)
    Operations(site, SilentProgress()).resume(by_operator=True)
    assert site.slots.read_current() == NEW
    assert (dba.closed(), dba.fences(), strict(demo, site)) == (set(), 0, set())


def quick(site: Site) -> Site:
    """The site, where health is not waited for so long."""
    application = site.config.application.model_copy(update={"health_timeout_s": 3.0})
    config = site.config.model_copy(update={"application": application})
    return dataclasses.replace(site, config=config)


def bad_releases(site: Site) -> tuple[object, ...]:
    with Journal.open(site.state_directory / JOURNAL_FILE, read_only=True) as journal:
        return SiteHistory(journal).list_bad_releases()


START = (StepName.START, StepPhase.BEFORE_EFFECT)


@POSTGRESQL
def test_release_is_not_marked_bad_when_connect_was_revoked(demo: DemoSite, site: Site) -> None:
    dba, short = Administrator(demo), quick(site)
    revoke = f'REVOKE CONNECT ON DATABASE "{dba.name}" FROM "{dba.place.owner}"'
    with pytest.raises(ChangeFailedError) as caught:
        upgrade(short, START, lambda: dba.sql(revoke))
    assert caught.value.values["cause_code"] == "NU-4032"
    assert dba.name in str(caught.value) and dba.place.owner in str(caught.value)
    assert (bad_releases(site), strict(demo, site)) == ((), set())
    Operations(short, SilentProgress()).upgrade(NEW)


@contextlib.contextmanager
def restored_afterwards(*statements: str, dba: Administrator) -> Iterator[None]:
    """Undo in the end what would spoil the server for the next test."""
    try:
        yield
    finally:
        dba.sql(*statements)


@POSTGRESQL
def test_revert_names_the_role_without_login(demo: DemoSite, site: Site) -> None:
    dba, short = Administrator(demo), quick(site)
    role = f'ALTER ROLE "{dba.place.owner}"'
    with (
        restored_afterwards(f"{role} LOGIN", dba=dba),
        refused(REVERT_FAILED, match=f"{dba.place.owner}.* can log in"),
    ):
        upgrade(short, START, lambda: dba.sql(f"{role} NOLOGIN"))
    assert bad_releases(site) == ()
    Operations(short, SilentProgress()).resume(by_operator=True)
    assert strict(demo, site) == set()
    Operations(short, SilentProgress()).upgrade(NEW)


@POSTGRESQL
def test_release_is_not_marked_bad_when_the_previous_one_fails_too(
    demo: DemoSite, site: Site, server: EmbeddedPostgres
) -> None:
    """What no catalogue says: pg_hba.conf refuses the application, whatever its rights."""
    dba, short = Administrator(demo), quick(site)
    rules = server.data / "pg_hba.conf"
    before = rules.read_text()

    def load(text: str) -> None:
        loaded = dba.sql("SELECT pg_conf_load_time()")
        rules.write_text(text)
        dba.sql("SELECT pg_reload_conf()")
        while dba.sql("SELECT pg_conf_load_time()") == loaded:
            pass

    try:
        with refused(REVERT_FAILED):
            upgrade(short, START, lambda: load(f"local all {dba.place.owner} reject\n{before}"))
    finally:
        load(before)
    assert bad_releases(site) == ()
    Operations(short, SilentProgress()).resume(by_operator=True)
    assert strict(demo, site) == set()
    Operations(short, SilentProgress()).upgrade(NEW)


@POSTGRESQL
def test_terminated_sessions_are_named(demo: DemoSite, site: Site) -> None:
    dba = Administrator(demo)
    dba.sql("CREATE ROLE backup LOGIN IN ROLE pg_read_all_data")
    dba.sql(f'GRANT CONNECT ON DATABASE "{dba.name}" TO backup')
    held: list[psycopg.Connection[tuple[object, ...]]] = []

    def come() -> None:
        conninfo = dba.place.conninfo(dba.name, "backup")
        held.append(psycopg.connect(f"{conninfo} application_name=pg_dump"))

    try:
        upgrade(site, (StepName.STOP, StepPhase.AFTER_EFFECT), come)
        words = f"pg_dump of backup ({dba.name})"
        assert words in run_text(demo, "status") and words in run_text(
            demo, "history", _latest(site)
        )
    finally:
        held[0].close()
        dba.sql(f'REVOKE ALL ON DATABASE "{dba.name}" FROM backup')


def _latest(site: Site) -> str:
    with Journal.open(site.state_directory / JOURNAL_FILE, read_only=True) as journal:
        return journal.list_changes()[0].id


@pytest.mark.parametrize("demo", ["sqlite"], indirect=True)
def test_missing_database_file_is_not_ignored(demo: DemoSite, site: Site, impatient: None) -> None:
    before = database_digests(demo.databases)
    assert isinstance(demo.databases, SqlitePlace)
    path = Path(demo.databases.address("seizures")).resolve()
    aside = path.with_name("aside")
    with refused(REVERT_FAILED, match="seizures is missing"):
        upgrade(site, BEFORE_CUT_OVER, lambda: path.rename(aside))
    assert site.database_engine.list_leftovers() and "NU-4102" in strict(demo, site)
    aside.rename(path)
    Operations(site, SilentProgress()).resume(by_operator=True)
    assert strict(demo, site) == set() and database_digests(demo.databases) == before
