"""Tests that only a rollback job ends the soak period."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from demo.site import DemoSite, SiteOptions, version_of
from ncen_updater.agent.engine.pending_rollback import find_rollback_job
from ncen_updater.agent.engine.signal_handling import SignalHandler
from ncen_updater.agent.model.change import ChangeKind, ChangeState, StepName, StepState
from ncen_updater.agent.model.change_facts import ChangeFacts
from ncen_updater.agent.model.event_names import JOURNAL_FILE
from ncen_updater.agent.service.soak_preemption import SOAK_ENDED, preempt_soak_for_rollback
from ncen_updater.agent.storage.journal.jobs import JobKind, JobQueue
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import LazyText
from ncen_updater.common.messages import ExitCode
from tests.agent.cli.site import CHANGE, TrialSite, make_site
from tests.support.live_service import AMINA, ServedSite
from tests.support.sites import TrialFeed, connect, serve

WATCHED = (StepName.COMMIT, StepName.MAINTENANCE_OFF)


def commit(site: TrialSite, *steps: StepName) -> None:
    """Bring the open change on, with the steps that are done."""
    with Journal.open(site.journal) as journal:
        for name in steps:
            journal.record_step(CHANGE.id, name, StepState.INTENDED)
            if name is StepName.COMMIT:
                journal.commit_change(CHANGE.id)
            journal.record_step(CHANGE.id, name, StepState.DONE)


def order(site: TrialSite, kind: JobKind = JobKind.ROLLBACK) -> int:
    with Journal.open(site.journal) as journal:
        return JobQueue(journal).enqueue(kind, {}, AMINA)


def found(site: TrialSite) -> int | None:
    with Journal.open(site.journal, read_only=True) as journal:
        given = find_rollback_job(journal)
        return given.id if given else None


@pytest.fixture
def site(tmp_path: Path) -> TrialSite:
    return make_site(tmp_path / "site")


@dataclass(frozen=True)
class Row:
    what: str
    steps: tuple[StepName, ...]
    state: ChangeState | None = None
    ends: bool = False


ROWS = (
    Row("in downtime", (StepName.MAINTENANCE_ON,)),
    Row("committed and still in downtime", (StepName.COMMIT,)),
    Row("in the soak period", WATCHED, ends=True),
    Row("previous databases already pruned", (*WATCHED, StepName.SOAK)),
    Row("it has come to its end", WATCHED, ChangeState.FINISHED),
    Row("it is stuck, which is another matter", WATCHED, ChangeState.STUCK),
)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.what)
def test_rollback_job_ends_the_soak(site: TrialSite, row: Row) -> None:
    site.open_change()
    commit(site, *row.steps)
    if row.state is not None:
        with Journal.open(site.journal) as journal:
            journal.set_change_state(CHANGE.id, row.state)
    order(site, JobKind.CHECK)
    assert found(site) is None, "nobody ordered to go back"
    number = order(site)
    assert found(site) == (number if row.ends else None)


def test_started_job_ends_no_later_soak(site: TrialSite) -> None:
    site.open_change()
    commit(site, *WATCHED)
    number = order(site)
    with Journal.open(site.journal) as journal:
        JobQueue(journal).mark_started(number)
    assert found(site) is None


def test_rollback_is_not_rolled_back_during_its_soak(site: TrialSite) -> None:
    """Typed twice, it would go back two releases."""
    with Journal.open(site.journal) as journal:
        journal.begin_change(replace(CHANGE, kind=ChangeKind.ROLLBACK))
    commit(site, *WATCHED)
    order(site)
    assert found(site) is None
    with Journal.open(site.journal) as journal:
        journal.store_facts(CHANGE.id, ChangeFacts(soak_error=LazyText("it answers 500")))
    assert found(site) is not None


class Played:
    """What watches, played: it waits inside of what gives way, as a command does."""

    def __init__(self, site: TrialSite) -> None:
        self.site, self.interruption = site, SignalHandler()

    def watch(self, until: threading.Event) -> None:
        with (
            self.interruption.handle_signals(),
            preempt_soak_for_rollback(self.site.journal),
            self.interruption.allow_interruption(),
        ):
            assert until.wait(60), "nobody ended it"


def test_end_of_the_soak_is_recorded_first(site: TrialSite) -> None:
    site.open_change()
    commit(site, *WATCHED)
    number = order(site)
    with pytest.raises(UpdaterError) as ended:
        Played(site).watch(threading.Event())
    assert ended.value.code == "NU-9331"
    assert ended.value.values == {"job": number, "who": AMINA.name}
    with Journal.open(site.journal, read_only=True) as journal:
        notes = [event for event in journal.list_events() if event.kind == SOAK_ENDED]
    assert [(note.get("job"), note.get("by")) for note in notes] == [(number, AMINA.name)]


def test_other_jobs_do_not_end_the_soak(site: TrialSite) -> None:
    site.open_change()
    commit(site, *WATCHED)
    order(site, JobKind.CHECK)
    over = threading.Event()
    over.set()
    Played(site).watch(over)


def test_other_interruptions_are_passed_on(site: TrialSite) -> None:
    site.open_change()
    with pytest.raises(UpdaterError) as ended:
        played = Played(site)
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()
        played.watch(threading.Event())
    assert ended.value.code == "NU-6010"


# ---- a real site ---------------------------------------------------------------------------------


@pytest.fixture
def served(tmp_path: Path) -> Iterator[ServedSite]:
    feed = TrialFeed(tmp_path)
    feed.publish(["3.3.0"])
    with serve(feed.directory) as url:
        options = SiteOptions(
            feed_urls=(url,), cases=20, icomm=False, soak_s=3600.0, soak_interval_s=0.1,
            settings={"service": {"timezone": "UTC", "mode": "notify", "required_approvals": 1}},
        )  # fmt: skip
        with DemoSite(tmp_path / "site", None, options) as demo:
            connect(demo, feed)
            demo.start_app()
            site = ServedSite(demo)
            try:
                yield site
            finally:
                site.stop()


def watches(served: ServedSite, kind: ChangeKind) -> bool:
    with served.journal() as journal:
        change = journal.find_open_change()
    soaks = change is not None and StepName.SOAK in change.steps
    return soaks and change is not None and change.kind is kind


def upgrade(served: ServedSite) -> int:
    """Let the service upgrade; returns the order once the release is watched."""
    served.start()
    with Journal.open(served.demo.state / JOURNAL_FILE) as journal:
        number = JobQueue(journal).enqueue(JobKind.UPGRADE, {"by_approver": True}, AMINA)
    served.until("watched", lambda: watches(served, ChangeKind.UPGRADE))
    return number


@pytest.mark.parametrize("killed", ["nobody", "service", "both"])
def test_rollback_during_the_soak_survives_kills(served: ServedSite, killed: str) -> None:
    """Whichever process dies, the job is completed, with one process at a time."""
    before = served.records()
    upgraded = upgrade(served)
    if killed != "nobody":
        # What watches outlives its service, and gives way all the same.
        served.kill(children=killed == "both")
    number = served.order(JobKind.ROLLBACK)
    if killed != "nobody":
        served.start()
    served.until("back, and watched", lambda: watches(served, ChangeKind.ROLLBACK))
    with Journal.open(served.demo.state / JOURNAL_FILE) as journal:
        back = journal.find_open_change()
        assert back is not None
        journal.store_facts(back.id, ChangeFacts(confirmed_by="bo"))
    served.until("gone back", lambda: served.result(number) is not None)
    result = served.result(number)
    assert result is not None
    assert result["exit_code"] == ExitCode.OK, result
    assert served.kinds().count(SOAK_ENDED) == (killed != "both")
    first = served.result(upgraded)
    assert first is not None
    if killed == "nobody":
        assert first["document"]["error"]["code"] == "NU-9331"
    served.until("at rest", served.at_rest)
    assert version_of(served.demo).whole == "3.2.4"
    assert served.judge(before, "3.3.0") == []
