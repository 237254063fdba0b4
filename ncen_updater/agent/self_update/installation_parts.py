"""Parts of an installation: each says what it is, whether it is there, and how it is made."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ncen_updater.agent.adapters.application.process import minimal_environment
from ncen_updater.agent.adapters.application.systemctl import run_systemctl
from ncen_updater.common import atomic_files as durable
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import Text
from ncen_updater.common.messages import INSTALL_FAILED
from ncen_updater.common.progress import Progress

TIMEOUT_S = 120


@dataclass(frozen=True)
class InstalledPart:
    """One thing that is to be as it should.

    Attributes:
        what: In words, for the list.
        is_there: Whether nothing is left to do.
        make: Does it; may be repeated.
    """

    what: Text
    is_there: Callable[[], bool]
    make: Callable[[], object]


def missing(parts: Iterable[InstalledPart]) -> tuple[InstalledPart, ...]:
    """Return the parts that have something left to do."""
    return tuple(part for part in parts if not part.is_there())


def apply(parts: Iterable[InstalledPart], progress: Progress) -> tuple[InstalledPart, ...]:
    """Do what is left to do, in order; return it.

    Raises:
        InstallFailed: If the system refuses a part; those before it stay.
        UpdaterError: Of a part of our own.
    """
    done = []
    for part in parts:
        if part.is_there():
            continue
        progress.tell(part.what)
        try:
            part.make()
        except OSError as error:
            raise UpdaterError(
                INSTALL_FAILED,
                part=part.what,
                reason=error.strerror or str(error),
                detail=str(error),
            ) from error
        done.append(part)
    return tuple(done)


def directory(what: Text, path: Path, mode: int) -> InstalledPart:
    """A directory; one that is there keeps its rights."""

    def make() -> None:
        durable.make_directory(path.parent)
        path.mkdir(mode=mode, exist_ok=True)
        path.chmod(mode)
        durable.fsync_directory(path.parent)

    return InstalledPart(what, path.is_dir, make)


def file(what: Text, path: Path, content: bytes, mode: int) -> InstalledPart:
    """A file with exactly this content."""

    def make() -> None:
        durable.make_directory(path.parent)
        durable.write(path, content, mode)
        path.chmod(mode)

    return InstalledPart(what, lambda: path.is_file() and path.read_bytes() == content, make)


def link(what: Text, path: Path, target: Path) -> InstalledPart:
    """A symbolic link."""

    def make() -> None:
        durable.make_directory(path.parent)
        durable.symlink(target, path)

    return InstalledPart(what, lambda: path.is_symlink() and path.readlink() == target, make)


def command(what: Text, words: Sequence[str], is_there: Callable[[], bool]) -> InstalledPart:
    """A command of the system."""

    def make() -> None:
        ended = run_systemctl(words, minimal_environment(), TIMEOUT_S)
        if ended.status is None:
            raise UpdaterError(
                INSTALL_FAILED, part=what, reason=Text("{words} did not end", {"words": words[0]})
            )
        if ended.status != 0:
            raise UpdaterError(INSTALL_FAILED, part=what, reason=ended.output[-500:])

    return InstalledPart(what, is_there, make)


def removal(what: Text, path: Path) -> InstalledPart:
    """Something that is to be gone."""

    def make() -> None:
        if path.is_symlink() or not path.is_dir():
            durable.remove(path)
        else:
            shutil.rmtree(path)
            durable.fsync_directory(path.parent)

    return InstalledPart(what, lambda: not (path.exists() or path.is_symlink()), make)
