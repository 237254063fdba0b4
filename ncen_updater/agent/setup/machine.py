"""Run programs with time limits, and access files of other users with their rights.

Files of another user are read and written as that user: as root, setup would follow symbolic links
that this user placed.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from psycopg.conninfo import make_conninfo

from ncen_updater.agent.adapters.application.process import (
    CommandResult,
    build_minimal_environment,
)
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import LazyText
from ncen_updater.common.messages import SETUP_COMMAND_FAILED, SETUP_DATABASE_REFUSED

COMMAND_LIMIT_S, QUICK_LIMIT_S = 120.0, 20.0
STATEMENT_LIMIT_S, SESSION_LIMIT_S = 60, 90
# Whatever the server's administrator prefers; psycopg reads times only in this style.
_SESSION_OPTIONS = (
    f"-c statement_timeout={STATEMENT_LIMIT_S}s -c search_path=pg_catalog -c datestyle=ISO"
    " -c default_transaction_read_only=off"
)
_SESSION_ENVIRONMENT = {"PATH": os.defpath, "HOME": "/"}
# The child changes its user before it connects, but after all imports: the other user may be
# unable to read the directory of the interpreter.
_RUN_SQL = """
import encodings.idna, json, os, psycopg, sys
work = json.load(sys.stdin)
if work["uid"] != os.geteuid():
    os.setgroups([])
    os.setresgid(*[work["gid"]] * 3)
    os.setresuid(*[work["uid"]] * 3)
try:
    with psycopg.connect(work["address"], autocommit=True) as session:
        rows = []
        for statement in work["statements"]:
            ran = session.execute(statement)
            rows.append(ran.fetchall() if ran.description else [])
    print(json.dumps({"rows": rows}, default=str))
except psycopg.Error as error:
    print(json.dumps({"refused": str(error).strip()[:2000]}))
"""


def _run(argv: Sequence[str], limit_s: float) -> CommandResult:
    try:
        ended = subprocess.run(
            argv, env={**build_minimal_environment(), "LC_ALL": "C.UTF-8"}, cwd="/",
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            timeout=limit_s, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return CommandResult(None, f"no end within {limit_s:.0f} s")
    except OSError as error:
        return CommandResult(127, error.strerror or str(error))
    return CommandResult(ended.returncode, ended.stdout.decode("utf-8", "replace"))


def _run_session(given: str) -> str:
    return subprocess.run(
        [sys.executable, "-I", "-c", _RUN_SQL], input=given, check=True,
        env=_SESSION_ENVIRONMENT, cwd="/", capture_output=True, text=True, timeout=SESSION_LIMIT_S,
    ).stdout  # fmt: skip


@dataclass(frozen=True)
class Machine:
    """Root directory of all paths, and runner of programs.

    Attributes:
        root: Directory to which all paths are relative.
        run: Runs a program with a time limit in seconds; status 127 if the program is missing.
    """

    root: Path = Path("/")
    run: Callable[[Sequence[str], float], CommandResult] = _run

    def path(self, name: str | Path) -> Path:
        """Return a path below the root."""
        return self.root / str(name).lstrip("/")

    def has_systemd(self) -> bool:
        """Return whether systemd runs this machine."""
        return self.path("/run/systemd/system").is_dir()

    def require(self, argv: Sequence[str], limit_s: float = COMMAND_LIMIT_S) -> None:
        """Run a program and require exit code 0.

        Raises:
            SETUP_COMMAND_FAILED: If it fails; the detail is the end of its output.
        """
        ended = self.run(argv, limit_s)
        if ended.status != 0:
            words = ended.output[-500:] or f"exit code {ended.status}"
            raise UpdaterError(SETUP_COMMAND_FAILED, command=" ".join(argv), detail=words)


@dataclass(frozen=True)
class ServerAddress:
    """PostgreSQL server at a socket of this machine.

    Attributes:
        host: Directory of its socket.
        port: Port number in the socket's name.
        uid: User of the server process, as reported by the kernel.
        gid: Group of this process.
        superuser: Role as which this user can log in.
    """

    host: str
    port: int
    uid: int
    gid: int
    superuser: str = "postgres"

    def make_refusal(self, detail: str | LazyText) -> UpdaterError:
        """Return the error of this server."""
        return UpdaterError(SETUP_DATABASE_REFUSED, host=self.host, port=self.port, detail=detail)

    def query(self, statements: Sequence[str], database: str = "postgres") -> list[list[list[str]]]:
        """Run each statement in autocommit as the server's superuser; return their rows.

        Raises:
            SETUP_DATABASE_REFUSED: If the server reports an error; the detail is its text.
        """
        address = make_conninfo(
            host=self.host, port=self.port, dbname=database, user=self.superuser,
            connect_timeout=10, client_encoding="UTF8", options=_SESSION_OPTIONS,
            application_name="ncen-updater setup",
        )  # fmt: skip
        work = {"uid": self.uid, "gid": self.gid, "address": address, "statements": statements}
        try:
            answer = json.loads(_run_session(json.dumps(work)))
        except subprocess.SubprocessError as error:
            output = getattr(error, "stderr", None) or type(error).__name__
            raise self.make_refusal(str(output)[-500:]) from error
        if "refused" in answer:
            raise self.make_refusal(answer["refused"])
        rows: list[list[list[str]]] = answer["rows"]
        return rows


def find_server(host: str, port: int) -> ServerAddress | None:
    """Identify the server behind a socket by its peer credentials; None if none listens."""
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(QUICK_LIMIT_S)
        try:
            line.connect(f"{host}/.s.PGSQL.{port}")
            peer = line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        except OSError:
            return None
    _, uid, gid = struct.unpack("3i", peer)
    return ServerAddress(host, port, uid, gid)


@contextlib.contextmanager
def acting_as(identity: tuple[int, int] | None) -> Iterator[None]:
    """Access files as this user and group inside the block; None changes nothing."""
    if identity is None or os.geteuid() != 0 or identity[0] == 0:
        yield
        return
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(identity[1])
    os.seteuid(identity[0])
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)
