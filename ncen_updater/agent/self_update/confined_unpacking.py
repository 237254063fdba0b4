"""Run a command that may write only below one directory; used to build the slot of a new agent.

Arguments: the directory, then the command.
"""

import contextlib
import os
import resource
import sys
from pathlib import Path

from ncen_updater.common.landlock import get_abi_version, restrict_writes

#: Limit for one file, and for all unpacked files of a release.
MOST_BYTES = 1_000_000_000


def main() -> None:
    """Restrict this process and execute the command; the caller has already switched the user."""
    place, *words = sys.argv[1:]
    with contextlib.suppress(OSError, ValueError):  # a unit may forbid it, or have a lower limit
        resource.setrlimit(resource.RLIMIT_FSIZE, (MOST_BYTES, MOST_BYTES))
    if get_abi_version() >= 2:
        restrict_writes([Path(os.devnull), Path(place)])
    os.execv(words[0], words)  # noqa: S606 - it becomes the program


if __name__ == "__main__":
    main()
