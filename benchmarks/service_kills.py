"""The real service on a real site, killed at random moments and restarted: is the site correct?

Each trial starts with a site of the previous release and a newer one in the feed: the service
checks, downloads, rehearses, upgrades, soaks and prunes, each in a child process. SIGKILL is sent
two or three times at seeded moments to the service, to its children, or to all at once. Then the
service is restarted and left alone. At the end of each trial the site has one version with every
record, users can work, nothing was started outside the window, and no leftovers remain.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from packaging.version import Version

from benchmarks.report import finish, print_line
from benchmarks.sites import server
from demo.databases import PostgresPlace
from demo.site import DemoSite, SiteOptions
from ncen_updater.agent.adapters.databases.base import DatabaseRole
from ncen_updater.agent.engine.operations import Operations
from ncen_updater.agent.model.event_names import JOURNAL_FILE
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.service_state import SERVICE_STATE_PATH
from ncen_updater.common.progress import SilentProgress
from tests.support.live_service import ServedSite, closed_hours, open_hours
from tests.support.sites import TrialFeed, connect, serve, site_in_process

START, TARGET = "3.2.4", "3.3.0"
#: The service counts as idle after this time without an operation.
QUIET_S = 4.0
DAY_S = 86_400
VICTIMS = ("service", "children", "both")


@dataclass
class Tally:
    """Results of the trials."""

    wrong: list[str] = field(default_factory=list)
    ends: Counter[str] = field(default_factory=Counter)
    kills: Counter[str] = field(default_factory=Counter)
    struck: Counter[str] = field(default_factory=Counter)


@contextlib.contextmanager
def _site(place: PostgresPlace | None, cases: int) -> Iterator[ServedSite]:
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nu-kills-")))
        feed = TrialFeed(directory)
        feed.publish([TARGET])
        url = stack.enter_context(serve(feed.directory))
        options = SiteOptions(
            feed_urls=(url,), cases=cases, icomm=False, soak_s=0.5, health_timeout_s=30,
            settings={"retention": {"previous_days": 1 / DAY_S}},
        )  # fmt: skip
        demo = stack.enter_context(DemoSite(directory / "site", place, options))
        connect(demo, feed)
        demo.start_app()
        served = ServedSite(demo)
        stack.callback(served.stop)
        yield served


def _as_before(served: ServedSite) -> None:
    """Reset the site to the previous release, without a trace of the newer one."""
    site = site_in_process(served.demo)
    site.release_source.refresh()
    if served.current() != START:
        Operations(site, SilentProgress()).rollback()
    if Version(TARGET) in site.slots.list_versions():
        site.slots.remove_slot(Version(TARGET))
    with (
        Journal.open(served.demo.state / JOURNAL_FILE) as journal,
        journal.transaction() as connection,
    ):
        connection.execute("DELETE FROM rehearsals")
        connection.execute("DELETE FROM bad_releases")
    (served.demo.state / SERVICE_STATE_PATH).unlink(missing_ok=True)


def _settle(served: ServedSite) -> None:
    """Wait until the service is idle."""
    quiet_since = time.monotonic()

    def quiet() -> bool:
        nonlocal quiet_since
        known = served.service_state()
        if not served.at_rest() or known.checked_at is None:
            quiet_since = time.monotonic()
        return time.monotonic() - quiet_since > QUIET_S

    served.until("it comes to rest", quiet, 300.0)


def _at_work(served: ServedSite) -> str:
    """Return the command that the service is running, for the count."""
    for child in served.children():
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{child}/cmdline").read_bytes().decode().split("\0")
            for word in ("check", "plan", "rehearse", "upgrade", "resume", "prune", "assess"):
                if word in words:
                    return word
    return "nothing"


def _trial(served: ServedSite, chance: random.Random, whole_s: float, tally: Tally) -> str:
    _as_before(served)
    closed = chance.random() < 0.25
    hours = closed_hours() if closed else open_hours()
    served.configure(service={"timezone": "UTC", "mode": "automatic", "windows": [hours]})
    before, began = served.records(), datetime.now(UTC)
    for _ in range(chance.randint(2, 3)):
        served.start()
        time.sleep(chance.uniform(0.2, whole_s))
        victim = chance.choice(VICTIMS)
        tally.kills[victim] += 1
        tally.struck[_at_work(served)] += 1
        served.kill(service=victim != "children", children=victim != "service")
        if victim == "children":
            time.sleep(chance.uniform(0.0, 2.0))
            served.kill()
    served.start()
    _settle(served)
    status = served.stop()
    wrong = served.judge(before, START)
    wrong += [f"outside the window: {name}" for name in served.outside(hours, began)]
    if closed and served.current() != START:
        wrong.append("upgraded although the window was closed")
    if status not in (0, -signal.SIGTERM):
        wrong.append(f"the service ended with {status}")
    left = list(site_in_process(served.demo).database_engine.list_leftovers())
    wrong += [f"left over: {item}" for item in left if item[1] is DatabaseRole.CANDIDATE]
    with served.journal() as journal:
        journal.verify_chain()
    end = f"{served.current()}{', window closed' if closed else ''}"
    tally.ends[end] += 1
    tally.wrong += wrong
    return f"{end}{' WRONG ' + '; '.join(wrong) if wrong else ''}"


def _whole(served: ServedSite) -> float:
    """Return the seconds from the start of the service to the end of all work, without a kill."""
    hours = open_hours()
    served.configure(service={"timezone": "UTC", "mode": "automatic", "windows": [hours]})
    begin = time.monotonic()
    served.start()
    served.until("collected", lambda: "collect-ended" in served.kinds(), 300.0)
    seconds = time.monotonic() - begin
    served.stop()
    return seconds


def _run(place: PostgresPlace | None, trials: int, seed: int, cases: int, tally: Tally) -> None:
    kind = "postgresql" if place else "sqlite"
    chance = random.Random(f"{seed} {kind}")
    with _site(place, cases) as served:
        whole_s = _whole(served)
        print_line(f"{kind}: from start to collected in {whole_s:.0f} s without a kill")
        for number in range(trials):
            print_line(f"  {kind} {number}: {_trial(served, chance, whole_s, tally)}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and print one line of JSON; exit status 1 if a site was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sqlite", type=int, default=5, help="trials")
    parser.add_argument("--postgresql", type=int, default=5, help="trials")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cases", type=int, default=60)
    chosen = parser.parse_args(arguments)
    tally = Tally()
    if chosen.sqlite:
        _run(None, chosen.sqlite, chosen.seed, chosen.cases, tally)
    if chosen.postgresql:
        with server() as (running, _):
            place = PostgresPlace(
                str(running.host), prefix="kills_", programs=running.binaries.directory
            )
            _run(place, chosen.postgresql, chosen.seed, chosen.cases, tally)
    finish(
        "service_kills",
        {
            "trials": sum(tally.ends.values()),
            "kills": dict(tally.kills),
            "struck_at": dict(tally.struck),
            "ends": dict(tally.ends),
            "wrong": tally.wrong,
            "aims": {"wrong": 0},
        },
    )
    raise SystemExit(1 if tally.wrong else 0)


if __name__ == "__main__":
    main()
