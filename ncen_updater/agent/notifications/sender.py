"""The process that sends: it talks to the network, and to no database.

Asked by :mod:`ncen_updater.agent.notifications.sending`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ncen_updater.agent.config.loader import load_config
from ncen_updater.agent.journal.head import ChainHead
from ncen_updater.agent.notifications.errors import NotifyError
from ncen_updater.agent.notifications.letter import LetterReader, write_letter
from ncen_updater.agent.notifications.mail import send_mail
from ncen_updater.agent.notifications.news import News
from ncen_updater.agent.notifications.webhook import post
from ncen_updater.common.messages import BAD_ORDER
from ncen_updater.common.reasons import reason
from ncen_updater.common.workers import serve


def send(config_path: Path, order: Mapping[str, Any]) -> int:
    """Send what an order says; return how many addresses were refused beside others.

    Raises:
        UpdaterError: If it was not delivered.
    """
    config = load_config(config_path)
    try:
        way, number, left_out = str(order["way"]), str(order["id"]), int(order["left_out"])
        head = str(order["head"]) and str(ChainHead.parse(str(order["head"])))
        news = [News.from_json(item) for item in order["news"]]
    except (KeyError, TypeError, ValueError) as error:
        raise NotifyError(BAD_ORDER, detail=type(error).__name__) from error
    reader = LetterReader(config.site.id, config.notify.language, config.service.zone())
    if not news:
        raise NotifyError(BAD_ORDER)
    letter = write_letter(number, news, left_out, reader, reason, head)
    now = datetime.now(UTC)
    if way == "mail" and config.notify.mail is not None:
        return send_mail(letter, config.notify.mail, os.environ, now)
    if way == "webhook" and config.notify.webhook is not None:
        post(letter, config.notify.webhook, os.environ, now)
        return 0
    raise NotifyError(BAD_ORDER)


def main() -> int:
    """Send one message; return the exit status."""
    config = Path(sys.argv[1])
    # Bound to the service: nobody would write down that the message was taken.
    return serve(lambda order, _: {"sent": True, "refused": send(config, order)})


if __name__ == "__main__":
    sys.exit(main())
