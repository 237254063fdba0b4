"""Whether the web server in front keeps officers out while the door is closed.

The door is a file that the front looks for. A wrong path in one of two files, or a directory that
its worker may not enter, and it lets everybody in: what officers then write is thrown away where
the change goes back. So the front itself is asked, as an officer's browser would.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from http import HTTPStatus
from urllib.parse import urlsplit

from ncen_updater.agent.application.health import HealthProber
from ncen_updater.agent.config.model import ApplicationSettings

logger = logging.getLogger(__name__)

POLL_S = 0.1


def front_problem(
    settings: ApplicationSettings,
    clock: Callable[[], float] = time.monotonic,
    wait: Callable[[float], object] = time.sleep,
    *,
    going_back: bool = False,
) -> str | None:
    """Ask the front until it shows the maintenance page; None where it does, or has no address.

    A front may remember for a moment which files there are. One that does not answer lets nobody
    in; before an upgrade its address may be a mistake, and it keeps nobody from going back.

    Returns:
        What it answered last.

    Raises:
        HealthSettingsWrong: The address cannot be used.
    """
    if settings.front_url is None:
        return None
    parts = urlsplit(settings.front_url)
    base = f"{parts.scheme}://{parts.netloc}"
    # What the application is asked with is not for whoever stands in front.
    alone = {"health_url": base, "health_headers": None, "health_token_file": None}
    prober = HealthProber(settings.model_copy(update=alone))
    until = clock() + settings.probe_timeout_s
    while True:
        said = prober.status(parts.path or "/")
        if said == HTTPStatus.SERVICE_UNAVAILABLE:
            return None
        if clock() >= until:
            if isinstance(said, int):
                return f"it answered with status {said}"
            if going_back:
                logger.warning("the web server in front is away, and lets nobody in: it %s", said)
                return None
            return f"it {said}"
        wait(POLL_S)
