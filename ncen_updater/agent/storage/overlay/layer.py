"""The country's layer of one site: what it has merged, how it is built, and which is in use.

``<merged>/<version>-<digest>/`` holds every merged file at the path that it has in the slot, and is
never changed; ``<merged>/current`` chooses one. It is built aside under ``.partial`` and flushed
before it gets its name, so a name is always a whole directory.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from packaging.version import Version

from ncen_updater.agent.storage.overlay.coverage import Coverage, coverage
from ncen_updater.agent.storage.overlay.merge import (
    BLOCKING,
    KeyOutcome,
    Made,
    MadeFor,
    Merged,
    Told,
    merge_settings,
    merge_texts,
)
from ncen_updater.agent.storage.overlay.own_files import Files, Found, parsed
from ncen_updater.agent.storage.slots.link import version_of_name
from ncen_updater.agent.storage.slots.store import SlotStore
from ncen_updater.common import atomic_files as durable
from ncen_updater.common.bounded_io import parse_json, read_file
from ncen_updater.common.canonical_json import canonical_json, sha256_hex
from ncen_updater.common.directory_handle import DirectoryHandle
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import OVERLAY_NOT_WRITTEN
from ncen_updater.formats.manifest import LANGUAGE, CarriedKind, CarriedManifest
from ncen_updater.formats.texts.carried_files import rendered
from ncen_updater.formats.texts.catalogue import Catalogue, Unusable
from ncen_updater.formats.texts.readers import FORMATS, compiled
from ncen_updater.formats.texts.shipped import Shipped, shipped_of

CURRENT = "current"
PARTIAL = ".partial"
MADE_FOR = ".made-for.json"
MAX_MADE_FOR = 100_000_000
WRITABLE = 0o222

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Problem:
    """A file that cannot be used.

    Attributes:
        path: Of the country's file, or of the release's.
        why: For people.
        line: Where, if that is known.
        shipped: Whether it is the release's.
    """

    path: str
    why: str
    line: int | None = None
    shipped: bool = False


@dataclass(frozen=True)
class FileReport:
    """What becomes of one file.

    Attributes:
        declared: What the release says of it.
        path: Its path in the slot, and below the directory of what is merged.
        own: Its path below the country's directory.
        language: Which; None for settings.
        told: Every key that people may want to know of.
        coverage: Translations: how much there is.
        problem: Why it was not merged; then the release's is used as it is.
    """

    declared: CarriedManifest
    path: str
    own: str
    language: str | None = None
    told: tuple[Told, ...] = ()
    coverage: Coverage | None = None
    problem: Problem | None = None

    @property
    def settings(self) -> bool:
        """Whether it holds settings."""
        return self.declared.kind is CarriedKind.SETTINGS

    def of(self, *outcomes: KeyOutcome) -> tuple[Told, ...]:
        """The keys of some outcomes."""
        return tuple(item for item in self.told if item.outcome in outcomes)


@dataclass(frozen=True)
class LayerReport:
    """What becomes of everything that the country owns.

    Attributes:
        files: One a file and language.
        settings: Digest of the country's settings, which an approval is bound to; None without any.
    """

    files: tuple[FileReport, ...] = ()
    settings: str | None = None

    @property
    def blocking(self) -> tuple[FileReport, ...]:
        """Files of settings with which the release cannot run."""
        return tuple(f for f in self.files if f.settings and (f.problem or f.of(*BLOCKING)))


@dataclass(frozen=True)
class _One:
    """One merged file, with its bytes."""

    report: FileReport
    content: bytes | None
    compiled: bytes | None = None
    like: Found | None = None
    made_for: MadeFor | None = None
    values: tuple[tuple[str, str], ...] = ()


class Layer:
    """What one country owns, and what is merged of it.

    Args:
        own: The country's directory; only read.
        merged: Where the agent puts what it merges.
        slots: The releases.
    """

    def __init__(self, own: Path, merged: Path, slots: SlotStore) -> None:
        self._own = own
        self._merged = merged
        self._slots = slots

    @property
    def own(self) -> Path:
        """The country's directory."""
        return self._own

    @property
    def merged(self) -> Path:
        """Where what is merged lies."""
        return self._merged

    def carried(self, version: Version) -> tuple[CarriedManifest, ...]:
        """What a release says that it carries."""
        return self._slots.document(version).manifest.carried

    # ---- what will be --------------------------------------------------------------------------

    def report(self, origin: Version | None, target: Version) -> LayerReport:
        """Say what becomes of each key. Changes nothing.

        Args:
            origin: The release that is left; None to look at what runs.
            target: The release that is gone to; its slot must be built.
        """
        files, values = [], []
        for one in self._each(origin, target):
            files.append(one.report)
            values += [(one.report.path, *value) for value in one.values]
        digest = sha256_hex(canonical_json([list(v) for v in values])) if values else None
        return LayerReport(tuple(files), digest)

    def _each(
        self, origin: Version | None, target: Version, extra: Mapping[str, MadeFor] | None = None
    ) -> Iterator[_One]:
        before = {item.overlay: item for item in self._left(origin)}
        kept = self._kept_made_for()
        for path, made_for in (extra or {}).items():
            # What did not come back this time is still made for what it was made for.
            kept[path] = {**kept.get(path, {}), **made_for}
        for declared in self.carried(target):
            then = before.get(declared.overlay)
            if then is not None and origin is not None and origin > target:
                back = {new: old for old, new in then.renamed.items()}
                declared = declared.model_copy(update={"renamed": back})  # noqa: PLW2901
            for language in self._languages(declared, target):
                yield self._one(declared, then, origin, target, language, kept)

    def _left(self, origin: Version | None) -> tuple[CarriedManifest, ...]:
        """What the release carries that is left; damage to it bars no way."""
        try:
            return self.carried(origin) if origin is not None else ()
        except UpdaterError as error:
            logger.warning("the release that is left cannot be compared with: %s", error)
            return ()

    def _languages(self, declared: CarriedManifest, target: Version) -> tuple[str | None, ...]:
        if declared.kind is CarriedKind.SETTINGS:
            return (None,)
        shipped = Files(self._slots.path(target)).languages(declared.slot)
        own = Files(self._own).languages(declared.overlay)
        return tuple(sorted({*shipped, *own}))

    def _one(
        self,
        declared: CarriedManifest,
        then: CarriedManifest | None,
        origin: Version | None,
        target: Version,
        language: str | None,
        kept: Mapping[str, MadeFor],
    ) -> _One:
        path, own_path = rendered(declared.slot, language), rendered(declared.overlay, language)
        report = FileReport(declared, path, own_path, language)
        shipped = _read(Files(self._slots.path(target)), path)
        try:
            theirs = self.sources(declared, target, language)
        except Unusable as error:
            problem = Problem(path, error.why, error.line, shipped=True)
            return _One(replace(report, problem=problem), _content(shipped))
        base = None
        if then is not None and origin is not None:
            # What cannot be read of the release that is left changes no outcome but "unchanged".
            with contextlib.suppress(Unusable):
                base = self.sources(then, origin, language)
        try:
            found = Files(self._own).read(own_path)
            own = parsed(found, declared)
        except Unusable as error:
            problem = Problem(own_path, error.why, error.line)
            nothing = self._merge(declared, base, theirs, Catalogue(), {})
            cover = _cover(declared, language, base, theirs, Catalogue(), nothing)
            return _One(replace(report, problem=problem, coverage=cover), _content(shipped))
        merged = self._merge(declared, base, theirs, own, kept.get(path, {}))
        cover = _cover(declared, language, base, theirs, own, merged)
        report = replace(report, told=merged.told, coverage=cover)
        if found is None:
            # As it was signed, with its comments; and no file where there is nothing to say.
            content = _content(shipped)
            machine = compiled(merged.catalogue) if declared.compiled and shipped else None
        else:
            content, machine = _written(declared, merged.catalogue)
        values = tuple((str(key), entry.digest) for key, entry in own.entries.items())
        return _One(
            report, content, machine, found, merged.made_for, values if report.settings else ()
        )

    @staticmethod
    def _merge(
        declared: CarriedManifest,
        base: Shipped | None,
        theirs: Shipped,
        own: Catalogue,
        made_for: MadeFor,
    ) -> Merged:
        if declared.kind is CarriedKind.SETTINGS:
            return merge_settings(declared, base, theirs, own)
        return merge_texts(declared, base, theirs, own, made_for)

    def sources(self, declared: CarriedManifest, version: Version, language: str | None) -> Shipped:
        """What a release ships in one language, and what that translates.

        Raises:
            Unusable: If a file of the release cannot be read.
        """
        files = Files(self._slots.path(version))
        return shipped_of(declared, language, lambda path: parsed(files.read(path), declared))

    def own_catalogue(self, declared: CarriedManifest, language: str) -> Catalogue:
        """What the country has in one language.

        Raises:
            Unusable: If its file cannot be read.
        """
        return parsed(Files(self._own).read(rendered(declared.overlay, language)), declared)

    def new_language(self, version: Version, language: str) -> tuple[FileReport, ...]:
        """The files of translations that a release names, for a language that need not be there."""
        return tuple(
            FileReport(
                item, rendered(item.slot, language), rendered(item.overlay, language), language
            )
            for item in self.carried(version)
            if item.kind is CarriedKind.TRANSLATIONS and re.fullmatch(LANGUAGE, language)
        )

    def write_own(self, declared: CarriedManifest, language: str, own: Catalogue) -> None:
        """Put texts into the country's own file; that of before stays beside it, hidden.

        Raises:
            UpdaterError: If it cannot be written.
        """
        path = rendered(declared.overlay, language)
        directory, _, name = path.rpartition("/")
        content = _encoded(FORMATS[declared.format].write(own), declared)
        try:
            durable.make_directory(self._own)
            with contextlib.closing(DirectoryHandle.without_links(self._own)) as handle:
                if directory:
                    handle.ensure(directory)
                before = _read(Files(self._own), path)
                if before is not None:
                    handle.replace(f"{directory}/.{name}.before".lstrip("/"), before.content)
                handle.replace(path, content)
        except OSError as error:
            raise UpdaterError(
                OVERLAY_NOT_WRITTEN, path=self._own / path, detail=str(error)
            ) from error

    # ---- what is -------------------------------------------------------------------------------

    def chosen(self) -> str | None:
        """The name of the directory in use; None where nothing was merged yet."""
        try:
            return (self._merged / CURRENT).readlink().name
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UpdaterError(
                OVERLAY_NOT_WRITTEN, path=self._merged / CURRENT, detail=str(error)
            ) from error

    def is_of(self, version: Version) -> bool:
        """Whether what is in use was merged for a release."""
        name = self.chosen()
        return name is not None and name.rpartition("-")[0] == str(version)

    def build(
        self, origin: Version | None, target: Version, extra: Mapping[str, MadeFor] | None = None
    ) -> str:
        """Merge and write; return the name of the directory, which nothing uses yet.

        Raises:
            UpdaterError: If it cannot be written.
        """
        place = self._merged / f"{target}{PARTIAL}"
        try:
            durable.make_directory(self._merged, exactly=True)
            shutil.rmtree(place, ignore_errors=True)
            durable.make_directory(place, exactly=True)
            digest = hashlib.sha256()
            kept: list[tuple[str, MadeFor]] = []
            for one in self._each(origin, target, extra):
                for path, content in _outputs(one):
                    durable.make_directory((place / path).parent, exactly=True)
                    _write(place / path, content, one.like)
                    # Who may read it is a part of what it is: settings may hold secrets.
                    whose = (one.like.mode, one.like.uid, one.like.gid) if one.like else ()
                    digest.update(repr((path, content, whose)).encode())
                if one.made_for:
                    kept.append((one.report.path, one.made_for))
            record = _record(kept)
            (place / MADE_FOR).write_bytes(record)
            digest.update(record)
            name = f"{target}-{digest.hexdigest()[:12]}"
            if (self._merged / name).exists():
                shutil.rmtree(place)
            else:
                durable.flush_filesystem(place)
                durable.rename(place, self._merged / name)
        except OSError as error:
            raise UpdaterError(OVERLAY_NOT_WRITTEN, path=self._merged, detail=str(error)) from error
        return name

    def choose(self, name: str | None) -> None:
        """Use one of the directories, or none."""
        link = self._merged / CURRENT
        try:
            if name is None:
                durable.remove(link)
            else:
                durable.symlink(name, link)
        except OSError as error:
            raise UpdaterError(OVERLAY_NOT_WRITTEN, path=link, detail=str(error)) from error

    def collect(self) -> None:
        """Remove what was merged for releases whose slots are gone, and what builds left."""
        used, versions = self.chosen(), self._slots.versions()
        if not self._merged.is_dir():
            return
        for item in sorted(self._merged.iterdir()):
            version = version_of_name(item.name.rpartition("-")[0])
            if durable.is_leftover(item):
                durable.remove(item)  # a link that was killed before it got its name
                continue
            left = item.name.endswith(PARTIAL) or (version is not None and version not in versions)
            if left and item.name != used and not item.is_symlink():
                shutil.rmtree(item, ignore_errors=True)

    def unnamed(self, version: Version, besides: Iterable[Path] = ()) -> tuple[str, ...]:
        """The country's files that no ``[[carried]]`` of a release names: none uses them."""
        files = Files(self._own)
        named = set()
        for declared in self.carried(version):
            languages: tuple[str | None, ...] = (None,)
            if declared.kind is CarriedKind.TRANSLATIONS:
                languages = files.languages(declared.overlay)
            named |= {rendered(declared.overlay, language) for language in languages}
        others = [path for path in besides if path.is_relative_to(self._own)]
        return tuple(
            sorted(
                name
                for name in files.all_names()
                if name not in named
                and not any((self._own / name).is_relative_to(path) for path in others)
            )
        )

    def _kept_made_for(self) -> dict[str, MadeFor]:
        """What the texts in use were made for; nothing where nothing was kept.

        What cannot be read counts as nothing: then texts count as made for what runs.
        """
        try:
            data = parse_json(read_file(self._merged / CURRENT / MADE_FOR, MAX_MADE_FOR))
            return {
                path: {tuple(key): Made(made, tuple(source)) for key, made, source in rows}
                for path, rows in data.items()
            }
        except (OSError, ValueError, TypeError, AttributeError):
            return {}


