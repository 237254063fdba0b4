"""Which files of a release its ``[[carried]]`` mean. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ncen_updater.formats.manifest import LANGUAGE, LANGUAGE_PLACE, CarriedKind, CarriedManifest

#: No file of texts or settings is larger.
MAX_BYTES = 20_000_000


@dataclass(frozen=True)
class CarriedFile:
    """One file that a release ships of what it declares.

    Attributes:
        declared: What the release says of it.
        path: Its path in the release.
        language: Which; None for settings, and for a template.
    """

    declared: CarriedManifest
    path: str
    language: str | None = None


def rendered(path: str, language: str | None) -> str:
    """Fill a language into a path of the manifest."""
    return path if language is None else path.replace(LANGUAGE_PLACE, language)


def carried_files(carried: Iterable[CarriedManifest], paths: Iterable[str]) -> list[CarriedFile]:
    """Return the files of a release that are carried, in the order of what declares them.

    Args:
        carried: What the release declares.
        paths: Every path of the release.
    """
    there = sorted(paths)
    return [found for declared in carried for found in _files(declared, there)]


def _files(declared: CarriedManifest, paths: list[str]) -> Iterator[CarriedFile]:
    if declared.kind is CarriedKind.SETTINGS:
        if declared.slot in paths:
            yield CarriedFile(declared, declared.slot)
        return
    if declared.template is not None and declared.template in paths:
        yield CarriedFile(declared, declared.template)
    before, _, after = declared.slot.partition(LANGUAGE_PLACE)
    for path in paths:
        language = path[len(before) : len(path) - len(after)]
        if path == f"{before}{language}{after}" and re.fullmatch(LANGUAGE, language):
            yield CarriedFile(declared, path, language)
