"""Notifications to systemd (sd_notify(3)): datagrams to the socket in ``NOTIFY_SOCKET``.

Without that variable, as on a terminal, nothing is sent.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Mapping

logger = logging.getLogger(__name__)


class SystemdNotifier:
    """Sends notifications to the service manager.

    Args:
        environment: Source of ``NOTIFY_SOCKET`` and ``WATCHDOG_USEC``.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        limit = environment.get("WATCHDOG_USEC", "")
        #: Seconds between two heartbeats: half of the watchdog timeout; None without a watchdog.
        self.interval_s = int(limit) / 2e6 if limit.isdigit() and int(limit) else None

    def notify_ready(self) -> None:
        """Notify that the service is ready."""
        self._send("READY=1")

    def notify_reloading(self) -> None:
        """Notify that the configuration is being reloaded; :meth:`notify_ready` ends the reload."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def notify_stopping(self) -> None:
        """Notify that the service is stopping."""
        self._send("STOPPING=1")

    def ping_watchdog(self) -> None:
        """Send a heartbeat to the watchdog."""
        if self.interval_s is not None:
            self._send("WATCHDOG=1")

    def notify_status(self, line: str) -> None:
        """Set the status line that ``systemctl status`` shows."""
        self._send("STATUS=" + " ".join(line.split()))

    def _send(self, message: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.connect(self._address)
                # The status may contain a name of a file that is no UTF-8.
                sender.sendall(message.encode("utf-8", "replace"))
        except OSError as error:
            # systemd then treats the service as silent; the service continues.
            logger.warning("could not notify the service manager: %s", error)
