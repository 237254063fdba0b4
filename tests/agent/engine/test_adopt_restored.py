"""Tests of partly lost markers, and of manually restored databases. On both engines."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import psycopg
import pytest
from packaging.version import Version

from demo.databases import PostgresPlace, SqlitePlace
from demo.evidence import database_digests
from demo.site import DemoSite
from ncen_updater.agent.adapters.databases.sqlite.database_sets import DatabaseSets
from ncen_updater.agent.engine import adopt as accepting
from ncen_updater.agent.engine.operations import Operations
from ncen_updater.agent.engine.site import Site
from ncen_updater.agent.model.change import Actor
from ncen_updater.agent.model.errors import InterventionRequiredError
from ncen_updater.agent.model.event_names import JOURNAL_FILE
from ncen_updater.agent.reports.diagnostics.verify import verify_site
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common.messages import (
    APPROVER_IS_SHARED_ACCOUNT,
    MARKERS_DISAGREE,
    NEW_ROWS_WOULD_BE_LOST,
    RELEASE_FILES_ALTERED,
    RELEASE_NOT_ON_DISK,
    RESTORED_DATABASE_MISMATCH,
    STOP_APPLICATION_FIRST,
)
from ncen_updater.common.progress import SilentProgress
from tests.support.errors import refused
from tests.support.forks import run_agent
from tests.support.rotation import either_engine, in_turns

pytestmark = either_engine("demo")

ONE, OTHER, ROOT = Actor("amina", 1001), Actor("bruno", 1002), Actor("root", 0)
OLD, NEW = Version("3.2.4"), Version("3.3.0")


def upgrade(site: Site, version: Version = NEW) -> None:
    Operations(site, SilentProgress()).upgrade(version)


def roll_back(site: Site, accept_loss: int | None = None) -> str:
    done = Operations(site, SilentProgress()).rollback(accept_loss=accept_loss)
    return done.outcomes[0].change.to_version


def findings(site: Site) -> list[str]:
    with Journal.open(site.state_directory / JOURNAL_FILE, read_only=True) as journal:
        return [finding.code for finding in verify_site(site, journal, SilentProgress())]


def kinds(site: Site) -> list[str]:
    with Journal.open(site.state_directory / JOURNAL_FILE, read_only=True) as journal:
        return [event.kind for event in journal.list_events()]


def admin(demo: DemoSite) -> psycopg.Connection[tuple[object, ...]]:
    place = demo.databases
    assert isinstance(place, PostgresPlace)
    return psycopg.connect(place.conninfo("postgres", "postgres"), autocommit=True)


def physical(demo: DemoSite) -> dict[str, str]:
    return dict(demo.databases.names)


def comments(demo: DemoSite) -> list[str]:
    with admin(demo) as connection:
        rows = connection.execute(
            "SELECT shobj_description(oid, 'pg_database') FROM pg_database"
            " WHERE datname = ANY(%s) ORDER BY datname",
            [list(physical(demo).values())],
        )
        return [str(row[0]) for row in rows]


def live_set(demo: DemoSite) -> Path:
    place = demo.databases
    assert isinstance(place, SqlitePlace)
    return DatabaseSets(place.directory, tuple(place.names)).find_live_set()


class Backup:
    """Plain backups of all databases, as an administrator makes and restores them."""

    def __init__(self, demo: DemoSite, site: Site, directory: Path) -> None:
        self.demo, self.site, self.directory = demo, site, directory
        directory.mkdir()
        self.postgresql = isinstance(demo.databases, PostgresPlace)
        if self.postgresql:
            for name in physical(demo).values():
                self._run("pg_dump", "-Fc", "-f", str(directory / name), name)
        else:
            for path in live_set(demo).glob("*.sqlite"):
                shutil.copy2(path, directory / path.name)

    def _run(self, program: str, *words: str) -> None:
        place = self.demo.databases
        assert isinstance(place, PostgresPlace)
        assert place.programs is not None
        where = ["-h", str(place.host), "-U", "postgres"]
        subprocess.run([str(place.programs / program), *where, *words], check=True)

    def restore(self) -> None:
        """Put the databases back under their names: tables and rows, nothing around them."""
        if not self.postgresql:
            for path in self.directory.glob("*.sqlite"):
                shutil.copy2(path, live_set(self.demo) / path.name)
            return
        with admin(self.demo) as connection:
            for name in physical(self.demo).values():
                row = connection.execute(
                    "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = %s", [name]
                ).fetchone()
                assert row is not None
                connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())
                connection.execute(f'CREATE DATABASE "{name}" OWNER "{row[0]}"'.encode())
        for name in physical(self.demo).values():
            self._run("pg_restore", "-d", name, str(self.directory / name))


@pytest.fixture
def backup(demo: DemoSite, site: Site, tmp_path: Path) -> Backup:
    """A backup of 3.2.4, as it was installed."""
    return Backup(demo, site, tmp_path / "backup")


# ---- markers ------------------------------------------------------------------------------------


@in_turns("every")
@pytest.mark.parametrize("demo", ["postgresql"], indirect=True)
@pytest.mark.parametrize("every", [False, True])
def test_marker_replaced_by_a_foreign_comment_is_repaired(
    demo: DemoSite, site: Site, every: bool
) -> None:
    """Seen: a comment of one's own on one database blocked every change for good."""
    upgrade(site)
    names = sorted(physical(demo).values())
    with admin(demo) as connection:
        for name in names if every else names[:1]:
            connection.execute(f"COMMENT ON DATABASE \"{name}\" IS 'mine'".encode())
    assert findings(site) == []
    assert roll_back(site) == str(OLD)
    assert "marker-repaired" in kinds(site)
    assert all(
        mark.startswith("mine") == (every or n == 0) for n, mark in enumerate(comments(demo))
    )
    assert all("release=3.2.4" in mark for mark in comments(demo))


