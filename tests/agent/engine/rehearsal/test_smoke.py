"""Tests of running the code of a release on the migrated copies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.site import DemoSite, digests
from ncen_updater.agent.engine.rehearsal.rehearsal_store import RehearsalStore
from ncen_updater.agent.model.event_names import JOURNAL_FILE
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common.messages import REHEARSAL_FAILED
from tests.agent.engine.trial_releases import (
    FIRST,
    operations,
    rehearse,
    release,
    served_feed,
    site_on,
    write_program,
)
from tests.support.errors import refused
from tests.support.migrators import not_as_root
from tests.support.rotation import either_engine
from tests.support.sites import TrialFeed

pytestmark = [not_as_root, either_engine("demo")]

WELL, UNWELL, SLOW = "3.4.1", "3.4.2", "3.4.3"
#: What the program of each asks, after the migrations made the table.
ASKS = {
    WELL: ["SELECT id FROM came_with_new"],
    UNWELL: ["SELECT nothing FROM came_with_new"],
    SLOW: [],
}


def smoking(directory: Path, version: str) -> Path:
    made = release(directory, version, "schema")
    program = made / "bin" / "smoke.py"
    write_program(program, ASKS[version])
    if version == SLOW:
        program.write_text(program.read_text() + "import time\ntime.sleep(600)\n")
    manifest = made / "manifest.toml"
    told = f'\n[smoke]\nargv = ["bin/smoke.py"]\ntimeout_s = {5 if version == SLOW else 60}\n'
    manifest.write_text(manifest.read_text() + told)
    return made


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TrialFeed, str]]:
    directory = tmp_path_factory.mktemp("feed")
    built = [smoking(directory / "sources", version) for version in ASKS]
    with served_feed(directory / "feed", built, [FIRST]) as served:
        yield served


@pytest.fixture(params=["postgresql", "sqlite"])
def demo(
    request: pytest.FixtureRequest, tmp_path: Path, feed: tuple[TrialFeed, str]
) -> Iterator[DemoSite]:
    with site_on(request, tmp_path, feed) as site:
        yield site


def test_smoke_test_distinguishes_working_from_broken_releases(demo: DemoSite) -> None:
    operations(demo)  # reads the feed
    before = digests(demo)
    assert rehearse(demo, WELL)["to_version"] == WELL
    for version, how in ((UNWELL, "exit code 1"), (SLOW, "timed out after 5 s")):
        with refused(REHEARSAL_FAILED, match=f"smoke.py.*{how}") as caught:
            rehearse(demo, version)
        assert caught.value.values["cause_code"] == "NU-6076"
        with Journal.open(demo.state / JOURNAL_FILE, read_only=True) as journal:
            (found, *_) = RehearsalStore(journal).list_newest()
        assert found.to_version == version and found.failure is not None
        assert found.failure.release_at_fault, "it is not tried again by itself"
    assert digests(demo) == before
