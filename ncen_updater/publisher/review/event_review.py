"""Build the review page of an event, for the terminal and for paper."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tuf.api.metadata import Root, Targets  # type: ignore[attr-defined]

from ncen_updater.common.cli.render import format_date
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.findings import Finding, Severity
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import MIGRATION_IRREVERSIBLE, REVIEW_FILES_MISSING
from ncen_updater.formats.data_loss import find_data_loss
from ncen_updater.formats.manifest import Migration, fill_engine
from ncen_updater.formats.receipt import RECEIPT_ADDRESSES_FIELD
from ncen_updater.formats.sql import ENGINE_NAMES
from ncen_updater.formats.target_names import (
    AGENT_PRODUCT,
    ROLE_FIELD,
)
from ncen_updater.formats.tree import Tree
from ncen_updater.publisher.feed.role_policy import (
    POLICY_FIELD,
    read_publish_condition,
    read_retired_versions,
)
from ncen_updater.publisher.lint.overlay_rules import COUNTRY_NOTICE_CODES, SITE_BLOCKING_CODES
from ncen_updater.publisher.lint.release_lint import apply_rules
from ncen_updater.publisher.lint.rules import (
    LintedRelease,
    PreviousRelease,
    list_migration_content,
)
from ncen_updater.publisher.lint.sql_rules import get_loss_message
from ncen_updater.publisher.review.file_changes import FileChange, compare_trees, format_programs
from ncen_updater.publisher.review.mark_grouping import LocatedMark, Section, group_marks
from ncen_updater.publisher.review.review_files import (
    ReviewedRelease,
    ReviewFiles,
    ReviewSources,
    find_older_document,
    format_overlay_changes,
    list_added_releases,
)
from ncen_updater.publisher.review.statement_marks import StatementMark, defined_names, find_marks
from ncen_updater.publisher.review.weakened_protection import (
    find_release_warnings,
    find_weakened_protection,
    is_rollback_code_only,
    manifest_changes,
    manifest_marks,
)
from ncen_updater.publisher.signing.event_diff import (
    DiffLine,
    describe_event,
    format_publish_condition,
)
from ncen_updater.publisher.signing.event_files import iter_drafted_offers, list_overlay_digests
from ncen_updater.publisher.signing.signing_event import SigningEvent
from ncen_updater.publisher.signing.value_format import format_schedule


def summarize_event(event: SigningEvent) -> list[LazyText]:
    """Return the summary of an event, root first; never empty."""
    found: list[LazyText] = []
    for role, draft in sorted(event.drafts.items(), key=lambda item: item[0] != "root"):
        base = event.base.get(role)
        old, new = base.signed if base else None, draft.signed
        value: list[LazyText] = []
        if isinstance(new, Root):
            value = list(_summarize_root(old, new))
        elif isinstance(new, Targets):
            value = list(_summarize_targets(old, new))
        lasts = {"role": role, "expires": format_date(new.expires)}
        words = N_("Renews {role} unchanged until {expires}.")
        if old is None:
            words = N_("Creates {role}, empty, valid until {expires}.")
        found += value or [LazyText(words, lasts)]
    return found


def _summarize_root(old: Root | None, new: Root) -> Iterator[LazyText]:
    if old is None:
        yield LazyText(N_("Creates a new feed and decides who can sign for every site."))
    elif (old.roles, old.keys) != (new.roles, new.keys):
        yield LazyText(N_("Changes whose signatures every site trusts."))
    elif old.unrecognized_fields.get(POLICY_FIELD) != new.unrecognized_fields.get(POLICY_FIELD):
        yield LazyText(N_("Changes how long signatures stay valid."))
    addresses = new.unrecognized_fields.get(RECEIPT_ADDRESSES_FIELD)
    if addresses != (old.unrecognized_fields.get(RECEIPT_ADDRESSES_FIELD) if old else None):
        yield LazyText(N_("Changes where sites may send receipts."))


def _summarize_targets(old: Targets | None, new: Targets) -> Iterator[LazyText]:
    before = old.delegations if old else None
    if new.delegations is not None and new.delegations != before:
        products = ", ".join(sorted(new.delegations.roles or {}))
        words = N_("Decides who can sign releases of {products}.")
        yield LazyText(words, {"products": products})
    for was, offer in iter_drafted_offers(old, new):
        yield from _summarize_offer(was, offer)
    condition = read_publish_condition(new)
    if condition is not None:
        yield format_publish_condition(condition)
    earlier = read_retired_versions(old) if old else ()
    retired = [one for one in read_retired_versions(new) if one not in earlier]
    if retired:
        words = N_(
            "Retires {count} releases of {product}: sites can no longer install them. Sites that"
            " run them can still upgrade."
        )
        values = {"count": len(retired), "product": new.unrecognized_fields.get(ROLE_FIELD)}
        yield LazyText(words, values)
    gone = sorted(path for path in (old.targets if old else {}) if path not in new.targets)
    if gone and not retired:
        words = N_("Removes {count} files from the metadata.")
        yield LazyText(words, {"count": len(gone)})


def _summarize_offer(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> Iterator[LazyText]:
    values: dict[str, object] = {
        "product": new.get("product"),
        "version": new.get("version"),
        "whom": _format_audience(new),
        "when": format_schedule(new.get("waves") or []),
    }
    if old == new:
        return
    was = old or {}
    if new.get("withdrawn") != was.get("withdrawn") and new.get("withdrawn"):
        words = N_(
            "Withdraws {product} {version}: no further site installs it; sites that installed"
            " it are notified."
        )
        yield LazyText(words, values)
    elif new.get("halted") != was.get("halted") and new.get("halted"):
        words = N_("Halts {product} {version}: no further site starts the upgrade.")
        yield LazyText(words, values)
    elif new.get("withdrawn"):
        words = N_("{product} {version} stays withdrawn.")
        yield LazyText(words, values)
    elif new.get("halted"):
        words = N_(
            "{product} {version} stays halted; after the halt, it is offered to {whom}: {when}."
        )
        yield LazyText(words, values)
    elif old is None:
        words = N_("Offers {product} {version} to {whom}: {when}.")
        if new.get("required"):
            words = N_("Offers {product} {version} (required release) to {whom}: {when}.")
        yield LazyText(words, values)
    else:
        yield LazyText(N_("Offers {product} {version} to {whom}: {when} (changed)."), values)


def _format_audience(offer: Mapping[str, Any]) -> LazyText:
    countries = sorted(offer.get("countries") or [])
    waves = offer.get("waves") or []
    if not countries and waves and all(wave.get("countries") for wave in waves):
        countries = sorted({code for wave in waves for code in wave["countries"]})
    values = {"countries": ", ".join(countries) or LazyText(N_("all countries"))}
    if offer.get("channel") == "preview":
        return LazyText(N_("sites in {countries} (preview channel)"), values)
    return LazyText(N_("sites in {countries}"), values)


CHANGED_PROGRAMS_WARNING = N_("WARNING: changed executable files: {paths}")
NEW_PROGRAMS_WARNING = N_("WARNING: new executable files: {paths}")
NO_FILES = N_("no previous release to compare with")


@dataclass(frozen=True)
class SqlReview:
    """One SQL file of a new migration.

    Attributes:
        path: Path in the release.
        database: The database that it changes.
        migration: Id of the migration.
        direction: ``up``, ``down`` or ``verify``.
        lines: The complete text.
        marks: Statements to review.
    """

    path: str
    database: str
    migration: str
    direction: str
    lines: tuple[str, ...]
    marks: tuple[StatementMark, ...]

    def find_mark(self, number: int) -> StatementMark | None:
        """Return the mark of the statement that begins in this line."""
        return next((mark for mark in self.marks if mark.line == number), None)

    def is_marked(self, number: int) -> bool:
        """Return whether a line, counted from 1, belongs to a marked statement."""
        return any(mark.line <= number <= mark.last_line for mark in self.marks)


@dataclass(frozen=True)
class ReleaseReview:
    """One release that an event adds.

    Attributes:
        product: Product of the release.
        version: Version of the release.
        before: The previous version; empty for the first release.
        notes: Title and text by language.
        rollback: Effects of a rollback, in sentences.
        manifest: Fields of the manifest that differ from the previous release.
        files: Changed files since the previous release; None if they cannot be compared.
        overlays: Changed texts and settings that countries can override; None without overlays.
        sql: All SQL files of its new migrations.
        known_migration_count: Number of its migrations that were published before.
        findings: Findings of lint, run for this page.
        critical: Critical warnings about the release itself.
        warnings: Other warnings.
        info_count: Number of statements that affect only objects of the release itself.
        missing: Files that were not found and so not reviewed.
    """

    product: str
    version: str
    before: str
    notes: Mapping[str, tuple[str, str]]
    rollback: tuple[LazyText, ...]
    manifest: tuple[LazyText, ...]
    files: tuple[FileChange, ...] | None
    overlays: tuple[LazyText, ...] | None
    sql: tuple[SqlReview, ...]
    known_migration_count: int
    findings: tuple[Finding, ...]
    critical: tuple[LazyText, ...]
    warnings: tuple[LazyText, ...]
    info_count: int
    missing: tuple[str, ...] = ()

    @property
    def sections(self) -> tuple[Section, ...]:
        """Return the lists of its page."""
        of = f"{self.product} {self.version}"
        files: tuple[LazyText, ...] = (LazyText(NO_FILES),)
        if self.files is not None:
            files = tuple(change.text for change in self.files)
        found = [
            Section(N_("Changes of the manifest"), self.manifest, of),
            Section(N_("Changed files of the application"), files, of),
        ]
        if self.overlays is not None:
            words = N_("Local overlay")
            found.append(Section(words, self.overlays, of))
        return tuple(found)


@dataclass(frozen=True)
class EventReview:
    """The review page.

    Attributes:
        title: Title of the event, as its drafter wrote it.
        sentences: The summary: what happens to which sites, and when.
        critical: Critical warnings, to be decided first.
        warnings: Other warnings, which most releases have.
        info_count: Number of statements that affect only objects of the release itself.
        releases: Added releases.
        lines: All changes of the metadata, in sentences.
        annex: The digests.
        digest: Digest of the event.
    """

    title: str
    sentences: tuple[LazyText, ...]
    critical: tuple[LazyText, ...]
    warnings: tuple[LazyText, ...]
    info_count: int
    releases: tuple[ReleaseReview, ...]
    lines: tuple[DiffLine, ...]
    annex: tuple[DiffLine, ...]
    digest: str

    @property
    def annexes(self) -> tuple[Section, ...]:
        """Return the long lists, which are shown in annexes."""
        return tuple(one for page in self.releases for one in page.sections if one.is_annexed)


def build_review(
    event: SigningEvent,
    staging: Path | None = None,
    feed: Path | None = None,
    *,
    complete: bool = False,
) -> EventReview:
    """Build the review page of an event.

    Args:
        event: The loaded event.
        staging: Output directory of ``build``, if available; it allows counting changed lines.
        feed: The published feed, if available; likewise.
        complete: Whether to refuse if a file could not be read, because nobody may sign what was
            not shown.

    Raises:
        REVIEW_FILES_MISSING: If a file could not be read, and ``complete`` is set.
        BuildError, TrustError, TransferError: If files contradict each other.
    """
    with tempfile.TemporaryDirectory(prefix="nu-review-") as folder:
        scratch = Path(folder) if staging is not None else None
        evidence = ReviewFiles(event, ReviewSources(staging, feed, scratch))
        releases = tuple(_review_releases(event, evidence))
    if complete:
        for name in (name for page in releases for name in page.missing):
            raise UpdaterError(REVIEW_FILES_MISSING, name=name)
    value = describe_event(event)
    marked = [
        line.text for line in value if line.text.template.startswith(("WARNING", "WITHDRAWN"))
    ]
    critical = [*marked, *find_weakened_protection(event)]
    critical += [text for page in releases for text in page.critical]
    return EventReview(
        title=event.title,
        sentences=tuple(summarize_event(event)),
        critical=tuple({text.render(): text for text in critical}.values()),
        warnings=tuple(text for page in releases for text in page.warnings),
        info_count=sum(page.info_count for page in releases),
        releases=releases,
        lines=tuple(line for line in value if not line.annex),
        annex=tuple(line for line in value if line.annex),
        digest=event.digest,
    )


def _review_releases(event: SigningEvent, evidence: ReviewFiles) -> Iterator[ReleaseReview]:
    for role in event.drafts:
        for name, target in list_added_releases(event, role):
            shown = evidence.load_release(name, target)
            if shown is None:
                raise UpdaterError(REVIEW_FILES_MISSING, name=name)
            earlier = find_older_document(shown.document, event, role)
            last = evidence.load_release(earlier.path, earlier) if earlier else None
            page = build_release_page(shown, last, first=earlier is None)
            lost = [] if last or earlier is None else [earlier.path]
            lost += [last.document.tree.target] if last and last.tree is None else []
            lost += _list_missing_texts(shown, last) if last else []
            unread = LazyText(
                N_("WARNING: {files} not readable, therefore not shown"),
                {"files": ", ".join([*page.missing, *lost])},
            )
            if page.missing or lost:
                page = replace(
                    page,
                    missing=(*page.missing, *lost),
                    critical=(unread, *page.critical),
                )
            yield page


def _list_missing_texts(shown: ReviewedRelease, last: ReviewedRelease) -> list[str]:
    """Return the overlay files of the previous release that are missing for a comparison."""
    if last.tree is None or not shown.document.manifest.overlays:
        return []
    return [
        path for path in list_overlay_digests(last.document, last.tree) if path not in last.texts
    ]


def build_release_page(
    shown: ReviewedRelease, last: ReviewedRelease | None, *, first: bool = False
) -> ReleaseReview:
    """Build the page of one release.

    Args:
        shown: The release.
        last: The previous release; None if there is none or it could not be read.
        first: Whether there is no previous release.
    """
    manifest = shown.document.manifest
    known = {
        (database.name, migration.id): _get_migration_facts(migration, last)
        for database in (last.document.manifest.databases if last else ())
        for migration in database.migrations
    }
    migrations = [(d.name, m) for d in manifest.databases for m in d.migrations]
    # A migration published with other files, or another down migration, is shown again.
    fresh = [
        (d, m) for d, m in migrations if known.get((d, m.id)) != _get_migration_facts(m, shown)
    ]
    names = _list_names(shown) | _list_names(last)
    sql = tuple(page for item in fresh for page in _review_sql(*item, shown, names))
    files: tuple[FileChange, ...] | None = None
    before_tree = Tree(entries=()) if first else last.tree if last else None
    if shown.tree is not None and before_tree is not None:
        reported_below = {*shown.document.migrations, *shown.texts}
        old = last.read_file if last else shown.read_file
        files = tuple(
            replace(change, shown_elsewhere=change.path in reported_below)
            for change in compare_trees(before_tree, shown.tree, old, shown.read_file)
        )
    findings: tuple[Finding, ...] = ()
    if shown.tree is not None and not shown.missing:
        previous = PreviousRelease(last.document, last.tree, last.texts) if last else None
        linted = LintedRelease(manifest, shown.tree, shown.sql, shown.texts, previous)
        findings = tuple(apply_rules(linted))
    programs = tuple(c.path for c in files or () if c.is_program and not c.is_new_program)
    # Files that are executable now are listed separately from those with a program's name.
    new = [
        tuple(c.path for c in files or () if c.is_new_program and c.became_executable is runs)
        for runs in (True, False)
    ]
    reported = [text for paths in new for text in format_programs(paths, NEW_PROGRAMS_WARNING)]
    fields = manifest_changes(manifest, last.document.manifest if last else None)
    value = list(manifest_marks(fields, names))
    critical = (
        *_find_critical(shown, last, fresh, findings),
        *reported,
        *(text for bad, text in value if bad),
    )
    placed = (
        LocatedMark((page.database, page.migration, page.direction), page.path, mark)
        for page in sql
        for mark in page.marks
    )
    found = group_marks(placed, manifest.product)
    return ReleaseReview(
        product=manifest.product,
        version=manifest.version,
        before=last.document.manifest.version if last else "",
        notes={language: (n.title, n.text) for language, n in manifest.notes.items()},
        manifest=tuple(change.text for change in fields),
        rollback=tuple(_describe_rollback(fresh, shown, last, found.beyond)),
        files=files,
        overlays=tuple(format_overlay_changes(shown, last)) if manifest.overlays else None,
        sql=sql,
        known_migration_count=len(migrations) - len(fresh),
        findings=findings,
        critical=(*critical, *found.critical),
        warnings=(
            *found.warnings,
            *format_programs(programs, CHANGED_PROGRAMS_WARNING),
            *(text for bad, text in value if not bad),
            *_find_advised(findings),
        ),
        info_count=found.info_count,
        missing=shown.missing,
    )


def _get_migration_facts(migration: Migration, shown: ReviewedRelease | None) -> object:
    """Return the signed properties of a migration, independent of the paths of its files."""
    files = list_migration_content(migration, shown.document.migrations if shown else {})
    value = migration.model_dump(exclude={"up", "down", "verify"})
    return value, {key: digest for key, (_, digest) in files.items()}


def _list_names(release: ReviewedRelease | None) -> frozenset[str]:
    """Return the names that the SQL of a release defines."""
    texts = (text.decode("utf-8", "replace") for text in (release.sql if release else {}).values())
    found = (defined_names(text, engine) for text in texts for engine in ENGINE_NAMES)
    return frozenset().union(*found)


def _review_sql(
    database: str, migration: Migration, shown: ReviewedRelease, names: frozenset[str]
) -> Iterator[SqlReview]:
    def text_of(path: str | None) -> str:
        return shown.sql.get(path or "", b"").decode("utf-8", "replace")

    places = (("up", migration.up), ("down", migration.down), ("verify", migration.verify))
    for direction, place in places:
        engines: dict[str, list[str]] = {}
        for engine in ENGINE_NAMES if place else ():
            engines.setdefault(fill_engine(engine, place or ""), []).append(engine)
        for path, runs in engines.items():
            if path in shown.sql:
                text = text_of(path)
                ways = {fill_engine(engine, migration.up) for engine in runs}
                # If the engines have different up files, none of them can prove anything for a
                # shared file.
                forth = text_of(ways.pop()) if len(ways) == 1 else ""
                found = tuple(find_marks(text, runs, direction, up=forth, names=names))
                lines = tuple(text.split("\n"))
                yield SqlReview(path, database, migration.id, direction, lines, found)


def _find_critical(
    shown: ReviewedRelease,
    last: ReviewedRelease | None,
    fresh: list[tuple[str, Migration]],
    findings: tuple[Finding, ...],
) -> Iterator[LazyText]:
    manifest = shown.document.manifest
    name = f"{manifest.product} {manifest.version}"
    if manifest.product == AGENT_PRODUCT:
        words = N_(
            "WARNING: {name} is ncen-updater itself: it runs with full rights (root) on every site"
        )
        yield LazyText(words, {"name": name})
    yield from find_release_warnings(manifest, last.document.manifest if last else None)
    for database, migration in fresh:
        if migration.irreversible is not None:
            values = _name_irreversible(database, migration)
            what = LazyText(MIGRATION_IRREVERSIBLE.title, values)
            yield LazyText(N_("WARNING: {what}"), {"what": what})
    for finding in findings:
        if finding.severity is Severity.CRITICAL:
            yield LazyText(
                N_("WARNING: blocked by lint ({code}): {what}"),
                {"code": finding.code, "what": finding.title},
            )
        elif finding.code in SITE_BLOCKING_CODES:
            yield LazyText(N_("WARNING: {what}"), {"what": finding.title})


def _name_irreversible(database: str, migration: Migration) -> dict[str, object]:
    return {"migration": migration.id, "database": database, "reason": migration.irreversible}


def _find_advised(findings: tuple[Finding, ...]) -> Iterator[LazyText]:
    for finding in findings:
        if finding.code in COUNTRY_NOTICE_CODES:
            yield LazyText(N_("WARNING: {what}"), {"what": finding.title})


def _describe_rollback(
    fresh: list[tuple[str, Migration]],
    shown: ReviewedRelease,
    last: ReviewedRelease | None,
    beyond: int,
) -> Iterator[LazyText]:
    manifest = shown.document.manifest
    no_copy = is_rollback_code_only(manifest, last.document.manifest if last else None)
    if no_copy and (manifest.migrator is not None or not fresh):
        yield LazyText(N_("Rollback changes no database and keeps all records."))
        return
    if manifest.migrator is not None:
        reason = {"reason": manifest.migrator.no_rollback_reason}
        yield LazyText(N_("Rollback loses all records entered since the upgrade: {reason}"), reason)
        return
    for database, migration in fresh:
        if migration.irreversible is not None:
            values = _name_irreversible(database, migration)
            words = N_(
                "Rollback of {migration} of {database} loses all records entered since the upgrade:"
                " {reason}"
            )
            yield LazyText(words, values)
    for database, migration in fresh:
        yield from _describe_data_loss(database, migration, shown)
    if not fresh:
        yield LazyText(N_("Rollback changes no database: no new migrations."))
    elif beyond:
        words = N_("Rollback does more than undo this release: {count} statements, marked above.")
        yield LazyText(words, {"count": beyond})
    elif all(migration.irreversible is None for _, migration in fresh):
        yield LazyText(N_("Rollback keeps all records, with the SQL files below."))


def _describe_data_loss(
    database: str, migration: Migration, shown: ReviewedRelease
) -> Iterator[LazyText]:
    """Describe the data that a rollback loses, as lint and the sites compute it."""
    found: dict[tuple[str, str], LazyText] = {}
    for engine in ENGINE_NAMES:
        up, down = (fill_engine(engine, place or "") for place in (migration.up, migration.down))
        if up in shown.sql and down in shown.sql:
            one, other = (shown.sql[path].decode("utf-8", "replace") for path in (up, down))
            for loss in find_data_loss(one, other, engine):
                message = get_loss_message(loss).title
                values = {
                    "database": database,
                    "object": loss.object_name,
                    "down": down,
                    "line": loss.line,
                }
                found.setdefault((loss.object_name, message), LazyText(message, values))
    yield from found.values()
    for name in migration.data_loss or ():
        words = N_("Rollback loses the content of {database}.{object} (declared by the release).")
        yield LazyText(words, {"database": database, "object": name})
