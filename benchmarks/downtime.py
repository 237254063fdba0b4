"""Compare the downtime of an upgrade with dump and migrate, and its revert with a restore.

The agent's side is the product itself: a real site, a real feed, every step as the journal timed
it. Each turn installs a release that migrates well and never becomes healthy. So one change shows
the downtime and the revert, and the site is as before for the next turn. At the end one good
upgrade is made, and one of a SQLite site of the same size.

With ``--before DIR``, a checkout of another commit (``git worktree add DIR COMMIT``), it measures
the whole downtime instead, as users see it who enter cases all the time: of that commit and of
this one, in turns, on servers of their own.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.version import Version

from benchmarks.classical import Classical
from benchmarks.report import finish, median, print_line
from benchmarks.sites import RECORDS_SHARE, Trial, checkpoint, server, trial_site
from benchmarks.timeline import Timeline, timeline
from demo.databases import PostgresPlace
from demo.embedded_postgres import PostgresBinaries
from ncen_updater.agent.engine.operations import Operations
from ncen_updater.agent.engine.site import Site
from ncen_updater.agent.model.change import DOWNTIME_STEPS, StepName
from ncen_updater.agent.model.change_facts import ChangeFacts
from ncen_updater.agent.model.errors import ChangeFailedError
from ncen_updater.agent.model.event_names import JOURNAL_FILE
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common.i18n import LazyText
from tests.support.sites import site_in_process

GOOD, BAD = "3.3.0", "3.3.4"
# Users cannot work during these; stopping and starting the application and migrating count apart.
OURS = (
    StepName.MAINTENANCE_ON,
    StepName.FENCE,
    StepName.FINAL_PREFLIGHT,
    StepName.COPY,
    StepName.CUT_OVER,
    StepName.SWITCH,
    StepName.COMMIT,
    StepName.MAINTENANCE_OFF,
)
BACK = (StepName.SWITCH, StepName.CUT_OVER, StepName.MIGRATE)
BACK_WHOLE = (
    *BACK,
    StepName.COPY,
    StepName.FINAL_PREFLIGHT,
    StepName.FENCE,
    StepName.MAINTENANCE_ON,
)
HERE = Path(__file__).parents[1]
WHOLE_AIMS = {"ext4, 1 GB": 0.6, "PostgreSQL 18 with clone": 0.35}
AIMS = {"stop": 0.35, "cut_over_s": 0.05, "back": 0.02}


class Stopwatch:
    """A listener that keeps when the statistics of the copies were updated."""

    def __init__(self) -> None:
        self.analyze_s = 0.0
        self._since: float | None = None

    def report(self, text: LazyText, done: int | None = None, total: int | None = None) -> None:
        """End what was being timed, and begin again at the statistics of a database."""
        now = time.monotonic()
        if self._since is not None:
            self.analyze_s += now - self._since
        self._since = now if "statistics" in text.template else None


class SwapWatch(logging.Handler):
    """Keeps the seconds of the transactions that rename the databases, as the product logs them."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.seconds: dict[str, float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the newest of each direction."""
        if record.msg == "databases renamed":
            self.seconds[str(vars(record)["event"])] = vars(record)["seconds"]


@dataclass(frozen=True)
class Turn:
    """One turn: both ways on the same data, seconds.

    Attributes:
        stop: Ours without stopping and starting the application and without migrating.
        cut_over: The transaction that renames all databases.
        cut_over_act: With the sessions, looks and fences around it.
        back: Taking back cut-over and code.
        back_whole: With dropping the copies and opening the databases.
    """

    dump: float
    restore: float
    stop: float
    cut_over: float
    cut_over_act: float
    back: float
    back_whole: float
    migrate: float
    steps: Timeline


def _turn(trial: Trial, site: Site, classical: Classical, watch: SwapWatch) -> Turn:
    trial.site.stop_app()
    checkpoint(classical.place)
    dump = classical.dump()
    restore = classical.restore()
    classical.clean()
    checkpoint(classical.place)
    trial.site.start_app()
    try:
        Operations(site, Stopwatch()).upgrade(Version(BAD), retry=True)
    except ChangeFailedError as error:
        if error.values["step"] != StepName.HEALTH:
            raise
    steps, facts = _last(site)
    return Turn(
        dump=dump,
        restore=restore,
        stop=steps.sum(OURS),
        cut_over=watch.seconds["over"],
        cut_over_act=facts.cut_over_s or 0.0,
        back=steps.sum_back(BACK),
        back_whole=steps.sum_back(BACK_WHOLE),
        migrate=steps.there["migrate"],
        steps=steps,
    )


