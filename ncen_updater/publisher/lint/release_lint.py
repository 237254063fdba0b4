"""Checks of a release directory before anyone signs it.

Every rule is a function from a release to findings. Critical findings forbid the release; the
signers decide on warnings. Findings have the numbers 7101 to 7199.

Between two releases with the same schema number, sites run no migrator. So a schema number that is
not raised although a migration must run is a mistake that no later release can correct.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from packaging.version import InvalidVersion, Version

from ncen_updater.common import messages
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.findings import Finding, Severity
from ncen_updater.feed.release_files import read_tree
from ncen_updater.formats.errors import ManifestError
from ncen_updater.formats.manifest import Manifest, SchemaCompatibility, load_manifest
from ncen_updater.formats.release_document import (
    get_release_target_name,
    parse_release_document,
)
from ncen_updater.formats.rollout import find_invalid_countries
from ncen_updater.formats.target_names import AGENT_PRODUCT
from ncen_updater.formats.texts.overlay_files import MAX_OVERLAY_FILE_BYTES, list_overlay_files
from ncen_updater.publisher.build.release_build import (
    MANIFEST_NAME,
    list_files,
    list_migration_files,
    scan_release,
)
from ncen_updater.publisher.errors import BuildError
from ncen_updater.publisher.feed.feed_directory import FeedDirectory, list_offers
from ncen_updater.publisher.lint.overlay_rules import (
    check_overlay_files,
    check_overlay_history,
    check_placeholders,
    check_settings,
    format_names,
)
from ncen_updater.publisher.lint.rules import (
    LintedRelease,
    PreviousRelease,
    list_known_migrations,
    list_migration_content,
    report,
)
from ncen_updater.publisher.lint.sql_rules import (
    check_costs,
    check_down_migrations,
    check_queries,
    check_readable_files,
    check_sql_accepted,
    check_unmapped_codes,
)
from ncen_updater.publisher.new.migration_detection import is_migration_file, is_rerun_changelog
from ncen_updater.publisher.signing.event_files import find_previous_document, read_overlay_files
from ncen_updater.publisher.signing.metadata_rules import refuse_invalid_drafts

REQUIRED_LANGUAGES: Final = ("en", "fr")
SUSPICIOUS_NAMES: Final = frozenset(
    {".env", ".git", ".hg", ".svn", "id_rsa", "id_ed25519", ".pgpass"}
)
SUSPICIOUS_SUFFIXES: Final = (".p12", ".pfx", ".jks")
#: Certificates, which may be public, have these suffixes too: their content decides.
KEY_SUFFIXES: Final = (".pem", ".key")
PRIVATE_KEY: Final = b"PRIVATE KEY-----"
PEEK_BYTES: Final = 100_000
LintRule = Callable[[LintedRelease], Iterator[Finding]]


def lint_release(directory: Path, previous: PreviousRelease | None = None) -> list[Finding]:
    """Apply all rules to a release directory.

    Args:
        directory: The release directory.
        previous: The newest published release of the same product, if any.

    Returns:
        Findings, critical ones first.
    """
    try:
        manifest = load_manifest(directory / MANIFEST_NAME)
    except ManifestError as error:
        return [report(messages.INVALID_MANIFEST, mistakes=error.original_detail)]
    try:
        tree = scan_release(directory)
    except BuildError as error:
        return [report(messages.FORBIDDEN_ENTRY, reason=error.values["reason"])]
    names = frozenset(list_files(tree))
    texts = {
        file.path: _read_beginning(directory / file.path, MAX_OVERLAY_FILE_BYTES + 1)
        for file in list_overlay_files(manifest.overlays, names)
    }
    sql = {
        path: (directory / path).read_bytes()
        for database in manifest.databases
        for migration in database.migrations
        for path in list_migration_files(migration, names)[0]
    }
    return apply_rules(
        LintedRelease(
            manifest, tree, sql, texts, previous,
            peek=lambda path: _read_beginning(directory / path, PEEK_BYTES),
        )
    )  # fmt: skip


def lint_against(feed: FeedDirectory | None, directory: Path) -> list[Finding]:
    """Apply all rules, comparing with the previous release of a feed, if any.

    Raises:
        UpdaterError: As :func:`find_previous_release`.
    """
    return lint_release(directory, find_previous_release(feed, directory) if feed else None)


def _read_beginning(path: Path, most: int) -> bytes:
    with path.open("rb") as stream:
        return stream.read(most)


def apply_rules(release: LintedRelease) -> list[Finding]:
    """Apply all rules to a release; return the findings, critical ones first."""
    found = [finding for rule in RULES for finding in rule(release)]
    order = list(Severity)
    return sorted(found, key=lambda finding: (order.index(finding.severity), finding.code))


def refuse_critical_findings(name: str, findings: Iterable[Finding]) -> None:
    """Refuse a release with a critical finding.

    Raises:
        LINT_REFUSES: With the first critical finding.
    """
    for found in findings:
        if found.severity is Severity.CRITICAL:
            raise UpdaterError(
                messages.LINT_REFUSES, name=name, what=found.title, detail=found.code
            )


def find_previous_release(feed: FeedDirectory, directory: Path) -> PreviousRelease | None:
    """Return the published release with which the one in ``directory`` is compared, if any.

    It is the newest one. A withdrawn one counts only if this release can be installed over it, or
    does not have a higher version.

    Raises:
        FEED_BROKEN: If the feed cannot be read, or a root is missing.
        DUPLICATE_KEY: If one public key has two ids.
        ReleaseDocumentError: If the published document cannot be parsed.
        TrustError: If its tree does not match the document.
        BuildError: If its archive lacks files of its tree.
    """
    try:
        manifest = load_manifest(directory / MANIFEST_NAME)
    except ManifestError:
        return None  # lint itself reports it, with every mistake
    state = feed.read_state()
    refuse_invalid_drafts(state.root.signed, state.targets.signed, {})
    role = state.delegated.get(manifest.product)
    offers = list_offers(role.signed) if role else []
    if role is None or not offers:
        return None
    newest = offers[-1]
    if manifest.release_version <= newest.release_version:
        target = role.signed.targets[get_release_target_name(manifest.product, newest.version)]
    elif (found := find_previous_document(manifest, role.signed.targets)) is not None:
        target = found
    else:
        return None
    path = feed.get_target_path(target)
    document = parse_release_document(path.read_bytes(), str(path))
    tree, archive = (
        feed.get_target_path(role.signed.targets[ref.target])
        for ref in (document.tree, document.archive)
    )
    texts = read_overlay_files(document, tree, archive)
    return PreviousRelease(document, read_tree(document, tree), texts)


def _check_version(release: LintedRelease) -> Iterator[Finding]:
    if release.before is None:
        return
    last = release.before.version
    if release.manifest.release_version <= Version(last):
        yield report(messages.VERSION_NOT_NEWER, version=release.manifest.version, last=last)
    elif not release.manifest.accepts_version(Version(last)):
        yield report(messages.NEWEST_SITES_EXCLUDED, last=last)


def _check_missing_files(release: LintedRelease) -> Iterator[Finding]:
    names = frozenset(release.files)
    for database, migration in release.iter_migrations():
        for path in list_migration_files(migration, names)[1]:
            yield report(
                messages.MIGRATION_FILE_MISSING,
                path=path,
                migration=migration.id,
                database=database,
            )
    smoke = release.manifest.smoke
    if smoke and smoke.argv[0] not in {entry.path for entry in release.tree.entries}:
        yield report(messages.SMOKE_PROGRAM_MISSING, path=smoke.argv[0])


def _check_history(release: LintedRelease) -> Iterator[Finding]:
    """Check that no published migration is edited, dropped, or preceded by a new one."""
    if release.previous is None:
        return
    published, previous = release.previous.document.migrations, release.previous.document.manifest
    edited = {p for p, digest in published.items() if release.files.get(p, digest) != digest}
    before = {
        (database.name, migration.id): list_migration_content(migration, published)
        for database in previous.databases
        for migration in database.migrations
    }
    for database, migration in release.iter_migrations():
        was = before.get((database, migration.id), {})
        for key, (path, digest) in list_migration_content(migration, release.files).items():
            _, old = was.get(key, ("", None))
            if old is not None and digest is not None and digest != old:
                edited.add(path)  # also if the migration now names another file
    for path in sorted(edited):
        yield report(messages.PUBLISHED_FILE_CHANGED, path=path, version=previous.version)
    present = {(database, migration.id) for database, migration in release.iter_migrations()}
    for database, ids in list_known_migrations(previous).items():
        for identifier in sorted(ids):
            if (database, identifier) not in present:
                yield report(
                    messages.PUBLISHED_MIGRATION_MISSING,
                    migration=identifier,
                    database=database,
                    version=previous.version,
                )
        newest = max(ids, default="")
        for name, migration in release.iter_new_migrations():
            if name == database and migration.id < newest:
                yield report(
                    messages.MIGRATION_OUT_OF_ORDER,
                    migration=migration.id,
                    database=database,
                    newest=newest,
                )


def _check_notes(release: LintedRelease) -> Iterator[Finding]:
    if not release.manifest.notes:
        yield report(messages.NOTES_MISSING)
        return
    for language in REQUIRED_LANGUAGES:
        notes = release.manifest.notes.get(language)
        if notes is None:
            yield report(messages.NOTES_LANGUAGE_MISSING, language=language)


def _check_case(release: LintedRelease) -> Iterator[Finding]:
    seen: dict[str, str] = {}
    for entry in release.tree.entries:
        alike = unicodedata.normalize("NFC", entry.path.casefold())
        other = seen.setdefault(alike, entry.path)
        if other != entry.path:
            yield report(messages.PATHS_ALIKE, first=other, second=entry.path)


def _check_rollback(release: LintedRelease) -> Iterator[Finding]:
    for database, migration in release.iter_new_migrations():
        values: dict[str, object] = {"migration": migration.id, "database": database}
        if migration.irreversible is not None:
            yield report(messages.MIGRATION_IRREVERSIBLE, reason=migration.irreversible, **values)
        if migration.verify is None:
            yield report(messages.MIGRATION_UNVERIFIED, **values)


def _check_health(release: LintedRelease) -> Iterator[Finding]:
    if release.manifest.health or release.manifest.product == AGENT_PRODUCT:
        return  # an agent confirms itself; it has no health endpoint
    serves = bool(release.manifest.databases or release.manifest.migrator)
    yield report(messages.HEALTH_PROBE_MISSING, Severity.CRITICAL if serves else Severity.WARNING)


def _check_secrets(release: LintedRelease) -> Iterator[Finding]:
    found = [entry.path for entry in release.tree.entries if _is_secret(release, entry.path)]
    if found:
        yield report(
            messages.SECRETS_SUSPECTED,
            paths=", ".join([*found[:5], *(["..."] if len(found) > 5 else [])]),
        )


def _is_secret(release: LintedRelease, path: str) -> bool:
    name = PurePosixPath(path).name
    if name in SUSPICIOUS_NAMES or name.endswith(SUSPICIOUS_SUFFIXES):
        return True
    if path not in release.files or not name.endswith(KEY_SUFFIXES):
        return False
    content = release.peek(path)
    return content is not None and PRIVATE_KEY in content


def _check_countries(release: LintedRelease) -> Iterator[Finding]:
    for code in find_invalid_countries(release.manifest.countries):
        yield report(messages.COUNTRY_UNKNOWN, country=code)


def _check_upgrade_from(release: LintedRelease) -> Iterator[Finding]:
    if not release.manifest.upgrade_from:
        yield report(messages.UPGRADE_FROM_EMPTY)


def _check_reported_version(release: LintedRelease) -> Iterator[Finding]:
    reports = release.manifest.reports
    try:
        value = Version(reports) if reports else None
    except InvalidVersion:
        return  # a name, which cannot be compared
    own = release.manifest.release_version
    if value is not None and Version(value.base_version) != Version(own.base_version):
        yield report(messages.REPORTED_VERSION_DIFFERS, version=own, reports=reports)


def check_compatibility(release: LintedRelease) -> Iterator[Finding]:
    """Compare the declared schema compatibility with that of the newest published release."""
    before, new = release.before, release.manifest.compatibility
    if new is not None and new.expand and release.manifest.migrator is None:
        yield report(messages.EXPAND_WITHOUT_MIGRATOR)
    if before is None:
        return
    old = before.compatibility
    if new is None and old is not None:
        yield report(messages.COMPATIBILITY_DROPPED, last=before.version)
    elif new is not None and old is None:
        yield report(messages.COMPATIBILITY_NEW, last=before.version)
    elif new is not None and old is not None:
        yield from _check_schema_numbers(release, before, new, old)


def _check_schema_numbers(
    release: LintedRelease, before: Manifest, new: SchemaCompatibility, old: SchemaCompatibility
) -> Iterator[Finding]:
    values: dict[str, object] = {
        "last": before.version,
        "schema": new.schema_number,
        "before": old.schema_number,
    }
    if new.schema_number < old.schema_number:
        yield report(messages.SCHEMA_NUMBER_LOWERED, **values)
        return
    if new.schema_number == old.schema_number:
        yield from _check_unchanged_schema(release, before, values)
    elif not any(release.iter_new_migrations()) and release.manifest.migrator is None:
        yield report(messages.SCHEMA_NUMBER_RAISED_IDLY, **values)
    if new.compatible_down_to < old.compatible_down_to:
        yield report(
            messages.BACK_TO_LOWERED,
            compatible_down_to=new.compatible_down_to,
            back_before=old.compatible_down_to,
            **values,
        )
    if (
        new.expand
        and release.manifest.migrator is not None
        and new.compatible_down_to > old.schema_number
    ):
        yield report(
            messages.EXPAND_NOT_FROM_LAST, compatible_down_to=new.compatible_down_to, **values
        )
    if release.manifest.migrator is not None and new.compatible_down_to > old.schema_number:
        yield report(
            messages.ROLLBACK_GIVES_UP_DATA, compatible_down_to=new.compatible_down_to, **values
        )


def _check_unchanged_schema(
    release: LintedRelease, before: Manifest, values: dict[str, object]
) -> Iterator[Finding]:
    """Check that a release with the same schema number has nothing new to migrate."""
    fresh = [migration.id for _, migration in release.iter_new_migrations()]
    if fresh:
        yield report(messages.NEW_MIGRATIONS_SAME_NUMBER, migrations=format_names(fresh), **values)
    if release.manifest.migrator is None:
        return
    if release.manifest.migrator.contract is not None:
        yield report(messages.CONTRACT_SAME_NUMBER, files="[migrator.contract]", **values)
    if before.migrator is None:
        yield report(messages.NEW_MIGRATOR_SAME_NUMBER, files="[migrator]", **values)
    own, others = _list_new_migration_files(release)
    for paths, severity in ((own, Severity.CRITICAL), (others, Severity.WARNING)):
        if paths:
            yield report(
                messages.NEW_FILES_SAME_NUMBER, severity, files=format_names(paths), **values
            )


def _list_new_migration_files(release: LintedRelease) -> tuple[list[str], list[str]]:
    """Return the new migration files of the application, and those of its libraries.

    The application may not use the part of a library to which its migration belongs.
    """
    if release.previous is None or release.previous.tree is None:
        return [], []
    before = list_files(release.previous.tree)
    found: tuple[list[str], list[str]] = ([], [])
    libraries = {
        str(PurePosixPath(path).parents[1])
        for path in release.files
        if PurePosixPath(path).parent.name.endswith(".dist-info")
    }
    for path, digest in sorted(release.files.items()):
        was = before.get(path)
        if (was is None and is_migration_file(path)) or (
            was != digest and is_rerun_changelog(path)
        ):
            others = any(str(place) in libraries for place in PurePosixPath(path).parents)
            found[others].append(path)
    return found


RULES: Final[tuple[LintRule, ...]] = (
    _check_version,
    _check_reported_version,
    _check_missing_files,
    _check_history,
    _check_notes,
    _check_case,
    check_readable_files,
    check_sql_accepted,
    _check_rollback,
    check_down_migrations,
    check_costs,
    check_queries,
    check_unmapped_codes,
    _check_health,
    _check_secrets,
    _check_upgrade_from,
    check_compatibility,
    _check_countries,
    check_overlay_files,
    check_placeholders,
    check_settings,
    check_overlay_history,
)
