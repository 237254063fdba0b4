"""Who is to blame for an application that is not well: tables."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ncen_updater.agent.adapters.application.base import Health, ProbeResult
from ncen_updater.agent.adapters.application.waiting import wait_until_healthy
from ncen_updater.agent.engine.runner import blames_release
from ncen_updater.agent.engine.site import Site, StepContext
from ncen_updater.agent.engine.steps import application as steps
from ncen_updater.agent.engine.steps.starting import (
    Sign,
    blamed,
    require_nobody_answers,
    require_well,
    sign_of,
)
from ncen_updater.agent.model.change import StepName
from ncen_updater.agent.model.errors import (
    ApplicationError,
    CommandFailed,
    DatabaseUnreachable,
    Unhealthy,
)
from ncen_updater.common.errors import SpaceShort
from ncen_updater.common.messages import (
    ANOTHER_ANSWERS,
    COMMAND_SAYS_ANOTHER,
    NEVER_ANSWERED,
    Message,
)
from ncen_updater.formats.document import ReleaseDocument
from tests.support.errors import refused

DATABASES, ROOM = Path("/srv/databases"), 1 << 40
BAD = (ProbeResult("health", "not as expected"),)


@pytest.mark.parametrize(
    ("health", "runs", "sign"),
    [
        (Health(BAD, {"version": "3.3.0"}), True, Sign.UNWELL),
        (Health(BAD, {"version": "3.3.0"}), False, Sign.UNWELL),
        (Health(BAD, {"version": "3.2.4"}), True, Sign.OTHER),
        (Health(BAD, {"version": "3.2.4"}), False, Sign.OTHER),
        (Health(BAD, {}), True, Sign.OTHER),
        (Health(BAD, answered=False), True, Sign.SILENT),
        (Health(BAD, answered=False), False, Sign.DEAD),
        (Health(BAD, {"version": "3.3.0"}, missing=("worker",)), True, Sign.DEAD),
    ],
)
def test_what_a_bad_look_shows(health: Health, runs: bool, sign: Sign) -> None:
    assert sign_of(health, "3.3.0", "version", runs=runs) is sign


def test_who_answers_as_either_release_may_be_either() -> None:
    """Of two builds that report the same, an answer does not say which is unwell."""
    health = Health(BAD, {"version": "3.3.0"})
    assert sign_of(health, "3.3.0", "version", runs=True, told_apart=False) is Sign.OTHER


# First start, second start, whether a stranger answered between: the release is to blame.
BLAMED = {
    (Sign.UNWELL, None, False),
    (Sign.UNWELL, None, True),
    *itertools.product([Sign.UNWELL], Sign, [False, True]),
    *itertools.product(Sign, [Sign.UNWELL], [False, True]),
    (Sign.DEAD, Sign.DEAD, False),
    (Sign.DEAD, Sign.DEAD, True),
    (Sign.OTHER, Sign.OTHER, False),
}


@pytest.mark.parametrize("stranger", [False, True])
@pytest.mark.parametrize("second", [None, *Sign])
@pytest.mark.parametrize("first", Sign)
def test_who_is_to_blame(first: Sign, second: Sign | None, stranger: bool) -> None:
    assert blamed(first, second, stranger=stranger) is ((first, second, stranger) in BLAMED)


def test_only_a_verdict_blames_the_release() -> None:
    unhealthy = Unhealthy(product="ncen", version="3.3.0", seconds=1, problems="x")
    assert blames_release(unhealthy, StepName.HEALTH)
    silent = ApplicationError(
        NEVER_ANSWERED, product="ncen", version="3.3.0", first="x", second="y"
    )
    assert not blames_release(silent, StepName.HEALTH)
    assert not blames_release(
        ApplicationError(ANOTHER_ANSWERS, version="1", url="x"), StepName.START
    )


def test_what_is_hopeless_is_not_waited_for() -> None:
    waits: list[float] = []
    waited = wait_until_healthy(
        lambda: Health(BAD, answered=False),
        timeout_s=1000,
        clock=lambda: float(len(waits)),
        wait=waits.append,
        hopeless=lambda health: not health.answered and len(waits) == 3,
    )
    assert not waited
    assert waited.looks == 4


def site_of(version: Callable[[], str], health: Health, free: int) -> Site:
    """A site of which nothing but the last look and its disks matters."""
    place = Path("/")
    settings = SimpleNamespace(health_timeout_s=0.0, version_field="version", health_url="x")
    paths = SimpleNamespace(resolve=lambda path: path)
    application = SimpleNamespace(
        health=lambda _: health,
        running=lambda: True,
        why_down=lambda: None,
        stop=lambda: None,
        start=lambda: None,
    )
    site = SimpleNamespace(
        config=SimpleNamespace(application=settings, paths=paths, files=()),
        application=application,
        engine=SimpleNamespace(
            require_live=lambda **_: version(), free_bytes=lambda: {DATABASES: free}
        ),
        clock=SimpleNamespace(monotonic=lambda: 0.0, wait=lambda _: None),
        state=place,
        slots=SimpleNamespace(directory=place),
    )
    return cast("Site", site)


def document_of() -> ReleaseDocument:
    manifest = SimpleNamespace(version="3.3.0", reported="3.3.0", product="ncen", health=())
    return cast("ReleaseDocument", SimpleNamespace(manifest=manifest))


def test_start_in_the_queue_is_waited_for_and_the_time_that_passed_is_told() -> None:
    """Our own unit that resumes stands before the application, and ends at once."""
    times = iter(range(100))
    silent = Health(BAD, answered=False)
    site = site_of(lambda: "15.1", silent, ROOM)
    looks: list[str | None] = [None] * 3 + ["ncen.service did not start: dependency (x)"] * 100

    def health(_: object) -> Health:
        return silent

    site.application.health = health  # type: ignore[method-assign, assignment]
    site.application.running = lambda: False  # type: ignore[method-assign]
    site.application.why_down = lambda: looks.pop(0)  # type: ignore[method-assign]
    site.config.application.health_timeout_s = 1000.0  # type: ignore[misc]
    site.clock.monotonic = lambda: float(next(times))  # type: ignore[misc]
    with pytest.raises(Unhealthy) as caught:
        require_well(site, document_of())
    assert len(looks) < 101, "a start that waits is no dead application"
    assert "did not start: dependency (x)" in str(caught.value)
    assert int(str(caught.value.values["seconds"])) < 100, "not what the configuration allows"


@pytest.mark.parametrize("gone", [True, False])
def test_no_release_is_well_without_its_databases(gone: bool) -> None:
    """It answers as itself, unwell: by its own fault only where its databases can be reached."""

    def version() -> str:
        if gone:
            raise DatabaseUnreachable(database="main")
        return "15.1"

    site = site_of(version, Health(BAD, {"version": "3.3.0"}), ROOM)
    with pytest.raises(DatabaseUnreachable if gone else Unhealthy) as caught:
        require_well(site, document_of())
    assert blames_release(caught.value, StepName.HEALTH) is not gone


@pytest.mark.parametrize(
    ("command", "message", "words"),
    [
        (None, ANOTHER_ANSWERS, "version 3.2.4 answers at http://x."),
        (
            ("/bin/look", "--key", "geheim"),
            COMMAND_SAYS_ANOTHER,
            "http://x answers well, and '/bin/look' says that version 3.2.4 runs.",
        ),
    ],
)
def test_who_said_which_version_answers(
    command: tuple[str, ...] | None, message: Message, words: str
) -> None:
    site = site_of(lambda: "15.1", Health(BAD, {"version": "3.2.4"}), ROOM)
    settings = cast("Any", site.config.application)
    settings.health_url, settings.version_command = "http://x", command
    cast("Any", site.application).running = lambda: False
    with refused(message, match=re.escape(words)) as caught:
        require_nobody_answers(site, document_of())
    assert "geheim" not in str(caught.value)
    assert not blames_release(caught.value, StepName.START)


@pytest.mark.parametrize(
    "health",
    [
        Health(BAD, {"version": "3.3.0"}),  # it answers as itself, and cannot write
        Health(BAD, answered=False),  # it ended, twice
        Health(BAD, {"version": "3.2.4"}),
    ],
)
def test_no_release_is_to_blame_for_a_full_disk(health: Health) -> None:
    site = site_of(lambda: "15.1", health, 0)
    with pytest.raises(SpaceShort) as caught:
        require_well(site, document_of())
    assert str(DATABASES) in str(caught.value)
    assert not blames_release(caught.value, StepName.HEALTH)


@pytest.mark.parametrize(("free", "error"), [(0, SpaceShort), (ROOM, CommandFailed)])
def test_nor_for_a_start_that_fails_on_one(
    free: int, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    site = site_of(lambda: "15.1", Health((), {}), free)

    def start() -> None:
        raise CommandFailed(command="start", status=1)

    application = cast("Any", site.application)
    application.start, application.close_door = start, lambda: None
    monkeypatch.setattr(steps, "require_nobody_answers", lambda *_: False)
    context = SimpleNamespace(site=site, target=document_of)
    with pytest.raises(error) as caught:
        steps.Start().do(cast("StepContext", context))
    assert blames_release(caught.value, StepName.START) is bool(free)
