"""Why a server refuses a session, as SQLSTATE: of that psycopg tells no more than the words."""

from __future__ import annotations

import ctypes
import re
import select
import sys
import time
from typing import Any

from psycopg.pq import PGconn, PollingStatus

#: Of class 28: the password is wrong, or wanted and not there; and everything else.
PASSWORD, NOT_ADMITTED = "28P01", "28000"
#: A session stands, or needs no more than its password.
ADMITS = frozenset({"00000", PASSWORD})
# With it libpq writes the SQLSTATE before the words of the server, whatever language these are in.
_VERBOSE = 2
_ENDS = (PollingStatus.OK, PollingStatus.FAILED)
_ANSWER = re.compile(r":  ([0-9A-Z]{5}): (.*)")


def ask_sqlstate(conninfo: str, limit_s: float) -> tuple[str | None, str]:
    """Log in once more, only to learn what the server answers.

    Args:
        conninfo: How; whoever has a session of it asks nothing here.
        limit_s: How long the answer may take.

    Returns:
        The SQLSTATE, None where no server answered; and the words.
    """
    module: Any = sys.modules[PGconn.__module__]  # of psycopg: over ctypes, or compiled
    libpq = module.impl.pq if hasattr(module, "impl") else ctypes.CDLL(module.__file__)
    end = time.monotonic() + limit_s
    connection: Any = PGconn.connect_start(conninfo.encode())  # its pointer has no type
    try:
        libpq.PQsetErrorVerbosity(ctypes.c_void_p(connection.pgconn_ptr), _VERBOSE)
        while (state := connection.connect_poll()) not in _ENDS:
            answer, reads = select.poll(), state == PollingStatus.READING
            answer.register(connection.socket, select.POLLIN if reads else select.POLLOUT)
            if not answer.poll(max(0.0, end - time.monotonic()) * 1000):
                return None, f"no answer in {limit_s:.0f} s"
        if state == PollingStatus.OK:
            return "00000", ""
        words = connection.error_message.decode(errors="replace").strip()
        if connection.needs_password:
            return PASSWORD, words
        answered = _ANSWER.search(words)
        return (answered[1], answered[2]) if answered else (None, words)
    finally:
        connection.finish()
