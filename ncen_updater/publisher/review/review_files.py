"""Files that a signer's program reads besides the metadata, each verified by its signed digest.

They are in the event (``review/<sha256>``): document and tree of each added release and of the
previous release, and all SQL files. If the staging directory or the published feed is available,
files are searched there too, and archives are unpacked to count changed lines.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tuf.api.metadata import TargetFile, Targets  # type: ignore[attr-defined]

from ncen_updater.common.i18n import N_, LazyText, LocalizedFigure
from ncen_updater.common.json_records import compute_sha256
from ncen_updater.common.progress import SilentProgress
from ncen_updater.feed.release_files import read_tree
from ncen_updater.feed.resumable_download import ExpectedFile, is_complete
from ncen_updater.formats.archive import unpack_archive
from ncen_updater.formats.release_document import ReleaseDocument, parse_release_document
from ncen_updater.formats.sql import MAX_FILE_BYTES
from ncen_updater.formats.target_names import MAX_DOCUMENT_BYTES
from ncen_updater.formats.texts.catalog import TextEntry, format_key
from ncen_updater.formats.texts.overlay_files import MAX_OVERLAY_FILE_BYTES, list_overlay_files
from ncen_updater.formats.tree import MAX_TREE_BYTES, Tree, TreeEntry
from ncen_updater.publisher.build.release_build import list_files
from ncen_updater.publisher.errors import BuildError
from ncen_updater.publisher.feed.feed_directory import get_target_file_name
from ncen_updater.publisher.lint.overlay_rules import format_line, read_shipped_catalog
from ncen_updater.publisher.signing.event_files import (
    REVIEW_DIRECTORY,
    find_previous_document,
    list_overlay_digests,
    parse_document_version,
    read_regular_file,
)
from ncen_updater.publisher.signing.signing_event import SigningEvent
from ncen_updater.publisher.signing.value_format import format_change


@dataclass(frozen=True)
class ReviewSources:
    """Directories with files, besides the event.

    Attributes:
        staging: Output directory of ``build``.
        feed: The published feed.
        scratch: An empty directory for unpacked archives.
    """

    staging: Path | None = None
    feed: Path | None = None
    scratch: Path | None = None


@dataclass(frozen=True)
class ReviewedRelease:
    """A release of an event, or the previous one, as far as its files could be read.

    Attributes:
        document: The release document.
        tree: The tree; None if it is not available.
        sql: Content of each SQL file, by path.
        texts: Content of each overlay file, by path.
        missing: Files that were not found.
        unpacked: Directory of the unpacked archive; None if it is not available.
    """

    document: ReleaseDocument
    tree: Tree | None
    sql: Mapping[str, bytes]
    missing: tuple[str, ...] = ()
    unpacked: Path | None = None
    texts: Mapping[str, bytes] = field(default_factory=dict)

    def read_file(self, entry: TreeEntry) -> bytes | None:
        """Read a file of the release, if its archive is available."""
        if self.unpacked is None:
            return None
        return read_regular_file(self.unpacked / entry.path, max(entry.size, 1))


@dataclass
class ReviewFiles:
    """Finds files by their signed digest in all available directories.

    Attributes:
        event: The event.
        sources: Further directories.
    """

    event: SigningEvent
    sources: ReviewSources

    def _list_candidates(self, name: str, sha256: str, length: int) -> Iterator[Path]:
        yield self.event.directory / REVIEW_DIRECTORY / sha256
        if self.sources.staging is not None:
            yield self.sources.staging / "targets" / name
        if self.sources.feed is not None:
            hashed = get_target_file_name(TargetFile(length, {"sha256": sha256}, name))
            yield self.sources.feed / "targets" / hashed

    def find_file(self, name: str, sha256: str, length: int, limit: int) -> bytes | None:
        """Return the content of a small file with this digest; None if it is not found."""
        for path in self._list_candidates(name, sha256, length):
            try:
                content = read_regular_file(path, limit)
            except (OSError, ValueError):
                continue  # try the next place; missing files are reported to the signer
            if compute_sha256(content) == sha256:
                return content
        return None

    def load_release(self, name: str, target: TargetFile) -> ReviewedRelease | None:
        """Load a release by the document in the metadata; return None if that is not found."""
        content = self.find_file(name, target.hashes["sha256"], target.length, MAX_DOCUMENT_BYTES)
        if content is None:
            return None
        document = parse_release_document(content, name)
        tree = self._find_tree(document)
        unpacked = self._unpack_archive(document, tree) if tree is not None else None
        missing = [] if tree is not None else [document.tree.target]
        sql = self._find_files(document.migrations, unpacked, MAX_FILE_BYTES, missing)
        overlay_digests = list_overlay_digests(document, tree) if tree is not None else {}
        texts = self._find_files(overlay_digests, unpacked, MAX_OVERLAY_FILE_BYTES, missing)
        if tree is not None:
            _require_sql_in_tree(document, tree)
        return ReviewedRelease(document, tree, sql, tuple(missing), unpacked, texts)

    def _find_files(
        self, wanted: Mapping[str, str], unpacked: Path | None, most: int, missing: list[str]
    ) -> dict[str, bytes]:
        """Return files of a release by path, verified; add those not found to ``missing``."""
        sought: dict[str, bytes] = {}
        for path, digest in sorted(wanted.items()):
            found = self.find_file(path, digest, 0, most)
            if found is None and unpacked is not None:
                found = read_regular_file(unpacked / path, most)
                found = found if compute_sha256(found) == digest else None
            if found is None:
                missing.append(path)
            else:
                sought[path] = found
        return sought

    def _find_tree(self, document: ReleaseDocument) -> Tree | None:
        ref = document.tree
        for path in self._list_candidates(ref.target, ref.sha256, ref.length):
            try:
                whole = compute_sha256(read_regular_file(path, MAX_TREE_BYTES)) == ref.sha256
            except (OSError, ValueError):
                continue
            if whole:
                return read_tree(document, path)
        return None

    def _unpack_archive(self, document: ReleaseDocument, tree: Tree) -> Path | None:
        ref = document.archive
        if self.sources.scratch is None:
            return None
        for path in self._list_candidates(ref.target, ref.sha256, ref.length):
            if is_complete(path, ExpectedFile(ref.target, ref.length, ref.sha256)):
                place = self.sources.scratch / document.tree_digest
                if not place.exists():
                    unpack_archive(path, tree, place, SilentProgress())
                return place
        return None


def _require_sql_in_tree(document: ReleaseDocument, tree: Tree) -> None:
    """Check that the SQL files shown are those of the release."""
    files = list_files(tree)
    for path, digest in document.migrations.items():
        if files.get(path) != digest:
            reason = f"the tree has no {path} with the digest in the release document"
            raise BuildError(path=document.tree.target, reason=reason)


def list_added_releases(event: SigningEvent, role: str) -> list[tuple[str, TargetFile]]:
    """Return the releases that a product's draft adds or replaces, oldest first.

    Two names may have equal versions, such as 3.3 and 3.3.0: both are releases.
    """
    new, base = event.drafts[role].signed, event.base.get(role)
    if not isinstance(new, Targets):
        return []
    known = base.signed.targets if base else {}
    added = [
        (version, name)
        for name, target in new.targets.items()
        if (name not in known or known[name].hashes != target.hashes)
        and (version := parse_document_version(name))
    ]
    return [(name, new.targets[name]) for _, name in sorted(added)]


def find_older_document(
    document: ReleaseDocument, event: SigningEvent, role: str
) -> TargetFile | None:
    """Return the document of the previous release, among published and drafted ones."""
    base = event.base.get(role)
    return find_previous_document(
        document.manifest,
        {**(base.signed.targets if base else {}), **event.drafts[role].signed.targets},
    )


Forms = tuple[str, ...]


def format_overlay_changes(
    release: ReviewedRelease, last: ReviewedRelease | None
) -> Iterator[LazyText]:
    """Describe each new, changed or removed text or setting, in every language."""
    after, before = (_texts(one) if one is not None else {} for one in (release, last))
    for path in sorted(after.keys() | before.keys()):
        now, then = after.get(path, {}), before.get(path, {})
        for key in dict.fromkeys((*now, *then)):
            if now.get(key) != then.get(key):
                old, new = (quote_forms(side.get(key, ())) for side in (then, now))
                place = LazyText(
                    N_("{name}: {text}"), {"name": path, "text": format_line(key, None)}
                )
                yield format_change(
                    place, old if key in then else None, new if key in now else None
                )


def _texts(release: ReviewedRelease) -> dict[str, Mapping[str, Forms]]:
    found: dict[str, Mapping[str, Forms]] = {}
    for file in list_overlay_files(release.document.manifest.overlays, release.texts):
        catalogue = read_shipped_catalog(file.declared, release.texts[file.path])
        if catalogue is not None:
            entries = {format_key(key): _forms(entry) for key, entry in catalogue.entries.items()}
            header = {name: (value,) for name, value in catalogue.header.items()}
            found[file.path] = header | entries
    return found


def _forms(entry: TextEntry) -> Forms:
    if entry.is_empty:
        return tuple(form for form in (entry.source, entry.source_plural) if form is not None)
    return entry.plural or (str(entry.value),)


def quote_forms(forms: tuple[str, ...]) -> LocalizedFigure:
    """Return all forms of a text, in the quotation marks of the reader's language."""
    english, french = (
        " / ".join(f"{begin}{format_line(form, None)}{end}" for form in forms) or "-"
        for begin, end in (("“", "”"), ("« ", " »"))
    )
    return LocalizedFigure(english, fr=french)
