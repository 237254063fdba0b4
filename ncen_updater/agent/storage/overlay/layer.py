"""Local overlay of one site: its merged directories, how they are built, and which is in use.

``<merged>/<version>-<digest>/`` contains every merged file at its path in the slot, and is never
changed; ``<merged>/current`` selects one. It is built under the suffix ``.partial`` and flushed
before it gets its name, so a directory with a name is always complete.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from packaging.version import Version

from ncen_updater.agent.storage.overlay.three_way_merge import (
    BLOCKING_OUTCOMES,
    KeyOutcome,
    KeyReport,
    MergeResult,
    TextOrigin,
    TextOrigins,
    merge_settings,
    merge_texts,
)
from ncen_updater.agent.storage.slots.link import parse_slot_name
from ncen_updater.agent.storage.slots.store import SlotStore
from ncen_updater.common import atomic_files as durable
from ncen_updater.common.bounded_io import parse_json, read_file
from ncen_updater.common.directory_handle import DirectoryHandle
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import LazyText
from ncen_updater.common.json_records import compute_sha256, encode_canonical_json
from ncen_updater.common.messages import OVERLAY_NOT_WRITTEN
from ncen_updater.formats.manifest import (
    LANGUAGE_PATTERN,
    LANGUAGE_PLACEHOLDER,
    OverlayArea,
    OverlayKind,
    OverlayManifest,
)
from ncen_updater.formats.texts.catalog import (
    TextCatalog,
    TextKey,
    UnusableFileError,
    matches_pattern,
)
from ncen_updater.formats.texts.file_formats import FORMATS, compile_mo, read_catalog
from ncen_updater.formats.texts.overlay_files import (
    MAX_OVERLAY_FILE_BYTES,
    ShippedTexts,
    collect_shipped_texts,
    fill_language,
)
from ncen_updater.formats.tree import WRITE_BITS

logger = logging.getLogger(__name__)

#: Maximum number of names examined below one directory.
MAX_FILES = 10_000
CURRENT_LINK = "current"
PARTIAL_SUFFIX = ".partial"
TEXT_ORIGINS_FILE = ".text-origins.json"
MAX_TEXT_ORIGINS_BYTES = 100_000_000


@dataclass(frozen=True)
class AreaCount:
    """Number of new texts without a translation in one area.

    Attributes:
        label: Name of the area for users.
        count: Number of texts.
    """

    label: str
    count: int


@dataclass(frozen=True)
class TranslationCoverage:
    """Translation coverage of one language.

    Attributes:
        translated: Number of texts translated by the country or the release.
        total: Number of texts.
        translated_before: ``translated`` with the installed release.
        total_before: ``total`` with the installed release.
        new: New texts without a translation.
        areas: New texts in areas that the release names.
    """

    translated: int
    total: int
    translated_before: int
    total_before: int
    new: int
    areas: tuple[AreaCount, ...] = ()

    @property
    def percent(self) -> int:
        """Return the translated percentage; 100 only if all texts are translated."""
        return _compute_percent(self.translated, self.total)

    @property
    def percent_before(self) -> int:
        """Return the same with the installed release."""
        return _compute_percent(self.translated_before, self.total_before)


def _compute_percent(part: int, whole: int) -> int:
    return 100 if part >= whole else part * 100 // whole


def _count_translated(shipped: ShippedTexts, own: TextCatalog, keys: Sequence[TextKey]) -> int:
    return sum(1 for key in keys if own.find_entry(key) or shipped.own.find_entry(key))


def measure_coverage(
    areas: Sequence[OverlayArea],
    base: ShippedTexts | None,
    shipped: ShippedTexts,
    local: TextCatalog,
    merged: MergeResult,
) -> TranslationCoverage:
    """Measure the coverage of one language; unusable local texts do not count.

    Without a previous release, the figures before equal those after.
    """
    keys = tuple(shipped.list_keys())
    translated = sum(1 for key in keys if key in merged.catalogue.entries)
    old_keys = tuple(base.list_keys()) if base is not None else keys
    new = [item.key for item in merged.select(KeyOutcome.NEW)]
    counted = [AreaCount(a.label, sum(matches_pattern(key, a.keys) for key in new)) for a in areas]
    return TranslationCoverage(
        translated,
        len(keys),
        _count_translated(base, local, old_keys) if base is not None else translated,
        len(old_keys),
        len(new),
        tuple(item for item in counted if item.count),
    )


@dataclass(frozen=True)
class FileProblem:
    """A file that cannot be used.

    Attributes:
        path: Path of the local file, or of the release's.
        reason: Reason, for messages.
        line: Line number, if known.
    """

    path: str
    reason: LazyText | str
    line: int | None = None


@dataclass(frozen=True)
class FileReport:
    """Result for one file.

    Attributes:
        declared: Its declaration in the release's manifest.
        language: Its language; None for settings.
        keys: Keys with their outcomes.
        coverage: Coverage of translations.
        problem: Why it was not merged; then the release's file is used unchanged.
    """

    declared: OverlayManifest
    language: str | None = None
    keys: tuple[KeyReport, ...] = ()
    coverage: TranslationCoverage | None = None
    problem: FileProblem | None = None

    @property
    def path(self) -> str:
        """Return its path in the slot, and below the merged directory."""
        return fill_language(self.declared.release_path, self.language)

    @property
    def local_path(self) -> str:
        """Return its path below the local directory."""
        return fill_language(self.declared.site_path, self.language)

    @property
    def is_settings(self) -> bool:
        """Return whether the file contains settings."""
        return self.declared.kind is OverlayKind.SETTINGS

    def select(self, *outcomes: KeyOutcome) -> tuple[KeyReport, ...]:
        """Return the keys with one of the outcomes."""
        return tuple(item for item in self.keys if item.outcome in outcomes)


@dataclass(frozen=True)
class OverlayReport:
    """Effect of a release on the local overlay.

    Attributes:
        files: Result for each file and language.
        settings_digest: Digest of the local settings, which an approval covers; None if there are
            none.
    """

    files: tuple[FileReport, ...] = ()
    settings_digest: str | None = None

    @property
    def blocking_files(self) -> tuple[FileReport, ...]:
        """Return files of settings with which the release cannot run."""
        return tuple(
            f for f in self.files if f.is_settings and (f.problem or f.select(*BLOCKING_OUTCOMES))
        )


@dataclass(frozen=True)
class _MergedFile:
    """One merged file with its content."""

    report: FileReport
    content: bytes | None
    compiled: bytes | None = None
    local_file: OverlayFile | None = None
    text_origins: TextOrigins | None = None
    values: tuple[tuple[str, str], ...] = ()


class LocalOverlay:
    """Local overlay of a site and its merged directories.

    Args:
        local_directory: The country's directory; only read.
        merged_directory: Directory of the merged files.
        slots: The slots.
    """

    def __init__(self, local_directory: Path, merged_directory: Path, slots: SlotStore) -> None:
        self._local = local_directory
        self._merged = merged_directory
        self._slots = slots

    @property
    def local_directory(self) -> Path:
        """Return the country's directory."""
        return self._local

    @property
    def merged_directory(self) -> Path:
        """Return the directory of the merged files."""
        return self._merged

    def list_declared(self, version: Version) -> tuple[OverlayManifest, ...]:
        """List the overlays that a release declares."""
        return self._slots.read_document(version).manifest.overlays

    # ---- planned state -------------------------------------------------------------------------

    def make_report(self, origin: Version | None, target: Version) -> OverlayReport:
        """Report the outcome of each key. Changes nothing.

        Args:
            origin: The installed release; None to examine only the target.
            target: The target release; its slot must exist.
        """
        files, values = [], []
        for one in self._merge_all(origin, target):
            files.append(one.report)
            values += [(one.report.path, *value) for value in one.values]
        digest = (
            compute_sha256(encode_canonical_json([list(v) for v in values])) if values else None
        )
        return OverlayReport(tuple(files), digest)

    def _merge_all(
        self,
        origin: Version | None,
        target: Version,
        extra: Mapping[str, TextOrigins] | None = None,
    ) -> Iterator[_MergedFile]:
        before = {item.site_path: item for item in self._list_previous_declared(origin)}
        recorded = self._read_text_origins()
        for path, origins in (extra or {}).items():
            # Texts that are not among them keep their recorded origin.
            recorded[path] = {**recorded.get(path, {}), **origins}
        for declared in self.list_declared(target):
            previous = before.get(declared.site_path)
            if previous is not None and origin is not None and origin > target:
                reversed_names = {new: old for old, new in previous.renamed.items()}
                declared = declared.model_copy(update={"renamed": reversed_names})  # noqa: PLW2901
            languages, problem = self._list_languages(declared, target)
            if problem is not None:
                yield _MergedFile(FileReport(declared, problem=problem), None)
            for language in languages:
                yield self._merge_file(declared, previous, origin, target, language, recorded)

    def _list_previous_declared(self, origin: Version | None) -> tuple[OverlayManifest, ...]:
        """Return the overlays of the installed release; damage to its record blocks nothing."""
        try:
            return self.list_declared(origin) if origin is not None else ()
        except UpdaterError as error:
            logger.warning("cannot compare with the previous release: %s", error)
            return ()

    def _list_languages(
        self, declared: OverlayManifest, target: Version
    ) -> tuple[tuple[str | None, ...], FileProblem | None]:
        """Return the languages, and why a directory of them cannot be read."""
        if declared.kind is OverlayKind.SETTINGS:
            return (None,), None
        found, problem = set[str](), None
        for root, path in (
            (self._slots.get_slot_directory(target), declared.release_path),
            (self._local, declared.site_path),
        ):
            try:
                found.update(OverlayDirectory(root).list_languages(path))
            except UnusableFileError as error:
                problem = FileProblem(path, error.why)
        return tuple(sorted(found)), problem

    def _merge_file(
        self,
        declared: OverlayManifest,
        then: OverlayManifest | None,
        origin: Version | None,
        target: Version,
        language: str | None,
        recorded: Mapping[str, TextOrigins],
    ) -> _MergedFile:
        report = FileReport(declared, language)
        shipped = _read_or_none(
            OverlayDirectory(self._slots.get_slot_directory(target)), report.path
        )
        # Unchanged as signed, with its comments; and no file if the release ships none.
        content, compiled = shipped.content if shipped else None, None
        try:
            theirs = self.read_shipped(declared, target, language)
        except UnusableFileError as error:
            problem = FileProblem(report.path, error.why, error.line)
            return _MergedFile(replace(report, problem=problem), content)
        base = None
        if then is not None and origin is not None:
            # Without it, a key that the release changed can only be reported as unchanged.
            with contextlib.suppress(UnusableFileError):
                base = self.read_shipped(then, origin, language)
        local_file, own = None, TextCatalog()
        try:
            local_file = OverlayDirectory(self._local).read(report.local_path)
            own = parse_catalogue(local_file, declared)
        except UnusableFileError as error:
            local_file = None
            report = replace(report, problem=FileProblem(report.local_path, error.why, error.line))
        if language is None:
            merged = merge_settings(declared, base, theirs, own)
        else:
            merged = merge_texts(declared, base, theirs, own, recorded.get(report.path, {}))
            coverage = measure_coverage(declared.areas, base, theirs, own, merged)
            report = replace(report, coverage=coverage)
        if local_file is not None:
            content = _encode(FORMATS[declared.format].write(merged.catalogue), declared)
        if declared.compiled and content is not None:
            compiled = compile_mo(merged.catalogue)
        values = tuple((str(key), entry.digest) for key, entry in own.entries.items())
        return _MergedFile(
            report if report.problem else replace(report, keys=merged.keys),
            content,
            compiled,
            local_file,
            merged.text_origins,
            values if report.is_settings else (),
        )

    def read_shipped(
        self, declared: OverlayManifest, version: Version, language: str | None
    ) -> ShippedTexts:
        """Read the texts that a release ships in one language, and their source texts.

        Raises:
            UnusableFileError: If a file of the release cannot be read.
        """
        files = OverlayDirectory(self._slots.get_slot_directory(version))
        return collect_shipped_texts(
            declared, language, lambda path: parse_catalogue(files.read(path), declared)
        )

    def read_local(self, declared: OverlayManifest, language: str) -> TextCatalog:
        """Read the local texts of one language.

        Raises:
            UnusableFileError: If the file cannot be read.
        """
        return parse_catalogue(
            OverlayDirectory(self._local).read(fill_language(declared.site_path, language)),
            declared,
        )

    def plan_new_language(self, version: Version, language: str) -> tuple[FileReport, ...]:
        """Return reports for a release's translation files in a language that may be new."""
        return tuple(
            FileReport(item, language)
            for item in self.list_declared(version)
            if item.kind is OverlayKind.TRANSLATIONS and re.fullmatch(LANGUAGE_PATTERN, language)
        )

    def write_local(self, declared: OverlayManifest, language: str, local: TextCatalog) -> None:
        """Write texts to the local file; keep the previous file beside it, hidden.

        Raises:
            UpdaterError: If it cannot be written.
        """
        path = fill_language(declared.site_path, language)
        directory, _, name = path.rpartition("/")
        content = _encode(FORMATS[declared.format].write(local), declared)
        with _map_errors(self._local / path):
            durable.make_directory(self._local)
            with DirectoryHandle.open_without_symlinks(self._local) as handle:
                if directory:
                    handle.ensure_directory(directory)
                before = _read_or_none(OverlayDirectory(self._local), path)
                if before is not None:
                    handle.replace_file(f"{directory}/.{name}.before".lstrip("/"), before.content)
                handle.replace_file(path, content)

    # ---- present state -------------------------------------------------------------------------

    def read_current(self) -> str | None:
        """Return the name of the directory in use; None if nothing was merged yet."""
        link = self._merged / CURRENT_LINK
        with _map_errors(link), contextlib.suppress(FileNotFoundError):
            return link.readlink().name
        return None

    def is_built_for(self, version: Version) -> bool:
        """Tell whether the directory in use was merged for a release."""
        name = self.read_current()
        return name is not None and name.rpartition("-")[0] == str(version)

    def build_merged(
        self,
        origin: Version | None,
        target: Version,
        extra: Mapping[str, TextOrigins] | None = None,
    ) -> str:
        """Merge and write a directory; return its name. The link is not switched.

        Raises:
            UpdaterError: If it cannot be written.
        """
        partial = self._merged / f"{target}{PARTIAL_SUFFIX}"
        with _map_errors(self._merged):
            durable.make_directory(self._merged, exactly=True)
            shutil.rmtree(partial, ignore_errors=True)
            durable.make_directory(partial, exactly=True)
            digest = hashlib.sha256()
            merged_origins: list[tuple[str, TextOrigins]] = []
            for file in self._merge_all(origin, target, extra):
                for path, content in _list_outputs(file):
                    durable.make_directory((partial / path).parent, exactly=True)
                    _write_file(partial / path, content, file.local_file)
                    # Read permissions are part of the digest, since settings may contain secrets.
                    permissions = (
                        (file.local_file.mode, file.local_file.uid, file.local_file.gid)
                        if file.local_file
                        else ()
                    )
                    digest.update(repr((path, content, permissions)).encode())
                if file.text_origins:
                    merged_origins.append((file.report.path, file.text_origins))
            record = _encode_text_origins(merged_origins)
            (partial / TEXT_ORIGINS_FILE).write_bytes(record)
            digest.update(record)
            name = f"{target}-{digest.hexdigest()[:12]}"
            if (self._merged / name).exists():
                shutil.rmtree(partial)
            else:
                durable.sync_filesystem(partial)
                durable.rename_entry(partial, self._merged / name)
        return name

    def switch_current(self, name: str | None) -> None:
        """Select one of the directories, or none."""
        link = self._merged / CURRENT_LINK
        with _map_errors(link):
            if name is None:
                durable.remove_file(link)
            else:
                durable.replace_symlink(name, link)

    def prune(self) -> None:
        """Remove directories of releases without a slot, and remains of interrupted builds."""
        used, versions = self.read_current(), self._slots.list_versions()
        if not self._merged.is_dir():
            return
        for item in sorted(self._merged.iterdir()):
            version = parse_slot_name(item.name.rpartition("-")[0])
            if durable.is_partial_file(item):
                durable.remove_file(item)  # a link that was not renamed before a kill
                continue
            is_unused = item.name.endswith(PARTIAL_SUFFIX) or (
                version is not None and version not in versions
            )
            if is_unused and item.name != used and not item.is_symlink():
                _remove_directory(item)

    def list_undeclared(self, version: Version, excluded: Iterable[Path] = ()) -> tuple[str, ...]:
        """Return the local files that no ``[[overlays]]`` of a release declares."""
        files = OverlayDirectory(self._local)
        declared_files = set()
        for declared in self.list_declared(version):
            languages: tuple[str | None, ...] = (None,)
            if declared.kind is OverlayKind.TRANSLATIONS:
                languages = ()
                with contextlib.suppress(UnusableFileError):
                    languages = files.list_languages(declared.site_path)
            declared_files |= {
                fill_language(declared.site_path, language) for language in languages
            }
        excluded_below = [path for path in excluded if path.is_relative_to(self._local)]
        return tuple(
            sorted(
                name
                for name in files.list_files()
                if name not in declared_files
                and not any((self._local / name).is_relative_to(path) for path in excluded_below)
            )
        )

    def _read_text_origins(self) -> dict[str, TextOrigins]:
        """Read the recorded origins of the texts in use; empty if nothing was recorded.

        An unreadable file counts as empty: then texts count as written for the installed release.
        """
        try:
            data = parse_json(
                read_file(self._merged / CURRENT_LINK / TEXT_ORIGINS_FILE, MAX_TEXT_ORIGINS_BYTES)
            )
            return {
                path: {
                    tuple(key): TextOrigin(digest, tuple(source)) for key, digest, source in rows
                }
                for path, rows in data.items()
            }
        except (OSError, ValueError, TypeError, AttributeError):
            return {}


