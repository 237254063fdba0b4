"""Bundles as an attacker, or a bad stick, would make them."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

from ncen_updater.formats.bundle_file import MemberSource, encode_bundle


def members(bundle: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(bundle) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def source(name: str, content: bytes) -> MemberSource:
    return MemberSource(name, len(content), zlib.crc32(content), lambda: io.BytesIO(content))


def well_formed(path: Path, contents: Mapping[str, bytes]) -> Path:
    """A bundle in the right form with any content."""
    path.write_bytes(b"".join(encode_bundle([source(n, c) for n, c in contents.items()])))
    return path


def odd(
    path: Path, contents: Mapping[str, bytes], change: Callable[[zipfile.ZipFile], None]
) -> Path:
    """A zip as Python writes it, with something that no bundle holds."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in contents.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = 0o100644 << 16
            archive.writestr(info, content)
        change(archive)
    return path


def add(
    name: str, content: bytes = b"x", *, mode: int = 0o100644, compressed: bool = False
) -> Callable[[zipfile.ZipFile], None]:
    def change(archive: zipfile.ZipFile) -> None:
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        info.compress_type = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
        archive.writestr(info, content)

    return change


def edited(content: bytes, change: Callable[[dict[str, object]], None]) -> bytes:
    """Signed metadata with another text under the old signatures."""
    data = json.loads(content)
    change(data["signed"])
    return json.dumps(data).encode()


def flag_as_encrypted(bundle: Path, path: Path) -> Path:
    """Set the bit of encryption in the directory's first entry."""
    content = bytearray(bundle.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    return path