def _last(site: Site) -> tuple[Timeline, ChangeFacts]:
    with Journal.open(site.state_directory / JOURNAL_FILE, read_only=True) as journal:
        change = journal.list_changes(1)[0]
        return timeline(journal.list_events(change=change.id), change.id), journal.read_facts(
            change.id
        )


def _good(site: Site) -> dict[str, object]:
    watch = Stopwatch()
    outcome = Operations(site, watch).upgrade(Version(GOOD)).outcomes[0]
    steps, _ = _last(site)
    return {
        "downtime_s": outcome.downtime_s,
        "analyze_s": round(watch.analyze_s, 3),
        "steps_s": {name: round(value, 3) for name, value in steps.there.items()},
    }


def _postgres(
    place: PostgresPlace,
    binaries: PostgresBinaries,
    size: int,
    turns: int,
    records: float,
) -> dict[str, object]:
    with (
        tempfile.TemporaryDirectory(prefix="nu-bench-dump-") as scratch,
        trial_site(place, size, [GOOD, BAD], records=records, health_timeout_s=5.0) as trial,
    ):
        site = site_in_process(trial.site)
        classical = Classical(place, binaries, Path(scratch) / "dumps")
        watch, done = SwapWatch(), []
        swaps = logging.getLogger("ncen_updater.agent.adapters.databases.postgresql.cut_over")
        swaps.setLevel(logging.INFO)
        swaps.addHandler(watch)
        for number in range(turns):
            turn = _turn(trial, site, classical, watch)
            done.append(turn)
            print_line(
                f"  turn {number + 1}: dump {turn.dump:.2f} s, restore {turn.restore:.2f} s;"
                f" stop {turn.stop:.3f} s, cut-over {turn.cut_over * 1000:.1f} ms"
                f" ({turn.cut_over_act * 1000:.0f} ms with all around it),"
                f" back {turn.back:.3f} s"
            )
            print_line(f"    there {_shown(turn.steps.there)}")
            print_line(f"    back  {_shown(turn.steps.back)}")
    with trial_site(
        place_of(place, "good_"), size, [GOOD], records=records, health_timeout_s=20.0
    ) as trial:
        good = _good(site_in_process(trial.site))
        print_line(f"  good: stop {good['downtime_s']} s {good['steps_s']}")
    return {
        "database_bytes": trial.database_bytes,
        "dump_s": median([t.dump for t in done]),
        "restore_s": median([t.restore for t in done]),
        "downtime_s": median([t.stop for t in done]),
        "cut_over_s": median([t.cut_over for t in done]),
        "cut_over_act_s": median([t.cut_over_act for t in done]),
        "rollback_s": median([t.back for t in done]),
        "back_whole_s": median([t.back_whole for t in done]),
        "migrate_s": median([t.migrate for t in done]),
        "stop_ratio": round(statistics.median(t.stop / t.dump for t in done), 4),
        "back_ratio": round(statistics.median(t.back / t.restore for t in done), 4),
        "back_whole_ratio": round(statistics.median(t.back_whole / t.restore for t in done), 4),
        "good": good,
    }


def place_of(place: PostgresPlace, prefix: str) -> PostgresPlace:
    """Return another set of databases on the same server."""
    return dataclasses.replace(place, prefix=prefix)


def _sqlite(size: int, records: float) -> dict[str, object]:
    with trial_site(None, size, [GOOD], records=records, health_timeout_s=20.0) as trial:
        good = _good(site_in_process(trial.site))
        print_line(f"  SQLite: stop {good['downtime_s']} s {good['steps_s']}")
        return {"database_bytes": trial.database_bytes, **good}


def _shown(seconds: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in seconds.items())


