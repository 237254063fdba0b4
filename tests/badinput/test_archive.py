"""Archives that are no release: nothing but our errors, and nothing left behind."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ncen_updater.common.messages import ARCHIVE_DAMAGED, ARCHIVE_MISMATCH
from ncen_updater.common.progress import Amount
from ncen_updater.formats.archive import unpack_archive
from ncen_updater.formats.errors import TransferError
from ncen_updater.formats.tree import EntryType, Tree, TreeEntry
from tests.badinput.hostile import FEW, HUGE, NO_FILES, bounded, spoilt, typed
from tests.support.errors import has_message

CONTENT = b"hello"
TREE = Tree(
    entries=(
        TreeEntry(
            path="a",
            type=EntryType.FILE,
            mode=0o644,
            size=len(CONTENT),
            sha256=hashlib.sha256(CONTENT).hexdigest(),
        ),
    )
)


class _Silent:
    def report(self, text: object, amount: Amount | None = None) -> None:
        del text, amount


def _tar(pax: dict[str, str] | None = None, size: int = len(CONTENT), kind: bytes = b"0") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("a")
        info.size, info.type = size, kind
        info.pax_headers = pax or {}
        tar.addfile(info, io.BytesIO(CONTENT) if size == len(CONTENT) else None)
    return stream.getvalue()


def _raw_pax(body: bytes) -> bytes:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, len(body)
    return info.tobuf(tarfile.USTAR_FORMAT) + body + b"\0" * (-len(body) % 512) + _tar()


def _long_names(count: int) -> bytes:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1
    return (info.tobuf(tarfile.GNU_FORMAT) + b"a" * 512) * count + _tar()


def _negative() -> bytes:
    header = bytearray(_tar()[:512])
    header[124:136] = b"\xff" * 11 + b"\0"
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + b"\0" * 2048


HOSTILE = {
    "sparse map of words": _tar({"GNU.sparse.map": "a,b", "GNU.sparse.size": "5"}),
    "sparse map of huge numbers": _tar({"GNU.sparse.map": f"0,{HUGE[:4400]}"}),
    "sparse size of words": _tar({"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}),
    "size of words": _tar({"size": "x"}),
    "negative size": _negative(),
    "negative size, extended": _tar({"size": "-1"}),
    "not finite": _tar({"mtime": "nan", "size": "5", "uid": "1" * 400}),
    "huge time": _tar({"mtime": "1e999"}),
    "a length of many digits": _raw_pax(b"9" * 4400 + b" a=b\n"),
    "a length of none": _raw_pax(b"0 a=b\n"),
    "a length beyond": _raw_pax(b"999 a=b\n"),
    "no equals sign": _raw_pax(b"6 abc\n"),
    "character set": _raw_pax(b"21 hdrcharset=BINARY\n11 path=\xff\xff\xff\n"),
    "names of names of names": _long_names(600),
    "another kind": _tar(kind=b"Z"),
}


def _unpack(tmp_path: Path, content: bytes) -> TransferError | None:
    archive, place = tmp_path / "a.tar.gz", tmp_path / "place"
    archive.write_bytes(content)
    error = typed(lambda: unpack_archive(archive, TREE, place, _Silent()))
    if error is None:
        assert (place / "a").read_bytes() == CONTENT
        (place / "a").unlink()
        place.rmdir()
        return None
    assert isinstance(error, TransferError)
    assert not place.exists()
    assert archive.read_bytes() == content
    return error


def test_valid_archive_is_accepted(tmp_path: Path) -> None:
    assert _unpack(tmp_path, gzip.compress(_tar())) is None


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_headers_are_refused(tmp_path: Path, name: str) -> None:
    with bounded():
        error = _unpack(tmp_path, gzip.compress(HOSTILE[name]))
    # A field that the tree does not look at may be anything.
    assert error is None or has_message(error, ARCHIVE_DAMAGED, ARCHIVE_MISMATCH)


@FEW
@given(content=st.one_of(spoilt(gzip.compress(_tar(), mtime=0)), spoilt(_tar()[:1536])))
def test_spoilt_archives_are_refused(tmp_path: Path, content: bytes) -> None:
    _unpack(tmp_path, content)
    _unpack(tmp_path, gzip.compress(content))


@pytest.mark.parametrize("kind", NO_FILES)
def test_non_archives_are_refused(tmp_path: Path, kind: str) -> None:
    archive, place = tmp_path / "a.tar.gz", tmp_path / "place"
    NO_FILES[kind](archive)
    with bounded():
        error = typed(lambda: unpack_archive(archive, TREE, place, _Silent()))
    assert isinstance(error, TransferError)
    assert not place.exists()
