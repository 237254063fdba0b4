"""Real PostgreSQL servers for the tests: one per version found, started once per run."""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from demo.embedded_postgres import EmbeddedPostgres, PostgresBinaries, find_binaries

# fsync is not needed: killed processes do not lose data that the kernel has received.
FAST_SETTINGS = (
    "fsync=off",
    "full_page_writes=off",
    "max_prepared_transactions=4",
    "wal_level=logical",
    "shared_buffers=32MB",
)
#: Environment variable with the directory shared by all workers of a run.
SHARED = "NCEN_TEST_SHARED"


def available() -> tuple[PostgresBinaries, ...]:
    """Return the servers to test with: every major version found on this machine."""
    return find_binaries()


@contextmanager
def running(
    binaries: PostgresBinaries,
    directory: Path,
    settings: Sequence[str] = FAST_SETTINGS,
    port: int | None = None,
) -> Iterator[EmbeddedPostgres]:
    """Run a server with a new cluster in this directory.

    The cluster is copied from a template, because ``initdb`` takes longer than most tests.

    Args:
        binaries: Programs to use.
        directory: Directory of the cluster.
        settings: Settings of the server.
        port: TCP port on localhost, for clients without Unix sockets; none by default.
    """
    shared = os.environ.get(SHARED)
    if shared is not None:
        copy = ("cp", "-a", "--reflink=auto")
        subprocess.run([*copy, _template(binaries, Path(shared)), directory / "data"], check=True)
    if port is not None:
        settings = (*settings, f"port={port}", "listen_addresses=127.0.0.1")
    made = EmbeddedPostgres(binaries, directory, settings)
    made.port = port or made.port
    with made as server:
        yield server


def _template(binaries: PostgresBinaries, shared: Path) -> Path:
    """Return the template cluster; the first worker that needs it runs ``initdb``."""
    made = shared / f"postgresql-{binaries.major}"
    with (shared / f"{made.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (made / "data").exists():
            with EmbeddedPostgres(binaries, made.with_suffix(".partial"), FAST_SETTINGS) as server:
                partial = server.directory
            partial.rename(made)
    return made / "data"
