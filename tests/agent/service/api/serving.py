"""The real server on a real socket, in this process."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
import requests.adapters
import urllib3.connection
import urllib3.connectionpool

from ncen_updater.agent.config.loader import load_config
from ncen_updater.agent.service.api.server import start_api
from ncen_updater.common.unix_http import connect_unix_socket
from tests.agent.service.api.conftest import NOW, Counter


@contextmanager
def answering(counter: Counter) -> Iterator[Path]:
    """Answer for a counter at the socket of its site; yields the socket."""
    config = load_config(counter.site.config)
    stop = start_api(
        counter.site.config, config, snapshots=counter.snapshots, state_file=counter.keeper,
        wake=lambda: counter.woken.append(1), now=lambda: NOW, inspections=counter.inspections,
    )  # fmt: skip
    try:
        yield config.paths.resolve(config.service.api_socket)
    finally:
        stop()


class UnixAdapter(requests.adapters.HTTPAdapter):
    """Lets requests speak over a Unix socket, whatever the address says."""

    def __init__(self, path: Path) -> None:
        self._path = path
        super().__init__()

    def get_connection_with_tls_context(self, *_: Any, **__: Any) -> Any:
        """Return a pool of connections to the socket."""
        path = self._path

        class Connection(urllib3.connection.HTTPConnection):
            def connect(self) -> None:
                self.sock: socket.socket = connect_unix_socket(path, 30)

        class Pool(urllib3.connectionpool.HTTPConnectionPool):
            ConnectionCls = Connection

        return Pool("localhost")
