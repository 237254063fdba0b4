"""What is too much for one run is tried in turns: the seed of the run says which part.

The seed is printed at the head of a run and given again with ``--seed`` or in the environment
(:data:`SEED`, which is also how it reaches the workers of a run).
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from typing import TypeVar

__all__ = ["SEED", "chance", "one_of_each", "part", "seed"]

SEED = "NCEN_TEST_SEED"

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
