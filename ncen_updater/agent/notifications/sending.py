"""Starts the process that sends, and waits for what comes of it, for a limited time.

It is a child, or one that systemd starts, as ``service.runner`` says: then the service itself is on
no network.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from ncen_updater.agent.config.model import AgentConfig
from ncen_updater.common.bounded_io import parse_json

__all__ = ["LIMIT_S", "Sender", "send_by_child", "send_by_unit", "sender_for"]

logger = logging.getLogger(__name__)

#: A server that gives one byte now and then keeps each time limit of its own; not this one.
LIMIT_S = 180.0
MAX_ANSWER, PIECE = 100_000, 65_536
KEPT_VARIABLES = (
    "PATH", "LANG", "LC_ALL", "TZ", "HOME", "PYTHONPATH", "COVERAGE_PROCESS_START",
    "CREDENTIALS_DIRECTORY", "NCEN_LOCALE_DIR",
)  # fmt: skip

#: Sends what an order says; the code of the error, or None where it was taken.
Sender = Callable[[Mapping[str, object]], str | None]


def sender_for(config_path: Path, config: AgentConfig) -> Sender:
    """Return what sends one message at a site.

    Args:
        config_path: The configuration file.
        config: What it says.
    """
    child = send_by_child(config_path)
    if config.service.runner != "systemd":
        return child
    path = config.paths.resolve(config.service.send_socket)
    unit = send_by_unit(path)

    def send(order: Mapping[str, object]) -> str | None:
        # An agent may be newer than the units, which come with the package: where these know of no
        # such socket, they leave the service its network.
        return unit(order) if path.exists() else child(order)

    return send


def send_by_unit(path: Path, limit_s: float = LIMIT_S) -> Sender:
    """Return what sends one message by a process that systemd starts.

    Args:
        path: The socket at which systemd waits.
        limit_s: After this nobody waits any longer, and the message counts as not taken.
    """

    def send(order: Mapping[str, object]) -> str | None:
        try:
            answer = _asked(path, json.dumps(order).encode() + b"\n", limit_s)
        except TimeoutError:
            logger.warning("a message was not delivered in time", extra=_extra("NU-9610"))
            return "NU-9610"
        except OSError as error:
            logger.warning(
                "the unit that sends cannot be reached at %s: %s; see 'systemctl status "
                "ncen-updater-send.socket'",
                path, error, extra=_extra("NU-9610"),
            )  # fmt: skip
            return "NU-9610"
        return _judged(answer, 0)

    return send


def _asked(path: Path, order: bytes, limit_s: float) -> bytes:
    """Give an order; closing the connection ends a process whose answer nobody waits for."""
    until = time.monotonic() + limit_s
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(limit_s)
        connection.connect(str(path))
        connection.sendall(order)
        answer = b""
        while len(answer) < MAX_ANSWER:
            connection.settimeout(max(0.001, until - time.monotonic()))
            piece = connection.recv(PIECE)
            if not piece:
                break
            answer += piece
        return answer


def send_by_child(config_path: Path, limit_s: float = LIMIT_S) -> Sender:
    """Return what sends one message by a process of its own.

    Args:
        config_path: The configuration file; the process reads it again.
        limit_s: After this it is killed, and the message counts as not taken.
    """

    def send(order: Mapping[str, object]) -> str | None:
        environment = {k: os.environ[k] for k in KEPT_VARIABLES if k in os.environ}
        words = [sys.executable, "-m", "ncen_updater.agent.notifications.sender", str(config_path)]
        with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as answer:
            given.write(json.dumps(order).encode())
            given.seek(0)
            with subprocess.Popen(
                words,
                stdin=given,
                stdout=answer,
                stderr=subprocess.DEVNULL,  # a trace of it would quote what it was given
                env=environment,
                start_new_session=True,
            ) as child:
                try:
                    child.wait(limit_s)
                except subprocess.TimeoutExpired:
                    child.kill()
                    logger.warning("a message was not delivered in time", extra=_extra("NU-9610"))
                    return "NU-9610"
            answer.seek(0)
            return _judged(answer.read(MAX_ANSWER), child.returncode)

    return send


def _extra(code: str) -> dict[str, str]:
    return {"code": code}


def _judged(answer: bytes, status: int) -> str | None:
    try:
        document = parse_json(answer)
    except ValueError:
        document = None
    if isinstance(document, dict) and document.get("sent") is True and status == 0:
        if document.get("refused"):
            logger.warning("some addresses of a message were refused", extra=_extra("NU-9603"))
        return None
    error = document.get("error") if isinstance(document, dict) else None
    code = str(error.get("code")) if isinstance(error, dict) else "NU-9610"
    what = str(error.get("what")) if isinstance(error, dict) else f"exit status {status}"
    logger.warning("a message was not delivered: %s", what[:300], extra=_extra(code))
    return code
