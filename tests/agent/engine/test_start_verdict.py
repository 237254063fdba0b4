"""Tests of the verdict on an unhealthy application: tables."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ncen_updater.agent.adapters.application.health_result import HealthResult, ProbeResult
from ncen_updater.agent.adapters.application.health_watch import wait_until_healthy
from ncen_updater.agent.engine.change_runner import is_release_at_fault
from ncen_updater.agent.engine.site import Site, StepContext
from ncen_updater.agent.engine.steps import application as steps
from ncen_updater.agent.engine.steps.start_verdict import (
    StartFailure,
    classify_failure,
    is_release_to_blame,
    require_address_free,
    require_healthy,
)
from ncen_updater.agent.model.change import StepName
from ncen_updater.agent.model.errors import (
    ApplicationError,
    ApplicationUnhealthyError,
    CommandError,
    DatabaseUnreachableError,
)
from ncen_updater.common.errors import InsufficientSpaceError
from ncen_updater.common.i18n import LazyText
from ncen_updater.common.messages import (
    HEALTH_UNDECIDED,
    STOPPED_BUT_ANSWERS,
    STOPPED_BUT_REPORTS_VERSION,
    ErrorMessage,
)
from ncen_updater.formats.release_document import ReleaseDocument
from tests.support.errors import refused

DATABASES, ROOM = Path("/srv/databases"), 1 << 40
BAD = (ProbeResult("health", LazyText("not as expected")),)


@pytest.mark.parametrize(
    ("health", "runs", "sign"),
    [
        (HealthResult(BAD, {"version": "3.3.0"}), True, StartFailure.UNHEALTHY),
        (HealthResult(BAD, {"version": "3.3.0"}), False, StartFailure.UNHEALTHY),
        (HealthResult(BAD, {"version": "3.2.4"}), True, StartFailure.WRONG_VERSION),
        (HealthResult(BAD, {"version": "3.2.4"}), False, StartFailure.WRONG_VERSION),
        (HealthResult(BAD, {}), True, StartFailure.WRONG_VERSION),
        (HealthResult(BAD, answered=False), True, StartFailure.NO_ANSWER),
        (HealthResult(BAD, answered=False), False, StartFailure.NOT_RUNNING),
        (
            HealthResult(BAD, {"version": "3.3.0"}, missing_parts=("worker",)),
            True,
            StartFailure.NOT_RUNNING,
        ),
    ],
)
def test_failed_check_is_classified(health: HealthResult, runs: bool, sign: StartFailure) -> None:
    assert classify_failure(health, "3.3.0", "version", runs=runs) is sign


def test_answer_of_an_indistinguishable_build_is_ambiguous() -> None:
    """Of two builds that report the same, an answer does not say which is unwell."""
    health = HealthResult(BAD, {"version": "3.3.0"})
    assert (
        classify_failure(health, "3.3.0", "version", runs=True, distinguishable=False)
        is StartFailure.WRONG_VERSION
    )


# First start, second start, whether another release answered between: the release is blamed.
BLAMED = {
    (StartFailure.UNHEALTHY, None, False),
    (StartFailure.UNHEALTHY, None, True),
    *itertools.product([StartFailure.UNHEALTHY], StartFailure, [False, True]),
    *itertools.product(StartFailure, [StartFailure.UNHEALTHY], [False, True]),
    (StartFailure.NOT_RUNNING, StartFailure.NOT_RUNNING, False),
    (StartFailure.NOT_RUNNING, StartFailure.NOT_RUNNING, True),
    (StartFailure.WRONG_VERSION, StartFailure.WRONG_VERSION, False),
}


@pytest.mark.parametrize("stranger", [False, True])
@pytest.mark.parametrize("second", [None, *StartFailure])
@pytest.mark.parametrize("first", StartFailure)
def test_blame_depends_on_both_starts(
    first: StartFailure, second: StartFailure | None, stranger: bool
) -> None:
    assert is_release_to_blame(first, second, other_answered=stranger) is (
        (first, second, stranger) in BLAMED
    )


def test_only_a_verdict_blames_the_release() -> None:
    unhealthy = ApplicationUnhealthyError(product="ncen", version="3.3.0", seconds=1, problems="x")
    assert is_release_at_fault(unhealthy, StepName.HEALTH)
    silent = ApplicationError(
        HEALTH_UNDECIDED, product="ncen", version="3.3.0", first="x", second="y"
    )
    assert not is_release_at_fault(silent, StepName.HEALTH)
    assert not is_release_at_fault(
        ApplicationError(STOPPED_BUT_ANSWERS, version="1", url="x"), StepName.START
    )


def test_hopeless_start_is_not_awaited() -> None:
    waits: list[float] = []
    waited = wait_until_healthy(
        lambda: HealthResult(BAD, answered=False),
        timeout_s=1000,
        clock=lambda: float(len(waits)),
        wait=waits.append,
        is_hopeless=lambda health: not health.answered and len(waits) == 3,
    )
    assert not waited
    assert len(waits) == 3


def site_of(version: Callable[[], str], health: HealthResult, free: int) -> Site:
    """A site of which nothing but the last look and its disks matters."""
    place = Path("/")
    settings = SimpleNamespace(health_timeout_s=0.0, version_field="version", health_url="x")
    paths = SimpleNamespace(resolve=lambda path: path)
    application = SimpleNamespace(
        check_health=lambda _: health,
        is_running=lambda: True,
        describe_outage=lambda: None,
        stop=lambda: None,
        start=lambda: None,
    )
    site = SimpleNamespace(
        config=SimpleNamespace(application=settings, paths=paths, files=()),
        application=application,
        database_engine=SimpleNamespace(
            require_live=lambda **_: version(), measure_free_bytes=lambda: {DATABASES: free}
        ),
        clock=SimpleNamespace(monotonic=lambda: 0.0, wait=lambda _: None),
        state_directory=place,
        slots=SimpleNamespace(slots_directory=place),
    )
    return cast("Site", site)


def document_of() -> ReleaseDocument:
    manifest = SimpleNamespace(version="3.3.0", reported="3.3.0", product="ncen", health=())
    return cast("ReleaseDocument", SimpleNamespace(manifest=manifest))


def test_queued_start_is_awaited_and_the_elapsed_time_reported() -> None:
    """Our own unit that resumes stands before the application, and ends at once."""
    times = iter(range(100))
    silent = HealthResult(BAD, answered=False)
    site = site_of(lambda: "15.1", silent, ROOM)
    down = LazyText("ncen.service not running: dependency (x)")
    looks: list[LazyText | None] = [None] * 3 + [down] * 100

    def health(_: object) -> HealthResult:
        return silent

    site.application.check_health = health  # type: ignore[method-assign, assignment]
    site.application.is_running = lambda: False  # type: ignore[method-assign]
    site.application.describe_outage = lambda: looks.pop(0)  # type: ignore[method-assign]
    site.config.application.health_timeout_s = 1000.0  # type: ignore[misc]
    site.clock.monotonic = lambda: float(next(times))  # type: ignore[misc]
    with pytest.raises(ApplicationUnhealthyError) as caught:
        require_healthy(site, document_of())
    assert len(looks) < 101, "a start that waits is no dead application"
    assert "not running: dependency (x)" in str(caught.value)
    assert int(str(caught.value.values["seconds"])) < 100, "not what the configuration allows"


@pytest.mark.parametrize("gone", [True, False])
def test_no_release_is_healthy_without_its_databases(gone: bool) -> None:
    """It answers as itself, unwell: by its own fault only where its databases can be reached."""

    def version() -> str:
        if gone:
            raise DatabaseUnreachableError(database="main")
        return "15.1"

    site = site_of(version, HealthResult(BAD, {"version": "3.3.0"}), ROOM)
    with pytest.raises(DatabaseUnreachableError if gone else ApplicationUnhealthyError) as caught:
        require_healthy(site, document_of())
    assert is_release_at_fault(caught.value, StepName.HEALTH) is not gone


@pytest.mark.parametrize(
    ("command", "message", "words"),
    [
        (None, STOPPED_BUT_ANSWERS, "version 3.2.4 answers at http://x"),
        (
            ("/bin/look", "--key", "geheim"),
            STOPPED_BUT_REPORTS_VERSION,
            "http://x and '/bin/look' report version 3.2.4",
        ),
    ],
)
def test_refused_address_names_the_source_of_the_version(
    command: tuple[str, ...] | None, message: ErrorMessage, words: str
) -> None:
    site = site_of(lambda: "15.1", HealthResult(BAD, {"version": "3.2.4"}), ROOM)
    settings = cast("Any", site.config.application)
    settings.health_url, settings.version_command = "http://x", command
    cast("Any", site.application).is_running = lambda: False
    with refused(message, match=re.escape(words)) as caught:
        require_address_free(site, document_of())
    assert "geheim" not in str(caught.value)
    assert not is_release_at_fault(caught.value, StepName.START)


@pytest.mark.parametrize(
    "health",
    [
        HealthResult(BAD, {"version": "3.3.0"}),  # it answers as itself, and cannot write
        HealthResult(BAD, answered=False),  # it ended, twice
        HealthResult(BAD, {"version": "3.2.4"}),
    ],
)
def test_full_disk_is_not_blamed_on_the_release(health: HealthResult) -> None:
    site = site_of(lambda: "15.1", health, 0)
    with pytest.raises(InsufficientSpaceError) as caught:
        require_healthy(site, document_of())
    assert str(DATABASES) in str(caught.value)
    assert not is_release_at_fault(caught.value, StepName.HEALTH)


@pytest.mark.parametrize(("free", "error"), [(0, InsufficientSpaceError), (ROOM, CommandError)])
def test_failed_start_on_a_full_disk_is_not_blamed_on_the_release(
    free: int, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    site = site_of(lambda: "15.1", HealthResult((), {}), free)

    def start() -> None:
        raise CommandError(command="start", status=1)

    application = cast("Any", site.application)
    application.start, application.enable_maintenance = start, lambda: None
    monkeypatch.setattr(steps, "require_address_free", lambda *_: False)
    context = SimpleNamespace(site=site, read_target=document_of)
    with pytest.raises(error) as caught:
        steps.StartStep().do(cast("StepContext", context))
    assert is_release_at_fault(caught.value, StepName.START) is bool(free)
