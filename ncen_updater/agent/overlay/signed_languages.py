"""The signed languages that a site has taken: one file each, for the release that it is signed for.

They lie in ``languages/`` beside what is merged, as ``<version>.<language>.json``, and are what was
verified when they were taken. A release uses the newest of each language that is not for a later
one: in a release that none was signed for yet, the texts that stayed the same stay translated.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from packaging.version import Version

from ncen_updater.agent.overlay.own_files import Files
from ncen_updater.agent.slots.link import version_of_name
from ncen_updater.common import atomic_files as durable
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import OVERLAY_NOT_WRITTEN
from ncen_updater.formats.errors import BadLanguage
from ncen_updater.formats.language import LanguageDocument, parse_language_document
from ncen_updater.formats.manifest import LANGUAGE
from ncen_updater.formats.texts.catalogue import Unusable

SUFFIX = ".json"


@dataclass(frozen=True)
class TakenLanguage:
    """A signed language that was taken.

    Attributes:
        version: The release that it is signed for.
        language: Which.
    """

    version: Version
    language: str

    @property
    def name(self) -> str:
        """Of its file."""
        return f"{self.version}.{self.language}{SUFFIX}"


class SignedLanguages:
    """Those of one site.

    Args:
        directory: Where they lie; it need not be there.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def taken(self) -> tuple[TakenLanguage, ...]:
        """All of them, for older releases first."""
        found = []
        for name in Files(self._directory).all_names():
            version, _, language = name.removesuffix(SUFFIX).rpartition(".")
            known = version_of_name(version)
            if known is not None and name.endswith(SUFFIX) and re.fullmatch(LANGUAGE, language):
                found.append(TakenLanguage(known, language))
        return tuple(sorted(found, key=lambda one: (one.version, one.language)))

    def used_by(self, release: Version) -> dict[str, TakenLanguage]:
        """What a release uses, by language: the newest that is not for a later one."""
        return {one.language: one for one in self.taken() if one.version <= release}

    def read(self, taken: TakenLanguage) -> LanguageDocument:
        """Read one.

        Raises:
            Unusable: If it is not what was taken.
        """
        found = Files(self._directory).read(taken.name)
        if found is None:
            raise Unusable("it is not there")
        try:
            document = parse_language_document(found.content, taken.name, lenient=True)
        except BadLanguage as error:
            raise Unusable(error.detail or str(error)) from error
        if (Version(document.version), document.language) != (taken.version, taken.language):
            raise Unusable("it is another language than its name says")
        return document

    def revision(self, taken: TakenLanguage) -> int | None:
        """Which revision was taken; None where it cannot be read."""
        with contextlib.suppress(Unusable):
            return self.read(taken).revision
        return None

    def keep(self, document: LanguageDocument) -> TakenLanguage:
        """Take one that was verified, in the place of an earlier revision.

        Raises:
            UpdaterError: If it cannot be written.
        """
        taken = TakenLanguage(Version(document.version), document.language)
        with self._writing(taken) as path:
            durable.make_directory(self._directory)
            durable.write(path, document.canonical())
        return taken

    def drop(self, taken: TakenLanguage) -> None:
        """Take one back; does nothing where there is none.

        Raises:
            UpdaterError: If it cannot be removed.
        """
        with self._writing(taken) as path:
            if self._directory.is_dir():
                durable.remove(path)

    def collect(self, releases: tuple[Version, ...]) -> None:
        """Remove what no release that is here, nor any later one, would use.

        And what a write that was killed left under its temporary name.
        """
        with contextlib.suppress(OSError):
            for item in sorted(self._directory.iterdir()):
                if durable.is_leftover(item):
                    durable.remove(item)
        if not releases:
            return
        oldest = self.used_by(min(releases))
        for taken in self.taken():
            if taken.version < min(releases) and oldest[taken.language] != taken:
                self.drop(taken)

    @contextlib.contextmanager
    def _writing(self, taken: TakenLanguage) -> Iterator[Path]:
        path = self._directory / taken.name
        try:
            yield path
        except OSError as error:
            raise UpdaterError(OVERLAY_NOT_WRITTEN, path=path, detail=str(error)) from error
