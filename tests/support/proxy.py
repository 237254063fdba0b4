"""Small HTTP proxy on 127.0.0.1: forwards plain requests; CONNECT opens a tunnel."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

POLL_S = 0.05  # how soon a tunnel detects the end of the test


@dataclass
class Proxy:
    """Behaviour and recorded requests of a proxy.

    Attributes:
        url: Its URL.
        refuse: Answer every request with this status line.
        seen: First line of each request.
        headers: All header lines of all requests.
    """

    url: str
    refuse: bytes | None = None
    seen: list[str] = field(default_factory=list)
    headers: list[str] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def serve(self, client: socket.socket) -> None:
        """Serve one connection."""
        with client, contextlib.suppress(OSError):
            client.settimeout(5)
            head = b""
            while b"\r\n\r\n" not in head:
                data = client.recv(65536)
                if not data:
                    return
                head += data
            lines = head.split(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
            self.seen.append(lines[0])
            self.headers += lines[1:]
            if self.refuse is not None:
                client.sendall(self.refuse + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                return
            method, target, _ = lines[0].split(" ")
            if method == "CONNECT":
                host, _, port = target.partition(":")
                with socket.create_connection((host, int(port)), 5) as server:
                    client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                    self._pass(client, server)
                return
            place = urlsplit(target)
            with socket.create_connection((place.hostname or "", place.port or 80), 5) as server:
                server.sendall(head.replace(target.encode(), place.path.encode(), 1))
                self._pass(client, server)

    def _pass(self, client: socket.socket, server: socket.socket) -> None:
        ends = {client: server, server: client}
        while not self.ended.is_set():
            for ready in select.select([client, server], [], [], POLL_S)[0]:
                data = ready.recv(65536)
                if not data:
                    return
                ends[ready].sendall(data)


@contextlib.contextmanager
def proxying() -> Iterator[Proxy]:
    """Run a proxy during a block."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(POLL_S)
        proxy = Proxy(f"http://127.0.0.1:{listener.getsockname()[1]}")
        threads: list[threading.Thread] = []

        def accept() -> None:
            while not proxy.ended.is_set():
                with contextlib.suppress(TimeoutError):
                    client, _ = listener.accept()
                    threads.append(threading.Thread(target=proxy.serve, args=(client,)))
                    threads[-1].start()

        acceptor = threading.Thread(target=accept)
        acceptor.start()
        try:
            yield proxy
        finally:
            proxy.ended.set()
            acceptor.join()
            for thread in threads:
                thread.join()
