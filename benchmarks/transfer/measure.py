"""Costs of one task in a process of its own, and a web server that counts what it sends."""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, cast

__all__ = ["Cost", "Counter", "cost_of_this_process", "hide_publisher", "in_child", "serving"]

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Cost:
    """What a process took: CPU seconds (user and system), peak memory, bytes that it dirtied."""

    cpu_s: float
    peak_mb: float
    written_mb: float

    def as_dict(self) -> dict[str, float]:
        """For JSON."""
        return {key: round(value, 3) for key, value in asdict(self).items()}


def cost_of_this_process() -> Cost:
    """Look at the counters that the kernel keeps of this process."""
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = used.ru_utime + used.ru_stime + children.ru_utime + children.ru_stime
    # Not ru_maxrss: that begins with what the parent had when it forked.
    status = dict(
        line.split(":", 1) for line in Path("/proc/self/status").read_text("utf-8").splitlines()
    )
    peak = int(status["VmHWM"].split()[0]) * 1024
    io = dict(line.split(": ") for line in Path("/proc/self/io").read_text("utf-8").splitlines())
    return Cost(cpu, peak / 1e6, int(io["write_bytes"]) / 1e6)


def hide_publisher() -> None:
    """Let a client import what a site has, and not what only a publisher installs.

    Where they are there, securesystemslib imports these for kinds of keys that no client uses; for
    either side that is a third of the start.
    """
    for name in ("boto3", "PyKCS11"):
        sys.modules[name] = None  # type: ignore[assignment] # as if it were not installed


def in_child(module: str, task: str, order: Mapping[str, object]) -> dict[str, Any]:
    """Run ``task`` of a module of this package in a fresh interpreter; return what it prints.

    The module gets the task and the order as arguments and prints one JSON object at its end.
    """
    ended = subprocess.run(
        [sys.executable, "-m", f"benchmarks.transfer.{module}", task, json.dumps(order)],
        stdout=subprocess.PIPE, check=True, cwd=ROOT,
    )  # fmt: skip
    return cast("dict[str, Any]", json.loads(ended.stdout.splitlines()[-1]))


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
    """Serve a directory; yields its address and the counter."""
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