@contextlib.contextmanager
def _map_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UpdaterError(OVERLAY_NOT_WRITTEN, path=path, detail=str(error)) from error


def _remove_directory(directory: Path) -> None:
    """Remove a merged directory, as far as possible; rename it first, so that none is partial."""
    partial = directory.with_name(directory.name.removesuffix(PARTIAL_SUFFIX) + PARTIAL_SUFFIX)
    if partial != directory:
        shutil.rmtree(partial, ignore_errors=True)
        with contextlib.suppress(OSError):
            durable.rename_entry(directory, partial)
    shutil.rmtree(partial, ignore_errors=True)


def _read_or_none(files: OverlayDirectory, path: str) -> OverlayFile | None:
    try:
        return files.read(path)
    except UnusableFileError:
        return None


def _encode(text: str, declared: OverlayManifest) -> bytes:
    return text.encode(declared.encoding, "xmlcharrefreplace")


def _list_outputs(one: _MergedFile) -> Iterator[tuple[str, bytes]]:
    if one.content is not None:
        yield one.report.path, one.content
    if one.compiled is not None:
        yield one.report.path.removesuffix(".po") + ".mo", one.compiled


def _write_file(path: Path, content: bytes, like: OverlayFile | None) -> None:
    """Write a new file, readable like the local one."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
        if like is not None and os.geteuid() == 0:
            os.fchown(stream.fileno(), like.uid, like.gid)
        os.fchmod(stream.fileno(), (like.mode & 0o777 & ~WRITE_BITS) | 0o400 if like else 0o644)


def _encode_text_origins(by_path: Iterable[tuple[str, TextOrigins]]) -> bytes:
    return json.dumps(
        {
            path: [
                [list(key), origin.digest, list(origin.source)] for key, origin in origins.items()
            ]
            for path, origins in by_path
        },
        separators=(",", ":"),
    ).encode()


@dataclass(frozen=True)
class OverlayFile:
    """A file and its attributes.

    Attributes:
        content: Its bytes.
        mode: Its permissions.
        uid: Its owner.
        gid: Its group.
    """

    content: bytes
    mode: int
    uid: int
    gid: int


def parse_catalogue(file: OverlayFile | None, declared: OverlayManifest) -> TextCatalog:
    """Parse a file; return an empty catalogue if there is none.

    Raises:
        UnusableFileError: If it cannot be parsed.
    """
    return TextCatalog() if file is None else read_catalog(file.content, declared)


class OverlayDirectory:
    """Files below one directory; no link is followed, neither in the path nor at its end.

    Args:
        root: The directory; it need not exist.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def _open(self) -> DirectoryHandle:
        return DirectoryHandle.open_without_symlinks(self._root)

    def read(self, path: str) -> OverlayFile | None:
        """Read a file; None if there is none.

        Raises:
            UnusableFileError: If it is not a regular file, too large, or unreadable.
        """
        try:
            with self._open() as handle:
                descriptor = handle.open_file(path)
                with os.fdopen(descriptor, "rb") as stream:
                    info = os.fstat(stream.fileno())
                    if not stat.S_ISREG(info.st_mode):
                        raise UnusableFileError("not a regular file")
                    content = stream.read(MAX_OVERLAY_FILE_BYTES + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UnusableFileError(_format_error(error)) from error
        if len(content) > MAX_OVERLAY_FILE_BYTES:
            raise UnusableFileError(f"it has more than {MAX_OVERLAY_FILE_BYTES} bytes")
        return OverlayFile(content, stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid)

    def list_languages(self, path: str) -> tuple[str, ...]:
        """Return the languages that have a file at a path of the manifest, sorted.

        Raises:
            UnusableFileError: If their directory exists and cannot be read.
        """
        before, _, after = path.partition(LANGUAGE_PLACEHOLDER)
        directory, _, prefix = before.rpartition("/")
        suffix, _, rest = after.partition("/")
        languages = []
        try:
            names = self._list_directory(directory)
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise UnusableFileError(_format_error(error)) from error
        for name in names:
            if not (name.startswith(prefix) and name.endswith(suffix)):
                continue
            language = name[len(prefix) : len(name) - len(suffix)]
            exists = not rest or self._exists(f"{directory}/{name}/{rest}")
            if exists and re.fullmatch(LANGUAGE_PATTERN, language):
                languages.append(language)
        return tuple(sorted(languages))

    def list_files(self) -> Iterator[str]:
        """Yield the paths of all files below, up to a limit, following no link."""
        remaining = MAX_FILES
        waiting = [""]
        while waiting:
            directory, names = waiting.pop(), list[str]()
            with contextlib.suppress(OSError):
                names = self._list_directory(directory)
            for name in names:
                path = f"{directory}/{name}".lstrip("/")
                remaining -= 1
                if remaining < 0:
                    return
                if self._is_directory(path):
                    waiting.append(path)
                else:
                    yield path

    def _list_directory(self, directory: str) -> list[str]:
        with self._open() as handle, handle.scan_directory(directory) as items:
            names = [item.name for _, item in zip(range(MAX_FILES), items, strict=False)]
        return sorted(name for name in names if not name.startswith("."))

    def _exists(self, path: str) -> bool:
        return self._read_mode(path) is not None

    def _is_directory(self, path: str) -> bool:
        return stat.S_ISDIR(self._read_mode(path) or 0)

    def _read_mode(self, path: str) -> int | None:
        try:
            with self._open() as handle:
                return handle.stat_entry(path.lstrip("/")).st_mode
        except OSError:
            return None


def _format_error(error: OSError) -> str:
    if error.errno in (40, 20):  # ELOOP, ENOTDIR: a link at the end of the path, or within it
        return "it is a link, or lies behind one"
    return error.strerror or str(error)
