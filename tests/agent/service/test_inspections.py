"""Inspections: one at a time, within limits, never in the way; and the process that looks, real."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from ncen_updater.agent.cli import worker as applying
from ncen_updater.agent.cli.worker import (
    REQUIRED_INSPECTION_OPTIONS,
    InspectionLimits,
    parse_limits,
)
from ncen_updater.agent.config.service import ServiceSettings
from ncen_updater.agent.model.change import Actor, StepName, StepState
from ncen_updater.agent.service import inspections as module
from ncen_updater.agent.service.apply_runner import ApplyRunner, WorkerResult
from ncen_updater.agent.service.errors import BadRequestError, RequestRefusedError
from ncen_updater.agent.service.inspections import (
    InspectionForm,
    InspectionKind,
    InspectionQueue,
    build_inspection_command,
)
from ncen_updater.agent.service.serve import _create_blocking_check
from ncen_updater.agent.service.snapshot import SnapshotStore
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import TOO_MANY_INSPECTIONS
from ncen_updater.common.progress import ProgressUpdate
from ncen_updater.common.workers import Worker
from tests.agent.cli.site import CHANGE, TrialSite, make_site
from tests.agent.service.api.conftest import NOW, PlayedInspector
from tests.support.forks import DEADLINE_S

AMINA, BRUNO, ROOT = Actor("amina", 1001), Actor("bruno", 1002), Actor("root", 0)
FINDINGS = InspectionForm(kind=InspectionKind.FINDINGS)
PLAN = InspectionForm(kind=InspectionKind.PLAN)
LIMITS = {"timeout_s": 60, "max_bytes": 1000}


def kinds(count: int) -> list[InspectionForm]:
    """Orders that differ."""
    return [InspectionForm(kind=InspectionKind.PLAN, version=f"3.3.{n}") for n in range(count)]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def inspector() -> Iterator[PlayedInspector]:
    played = PlayedInspector()
    yield played
    played.door.set()


def made(inspector: PlayedInspector, **more: Any) -> InspectionQueue:
    return InspectionQueue(inspector, lambda: NOW, more.pop("is_blocked", lambda: False), **more)


# ---- orders --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("order", "words"),
    [
        (PLAN, "plan --prepared"),
        (InspectionForm(kind=InspectionKind.PLAN, version="3.3.0", retry=True, language="fr"),
         "plan --prepared 3.3.0 --retry --lang fr"),
        (InspectionForm(kind=InspectionKind.DOSSIER, version="3.3.0"), "dossier --prepared 3.3.0"),
        (InspectionForm(kind=InspectionKind.ROLLBACK_PLAN, accept_loss=0),
         "rollback --dry-run --accept-loss 0"),
        (FINDINGS, "doctor"),
        (InspectionForm(kind=InspectionKind.VERIFY, chain_heads=("1:" + "ab" * 8,)),
         "verify --head 1:abababababababab"),
        (InspectionForm(kind=InspectionKind.AUDIT_LOG), "verify --journal"),
        (InspectionForm(kind=InspectionKind.SUPPORT_BUNDLE, leave_out=("log.txt",),
                         show=("site.json",)),
         "support-bundle --in-document --leave-out log.txt --show site.json"),
    ],
)  # fmt: skip
def test_inspection_commands_are_parsed(order: InspectionForm, words: str) -> None:
    asked = build_inspection_command(order)
    assert asked == tuple(words.split())
    assert applying.parse_command({"command": list(asked), "inspect": LIMITS}) == asked


def test_every_inspection_kind_is_a_read_only_command() -> None:
    asked = {build_inspection_command(InspectionForm(kind=kind))[0] for kind in InspectionKind}
    assert asked == set(REQUIRED_INSPECTION_OPTIONS)


@pytest.mark.parametrize(
    "words",
    [
        "plan", "plan --retry", "dossier 3.3.0", "rollback", "rollback --yes", "support-bundle",
        "support-bundle --yes", "upgrade --yes", "upgrade --prepared --dry-run", "check", "prune",
        "self-update", "resume", "assess", "adopt", "import file", "serve",
        "doctor --config /tmp/mine", "dossier --prepared --output /etc/cron.d/x",
        "support-bundle --in-document --output /etc/x", "verify --config=/tmp/x",
        "plan --prepared --sql -- x",
    ],
)  # fmt: skip
def test_other_commands_are_not_run_as_inspections(words: str) -> None:
    with pytest.raises(BadRequestError):
        applying.parse_command({"command": words.split(), "inspect": LIMITS})


@pytest.mark.parametrize(
    "words", ["doctor", "verify", "dossier --prepared", "support-bundle", "plan --prepared"]
)
def test_inspection_needs_limits(words: str) -> None:
    with pytest.raises(BadRequestError):
        applying.parse_command({"command": words.split()})


@pytest.mark.parametrize(
    ("said", "limits"),
    [
        (None, None),
        ({"timeout_s": 5, "max_bytes": 7}, InspectionLimits(5, 7)),
        (
            {"timeout_s": 0.5, "max_bytes": 10**12},
            InspectionLimits(0.5, applying.MAX_DOCUMENT_BYTES),
        ),
        ({"timeout_s": 0, "max_bytes": 7}, BadRequestError),
        ({"timeout_s": 5, "max_bytes": -1}, BadRequestError),
        ({"timeout_s": "5", "max_bytes": 7}, BadRequestError),
        ({"timeout_s": 5}, BadRequestError),
        ([], BadRequestError),
        (True, BadRequestError),
    ],
)
def test_inspection_limits_are_parsed(said: object, limits: object) -> None:
    if limits is BadRequestError:
        with pytest.raises(BadRequestError):
            parse_limits({"inspect": said})
    else:
        assert parse_limits({"inspect": said} if said is not None else {}) == limits


# ---- one after the other -------------------------------------------------------------------------


def test_identical_requests_share_one_inspection(inspector: PlayedInspector) -> None:
    inspector.door.clear()
    inspections = made(inspector)
    first = inspections.submit(FINDINGS, AMINA)
    assert inspections.submit(FINDINGS, BRUNO) is first
    other = inspections.submit(PLAN, BRUNO)
    assert other is not first and other.ended_at is None
    inspector.door.set()
    inspections.wait(other, 30)
    assert {first.ended_at, other.ended_at} == {NOW}
    assert inspector.asked == [("doctor",), ("plan", "--prepared")]
    assert first.document == {"healthy": True, "findings": [], "lines": ["well"]}
    again = inspections.submit(FINDINGS, AMINA)
    assert again.number not in (first.number, other.number), "what was found is not found again"
    inspections.close()


def test_one_inspection_runs_at_a_time(inspector: PlayedInspector) -> None:
    inspector.door.clear()
    inspections, busy = made(inspector), threading.Event()
    inspector.told = ProgressUpdate("reading")
    seen: list[int] = []
    real = inspector.inspect

    def counted(*command: Any, **limits: Any) -> WorkerResult:
        seen.append(threading.active_count())
        busy.set()
        return real(*command, **limits)

    inspector.inspect = counted  # type: ignore[method-assign]
    orders = [inspections.submit(order, ROOT) for order in kinds(4)]
    assert busy.wait(DEADLINE_S)
    assert (len(seen), [one.progress for one in orders]) == (
        1,
        [orders[0].progress, None, None, None],
    )
    inspector.door.set()
    inspections.wait(orders[-1], 30)
    assert len(seen) == 4
    inspections.close()


def test_one_user_cannot_fill_the_queue(inspector: PlayedInspector) -> None:
    inspector.door.clear()
    inspections = made(inspector)
    orders = kinds(10)
    for order in orders[: module.MAX_PENDING_PER_USER]:
        inspections.submit(order, AMINA)
    with pytest.raises(RequestRefusedError, match=TOO_MANY_INSPECTIONS.code):
        inspections.submit(orders[5], AMINA)
    inspections.submit(orders[0], AMINA)  # the one that is under way costs nothing
    for n, order in enumerate(orders[2 : module.MAX_PENDING]):
        inspections.submit(order, Actor(f"member {n}", 2000 + n))
    with pytest.raises(RequestRefusedError, match=TOO_MANY_INSPECTIONS.code):
        inspections.submit(orders[9], BRUNO)
    for order in kinds(20)[10 : 10 + module.MAX_PENDING]:
        inspections.submit(order, ROOT)  # whatever others wait for
    with pytest.raises(RequestRefusedError, match=TOO_MANY_INSPECTIONS.code):
        inspections.submit(orders[9], ROOT)
    inspector.door.set()
    inspections.close()


def test_long_inspection_does_not_block_others(inspector: PlayedInspector) -> None:
    """Seen: two of them by one member, and anyone who had to decide waited an hour."""
    inspections = made(inspector)
    reading, let_go = threading.Event(), threading.Event()
    real = inspector.inspect

    def slowly(command: Sequence[str], *rest: Any, **limits: Any) -> WorkerResult:
        if command[0] == "verify":
            reading.set()
            assert let_go.wait(30)
        return real(command, *rest, **limits)

    inspector.inspect = slowly  # type: ignore[method-assign]
    long = [
        inspections.submit(InspectionForm(kind=InspectionKind.VERIFY, language=of), AMINA)
        for of in ("en", "fr")
    ]
    assert reading.wait(30)
    plan = inspections.submit(PLAN, BRUNO)
    inspections.wait(plan, 30)
    assert plan.ended_at is not None
    assert [one.ended_at for one in long] == [None, None]
    let_go.set()
    inspections.close()


def test_root_is_served_first_then_the_user_with_the_fewest_requests(
    inspector: PlayedInspector,
) -> None:
    inspections = made(inspector)
    orders = kinds(6)
    inspections.wait(inspections.submit(orders[0], AMINA), 30)
    inspector.door.clear()
    begun = threading.Event()
    real = inspector.inspect

    def noted(*command: Any, **limits: Any) -> WorkerResult:
        begun.set()
        return real(*command, **limits)

    inspector.inspect = noted  # type: ignore[method-assign]
    under_way = inspections.submit(orders[1], Actor("carla", 1003))
    assert begun.wait(30)
    waiting = [
        inspections.submit(orders[2], AMINA),
        inspections.submit(orders[3], AMINA),
        inspections.submit(orders[4], BRUNO),
        inspections.submit(orders[5], ROOT),
    ]
    inspector.door.set()
    for one in (under_way, *waiting):
        inspections.wait(one, 30)
    versions = [words[2] for words in inspector.asked]
    assert versions == ["3.3.0", "3.3.1", "3.3.5", "3.3.4", "3.3.2", "3.3.3"]
    inspections.close()


def test_old_results_are_forgotten(inspector: PlayedInspector) -> None:
    clock = Clock()
    inspections = made(inspector, monotonic=clock)
    first = inspections.submit(FINDINGS, AMINA)
    inspections.wait(first, 30)
    assert inspections.find(first.number) is first
    clock.now = module.RETENTION_S + 1
    assert inspections.find(first.number) is None
    numbers = []
    for order in kinds(module.MAX_RETAINED + 3):
        one = inspections.submit(order, ROOT)
        inspections.wait(one, 30)
        numbers.append(one.number)
    kept = [number for number in numbers if inspections.find(number)]
    assert kept == numbers[3:]
    inspections.close()


def test_stored_results_are_bounded(
    inspector: PlayedInspector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_RETAINED_BYTES", 2500)
    inspector.found = WorkerResult(0, {"sql": "x" * 1000})
    inspections = made(inspector)
    numbers = []
    for order in kinds(4):
        one = inspections.submit(order, ROOT)
        inspections.wait(one, 30)
        numbers.append(one.number)
    assert [n for n in numbers if inspections.find(n)] == numbers[2:]
    inspections.close()


@pytest.mark.parametrize(
    ("found", "code"),
    [
        (TimeoutError(), "NU-9326"),
        (OverflowError(), "NU-9327"),
        (WorkerResult(1, {}), "NU-9328"),
        (ValueError("x"), "NU-9328"),
        (BadRequestError(reason="older"), "NU-9312"),
    ],
)
def test_failed_inspection_reports_its_reason(
    inspector: PlayedInspector, found: WorkerResult | Exception, code: str
) -> None:
    inspector.found = found
    inspections = made(inspector)
    one = inspections.submit(FINDINGS, AMINA)
    inspections.wait(one, 30)
    assert one.error is not None
    assert (one.error.code, one.document, one.exit_code) == (code, None, None)
    inspector.found = None
    after = inspections.submit(FINDINGS, AMINA)
    inspections.wait(after, 30)
    assert after.document is not None, "the next one is made"
    inspections.close()


def test_starting_operation_ends_running_and_queued_inspections(inspector: PlayedInspector) -> None:
    inspector.door.clear()
    begun = False
    inspections = made(inspector, is_blocked=lambda: begun)
    orders = [inspections.submit(order, ROOT) for order in kinds(3)]
    begun = True
    inspections.wait(orders[-1], 30)
    assert [one.error and one.error.code for one in orders] == ["NU-9325"] * 3
    assert len(inspector.asked) <= 1, "those that waited were not begun"
    inspections.close()


def test_journal_inspection_continues_during_operations(inspector: PlayedInspector) -> None:
    inspections = made(inspector, is_blocked=lambda: True)
    proof = inspections.submit(InspectionForm(kind=InspectionKind.AUDIT_LOG), AMINA)
    inspections.wait(proof, 30)
    assert (proof.error, proof.exit_code) == (None, 0)
    inspections.close()


def test_shutdown_ends_the_inspection(inspector: PlayedInspector) -> None:
    inspector.door.clear()
    inspections = made(inspector)
    one = inspections.submit(FINDINGS, AMINA)
    inspections.close()
    assert one.error is not None and one.error.code == "NU-9325"
    with pytest.raises(UpdaterError) as refused:
        inspections.submit(FINDINGS, AMINA)
    assert refused.value.code == "NU-9325"


# ---- in the way ----------------------------------------------------------------------------------


def test_blocking_operation_is_recognised(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    snapshots = SnapshotStore(ServiceSettings(timezone="UTC"), lambda: NOW)
    in_the_way = _create_blocking_check(snapshots, site.journal)
    assert not in_the_way()
    for words, holds in (
        (["check"], False), (["rehearse", "3.3.0"], False), (["upgrade", "3.3.0"], True),
        (["rollback", "--dry-run"], False), (["rollback", "--yes"], True), (["resume"], True),
    ):  # fmt: skip
        snapshots.record_start(words)
        assert in_the_way() is holds, words
        snapshots.record_end()
    site.open_change()  # by a user's command
    assert in_the_way()
    with Journal.open(site.journal) as journal:
        for step in (StepName.COMMIT, StepName.MAINTENANCE_OFF):
            journal.record_step(CHANGE.id, step, StepState.INTENDED)
            journal.record_step(CHANGE.id, step, StepState.DONE)
            if step is StepName.COMMIT:
                journal.commit_change(CHANGE.id)
            assert in_the_way() is (step is StepName.COMMIT)
    snapshots.record_start(["upgrade", "3.3.0"])
    assert not in_the_way(), "it only watches"
    snapshots.record_end()
    site.journal.unlink()
    assert not in_the_way(), "who inspects says that it is gone"


# ---- the process ---------------------------------------------------------------------------------


@pytest.fixture
def site(tmp_path: Path) -> TrialSite:
    return make_site(tmp_path / "site")


def runner(site: TrialSite) -> ApplyRunner:
    snapshots = SnapshotStore(ServiceSettings(timezone="UTC"), lambda: NOW)
    return ApplyRunner(site.config, None, lambda: None, lambda: False, snapshots)


def look(
    site: TrialSite,
    words: Sequence[str],
    *,
    seconds: float = 120,
    most: int = 1_000_000,
    ending: Callable[[], bool] = lambda: False,
) -> WorkerResult:
    return runner(site).inspect(words, lambda _: None, ending, timeout_s=seconds, max_bytes=most)


def test_inspection_runs_in_a_process(site: TrialSite) -> None:
    found = look(site, ["doctor"])
    assert found.exit_code == 3
    assert found.document["healthy"] is False and found.document["lines"]
    proved = look(site, ["verify", "--journal", "--head", f"4:{'0' * 64}"])
    assert proved.exit_code == 12
    assert proved.document["findings"][0]["code"] == "NU-6108"  # type: ignore[index]


def test_slow_inspection_process_is_killed(site: TrialSite) -> None:
    with pytest.raises(TimeoutError):
        look(site, ["doctor"], seconds=0.001)


def test_oversized_inspection_result_is_reported(site: TrialSite) -> None:
    with pytest.raises(OverflowError):
        look(site, ["doctor"], most=20)


def test_inspection_process_is_the_first_oom_victim(site: TrialSite) -> None:
    text, said = site.config.read_text("utf-8"), site.state / "said"
    tell = f'["sh", "-c", "cat /proc/self/oom_score_adj > {said}; exit 3"]'
    site.config.write_text(text.replace('["sh", "-c", "exit 3"]', tell))
    look(site, ["doctor"])
    assert int(said.read_text()) == applying.OOM_SCORE_ADJ


def test_result_limit_counts_characters(site: TrialSite, monkeypatch: pytest.MonkeyPatch) -> None:
    most = 1_000_000
    document = f"{{'done': True, 'exit_code': 0, 'document': {{'a': 'é' * {most // 2}}}}}"
    words = [sys.executable, "-I", "-c", f"import json; print(json.dumps({document}))"]
    monkeypatch.setattr(Worker, "build_command", lambda _self: words)
    assert look(site, ["doctor"], most=most).document == {"a": "é" * (most // 2)}


def test_inspection_process_ends_on_request(site: TrialSite) -> None:
    """The application's own command stands still; the inspection does not wait for it.

    Nor does it take that for one more thing that it found, and go on to the databases.
    """
    text, asks = site.config.read_text("utf-8"), site.state / "asks"
    wait = f'["sh", "-c", "touch {asks}; exec sleep 1000"]'
    site.config.write_text(text.replace('["sh", "-c", "exit 3"]', wait))
    found = look(site, ["doctor"], ending=asks.exists)
    assert found.document["error"]["code"] == "NU-1108"  # type: ignore[index]


def test_inspection_without_units_may_use_sudo(site: TrialSite) -> None:
    """Its application may be behind 'sudo', which takes no right after that."""
    text = site.config.read_text("utf-8")
    tell = f"""["sh", "-c", "grep NoNewPrivs /proc/self/status > {site.state}/said; exit 3"]"""
    site.config.write_text(text.replace('["sh", "-c", "exit 3"]', tell))
    look(site, ["doctor"])
    assert (site.state / "said").read_text().split() == ["NoNewPrivs:", "0"]


@pytest.mark.parametrize("words", [["plan"], ["upgrade", "--yes"], ["doctor", "--config", "/x"]])
def test_inspection_process_refuses_other_work(site: TrialSite, words: list[str]) -> None:
    with pytest.raises(UpdaterError) as refused:
        look(site, words)
    assert refused.value.code == BadRequestError.message.code
