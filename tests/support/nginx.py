"""Real nginx on 127.0.0.1 with the shipped configuration."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from demo.ports import find_free_ports
from tests.support.forks import DEADLINE_S

CONFIGURATION = Path(__file__).parents[2] / "packaging" / "nginx" / "feed.conf"


@dataclass(frozen=True)
class Nginx:
    """Running server.

    Attributes:
        url: Its URL.
        port: Its port.
        log: One line per request: status, bytes of the body, method, path, total bytes of request
            and response.
    """

    url: str
    port: int
    log: Path


def find_nginx() -> str | None:
    """Return the path of nginx, which is often not in the PATH of unprivileged users."""
    return shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


@contextlib.contextmanager
def nginx(
    program: str,
    feed: Path,
    work: Path,
    configuration: str | None = None,
    places: Mapping[str, str] | None = None,
    listens: int = 80,
    user: str = "root",
) -> Iterator[Nginx]:
    """Serve a feed or another directory during a block.

    Args:
        program: Path from :func:`find_nginx`.
        feed: The directory.
        work: Directory for configuration, log and temporary files.
        configuration: Replaces the shipped configuration.
        places: Replacements of paths in the configuration; the feed's directory by default.
        listens: Port in the configuration.
        user: User of the worker processes of a server started by root.
    """
    (port,) = find_free_ports(1)
    rules = configuration or CONFIGURATION.read_text("utf-8")
    places = {"/srv/ncen-feed": str(feed)} if places is None else places
    ports = {f"listen {listens}": f"listen 127.0.0.1:{port}"}
    for given, here in {**ports, **places}.items():
        if given not in rules:
            raise ValueError(f"the configuration has no {given!r}")
        rules = rules.replace(given, here)
    work.mkdir(parents=True, exist_ok=True)
    (work / "feed.conf").write_text(rules)
    # As root, the workers would run as nobody, who cannot read the files of a test.
    whose = f"user {user};" if os.geteuid() == 0 else ""
    bodies = " ".join(
        f"{kind}_temp_path {work}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (work / "nginx.conf").write_text(
        f"{whose} worker_processes 1; daemon off;\n"
        f"pid {work}/nginx.pid; error_log {work}/error.log;\n"
        "events { worker_connections 2048; }\n"
        f"http {{ {bodies} sendfile on; keepalive_requests 1000000;\n"
        "log_format short '$status $body_bytes_sent $request_method $uri"
        " $request_length $bytes_sent';\n"
        f"access_log {work}/access.log short; include {work}/feed.conf; }}\n"
    )
    words = [
        program,
        "-p",
        str(work),
        "-e",
        str(work / "error.log"),
        "-c",
        str(work / "nginx.conf"),
    ]
    subprocess.run([*words, "-q", "-t"], check=True)  # the test that all our guides recommend
    with subprocess.Popen(words) as process:
        try:
            _wait(process, port, work)
            scheme = "https" if " ssl" in rules else "http"
            yield Nginx(f"{scheme}://127.0.0.1:{port}", port, work / "access.log")
        finally:
            process.terminate()


def _wait(process: subprocess.Popen[bytes], port: int, work: Path) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)  # interval of polling
    raise RuntimeError(f"nginx did not come up: {(work / 'error.log').read_text()}")
