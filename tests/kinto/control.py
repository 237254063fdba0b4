"""Start, stop and status of a Kinto site: the three commands of the agent's ``command`` adapter.

``control.py --home DIRECTORY start|stop|status``

It belongs to the site and not to a release, so that a bad release cannot break the stop. The home
holds ``overlay.ini`` (what the site sets: addresses, port, secret) and ``run/`` (the log and the
settings of the running process). The release is what ``NCEN_CURRENT`` (set by the agent), or else
``<home>/current``, points at.

Processes are found by a variable that each inherits from the start, not by a file with a number:
there is no instant at which a process runs that nobody knows of, and a number used again by
another program cannot deceive.

Exit status: ``status`` 0 running, 3 not; ``start`` and ``stop`` 0 done, 1 not.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

RUNS, FAILED, STOPPED = 0, 1, 3
POLITE_S = 20.0
FORCED_S = 10.0
MARK = "KINTO_SITE_HOME"


class Control:
    """One site.

    Args:
        home: Its directory.
        current: The link to the release in use.
    """

    def __init__(self, home: Path, current: Path) -> None:
        self._home = home.resolve()
        self._current = current
        self._mark = f"{MARK}={self._home}".encode()

    def status(self) -> int:
        """Whether any process of the site runs."""
        return RUNS if self._processes() else STOPPED

    def start(self) -> int:
        """Start what the link points at, unless it runs; does not wait until it is healthy."""
        run = self._home / "run"
        run.mkdir(exist_ok=True)
        with self._alone():
            if self._processes():
                return RUNS
            # The directory behind the link: the process stays in its release when the link moves.
            slot = self._current.resolve(strict=True)
            argv = [str(slot / "bin/release.py"), "serve"]
            argv += ["--overlay", str(self._home / "overlay.ini"), "--run", str(run)]
            with (run / "log").open("ab") as log:
                subprocess.Popen(
                    argv,
                    cwd="/",
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    env={**os.environ, MARK: str(self._home)},
                )
        return RUNS

    def stop(self) -> int:
        """Ask every process to end, insist after a time, return when none is left."""
        with self._alone():
            for number, patience in ((signal.SIGTERM, POLITE_S), (signal.SIGKILL, FORCED_S)):
                deadline = time.monotonic() + patience
                while (found := self._processes()) and time.monotonic() < deadline:
                    self._end(found, number, deadline)
            return FAILED if self._processes() else RUNS

    def _end(self, pids: list[int], number: signal.Signals, deadline: float) -> None:
        with contextlib.ExitStack() as stack:
            handles = []
            for pid in pids:
                # The handle is opened and looked at before the signal: it cannot hit another.
                with contextlib.suppress(ProcessLookupError):
                    handle = os.pidfd_open(pid)
                    stack.callback(os.close, handle)
                    if self._ours(pid):
                        signal.pidfd_send_signal(handle, number)
                        handles.append(handle)
            for handle in handles:
                select.select([handle], [], [], max(0.0, deadline - time.monotonic()))

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        with (self._home / "control.lock").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _processes(self) -> list[int]:
        found = [int(place.name) for place in Path("/proc").glob("[0-9]*")]
        return [pid for pid in found if self._ours(pid)]

    def _ours(self, pid: int) -> bool:
        # One that ended but was not yet collected by its parent has no environment any more.
        with contextlib.suppress(OSError):
            return self._mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        return False


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("command", choices=("start", "stop", "status"))
    options = parser.parse_args()
    current = Path(os.environ.get("NCEN_CURRENT") or options.home / "current")
    control = Control(options.home, current)
    try:
        status: int = {"start": control.start, "stop": control.stop, "status": control.status}[
            options.command
        ]()
    except OSError as error:
        print(error, file=sys.stderr)
        return FAILED
    return status


if __name__ == "__main__":
    sys.exit(main())
