"""Cost of one check of the feed, without a new release and after one.

Compares the agent's client with tufup's own, on a feed that also lists archives for tufup. As at a
site, each check is a process of its own, over a real web server on this machine. Bytes are those of
HTTP in both directions, without TLS and TCP.

Then the feed grows, with five delta packs per release. The check after one more release is measured
with and without compression by the server, and again after the old releases retired.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import http.server
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from io import BufferedIOBase
from pathlib import Path

from benchmarks.report import compile_as_installed, finish, print_line
from demo.release_flow import publish_release
from ncen_updater.publisher.feed.feed_directory import FeedDirectory
from ncen_updater.publisher.new.trial import create_feed, create_keys, publish_draft
from ncen_updater.publisher.signing.draft import draft_retirement
from tests.publisher.releases import PASSPHRASE, write_release

AIM_REQUESTS, AIM_BYTES = 2, 3000
#: After one release, on a feed that ever had 200, compressed.
AIM_GROWN_BYTES = 12_000
#: Releases that stay after a retirement.
LISTED = 12
CLIENTS = ("ours", "tufup")


@dataclass(frozen=True)
class Cost:
    """Cost of one check.

    Attributes:
        requests: Number of HTTP requests.
        sent_bytes: Bytes from the site to the server.
        received_bytes: Bytes from the server to the site.
        cpu_s: User and system time of the whole process, including its start.
        peak_mb: Maximum resident memory.
    """

    requests: int
    sent_bytes: int
    received_bytes: int
    cpu_s: float
    peak_mb: float


class _Counted:
    """Stream that counts its bytes."""

    def __init__(self, stream: BufferedIOBase, add: Callable[[int], None]) -> None:
        self._stream, self._add = stream, add

    def readline(self, limit: int = -1) -> bytes:
        line = self._stream.readline(limit)
        self._add(len(line))
        return line

    def write(self, data: bytes) -> int:
        self._add(len(data))
        return self._stream.write(data)

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


class CountingServer(http.server.ThreadingHTTPServer):
    """Serves a feed like a plain web server, with persistent connections.

    Attributes:
        requests: Requests since the last reset.
        received: Bytes received since then.
        sent: Bytes sent since then.
    """

    daemon_threads = True

    def __init__(self, feed: Path, *, compress: bool = False) -> None:
        super().__init__(("127.0.0.1", 0), partial(_Handler, directory=str(feed)))
        self.feed, self.compress = feed, compress
        self._lock = threading.Lock()
        self.reset()

    @property
    def url(self) -> str:
        """Return the base URL."""
        return f"http://127.0.0.1:{self.server_port}/"

    def reset(self) -> None:
        """Reset the counters."""
        self.requests = self.received = self.sent = 0

    def add(self, *, requests: int = 0, received: int = 0, sent: int = 0) -> None:
        """Increase the counters."""
        with self._lock:
            self.requests += requests
            self.received += received
            self.sent += sent


class _Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: CountingServer

    def setup(self) -> None:
        super().setup()
        self.rfile = _Counted(self.rfile, lambda n: self.server.add(received=n))  # type: ignore[assignment]
        self.wfile = _Counted(self.wfile, lambda n: self.server.add(sent=n))  # type: ignore[assignment]

    def do_GET(self) -> None:
        self.server.add(requests=1)
        path = self.server.feed / self.path.lstrip("/")
        accepts = "gzip" in self.headers.get("Accept-Encoding", "")
        if not (self.server.compress and accepts and path.is_file()):
            super().do_GET()
            return
        content = gzip.compress(path.read_bytes(), 1)  # the level of nginx
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        del message, explain
        self.send_response(code)  # as short as with the documented configuration of nginx
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return


@contextlib.contextmanager
def counting(feed: Path, *, compress: bool = False) -> Iterator[CountingServer]:
    """Serve a feed until the block ends; with ``compress`` as nginx serves metadata."""
    with CountingServer(feed, compress=compress) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def measure_check(server: CountingServer, client: str, site: Path, root: Path) -> Cost:
    """Run one check of a client, in a process of its own.

    Args:
        server: The feed.
        client: ``ours`` or ``tufup``.
        site: Directory of the client's data; created if missing.
        root: The initial trusted root.

    Raises:
        SystemExit: If the check failed.
    """
    server.reset()
    argv = [sys.executable, "-m", "benchmarks.idle", "--look", client, server.url, site, root]
    with subprocess.Popen([str(word) for word in argv]) as child:
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        raise SystemExit(f"the check of {client} ended with status {child.returncode}")
    return Cost(
        server.requests,
        server.received,
        server.sent,
        round(usage.ru_utime + usage.ru_stime, 3),
        round(usage.ru_maxrss / 1000, 1),
    )


def _look(client: str, url: str, site: Path, root: Path) -> None:
    if client == "ours":
        from ncen_updater.agent.adapters.feed_reader.feed_factory import make_release_source
        from ncen_updater.agent.config.agent_config import FeedSettings

        source = make_release_source(
            "ncen", FeedSettings(urls=(url,)), state=site, trusted_root=root
        )
        source.refresh()
        source.close()
        return
    from tufup.client import Client

    for name in ("metadata", "targets", "install"):
        (site / name).mkdir(parents=True, exist_ok=True)
    if not (site / "metadata/root.json").exists():
        shutil.copy(root, site / "metadata/root.json")
    found = Client(
        app_name="ncen",
        app_install_dir=site / "install",
        current_version="3.2.0",
        metadata_dir=site / "metadata",
        metadata_base_url=f"{url}metadata/",
        target_dir=site / "targets",
        target_base_url=f"{url}targets/",
        refresh_required=True,
    ).check_for_updates(patch=False)
    if found is None:
        raise SystemExit("tufup found nothing")


def _middle(costs: Sequence[Cost]) -> dict[str, float]:
    rows = [asdict(cost) for cost in costs]
    return {name: statistics.median(row[name] for row in rows) for name in rows[0]}


def _measure(client: str, directory: Path, runs: int) -> dict[str, dict[str, float]]:
    feed, site = directory / "feed", directory / "site"
    feed.mkdir(parents=True)
    keys = create_keys(directory / "keys", PASSPHRASE)
    plain = ("ncen",) if client == "tufup" else ()
    create_feed(feed, keys, lambda: datetime.now(UTC), plain_tufup=plain)

    def publish(version: str) -> None:
        source = write_release(directory / version, version)
        publish_release(feed, [source], keys, lambda: datetime.now(UTC))

    for minor in range(5):
        publish(f"3.3.{minor}")
    root = feed / "metadata" / "1.root.json"
    with counting(feed) as server:
        first = [measure_check(server, client, site, root)]
        idle = [measure_check(server, client, site, root) for _ in range(runs)]
        after = []
        for number in range(runs):
            publish(f"3.4.{number}")
            after.append(measure_check(server, client, site, root))
    return {"first": _middle(first), "nothing_new": _middle(idle), "one_release": _middle(after)}


def measure_growth(directory: Path, counts: Sequence[int]) -> dict[str, dict[str, float]]:
    """Measure the bytes of a check after one release, on a feed of growing size.

    Args:
        directory: Directory of the feed and of the sites.
        counts: Numbers of releases before it, in ascending order.
    """
    feed, sites = directory / "feed", directory / "sites"
    feed.mkdir(parents=True)
    keys = create_keys(directory / "keys", PASSPHRASE)
    create_feed(feed, keys, lambda: datetime.now(UTC))
    filler = random.Random(1).randbytes(100_000)
    versions: list[str] = []

    def publish() -> None:
        major, minor = divmod(len(versions), 10)
        versions.append(f"3.{major + 3}.{minor}")
        source = write_release(directory / versions[-1], versions[-1])
        (source / "data").write_bytes(filler)
        publish_release(feed, [source], keys, lambda: datetime.now(UTC), packs=True)

    def measure_one_release(servers: Mapping[str, CountingServer]) -> dict[str, float]:
        root = feed / "metadata" / "1.root.json"
        for name, server in servers.items():
            measure_check(server, "ours", sites / name, root)
        publish()
        costs = {
            name: measure_check(server, "ours", sites / name, root)
            for name, server in servers.items()
        }
        return {name: cost.sent_bytes + cost.received_bytes for name, cost in costs.items()}

    figures = {}
    with counting(feed) as plain, counting(feed, compress=True) as compressed:
        servers = {"bytes": plain, "bytes_compressed": compressed}
        for count in counts:
            while len(versions) < count:
                publish()
            figures[f"{count}_releases"] = measure_one_release(servers)
        state = FeedDirectory(feed).read_state()
        draft = draft_retirement(state, "ncen", versions[-LISTED], datetime.now(UTC))
        publish_draft(feed, draft, keys, lambda: datetime.now(UTC))
        figures[f"{count}_releases_{LISTED}_listed"] = measure_one_release(servers)
    return figures


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--releases", type=int, nargs="+", default=[5, 50, 200])
    parser.add_argument("--look", nargs=4, metavar=("CLIENT", "URL", "SITE", "ROOT"))
    chosen = parser.parse_args(arguments)
    if chosen.look:
        client, url, site, root = chosen.look
        _look(client, url, Path(site), Path(root))
        return
    compile_as_installed()
    figures = {}
    for client in CLIENTS:
        with tempfile.TemporaryDirectory(prefix="nu-bench-") as directory:
            figures[client] = _measure(client, Path(directory), chosen.runs)
        for name, cost in figures[client].items():
            print_line(f"{client}, {name}: {cost}")
    with tempfile.TemporaryDirectory(prefix="nu-bench-") as directory:
        grown = measure_growth(Path(directory), sorted(chosen.releases))
    for name, sizes in grown.items():
        print_line(f"after one release, {name}: {sizes}")
    retired = list(grown.values())[-1]["bytes_compressed"]
    ours, theirs = figures["ours"]["nothing_new"], figures["tufup"]["nothing_new"]
    total = ours["sent_bytes"] + ours["received_bytes"]
    finish(
        "idle",
        {
            "runs": chosen.runs,
            **figures,
            "grown": grown,
            "ratios": {
                "requests": round(ours["requests"] / AIM_REQUESTS, 3),
                "bytes": round(total / AIM_BYTES, 3),
                "grown_bytes": round(retired / AIM_GROWN_BYTES, 3),
                "cpu_to_tufup": round(ours["cpu_s"] / theirs["cpu_s"], 3),
                "memory_to_tufup": round(ours["peak_mb"] / theirs["peak_mb"], 3),
            },
            "aims": {
                "requests": AIM_REQUESTS,
                "bytes": AIM_BYTES,
                "grown_bytes": AIM_GROWN_BYTES,
            },
        },
    )


if __name__ == "__main__":
    main()
