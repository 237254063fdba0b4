"""Parts of an installation: each says what it is, whether it is there, and how it is made."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ncen_updater.agent.adapters.application.process import build_minimal_environment
from ncen_updater.agent.adapters.application.systemctl import run_systemctl
from ncen_updater.common import atomic_files as durable
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import LazyText
from ncen_updater.common.messages import INSTALL_FAILED
from ncen_updater.common.progress import ProgressListener

COMMAND_TIMEOUT_S = 120


@dataclass(frozen=True)
class InstallationPart:
    """One thing that is to be as it should.

    Attributes:
        description: In words, for the list.
        is_present: Whether nothing is left to do.
        create: Does it; may be repeated.
    """

    description: LazyText
    is_present: Callable[[], bool]
    create: Callable[[], object]


def list_missing(parts: Iterable[InstallationPart]) -> tuple[InstallationPart, ...]:
    """Return the parts that have something left to do."""
    return tuple(part for part in parts if not part.is_present())


def create_missing(
    parts: Iterable[InstallationPart], progress: ProgressListener
) -> tuple[InstallationPart, ...]:
    """Do what is left to do, in order; return it.

    Raises:
        INSTALL_FAILED: If the system refuses a part; those before it stay.
        UpdaterError: Of a part of our own.
    """
    done = []
    for part in parts:
        if part.is_present():
            continue
        progress.report(part.description)
        try:
            part.create()
        except OSError as error:
            raise UpdaterError(
                INSTALL_FAILED,
                part=part.description,
                reason=error.strerror or str(error),
                detail=str(error),
            ) from error
        done.append(part)
    return tuple(done)


def build_directory_part(description: LazyText, path: Path, mode: int) -> InstallationPart:
    """Build a directory; an existing one keeps its mode."""

    def make() -> None:
        durable.make_directory(path.parent)
        path.mkdir(mode=mode, exist_ok=True)
        path.chmod(mode)
        durable.fsync_directory(path.parent)

    return InstallationPart(description, path.is_dir, make)


def build_file_part(
    description: LazyText, path: Path, content: bytes, mode: int
) -> InstallationPart:
    """Build a file with exactly this content."""

    def make() -> None:
        durable.make_directory(path.parent)
        durable.write_file(path, content, mode)
        path.chmod(mode)

    return InstallationPart(
        description, lambda: path.is_file() and path.read_bytes() == content, make
    )


def build_link_part(description: LazyText, path: Path, target: Path) -> InstallationPart:
    """Build a symbolic link."""

    def make() -> None:
        durable.make_directory(path.parent)
        durable.replace_symlink(target, path)

    return InstallationPart(
        description, lambda: path.is_symlink() and path.readlink() == target, make
    )


def build_command_part(
    description: LazyText, command_line: Sequence[str], is_there: Callable[[], bool]
) -> InstallationPart:
    """Build a command of the system."""

    def make() -> None:
        ended = run_systemctl(command_line, build_minimal_environment(), COMMAND_TIMEOUT_S)
        if ended.status is None:
            raise UpdaterError(
                INSTALL_FAILED,
                part=description,
                reason=LazyText("{words} timed out", {"words": command_line[0]}),
            )
        if ended.status != 0:
            raise UpdaterError(INSTALL_FAILED, part=description, reason=ended.output[-500:])

    return InstallationPart(description, is_there, make)


def build_removal_part(description: LazyText, path: Path) -> InstallationPart:
    """Something that is to be gone."""

    def make() -> None:
        if path.is_symlink() or not path.is_dir():
            durable.remove_file(path)
        else:
            shutil.rmtree(path)
            durable.fsync_directory(path.parent)

    return InstallationPart(description, lambda: not (path.exists() or path.is_symlink()), make)
