"""Tests of one status in ``--json``, interface, metrics, notifications and errors, over many sites.

``status_documents.json`` has what was said of a site at rest, and of every other site what is said
otherwise. After a change that is meant, write it again and read the difference:

    .venv/bin/python -m tests.agent.test_status_documents
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ncen_updater.agent.cli.main import _describe_state
from ncen_updater.agent.cli.session import AgentSession
from ncen_updater.agent.config.loader import load_config
from ncen_updater.agent.engine.approvals.approval_store import ApprovalStore
from ncen_updater.agent.engine.approvals.rollback_approvals import (
    approve_rollback,
    find_rollback_to_approve,
)
from ncen_updater.agent.engine.pending_rollback import MAX_ATTEMPTS
from ncen_updater.agent.engine.rehearsal.rehearsal_store import RehearsalState, RehearsalStore
from ncen_updater.agent.engine.rehearsal.report import RehearsalCopyPlans
from ncen_updater.agent.model.change import Actor, ChangeKind, ChangeState, StepName, StepState
from ncen_updater.agent.model.change_facts import NO_FACTS, ChangeFacts
from ncen_updater.agent.policy.automation import RehearsalStatus
from ncen_updater.agent.policy.availability import Availability, AvailabilityState, HealthAnswer
from ncen_updater.agent.reports.diagnostics.support_bundle.contents import BundleCollector
from ncen_updater.agent.service.notifications.metrics import collect_metrics, render_metrics
from ncen_updater.agent.service.notifications.notifier import Notifier
from ncen_updater.agent.service.snapshot import SnapshotStore
from ncen_updater.agent.storage.agent_selection import AgentSelection, FailedAgent
from ncen_updater.agent.storage.journal.jobs import JobKind, JobQueue
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.site_history import SiteHistory
from ncen_updater.agent.storage.service_state import ServiceState
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import LazyText
from ncen_updater.common.messages import INTERRUPTED
from ncen_updater.common.progress import SilentProgress
from ncen_updater.feed.trust_state import TrustStateStore
from tests.agent.cli.site import CHANGE, make_site
from tests.agent.service.api.conftest import BASIS, BINDING, NEXT, NOW, SETTINGS, Counter
from tests.agent.service.notifications.test_notifier import NOTIFY, REPORT

HELD = Path(__file__).with_name("status_documents.json")
DAY = timedelta(days=1)
NEVER = "min_free_percent = 0\n"  # disk values are left out of sent documents here
AMINA, BO = Actor("amina", 1001), Actor("bo", 1002)
BACK = replace(
    CHANGE, id="bbbbbbbb", kind=ChangeKind.ROLLBACK, from_version="3.3.0", to_version="3.2.4"
)


@dataclass
class Stage:
    """One site that a row of the table may change."""

    counter: Counter

    @property
    def root(self) -> Path:
        return self.counter.site.root

    @contextmanager
    def journal(self) -> Iterator[Journal]:
        with Journal.open(self.counter.site.journal, now=lambda: NOW - DAY) as journal:
            yield journal

    def change(self, state: ChangeState = ChangeState.RUNNING, code: str | None = None) -> None:
        with self.journal() as journal:
            over = state in (ChangeState.COMMITTED, ChangeState.FINISHED)
            journal.begin_change(CHANGE, ChangeFacts(downtime_s=17.5) if over else NO_FACTS)
            for name in (StepName.FETCH, StepName.COPY):
                journal.record_step(CHANGE.id, name, StepState.INTENDED)
            journal.record_step(CHANGE.id, StepName.FETCH, StepState.DONE)
            if over:
                journal.record_step(CHANGE.id, StepName.COPY, StepState.DONE)
                journal.commit_change(CHANGE.id)
            if state not in (ChangeState.RUNNING, ChangeState.COMMITTED):
                journal.set_change_state(CHANGE.id, state, error_code=code)

    def pending_rollback(self, tries: int) -> None:
        self.change(ChangeState.FINISHED)
        with self.journal() as journal:
            journal.store_facts(CHANGE.id, ChangeFacts(soak_error=LazyText("status 503")))
            for number in range(tries):
                change = replace(BACK, id=f"bbbbbbb{'abcdefgh'[number]}")
                journal.begin_change(change, ChangeFacts(failed_soak_upgrade=CHANGE.id))
                journal.set_change_state(
                    change.id, ChangeState.REVERTED, error_code=INTERRUPTED.code
                )

    def next(self, **more: Any) -> None:
        with self.journal() as journal:
            event = journal.read_last_event_number()
        self.counter.keeper.save(
            ServiceState(replace(NEXT, last_event=event, **more), NOW - DAY, NOW + DAY)
        )

    def rehearsed(self, *people: Actor, **more: Any) -> None:
        with self.journal() as journal:
            RehearsalStore(journal).record_start("rrrrrrrr", "3.2.4", "3.3.0", RehearsalCopyPlans())
            RehearsalStore(journal).record_end(
                "rrrrrrrr", RehearsalState.PASSED, basis=BASIS, result=REPORT
            )
            for person in people:
                ApprovalStore(journal).add(BINDING, "3.3.0", BASIS, person)
        self.next(**more)

    def view(self, **more: object) -> None:
        path = self.root / "state" / "feed" / "ncen.json"
        path.parent.mkdir()
        view = {
            "schema": 1, "checked_at": (NOW - DAY).isoformat(),
            "expires_at": (NOW + 30 * DAY).isoformat(), "version": 3,
            "versions": ["3.2.4", "3.3.0"], "withdrawn": [], "offers": [], **more,
        }  # fmt: skip
        path.write_text(json.dumps(view))


def _write(what: Callable[[Journal], object]) -> Callable[[Stage], None]:
    def make(stage: Stage) -> None:
        with stage.journal() as journal:
            what(journal)

    return make


def _hold(until: datetime | None) -> Callable[[Stage], None]:
    return _write(lambda journal: SiteHistory(journal).add_hold("fair", "amina", until))


def _waits(stage: Stage) -> None:
    stage.change(ChangeState.COMMITTED)
    with stage.journal() as journal:
        journal.store_facts(CHANGE.id, ChangeFacts(needs_operator=True))


def _rollback_change(stage: Stage) -> None:
    stage.change(ChangeState.FINISHED)
    stage.counter.site.use("3.3.0")
    with stage.journal() as journal:
        for person, loss in ((AMINA, 7), (BO, 5)):
            approve_rollback(
                journal, find_rollback_to_approve(journal, "3.3.0", 2), person, accept_loss=loss
            )


def _scheduled(stage: Stage) -> None:
    stage.rehearsed(AMINA, BO)
    with stage.journal() as journal:
        ApprovalStore(journal).set_schedule(BINDING, "3.3.0", NOW + timedelta(hours=5), AMINA)
    stage.next()


def _lists(stage: Stage) -> None:
    metadata = stage.root / "state" / "metadata"
    metadata.mkdir()
    signed = {"signed": {"expires": (NOW + 9 * DAY).isoformat()}}
    (metadata / "timestamp.json").write_text(json.dumps(signed))
    (metadata / "snapshot.json").write_text("{")
    (metadata / "1.root.json").write_text(json.dumps(signed))


def _agent(stage: Stage) -> None:
    config = load_config(stage.counter.site.config)
    directory = config.paths.resolve(config.paths.agent_slots)
    directory.mkdir(parents=True)
    sequence = AgentSelection("1.0", failed={"1.1": FailedAgent(1, NOW - DAY)})
    (directory / "sequence.json").write_text(json.dumps(sequence.to_json()))


def _astray(stage: Stage) -> None:
    (stage.root / "current").unlink()
    (stage.root / "current").symlink_to("/elsewhere/3.3.0")


def _never(stage: Stage) -> None:
    (stage.root / "current").unlink()
    stage.counter.site.journal.unlink()


def _both(*makes: Callable[[Stage], object]) -> Callable[[Stage], None]:
    def make(stage: Stage) -> None:
        for one in makes:
            one(stage)

    return make


def _changed(state: ChangeState) -> Callable[[Stage], None]:
    return lambda stage: stage.change(state)


def _signed_at(moment: datetime) -> Callable[[Stage], None]:
    def make(stage: Stage) -> None:
        memory = TrustStateStore(stage.root / "state")
        memory.update(lambda before: replace(before, clock_floor=moment))

    return make


SITES: Mapping[str, Callable[[Stage], object]] = {
    "at rest": lambda stage: None,
    "never adopted": _never,
    "adopted": _write(lambda journal: journal.record_event("adopted", release="3.2.4")),
    **{f"a change is {state}": _changed(state) for state in ChangeState},
    "undone after a failure": lambda s: s.change(ChangeState.REVERTED, "NU-6008"),
    "a release waits for a person": _waits,
    "a rollback is pending": lambda s: s.pending_rollback(1),
    "a pending rollback is given up": lambda s: s.pending_rollback(MAX_ATTEMPTS),
    "on hold": _hold(None),
    "on hold until tomorrow": _hold(NOW + DAY),
    "the hold has ended": _hold(NOW - timedelta(hours=1)),
    "a bad release": _write(lambda j: SiteHistory(j).mark_bad("ncen", "3.3.0", "NU-6008", None)),
    "a release is next": lambda s: s.next(
        rehearsal_status=RehearsalStatus.MISSING, binding="", basis=None, slot_built=False
    ),
    "nothing is next": lambda s: s.next(target=None, binding="", basis=None),
    "a rehearsal was interrupted": _write(
        lambda j: RehearsalStore(j).record_start("rrrrrrrr", "a", "b", RehearsalCopyPlans())
    ),
    "rehearsed": lambda s: s.rehearsed(),
    "one of two approved": lambda s: s.rehearsed(AMINA),
    "approved": lambda s: s.rehearsed(AMINA, BO),
    "approved and scheduled": _scheduled,
    "approved, on hold": _both(lambda s: s.rehearsed(AMINA, BO), _hold(None)),
    "a rollback is approved": _rollback_change,
    "an approval is void": lambda s: s.rehearsed(
        AMINA,
        binding="",
        basis=None,
        rehearsal_status=RehearsalStatus.OUTDATED,
        void_reasons=(LazyText("the upgrade path changed"),),
    ),
    "a job was queued": _write(lambda j: JobQueue(j).enqueue(JobKind.CHECK, {}, AMINA)),
    "a list": lambda s: s.view(),
    "metadata expires soon": lambda s: s.view(expires_at=(NOW + 4 * DAY).isoformat()),
    "metadata has expired": lambda s: s.view(expires_at=(NOW - DAY).isoformat()),
    "the clock is days behind what was signed": _signed_at(NOW + 2 * DAY),
    "the clock is years ahead of it": _signed_at(NOW - 500 * DAY),
    "what runs is withdrawn": lambda s: s.view(
        withdrawn=["3.2.4"], notices={"3.2.4": {"reason": "loses", "advice": "go back"}}
    ),
    "the list is damaged": lambda s: s.view(version="x"),
    "signed lists": _lists,
    "an agent was given up": _agent,
    "the maintenance page is shown": lambda s: (s.root / "door").touch(),
    "the link leads astray": _astray,
    "astray, with a list": _both(_astray, lambda s: s.view()),
    "the journal is damaged": lambda s: s.counter.site.journal.write_bytes(b"no journal" * 100),
    "the journal is missing": lambda s: s.counter.site.journal.unlink(),
    "the notes are damaged": lambda s: (s.root / "state/service/state.json").write_text("{"),
}
#: What users meet, at sites that are like the first one otherwise.
OFFICERS: Mapping[str, Availability] = {
    "users can work": Availability(
        AvailabilityState.AVAILABLE, NOW - DAY, True, HealthAnswer.HEALTHY, "3.2.4"
    ),
    "another release answers": Availability(
        AvailabilityState.AVAILABLE, None, True, HealthAnswer.OTHER_VERSION, "3.3.0"
    ),
    "a database is away": Availability(
        AvailabilityState.UNHEALTHY, None, True, HealthAnswer.HTTP_ERROR, "503"
    ),
    "the application was stopped": Availability(
        AvailabilityState.NOT_RUNNING,
        NOW - DAY,
        False,
        HealthAnswer.NO_ANSWER,
        "Connection refused",
    ),
    "the application cannot be probed": Availability(
        AvailabilityState.UNKNOWN, unknown_because="Access denied"
    ),
}
#: Sites for which something has to last while they are looked at.
LASTING = ("the configuration is gone", "the disk is full", "another operation is in progress")


def _flat(value: object, path: str = "") -> Iterator[tuple[str, object]]:
    """Yield what stands in a document down to the third storey, what is deeper as a whole."""
    if not isinstance(value, dict) or path.count(".") > 1 or "error" in value:
        yield path, value
        return
    for key, item in value.items():
        yield from _flat(item, f"{path}.{key}" if path else str(key))


def describe_site(directory: Path, name: str) -> dict[str, object]:
    """Every displayed value of one site, by its place."""
    site = make_site(directory / "site")
    with site.config.open("a") as config_file:
        config_file.write(
            f"{NOTIFY.replace(NEVER, '')}[service]\nrequired_approvals = 2\ntimezone = 'UTC'\n"
        )
        config_file.write("windows = [{start = '04:00', end = '12:00'}]\n")
    counter = Counter(site, SnapshotStore(SETTINGS, lambda: NOW))
    stage = Stage(counter)
    if name in SITES:
        SITES[name](stage)
    free = 5 if name == "the disk is full" else 500
    disk = SimpleNamespace(f_frsize=2**20, f_blocks=1000, f_bavail=free)
    config = load_config(site.config)
    looks: list[Any] = []
    teller = Notifier(
        site.config, config,
        send=lambda message: "NU-9999", now=lambda: NOW, on_status=lambda *seen: looks.append(seen),
    )  # fmt: skip
    sessions = [AgentSession("ncen-updater", site.config) for _ in range(2)]
    sessions[1].open_site()
    gatherer = BundleCollector(site.config, SilentProgress(), NOW)
    if name == "the configuration is gone":
        site.config.rename(directory / "away")
    with pytest.MonkeyPatch.context() as patch, (site.state / "change.lock").open("w+") as lock:
        patch.setattr(os, "statvfs", lambda place: disk)
        if name in OFFICERS:
            patch.setattr(
                "ncen_updater.agent.adapters.application.availability_probe.probe_availability",
                lambda _: OFFICERS[name],
            )
        if name == "another operation is in progress":
            lock.write("upgrade, process 7")
            lock.flush()
            fcntl.flock(lock, fcntl.LOCK_EX)
        found: dict[str, Any] = {
            "status": counter.ask("GET", "/v1/status").document,
            "next_upgrade": counter.ask("GET", "/v1/next-upgrade").document,
        }
        teller.run_round()
        told_of, situation, outbox = looks[0]
        metrics = render_metrics(
            collect_metrics(
                told_of, situation, outbox, agent_version="1", runs={}, status_read_at=NOW
            )
        )
        found["notifications"] = {
            item.kind.value: dict(item.values) for item in outbox.notifications.values()
        }
        found["metrics"] = {
            name.removeprefix("ncen_updater_"): float(value)
            for line in metrics.splitlines() if line[0] != "#"
            for name, value in [line.rsplit(" ", 1)]
        }  # fmt: skip
        found["bundle"] = json.loads(gatherer._collect_site())
        for session, deep in zip(sessions, ("light", "deep"), strict=True):
            try:
                sentences = [str(text) for text in _describe_state(session, UpdaterError())]
            except UpdaterError as error:
                sentences = [str(error)]
            found[deep] = sentences
    del found["status"]["you"]
    text = json.dumps(dict(_flat(found)), default=str).replace(str(site.root), "ROOT")
    # The head of the chain is another one each time: it covers the time.
    text = re.sub(r'(\d:|hash=\\")[0-9a-f]{64}', r"\1<hash>", text)
    return json.loads(text)  # type: ignore[no-any-return]


def differing(base: Mapping[str, object], found: Mapping[str, object]) -> dict[str, object]:
    """Differing values; ``-`` in front of missing ones."""
    more = {key: value for key, value in found.items() if key not in base or base[key] != value}
    gone = [key for key in base if key not in found]
    told = [key for key in gone if not any(one.startswith(f"{key}.") for one in found)]
    told = [key for key in told if not any(key.startswith(f"{one}.") for one in found)]
    return {**more, **{f"-{key}": base[key] for key in told}}


@pytest.mark.parametrize("name", [*SITES, *OFFICERS, *LASTING])
def test_site_state_is_described(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    held = json.loads(HELD.read_text())
    found = describe_site(tmp_path, name)
    base = {} if name == "at rest" else held["at rest"]
    assert differing(base, found) == held[name]
    assert "a part of the status cannot be read" not in caplog.text


def main() -> None:
    """Write again what is held."""
    held: dict[str, dict[str, object]] = {}
    for name in (*SITES, *OFFICERS, *LASTING):
        with tempfile.TemporaryDirectory() as directory:
            found = describe_site(Path(directory), name)
        held[name] = differing(held["at rest"], found) if held else found
    sites = (
        json.dumps(name) + ": {\n"
        + ",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in facts.items())
        + "\n}"
        for name, facts in held.items()
    )  # fmt: skip
    HELD.write_text("{\n" + ",\n".join(sites) + "\n}\n")


if __name__ == "__main__":
    main()
