"""Tests of the choice of a delta pack, and of remembering one that failed."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from ncen_updater.feed.delta_packs import (
    choose_pack,
    count_remaining_bytes,
    get_pack_path,
    list_usable_packs,
    mark_pack_bad,
    read_bad_packs,
)
from ncen_updater.feed.errors import TargetMissingError
from ncen_updater.formats.release_document import DeltaRef, ReleaseDocument, TargetRef

TREES = {"3.1": "1" * 64, "3.2": "2" * 64, "3.3": "3" * 64}


def pack(origin: str, length: int = 100, *needs: str) -> DeltaRef:
    return DeltaRef(
        target=f"deltas/ncen/{origin}--4.0",
        length=length,
        sha256=hashlib.sha256(f"{origin} {length}".encode()).hexdigest(),
        from_version=origin,
        from_tree=TREES[origin],
        out_bytes=1,
        out_files=1,
        max_memory_bytes=1,
        needs=needs,
    )


def document(*packs: DeltaRef) -> ReleaseDocument:
    ref = TargetRef(target="x", length=1000, sha256="0" * 64)
    return ReleaseDocument.model_validate(
        {
            "schema": 1,
            "manifest": {"schema": 1, "product": "ncen", "version": "4.0"},
            "archive": ref,
            "tree": ref.model_copy(update={"length": 50}),
            "tree_digest": "0" * 64,
            "tree_bytes": 1,
            "unpacked_bytes": 1,
            "deltas": packs,
        }
    )


@dataclass(frozen=True)
class Row:
    """A case: what there is, and the origin of the pack that is chosen (empty for none)."""

    name: str
    packs: tuple[DeltaRef, ...]
    have: tuple[str, ...]
    chosen: str
    refused: tuple[str, ...] = ()
    able: tuple[str, ...] = ()


ROWS = (
    Row("the one that fits", (pack("3.1"), pack("3.2")), ("3.2",), "3.2"),
    Row("the smallest", (pack("3.1", 90), pack("3.2"), pack("3.3", 10)), ("3.1", "3.2"), "3.1"),
    Row("no slot of its tree", (pack("3.1"),), ("3.2",), ""),
    Row("a new site", (pack("3.1"),), (), ""),
    Row("no packs", (), ("3.1",), ""),
    Row("not able", (pack("3.1", 10, "deflate"), pack("3.2")), ("3.1", "3.2"), "3.2"),
    Row(
        "able", (pack("3.1", 10, "deflate"), pack("3.2")), ("3.1", "3.2"), "3.1", able=("deflate",)
    ),
    Row("refused before", (pack("3.1", 10), pack("3.2")), ("3.1", "3.2"), "3.2", refused=("3.1",)),
    Row("as large as tree and archive", (pack("3.1", 1050),), ("3.1",), ""),
    Row("one byte less", (pack("3.1", 1049),), ("3.1",), "3.1"),
)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_smallest_download_is_chosen(row: Row) -> None:
    release = document(*row.packs)
    refused = {ref.sha256 for ref in row.packs if ref.from_version in row.refused}
    have = {TREES[version] for version in row.have}
    packs = list_usable_packs(release, have, row.able, refused)
    chosen = choose_pack(release, packs, lambda ref: ref.length)
    assert (chosen.from_version if chosen else "") == row.chosen


def test_remaining_bytes_decide() -> None:
    """An archive that has nearly arrived is fewer bytes than any pack."""
    release = document(pack("3.1"))
    left = {"x": 20}
    chosen = choose_pack(release, release.deltas, lambda ref: left.get(ref.target, ref.length))
    assert chosen is None


def test_complete_file_has_no_remaining_bytes(tmp_path: Path) -> None:
    ref = TargetRef(target="x", length=10, sha256="0" * 64)
    assert count_remaining_bytes(tmp_path / "x", ref) == 10
    (tmp_path / "x").write_bytes(b"1234567890")
    assert count_remaining_bytes(tmp_path / "x", ref) == 0


def test_partial_file_of_another_target_does_not_count(tmp_path: Path) -> None:
    ref = TargetRef(target="x", length=10, sha256="0" * 64)
    (tmp_path / ".x.partial").write_bytes(b"12345")
    note = tmp_path / ".x.partial.json"
    note.write_text('{"etag": null, "origin": null, "length": 10, "sha256": "%s"}' % ("1" * 64))
    assert count_remaining_bytes(tmp_path / "x", ref) == 10
    note.write_text('{"etag": null, "origin": null, "length": 10, "sha256": "%s"}' % ("0" * 64))
    assert count_remaining_bytes(tmp_path / "x", ref) == 5


def test_failed_pack_is_recorded_with_its_code_and_removed(tmp_path: Path) -> None:
    ref, other = pack("3.1"), pack("3.2", 7)
    place = tmp_path / "4.0"
    assert read_bad_packs(place) == {}
    mark_pack_bad(place, ref, TargetMissingError(name=ref.target))
    get_pack_path(place, other).write_bytes(b"x")
    mark_pack_bad(place, other, TargetMissingError(name=other.target))
    assert read_bad_packs(place) == dict.fromkeys(
        (ref.sha256, other.sha256), TargetMissingError.message.code
    )
    assert not get_pack_path(place, other).exists()


def test_bad_pack_record_is_readable_whatever_the_umask(tmp_path: Path) -> None:
    """Root writes it down, in the unit that works on the site; who reads the feed is another."""
    place = tmp_path / "4.0"
    before = os.umask(0o077)
    try:
        mark_pack_bad(place, pack("3.1"), TargetMissingError(name="x"))
    finally:
        os.umask(before)
    assert place.stat().st_mode & 0o005 == 0o005
    assert (place / "refused.json").stat().st_mode & 0o004


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'"x"', b"1" * 2_000_000])
def test_damaged_bad_pack_record_is_ignored(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "refused.json").write_bytes(content)
    assert read_bad_packs(tmp_path) == {}
    mark_pack_bad(tmp_path, pack("3.1"), TargetMissingError(name="x"))
    assert list(read_bad_packs(tmp_path)) == [pack("3.1").sha256]
