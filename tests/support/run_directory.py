"""Location of test sites: in memory where there is room, so that no test waits for a disk.

What is killed in these tests are processes: the kernel keeps what they wrote on either ground, and
power cuts have a bench of their own. A test that needs two file systems finds the other one with
:func:`other_than`.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from pathlib import Path

from tests.support.trees import remove_tree

GROUND = "NCEN_TEST_GROUND"
MEMORY = Path("/dev/shm")
# The largest run was seen to take less than one; directories of failed tests come on top.
ROOM = 4 << 30
SPARE = 2 << 30


def lay_ground(wish: str) -> Path:
    """Make the directory in which everything of this run lies.

    As ``/tmp`` is: for root the database servers run as the user nobody, who needs access.

    Args:
        wish: ``memory``, ``disk``, or ``auto`` for memory where it will do.
    """
    in_memory = wish == "memory" or (wish == "auto" and _will_do())
    below = MEMORY if in_memory else Path(tempfile.gettempdir())
    _remove_those_of_the_dead(below)
    place = below / f"nu-run-{os.getpid()}"
    place.mkdir()
    place.chmod(0o1777)
    os.environ["TMPDIR"] = str(place)
    tempfile.tempdir = None
    return place


def other_than(place: Path) -> Path | None:
    """A place for temporary files on another file system than this one, if there is one."""
    for other in (MEMORY, Path("/var/tmp"), Path("/tmp")):
        if other.is_dir() and other.stat().st_dev != place.stat().st_dev:
            return other
    return None


def _will_do() -> bool:
    try:
        look = os.statvfs(MEMORY)
        said = Path("/proc/meminfo").read_text("ascii")
    except OSError:
        return False
    found = re.search(r"^MemAvailable: +(\d+) kB$", said, re.MULTILINE)
    available = int(found[1]) * 1024 if found else 0
    runs_programs = not look.f_flag & (os.ST_NOEXEC | os.ST_RDONLY)
    free = look.f_bavail * look.f_frsize
    return runs_programs and free >= ROOM and available >= ROOM + SPARE


def _remove_those_of_the_dead(below: Path) -> None:
    for place in below.glob("nu-run-*"):
        number = place.name.rpartition("-")[2]
        if number.isdigit() and not Path("/proc", number).exists():
            with contextlib.suppress(OSError):  # of another user
                remove_tree(place)
