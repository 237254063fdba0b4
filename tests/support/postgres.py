"""Real PostgreSQL servers for the tests: one of each version found, started once a test run."""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from demo.embedded_postgres import EmbeddedPostgres, PostgresBinaries, find_binaries

# fsync is off where a test kills processes, not machines: the kernel keeps written pages.
FAST_SETTINGS = (
    "fsync=off",
    "full_page_writes=off",
    "max_prepared_transactions=4",
    "wal_level=logical",
    "shared_buffers=32MB",
)
#: Names the directory that all workers of a run share.
SHARED = "NCEN_TEST_SHARED"


def available() -> tuple[PostgresBinaries, ...]:
    """Servers the tests run on: every major version found on this machine."""
    return find_binaries()


@contextmanager
def running(
    binaries: PostgresBinaries,
    directory: Path,
    settings: Sequence[str] = FAST_SETTINGS,
    port: int | None = None,
) -> Iterator[EmbeddedPostgres]:
    """Run a server on a new cluster in this directory.

    The cluster is a copy of one that was made once this run: ``initdb`` takes longer than most
    tests.

    Args:
        binaries: Which programs.
        directory: Of the cluster.
        settings: Of the server.
        port: At the loopback, for clients without Unix sockets; none by default.
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
    """A cluster as ``initdb`` leaves it, made by whichever worker needs it first."""
    made = shared / f"postgresql-{binaries.major}"
    with (shared / f"{made.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (made / "data").exists():
            with EmbeddedPostgres(binaries, made.with_suffix(".partial"), FAST_SETTINGS) as server:
                partial = server.directory
            partial.rename(made)
    return made / "data"
