"""Socket activation with systemd's own program, to test units on machines without systemd.

It starts one process per connection, like a socket unit with ``Accept=yes``, but neither changes
the user nor applies the sandbox.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.support.forks import DEADLINE_S

ACTIVATOR = shutil.which("systemd-socket-activate")


@contextlib.contextmanager
def activated(path: Path, words: Sequence[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start a command for each connection to a socket until the block ends."""
    passed = [f"-E{name}" for name in ("PATH", "PYTHONPATH", "HOME") if name in os.environ]
    argv = [str(ACTIVATOR), "--listen", str(path), "--accept", "--inetd", *passed, *words]
    with log.open("wb") as stream, subprocess.Popen(argv, stderr=stream) as process:
        try:
            deadline = time.monotonic() + DEADLINE_S
            while f"Listening on {path}" not in log.read_text():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"nobody waits at {path}: {log.read_text()}")
                time.sleep(0.02)  # interval of polling
            yield process
        finally:
            process.terminate()
