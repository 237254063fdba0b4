"""Pages of releases that exist in memory only: what a signer reads, without a ceremony."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from html import unescape
from typing import Any

from ncen_updater.formats.manifest import fill_engine, parse_manifest
from ncen_updater.formats.release_document import ReleaseDocument
from ncen_updater.formats.sql import ENGINE_NAMES
from ncen_updater.formats.tree import EntryType, Tree, TreeEntry
from ncen_updater.publisher.review.event_review import (
    EventReview,
    ReleaseReview,
    build_release_page,
)
from ncen_updater.publisher.review.review_files import ReviewedRelease
from ncen_updater.publisher.review.text_page import (
    format_annex,
    format_details,
    format_summary,
    render_html,
)
from ncen_updater.publisher.signing.event_files import list_overlay_digests

#: A link, in the place of content.
Link = tuple[str]
Files = Mapping[str, str | Link]


def release(
    manifest: Mapping[str, Any], files: Files, *, executable: tuple[str, ...] = ()
) -> ReviewedRelease:
    """A release as in an event."""
    parsed = parse_manifest({"schema": 1, "product": "ncen", **manifest}, "manifest")
    digests = {
        path: hashlib.sha256(content.encode()).hexdigest()
        for path, content in files.items()
        if isinstance(content, str)
    }
    entries = tuple(
        TreeEntry(path=path, type=EntryType.FILE, mode=0o755 if path in executable else 0o644,
                  size=len(content.encode()), sha256=digests[path])
        if isinstance(content, str)
        else TreeEntry(path=path, type=EntryType.SYMLINK, mode=0o777, target=content[0])
        for path, content in sorted(files.items())
    )  # fmt: skip
    tree = Tree(entries=entries)
    named = {
        fill_engine(engine, path)
        for database in parsed.databases
        for migration in database.migrations
        for path in (migration.up, migration.down, migration.verify)
        for engine in ENGINE_NAMES
        if path
    }
    migrations = {path: digests[path] for path in sorted(named & digests.keys())}
    ref = {"target": "x", "length": 1, "sha256": "0" * 64}
    document = ReleaseDocument.model_validate(
        {"schema": 1, "manifest": parsed, "archive": ref, "tree": ref, "tree_digest": "0" * 64,
         "tree_bytes": 1, "unpacked_bytes": 1, "migrations": migrations}
    )  # fmt: skip
    texts = {path: str(files[path]).encode() for path in list_overlay_digests(document, tree)}
    sql = {path: str(files[path]).encode() for path in migrations}
    return ReviewedRelease(document, tree, sql, texts=texts)


def page_for(new: ReviewedRelease, old: ReviewedRelease | None) -> ReleaseReview:
    """The page of one release after another."""
    return build_release_page(new, old, first=old is None)


def forms_of(page: ReleaseReview) -> tuple[str, str]:
    """The page on a terminal, and as HTML."""
    whole = EventReview(
        "ncen", (), page.critical, page.warnings, page.info_count, (page,), (), (), "0" * 64
    )
    lines = (*format_summary(whole), *format_details(whole, "en"), *format_annex(whole))
    text = "\n".join(line if isinstance(line, str) else line.render() for line in lines)
    return text, unescape(render_html(whole).decode())
