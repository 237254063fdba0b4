"""``python -m benchmarks.machine``: the machine trial; see ``benchmarks/README.md``."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.machine import trouble
from benchmarks.machine.boots import flicker, late, torn_and_late
from benchmarks.machine.box import cannot_run
from benchmarks.machine.disk import Image
from benchmarks.machine.kinds import try_kinds
from benchmarks.machine.line import Outside
from benchmarks.machine.mistakes import try_mistakes
from benchmarks.machine.peer import try_peer
from benchmarks.machine.prepare import Ground
from benchmarks.machine.record import Recorded, record_rollback, record_upgrade
from benchmarks.machine.replay import replay
from benchmarks.machine.restarts import maintenance, power_cuts, restarts
from benchmarks.machine.setup import try_setup
from benchmarks.machine.units import (
    exposure,
    list_missing_files,
    list_unexpected,
    log_in,
    try_units,
)
from benchmarks.report import finish, print_line

CANNOT = 77
INTERRUPTED = 130
#: Number of cuts in each step; a step of a few flushes gets as many as the others.
UPGRADE = {
    "fetch": 1, "build-slot": 1, "preflight": 1, "maintenance-on": 1, "stop": 1, "fence": 2,
    "final-preflight": 1, "copy": 3, "migrate": 4, "cut-over": 5, "switch": 3, "start": 2,
    "health": 2, "commit": 5, "maintenance-off": 2, "soak": 2, "prune": 2,
}  # fmt: skip
ROLLBACK = {
    "maintenance-on": 1, "copy": 2, "migrate": 2, "cut-over": 3, "switch": 1, "health": 1,
    "commit": 3,
    "maintenance-off": 1, "prune": 1,
}  # fmt: skip
Part = Callable[[Ground, argparse.Namespace], Mapping[str, Any]]


def guide(ground: Ground, _: argparse.Namespace) -> Mapping[str, Any]:
    """Report the exit status of each command of the guide."""
    typed = json.loads((ground.work / "guide.json").read_text("utf-8"))
    return {"lines": len(typed), "wrong": [line for line in typed if line["status"]]}


def units(ground: Ground, _: argparse.Namespace) -> Mapping[str, Any]:
    """Check what each unit can write and reach."""
    outside = Outside(ground.secretariat.feed)
    box = ground.box(Image(ground.site), "units")
    try:
        box.boot()
        outside.connect(box)
        tried = try_units(box.container, ground.secretariat.directory)
        wrong = [line for unit, found in tried.items() for line in list_unexpected(unit, found)]
        wrong += list_missing_files(box.container)
        wrong += log_in(box.container)
        return {"exposure": exposure(box.container), "tried": tried, "wrong": wrong}
    finally:
        box.close()
        outside.close()


def boots(ground: Ground, options: argparse.Namespace) -> Mapping[str, Any]:
    """Measure the seconds from power on until users can work."""
    sides = [side == "with" for side in options.agent]
    rows = late(ground, options.late, options.seed, agents=sides)
    return {"rows": [asdict(row) for row in rows], "wrong": _wrong(rows)}


def torn(ground: Ground, options: argparse.Namespace) -> Mapping[str, Any]:
    """Measure the boot after an interrupted upgrade, with a late database server."""
    rows = torn_and_late(ground, _upgrade(ground), (*options.late, None), options.seed)
    return {"rows": [asdict(row) for row in rows], "wrong": _wrong(rows)}


def flickering(ground: Ground, options: argparse.Namespace) -> Mapping[str, Any]:
    """Cut the power repeatedly during the recovery of an interrupted upgrade."""
    rows = [flicker(ground, _upgrade(ground), 6, options.seed)]
    return {"rows": [asdict(row) for row in rows], "wrong": _wrong(rows)}


def upgrade(ground: Ground, options: argparse.Namespace) -> Mapping[str, Any]:
    """Replay power cuts of an upgrade by the service."""
    return _replayed(ground, _upgrade(ground), UPGRADE, options)


def rollback(ground: Ground, options: argparse.Namespace) -> Mapping[str, Any]:
    """Replay power cuts of a rollback."""
    directory = ground.work / "rollback"
    if not directory.exists():
        print_line("recording a rollback")
        before = _upgrade(ground)
        record_rollback(before, ground.secretariat, ground.place("record"), directory)
    return _replayed(ground, Recorded.load(directory), ROLLBACK, options)


def renewal(ground: Ground, options: argparse.Namespace) -> Mapping[str, Any]:
    """Cut the power during the installation of a newer package, and during a self-update."""
    _upgrade(ground)
    rows = []
    if options.newer is not None:
        rows += trouble.package(ground, options.newer, 4 * options.times, options.seed)
    if options.release is not None:
        rows += trouble.self_update(ground, options.release, 4 * options.times, options.seed)
    if not rows:
        print_line("neither --newer nor --release is given: nothing is renewed")
    return {"rows": [asdict(row) for row in rows], "wrong": _wrong(rows)}


def room(ground: Ground, options: argparse.Namespace) -> Mapping[str, Any]:
    """Fill the disk during a change."""
    _upgrade(ground)
    rows = trouble.full_disk(ground, options.seed)
    return {"rows": [asdict(row) for row in rows], "wrong": _wrong(rows)}


def world(ground: Ground, _: argparse.Namespace) -> Mapping[str, Any]:
    """Test a network outage, and a clock that is years off."""
    _upgrade(ground)
    rows = [*trouble.no_line(ground), *trouble.clocks(ground)]
    return {"rows": [asdict(row) for row in rows], "wrong": _wrong(rows)}


def removal(ground: Ground, options: argparse.Namespace) -> Mapping[str, Any]:
    """Remove the package during a change."""
    _upgrade(ground)
    rows = trouble.removal(ground, 3 * options.times, options.seed)
    return {"rows": [asdict(row) for row in rows], "wrong": _wrong(rows)}


def peer(ground: Ground, options: argparse.Namespace) -> Mapping[str, Any]:
    """Follow the quick start with other paths, and cut the power in the copy."""
    rows = try_peer(ground, options.seed)
    return {"rows": [asdict(row) for row in rows], "wrong": _wrong(rows)}


def setup(ground: Ground, options: argparse.Namespace) -> Mapping[str, Any]:
    """Set a site up, undo it, and interrupt it."""
    rows = try_setup(ground, options.seed, options.act)
    return {"rows": [asdict(row) for row in rows], "wrong": _wrong(rows)}


def kinds(ground: Ground, options: argparse.Namespace) -> Mapping[str, Any]:
    """Set a site of each kind up from a bare Debian, and undo it."""
    rows = try_kinds(ground, options.act)
    return {"rows": [asdict(row) for row in rows], "wrong": _wrong(rows)}


def mistakes(ground: Ground, _: argparse.Namespace) -> Mapping[str, Any]:
    """Make mistakes in a setup."""
    rows = try_mistakes(ground)
    return {"rows": [asdict(row) for row in rows], "wrong": _wrong(rows)}


def restarted(ground: Ground, options: argparse.Namespace) -> Mapping[str, Any]:
    """Restart and stop units in the middle of an upgrade, as people and tools do."""
    _upgrade(ground)
    rows = restarts(ground, options.act)
    return {"rows": [asdict(row) for row in rows], "wrong": _wrong(rows)}


def cuts(ground: Ground, options: argparse.Namespace) -> Mapping[str, Any]:
    """Twelve power cuts of an idle site."""
    rows = power_cuts(ground, options.seed)
    return {"rows": [asdict(row) for row in rows], "wrong": _wrong(rows)}


def portal(ground: Ground, options: argparse.Namespace) -> Mapping[str, Any]:
    """Test a maintenance file in a directory below /run that exists only on a running system."""
    _upgrade(ground)
    rows = maintenance(ground, options.seed)
    return {"rows": [asdict(row) for row in rows], "wrong": _wrong(rows)}


PARTS: Mapping[str, Part] = {
    "guide": guide, "units": units, "boots": boots, "upgrade": upgrade, "rollback": rollback,
    "torn": torn, "flicker": flickering, "renewal": renewal, "room": room, "world": world,
    "removal": removal, "restarts": restarted, "cuts": cuts, "maintenance": portal, "peer": peer,
    "setup": setup, "kinds": kinds, "mistakes": mistakes,
}  # fmt: skip


def _upgrade(ground: Ground) -> Recorded:
    directory = ground.work / "upgrade"
    if not directory.exists():
        print_line("recording an upgrade")
        record_upgrade(ground.site, ground.secretariat, ground.place("record"), directory)
    return Recorded.load(directory)


def _replayed(
    ground: Ground, recorded: Recorded, each: Mapping[str, int], options: argparse.Namespace
) -> Mapping[str, Any]:
    wanted = options.steps or [*each]
    trials = replay(
        recorded,
        {step: number * options.times for step, number in each.items() if step in wanted},
        options.seed, shared=ground.secretariat.directory, work=ground.place("replay"),
    )  # fmt: skip
    return {
        "cuts": len(trials) + sum(trial.second_s is not None for trial in trials),
        "rows": [asdict(trial) for trial in trials],
        "wrong": _wrong(trials),
    }


def _wrong(rows: Sequence[Any]) -> list[str]:
    return [line for row in rows for line in row.wrong]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, and print one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.machine", description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="directory of 10 GB; reused")
    parser.add_argument("--package", type=Path, required=True, help="package from script/debian")
    parser.add_argument("--tree", type=Path, help="a Debian tree; default: made by debootstrap")
    parser.add_argument("--newer", type=Path, help="package of version 0.2.0, for the part renewal")
    parser.add_argument("--release", type=Path, help="release 0.2.0 from script/agent-release")
    parser.add_argument("--mirror", default="http://deb.debian.org/debian")
    parser.add_argument("--parts", nargs="*", default=[*PARTS], choices=[*PARTS])
    parser.add_argument("--late", nargs="*", type=float, default=[0, 15, 90, 600])
    parser.add_argument(
        "--agent", nargs="*", choices=["without", "with"], default=["without", "with"],
        help="for boots: without or with the agent",
    )  # fmt: skip
    parser.add_argument(
        "--steps", nargs="*", choices=[*UPGRADE], help="steps to cut (upgrade, rollback)"
    )
    parser.add_argument(
        "--act", default="", help="only acts whose name contains this (restarts, setup, kinds)"
    )
    parser.add_argument("--times", type=int, default=1, help="multiple of the number of cuts")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    reason = cannot_run()
    if reason is not None:
        print_line(f"the machine trial cannot run here: {reason}")
        return CANNOT
    # End everything that was started, also after an error.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(INTERRUPTED))
    signal.signal(signal.SIGINT, lambda *_: sys.exit(INTERRUPTED))
    begin = time.monotonic()
    ground = Ground(options.work.resolve(), options.seed)
    ground.make(
        options.tree,
        options.mirror,
        options.package,
        with_sites=bool({*options.parts} - {"kinds", "mistakes"}),
    )
    figures: dict[str, Any] = {"seed": options.seed}
    for name in options.parts:
        print_line(f"part {name}")
        figures[name] = PARTS[name](ground, options)
        text = json.dumps(figures[name], indent=1)
        (ground.work / f"result-{name}-{options.seed}.json").write_text(text, "utf-8")
    wrong = [line for name in options.parts for line in figures[name]["wrong"]]
    figures["wrong"] = len(wrong)
    figures["seconds"] = round(time.monotonic() - begin)
    finish("machine", figures)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
