"""Manifest, tree, release document, migration files, and the records of slots."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from ncen_updater.agent.adapters.databases.migrations.planner import load_migrations
from ncen_updater.agent.model.errors import SlotRecordError
from ncen_updater.agent.storage.slots.records import SlotRecords
from ncen_updater.common.json_records import compute_sha256
from ncen_updater.common.messages import MIGRATION_FILE_BAD
from ncen_updater.feed.resumable_download import ChunkVerifier, ExpectedFile
from ncen_updater.formats.errors import ManifestError, ReleaseDocumentError, TreeError
from ncen_updater.formats.manifest import Manifest, load_manifest, parse_manifest
from ncen_updater.formats.release_document import parse_release_document
from ncen_updater.formats.tree import parse_tree, scan_tree
from tests.badinput.hostile import (
    DEEP,
    FEW,
    HUGE,
    LARGE,
    NO_FILES,
    bounded,
    json_values,
    nothing,
    spoilt,
    typed,
)
from tests.support.errors import has_message

DIGEST = "a" * 64
MANIFEST: dict[str, object] = {
    "schema": 1,
    "product": "ncen",
    "version": "3.3.0",
    "upgrade_from": ">=3.2,<3.3",
    "databases": [
        {"name": "cases", "migrations": [{"id": "0001", "up": "up.sql", "down": "down.sql"}]}
    ],
    "checks": [{"name": "rows", "database": "cases", "sql": "SELECT 1", "relation": "equal"}],
    "health": [{"name": "live", "path": "/health", "expect": {"ok": True}}],
    "notes": {"en": {"title": "A title"}},
}
CHECK = {"name": "rows", "database": "cases", "sql": "SELECT 1"}
OVERLAY = {"kind": "settings", "format": "ini", "release_path": "a", "site_path": "b"}
TREE: dict[str, object] = {
    "schema": 1,
    "entries": [
        {"path": "bin", "type": "dir", "mode": 0o755},
        {"path": "bin/run", "type": "file", "mode": 0o755, "size": 3, "sha256": DIGEST},
        {"path": "link", "type": "link", "mode": 0o777, "target": "bin/run"},
    ],
}
DOCUMENT: dict[str, object] = {
    "schema": 1,
    "manifest": MANIFEST,
    "archive": {"target": "ncen-3.3.0.tar.gz", "length": 10, "sha256": DIGEST},
    "tree": {"target": "trees/ncen/3.3.0.json.zst", "length": 10, "sha256": DIGEST},
    "tree_digest": DIGEST,
    "tree_bytes": 10,
    "unpacked_bytes": 10,
    "migrations": {"up.sql": DIGEST},
    "deltas": [
        {
            "target": "deltas/ncen/3.2.4--3.3.0",
            "length": 10,
            "sha256": DIGEST,
            "from_version": "3.2.4",
            "from_tree": DIGEST,
            "out_bytes": 10,
            "out_files": 3,
            "max_memory_bytes": 10,
            "needs": ["deflate-zlib-6.8"],
        }
    ],
    "archive_chunks": {"size": 4, "sha256": [DIGEST] * 3},
    "sbom": {"target": "sbom/ncen/3.3.0.cdx.json", "length": 10, "sha256": DIGEST},
    "provenance": {"target": "provenance/ncen/3.3.0.intoto.json", "length": 10, "sha256": DIGEST},
}
TOML = """schema = 1
product = "ncen"
version = "3.3.0"
upgrade_from = ">=3.2,<3.3"
[[databases]]
name = "cases"
[[databases.migrations]]
id = "0001"
up = "up.sql"
down = "down.sql"
"""


def _places(value: object, here: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    found = [here] if here else []
    if isinstance(value, dict):
        for key, item in value.items():
            found += _places(item, (*here, key))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            found += _places(item, (*here, number))
    return found


def replaced(value: dict[str, object], place: tuple[object, ...], by: object) -> object:
    """A copy with one value replaced."""
    result = json.loads(json.dumps(value))
    here = result
    for part in place[:-1]:
        here = here[part]
    here[place[-1]] = by
    return result


def altered(good: dict[str, object]) -> st.SearchStrategy[object]:
    """Good data with one value replaced by anything that JSON can hold."""
    return st.builds(replaced, st.just(good), st.sampled_from(_places(good)), json_values())


def test_valid_documents_are_accepted() -> None:
    parse_manifest(MANIFEST, "manifest")
    parse_tree(json.dumps(TREE).encode(), "tree")
    parse_release_document(json.dumps(DOCUMENT).encode(), "document")


@FEW
@given(data=altered(MANIFEST))
def test_altered_manifests_are_handled(data: object) -> None:
    typed(lambda: parse_manifest(data, "manifest"))


@FEW
@given(content=spoilt(TOML.encode()))
def test_spoilt_manifests_are_handled(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "manifest.toml"
    path.write_bytes(content)
    typed(lambda: load_manifest(path))


@pytest.mark.parametrize(
    "more",
    [f"a = {HUGE}", "a = " + "[" * DEEP, ".".join("a" * DEEP) + " = 1", "a = 0x" + "f" * 5000],
    ids=["long number", "nested", "parts", "hexadecimal"],
)
def test_hostile_manifests_are_refused(tmp_path: Path, more: str) -> None:
    path = tmp_path / "manifest.toml"
    path.write_text(f"{more}\n{TOML}")
    with bounded():
        assert isinstance(typed(lambda: load_manifest(path)), ManifestError)


@pytest.mark.parametrize("kind", NO_FILES)
def test_non_manifests_are_refused(tmp_path: Path, kind: str) -> None:
    NO_FILES[kind](tmp_path / "manifest.toml")
    with bounded():
        assert isinstance(typed(lambda: load_manifest(tmp_path / "manifest.toml")), ManifestError)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("databases", 0, "migrations", 0, "up"), "a\0b"),
        (("databases", 0, "migrations", 0, "up"), "a\nb"),
        (("databases", 0, "migrations", 0, "down"), "\0"),
        (("checks", 0, "sql"), "SELECT 1\0"),
        (("needs",), {"disk_bytes": 10**400}),
        (("needs",), {"disk_bytes": -1}),
        (("version",), "1" * 65),
        (("version",), "1.0\n"),
        (("upgrade_from",), ">=1,x"),
        (("upgrade_from",), " , "),
        (("checks", 0), {**CHECK, "expect": 16**5000}),
        (("health", 0, "expect"), {"ok": -(16**5000)}),
        (("overlays",), [{**OVERLAY, "rules": [{"key": "a", "least": float("nan")}]}]),
        (("overlays",), [{**OVERLAY, "rules": [{"key": "a", "most": float("inf")}]}]),
        (("notes",), {"\ud800": {"title": "x"}}),
        (("\ud800",), 1),
    ],
)
def test_invalid_manifest_values_are_refused(place: tuple[object, ...], value: object) -> None:
    data = replaced(MANIFEST, place, value)
    assert isinstance(typed(lambda: parse_manifest(data, "manifest")), ManifestError)


@pytest.mark.parametrize("argument", ["\0", "a\0b"])
def test_migrator_with_a_null_character_is_refused(argument: str) -> None:
    data = {"schema": 1, "product": "ncen", "version": "1", "migrator": {"argv": ["x", argument]}}
    assert isinstance(typed(lambda: parse_manifest(data, "manifest")), ManifestError)


@FEW
@given(data=altered(TREE))
def test_altered_trees_are_handled(data: object) -> None:
    typed(lambda: parse_tree(json.dumps(data).encode(), "tree"))


@FEW
@given(content=spoilt(json.dumps(TREE).encode()))
def test_spoilt_trees_are_handled(content: bytes) -> None:
    typed(lambda: parse_tree(content, "tree"))


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("entries", 1, "size"), 10**400),
        (("entries", 1, "size"), 2**63),
        (("entries", 1, "size"), -1),
        (("entries", 1, "size"), 1e300),
        (("entries", 1, "path"), "bin/\ud800"),
        (("entries", 1, "path"), "bin/" + "x/" * 400 + "x"),
        (("entries", 1, "path"), "bin"),
        (("entries", 2, "target"), "x/../../y"),
        (("entries", 2, "target"), "a\0"),
    ],
)
def test_invalid_tree_values_are_refused(place: tuple[object, ...], value: object) -> None:
    content = json.dumps(replaced(TREE, place, value)).encode()
    assert isinstance(typed(lambda: parse_tree(content, "tree")), TreeError)


@FEW
@given(data=altered(DOCUMENT))
def test_altered_documents_are_handled(data: object) -> None:
    typed(lambda: parse_release_document(json.dumps(data).encode(), "document"))


def test_hostile_values_in_every_document_field_are_handled() -> None:
    """Each place once with each value that is wrong, or wrong in most places."""
    values: tuple[object, ...] = (
        None, True, -1, 0, 10**400, 1.5, "", "\ud800", "a\0b", "../..", [], {}, [[]], "x" * 3000,
    )  # fmt: skip
    for place in _places(DOCUMENT):
        for value in values:
            content = json.dumps(replaced(DOCUMENT, place, value)).encode()
            typed(lambda content=content: parse_release_document(content, "document"))  # type: ignore[misc]


@pytest.mark.parametrize(
    "chunks",
    [
        {"size": 0, "sha256": [DIGEST]},
        {"size": -4, "sha256": [DIGEST] * 3},
        {"size": 4, "sha256": []},
        {"size": 4, "sha256": [DIGEST] * 2},
        {"size": 4, "sha256": [DIGEST] * 4},
        {"size": 4, "sha256": [DIGEST, DIGEST, "0" * 63]},
        {"size": 4, "sha256": [DIGEST, DIGEST, "A" * 64]},
        {"size": 2**63, "sha256": [DIGEST]},
        {"size": 4.5, "sha256": [DIGEST] * 3},
        {"size": 1, "sha256": [DIGEST] * 1001},
        {"size": 4},
        {"sha256": [DIGEST] * 3},
    ],
    ids=lambda chunks: str(chunks)[:40],
)
def test_invalid_archive_chunks_are_refused(chunks: dict[str, object]) -> None:
    content = json.dumps({**DOCUMENT, "archive_chunks": chunks}).encode()
    assert isinstance(
        typed(lambda: parse_release_document(content, "document")), ReleaseDocumentError
    )


@FEW
@given(
    content=st.binary(max_size=40),
    size=st.integers(1, 50) | st.sampled_from([2**62, 2**63 - 1]),
    wrong=st.sets(st.integers(0, 40), max_size=3),
    cuts=st.lists(st.integers(0, 40), max_size=6),
)
def test_arbitrary_chunk_digests_are_verified(
    content: bytes, size: int, wrong: set[int], cuts: list[int]
) -> None:
    """However it is cut, nothing is taken but what every digest fits, and the whole's too."""
    good = [
        compute_sha256(content[at : at + size]) for at in range(0, len(content), min(size, 1 << 20))
    ]
    said = tuple(DIGEST if at in wrong else digest for at, digest in enumerate(good))
    parts = ChunkVerifier(ExpectedFile("x", len(content), compute_sha256(content), size, said))
    ends = sorted({min(cut, len(content)) for cut in cuts} | {len(content)})
    fits = all(
        parts.verify(content[start:end]) for start, end in zip([0, *ends], ends, strict=False)
    )
    assert fits == (said == tuple(good))
    assert parts.verified_bytes <= len(content)
    assert fits == (parts.get_digest() == compute_sha256(content)) or not content


