"""Let a process send, and wait for its result for a limited time.

The process is a child or a systemd unit, by ``service.runner``; with a unit the service itself
needs no network.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from ncen_updater.agent.config.agent_config import AgentConfig
from ncen_updater.agent.config.errors import ConfigError
from ncen_updater.agent.service.notifications.send_worker import NotificationError
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import MAIL_REFUSED, SENDER_FAILED
from ncen_updater.common.workers import (
    INHERITED_VARIABLES,
    Worker,
    WorkerError,
    WorkerLimits,
    WorkerTimeoutError,
    call_worker,
)

logger = logging.getLogger(__name__)

#: A server that gives one byte now and then keeps each time limit of its own; not this one.
SEND_TIMEOUT_S = 180.0

#: Sends what an order says; the code of the error, or None where it was taken.
Sender = Callable[[Mapping[str, object]], str | None]


def create_sender(config_path: Path, config: AgentConfig) -> Sender:
    """Return what sends one message at a site.

    Args:
        config_path: The configuration file; the process reads it again.
        config: What it says.
    """
    if config.service.runner != "systemd":
        return create_worker_sender(config_path)
    return create_worker_sender(config_path, config.paths.resolve(config.service.send_socket))


def create_worker_sender(
    config_path: Path, socket: Path | None = None, limit_s: float = SEND_TIMEOUT_S
) -> Sender:
    """Return what sends one message by a process of its own.

    Args:
        config_path: The configuration file.
        socket: Where systemd waits; else it is a child.
        limit_s: After this nobody waits any longer, and the message counts as not taken.
    """
    worker = Worker(
        "ncen_updater.agent.service.notifications.send_worker",
        (str(config_path.absolute()),),
        socket,
        WorkerLimits(total_timeout_s=limit_s, max_line_bytes=100_000, max_stream_bytes=100_000),
        expected_errors=(NotificationError, ConfigError),
        inherited_variables=(*INHERITED_VARIABLES, "CREDENTIALS_DIRECTORY"),
        stderr=False,  # a trace of it would quote what it was given
    )
    return lambda order: _send(worker, order)


def _send(worker: Worker, request: Mapping[str, object]) -> str | None:
    try:
        answer = call_worker(worker, request)
    except UpdaterError as error:
        logger.warning(
            "a message was not delivered: %s", error.title_text, extra=_build_log_fields(error.code)
        )
        return error.code
    except WorkerError as error:
        logger.warning(
            "a message was not delivered%s: %s%s",
            " in time" if isinstance(error, WorkerTimeoutError) else "",
            str(error.detail)[:300],
            "; see 'systemctl status ncen-updater-send.socket'" if worker.socket else "",
            extra=_build_log_fields(SENDER_FAILED.code),
        )
        return SENDER_FAILED.code
    if answer.get("sent") is not True:
        logger.warning("a message was not delivered", extra=_build_log_fields(SENDER_FAILED.code))
        return SENDER_FAILED.code
    if answer.get("refused"):
        logger.warning(
            "some addresses of a message were refused", extra=_build_log_fields(MAIL_REFUSED.code)
        )
    return None


def _build_log_fields(code: str) -> dict[str, str]:
    return {"code": code}
