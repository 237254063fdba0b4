"""One file to an officer, one file back.

An event is a directory while it is made and published. To travel it is packed into one file,
``NAME.event``, a ZIP of exactly the files that an event has; an officer's signatures come back in
one file, ``NAME.OFFICER.sig``. Neither is believed: what is unpacked is checked as any event is,
and each signature is verified when it is merged.
"""

from __future__ import annotations

import json
import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from ncen_updater.common import atomic_files as durable
from ncen_updater.common.canonical_json import canonical_json
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import BAD_EVENT
from ncen_updater.publisher.errors import system_words
from ncen_updater.publisher.signing.event_files import (
    FOLDERS,
    MAX_ENTRIES,
    MAX_FILE_BYTES,
    MAX_PAPER_BYTES,
    PAPERS,
    read_plain,
)

EVENT_SUFFIX: Final = ".event"
SIGNATURES_SUFFIX: Final = ".sig"
RECORD: Final = "event.json"
MAX_PACKED_BYTES: Final = 500_000_000
_TRAVELS: Final = tuple(name for name in FOLDERS if name != "sig")
_NAME: Final = re.compile(
    rf"event\.json|(?:draft|base|roots)/[a-z0-9][a-z0-9.-]{{0,80}}\.json|{PAPERS}/[0-9a-f]{{64}}"
)
#: One time for all, so that one event is one file, whenever it is packed.
_TIME: Final = (1980, 1, 1, 0, 0, 0)

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
RoleName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,40}$")]


class DetachedSignature(BaseModel):
    """One officer's answer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: RoleName
    version: Annotated[int, Field(ge=1)]
    digest: Sha256
    keyid: Sha256
    sig: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]+$", max_length=4000)]


class _SignaturesFile(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    schema_: Annotated[Literal[1], Field(alias="schema")] = 1
    signatures: Annotated[tuple[DetachedSignature, ...], Field(min_length=1, max_length=50)]


def packed_path(directory: Path) -> Path:
    """Where the one file of an event lies: beside its directory."""
    return directory.with_name(directory.name + EVENT_SUFFIX)


def pack_event(directory: Path) -> Path:
    """Write the one file of an event, without signatures; the same event gives the same bytes.

    Raises:
        BadEvent: If a file of it cannot be read.
    """
    path = packed_path(directory)
    try:
        with durable.writing(path) as stream, zipfile.ZipFile(stream, "w") as packed:
            for name in _names(directory):
                content = read_plain(directory / name, MAX_PAPER_BYTES)
                packed.writestr(zipfile.ZipInfo(name, _TIME), content, zipfile.ZIP_DEFLATED)
    except (OSError, ValueError) as error:
        raise UpdaterError(BAD_EVENT, path=directory, detail=system_words(error)[:500]) from error
    return path


def _names(directory: Path) -> Iterator[str]:
    for folder in _TRAVELS:
        for path in sorted((directory / folder).glob("*")):
            if _NAME.fullmatch(f"{folder}/{path.name}"):
                yield f"{folder}/{path.name}"
    yield RECORD  # last, as in a directory: half of one is none


def unpack_event(path: Path, directory: Path) -> None:
    """Lay out the one file of an event in an empty directory.

    Raises:
        BadEvent: If it is no such file, holds anything else, or more than an event may.
    """
    try:
        with path.open("rb") as stream, zipfile.ZipFile(stream) as packed:
            entries = packed.infolist()
            _refuse_odd(entries)
            for entry in entries:
                most = MAX_PAPER_BYTES if entry.filename.startswith(PAPERS) else MAX_FILE_BYTES
                with packed.open(entry) as content:
                    found = content.read(most + 1)
                if len(found) > most:
                    raise ValueError(f"{entry.filename} is over {most} bytes")
                target = directory / entry.filename
                target.parent.mkdir(exist_ok=True)
                target.write_bytes(found)
    except (
        OSError, ValueError, RuntimeError, NotImplementedError, EOFError, zlib.error,
        zipfile.BadZipFile,
    ) as error:  # fmt: skip
        raise UpdaterError(BAD_EVENT, path=path, detail=system_words(error)[:500]) from error


def _refuse_odd(entries: Sequence[zipfile.ZipInfo]) -> None:
    names = [entry.filename for entry in entries]
    odd = next((name for name in names if not _NAME.fullmatch(name)), None)
    if odd is not None:
        raise ValueError(f"{odd[:80]!r} is no file of an event")
    if len(set(names)) != len(names):
        raise ValueError("a file is in it twice")
    if len(names) > MAX_ENTRIES or sum(entry.file_size for entry in entries) > MAX_PACKED_BYTES:
        raise ValueError("it holds more than an event may")


def write_signatures(path: Path, signatures: Sequence[DetachedSignature]) -> None:
    """Write an officer's signatures as one file."""
    document = _SignaturesFile(signatures=tuple(signatures))
    durable.write(path, canonical_json(document.model_dump(mode="json", by_alias=True)))


def read_signatures(path: Path) -> tuple[DetachedSignature, ...]:
    """Read the signatures of a file: all of an officer's, or one as older programs write them.

    Raises:
        BadEvent: If it is neither.
    """
    try:
        document = json.loads(read_plain(path))
        if isinstance(document, dict) and "signatures" in document:
            return _SignaturesFile.model_validate(document).signatures
        return (DetachedSignature.model_validate(document),)
    except (OSError, ValueError, RecursionError) as error:
        raise UpdaterError(BAD_EVENT, path=path, detail=system_words(error)[:500]) from error
