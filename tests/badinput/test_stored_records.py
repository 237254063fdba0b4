"""Files beside the lists and downloads, and bundles: any bytes in their place."""

from __future__ import annotations

import hashlib
import io
import json
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ncen_updater.common.messages import LOCAL_STORE_FAILED, VIEW_DAMAGED
from ncen_updater.common.progress import SilentProgress
from ncen_updater.feed.import_store import read_import_record
from ncen_updater.feed.release_files import read_document_record
from ncen_updater.feed.resumable_download import DownloadStream, ExpectedFile, download_file
from ncen_updater.formats.bundle_file import (
    BundleMember,
    MemberSource,
    encode_bundle,
    open_bundle,
    read_members,
)
from tests.badinput.hostile import DEEP, FEW, NO_FILES, bounded, json_values, spoilt, typed
from tests.support.errors import has_message

CONTENT = b"what was signed"
DIGEST = hashlib.sha256(CONTENT).hexdigest()
IMPORT: dict[str, object] = {
    "imported_at": "2026-01-01T00:00:00+00:00", "usable_until": "2026-02-01T00:00:00+00:00",
    "timestamp": 3, "product": "ncen", "releases": ["3.3.0"], "reachable_release": "3.3.0",
    "file": "a.ncen",
}  # fmt: skip
RECORD: dict[str, object] = {"length": 10, "sha256": DIGEST}
ODD = [b"[" * DEEP, b"\xff", b"[]", b"null", b"1", b"", bytes(10)]


@FEW
@given(content=spoilt(json.dumps(IMPORT).encode()))
def test_arbitrary_import_records_are_handled(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "feed").mkdir(exist_ok=True)
    (tmp_path / "feed/import.json").write_bytes(content)
    error = typed(lambda: read_import_record(tmp_path))
    assert error is None or has_message(error, VIEW_DAMAGED)


@pytest.mark.parametrize("name", IMPORT)
@FEW
@given(value=json_values())
def test_import_records_with_other_values_are_handled(
    tmp_path: Path, name: str, value: object
) -> None:
    (tmp_path / "feed").mkdir(exist_ok=True)
    (tmp_path / "feed/import.json").write_text(json.dumps({**IMPORT, name: value}))
    error = typed(lambda: read_import_record(tmp_path))
    assert error is None or has_message(error, VIEW_DAMAGED)


@FEW
@given(content=spoilt(json.dumps(RECORD).encode()) | st.sampled_from(ODD))
def test_arbitrary_document_records_are_ignored(tmp_path: Path, content: bytes) -> None:
    """Damaged, it counts as none: the release is fetched again."""
    (tmp_path / "verified.json").write_bytes(content)
    read_document_record(tmp_path)


@FEW
@given(value=json_values(), name=st.sampled_from(sorted(RECORD)))
def test_document_records_with_other_values_are_handled(
    tmp_path: Path, value: object, name: str
) -> None:
    (tmp_path / "verified.json").write_text(json.dumps({**RECORD, name: value}))
    read_document_record(tmp_path)


@pytest.mark.parametrize("kind", sorted(NO_FILES))
def test_non_records_are_refused(tmp_path: Path, kind: str) -> None:
    NO_FILES[kind](tmp_path / "verified.json")
    read: list[ExpectedFile | None] = []
    with bounded(60):
        error = typed(lambda: read.append(read_document_record(tmp_path)))
    assert read == [None] or has_message(error, LOCAL_STORE_FAILED)


NOTE: dict[str, object] = {
    "etag": None, "origin": None, "length": len(CONTENT), "sha256": DIGEST,
}  # fmt: skip


def _fetch(place: Path) -> bytes:
    wanted = ExpectedFile("x", len(CONTENT), DIGEST)

    def source(offset: int) -> DownloadStream:
        return DownloadStream(offset, iter([CONTENT[offset:]]), "here", None, lambda: None)

    download_file(source, place / "x", wanted, SilentProgress())
    content = (place / "x").read_bytes()
    (place / "x").unlink()
    return content


@FEW
@given(
    note=spoilt(json.dumps(NOTE).encode()) | st.sampled_from(ODD),
    partial=st.binary(max_size=30) | st.just(CONTENT[:7]),
)
def test_arbitrary_notes_and_partial_files_are_handled(
    tmp_path: Path, note: bytes, partial: bytes
) -> None:
    (tmp_path / ".x.partial.json").write_bytes(note)
    (tmp_path / ".x.partial").write_bytes(partial)
    assert _fetch(tmp_path) == CONTENT


@FEW
@given(value=json_values(), name=st.sampled_from(sorted(NOTE)))
def test_notes_with_other_values_are_handled(tmp_path: Path, value: object, name: str) -> None:
    (tmp_path / ".x.partial.json").write_text(json.dumps({**NOTE, name: value}))
    (tmp_path / ".x.partial").write_bytes(CONTENT[:7])
    assert _fetch(tmp_path) == CONTENT


# ---- bundles -----------------------------------------------------------------------------------


def _source(name: str, content: bytes) -> MemberSource:
    return MemberSource(name, len(content), zlib.crc32(content), lambda: io.BytesIO(content))


SOURCES = [
    _source("index.json", b"{}"),
    _source("metadata/1.root.json", b"root"),
    _source("targets/a/b.tar.gz", b"archive"),
]
BUNDLE = b"".join(encode_bundle(SOURCES))
DIRECTORY = BUNDLE.index(b"PK\1\2")


def _read(path: Path) -> dict[str, BundleMember] | None:
    found: list[dict[str, BundleMember]] = []

    def read() -> None:
        with open_bundle(path) as bundle:
            found.append(dict(read_members(bundle)))

    error = typed(read)
    assert error is None or error.code.startswith("NU-23")
    return found[0] if found else None


def test_valid_bundle_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "x.ncen"
    path.write_bytes(BUNDLE)
    assert list(_read(path) or ()) == [source.name for source in SOURCES]


@FEW
@given(
    content=spoilt(BUNDLE) | spoilt(BUNDLE[DIRECTORY:]).map(lambda tail: BUNDLE[:DIRECTORY] + tail)
)
def test_arbitrary_bundles_are_handled(tmp_path: Path, content: bytes) -> None:
    """What is read lies inside the file, in places of its own, under names of bundles."""
    path = tmp_path / "x.ncen"
    path.write_bytes(content)
    with bounded(60):
        members = _read(path) or {}
    ends = 0
    for name, member in members.items():
        assert name == member.name
        assert ".." not in name.split("/")
        assert not name.startswith("/")
        assert ends <= member.offset <= member.start <= member.end <= len(content)
        ends = member.end
