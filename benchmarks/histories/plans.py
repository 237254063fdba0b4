"""Random choice of operations, faults and foreign sessions, each with its share. Pure."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from benchmarks.histories.foreign_sessions import KINDS, instants_of


@dataclass(frozen=True)
class Operation:
    """An operation of an operator.

    Attributes:
        words: Its command line.
        target: The version that it leads to; empty if it changes none.
        begins: The versions from which it is possible.
        fails: Whether the release is made to fail.
        refusal: Whether it must be refused before the downtime.
        between: Versions of intermediate hops.
        soak_s: Length of the soak period.
        steps: Whether it is a change, with instants.
        reaches: The last step that it reaches.
        weight: Relative frequency.
    """

    words: tuple[str, ...]
    target: str = ""
    begins: tuple[str, ...] = ()
    fails: bool = False
    refusal: bool = False
    between: tuple[str, ...] = ()
    soak_s: float = 0.0
    health_timeout_s: float = 20.0
    steps: bool = True
    reaches: str = "prune"
    weight: float = 1.0


def _upgrade(version: str, *begins: str) -> Operation:
    return Operation(("upgrade", version, "--yes", "--retry"), version, begins)


_LOW = ("3.2.4", "3.3.0")
_ANY = ("3.2.4", "3.3.0", "3.3.9", "3.3.10", "3.4.0")
OPERATIONS: Mapping[str, Operation] = {
    "upgrade": replace(_upgrade("3.3.0", "3.2.4"), weight=3),
    "upgrade one-way": replace(_upgrade("3.3.9", *_LOW), weight=3),
    "upgrade to a required stop": replace(_upgrade("3.3.10", *_LOW), weight=2),
    "upgrade behind the stop": replace(
        _upgrade("3.4.0", *_LOW, "3.3.10"), between=("3.3.10",), weight=2
    ),
    "upgrade, a migration fails": replace(_upgrade("3.3.1", *_LOW), fails=True, reaches="migrate"),
    "upgrade, a migration blocks": replace(
        _upgrade("3.3.2", *_LOW), fails=True, reaches="migrate", weight=0.7
    ),
    "upgrade, a check fails": replace(_upgrade("3.3.3", *_LOW), fails=True, reaches="migrate"),
    "upgrade, unhealthy": replace(
        _upgrade("3.3.4", *_LOW), fails=True, health_timeout_s=4.0, reaches="health", weight=1.5
    ),
    "upgrade, wrong version": replace(
        _upgrade("3.3.5", *_LOW), fails=True, health_timeout_s=4.0, reaches="health", weight=1
    ),
    "upgrade, turns bad": replace(
        _upgrade("3.3.6", *_LOW), fails=True, between=("3.3.6",), soak_s=2.5, weight=1.5
    ),
    "upgrade, too large": replace(_upgrade("3.3.7", *_LOW), refusal=True, weight=0.3),
    "upgrade, of another country": replace(_upgrade("3.3.8", *_LOW), refusal=True, weight=0.3),
    "upgrade, on hold": replace(_upgrade("3.3.0", "3.2.4"), refusal=True, weight=0.3),
    "upgrade, confirmed": replace(_upgrade("3.3.0", "3.2.4"), soak_s=30, weight=0.7),
    "rollback": Operation(("rollback", "--yes"), weight=5),
    "rollback, loss accepted": Operation(("rollback", "--yes"), weight=4),
    "rollback, loss not accepted": Operation(("rollback", "--yes"), refusal=True, weight=0.4),
    "rehearse": Operation(("rehearse", "3.3.0"), "", ("3.2.4",), steps=False),
    "rehearse, hops": Operation(("rehearse", "3.4.0"), "", _LOW, steps=False, weight=0.5),
    "rehearse, a migration fails": Operation(
        ("rehearse", "3.3.1", "--retry"), "", _LOW, fails=True, steps=False, weight=0.5
    ),
    "prune": Operation(("prune",), "", _ANY, steps=False, weight=0.7),
    "resume": Operation(("resume",), "", _ANY, steps=False, weight=0.3),
}

#: Faults with their weight; those at an instant happen while the agent is stopped.
FAULTS: Mapping[str, float] = {
    "SIGKILL at a call of the agent": 6,
    "SIGKILL at an instant": 2,
    "SIGKILL at a time": 2,
    "SIGKILL at a call of a child": 3,
    "SIGKILL at a call of the application": 2,
    "SIGKILL at a call of a server process": 3,
    "SIGKILL of the server": 2,
    "SIGKILL of the server, back later": 1,
    "a session ended": 1.5,
    "SIGTERM": 1.5,
    "second agent, first dies": 1,
    "second agent, first goes on": 1,
    "disk of the agent full": 1.5,
    "disk of the databases full": 1.5,
    "application killed": 1,
    "application slow to start": 0.7,
    "application slow to start, agent dies": 1,
    "application slow to stop": 0.7,
    "old application started in the stop": 0.7,
}
ONLY_SERVER = (
    "SIGKILL at a call of a server process",
    "SIGKILL of the server",
    "SIGKILL of the server, back later",
    "a session ended",
)
BY_TIME = ("SIGKILL at a time", "SIGTERM", "SIGKILL of the server")
STEPS = (
    "fetch", "build-slot", "preflight", "maintenance-on", "stop", "fence", "final-preflight",
    "copy",
    "migrate", "cut-over", "switch", "start", "health", "commit", "maintenance-off", "soak",
    "prune",
)  # fmt: skip
FORWARD = ("before-effect", "after-effect", "after-record")
BACK = ("before-undo", "after-undo", "after-undo-record")
# Steps that get more faults than the others.
HEAVY = ("fence", "copy", "migrate", "migrate", "cut-over", "cut-over", "switch", "commit")


@dataclass(frozen=True)
class Fault:
    """A fault.

    Attributes:
        kind: A name of :data:`FAULTS`.
        instant: Step and phase at which it happens, or from which system calls are counted.
        number: Number of the system call.
        after: Whether the system call is completed first.
        seconds: Delay of faults at a time.
    """

    kind: str
    instant: tuple[str, str] = ("", "")
    number: int = 0
    after: bool = False
    seconds: float = 0.0


@dataclass(frozen=True)
class Plan:
    """The plan of one trial.

    Attributes:
        operation: A name of :data:`OPERATIONS`.
        stranger: A name of :data:`~benchmarks.histories.foreign_sessions.KINDS`.
        at: The instants at which the foreign session acts.
        fault: The fault of the operation.
        again: The faults of the resumes, one each.
        stays: Whether the foreign session remains connected during the first resume.
    """

    operation: str
    stranger: str = ""
    at: tuple[tuple[str, str], ...] = ()
    fault: Fault | None = None
    again: tuple[Fault, ...] = field(default=())
    stays: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the plan for reports."""
        return asdict(self)


