"""Run a program that may write below one directory alone: before a new agent's trial.

The words are that directory, then the program with its arguments.
"""

import contextlib
import os
import resource
import sys
from pathlib import Path

from ncen_updater.common.landlock import get_abi_version, restrict_writes

#: Of one file, and of all that a release unpacks to.
MOST_BYTES = 1_000_000_000


def main() -> None:
    """Become the program; another user's already, where there is one for this."""
    place, *words = sys.argv[1:]
    with contextlib.suppress(OSError, ValueError):  # a unit may forbid it, or allow less
        resource.setrlimit(resource.RLIMIT_FSIZE, (MOST_BYTES, MOST_BYTES))
    if get_abi_version() >= 2:
        restrict_writes([Path(os.devnull), Path(place)])
    os.execv(words[0], words)  # noqa: S606 - it becomes the program


if __name__ == "__main__":
    main()
