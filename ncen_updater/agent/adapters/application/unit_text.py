"""What a systemd unit starts, as ``systemctl cat`` prints the unit. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

#: Where programs lie that belong to no release.
_SYSTEM = ("/bin/", "/dev/null", "/etc/", "/lib", "/proc/", "/run/", "/sbin/", "/usr/", "/var/")
PATH_PATTERN = re.compile(r"(?<![\w./-])/[^\s'\";:=,$]+")
#: What a shell makes its directory.
_CHANGED_TO = re.compile(r"(?<![\w./-])cd\s+(?:-[LP]\s+)?[\"']?(/[^\s'\";:=,$&|]+)")


@dataclass(frozen=True)
class UnitCommands:
    """What a unit starts.

    Attributes:
        start: Each ``ExecStart``.
        working: ``WorkingDirectory``; empty where there is none.
        others: The values of every other setting.
    """

    start: tuple[str, ...]
    working: str = ""
    others: tuple[str, ...] = ()

    def find_installation(self) -> str:
        """Return the directory in which the application is installed; empty where that is open."""
        everything = PATH_PATTERN.findall(self.start[0])
        paths = [path for path in everything if not path.startswith(_SYSTEM)]
        if not paths:
            return ""
        place, working = PurePosixPath(paths[0]), self.working.lstrip("-")
        if working and place.is_relative_to(working):
            return working.rstrip("/")
        entered = _CHANGED_TO.search(self.start[0])
        if entered and not f"{entered[1]}/".startswith(_SYSTEM):
            above = PurePosixPath(entered[1])
        else:
            above = place.parent.parent if place.parent.name in ("bin", "sbin") else place.parent
        return str(above) if len(above.parts) > 2 else ""


def parse_unit(text: str) -> UnitCommands:
    """Parse a unit with its drop-ins."""
    settings: dict[str, list[str]] = {}
    for line in text.replace("\\\n", " ").splitlines():
        name, equals, value = line.strip().partition("=")
        if not equals or name.startswith(("#", ";")):
            continue
        values = settings.setdefault(name.strip(), [])
        if name.strip() == "WorkingDirectory" or not value.strip():
            values.clear()
        if value.strip():
            values.append(value.strip())
    started = settings.pop("ExecStart", [])
    working = "".join(settings.pop("WorkingDirectory", []))
    return UnitCommands(
        tuple(started), working, tuple(value for one in settings.values() for value in one)
    )


def names_path_below(value: str, directory: str) -> bool:
    """Tell whether a setting names a directory or a path in it."""
    return any(
        PurePosixPath(path).is_relative_to(directory) for path in PATH_PATTERN.findall(value)
    )


def find_outside_installation(text: str, current: str) -> str:
    """Return the directory from which a unit starts the application instead of ``current``.

    Empty where it starts from ``current``, or where that cannot be told.
    """
    found = parse_unit(text)
    if len(found.start) != 1 or any(
        names_path_below(value, current) for value in (*found.start, found.working, *found.others)
    ):
        return ""
    directory = found.find_installation()
    return "" if PurePosixPath(current).is_relative_to(directory or "/") else directory
