"""Rotation of tests that are too many for one run: the seed of the run chooses the part.

The seed is printed at the head of a run and given again with ``--seed`` or in the environment
(:data:`SEED`, which is also how it reaches the workers of a run).
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TypeVar

import pytest

from ncen_updater.formats.sql import ENGINE_NAMES

SEED = "NCEN_TEST_SEED"
IN_TURNS = "in_turns"
EITHER_ENGINE = "either_engine"
#: Fixtures of which any value will do: the versions of the database server, and whether the agent
#: is a superuser of it.
ALWAYS = frozenset({"postgres", "any_site"})
#: How often SQLite is chosen where either engine will do, for once that another one is: a site on
#: it costs a third, and the engines have their own tests.
SQLITE_TIMES = 2

#: The longest modules, and the share of each that a whole run takes.
LONG = Path(__file__).parents[1] / "long.txt"
SHARES = {"all": 1, "1/4": 4, "1/8": 8, "1/16": 16}
#: From this share on all rooms are one: a room of a few dear tests is not met in every run.
TOGETHER = 16

T = TypeVar("T")


def seed() -> int:
    """The seed of this run."""
    return int(os.environ[SEED])


def chance(name: str) -> random.Random:
    """Random numbers that belong to one use of the seed, whatever else asked for some before."""
    return random.Random(f"{seed()} {name}")


def part(items: Sequence[T], stride: int, name: str) -> list[T]:
    """Every ``stride``-th item, beginning with one that the seed chooses.

    So each run meets all of a list's regions, and all runs together each item.

    Args:
        items: All of them.
        stride: No divisor of the length of what repeats in the list (the faults of a step), so
            that neighbours meet different ones.
        name: Of this use.
    """
    return list(items)[chance(name).randrange(stride) :: stride]


def one_of_each(
    items: Sequence[T], name: Callable[[T], str], weight: Callable[[T], int] = lambda _: 1
) -> list[T]:
    """One of all items that have the same name, in their order; which one, the seed chooses.

    Each name has a choice of its own: a run meets all kinds, and all runs together each item.

    Args:
        items: All of them.
        name: The common name of items of which one is enough for a run.
        weight: How often one is chosen for each time that one of weight 1 is.
    """
    alike: dict[str, list[int]] = {}
    for number, item in enumerate(items):
        alike.setdefault(name(item), []).append(number)
    chosen = {
        chance(of).choices(numbers, [weight(items[number]) for number in numbers])[0]
        for of, numbers in alike.items()
    }
    return [item for number, item in enumerate(items) if number in chosen]


def long_modules() -> dict[str, int]:
    """The modules of :data:`LONG`, longest first, and of how many of its tests a run takes one.

    Raises:
        KeyError: If a share is none of :data:`SHARES`.
    """
    lines = (line.partition("#")[0].split() for line in LONG.read_text("utf-8").splitlines())
    return {words[0]: SHARES[words[1]] for words in lines if words}


def in_shares(items: Sequence[T], name: Callable[[T], str], shares: Mapping[str, int]) -> list[T]:
    """Of the tests of a room that have one share every ``share``-th, with all its values.

    The room decides, not the module: one whole site is much like another, and so a module of a
    single test is not in every run. Each run meets every room, and all runs together each test.
    Of the most expensive ones (:data:`TOGETHER`) a run takes some, whatever their room.

    Args:
        items: Tests in their order.
        name: Their node ids.
        shares: By module; of one that has none everything is taken.
    """
    rooms: dict[tuple[str, int], dict[str, None]] = {}
    for item in items:
        test = name(item).partition("[")[0]
        module = test.partition("::")[0]
        share = shares.get(module, 1)
        room = "all rooms" if share >= TOGETHER else str(PurePosixPath(module).parent)
        rooms.setdefault((room, share), {})[test] = None
    chosen = {
        test
        for (room, share), tests in rooms.items()
        for test in part([*tests], min(share, len(tests)), f"1/{share} of {room}")
    }
    return [item for item in items if name(item).partition("[")[0] in chosen]


def in_turns(*parameters: str) -> pytest.MarkDecorator:
    """Mark a test that tries one claim over many values: a whole run takes one of them.

    With one of them on each database engine, where values name engines. Everything is taken
    where tests are named, and with ``script/test --all``.

    Args:
        parameters: Whose values are alike.
    """
    mark: pytest.MarkDecorator = getattr(pytest.mark, IN_TURNS)(*parameters)
    return mark


def either_engine(parameter: str) -> pytest.MarkDecorator:
    """Mark tests, or a module of them, whose claims are about layers above the engines.

    A whole run tries each of them on one engine, whichever the seed chooses, and that is SQLite in
    two of three runs. Engines have their own contract and the fault matrix, which
    are tried on all of them in every run.

    Args:
        parameter: That names the engine. A test that has none is left as it is.
    """
    mark: pytest.MarkDecorator = getattr(pytest.mark, EITHER_ENGINE)(parameter)
    return mark


class Kinds:
    """Names the kind of a test; one test of each kind is enough for a run.

    Asked for each test of a run in their order: values are numbered as they are met. (The numbers
    that pytest gives them will not do. Beside a parameter of a fixture those of a test of its own
    run on from one value of the fixture to the next.)
    """

    def __init__(self) -> None:
        self._met: dict[tuple[str, str], list[object]] = {}

    def __call__(self, item: pytest.Item) -> str:
        """The name of its kind.

        Raises:
            pytest.UsageError: If a rotating name is no parameter of it.
        """
        call = getattr(item, "callspec", None)
        named = [name for mark in item.iter_markers(IN_TURNS) for name in mark.args]
        if call is None or not set(named) <= call.params.keys():
            if named:
                raise pytest.UsageError(f"{item.nodeid} has not all of these in turns: {named}")
            return item.nodeid
        test = item.nodeid.partition("[")[0]
        turning, either = ALWAYS.union(named), _either(item)
        kept = [
            f"{name} {_engine(value) if name in turning else self._number(test, name, value)}"
            for name, value in sorted(call.params.items())
            if name not in either
        ]
        return "; ".join([test, *kept])

    def _number(self, test: str, name: str, value: object) -> int:
        met = self._met.setdefault((test, name), [])
        for number, known in enumerate(met):
            if known is value:
                return number
        met.append(value)
        return len(met) - 1


def weight(item: pytest.Item) -> int:
    """How often a test is chosen of its kind, for each time that one of weight 1 is."""
    call = getattr(item, "callspec", None)
    engines = (
        [_engine(call.params[name]) for name in _either(item) & call.params.keys()] if call else []
    )
    return SQLITE_TIMES if "sqlite" in engines else 1


def is_skipped(item: pytest.Item) -> bool:
    """Whether a mark says already that a test will not run here: then another one is taken."""
    return any(True in mark.args for mark in item.iter_markers("skipif"))


def _either(item: pytest.Item) -> set[str]:
    return {name for mark in item.iter_markers(EITHER_ENGINE) for name in mark.args}


def _engine(value: object) -> str:
    """The database engine that a value is about; empty for none."""
    words = str(getattr(value, "engine", value))
    return next((engine for engine in ENGINE_NAMES if words.startswith(engine)), "")
