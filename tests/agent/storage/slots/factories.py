"""Small releases on the disk, for tests that need a slot."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from packaging.version import Version

from ncen_updater.agent.storage.slots.store import SlotStore
from ncen_updater.common.progress import SilentProgress
from ncen_updater.formats.release_document import ReleaseDocument, TargetRef
from ncen_updater.formats.tree import Tree, scan_tree

OLD, NEW = Version("3.2.4"), Version("3.3.0")
NOTHING = TargetRef(target="x", length=0, sha256="0" * 64)


def write_application(place: Path, version: str) -> None:
    """Fill a directory with files, a nested one, an executable, a link and an empty directory."""
    (place / "app" / "static").mkdir(parents=True)
    (place / "empty").mkdir()
    (place / "VERSION").write_text(version)
    (place / "app" / "main.py").write_text(f"print({version!r})\n")
    (place / "app" / "static" / "ünï {}[],.css").write_text("a { b: c }\n")
    run = place / "app" / "run"
    run.write_text("#!/bin/sh\n")
    run.chmod(0o755)
    (place / "app" / "latest").symlink_to("main.py")
    for directory, names, files in os.walk(place):
        for name in [*names, *files]:
            path = Path(directory, name)
            if not path.is_symlink() and path != run:
                path.chmod(0o755 if path.is_dir() else 0o644)


def document_for(version: str, tree: Tree, **manifest: object) -> ReleaseDocument:
    """A release document whose archive is not looked at."""
    return ReleaseDocument.model_validate(
        {
            "schema": 1,
            "manifest": {"schema": 1, "product": "ncen", "version": version, **manifest},
            "archive": NOTHING,
            "tree": NOTHING,
            "tree_digest": tree.compute_digest(),
            "tree_bytes": len(tree.to_canonical_json()),
            "unpacked_bytes": tree.total_bytes,
        }
    )


def make_release(place: Path, version: str) -> tuple[ReleaseDocument, Tree]:
    """Write a release below ``place`` and describe it."""
    place.mkdir(parents=True)
    write_application(place, version)
    tree = scan_tree(place)
    return document_for(version, tree), tree


def copier(source: Path) -> Callable[[Path], None]:
    """Fill a slot with a copy of a directory."""

    def fill(place: Path) -> None:
        shutil.copytree(source, place, symlinks=True, dirs_exist_ok=True)

    return fill


def assemble(
    store: SlotStore, document: ReleaseDocument, tree: Tree, fill: Callable[[Path], object]
) -> None:
    """Build a slot of files that are checked against a tree."""

    def fill_and_return(place: Path) -> Tree:
        fill(place)
        return tree

    store.assemble_slot(document, fill_and_return, SilentProgress(), check_content=True)


def build(store: SlotStore, tmp_path: Path, version: Version) -> Path:
    """Make a release and build its slot."""
    source = tmp_path / f"source-{version}"
    document, tree = make_release(source, str(version))
    assemble(store, document, tree, copier(source))
    return store.get_slot_directory(version)