@pytest.mark.parametrize("demo", ["postgresql"], indirect=True)
def test_marker_is_not_repaired_on_a_database_in_another_state(demo: DemoSite, site: Site) -> None:
    upgrade(site)
    name = sorted(physical(demo).values())[0]
    with admin(demo) as connection:
        connection.execute(f"COMMENT ON DATABASE \"{name}\" IS 'mine'".encode())
    place = demo.databases
    assert isinstance(place, PostgresPlace)
    with psycopg.connect(place.conninfo(name, "postgres"), autocommit=True) as inside:
        inside.execute("UPDATE ncen_updater.state SET generation = 77")
    with refused(MARKERS_DISAGREE):
        roll_back(site)
    assert "mine" in comments(demo)


@pytest.mark.parametrize("demo", ["sqlite"], indirect=True)
def test_lost_record_file_is_repaired(demo: DemoSite, site: Site) -> None:
    upgrade(site)
    live = live_set(demo)
    (site.state_directory / "databases" / "sets" / f"{live.name}.json").unlink()
    assert findings(site) == []
    assert roll_back(site) == str(OLD)
    assert "marker-repaired" in kinds(site)


def test_dumped_and_restored_site_continues(demo: DemoSite, site: Site, tmp_path: Path) -> None:
    """Seen: a plain dump and restore of a healthy site ended in NU-6013 for ever."""
    upgrade(site)
    before = database_digests(demo.databases)
    Backup(demo, site, tmp_path / "now").restore()
    assert findings(site) == []
    assert database_digests(demo.databases) == before
    if isinstance(demo.databases, PostgresPlace):
        # A restore writes every row again, also those that the release had brought itself.
        with refused(NEW_ROWS_WOULD_BE_LOST) as error:
            roll_back(site)
        assert roll_back(site, int(str(error.value.values["count"]))) == str(OLD)
    else:
        assert roll_back(site) == str(OLD)


# ---- restored on purpose ------------------------------------------------------------------------


def taken(site: Site, release: Version, *people: Actor) -> bool:
    """What the command does for each person."""
    for who in people:
        with Operations(site, SilentProgress()).lock_site("adopt-restored") as journal:
            found = accepting.inspect_restored(site, journal, release, SilentProgress())
            said = accepting.approve_restored(journal, found, who, f"as {who.name} knows")
            if said:
                accepting.adopt_restored(site, journal, found, said)
    return bool(said)


def test_databases_restored_from_before_the_upgrade_are_adopted_by_two_approvers(
    demo: DemoSite, site: Site, backup: Backup
) -> None:
    """Seen: no command led out of databases that were restored from before the upgrade."""
    before = database_digests(demo.databases)
    upgrade(site)
    demo.stop_app()
    backup.restore()
    with refused(InterventionRequiredError, MARKERS_DISAGREE):
        roll_back(site)
    assert taken(site, OLD, ONE, ONE) is False, "one person is not two"
    assert site.slots.read_current() == NEW
    assert taken(site, OLD, OTHER) is True
    assert site.slots.read_current() == OLD
    assert findings(site) == []
    assert database_digests(demo.databases) == before
    demo.start_app()
    upgrade(site)
    assert site.slots.read_current() == NEW
    assert findings(site) == []


