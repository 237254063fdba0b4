"""A web server that counts the bytes it sends; separate, so that no measured client imports it."""

from __future__ import annotations

import contextlib
import functools
import http.server
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast


@dataclass
class Counter:
    """Bytes sent (headers and bodies) and requests answered."""

    sent: int = 0
    requests: int = 0


class _CountingFile:
    def __init__(self, stream: IO[bytes], counter: Counter) -> None:
        self._stream, self._counter = stream, counter

    def write(self, data: bytes) -> int:
        self._counter.sent += len(data)
        return self._stream.write(data)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever a file has
        return getattr(self._stream, name)


class _Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, counter: Counter, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        self._counter = counter
        super().__init__(*args, **kwargs)

    def setup(self) -> None:
        super().setup()
        self.wfile = cast("Any", _CountingFile(cast("IO[bytes]", self.wfile), self._counter))

    def parse_request(self) -> bool:
        self._counter.requests += 1
        return super().parse_request()

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def serving(directory: Path) -> Iterator[tuple[str, Counter]]:
    """Serve a directory; yield its address and the counter."""
    counter = Counter()
    handler = functools.partial(_Handler, counter, directory=str(directory))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/", counter
        finally:
            server.shutdown()
            thread.join()
