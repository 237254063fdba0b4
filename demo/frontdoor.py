"""Small stand-in for the web server in front of nCEN, run as a process of its own.

It forwards requests to the application. It shows the maintenance page while the maintenance file
exists or the application does not respond. A real site has nginx or Apache instead.
"""

from __future__ import annotations

import argparse
import http.client
import signal
import sys
import threading
from collections.abc import Sequence
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

MAX_BODY = 1_000_000
TIMEOUT_S = 30.0
HEADERS = ("Content-Type", "Accept")
MAINTENANCE_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>nCEN</title>
<h1>nCEN is being upgraded</h1>
<p>Please try again in a few minutes. What you have saved is safe.</p>
<div lang="fr"><h1>nCEN est en cours de mise à niveau</h1>
<p>Veuillez réessayer dans quelques minutes. Ce que vous avez enregistré est conservé.</p></div>
""".encode()


class _Door(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(
        self, target: tuple[str, int], maintenance_file: Path, *arguments: object, **named: object
    ) -> None:
        self.target = target
        self.maintenance_file = maintenance_file
        super().__init__(*arguments, **named)  # type: ignore[arg-type]

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""

    def do_GET(self) -> None:
        self.forward()

    def do_POST(self) -> None:
        self.forward()

    def forward(self) -> None:
        length = self.headers.get("Content-Length", "0")
        if not length.isdigit() or int(length) > MAX_BODY:
            self.close_connection = True
            self.answer(413, "text/plain", b"too long\n")
            return
        body = self.rfile.read(int(length))
        if self.maintenance_file.exists():
            self.maintenance()
            return
        connection = http.client.HTTPConnection(*self.target, timeout=TIMEOUT_S)
        try:
            headers = {name: self.headers[name] for name in HEADERS if name in self.headers}
            connection.request(self.command, self.path, body or None, headers)
            response = connection.getresponse()
            content = response.read()
            kind = response.getheader("Content-Type", "application/octet-stream")
        except (OSError, http.client.HTTPException):
            self.maintenance()
            return
        finally:
            connection.close()
        self.answer(response.status, kind, content)

    def maintenance(self) -> None:
        self.answer(503, "text/html; charset=utf-8", MAINTENANCE_PAGE)

    def answer(self, status: int, kind: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        if status == 503:
            self.send_header("Retry-After", "5")
        self.end_headers()
        self.wfile.write(content)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="frontdoor", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--target-port", type=int, required=True)
    parser.add_argument("--maintenance-file", type=Path, required=True)
    options = parser.parse_args(argv)
    handler = partial(_Door, ("127.0.0.1", options.target_port), options.maintenance_file)
    server = _Server(("127.0.0.1", options.port), handler)

    def end(*_: object) -> None:
        threading.Thread(target=server.shutdown, daemon=True).start()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    server.serve_forever(poll_interval=0.05)
    server.server_close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