@FEW
@given(content=spoilt(json.dumps(DOCUMENT).encode()))
def test_spoilt_documents_are_handled(content: bytes) -> None:
    typed(lambda: parse_release_document(content, "document"))


@pytest.mark.parametrize("name", ["tree_bytes", "unpacked_bytes"])
@pytest.mark.parametrize("value", [LARGE, str(2**63), HUGE, "-1", "NaN", "1e999"])
def test_invalid_document_sizes_are_refused(name: str, value: str) -> None:
    content = json.dumps(DOCUMENT).replace(f'"{name}": 10', f'"{name}": {value}').encode()
    error = typed(lambda: parse_release_document(content, "document"))
    assert isinstance(error, ReleaseDocumentError)


# ---- directories on the disk -------------------------------------------------------------------


def _bad_name(root: Path) -> None:
    (root / os.fsdecode(b"\xff")).write_bytes(b"")


def _bad_target(root: Path) -> None:
    (root / "link").symlink_to(os.fsdecode(b"\xff"))


def _deep(root: Path) -> None:
    here = os.open(root, os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)


def _long(root: Path) -> None:
    here = root
    for _ in range(5):
        here = here / ("x" * 240)
        here.mkdir()


def _control(root: Path) -> None:
    os.mkfifo(root / "pipe")