def whole_stop(chosen: argparse.Namespace) -> None:
    """Measure the whole downtime of two versions, and print one line of JSON."""
    results: dict[str, object] = {}
    for gigabytes in chosen.sizes.split(","):
        print_line(f"{gigabytes} GB: two sites are being made")
        with contextlib.ExitStack() as stack:
            checkouts = {"before": chosen.before.resolve(), "now": HERE}
            sides = {
                side: stack.enter_context(_measure_checkout(checkout, gigabytes, chosen))
                for side, checkout in checkouts.items()
            }
            size = {side: _answer(process)["database_bytes"] for side, process in sides.items()}
            turns: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
            for number in range(chosen.turns):
                for side, process in sides.items():
                    turn = _answer(process, "turn")
                    turns[side].append(turn)
                    print_line(
                        f"  turn {number + 1}, {side}: {turn['downtime_s']} s"
                        f" {_shown(turn['parts'])}"
                    )
        found = {side: _medians(size[side], turns[side]) for side in sides}
        before, now = (found[side]["downtime_s"] for side in ("before", "now"))
        ratio = round(now / before, 3)
        print_line(f"{gigabytes} GB: {before} s before, {now} s now, {ratio}")
        results[gigabytes] = {**found, "ratio": ratio}
    figures = {"postgresql": chosen.postgresql, "turns": chosen.turns, "gb": results}
    finish("whole stop", {**figures, "aims": WHOLE_AIMS})


@contextlib.contextmanager
def _measure_checkout(
    checkout: Path, gigabytes: str, chosen: argparse.Namespace
) -> Iterator[subprocess.Popen[str]]:
    """Run a site of one version, which waits for its turns."""
    # With the libraries of its own time, where it was bootstrapped.
    python = checkout / ".venv" / "bin" / "python"
    argv = [
        str(python) if python.exists() else sys.executable,
        "-P", str(HERE / "benchmarks" / "whole_downtime.py"), f"--gb={gigabytes}",
        f"--postgresql={chosen.postgresql}", f"--records={chosen.records}",
    ]  # fmt: skip
    if chosen.directory is not None:
        argv.append(f"--directory={chosen.directory}")
    with subprocess.Popen(
        argv,
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        # The end of its input is the end of its turns; it then takes its site away.
        process.communicate()


def _answer(process: subprocess.Popen[str], ask: str | None = None) -> dict[str, Any]:
    if process.stdin is None or process.stdout is None:
        raise SystemExit("a site cannot be talked to")
    if ask is not None:
        process.stdin.write(f"{ask}\n")
        process.stdin.flush()
    line = process.stdout.readline()
    if not line:
        raise SystemExit("a site ended before its turn")
    found: dict[str, Any] = json.loads(line)
    return found


def _medians(size: int, turns: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return medians of the whole downtime and of its parts."""
    names = [name for name in DOWNTIME_STEPS if name in turns[0]["parts"]]
    return {
        "database_bytes": size,
        "downtime_s": median([turn["downtime_s"] for turn in turns]),
        "all_s": [turn["downtime_s"] for turn in turns],
        "parts_s": {
            name: median([turn["parts"].get(name, 0.0) for turn in turns]) for name in names
        },
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Run, and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="0.01,0.1,1", help="GB in total, with commas")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument(
        "--records", type=float, default=RECORDS_SHARE, help="part that is records, not photos"
    )
    parser.add_argument("--postgresql", type=int, default=17, help="major version of the server")
    parser.add_argument("--before", type=Path, help="checkout of an earlier version")
    parser.add_argument("--directory", type=Path, help="of the servers, with --before")
    chosen = parser.parse_args(arguments)
    if chosen.before is not None:
        whole_stop(chosen)
        return
    results: dict[str, object] = {}
    sqlite: dict[str, object] = {}
    ratios: dict[str, object] = {}
    for gigabytes in chosen.sizes.split(","):
        size = int(float(gigabytes) * 1e9)
        with server(chosen.postgresql) as (running, binaries):
            place = PostgresPlace(
                str(running.host), prefix="bench_", programs=running.binaries.directory
            )
            figures = _postgres(place, binaries, size, chosen.turns, chosen.records)
        results[gigabytes] = figures
        sqlite[gigabytes] = _sqlite(size, chosen.records)
        ratios[gigabytes] = {
            "stop": figures["stop_ratio"],
            "back": figures["back_ratio"],
            "cut_over_s": figures["cut_over_s"],
        }
    finish(
        "downtime",
        {
            "postgresql": chosen.postgresql,
            "turns": chosen.turns,
            "records": round(chosen.records, 2),
            "gb": results,
            "sqlite": sqlite,
            "ratios": ratios,
            "aims": AIMS,
        },
    )


if __name__ == "__main__":
    main()