def test_photographs_get_the_paths_of_the_old_release(
    demo: DemoSite, site: Site, backup: Backup
) -> None:
    """The newer release had moved them; those that users added since stay."""
    old = demo.photos / "old.jpg"
    old.write_bytes(b"as it was")
    upgrade(site)
    old.rename(demo.photos / "moved.jpg")
    (demo.photos / "added.jpg").write_bytes(b"by an officer")
    demo.stop_app()
    backup.restore()
    assert taken(site, OLD, ONE, OTHER)
    assert old.read_bytes() == b"as it was"
    assert (demo.photos / "moved.jpg").exists()
    assert (demo.photos / "added.jpg").read_bytes() == b"by an officer"
    assert "previous-paths-restored" in kinds(site)


def test_root_cannot_adopt_restored_databases(demo: DemoSite, site: Site, backup: Backup) -> None:
    upgrade(site)
    demo.stop_app()
    backup.restore()
    with refused(APPROVER_IS_SHARED_ACCOUNT):
        taken(site, OLD, ROOT)


@pytest.mark.parametrize(
    ("had", "left", "said"),
    [
        ({OLD}, None, "yes"),
        ({OLD, NEW}, None, "yes"),
        ({OLD}, "0001", "yes"),  # a backup from before the ledger existed
        ({NEW}, None, "its schema is that of release 3.3.0"),
        (set(), None, "not to be seen"),
        (set(), "0002", "migration 0002 of this release is not applied"),
    ],
)
def test_database_origin_is_classified(had: set[Version], left: str | None, said: str) -> None:
    found = accepting.match_release(OLD, had, left)
    words = "yes" if found.verified else str(found.mismatch or "not to be seen")
    assert words == said


def test_unsuitable_adoption_is_refused(demo: DemoSite, site: Site, backup: Backup) -> None:
    upgrade(site)
    with refused(RELEASE_NOT_ON_DISK):
        taken(site, Version("3.3.3"), ONE)
    with refused(STOP_APPLICATION_FIRST):
        taken(site, OLD, ONE)
    altered = site.slots.get_slot_directory(OLD) / "app/bin/ncenctl"
    mode = altered.stat().st_mode
    altered.chmod(0o700)
    with refused(RELEASE_FILES_ALTERED, match="app/bin/ncenctl"):
        taken(site, OLD, ONE)
    altered.chmod(mode)
    demo.stop_app()
    with refused(RESTORED_DATABASE_MISMATCH):
        taken(site, OLD, ONE)  # nothing was restored: these are of 3.3.0
    backup.restore()
    with refused(RESTORED_DATABASE_MISMATCH):
        taken(site, NEW, ONE)
    assert site.slots.read_current() == NEW


def test_interrupted_adoption_is_completed_by_either_approver(
    demo: DemoSite, site: Site, backup: Backup, monkeypatch: pytest.MonkeyPatch
) -> None:
    upgrade(site)
    demo.stop_app()
    backup.restore()
    assert not taken(site, OLD, ONE)

    def cut(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "record_event", cut)
        with pytest.raises(KeyboardInterrupt):
            taken(site, OLD, OTHER)
    with pytest.raises(InterventionRequiredError):
        roll_back(site)
    assert taken(site, OLD, ONE)
    assert findings(site) == []


def test_dry_run_reports_the_recorded_approval(demo: DemoSite, site: Site, backup: Backup) -> None:
    upgrade(site)
    demo.stop_app()
    backup.restore()
    ended = run_agent(
        "--config", str(demo.config_path), "--json", "--quiet", "adopt", "3.2.4",
        "--restored", "--dry-run", environment=os.environ,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    said = json.loads(ended.stdout)
    assert (said["release"], said["sets_current"], said["adopted"]) == ("3.2.4", True, False)
    assert said["missing"] == 2
    plain = run_agent(
        "--config", str(demo.config_path), "--quiet", "adopt", "3.2.4", "--restored", "--dry-run",
        environment=os.environ,
    )  # fmt: skip
    assert "Your approval would be recorded; approvals missing after it: 1." in plain.stdout


def test_reason_is_requested_and_shown_to_the_second_approver(demo: DemoSite, site: Site) -> None:
    upgrade(site)
    words = ("--config", str(demo.config_path), "--json", "--quiet", "adopt", "3.3.0", "--restored")
    sudo = {**os.environ, "SUDO_UID": "1001", "SUDO_USER": "amina"}  # where root runs the tests
    for without in ((), ("--reason", " \n")):
        ended = run_agent(*words, "--yes", *without, environment=sudo)
        assert (ended.returncode, "--reason" in ended.stdout) == (2, True)
    first = run_agent(*words, "--yes", "--reason", "an index\nof ours", environment=sudo)
    assert first.returncode == 4, first.stderr
    seen = json.loads(run_agent(*words, "--dry-run", environment=sudo).stdout)
    assert (len(seen["approvers"]), seen["reasons"]) == (1, ["an index of ours"])
