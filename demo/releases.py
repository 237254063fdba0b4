"""Lay out complete release sources of the stand-in nCEN.

``manifests/<version>/`` contains the files of one release, ``manifests/base/`` those shared by all:
the application, the migrations and parts of manifests. A line ``#include base/<file>`` in a
manifest or part is replaced by the text of that file. :func:`assemble` creates the input of the
publisher: ``manifest.toml``, ``app/`` and ``migrations/``.

Schemas, codes and all version numbers except 3.2.4 and 3.3.0 are invented.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from demo.errors import InvalidReleaseSourceError, ReleaseSourceNotFoundError
from ncen_updater.common.i18n import LazyText
from ncen_updater.common.json_records import encode_canonical_json
from ncen_updater.formats.manifest import Manifest, fill_engine, load_manifest
from ncen_updater.formats.sql import ENGINE_NAMES

MAX_INCLUDES = 100
INCLUDE = re.compile(r"^#include (base/[a-z0-9.-]+\.toml)$", re.MULTILINE)


class Trait(StrEnum):
    """Behaviour that a release of the stand-in demonstrates."""

    GOOD = "good"
    FAILS_IN_THIRD_DATABASE = "fails-in-third-database"
    BLOCKS = "blocks"
    LOSES_A_CASE = "loses-a-case"
    NEVER_HEALTHY = "never-healthy"
    WRONG_VERSION = "wrong-version"
    BAD_IN_SOAK = "bad-in-soak"
    TOO_LARGE = "too-large"
    OTHER_COUNTRY = "other-country"
    IRREVERSIBLE = "irreversible"
    REQUIRED_STOP = "required-stop"
    BEHIND_STOP = "behind-stop"
    MOVES_PHOTOS = "moves-photos"


@dataclass(frozen=True)
class Release:
    """Release of the stand-in: its version and its trait."""

    version: str
    trait: Trait


_RELEASES = (
    Release("3.2.4", Trait.GOOD),
    Release("3.3.0", Trait.GOOD),
    Release("3.3.1", Trait.FAILS_IN_THIRD_DATABASE),
    Release("3.3.2", Trait.BLOCKS),
    Release("3.3.3", Trait.LOSES_A_CASE),
    Release("3.3.4", Trait.NEVER_HEALTHY),
    Release("3.3.5", Trait.WRONG_VERSION),
    Release("3.3.6", Trait.BAD_IN_SOAK),
    Release("3.3.7", Trait.TOO_LARGE),
    Release("3.3.8", Trait.OTHER_COUNTRY),
    Release("3.3.9", Trait.IRREVERSIBLE),
    Release("3.3.10", Trait.REQUIRED_STOP),
    Release("3.3.11", Trait.MOVES_PHOTOS),
    Release("3.4.0", Trait.BEHIND_STOP),
)


def releases() -> tuple[Release, ...]:
    """Return all releases of the stand-in, in order of version."""
    return _RELEASES


def manifests_directory() -> Path:
    """Return the directory ``manifests`` of the clone that contains this package."""
    return Path(__file__).resolve().parents[1] / "manifests"


def assemble(name: str, destination: Path, *, source: Path | None = None) -> Path:
    """Lay out the complete source directory of a release.

    Args:
        name: Its version, such as ``3.3.0``.
        destination: Directory to create; must not exist.
        source: The directory ``manifests``; that of the clone by default.

    Returns:
        ``destination``, with ``manifest.toml``, ``app/`` and ``migrations/``.

    Raises:
        ReleaseSourceNotFoundError: If the release does not exist.
        InvalidReleaseSourceError: If a file that it includes is missing.
        ManifestError: If its manifest is invalid.
    """
    root = source or manifests_directory()
    own = root / name
    if name not in {release.version for release in _RELEASES} or not own.is_dir():
        raise ReleaseSourceNotFoundError(name=name)
    destination.mkdir(parents=True)
    text = _expand(root, own / "manifest.toml", name)
    (destination / "manifest.toml").write_text(text, "utf-8")
    manifest = load_manifest(destination / "manifest.toml")
    ignore = shutil.ignore_patterns("__pycache__", "*.pyc")
    shutil.copytree(root / "base" / "app", destination / "app", ignore=ignore)
    if (own / "app").is_dir():
        shutil.copytree(own / "app", destination / "app", dirs_exist_ok=True, ignore=ignore)
    (destination / "app" / "release.json").write_bytes(encode_canonical_json({"version": name}))
    for path in sorted(set(_named_files(manifest))):
        found = next((p for p in (own / path, root / "base" / path) if p.is_file()), None)
        if found is None:
            raise InvalidReleaseSourceError(name=name, detail=path)
        (destination / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(found, destination / path)
    return destination


def declare(
    source: Path, number: int, compatible_down_to: int | None = None, *, expand: bool = False
) -> None:
    """Declare in the sources of a release the schema it needs and its compatibility.

    Args:
        source: Directory of the sources.
        number: Number of the schema.
        compatible_down_to: Oldest schema number whose releases run on databases of this one; by
            default its own.
        expand: Whether its migrations can run while such a release serves users.
    """
    manifest = source / "manifest.toml"
    oldest = number if compatible_down_to is None else compatible_down_to
    words = f"schema_number = {number}\ncompatible_down_to = {oldest}"
    words += "\nexpand = true" if expand else ""
    with manifest.open("a", encoding="utf-8") as file:
        file.write(f"\n[compatibility]\n{words}\n")


def _expand(root: Path, path: Path, name: str) -> str:
    try:
        text = path.read_text("utf-8")
        for _ in range(MAX_INCLUDES):
            match = INCLUDE.search(text)
            if match is None:
                return text
            piece = (root / match[1]).read_text("utf-8").rstrip("\n")
            text = text[: match.start()] + piece + text[match.end() :]
    except OSError as error:
        raise InvalidReleaseSourceError(name=name, detail=str(error)) from error
    raise InvalidReleaseSourceError(
        name=name,
        detail=LazyText(
            "{path}: more than {max_includes} includes",
            {"path": path, "max_includes": MAX_INCLUDES},
        ),
    )


def _named_files(manifest: Manifest) -> Iterator[str]:
    for database in manifest.databases:
        for migration in database.migrations:
            for path in (migration.up, migration.down, migration.verify):
                if path is not None:
                    for engine in ENGINE_NAMES:
                        yield fill_engine(engine, path)
