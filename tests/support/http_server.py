"""Real web server on 127.0.0.1 for a directory, with simulated network faults."""

from __future__ import annotations

import contextlib
import http.server
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PORTAL = b"<!DOCTYPE html><html><body>Welcome to Airport Wi-Fi. Please log in.</body></html>"


@dataclass
class Fault:
    """Fault of requests whose path contains ``match``.

    Attributes:
        times: Number of faulty responses; unlimited by default.
        status: Respond with this status.
        body: Respond with these bytes instead of the file.
        content_type: Content type of the response.
        cut_after: Close the connection after so many bytes of the body.
        drip: Send one byte every ``drip`` seconds until the client gives up.
        endless: Continue to send after the end.
        etag: Entity tag to send.
    """

    match: str
    times: int | None = None
    status: int | None = None
    body: bytes | None = None
    content_type: str | None = None
    cut_after: int | None = None
    drip: float | None = None
    endless: bool = False
    etag: str | None = None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Request:
    """One received request."""

    path: str
    range: str | None


class WebServer:
    """Serves a directory during a block."""

    def __init__(
        self, directory: Path, *, ranges: bool = True, tls: ssl.SSLContext | None = None
    ) -> None:
        self.directory, self.ranges = directory, ranges
        self._scheme = "https" if tls else "http"
        self.faults: list[Fault] = []
        self.requests: list[Request] = []
        self.date: str | None = None
        self.no_head: int | None = None
        self._ending = threading.Event()
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = False
        self._server.block_on_close = True
        if tls is not None:
            self._server.socket = tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    @property
    def url(self) -> str:
        """Return the base URL."""
        return f"{self._scheme}://127.0.0.1:{self._server.server_address[1]}/"

    def paths(self) -> list[str]:
        """Return the paths requested so far."""
        return [request.path for request in self.requests]

    def __enter__(self) -> WebServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def fault_for(self, path: str) -> Fault | None:
        """Return the fault of a request; decrease its remaining number."""
        for fault in self.faults:
            if fault.match in path and fault.times != 0:
                if fault.times is not None:
                    fault.times -= 1
                return fault
        return None

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            timeout = 10

            # HTTP/1.0 closes the connection after each response, so that no thread remains.
            def log_message(self, format: str, *args: Any) -> None:
                pass

            def date_time_string(self, timestamp: float | None = None) -> str:
                return server.date or super().date_time_string(timestamp)

            def handle(self) -> None:
                # Ignore a client that disconnects, or whose certificate is refused.
                with contextlib.suppress(OSError):
                    super().handle()

            def finish(self) -> None:
                with contextlib.suppress(OSError):
                    super().finish()

            def do_GET(self) -> None:
                server.requests.append(Request(self.path, self.headers.get("Range")))
                fault = server.fault_for(self.path) or Fault("")
                file = server.directory / self.path.lstrip("/")
                if fault.status is not None:
                    self.answer(fault.status, fault.body or b"no", 0, fault)
                elif fault.body is not None:
                    self.answer(200, fault.body, 0, fault)
                elif not file.is_file():
                    self.answer(404, b"not here", 0, fault)
                else:
                    self.file(file.read_bytes(), fault)

            def do_HEAD(self) -> None:
                if server.no_head is None:
                    self.do_GET()
                else:
                    self.send_error(server.no_head)

            def file(self, content: bytes, fault: Fault) -> None:
                span = self.headers.get("Range")
                if span is None or not server.ranges:
                    self.answer(200, content, 0, fault)
                    return
                start = int(span.removeprefix("bytes=").split("-")[0])
                if start >= len(content):
                    self.answer(416, b"", 0, fault)
                    return
                self.answer(206, content[start:], start, fault, len(content))

            def answer(
                self, status: int, body: bytes, start: int, fault: Fault, total: int = 0
            ) -> None:
                self.send_response(status)
                for name, value in fault.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Type", fault.content_type or "application/octet-stream")
                if fault.etag:
                    self.send_header("ETag", fault.etag)
                if status == 206:
                    self.send_header(
                        "Content-Range", f"bytes {start}-{start + len(body) - 1}/{total}"
                    )
                if not fault.endless:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                with contextlib.suppress(OSError):
                    self.body(body, fault)

            def body(self, body: bytes, fault: Fault) -> None:
                if self.command == "HEAD":
                    return
                if fault.drip is not None:
                    for byte in body:
                        self.wfile.write(bytes([byte]))
                        if server._ending.wait(fault.drip):
                            return
                elif fault.cut_after is not None:
                    self.wfile.write(body[: fault.cut_after])
                    self.wfile.flush()
                    self.connection.shutdown(socket.SHUT_RDWR)
                else:
                    self.wfile.write(body)
                    while fault.endless and not server._ending.is_set():
                        self.wfile.write(b" " * 65536)

        return Handler


@contextlib.contextmanager
def serving(
    directory: Path, *, ranges: bool = True, tls: ssl.SSLContext | None = None
) -> Iterator[WebServer]:
    """Serve a directory."""
    with WebServer(directory, ranges=ranges, tls=tls) as server:
        yield server
