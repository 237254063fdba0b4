"""What is too much for one run is tried in turns: the seed of the run says which part.

The seed is printed at the head of a run and given again with ``--seed`` or in the environment
(:data:`SEED`, which is also how it reaches the workers of a run).
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from typing import TypeVar

import pytest

from ncen_updater.formats.sql import ENGINES

__all__ = [
    "EITHER_ENGINE",
    "IN_TURNS",
    "SEED",
    "alike",
    "chance",
    "either_engine",
    "in_turns",
    "is_skipped",
    "one_of_each",
    "part",
    "seed",
]

SEED = "NCEN_TEST_SEED"
IN_TURNS = "in_turns"
EITHER_ENGINE = "either_engine"
#: The fixture that takes every version of the database server.
SERVERS = "postgres"

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


def one_of_each(items: Sequence[T], name: Callable[[T], str]) -> list[T]:
    """One of all items that have the same name, in their order; which one, the seed chooses.

    Each name has a choice of its own: a run meets all kinds, and all runs together each item.

    Args:
        items: All of them.
        name: What those have in common of which one is enough for a run.
    """
    alike: dict[str, list[int]] = {}
    for number, item in enumerate(items):
        alike.setdefault(name(item), []).append(number)
    chosen = {chance(of).choice(numbers) for of, numbers in alike.items()}
    return [item for number, item in enumerate(items) if number in chosen]


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
    """Mark tests, or a module of them, whose claims are about what is above the engines.

    A whole run tries each of them on one engine, whichever the seed chooses. What an engine does is
    held by its contract and by the fault matrix, which are tried on all of them in every run.

    Args:
        parameter: That names the engine. A test that has none is left as it is.
    """
    mark: pytest.MarkDecorator = getattr(pytest.mark, EITHER_ENGINE)(parameter)
    return mark


def alike(item: pytest.Item) -> str:
    """What a test has in common with those of which one is enough for a run.

    Raises:
        pytest.UsageError: If what is in turns is no parameter of it.
    """
    call = getattr(item, "callspec", None)
    named = [name for mark in item.iter_markers(IN_TURNS) for name in mark.args]
    if call is None or not set(named) <= call.indices.keys():
        if named:
            raise pytest.UsageError(f"{item.nodeid} has not all of these in turns: {named}")
        return item.nodeid
    test = item.nodeid.partition("[")[0]
    turning = {SERVERS, *named}
    either = {name for mark in item.iter_markers(EITHER_ENGINE) for name in mark.args}
    kept = [
        f"{name} {_engine(call.params[name]) if name in turning else index}"
        for name, index in sorted(call.indices.items())
        if name not in either
    ]
    return "; ".join([test, *kept])


def is_skipped(item: pytest.Item) -> bool:
    """Whether a mark says already that a test will not run here: then another one is taken."""
    return any(True in mark.args for mark in item.iter_markers("skipif"))


def _engine(value: object) -> str:
    """The database engine that a value is about; empty for none."""
    words = str(getattr(value, "engine", value))
    return next((engine for engine in ENGINES if words.startswith(engine)), "")
