"""Reading the files of a signing event, which come from somebody else on a medium.

A link, a device or a pipe in the place of a file is refused before it is opened for good, and no
more than a limit is ever read.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Targets  # type: ignore[attr-defined]

from ncen_updater.common import atomic_files as durable
from ncen_updater.common.canonical_json import sha256_hex
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import Text
from ncen_updater.common.messages import BAD_EVENT, PUBLISHER_TARGET_MISSING
from ncen_updater.formats.tuf_names import ROLE_FIELD
from ncen_updater.publisher.errors import system_words

MAX_FILE_BYTES: Final = 10_000_000
MAX_ENTRIES: Final = 5_000
MAX_PAPER_BYTES: Final = 50_000_000
#: Release documents and papers, each named by its SHA-256.
PAPERS: Final = "papers"
FOLDERS: Final = ("draft", "base", "roots", "sig", PAPERS)
_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def read_plain(path: Path, limit: int = MAX_FILE_BYTES) -> bytes:
    """Read a file that is one.

    Raises:
        OSError: If it is a link or cannot be read.
        ValueError: If it is no plain file or too large.
    """
    descriptor = os.open(path, _FLAGS)
    with os.fdopen(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError(f"{path.name} is no plain file")
        content = stream.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"{path.name} is over {limit} bytes")
    return content


def plain_folders(directory: Path) -> None:
    """Refuse an event whose folders are links to elsewhere, or hold too many files.

    Raises:
        BadEvent: Naming the folder.
    """
    for name in FOLDERS:
        folder = directory / name
        try:
            mode = folder.lstat().st_mode
        except FileNotFoundError:
            continue
        except OSError as error:
            raise UpdaterError(BAD_EVENT, path=folder, detail=system_words(error)) from error
        if not stat.S_ISDIR(mode):
            raise UpdaterError(BAD_EVENT, path=folder, detail="it is no directory of the event")
        with os.scandir(folder) as entries:
            if sum(1 for _ in entries) > MAX_ENTRIES:
                raise UpdaterError(
                    BAD_EVENT,
                    path=folder,
                    detail=Text("it holds over {max_entries} files", {"max_entries": MAX_ENTRIES}),
                )


def read_metadata(path: Path, role: str) -> Metadata[Any]:
    """Read the metadata of one role.

    Raises:
        BadEvent: If the file is not such metadata.
    """
    try:
        metadata: Metadata[Any] = Metadata.from_bytes(read_plain(path))
        # Once more as JSON: what cannot be written again in the same way cannot be signed.
        metadata.signed_bytes  # noqa: B018
    except (OSError, ValueError, RecursionError, RepositoryError) as error:
        raise UpdaterError(BAD_EVENT, path=path, detail=system_words(error)[:500]) from error
    if (
        not isinstance(metadata.signed, Root if role == "root" else Targets)
        or metadata.signed.unrecognized_fields.get(ROLE_FIELD) != role
    ):
        raise UpdaterError(BAD_EVENT, path=path, detail="it holds another role")
    return metadata


def numbered_roots(directory: Path) -> list[Metadata[Root]]:
    """Read the roots that an event carries, from the first on; each follows from the one before.

    Raises:
        BadEvent: If one is missing in between, or one does not follow.
    """
    folder = directory / "roots"
    names = {path.name for path in folder.glob("*.root.json")} if folder.is_dir() else set()
    chain: list[Metadata[Root]] = []
    for number in range(1, len(names) + 1):
        path = folder / f"{number}.root.json"
        if path.name not in names:
            raise UpdaterError(BAD_EVENT, path=path, detail="roots 1 to N must all be there")
        root: Metadata[Root] = read_metadata(path, "root")
        previous = chain[-1].signed if chain else None
        try:
            follows = root.signed.version == number and bool(
                root.signed.get_root_verification_result(
                    previous, root.signed_bytes, root.signatures
                )
            )
        except ValueError as error:
            raise UpdaterError(BAD_EVENT, path=path, detail=system_words(error)) from error
        if not follows:
            raise UpdaterError(
                BAD_EVENT, path=path, detail="it does not follow from the root before it"
            )
        chain.append(root)
    return chain


def write_papers(directory: Path, papers: Mapping[str, Path | bytes]) -> None:
    """Copy what an officer reads besides the lists into a new event.

    Args:
        directory: The event.
        papers: The files, or what stands in them, by the SHA-256 that the lists name.

    Raises:
        TargetMissing: If one is not what it was when the lists were made.
    """
    durable.make_directory(directory / PAPERS)
    for sha256, path in papers.items():
        try:
            content = path if isinstance(path, bytes) else read_plain(path, MAX_PAPER_BYTES)
        except (OSError, ValueError) as error:
            raise UpdaterError(
                PUBLISHER_TARGET_MISSING, target=sha256, detail=system_words(error)
            ) from error
        if sha256_hex(content) != sha256:
            raise UpdaterError(
                PUBLISHER_TARGET_MISSING, target=sha256 if isinstance(path, bytes) else path.name
            )
        durable.write(directory / PAPERS / sha256, content)
