"""Operations one after the other, each in a fork with a session of its own.

See :mod:`tests.support.forks`. It is struck and killed like any other process. Random kills have an
interpreter each (:meth:`tests.faults.trial.Trial.start`).
"""

from __future__ import annotations

import atexit
import functools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

from tests.support.forks import DEADLINE_S, Fork, Forks

__all__ = ["DEADLINE_S", "Nursery", "shared"]

PROGRAM = "tests.faults.worker"


class Nursery:
    """Runs one operation after the other, each in a new process.

    Args:
        program: The module whose ``main`` a fork runs.
        forks: What has imported it; one of its own by default.
    """

    def __init__(self, program: str = PROGRAM, forks: Forks | None = None) -> None:
        self._forks = forks or Forks(program)
        self._fork: Fork | None = None
        self.returncode = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._forks.close()

    def run(self, argv: Sequence[str]) -> Iterator[str]:
        """The lines that the program prints; then :attr:`returncode` is known."""
        read, write = os.pipe()
        with os.fdopen(read, encoding="utf-8") as lines:
            try:
                with Path(os.devnull).open() as nothing:
                    streams = (nothing.fileno(), write, write)
                    self._fork = self._forks.start(argv, streams, session=True)
            finally:
                os.close(write)
            yield from lines
        self.returncode = self._fork.wait()

    @property
    def pid(self) -> int:
        """Of the process that is at work, or was last."""
        return self._fork.pid if self._fork is not None else 0

    def kill(self) -> None:
        """SIGKILL the process that is at work."""
        if self._fork is not None:
            self._fork.kill()


@functools.cache
def shared() -> Forks:
    """One for all sites of this process: it takes a second to import what they need."""
    forks = Forks(PROGRAM)
    atexit.register(forks.close)
    return forks
