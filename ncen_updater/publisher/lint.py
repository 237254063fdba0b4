"""What is wrong with a release directory, said before anybody signs it.

Every rule is a function from what was read to findings. Strict findings forbid the release,
advisory ones are for a person to weigh. The numbers 7101 to 7199 are those of the rules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from packaging.version import Version

from ncen_updater.findings import Finding, Severity
from ncen_updater.i18n import N_, Text
from ncen_updater.publisher.build import MANIFEST_NAME, migration_files, scan_release
from ncen_updater.publisher.drafting import offers_of
from ncen_updater.publisher.errors import BuildRefused
from ncen_updater.publisher.feed import Feed
from ncen_updater.publisher.sqltext import (
    concurrent_statements,
    is_single_select,
    statements,
    transaction_control,
)
from ncen_updater.release.document import ReleaseDocument, parse_release_document, release_target
from ncen_updater.release.errors import BadManifest
from ncen_updater.release.manifest import Manifest, Migration, load_manifest
from ncen_updater.release.tree import EntryType, Tree

__all__ = ["last_release", "lint_release"]

LANGUAGES: Final = ("en", "fr")
SUSPICIOUS: Final = frozenset({".env", ".git", ".hg", ".svn", "id_rsa", "id_ed25519", ".pgpass"})
SUSPICIOUS_SUFFIXES: Final = (".pem", ".key", ".p12", ".pfx", ".jks")


@dataclass(frozen=True)
class _Release:
    """What the rules look at.

    Attributes:
        previous: The newest published release of the product, if any.
    """

    directory: Path
    manifest: Manifest
    tree: Tree
    files: dict[str, str]
    previous: ReleaseDocument | None

    def migrations(self) -> Iterator[tuple[str, Migration]]:
        for database in self.manifest.databases:
            for migration in database.migrations:
                yield database.name, migration

    def new_migrations(self) -> Iterator[tuple[str, Migration]]:
        known = _known_ids(self.previous)
        for database, migration in self.migrations():
            if migration.id not in known.get(database, ()):
                yield database, migration

    def read(self, path: str) -> str:
        return (self.directory / path).read_text("utf-8", errors="replace")


Rule = Callable[[_Release], Iterator[Finding]]


def _finding(number: int, severity: Severity, what: str, remedy: str, **values: object) -> Finding:
    return Finding(f"NU-{number}", severity, Text(what, values), Text(remedy, values), values)


def lint_release(directory: Path, previous: ReleaseDocument | None = None) -> list[Finding]:
    """Apply every rule.

    Args:
        directory: The release as it would be built.
        previous: The newest published release of the same product, where there is one.

    Returns:
        Findings, strict ones first.
    """
    try:
        manifest = load_manifest(directory / MANIFEST_NAME)
    except BadManifest as error:
        return [
            _finding(
                7101,
                Severity.STRICT,
                N_("The manifest is not valid: {mistakes}"),
                N_("Correct the places that are named; docs/release-format.md explains each."),
                mistakes=error.detail,
            )
        ]
    try:
        tree = scan_release(directory)
    except BuildRefused as error:
        return [
            _finding(
                7102,
                Severity.STRICT,
                N_("The directory holds what no release may hold: {reason}"),
                N_("A release holds files, directories and links inside itself, nothing else."),
                reason=error.values["reason"],
            )
        ]
    files = {e.path: e.sha256 or "" for e in tree.entries if e.type is EntryType.FILE}
    release = _Release(directory, manifest, tree, files, previous)
    found = [finding for rule in RULES for finding in rule(release)]
    order = list(Severity)
    return sorted(found, key=lambda finding: (order.index(finding.severity), finding.code))


def last_release(feed: Feed, directory: Path) -> ReleaseDocument | None:
    """The newest published release of the product that lies in ``directory``, if there is one.

    Raises:
        FeedBroken: If the feed cannot be read.
        BadRelease: If the published document cannot.
    """
    try:
        product = load_manifest(directory / MANIFEST_NAME).product
    except BadManifest:
        return None  # lint says so itself, with every mistake
    role = feed.state().delegated.get(product)
    offers = [offer for offer in offers_of(role.signed) if not offer.withdrawn] if role else []
    if role is None or not offers:
        return None
    target = role.signed.targets[release_target(product, offers[-1].version)]
    path = feed.target_path(target)
    return parse_release_document(path.read_bytes(), str(path))


def _known_ids(previous: ReleaseDocument | None) -> dict[str, set[str]]:
    if previous is None:
        return {}
    return {d.name: {m.id for m in d.migrations} for d in previous.manifest.databases}


def _version(release: _Release) -> Iterator[Finding]:
    if release.previous is None:
        return
    last = release.previous.manifest.version
    if release.manifest.release_version <= Version(last):
        yield _finding(
            7103,
            Severity.STRICT,
            N_("Version {version} is not newer than the published {last}."),
            N_("Give the release a higher version number."),
            version=release.manifest.version,
            last=last,
        )
    elif not release.manifest.accepts(Version(last)):
        yield _finding(
            7104,
            Severity.ADVISORY,
            N_("Sites that run {last}, the newest release, may not install this one."),
            N_("Widen 'upgrade_from', unless sites are meant to stop in between."),
            last=last,
        )


def _missing_files(release: _Release) -> Iterator[Finding]:
    names = frozenset(release.files)
    for database, migration in release.migrations():
        for path in migration_files(migration, names)[1]:
            yield _finding(
                7105,
                Severity.STRICT,
                N_("{path}, which migration {migration} of {database} names, is missing."),
                N_("Add the file, or correct its name in the manifest."),
                path=path,
                migration=migration.id,
                database=database,
            )


def _history(release: _Release) -> Iterator[Finding]:
    """What was published is never edited, dropped, or preceded by something new."""
    if release.previous is None:
        return
    for path, digest in sorted(release.previous.migrations.items()):
        if path in release.files and release.files[path] != digest:
            yield _finding(
                7106,
                Severity.STRICT,
                N_("{path} is not the file that was published with {version}."),
                N_("Restore the published file and write a new migration instead."),
                path=path,
                version=release.previous.manifest.version,
            )
    present = {(database, migration.id) for database, migration in release.migrations()}
    for database, ids in _known_ids(release.previous).items():
        for identifier in sorted(ids):
            if (database, identifier) not in present:
                yield _finding(
                    7107,
                    Severity.STRICT,
                    N_("Migration {migration} of {database} was published and is gone."),
                    N_("Keep every published migration in the manifest, with its files."),
                    migration=identifier,
                    database=database,
                )
        newest = max(ids, default="")
        for name, migration in release.new_migrations():
            if name == database and migration.id < newest:
                yield _finding(
                    7108,
                    Severity.STRICT,
                    N_("The new migration {migration} of {database} comes before {newest}."),
                    N_("Give it an id that sorts after every published one."),
                    migration=migration.id,
                    database=database,
                    newest=newest,
                )


def _notes(release: _Release) -> Iterator[Finding]:
    for language in LANGUAGES:
        notes = release.manifest.notes.get(language)
        if notes is None or not notes.text.strip():
            yield _finding(
                7109,
                Severity.STRICT,
                N_("There are no notes in the language '{language}'."),
                N_("Write [notes.{language}] with a title and a text that operators can read."),
                language=language,
            )


def _case(release: _Release) -> Iterator[Finding]:
    seen: dict[str, str] = {}
    for entry in release.tree.entries:
        other = seen.setdefault(entry.path.casefold(), entry.path)
        if other != entry.path:
            yield _finding(
                7110,
                Severity.STRICT,
                N_("{first} and {second} differ in upper and lower case only."),
                N_("Rename one: such paths are one file on some systems."),
                first=other,
                second=entry.path,
            )


def _sql_files(release: _Release) -> Iterator[Finding]:
    names = frozenset(release.files)
    for database, migration in release.new_migrations():
        for path in migration_files(migration, names)[0]:
            sql = release.read(path)
            values: dict[str, object] = {"path": path, "database": database}
            for text in transaction_control(sql):
                yield _finding(
                    7111,
                    Severity.STRICT,
                    N_("{path} begins or ends a transaction: {statement}"),
                    N_("Take it out: each file runs in one transaction that the agent holds."),
                    statement=text[:80],
                    **values,
                )
            refusing = concurrent_statements(sql)
            if migration.transactional and refusing:
                yield _finding(
                    7112,
                    Severity.STRICT,
                    N_("{path} holds a statement that refuses a transaction: {statement}"),
                    N_(
                        "Write it without CONCURRENTLY: migrations run on a copy that nobody uses."
                        " Else set 'transactional = false' for a migration of its own."
                    ),
                    statement=refusing[0][:80],
                    **values,
                )
            if not migration.transactional and len(statements(sql)) > 1:
                yield _finding(
                    7113,
                    Severity.STRICT,
                    N_("{path} runs outside a transaction and holds {count} statements."),
                    N_("Make a migration of each statement, repeatable by itself."),
                    count=len(statements(sql)),
                    **values,
                )
            if not statements(sql):
                yield _finding(
                    7114,
                    Severity.STRICT,
                    N_("{path} holds no statement."),
                    N_("Write the migration, or take it out of the manifest."),
                    **values,
                )


def _way_back(release: _Release) -> Iterator[Finding]:
    for database, migration in release.new_migrations():
        values: dict[str, object] = {"migration": migration.id, "database": database}
        if migration.irreversible is not None:
            yield _finding(
                7115,
                Severity.ADVISORY,
                N_("Migration {migration} of {database} has no way back: {reason}"),
                N_("After the commit sites cannot go back keeping new records. Be sure of it."),
                reason=migration.irreversible,
                **values,
            )
        if migration.verify is None:
            yield _finding(
                7116,
                Severity.ADVISORY,
                N_("Migration {migration} of {database} is not verified."),
                N_("Add a 'verify' file whose statements return the rows that are wrong."),
                **values,
            )


def _questions(release: _Release) -> Iterator[Finding]:
    manifest = release.manifest
    asked = [(c.name, sql) for c in manifest.checks for sql in (c.sql, c.sql_after) if sql]
    asked += [(item.name, item.unmapped) for item in manifest.reference_maps]
    for name, sql in asked:
        if not is_single_select(sql):
            yield _finding(
                7117,
                Severity.STRICT,
                N_("The SQL of '{name}' is not one SELECT."),
                N_("Ask one question that changes nothing."),
                name=name,
            )
    for item in manifest.reference_maps:
        if not item.strict:
            yield _finding(
                7118,
                Severity.ADVISORY,
                N_("Rows that '{name}' does not map are reported but do not stop the upgrade."),
                N_("Set 'strict = true', or say in the notes what becomes of such rows."),
                name=item.name,
            )
    if manifest.databases and any(release.new_migrations()) and not manifest.checks:
        yield _finding(
            7119,
            Severity.ADVISORY,
            N_("The release changes data and no check asks whether any was lost."),
            N_("Add [[checks]] such as: cases before = cases after."),
        )


def _health(release: _Release) -> Iterator[Finding]:
    if release.manifest.health:
        return
    serves = bool(release.manifest.databases or release.manifest.migrator)
    yield _finding(
        7120,
        Severity.STRICT if serves else Severity.ADVISORY,
        N_("The release names no health probe."),
        N_("Add [[health]]: without one a site learns from its users that an upgrade failed."),
    )


def _secrets(release: _Release) -> Iterator[Finding]:
    for entry in release.tree.entries:
        name = PurePosixPath(entry.path).name
        if name in SUSPICIOUS or name.endswith(SUSPICIOUS_SUFFIXES):
            yield _finding(
                7121,
                Severity.ADVISORY,
                N_("{path} looks like something that should not be published."),
                N_("Everybody can read a release. Take it out unless it is meant to be public."),
                path=entry.path,
            )


def _upgrade_from(release: _Release) -> Iterator[Finding]:
    if not release.manifest.upgrade_from:
        yield _finding(
            7122,
            Severity.ADVISORY,
            N_("The release may be installed over any version."),
            N_("Set 'upgrade_from' to the versions that the migrations were tried with."),
        )


RULES: Final[tuple[Rule, ...]] = (
    _version,
    _missing_files,
    _history,
    _notes,
    _case,
    _sql_files,
    _way_back,
    _questions,
    _health,
    _secrets,
    _upgrade_from,
)
