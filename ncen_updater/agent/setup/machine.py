"""The machine that is set up: programs with time limits, and other users' rights where they do.

What belongs to another user is read and written as that user: root would follow what they lay.
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
from ncen_updater.common.messages import SETUP_COMMAND_FAILED, SETUP_DATABASE_REFUSED

COMMAND_LIMIT_S, QUICK_LIMIT_S = 120.0, 20.0
STATEMENT_LIMIT_S, SESSION_LIMIT_S = 60, 90
_SEEN_OPTIONS = f"-c statement_timeout={STATEMENT_LIMIT_S}s -c search_path=pg_catalog"
# Becomes the user for good before it speaks with anybody, and after all is imported: the user may
# not be able to read where the interpreter lies.
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


@dataclass(frozen=True)
class Machine:
    """Where all paths are below, and how programs are run.

    Attributes:
        root: Directory of all paths.
        run: Runs a program within so many seconds; status 127 where there is none.
    """

    root: Path = Path("/")
    run: Callable[[Sequence[str], float], CommandResult] = _run

    def path(self, name: str | Path) -> Path:
        """Return a path below the root."""
        return self.root / str(name).lstrip("/")

    def has_systemd(self) -> bool:
        """Return whether systemd runs this machine."""
        return self.path("/run/systemd/system").is_dir()

    def require(self, argv: Sequence[str]) -> None:
        """Run a program that has to end well.

        Raises:
            SETUP_COMMAND_FAILED: With the end of what it said.
        """
        ended = self.run(argv, COMMAND_LIMIT_S)
        if ended.status != 0:
            words = ended.output[-500:] or f"exit status {ended.status}"
            raise UpdaterError(SETUP_COMMAND_FAILED, command=" ".join(argv), detail=words)


@dataclass(frozen=True)
class ServerAddress:
    """A PostgreSQL server at a socket of this machine.

    Attributes:
        host: Directory of its socket.
        port: Number in the socket's name.
        uid: User that the server runs as, as the kernel tells it.
        gid: Its group.
        superuser: Role that this user may log in as.
    """

    host: str
    port: int
    uid: int
    gid: int
    superuser: str = "postgres"

    def query(self, statements: Sequence[str], database: str = "postgres") -> list[list[list[str]]]:
        """Run statements as the server's superuser, each on its own; return their rows.

        Raises:
            SETUP_DATABASE_REFUSED: With the words of the server.
        """
        address = make_conninfo(
            host=self.host, port=self.port, dbname=database, user=self.superuser,
            connect_timeout=10, client_encoding="UTF8", options=_SEEN_OPTIONS,
            application_name="ncen-updater setup",
        )  # fmt: skip
        work = {"uid": self.uid, "gid": self.gid, "address": address, "statements": statements}
        try:
            ended = subprocess.run(
                [sys.executable, "-I", "-c", _RUN_SQL], input=json.dumps(work), check=True,
                env={"PATH": os.defpath, "HOME": "/"}, cwd="/", capture_output=True, text=True,
                timeout=SESSION_LIMIT_S,
            )  # fmt: skip
        except subprocess.SubprocessError as error:
            output = getattr(error, "stderr", None) or type(error).__name__
            raise UpdaterError(
                SETUP_DATABASE_REFUSED, host=self.host, port=self.port, detail=str(output)[-500:]
            ) from error
        answer = json.loads(ended.stdout)
        if "refused" in answer:
            raise UpdaterError(
                SETUP_DATABASE_REFUSED, host=self.host, port=self.port, detail=answer["refused"]
            )
        rows: list[list[list[str]]] = answer["rows"]
        return rows


def find_server(host: str, port: int) -> ServerAddress | None:
    """Ask the kernel who listens at a server's socket; None where nobody does."""
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
    """Have the rights of a user on files while the block runs; ours where it is None."""
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
