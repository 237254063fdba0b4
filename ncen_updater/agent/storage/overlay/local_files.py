"""The files of a layer: found by a path with a place for a language, read without following."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ncen_updater.common.directory_handle import DirectoryHandle
from ncen_updater.formats.manifest import LANGUAGE_PATTERN, LANGUAGE_PLACEHOLDER, OverlayManifest
from ncen_updater.formats.texts.catalog import TextCatalog, UnusableFileError
from ncen_updater.formats.texts.file_formats import read_catalog
from ncen_updater.formats.texts.overlay_files import MAX_OVERLAY_FILE_BYTES

#: So many names are looked at below one directory.
MAX_FILES = 10_000


@dataclass(frozen=True)
class OverlayFile:
    """A file as it lies there.

    Attributes:
        content: Its bytes.
        mode: Its permissions.
        uid: Whose it is.
        gid: Of which group.
    """

    content: bytes
    mode: int
    uid: int
    gid: int


def parse_catalogue(file: OverlayFile | None, declared: OverlayManifest) -> TextCatalog:
    """Return what a file holds; an empty catalogue where there is none.

    Raises:
        UnusableFileError: If it cannot be read.
    """
    return TextCatalog() if file is None else read_catalog(file.content, declared)


class OverlayDirectory:
    """The files below one directory; no link is followed on the way or at its end.

    Args:
        root: The directory; it need not be there.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    @contextlib.contextmanager
    def _open(self) -> Iterator[DirectoryHandle | None]:
        try:
            handle = DirectoryHandle.open_without_symlinks(self._root)
        except FileNotFoundError:
            yield None
            return
        try:
            yield handle
        finally:
            handle.close()

    def read(self, path: str) -> OverlayFile | None:
        """Read a file; None where there is none.

        Raises:
            UnusableFileError: If it is a link, a pipe or anything but a file, too large, or cannot
                be read.
        """
        try:
            with self._open() as handle:
                if handle is None:
                    return None
                descriptor = handle.open_file(path)
                with os.fdopen(descriptor, "rb") as stream:
                    look = os.fstat(stream.fileno())
                    if not stat.S_ISREG(look.st_mode):
                        raise UnusableFileError("not a regular file")
                    content = stream.read(MAX_OVERLAY_FILE_BYTES + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UnusableFileError(_format_error(error)) from error
        if len(content) > MAX_OVERLAY_FILE_BYTES:
            raise UnusableFileError(f"it has more than {MAX_OVERLAY_FILE_BYTES} bytes")
        return OverlayFile(content, stat.S_IMODE(look.st_mode), look.st_uid, look.st_gid)

    def list_languages(self, path: str) -> tuple[str, ...]:
        """Return the languages for which there is something at a path of the manifest, sorted."""
        before, _, after = path.partition(LANGUAGE_PLACEHOLDER)
        directory, _, prefix = before.rpartition("/")
        suffix, _, rest = after.partition("/")
        found = []
        for name in self._list_directory(directory):
            if not (name.startswith(prefix) and name.endswith(suffix)):
                continue
            language = name[len(prefix) : len(name) - len(suffix)]
            there = not rest or self._exists(f"{directory}/{name}/{rest}")
            if there and re.fullmatch(LANGUAGE_PATTERN, language):
                found.append(language)
        return tuple(sorted(found))

    def list_files(self) -> Iterator[str]:
        """Every file below, with its path; at most some thousands, and no link is followed."""
        left = MAX_FILES
        waiting = [""]
        while waiting:
            directory = waiting.pop()
            for name in self._list_directory(directory):
                path = f"{directory}/{name}".lstrip("/")
                left -= 1
                if left < 0:
                    return
                if self._is_directory(path):
                    waiting.append(path)
                else:
                    yield path

    def _list_directory(self, directory: str) -> list[str]:
        try:
            with self._open() as handle:
                if handle is None:
                    return []
                with handle.scan_directory(directory) as items:
                    found = [item.name for _, item in zip(range(MAX_FILES), items, strict=False)]
        except OSError:
            return []
        return sorted(name for name in found if not name.startswith("."))

    def _exists(self, path: str) -> bool:
        return self._read_mode(path) is not None

    def _is_directory(self, path: str) -> bool:
        return stat.S_ISDIR(self._read_mode(path) or 0)

    def _read_mode(self, path: str) -> int | None:
        try:
            with self._open() as handle:
                return None if handle is None else handle.stat_entry(path.lstrip("/")).st_mode
        except OSError:
            return None


def _format_error(error: OSError) -> str:
    if error.errno in (40, 20):  # ELOOP, ENOTDIR: a link at the end, or on the way
        return "it is a link, or lies behind one"
    return error.strerror or str(error)