@pytest.mark.parametrize("spoil", [_bad_name, _bad_target, _deep, _long, _control])
def test_invalid_release_directories_are_refused(
    tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    root = tmp_path / "release"
    root.mkdir()
    spoil(root)
    try:
        with bounded():
            assert isinstance(typed(lambda: scan_tree(root)), TreeError)
    finally:
        # Deeper than Python's own can go.
        subprocess.run(["rm", "-rf", str(root)], check=True)


@pytest.mark.parametrize("kind", ["absent", *sorted(set(NO_FILES) - {"directory"})])
def test_root_that_is_no_directory_is_refused(tmp_path: Path, kind: str) -> None:
    root = tmp_path / "release"
    NO_FILES.get(kind, nothing)(root)
    with bounded():
        assert isinstance(typed(lambda: scan_tree(root)), TreeError)


@pytest.mark.parametrize("kind", ["absent", *NO_FILES, "zero bytes", "not UTF-8"])
@pytest.mark.parametrize("name", ["up.sql", "down.sql"])
def test_invalid_migration_files_are_refused(tmp_path: Path, kind: str, name: str) -> None:
    for good in ("up.sql", "down.sql"):
        (tmp_path / good).write_text("SELECT 1")
    path = tmp_path / name
    path.unlink()
    contents = {"zero bytes": b"SELECT\0", "not UTF-8": b"\xff"}
    if kind in contents:
        path.write_bytes(contents[kind])
    else:
        NO_FILES.get(kind, nothing)(path)
    manifest = Manifest.model_validate(MANIFEST)
    with bounded():
        error = typed(lambda: load_migrations(manifest, tmp_path, "sqlite", None))
    assert has_message(error, MIGRATION_FILE_BAD)


@pytest.mark.parametrize("kind", ["absent", *NO_FILES])
@pytest.mark.parametrize("name", ["release.json", "tree.json"])
def test_invalid_slot_records_are_refused(tmp_path: Path, kind: str, name: str) -> None:
    place = tmp_path / ".records" / "3.3.0"
    place.mkdir(parents=True)
    (place / "release.json").write_text(json.dumps(DOCUMENT))
    (place / name).unlink(missing_ok=True)
    NO_FILES.get(kind, nothing)(place / name)
    records, version = SlotRecords(tmp_path), Version("3.3.0")
    with bounded():
        assert isinstance(typed(lambda: records.read_tree(version)), SlotRecordError)
        assert isinstance(typed(lambda: list(records.iter_entries(version))), SlotRecordError)


@FEW
@given(content=spoilt(json.dumps(TREE, separators=(",", ":"), sort_keys=True).encode()))
def test_spoilt_slot_records_are_refused(tmp_path: Path, content: bytes) -> None:
    place = tmp_path / ".records" / "3.3.0"
    place.mkdir(parents=True, exist_ok=True)
    (place / "release.json").write_text(json.dumps(DOCUMENT))
    (place / "tree.json").write_bytes(content)
    records, version = SlotRecords(tmp_path), Version("3.3.0")
    assert isinstance(typed(lambda: records.read_tree(version)), SlotRecordError)
    assert isinstance(typed(lambda: list(records.iter_entries(version))), SlotRecordError)
