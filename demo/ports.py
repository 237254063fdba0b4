"""Free TCP ports for servers of a demonstration or a test."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import socket

#: Below the range from which Linux takes the ports of outgoing connections
#: (``net.ipv4.ip_local_port_range``): these would take a port while its server restarts.
PORTS = range(15_000, 32_000)


def find_free_ports(count: int) -> tuple[int, ...]:
    """Return different ports of 127.0.0.1 on which no server listens now.

    Raises:
        OSError: If there are too few.
    """
    found: list[int] = []
    with contextlib.ExitStack() as stack:
        for port in random.SystemRandom().sample(PORTS, len(PORTS)):
            probe = stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                found.append(port)
            if len(found) == count:
                return tuple(found)
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
