"""Which paths a pack may name; the same rules for who makes it and who applies it."""

from __future__ import annotations

import unicodedata

MAX_NAME_BYTES = 255
MAX_PATH = 1000
DRIVE = 2


class PathRefused(ValueError):
    """A path that no release may have."""


def order(path: str) -> list[str]:
    """What trees are sorted by: part by part, so that a directory stands before what is in it."""
    return path.split("/")


def check_name(name: str) -> None:
    """Check one part of a path.

    Raises:
        PathRefused: If it is not one plain name.
    """
    if name in ("", ".", "..") or any(character in name for character in "/\\\0"):
        raise PathRefused(f"{name!r} is not a plain name")
    if len(name) >= DRIVE and name[1] == ":" and name[0].isalpha():
        raise PathRefused(f"{name!r} begins like the name of a drive")
    try:
        length = len(name.encode())
    except UnicodeEncodeError as error:
        raise PathRefused(f"{name!r} is not UTF-8") from error
    if length > MAX_NAME_BYTES:
        raise PathRefused(f"{name[:40]!r}... is longer than {MAX_NAME_BYTES} bytes")
    if not name.isascii() and unicodedata.normalize("NFC", name) != name:
        raise PathRefused(f"{name!r} is not in the composed form (NFC)")


def check_link(path: str, target: str) -> None:
    """Check where a link leads.

    Only the beginning of the target may go up, and not further than the release: so every link ends
    inside, also through other links, all of which do.

    Raises:
        PathRefused: If it may lead out.
    """
    if not target or target.startswith("/") or "\\" in target or "\0" in target:
        raise PathRefused(f"{path!r} leads to {target!r}")
    parts = [part for part in target.split("/") if part not in ("", ".")]
    up = 0
    while up < len(parts) and parts[up] == "..":
        up += 1
    if up > path.count("/") or ".." in parts[up:] or len(target) > MAX_PATH:
        raise PathRefused(f"{path!r} leads to {target!r}")


class PathRules:
    """Looks at the paths of a tree in their order."""

    def __init__(self) -> None:
        self._last: list[str] = []
        self._directories: list[list[str]] = []
        self._folded: set[str] = set()

    def see(self, path: str, *, is_directory: bool) -> None:
        """Check the next path.

        Raises:
            PathRefused: If it is not after the last one, is not in a directory of this tree, or
                differs from another only by case or composition.
        """
        parts = order(path)
        if parts <= self._last:
            raise PathRefused(f"{path!r} is named twice, or not in order")
        for part in parts[len(self._common(parts)) :]:
            check_name(part)
        if len(path) > MAX_PATH:
            raise PathRefused(f"{path[:40]!r}... is longer than {MAX_PATH} characters")
        while self._directories and self._directories[-1] != parts[: len(self._directories[-1])]:
            self._directories.pop()
        parent = self._directories[-1] if self._directories else []
        if parts[:-1] != parent:
            raise PathRefused(f"{path!r} is not in a directory of this release")
        folded = (
            unicodedata.normalize("NFC", path.casefold()) if not path.isascii() else path.lower()
        )
        if folded in self._folded:
            raise PathRefused(f"{path!r} differs from another path only by case")
        self._folded.add(folded)
        self._last = parts
        if is_directory:
            self._directories.append(parts)

    def _common(self, parts: list[str]) -> list[str]:
        """The directory part that was already checked with the last path."""
        end = 0
        for one, other in zip(parts, self._last, strict=False):
            if one != other:
                break
            end += 1
        return parts[:end]
