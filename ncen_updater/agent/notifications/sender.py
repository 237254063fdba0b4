"""The process that sends: one message on stdin, what came of it on stdout, as JSON.

It talks to the network, and to no database. Started by
:mod:`ncen_updater.agent.notifications.sending`, or by systemd for a connection to a socket that
only root may open.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ncen_updater.agent.config.loader import load_config
from ncen_updater.agent.notifications.errors import BadOrder
from ncen_updater.agent.notifications.letter import Reader, write_letter
from ncen_updater.agent.notifications.mail import send_mail
from ncen_updater.agent.notifications.news import News
from ncen_updater.agent.notifications.reasons import reason
from ncen_updater.agent.notifications.webhook import post
from ncen_updater.agent.reader.unit import end_with_asker, is_connection
from ncen_updater.common.bounded_io import parse_json
from ncen_updater.common.errors import ExitCode, UpdaterError

__all__ = ["main", "send"]

MAX_ORDER = 4_000_000
PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def send(config_path: Path, order: Mapping[str, Any]) -> int:
    """Send what an order says; return how many addresses were refused beside others.

    Raises:
        UpdaterError: If it was not delivered.
    """
    config = load_config(config_path)
    try:
        way, number, left_out = str(order["way"]), str(order["id"]), int(order["left_out"])
        news = [News.from_json(item) for item in order["news"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadOrder(detail=type(error).__name__) from error
    reader = Reader(config.site.id, config.notify.language, config.service.zone())
    if not news:
        raise BadOrder
    letter = write_letter(number, news, left_out, reader, reason)
    now = datetime.now(UTC)
    if way == "mail" and config.notify.mail is not None:
        return send_mail(letter, config.notify.mail, os.environ, now)
    if way == "webhook" and config.notify.webhook is not None:
        post(letter, config.notify.webhook, os.environ, now)
        return 0
    raise BadOrder


def main() -> int:
    """Send one message; return the exit status."""
    # End with the service: nobody would write down that the message was taken.
    if is_connection(0):
        end_with_asker(0)
    else:
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    try:
        order = parse_json(sys.stdin.buffer.readline(MAX_ORDER))
        if not isinstance(order, dict):
            raise BadOrder
        refused = send(Path(sys.argv[1]), order)
    except UpdaterError as error:
        document = {"error": {"code": error.code, "what": str(error.what_text)}}
        sys.stdout.write(json.dumps(document) + "\n")
        return int(error.exit_code)
    except ValueError:
        sys.stdout.write(json.dumps({"error": {"code": BadOrder.code, "what": "no JSON"}}) + "\n")
        return int(ExitCode.NETWORK)
    sys.stdout.write(json.dumps({"sent": True, "refused": refused}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
