"""Which files of a release may run, and how many of them are told at once. Pure.

A program needs no right to be run: an application loads what lies where it looks, and so does a
service manager, a web server, an interpreter. So the kinds are named that are data; every other
file may run.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from importlib.resources import files
from pathlib import PurePosixPath
from typing import Any, Final

from ncen_updater.common.i18n import N_, Text

#: What is known to be harmless, files and SQL.
HARMLESS: Final[dict[str, Any]] = tomllib.loads(
    files(__package__).joinpath("templates/harmless.toml").read_text("utf-8")
)
_DATA: Final = frozenset(HARMLESS["data"].split())
_TEXTS: Final = frozenset(HARMLESS["texts"].split())
#: In such directories whatever lies there is read by an installer or a service.
_READ: Final = (".d", ".dist-info", ".egg-info")
#: So many are told by name; of more, how many there are in each directory.
MOST: Final = 12
#: So many directories are told.
MOST_PLACES: Final = 10
#: So many names stand beside a number.
FIRST: Final = 3


def may_run(path: str) -> bool:
    """Whether a file is not of a kind that is data."""
    place = PurePosixPath(path)
    if any(part.lower().endswith(_READ) for part in place.parts[:-1]):
        return True
    return place.suffix.lower() not in _DATA and place.name not in _TEXTS


def programs_told(paths: Sequence[str], words: str) -> tuple[Text, ...]:
    """Say which programs there are: each by name, or very many by directory.

    Args:
        paths: Where they are.
        words: A template with a place ``{paths}``.
    """
    if 0 < len(paths) <= MOST:
        return (Text(words, {"paths": ", ".join(paths)}),)
    return tuple(Text(words, {"paths": _told(*item)}) for item in by_place(paths).items())


def _told(place: str, names: Sequence[str]) -> Text | str:
    if len(names) <= FIRST:
        return ", ".join(f"{place}{name}" for name in names)
    values = {"count": len(names), "directory": place or ".", "names": ", ".join(names[:FIRST])}
    return Text(N_("{count} in {directory}, such as {names}"), values)


def by_place(paths: Iterable[str]) -> dict[str, list[str]]:
    """Names below directories: as near to the files as a few directories allow."""
    split = [PurePosixPath(path) for path in sorted(paths)]
    found: dict[str, list[str]] = {}
    for depth in range(max((len(path.parts) - 1 for path in split), default=0), -1, -1):
        found = {}
        for path in split:
            above = "/".join(path.parts[:-1][:depth])
            place = f"{above}/" if above else ""
            found.setdefault(place, []).append(str(path).removeprefix(place))
        if len(found) <= MOST_PLACES:
            break
    return found
