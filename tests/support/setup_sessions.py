"""The setup's sessions with a server, in forks of the calling process.

Importing the driver takes a quarter of a second, and a setup has twenty sessions. A fork runs the
same program, changes its user, and has the same environment and directory.
``tests/agent/setup/test_logins.py``, which is about rights, uses real interpreters.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys

import psycopg  # noqa: F401 - for the forks

from ncen_updater.agent.setup import machine
from tests.support.forks import work


def begin() -> None:
    """Use :func:`forked_session` in this process and its forks."""
    machine._run_session = forked_session


def forked_session(given: str) -> str:
    """Replace ``machine._run_session``."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        sys.stdin = io.StringIO(given)
        sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), "utf-8")

        def program() -> int:
            exec(machine._RUN_SQL, {})
            return 0

        work(program, {1: writer}, dict(machine._SESSION_ENVIRONMENT), "/", session=False)
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8") as told:
        answer = told.read()
    _, status = os.waitpid(pid, 0)
    if status != 0:
        raise subprocess.CalledProcessError(os.waitstatus_to_exitcode(status), "fork")
    return answer
