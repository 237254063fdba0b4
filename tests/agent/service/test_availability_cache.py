"""Tests of how the service finds out whether users can work: alone, or through its unit."""

from __future__ import annotations

import threading
from pathlib import Path

from ncen_updater.agent.adapters.application.availability_probe import make_late_text
from ncen_updater.agent.config.loader import load_config
from ncen_updater.agent.policy.availability import Availability, AvailabilityState
from ncen_updater.agent.service.availability_cache import (
    CACHE_FACTOR,
    CACHE_S,
    MAX_CACHE_S,
    AvailabilityCache,
    create_availability_cache,
)
from tests.agent.cli.site import make_site
from tests.agent.service.test_units import needs_activator, unit


def test_concurrent_callers_share_one_probe() -> None:
    asked, now = [], [0.0]

    def look() -> Availability:
        asked.append(now[0])
        return Availability(AvailabilityState.AVAILABLE, detail=str(len(asked)))

    ask = AvailabilityCache(look, lambda: now[0])
    assert ask() is ask()
    now[0] = CACHE_S + 0.1
    assert ask().detail == "2"
    assert asked == [0.0, now[0]]


def test_probe_is_repeated_after_a_change() -> None:
    now = [0.0]
    told = [AvailabilityState.NOT_RUNNING, AvailabilityState.AVAILABLE]
    ask = AvailabilityCache(lambda: Availability(told.pop(0)), lambda: now[0])
    assert ask().state is AvailabilityState.NOT_RUNNING
    now[0] = 1.5  # as fast as typed commands
    assert ask().state is AvailabilityState.AVAILABLE


def test_waiting_caller_gets_the_slow_answer() -> None:
    asked, now = [], [0.0]

    def look() -> Availability:
        asked.append(now[0])
        now[0] += 9.0
        return Availability(AvailabilityState.UNKNOWN)

    ask = AvailabilityCache(look, lambda: now[0])
    assert ask() is ask()
    assert asked == [0.0]


def test_answer_from_before_the_end_of_maintenance_is_discarded() -> None:
    """Seen: the maintenance page in 'status' for seconds after users were let in."""
    door = ["closed"]
    told = [AvailabilityState.MAINTENANCE, AvailabilityState.AVAILABLE]
    ask = AvailabilityCache(
        lambda: Availability(told.pop(0)), lambda: 0.0, read_cache_key=lambda: door[0]
    )
    assert ask().state is AvailabilityState.MAINTENANCE
    door[0] = "open"
    assert ask().state is AvailabilityState.AVAILABLE
    assert ask().state is AvailabilityState.AVAILABLE


def test_probe_started_before_the_end_of_maintenance_is_discarded() -> None:
    door = ["closed"]
    began, go_on = threading.Event(), threading.Event()
    told = [AvailabilityState.MAINTENANCE]

    def look() -> Availability:
        seen = told.pop(0) if told else AvailabilityState.AVAILABLE
        began.set()
        go_on.wait(20)
        return Availability(seen)

    ask = AvailabilityCache(look, lambda: 0.0, read_cache_key=lambda: door[0])
    first = threading.Thread(target=ask)
    first.start()
    assert began.wait(20)
    door[0] = "open"
    threading.Timer(0, go_on.set).start()
    assert ask().state is AvailabilityState.AVAILABLE
    first.join(20)


def test_probes_are_rare_relative_to_their_duration() -> None:
    asked, now, took = [], [0.0], [3.0]

    def look() -> Availability:
        asked.append(now[0])
        now[0] += took[0]
        return Availability(AvailabilityState.AVAILABLE)

    ask = AvailabilityCache(look, lambda: now[0])
    ask()
    now[0] += CACHE_FACTOR * took[0]
    ask()
    assert asked == [0.0]
    now[0] += 0.1
    took[0] = 60.0
    ask()
    assert asked == [0.0, 9.1]
    now[0] += MAX_CACHE_S + 0.1  # outdated answers are not returned for minutes
    ask()
    assert len(asked) == 3


def test_at_most_one_probe_runs() -> None:
    begun: list[str] = []
    go_on = threading.Event()

    def look() -> Availability:
        begun.append("look")
        go_on.wait(20)
        return Availability(AvailabilityState.AVAILABLE)

    ask = AvailabilityCache(look, timeout_s=0.01)
    told = [ask() for _ in range(5)]
    assert {seen.state for seen in told} == {AvailabilityState.UNKNOWN}
    assert told[0].unknown_because == make_late_text(0.01)
    assert begun == ["look"]
    threading.Timer(0, go_on.set).start()
    while ask().state is AvailabilityState.UNKNOWN:
        pass
    assert begun == ["look"]


def test_failed_probe_blocks_no_caller() -> None:
    def look() -> Availability:
        raise RuntimeError

    seen = AvailabilityCache(look)()
    assert seen.state is AvailabilityState.UNKNOWN
    assert str(seen.unknown_because) == "unexpected error; run: journalctl -u ncen-updater"


def test_service_without_units_probes_itself(tmp_path: Path) -> None:
    site = make_site(tmp_path / "site")
    (site.root / "door").touch()
    ask = create_availability_cache(site.config, load_config(site.config))
    assert ask().state is AvailabilityState.MAINTENANCE
    (site.root / "door").unlink()
    assert ask().state is AvailabilityState.NOT_RUNNING


@needs_activator
def test_offline_service_probes_through_its_unit(tmp_path: Path) -> None:
    site = make_site(tmp_path / "site")
    with site.config.open("a") as config:
        config.write('[service]\nrunner = "systemd"\napply_socket = "apply.sock"\n')
    ask = create_availability_cache(site.config, load_config(site.config))
    assert ask().state is AvailabilityState.UNKNOWN, "nobody listens yet"
    with unit(site.root):
        seen = create_availability_cache(site.config, load_config(site.config))()
    assert (seen.state, seen.process_runs) == (AvailabilityState.NOT_RUNNING, False)
