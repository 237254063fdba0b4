"""Real PostgreSQL servers for the tests: one of each version found, started once a test run."""

from __future__ import annotations

from demo.embedded_postgres import PostgresBinaries, find_binaries

__all__ = ["FAST_SETTINGS", "available"]

# fsync is off where a test kills processes, not machines: the kernel keeps what was written.
FAST_SETTINGS = (
    "fsync=off",
    "full_page_writes=off",
    "max_prepared_transactions=4",
    "wal_level=logical",
    "shared_buffers=32MB",
)


def available() -> tuple[PostgresBinaries, ...]:
    """Servers the tests run on: every major version found on this machine."""
    return find_binaries()