def _read(files: Files, path: str) -> Found | None:
    try:
        return files.read(path)
    except Unusable:
        return None


def _content(found: Found | None) -> bytes | None:
    return found.content if found is not None else None


def _written(declared: CarriedManifest, catalogue: Catalogue) -> tuple[bytes, bytes | None]:
    """A file as the application reads it, and as machines do where the release wants that."""
    text = FORMATS[declared.format].write(catalogue)
    return _encoded(text, declared), compiled(catalogue) if declared.compiled else None


def _encoded(text: str, declared: CarriedManifest) -> bytes:
    return text.encode(declared.encoding, "xmlcharrefreplace")


def _cover(
    declared: CarriedManifest,
    language: str | None,
    base: Shipped | None,
    theirs: Shipped,
    own: Catalogue,
    merged: Merged,
) -> Coverage | None:
    if language is None:
        return None
    return coverage(language, declared.areas, base, theirs, own, merged)


def _outputs(one: _One) -> Iterator[tuple[str, bytes]]:
    if one.content is not None:
        yield one.report.path, one.content
    if one.compiled is not None:
        yield one.report.path.removesuffix(".po") + ".mo", one.compiled


def _write(path: Path, content: bytes, like: Found | None) -> None:
    """Write a file that nothing uses yet; readable as the country's own is."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
        if like is not None and os.geteuid() == 0:
            os.fchown(stream.fileno(), like.uid, like.gid)
        os.fchmod(stream.fileno(), (like.mode & 0o777 & ~WRITABLE) | 0o400 if like else 0o644)


def _record(kept: Iterable[tuple[str, MadeFor]]) -> bytes:
    return json.dumps(
        {
            path: [[list(key), made.digest, list(made.source)] for key, made in made_for.items()]
            for path, made_for in kept
        },
        ensure_ascii=False,
        separators=(",", ":"),
    ).encode()