def parse_plan(data: Mapping[str, Any]) -> Plan:
    """Read the result of :meth:`Plan.to_json`."""

    def fault(item: Mapping[str, Any]) -> Fault:
        return Fault(**{**item, "instant": tuple(item["instant"])})

    return Plan(
        data["operation"],
        data["stranger"],
        tuple((str(step), str(phase)) for step, phase in data["at"]),
        fault(data["fault"]) if data["fault"] else None,
        tuple(fault(item) for item in data["again"]),
        bool(data["stays"]),
    )


def choose_plan(
    chance: random.Random,
    tried: Counter[str],
    engine: str,
    operations: Sequence[str],
    beside: str = "",
) -> Plan:
    """Choose a plan of the kind farthest behind its share; a third of all trials have no fault.

    Args:
        chance: Breaks ties, and chooses instants.
        tried: How often each was chosen; counted here.
        engine: Database engine of the site.
        operations: Operations that are possible now.
        beside: Prefix of the kinds of foreign sessions to choose from.
    """
    strangers = {
        n: k.weight for n, k in KINDS.items()
        if k.engine in (engine, "both") and n.startswith(beside)
    }  # fmt: skip
    stranger = _choose_name(chance, tried, "stranger", strangers)
    # Writers to the new set matter if the change reverts.
    possible = {name: OPERATIONS[name].weight for name in operations}
    if KINDS[stranger].instants:
        acting = {n: w for n, w in possible.items() if _has_instants(OPERATIONS[n])}
        possible = acting or possible
    if KINDS[stranger].instants == "new" and chance.random() < 0.5:
        failing = {
            n: w
            for n, w in possible.items()
            if n in ("upgrade, unhealthy", "upgrade, wrong version")
        }
        possible = failing or possible
    operation = _choose_name(chance, tried, "operation", possible)
    what = OPERATIONS[operation]
    fault = None
    if not what.refusal and operation != "resume":
        plain = tried["fault|none"] * 2 <= tried["fault|some"]
        tried["fault|none" if plain else "fault|some"] += 1
        if not plain:
            faults = dict(FAULTS)
            if engine == "sqlite":
                faults = {n: w for n, w in faults.items() if n not in ONLY_SERVER}
            if not what.steps:
                faults = {n: w for n, w in faults.items() if n in BY_TIME}
            fault = _fault(
                _choose_name(chance, tried, "fault", faults), chance, what, back=what.fails
            )
    again: list[Fault] = []
    while fault is not None and what.steps and len(again) < 2 and chance.random() < 0.35:
        kind = chance.choice(("SIGKILL at a call of the agent", "SIGKILL at a time"))
        again.append(_fault(kind, chance, what, back=True))
    at = instants_of(stranger, chance, fails=what.fails) if what.steps else []
    return Plan(operation, stranger, tuple(at), fault, tuple(again), chance.random() < 0.4)


def _choose_name(
    chance: random.Random, tried: Counter[str], kind: str, weights: Mapping[str, float]
) -> str:
    """Choose the name farthest behind its weight; among close ones choose at random."""
    name = min(
        weights,
        key=lambda n: (tried[f"{kind}|{n}"] + chance.random()) / weights[n],
    )
    tried[f"{kind}|{name}"] += 1
    return name


def _has_instants(what: Operation) -> bool:
    return what.steps and not what.refusal


def _fault(kind: str, chance: random.Random, what: Operation, *, back: bool) -> Fault:
    reached = STEPS[: STEPS.index(what.reaches) + 1]
    phase = chance.choice(BACK if back and chance.random() < 0.5 else FORWARD)
    if phase in BACK:
        reached = tuple(
            step for step in reached if step not in ("commit", "maintenance-off", *STEPS[-2:])
        )
    step = chance.choice((*reached, *(step for step in HEAVY if step in reached)))
    if kind == "old application started in the stop":
        step, phase = chance.choice(
            list(itertools.product(("fence", "copy", "migrate", "cut-over", "switch"), FORWARD))
        )
    if kind == "SIGKILL at a call of the application":
        step, phase = chance.choice(
            (("preflight", "before-effect"), ("maintenance-on", "after-effect"),
             ("start", "after-effect"),
             ("health", "before-effect"), ("maintenance-off", "after-effect"))
        )  # fmt: skip
    if kind == "application slow to start, agent dies":
        step, phase = "start", "before-effect"
    if kind == "SIGKILL at a call of a server process":
        step = chance.choice(("fence", "copy", "migrate", "migrate", "cut-over", "cut-over"))
    number = int(10 ** chance.uniform(0, 3.2))
    return Fault(kind, (step, phase), number, chance.random() < 0.5, chance.uniform(0.05, 2.6))
