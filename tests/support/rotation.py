"""Rotation: if tests are too many for one run, the seed of the run selects some of them.

The seed is printed at the start of a run. It can be set with ``--seed`` or in the environment
(:data:`SEED`), which also passes it to the workers of a run.
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
#: Fixtures of which any single value is enough: the server version, and whether the agent is a
#: superuser.
ALWAYS = frozenset({"postgres", "any_site"})
#: How often SQLite is selected per selection of another engine if any engine is enough: a site on
#: SQLite takes a third of the time, and the engines have tests of their own.
SQLITE_TIMES = 2

#: The longest modules, with the share of their tests that a run selects.
LONG = Path(__file__).parents[1] / "long.txt"
SHARES = {"all": 1, "1/4": 4, "1/8": 8, "1/16": 16}
#: From this divisor on, the tests of all packages are pooled, so that a package with few expensive
#: tests does not run one every time.
TOGETHER = 16

T = TypeVar("T")


def seed() -> int:
    """Return the seed of this run."""
    return int(os.environ[SEED])


def chance(name: str) -> random.Random:
    """Return a random source for one purpose, independent of all others with the same seed."""
    return random.Random(f"{seed()} {name}")


def part(items: Sequence[T], stride: int, name: str) -> list[T]:
    """Return every ``stride``-th item, starting at one selected by the seed.

    So each run covers all parts of a list, and all runs together cover each item.

    Args:
        items: All items.
        stride: Must not divide the length of a repeated pattern in the list (such as the faults of
            a step), so that neighbouring groups yield different items.
        name: Purpose, for :func:`chance`.
    """
    return list(items)[chance(name).randrange(stride) :: stride]


def one_of_each(
    items: Sequence[T], name: Callable[[T], str], weight: Callable[[T], int] = lambda _: 1
) -> list[T]:
    """Return one item per name, in order, selected by the seed.

    Each name is selected independently, so that a run covers all kinds, and all runs together cover
    each item.

    Args:
        items: All items.
        name: Returns the kind of an item; a run needs one item per kind.
        weight: Relative frequency of selection.
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
    """Return the modules of :data:`LONG`, longest first, with the divisor of their share.

    Raises:
        KeyError: If a share is not in :data:`SHARES`.
    """
    lines = (line.partition("#")[0].split() for line in LONG.read_text("utf-8").splitlines())
    return {words[0]: SHARES[words[1]] for words in lines if words}


def in_shares(items: Sequence[T], name: Callable[[T], str], shares: Mapping[str, int]) -> list[T]:
    """Select every ``share``-th test of those in a package with the same share.

    Tests are pooled by package, not by module: tests of whole sites are similar, and a module with
    a single test would otherwise run every time. Each run covers every package, and all runs
    together cover each test. Modules with a divisor of at least :data:`TOGETHER` form one pool.

    Args:
        items: Tests in order.
        name: Returns their node ids.
        shares: Divisors by module; modules without one run completely.
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
    """Mark a test that checks one claim for many values: a full run selects one of them.

    If the values name database engines, a run selects one value per engine. All values run if
    tests are named on the command line, and with ``script/test --all``.

    Args:
        parameters: Parameters with equivalent values.
    """
    mark: pytest.MarkDecorator = getattr(pytest.mark, IN_TURNS)(*parameters)
    return mark


def either_engine(parameter: str) -> pytest.MarkDecorator:
    """Mark tests of layers above the database engines.

    A full run tests each of them on one engine, selected by the seed; SQLite is selected in two of
    three runs. The engines themselves have contract tests and the fault matrix, which run on all
    engines every time.

    Args:
        parameter: Parameter that names the engine; tests without it are not affected.
    """
    mark: pytest.MarkDecorator = getattr(pytest.mark, EITHER_ENGINE)(parameter)
    return mark


class Kinds:
    """Computes the kind of each test; a run needs one test per kind.

    Call it for each test of a run in order, because it numbers values as they appear. (The indexes
    assigned by pytest are not usable: for a parameter beside a parametrised fixture they continue
    from one value of the fixture to the next.)
    """

    def __init__(self) -> None:
        self._met: dict[tuple[str, str], list[object]] = {}

    def __call__(self, item: pytest.Item) -> str:
        """Return the kind of a test.

        Raises:
            pytest.UsageError: If a name in the mark is not a parameter of the test.
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
    """Return the relative frequency with which a test is selected among its kind."""
    call = getattr(item, "callspec", None)
    engines = (
        [_engine(call.params[name]) for name in _either(item) & call.params.keys()] if call else []
    )
    return SQLITE_TIMES if "sqlite" in engines else 1


def is_skipped(item: pytest.Item) -> bool:
    """Return whether a mark already skips a test here; then another one is selected."""
    return any(True in mark.args for mark in item.iter_markers("skipif"))


def _either(item: pytest.Item) -> set[str]:
    return {name for mark in item.iter_markers(EITHER_ENGINE) for name in mark.args}


def _engine(value: object) -> str:
    """Return the database engine of a value; empty if it names none."""
    words = str(getattr(value, "engine", value))
    return next((engine for engine in ENGINE_NAMES if words.startswith(engine)), "")
