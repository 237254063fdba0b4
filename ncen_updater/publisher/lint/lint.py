"""What is wrong with a release directory, said before anybody signs it.

Every rule is a function from what was read to findings. Strict findings forbid the release,
advisory ones are for a person to weigh. The numbers 7101 to 7199 are those of the rules.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Final

from packaging.version import InvalidVersion, Version

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.findings import Finding, Severity
from ncen_updater.common.messages import LINT_REFUSES
from ncen_updater.feed.release_files import read_tree
from ncen_updater.formats.document import ReleaseDocument, parse_release_document, release_target
from ncen_updater.formats.errors import BadManifest
from ncen_updater.formats.manifest import Manifest, load_manifest
from ncen_updater.formats.texts.carried_files import MAX_BYTES, carried_files
from ncen_updater.formats.tree import EntryType, Tree
from ncen_updater.formats.tuf_names import AGENT_PRODUCT
from ncen_updater.publisher.build.build import MANIFEST_NAME, migration_files, scan_release
from ncen_updater.publisher.errors import BuildRefused
from ncen_updater.publisher.feed.feed import Feed
from ncen_updater.publisher.lint import rules
from ncen_updater.publisher.lint.carried_rules import (
    carried_history,
    carried_places,
    carried_settings,
    carried_there,
)
from ncen_updater.publisher.lint.compatibility import compatibility
from ncen_updater.publisher.lint.release import (
    LintedRelease,
    content_of,
    files_of,
    known_ids,
)
from ncen_updater.publisher.lint.sql import (
    questions,
    sql_is_accepted,
    unmapped_codes,
    unreadable_files,
    ways_down,
)
from ncen_updater.publisher.signing.carried_papers import carried_texts, newest_before
from ncen_updater.publisher.signing.draft import impossible, offers_of
from ncen_updater.publisher.signing.rules import refuse_unsound

LANGUAGES: Final = ("en", "fr")
SUSPICIOUS: Final = frozenset({".env", ".git", ".hg", ".svn", "id_rsa", "id_ed25519", ".pgpass"})
SUSPICIOUS_SUFFIXES: Final = (".p12", ".pfx", ".jks")
#: Certificates, which everybody may read, have these names as well: what is in them decides.
KEY_SUFFIXES: Final = (".pem", ".key")
PRIVATE_KEY: Final = b"PRIVATE KEY-----"
PEEKED: Final = 100_000
Rule = Callable[[LintedRelease], Iterator[Finding]]


def lint_release(
    directory: Path,
    previous: ReleaseDocument | None = None,
    texts_before: Mapping[str, bytes] | None = None,
    tree_before: Tree | None = None,
) -> list[Finding]:
    """Apply every rule.

    Args:
        directory: The release as it would be built.
        previous: The newest published release of the same product, where there is one.
        texts_before: Its files of texts and settings, by path.
        tree_before: Its tree.

    Returns:
        Findings, strict ones first.
    """
    try:
        manifest = load_manifest(directory / MANIFEST_NAME)
    except BadManifest as error:
        return [rules.INVALID_MANIFEST.report(mistakes=error.detail)]
    try:
        tree = scan_release(directory)
    except BuildRefused as error:
        return [rules.FORBIDDEN_ENTRY.report(reason=error.values["reason"])]
    paths = [entry.path for entry in tree.entries if entry.type is EntryType.FILE]
    texts = {
        file.path: _beginning(directory / file.path, MAX_BYTES + 1)
        for file in carried_files(manifest.carried, paths)
    }
    return lint_tree(
        manifest,
        tree,
        previous,
        lambda path: (directory / path).read_bytes(),
        texts=texts,
        texts_before=texts_before,
        tree_before=tree_before,
        peek=lambda path: _beginning(directory / path, PEEKED),
    )


def lint_against(feed: Feed | None, directory: Path) -> list[Finding]:
    """Apply every rule, against the release of a feed that comes before, where there is one.

    Raises:
        UpdaterError: As :func:`last_release`, :func:`last_texts` and :func:`last_tree`.
    """
    if feed is None:
        return lint_release(directory)
    previous = last_release(feed, directory)
    return lint_release(directory, previous, last_texts(feed, previous), last_tree(feed, previous))


def _beginning(path: Path, most: int) -> bytes:
    with path.open("rb") as stream:
        return stream.read(most)


def lint_tree(
    manifest: Manifest,
    tree: Tree,
    previous: ReleaseDocument | None,
    read_bytes: Callable[[str], bytes],
    *,
    texts: Mapping[str, bytes] | None = None,
    texts_before: Mapping[str, bytes] | None = None,
    tree_before: Tree | None = None,
    peek: Callable[[str], bytes | None] = lambda _path: None,
) -> list[Finding]:
    """Apply every rule to a release that may lie elsewhere than in a directory.

    Args:
        manifest: Its manifest.
        tree: Its tree.
        previous: The release before, where there is one.
        read_bytes: Reads one of its SQL files by its path.
        texts: Its files of texts and settings, by path.
        texts_before: Those of the release before; None where they are not at hand.
        tree_before: The tree of the release before; None likewise.
        peek: The beginning of any of its files; None where it is not at hand.

    Returns:
        Findings, strict ones first.
    """
    release = LintedRelease(
        manifest,
        tree,
        files_of(tree),
        previous,
        read_bytes,
        texts=texts or {},
        texts_before=texts_before,
        files_before=None if tree_before is None else files_of(tree_before),
        peek=peek,
    )
    found = [finding for rule in RULES for finding in rule(release)]
    order = list(Severity)
    return sorted(found, key=lambda finding: (order.index(finding.severity), finding.code))


def refuse_blocked(name: str, findings: Iterable[Finding]) -> None:
    """Refuse to go on with a release that has a strict finding.

    Raises:
        LintRefuses: With the first of them.
    """
    for found in findings:
        if found.severity is Severity.STRICT:
            raise UpdaterError(LINT_REFUSES, name=name, what=found.what, detail=found.code)


def last_release(feed: Feed, directory: Path) -> ReleaseDocument | None:
    """The published release with which the one in ``directory`` is compared, if there is one.

    The newest; one that was withdrawn only where this release can be installed over it, or has a
    number that is used.

    Raises:
        FeedBroken: If the feed cannot be read, or a root is missing in it.
        DuplicateKey: If one public key stands under two ids.
        BadRelease: If the published document cannot.
    """
    try:
        manifest = load_manifest(directory / MANIFEST_NAME)
    except BadManifest:
        return None  # lint says so itself, with every mistake
    state = feed.state()
    refuse_unsound(state.root.signed, state.targets.signed, {})
    role = state.delegated.get(manifest.product)
    offers = offers_of(role.signed) if role else []
    if role is None or not offers:
        return None
    newest = offers[-1]
    if manifest.release_version <= newest.release_version:
        target = role.signed.targets[release_target(manifest.product, newest.version)]
    elif (found := newest_before(manifest, role.signed.targets)) is not None:
        target = found
    else:
        return None
    path = feed.target_path(target)
    return parse_release_document(path.read_bytes(), str(path))


def last_texts(feed: Feed, previous: ReleaseDocument | None) -> dict[str, bytes] | None:
    """The files of texts and settings of the published release, by path; None without one.

    Raises:
        BuildRefused: If its archive does not hold them as its tree says.
        UpdaterError: If the feed cannot be read.
    """
    if previous is None:
        return None
    if not previous.manifest.carried:
        return {}
    role = feed.state().delegated[previous.manifest.product]
    listed = role.signed.targets
    return carried_texts(
        previous,
        feed.target_path(listed[previous.tree.target]),
        feed.target_path(listed[previous.archive.target]),
    )


def last_tree(feed: Feed, previous: ReleaseDocument | None) -> Tree | None:
    """The tree of the published release; None without one.

    Raises:
        TrustError: If it is not the one that the document names.
        UpdaterError: If the feed cannot be read.
    """
    if previous is None:
        return None
    listed = feed.state().delegated[previous.manifest.product].signed.targets
    return read_tree(previous, feed.target_path(listed[previous.tree.target]))


def _version(release: LintedRelease) -> Iterator[Finding]:
    if release.previous is None:
        return
    last = release.previous.manifest.version
    if release.manifest.release_version <= Version(last):
        yield rules.VERSION_NOT_NEWER.report(version=release.manifest.version, last=last)
    elif not release.manifest.accepts(Version(last)):
        yield rules.NEWEST_SITES_EXCLUDED.report(last=last)


def _missing_files(release: LintedRelease) -> Iterator[Finding]:
    names = frozenset(release.files)
    for database, migration in release.migrations():
        for path in migration_files(migration, names)[1]:
            yield rules.MIGRATION_FILE_MISSING.report(
                path=path, migration=migration.id, database=database
            )
    smoke = release.manifest.smoke
    if smoke and smoke.argv[0] not in {entry.path for entry in release.tree.entries}:
        yield rules.SMOKE_PROGRAM_MISSING.report(path=smoke.argv[0])


def _history(release: LintedRelease) -> Iterator[Finding]:
    """What was published is never edited, dropped, or preceded by something new."""
    if release.previous is None:
        return
    published = release.previous.migrations
    edited = {p for p, digest in published.items() if release.files.get(p, digest) != digest}
    before = {
        (database.name, migration.id): content_of(migration, published)
        for database in release.previous.manifest.databases
        for migration in database.migrations
    }
    for database, migration in release.migrations():
        was = before.get((database, migration.id), {})
        for key, (path, digest) in content_of(migration, release.files).items():
            _, old = was.get(key, ("", None))
            if old is not None and digest is not None and digest != old:
                edited.add(path)  # also where another file was put in its place
    for path in sorted(edited):
        yield rules.PUBLISHED_FILE_CHANGED.report(
            path=path, version=release.previous.manifest.version
        )
    present = {(database, migration.id) for database, migration in release.migrations()}
    for database, ids in known_ids(release.previous).items():
        for identifier in sorted(ids):
            if (database, identifier) not in present:
                yield rules.PUBLISHED_MIGRATION_MISSING.report(
                    migration=identifier,
                    database=database,
                    version=release.previous.manifest.version,
                )
        newest = max(ids, default="")
        for name, migration in release.new_migrations():
            if name == database and migration.id < newest:
                yield rules.MIGRATION_OUT_OF_ORDER.report(
                    migration=migration.id, database=database, newest=newest
                )


def _notes(release: LintedRelease) -> Iterator[Finding]:
    if not release.manifest.notes:
        yield rules.NOTES_MISSING.report()
        return
    for language in LANGUAGES:
        notes = release.manifest.notes.get(language)
        if notes is None:
            yield rules.NOTES_LANGUAGE_MISSING.report(language=language)


def _case(release: LintedRelease) -> Iterator[Finding]:
    seen: dict[str, str] = {}
    for entry in release.tree.entries:
        alike = unicodedata.normalize("NFC", entry.path.casefold())
        other = seen.setdefault(alike, entry.path)
        if other != entry.path:
            yield rules.PATHS_ALIKE.report(first=other, second=entry.path)


def _way_back(release: LintedRelease) -> Iterator[Finding]:
    for database, migration in release.new_migrations():
        values: dict[str, object] = {"migration": migration.id, "database": database}
        if migration.irreversible is not None:
            yield rules.MIGRATION_IRREVERSIBLE.report(reason=migration.irreversible, **values)
        if migration.verify is None:
            yield rules.MIGRATION_UNVERIFIED.report(**values)


def _health(release: LintedRelease) -> Iterator[Finding]:
    if release.manifest.health or release.manifest.product == AGENT_PRODUCT:
        return  # an agent confirms itself; nobody asks it over HTTP
    serves = bool(release.manifest.databases or release.manifest.migrator)
    yield rules.HEALTH_PROBE_MISSING.report(Severity.STRICT if serves else Severity.ADVISORY)


def _secrets(release: LintedRelease) -> Iterator[Finding]:
    found = [entry.path for entry in release.tree.entries if _is_secret(release, entry.path)]
    if found:
        yield rules.SECRETS_SUSPECTED.report(
            paths=", ".join([*found[:5], *(["..."] if len(found) > 5 else [])])
        )


def _is_secret(release: LintedRelease, path: str) -> bool:
    name = PurePosixPath(path).name
    if name in SUSPICIOUS or name.endswith(SUSPICIOUS_SUFFIXES):
        return True
    if path not in release.files or not name.endswith(KEY_SUFFIXES):
        return False
    content = release.peek(path)
    return content is not None and PRIVATE_KEY in content


def _countries(release: LintedRelease) -> Iterator[Finding]:
    for code in impossible(release.manifest.countries):
        yield rules.COUNTRY_UNKNOWN.report(country=code)


def _upgrade_from(release: LintedRelease) -> Iterator[Finding]:
    if not release.manifest.upgrade_from:
        yield rules.UPGRADE_FROM_EMPTY.report()


def _reports(release: LintedRelease) -> Iterator[Finding]:
    reports = release.manifest.reports
    try:
        said = Version(reports) if reports else None
    except InvalidVersion:
        return  # a name, which nothing can be said of
    own = release.manifest.release_version
    if said is not None and Version(said.base_version) != Version(own.base_version):
        yield rules.REPORTED_VERSION_DIFFERS.report(version=own, reports=reports)


RULES: Final[tuple[Rule, ...]] = (
    _version,
    _reports,
    _missing_files,
    _history,
    _notes,
    _case,
    unreadable_files,
    sql_is_accepted,
    _way_back,
    ways_down,
    questions,
    unmapped_codes,
    _health,
    _secrets,
    _upgrade_from,
    compatibility,
    _countries,
    carried_there,
    carried_places,
    carried_settings,
    carried_history,
)
