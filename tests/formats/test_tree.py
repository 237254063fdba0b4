"""Tests of the signed byte form of a tree."""

from __future__ import annotations

import hashlib
from contextlib import nullcontext
from pathlib import Path

import pytest
from pydantic import ValidationError

from ncen_updater.common.json_records import encode_canonical_json
from ncen_updater.common.messages import BAD_TREE
from ncen_updater.formats.errors import TreeError
from ncen_updater.formats.tree import (
    ENTRIES_PER_PIECE,
    EntryType,
    Tree,
    TreeEntry,
    parse_tree,
    scan_tree,
)
from tests.support.errors import refused

KINDS = (
    {"type": "file", "mode": 0o644, "size": 3, "sha256": "a" * 64},
    {"type": "dir", "mode": 0o755, "size": 0},
    {"type": "link", "mode": 0o777, "size": 0, "target": 'é"\\x'},
)


@pytest.mark.parametrize("count", [0, 1, 3, ENTRIES_PER_PIECE, ENTRIES_PER_PIECE + 1, 2500])
def test_tree_has_one_canonical_form(count: int) -> None:
    data = {"schema": 1, "entries": [{"path": f"é{n}", **KINDS[n % 3]} for n in range(count)]}
    tree = Tree.model_validate(data)
    assert tree.to_canonical_json() == encode_canonical_json(data)
    assert tree.compute_digest() == hashlib.sha256(encode_canonical_json(data)).hexdigest()


def test_canonical_form_round_trips() -> None:
    entry = TreeEntry(path="a", type=EntryType.FILE, mode=0o644, size=1, sha256="0" * 64)
    tree = Tree(entries=(entry,))
    assert parse_tree(tree.to_canonical_json(), "a tree") == tree


def test_names_of_a_directory_are_sorted() -> None:
    """Depth first, as the publisher lists them: not the order of the paths."""
    paths = ["a", "a/b", "a-b", "b"]
    entries = [{"path": path, **KINDS[1]} for path in paths]
    tree = parse_tree(encode_canonical_json({"schema": 1, "entries": entries}), "a tree")
    assert [entry.path for entry in tree.entries] == paths
    for at in (1, 2):
        entries[at : at + 2] = reversed(entries[at : at + 2])
        with pytest.raises(TreeError, match="not sorted"):
            parse_tree(encode_canonical_json({"schema": 1, "entries": entries}), "a tree")
        entries[at : at + 2] = reversed(entries[at : at + 2])


@pytest.mark.parametrize(
    "entry",
    [
        {"path": "a", "type": "file", "mode": 0o644, "more": 1},
        {"path": "", "type": "file", "mode": 0o644},
        {"path": "a", "type": "pipe", "mode": 0o644},
        {"path": "a", "type": "file", "mode": 0o1644},
        {"path": "a", "type": "file", "mode": 0o644, "size": -1},
        {"path": "a", "type": "file", "mode": 0o644, "sha256": "A" * 64},
        {"type": "file", "mode": 0o644},
        [],
        None,
    ],
)
def test_invalid_entries_are_refused(entry: object) -> None:
    with pytest.raises(ValidationError):
        Tree.model_validate({"schema": 1, "entries": [entry]})


@pytest.mark.parametrize(
    ("target", "is_refused"), [("a/b", False), ("..", True), ("/a", True), ("a/up/..", True)]
)
def test_link_that_leads_out_is_refused(tmp_path: Path, target: str, is_refused: bool) -> None:
    """Also one that leads out through another link, which stays inside."""
    release = tmp_path / "release"
    (release / "a").mkdir(parents=True)
    (release / "a/up").symlink_to("..")
    (release / "link").symlink_to(target)
    assert is_refused is not (release / "link").resolve().is_relative_to(release)
    with refused(BAD_TREE) if is_refused else nullcontext():
        scan_tree(release)
