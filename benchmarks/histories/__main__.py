"""Random histories of a site: test that no fault and no foreign session loses a record.

``python -m benchmarks.histories --engine postgresql --server 17 --trials 100 --seed 1 --report
FILE``; ``--sum FILES`` adds reports up. Exit status 1 if any trial was wrong.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmarks.histories.history import History, Trial
from benchmarks.histories.judge import Kind
from benchmarks.histories.plans import Plan, choose_plan, parse_plan
from benchmarks.histories.report import format_line, format_tables, read_reports
from benchmarks.histories.stage import Stage
from benchmarks.report import finish, print_line

#: Maximum number of trials in one history; then a fresh site is started.
LONGEST = 14


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.histories", description=__doc__)
    parser.add_argument("--engine", choices=("postgresql", "sqlite"), default="postgresql")
    parser.add_argument("--server", type=int, help="major version; default: the newest installed")
    parser.add_argument("--strangers", default="", help="prefix of the foreign sessions to use")
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--seconds", type=float, help="time limit, checked between trials")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--report", type=Path, help="file to which a line of JSON is appended for each trial"
    )
    parser.add_argument("--keep", type=Path, help="directory for the sites of wrong trials")
    parser.add_argument("--plan", help="repeat a plan from a report (JSON) on fresh sites")
    parser.add_argument("--before", default="3.2.4", help="the release at which the plan begins")
    parser.add_argument("--sum", type=Path, nargs="+", help="sum up reports as Markdown")
    chosen = parser.parse_args(words)
    if chosen.engine == "sqlite":
        chosen.server = None
    return chosen


def _format_trial(trial: Trial) -> str:
    plan, fault = trial.plan, trial.plan.fault
    words = [f"{trial.number}: {plan.operation} from {trial.before}"]
    if plan.stranger:
        words.append(f"beside {plan.stranger} ({trial.stranger})")
    if fault:
        words.append(f"{fault.kind} [{' '.join(fault.instant)} {fault.number}] {trial.struck}")
    words.append(f"{trial.resumes} resumes, {trial.seconds} s, {trial.verdict.kind}")
    words += trial.verdict.reasons
    return "; ".join(words)


def _run_trials(chosen: argparse.Namespace) -> Counter[str]:
    tried: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    run = {name: getattr(chosen, name) for name in ("engine", "server", "seed")}
    began = time.monotonic()
    fixed = parse_plan(json.loads(chosen.plan)) if chosen.plan else None
    with Stage(chosen.engine, chosen.server) as stage:
        history = History(stage, f"{chosen.seed}")
        history.begin()
        print_line(f"laid out in {time.monotonic() - began:.0f} s")
        with history.users:
            for number in range(1, chosen.trials + 1):
                if chosen.seconds and time.monotonic() - began > chosen.seconds:
                    break
                chance = random.Random(f"{chosen.seed} {number}")
                if history.age >= LONGEST:
                    history.reset()
                if fixed:
                    history.upgrade_to(chosen.before)
                plan = fixed or _choose_plan(history, chance, tried, chosen)
                try:
                    trial = history.trial(number, plan, chance)
                except Exception:  # noqa: BLE001 - a mistake of the benchmark is no verdict
                    kinds["benchmark failed"] += 1
                    print_line(f"{number}: the benchmark failed: {traceback.format_exc()}")
                    print_line(f"  plan: {json.dumps(plan.to_json())}")
                    stage.renew()
                    stage.repair()
                    history.reset()
                    continue
                kinds[str(trial.verdict.kind)] += 1
                print_line(_format_trial(trial))
                if chosen.report:
                    with chosen.report.open("a", encoding="utf-8") as report:
                        report.write(format_line(trial, run) + "\n")
                if trial.verdict.kind is Kind.WRONG:
                    print_line(f"WRONG: seed {chosen.seed}, trial {number}: {'; '.join(trial.log)}")
                    print_line(f"  plan: {json.dumps(trial.plan.to_json())}")
                    if chosen.keep:
                        stage.keep(chosen.keep / f"{chosen.seed}-{number}")
                    history.reset()
    return kinds


def _choose_plan(
    history: History, chance: random.Random, tried: Counter[str], chosen: argparse.Namespace
) -> Plan:
    operations = history.list_operations()
    if not operations:
        history.reset()
        operations = history.list_operations()
    return choose_plan(chance, tried, chosen.engine, operations, chosen.strangers)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the trials, or sum up reports."""
    chosen = _arguments(arguments)
    if chosen.sum:
        rows = read_reports(chosen.sum)
        sys.stdout.write(format_tables(rows) + "\n")
        return 1 if any(row["kind"] == Kind.WRONG for row in rows) else 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    kinds = _run_trials(chosen)
    finish("histories", {"trials": sum(kinds.values()), **kinds, "aims": {"WRONG": 0}})
    return 1 if kinds[Kind.WRONG] else 0


if __name__ == "__main__":
    sys.exit(main())
