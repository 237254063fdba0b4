"""Which files of a release are programs, and how many of them are told at once. Pure.

A program needs no right to be run: an application loads what lies where it looks. So what its name
says of its kind counts as much as its mode.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import Final

from ncen_updater.common.i18n import N_, Text

__all__ = ["by_place", "named_as_program", "programs_told"]

#: Names of what an interpreter, a loader, a web server or a service manager runs, or reads in order
#: to run something.
_SUFFIXES: Final = {
    ".asp", ".aspx", ".awk", ".bash", ".bat", ".cgi", ".cjs", ".class", ".cmd", ".dll", ".dylib",
    ".ear", ".egg", ".exe", ".fcgi", ".groovy", ".htaccess", ".jar", ".js", ".jsp", ".jspx", ".ko",
    ".ksh", ".lua", ".mjs", ".node", ".phar", ".php", ".phtml", ".pl", ".pm", ".ps1", ".psm1",
    ".pth", ".py", ".pyc", ".pyd", ".pyo", ".pyw", ".pyz", ".rb", ".service", ".sh", ".so",
    ".socket", ".tcl", ".timer", ".vbs", ".war", ".wasm", ".whl", ".wsgi", ".zsh",
}  # fmt: skip
#: ``libc.so.6``.
_NUMBERED: Final = re.compile(r"\.so(?:\.\d+)+$")
#: So many are told by name; of more, how many there are in each directory.
MOST: Final = 12
#: So many directories are told.
MOST_PLACES: Final = 10
#: So many names stand beside a number.
FIRST: Final = 3


def named_as_program(path: str) -> bool:
    """Whether the name of a file says that it is run, or makes something run."""
    name = PurePosixPath(path).name.lower()
    suffix = name if name == ".htaccess" else PurePosixPath(name).suffix
    return suffix in _SUFFIXES or _NUMBERED.search(name) is not None


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
