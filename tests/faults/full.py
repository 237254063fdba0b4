"""The whole fault matrix and the random kills, as a command of its own.

``python -m tests.faults.full [--engine sqlite|postgresql|both] [--matrix]
[--operation upgrade|rollback|both]
[--kind KIND|all] [--soak] [--part I/N] [--agent-kills N] [--server-kills N]
[--seed S] [--report FILE]``. Exits 1 if any promise was broken. All of
it takes some hours on two cores. Kinds of releases are in ``kinds.py``.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.faults.cells import all_cells, expected_versions, undo_cells
from tests.faults.kinds import FILES, KINDS, Kind
from tests.faults.nursery import DEADLINE_S
from tests.faults.soak import after_bad_soak, soak_strikes
from tests.faults.trial import NEW, OLD, Trial, trial
from tests.support.postgres import available, running

RESULT = dict[str, object]


@contextlib.contextmanager
def prepared(engine: str, kind: Kind = FILES) -> Iterator[Trial]:
    """A trial of a new release of this kind."""
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="nu-faults-"))
        server = None
        if engine == "postgresql":
            data = stack.enter_context(tempfile.TemporaryDirectory(prefix="nu-faults-pg-"))
            server = stack.enter_context(running(available()[-1], Path(data)))
        yield stack.enter_context(trial(Path(directory), server, kind=kind))


class Report:
    """Counts cells, and prints what was broken at once."""

    def __init__(self) -> None:
        self.rows: list[RESULT] = []

    def add(self, engine: str, kind: str, cell: str, problem: str = "", version: str = "") -> None:
        """Keep one result."""
        self.rows.append(
            {"engine": engine, "kind": kind, "cell": cell, "problem": problem, "version": version}
        )
        if problem:
            print(f"BROKEN {engine} {kind} {cell}: {problem}", flush=True)
        elif len(self.rows) % 50 == 0:
            print(f"{len(self.rows)} trials", flush=True)

    def summary(self) -> dict[str, object]:
        """Numbers by engine and kind."""
        found: dict[str, dict[str, int]] = {}
        for row in self.rows:
            entry = found.setdefault(f"{row['engine']} {row['kind']}", {"trials": 0, "broken": 0})
            entry["trials"] += 1
            entry["broken"] += bool(row["problem"])
            if row["version"]:
                key = f"ended on {row['version']}"
                entry[key] = entry.get(key, 0) + 1
        return {"broken": sum(bool(row["problem"]) for row in self.rows), **found}


def matrix(
    made: Trial, engine: str, report: Report, operations: tuple[str, ...], part: tuple[int, int]
) -> None:
    """Every cell of these operations, or every n-th beginning with the i-th."""
    for operation in operations:
        cells = (*all_cells(operation), *undo_cells(operation))
        for cell in cells[part[0] - 1 :: part[1]]:
            kind = f"matrix {operation}"
            try:
                outcome = made.run(cell)
            except Exception as error:  # noqa: BLE001 - one cell must not end the run
                report.add(engine, kind, cell.id, repr(error)[:2000])
                continue
            wrong = outcome.version not in expected_versions(cell, OLD, NEW)
            problem = "did not strike" if not outcome.struck else "wrong version" if wrong else ""
            report.add(engine, kind, cell.id, problem, outcome.version)


def bad_soaks(made: Trial, engine: str, report: Report, part: tuple[int, int]) -> None:
    """The rollback after a bad soak, killed at every instant, or every n-th."""
    for strike in [*soak_strikes()][part[0] - 1 :: part[1]]:
        name = f"{strike.step}.{strike.phase}"
        try:
            outcome = after_bad_soak(made, strike)
        except Exception as error:  # noqa: BLE001 - one trial must not end the run
            report.add(engine, "bad soak", name, repr(error)[:2000])
            continue
        wrong = outcome.version != OLD
        problem = "did not strike" if not outcome.struck else "wrong version" if wrong else ""
        report.add(engine, "bad soak", name, problem, outcome.version)


#: Seconds for which a killed server is away at most.
SERVER_AWAY_S = 10.0


def usual_s(made: Trial) -> float:
    """How long an undisturbed upgrade takes here and now: instants are shares of that."""
    made.reset(OLD)
    with made.start("upgrade") as process:
        began = time.monotonic()
        process.communicate(timeout=DEADLINE_S)
        return time.monotonic() - began


def agent_kills(made: Trial, engine: str, report: Report, number: int, seed: int) -> None:
    """SIGKILL the agent at random instants of upgrades and rollbacks, and of their recoveries."""
    chance = random.Random(seed)
    usual = usual_s(made)
    for trial_number in range(number):
        operation = "rollback" if trial_number % 3 == 2 else "upgrade"
        shares = [chance.uniform(0.1, 1.2)]
        while chance.random() < 0.3:
            shares.append(chance.uniform(0.1, 0.6))
        name = f"{trial_number} {operation} after {[round(s, 3) for s in shares]} of {usual:.3f} s"
        try:
            made.reset(NEW if operation == "rollback" else OLD)
            for share in shares:
                _kill_after(made, operation, share * usual)
                operation = "resume-auto"
            version, _ = made.settle()
        except Exception as error:  # noqa: BLE001 - one trial must not end the run
            report.add(engine, "agent kills", name, repr(error)[:2000])
        else:
            report.add(engine, "agent kills", name, "", version)


def _kill_after(made: Trial, operation: str, delay: float) -> None:
    with made.start(operation) as process:
        try:
            process.communicate(timeout=delay)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # not yet waited for: its pid is still valid
            process.communicate(timeout=DEADLINE_S)


def server_kills(made: Trial, engine: str, report: Report, number: int, seed: int) -> None:
    """SIGKILL every process of the database server at random instants, and start it again."""
    chance = random.Random(seed)
    server = made.server
    if server is None:
        return
    usual = usual_s(made)
    for trial_number in range(number):
        share = chance.uniform(0.2, 1.1)
        name = f"{trial_number} server after {share:.3f} of {usual:.3f} s"
        try:
            made.reset(OLD)
            with made.start("upgrade") as process:
                time.sleep(share * usual)  # the instant of the kill, not a synchronisation
                server.kill()
                # Half of the time the server returns at once, otherwise when the agent has ended
                # or has waited for it; to the end it would wait for minutes.
                if chance.random() < 0.5:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.communicate(timeout=SERVER_AWAY_S)
                server.start()
                process.communicate(timeout=DEADLINE_S)
            version, _ = made.settle()
        except Exception as error:  # noqa: BLE001 - one trial must not end the run
            report.add(engine, "server kills", name, repr(error)[:2000])
        else:
            report.add(engine, "server kills", name, "", version)


def main() -> int:
    """Run what was asked for; print the summary as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", choices=("sqlite", "postgresql", "both"), default="both")
    parser.add_argument("--matrix", action="store_true")
    parser.add_argument("--operation", choices=("upgrade", "rollback", "both"), default="both")
    parser.add_argument("--soak", action="store_true", help="kill the rollback after a bad soak")
    parser.add_argument("--kind", choices=(*KINDS, "all"), default=FILES.name, help="of release")
    parser.add_argument("--part", default="1/1", help="i/n: so that n processes share the work")
    parser.add_argument("--agent-kills", type=int, default=0)
    parser.add_argument("--server-kills", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--report", type=Path)
    options = parser.parse_args()
    report = Report()
    engines = ("sqlite", "postgresql") if options.engine == "both" else (options.engine,)
    number, _, parts = options.part.partition("/")
    part = (int(number), int(parts))
    both = ("upgrade", "rollback")
    operations = both if options.operation == "both" else (options.operation,)
    kinds = [*KINDS.values()] if options.kind == "all" else [KINDS[options.kind]]
    for kind in kinds:
        if kind.runs_program and os.geteuid() == 0:
            parser.error(f"--kind {kind.name} runs a release's program: as an ordinary user only")
    for kind, engine in itertools.product(kinds, engines):
        if engine not in kind.engines:
            continue
        named = engine if kind == FILES else f"{engine} {kind.name}"
        with prepared(engine, kind) as made:
            if options.matrix:
                matrix(made, named, report, operations, part)
            if options.soak:
                bad_soaks(made, named, report, part)
            agent_kills(made, named, report, options.agent_kills, options.seed)
            server_kills(made, named, report, options.server_kills, options.seed)
    if options.report:
        options.report.write_text(json.dumps(report.rows, indent=1), "utf-8")
    print(json.dumps(report.summary()))
    return 1 if report.summary()["broken"] else 0


if __name__ == "__main__":
    sys.exit(main())
