"""What lies in the tray, on *Upgrade*: bundles that came on a medium, and who may import each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ncen_updater.console.asking import Asking
from ncen_updater.console.service import Document, ServiceRefusal

#: How the parts of a bundle are named where it is made.
PART = re.compile(r"(?P<stem>.+)\.part-(?P<number>\d{1,3})-of-(?P<of>\d{1,3})(?P<ending>\.[^.]*)?")


@dataclass(frozen=True)
class LaidBundle:
    """A bundle that can be ordered at once.

    Attributes:
        name: For people.
        names: Of its files.
        size_bytes: Of all of them.
        since: When the last of them came.
        owner: Whose they are.
        parts: How many there have to be.
        why_not: Why whoever looks may not order it; None where they may.
    """

    name: str
    names: tuple[str, ...]
    size_bytes: int
    since: str
    owner: str
    parts: int
    why_not: str | None

    @property
    def whole(self) -> bool:
        """Whether all parts are there."""
        return len(self.names) == self.parts


def bundles_of(files: Iterable[Mapping[str, Any]]) -> Iterator[LaidBundle]:
    """Put files together that are parts of one bundle of one person, by their names; pure."""
    groups: dict[tuple[str, str, int], list[Mapping[str, Any]]] = {}
    for file in files:
        found = PART.fullmatch(file["name"])
        if found is None:
            groups[file["name"], file["owner"], 1] = [file]
            continue
        name = f"{found['stem']}{found['ending'] or ''}"
        groups.setdefault((name, file["owner"], int(found["of"])), []).append(file)
    for (name, owner, parts), group in groups.items():
        names = tuple(sorted(str(file["name"]) for file in group))
        why_not = next((str(f["why_not"]) for f in group if f["why_not"] is not None), None)
        size, since = sum(int(f["size_bytes"]) for f in group), max(str(f["since"]) for f in group)
        shown = names[0] if len(names) == 1 else name
        yield LaidBundle(shown, names, size, since, owner, parts, why_not)


def laid_down(asking: Asking) -> dict[str, object]:
    """What the page shows of the tray: ``tray`` and its ``bundles``, or why it cannot be used."""
    found: Document | None = None
    error: Document | None = None
    try:
        found = asking.get("/v1/tray")
    except ServiceRefusal as refused:
        error = refused.error
    bundles = list(bundles_of(found["files"])) if found is not None else []
    return {"tray": found, "bundles": bundles, "tray_error": error}
