"""Telling systemd how the service is (sd_notify(3)): a datagram to a socket that it names.

Where nobody listens, as on a terminal, nothing is sent.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Mapping

logger = logging.getLogger(__name__)


class SystemdNotifier:
    """Sends states to the service manager.

    Args:
        environment: Where ``NOTIFY_SOCKET`` and ``WATCHDOG_USEC`` are looked for.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        limit = environment.get("WATCHDOG_USEC", "")
        #: Seconds between two signs of life: half of what systemd allows; None where it asks none.
        self.interval_s = int(limit) / 2e6 if limit.isdigit() and int(limit) else None

    def notify_ready(self) -> None:
        """Say that the service works."""
        self._send("READY=1")

    def notify_reloading(self) -> None:
        """Say that the configuration is read again; :meth:`notify_ready` ends it."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def notify_stopping(self) -> None:
        """Say that the service is about to end."""
        self._send("STOPPING=1")

    def ping_watchdog(self) -> None:
        """Give a sign of life."""
        if self.interval_s is not None:
            self._send("WATCHDOG=1")

    def notify_status(self, line: str) -> None:
        """Say in one line what the service does; ``systemctl status`` shows it."""
        self._send("STATUS=" + " ".join(line.split()))

    def _send(self, message: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.connect(self._address)
                sender.sendall(message.encode())
        except OSError as error:
            # The manager then acts as it would for a silent service; the work goes on.
            logger.warning("the service manager could not be told: %s", error)
