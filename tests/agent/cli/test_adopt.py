"""Tests of ``adopt`` as a real process: application and databases prevail over the argument."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from demo.databases import SqlitePlace
from demo.site import DemoSite, SiteOptions
from ncen_updater.agent.engine.observed_state import ADOPTED, read_recorded_state
from ncen_updater.agent.model.event_names import JOURNAL_FILE
from ncen_updater.agent.storage.journal.journal import Journal
from tests.agent.cli.live import PROGRAM, LiveSite, live_site
from tests.agent.cli.terminal_run import run_on_terminal
from tests.support.sites import TrialFeed, serve

OLD, NEW = "3.2.4", "3.3.0"
DOWN = "--application-is-down"


def code_of(live: LiveSite, *arguments: str) -> tuple[int, str | None]:
    """Exit code and the code of the error."""
    done = live.run(*arguments, "--json")
    return done.returncode, (json.loads(done.stdout).get("error") or {}).get("code")


def test_mistyped_version_is_not_adopted(tmp_path: Path) -> None:
    with live_site(tmp_path, (OLD, NEW), soak_s=0.1) as live:
        demo, before = live.demo, live.facts()
        assert code_of(live, "adopt", NEW) == (3, "NU-6063")  # 'current' leads elsewhere
        demo.current.unlink()  # as on a site that was installed into another place
        for more in ((), ("--dry-run",), (DOWN,)):
            done = live.run("adopt", NEW, *more)
            assert (done.returncode, "NU-6060" in done.stderr) == (3, True), done.stderr
            assert f"ncen-updater adopt {OLD}" in done.stderr
            assert "Run sudo ncen-updater adopt again." in done.stderr
        assert not demo.current.is_symlink() and not (demo.state / JOURNAL_FILE).exists()

        demo.current.symlink_to(demo.slots / OLD)
        demo.stop_app()
        demo.current.unlink()
        assert code_of(live, "adopt", NEW, DOWN) == (3, "NU-6061")  # the databases contradict
        assert code_of(live, "adopt", NEW) == (3, "NU-6061")
        assert code_of(live, "adopt", OLD) == (3, "NU-6062")  # not reported by the application
        dry = live.run("adopt", OLD, "--dry-run")
        assert (dry.returncode, DOWN in dry.stdout) == (0, True), dry.stderr
        assert not demo.current.is_symlink() and not (demo.state / JOURNAL_FILE).exists()

        asks = "type its version"
        command = [*PROGRAM, "adopt", OLD]
        for answer, exit_code in ((NEW, 4), ("yes", 2), (OLD, 0)):
            got, shown = run_on_terminal(command, live.environment(), {asks: answer})
            assert got == exit_code, shown
        demo.start_app()
        assert live.facts() == before
        assert live.run("verify").returncode == 0


def test_adoption_uses_the_reported_version_and_restores_a_lost_journal(tmp_path: Path) -> None:
    with live_site(tmp_path, (OLD, NEW), soak_s=0.1) as live:
        done = live.run("adopt", f"v{OLD}.0", "--dry-run")
        assert f"Version reported by the application: {OLD}" in done.stdout, done.stderr
        done = live.run("adopt", f"v{OLD}.0")  # the same release
        assert f"Adopted: ncen {OLD}\n" in done.stdout, done.stderr
        assert code_of(live, "adopt", OLD) == (1, "NU-6017")
        assert live.run("upgrade", "--yes").returncode == 0
        before = live.facts()
        assert before[0] == NEW
        assert code_of(live, "adopt", NEW) == (1, "NU-6065")  # too late to correct it
        journal = live.demo.state / JOURNAL_FILE
        kept = journal.rename(journal.with_name("kept"))
        for more in ((), (DOWN,), ("--dry-run",)):
            assert code_of(live, "adopt", NEW, *more) == (12, "NU-6064")
        assert not journal.exists()
        kept.rename(journal)
        assert live.facts() == before


@pytest.fixture
def newer(tmp_path: Path) -> Iterator[LiveSite]:
    """A site that was installed by hand with 3.3.0, and does not run."""
    feed = TrialFeed(tmp_path)
    feed.publish((OLD, NEW))
    with serve(feed.directory) as url:
        options = SiteOptions(feed_urls=(url,), version=NEW, cases=0, icomm=False)
        with DemoSite(tmp_path / "site", None, options) as demo:
            shutil.copyfile(feed.root, demo.trusted_root)
            demo.current.unlink()
            assert isinstance(demo.databases, SqlitePlace)
            for path in (demo.databases.directory / "sets" / "base").glob("*.sqlite"):
                with closing(sqlite3.connect(path)) as database:
                    for table in ("ledger", "state", "alembic_version"):
                        database.execute(f"DROP TABLE IF EXISTS ncen_updater_{table}")
            yield LiveSite(demo, feed.directory)


def test_mistaken_adoption_is_correctable_before_the_first_change(newer: LiveSite) -> None:
    demo = newer.demo
    mistaken = newer.run("adopt", OLD, DOWN)  # its checks cannot tell, and a person said so
    assert mistaken.returncode == 0, mistaken.stderr
    assert newer.run("verify").returncode == 0
    assert demo.current.readlink().name == OLD
    done = newer.run("adopt", NEW, DOWN)
    assert done.returncode == 0, done.stderr
    assert f"Replaces the adoption of {OLD}." in done.stdout
    assert demo.current.readlink().name == NEW
    demo.start_app()
    assert newer.run("verify").returncode == 0
    again = newer.run("adopt", OLD)
    assert (again.returncode, "NU-6060" in again.stderr) == (3, True)
    with Journal.open(demo.state / JOURNAL_FILE, read_only=True) as journal:
        said = [event.data for event in journal.list_events() if event.kind == ADOPTED]
        assert read_recorded_state(journal).fingerprints == said[-1]["fingerprints"]
        assert read_recorded_state(journal).schema_kinds == said[-1]["schema_kinds"] != {}
    assert [(row["release"], row.get("corrects")) for row in said] == [(OLD, None), (NEW, OLD)]
    assert "Available" not in newer.run("check").stdout
