"""Tests of releases with a build number that the application does not report."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.version import Version

from demo.site import DemoSite
from ncen_updater.agent.engine.operations import Operations
from ncen_updater.agent.model.change import ChangeState, StepName, StepPhase
from ncen_updater.agent.model.errors import ChangeFailedError
from ncen_updater.agent.model.event_names import JOURNAL_FILE
from ncen_updater.agent.reports.diagnostics.doctor import diagnose
from ncen_updater.agent.reports.diagnostics.verify import verify_site
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.site_history import SiteHistory
from ncen_updater.agent.storage.slots.link import switch_current
from ncen_updater.common.progress import SilentProgress
from tests.agent.engine.site_views import Killed
from tests.agent.engine.trial_releases import operations, release, run_text, served_feed, site_on
from tests.support.sites import TrialFeed, site_in_process

REPORTED = "3.2.5"
ONE, TWO, UNWELL = "3.2.5+1", "3.2.5+2", "3.2.5.post3"


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TrialFeed, str]]:
    sources = tmp_path_factory.mktemp("sources")
    built = [release(sources, version, None, REPORTED) for version in (ONE, TWO, UNWELL)]
    (built[-1] / "app" / "fault.toml").write_text("never-healthy = true\n", "utf-8")
    with served_feed(tmp_path_factory.mktemp("feed"), built) as found:
        yield found


@pytest.fixture(params=["sqlite"])
def demo(
    request: pytest.FixtureRequest, tmp_path: Path, feed: tuple[TrialFeed, str]
) -> Iterator[DemoSite]:
    """A site of the first build."""
    with site_on(request, tmp_path, feed) as site:
        operations(site).upgrade(Version(ONE))
        yield site


def pid(demo: DemoSite) -> str:
    return (demo.run / "ncen.pid").read_text("ascii").split()[0]


def code_of(process: str, demo: DemoSite) -> str:
    """The slot whose program a process is."""
    words = Path("/proc", process, "cmdline").read_bytes().decode().split("\0")
    (program,) = [word for word in words if word.startswith(str(demo.slots))]
    return Path(program).relative_to(demo.slots).parts[0]


def test_build_number_is_accepted_by_every_check(demo: DemoSite) -> None:
    """Health, preflight, status, doctor, verify and soak take the answer for the build's own."""
    done = operations(demo).upgrade(Version(TWO))
    assert done.outcomes[-1].change.state is ChangeState.FINISHED
    assert site_in_process(demo).slots.read_current() == Version(TWO)
    assert code_of(pid(demo), demo) == TWO
    words = run_text(demo, "status")
    assert "Status: running" in words and "mismatch" not in words
    site = site_in_process(demo)
    with Journal.open(demo.state / JOURNAL_FILE, read_only=True) as journal:
        assert verify_site(site, journal, SilentProgress()) == ()
    diagnosed = diagnose(demo.config_path, SilentProgress())
    assert not {"NU-6310", "NU-6128"} & {finding.code for finding in diagnosed}
    operations(demo).rollback()
    assert site_in_process(demo).slots.read_current() == Version(ONE)
    assert code_of(pid(demo), demo) == ONE


def test_unhealthy_build_is_blamed(demo: DemoSite) -> None:
    """It answers as the previous build would; no other one ran, so the answer is its own."""
    with pytest.raises(ChangeFailedError):
        operations(demo).upgrade(Version(UNWELL))
    with Journal.open(demo.state / JOURNAL_FILE, read_only=True) as journal:
        assert [bad.version for bad in SiteHistory(journal).list_bad_releases()] == [UNWELL]
    assert site_in_process(demo).slots.read_current() == Version(ONE)
    assert code_of(pid(demo), demo) == ONE


def test_previous_build_does_not_pass_for_the_new_one(demo: DemoSite) -> None:
    """The agent is killed after the commit, and the previous build is started manually."""

    def strike(step: StepName, phase: StepPhase) -> None:
        if (step, phase) == (StepName.MAINTENANCE_OFF, StepPhase.BEFORE_EFFECT):
            raise Killed

    with pytest.raises(Killed):
        operations(demo, strike).upgrade(Version(TWO))
    demo.stop_app()
    switch_current(demo.slots, demo.current, Version(ONE))
    demo.start_app()
    switch_current(demo.slots, demo.current, Version(TWO))
    assert code_of(pid(demo), demo) == ONE
    Operations(site_in_process(demo), SilentProgress()).resume(by_operator=True)
    assert not demo.maintenance_file.exists()
    assert code_of(pid(demo), demo) == TWO
