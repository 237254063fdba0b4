"""Findings of ``lint`` in one table (code, severity, texts), and the release as rules see it.

Critical findings forbid the release; the release signers decide on warnings. The codes are NU-7101
to NU-7199.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from ncen_updater.common.findings import Finding, Severity
from ncen_updater.common.i18n import N_, LazyText, LocalizedFigure
from ncen_updater.formats.manifest import (
    ENGINE_PLACEHOLDER,
    LANGUAGE_PLACEHOLDER,
    Manifest,
    Migration,
    fill_engine,
)
from ncen_updater.formats.release_document import ReleaseDocument
from ncen_updater.formats.sql import ENGINE_NAMES
from ncen_updater.formats.tree import EntryType, Tree


@dataclass(frozen=True)
class LintRule:
    """A rule, with the finding for its violation.

    Attributes:
        number: Number of the finding's code.
        severity: Critical if a violation forbids the release.
        what: Template of the title.
        remedy: Template of the remedy.
    """

    number: int
    severity: Severity
    what: str
    remedy: str

    def report(self, severity: Severity | None = None, /, **values: object) -> Finding:
        """Make a finding. Its texts explain placeholders of paths; its figures do not.

        Args:
            severity: Overrides the rule's severity.
            **values: Values of the templates.
        """
        shown = {key: describe_path(v) if isinstance(v, str) else v for key, v in values.items()}
        return Finding(
            f"NU-{self.number}",
            severity or self.severity,
            LazyText(self.what, shown),
            LazyText(self.remedy, shown),
            values,
        )


def critical(number: int, what: str, remedy: str) -> LintRule:
    """Define a rule whose violation forbids the release."""
    return LintRule(number, Severity.CRITICAL, what, remedy)


def warning(number: int, what: str, remedy: str) -> LintRule:
    """Define a rule whose violation is a warning."""
    return LintRule(number, Severity.WARNING, what, remedy)


def info(number: int, what: str, remedy: str) -> LintRule:
    """Define a fact for the signers' review page."""
    return LintRule(number, Severity.INFO, what, remedy)


# ---- the manifest, its files and its history ----
INVALID_MANIFEST = critical(
    7101,
    N_("Invalid manifest: {mistakes}"),
    N_("Correct the keys listed; see docs/reference/release-format.md."),
)
FORBIDDEN_ENTRY = critical(
    7102,
    N_("Forbidden entry in the release directory: {reason}"),
    N_("Keep only files, directories and links that stay inside the release."),
)
VERSION_NOT_NEWER = critical(
    7103,
    N_("Version {version} is not newer than the published {last}."),
    N_("Use a higher version number."),
)
NEWEST_SITES_EXCLUDED = warning(
    7104,
    N_("No upgrade from the newest release {last}."),
    N_("Widen 'upgrade_from', unless an intermediate release is intended."),
)
MIGRATION_FILE_MISSING = critical(
    7105,
    N_("{path} of migration {migration} of {database} is missing."),
    N_("Add the file, or correct its name in the manifest."),
)
PUBLISHED_FILE_CHANGED = critical(
    7106,
    N_("{path} differs from the file published with {version}."),
    N_(
        "Restore the published file and add a new migration. If {version} is bad, withdraw"
        " it and exclude it from 'upgrade_from'."
    ),
)
PUBLISHED_MIGRATION_MISSING = critical(
    7107,
    N_("Published migration {migration} of {database} is missing."),
    N_(
        "Restore the migration with its files. To drop it, withdraw {version} and exclude"
        " it from 'upgrade_from'."
    ),
)
MIGRATION_OUT_OF_ORDER = critical(
    7108,
    N_("New migration {migration} of {database} sorts before {newest}."),
    N_("Use an id that sorts after every published one."),
)
NOTES_LANGUAGE_MISSING = warning(
    7109,
    N_("No release notes in language '{language}'."),
    N_("Add [notes.{language}] if operators need it."),
)
PATHS_ALIKE = critical(
    7110,
    N_("{first} and {second} differ only in case or in the encoding of accents."),
    N_("Rename one of them."),
)
MIGRATION_IRREVERSIBLE = warning(
    7115,
    N_("No rollback of migration {migration} of {database}: {reason}"),
    N_("Confirm that a rollback may lose records."),
)
MIGRATION_UNVERIFIED = warning(
    7116,
    N_("Migration {migration} of {database} has no 'verify' file."),
    N_("Add a 'verify' file whose queries return the rows that are wrong."),
)
HEALTH_PROBE_MISSING = critical(
    7120,
    N_("No health probe."),
    N_("Add [[health]]."),
)
SECRETS_SUSPECTED = warning(
    7121,
    N_("Possible secrets: {paths}"),
    N_("Remove these files unless they are meant to be public."),
)
UPGRADE_FROM_EMPTY = warning(
    7122,
    N_("No version matches 'upgrade_from'."),
    N_("Set 'upgrade_from' to the versions tested with the migrations."),
)
COUNTRY_UNKNOWN = critical(
    7140,
    N_("Unknown country {country} in 'countries'."),
    N_("Use an ISO 3166 two-letter code, such as MU or SN."),
)
NOTES_MISSING = critical(
    7141,
    N_("No release notes."),
    N_("Add [notes.en], or another language, with title and text."),
)
REPORTED_VERSION_DIFFERS = warning(
    7160,
    N_("'reports' of version {version} is another version: {reports}"),
    N_("Correct or remove 'reports'."),
)
SMOKE_PROGRAM_MISSING = critical(
    7188,
    N_("Program of [smoke] not in the release: {path}"),
    N_("Add the file, or correct its name in the manifest."),
)

# ---- SQL ----
SQL_FORBIDDEN = critical(
    7111,
    N_("'{name}' has a forbidden statement on {engines}: {reason}"),
    N_(
        "Remove it: a migration changes only its own database, as the application's role, in the"
        " agent's transaction."
    ),
)
SQL_OUTSIDE_TRANSACTION = critical(
    7112,
    N_("'{name}' has a statement that cannot run in a transaction on {engines}: {reason}"),
    N_(
        "Remove CONCURRENTLY, or set 'transactional = false' for a migration with this"
        " statement only."
    ),
)
SQL_NOT_ALONE = critical(
    7113,
    N_("'{name}' runs outside a transaction with several statements on {engines}: {reason}"),
    N_("Put each statement in a non-transactional migration of its own that can run again."),
)
SQL_EMPTY = warning(
    7114,
    N_("No statement in {path}."),
    N_("Add a statement, or remove the migration from the manifest."),
)
SQL_NOT_A_QUERY = critical(
    7117,
    N_("'{name}' is not a plain query on {engines}: {reason}"),
    N_("Use a SELECT that changes nothing."),
)
UNMAPPED_ROWS_PASS = warning(
    7118,
    N_("Rows that '{name}' does not map do not block the upgrade."),
    N_("Set 'strict = true', or describe these rows in the release notes."),
)
CHECKS_MISSING = warning(
    7119,
    N_("No [[checks]] although the release changes data."),
    N_("Add [[checks]] such as: cases before = cases after."),
)
CODE_UNMAPPED = critical(
    7123,
    N_("'{name}': no migration maps code {code}."),
    N_("Map it in a migration as a quoted value, or remove it from 'codes'."),
)
SQL_FILE_UNUSABLE = critical(
    7124,
    N_("Unusable SQL file {path}: {reason}"),
    N_("Save it as UTF-8 text, or use another migration id."),
)
SQL_SYNTAX_ERROR = critical(
    7125,
    N_("SQL syntax error in '{name}' ({engines}): {reason}"),
    N_("Correct the SQL, or add a file per engine."),
)
SYNTAX_UNCHECKED = warning(
    7126,
    N_("SQL syntax for {engine} not checked: {reason}"),
    N_("Install squawk-cli, or rehearse the release."),
)
ROLLBACK_LOSES_DATA = critical(
    7127,
    N_("{down}, line {line}: rollback loses values entered in {database}.{object}."),
    N_(
        "Save the values first in schema 'ncen_kept' (PostgreSQL) or tables"
        " 'ncen_kept__...' (SQLite) and restore them in 'up'; or declare the object in"
        " 'data_loss' of the migration."
    ),
)
DECLARED_LOSSES = warning(
    7128,
    N_("Declared data loss: {down} of {database} does not keep {objects}."),
    N_("Confirm the data loss: it disables the automatic rollback."),
)
ROLLBACK_RESTORES_OWN_ROWS = warning(
    7129,
    N_(
        "{down}, line {line}: rollback restores only the rows of {database}.{object} that"
        " the release inserts."
    ),
    N_("If users can add rows, save them in 'ncen_kept' too."),
)
ROLLBACK_MAY_FAIL = critical(
    7130,
    N_(
        "{down}, line {line}: rollback fails if values in {database}.{object} violate the"
        " added constraint."
    ),
    N_(
        "Save the values of such rows in 'ncen_kept' first, or declare the object in"
        " 'data_loss' of the migration."
    ),
)

# ---- texts and settings that countries change ----
OVERLAY_FILE_MISSING = critical(
    7142,
    N_("{path} of [[overlays]] is missing."),
    N_("Add the file, or correct its name in the manifest."),
)
SOURCE_TEXTS_MISSING = warning(
    7143,
    N_("No source texts for {path}: no 'template', and none in '{language}'."),
    N_("Set 'template' to the file with all texts."),
)
OVERLAY_FILE_UNREADABLE = critical(
    7144,
    N_("Cannot read {path} as declared in [[overlays]]: {why}"),
    N_("Correct the file, or 'format' and 'encoding' in the manifest."),
)
PLACEHOLDERS_UNKNOWN = critical(
    7145,
    N_("{path}: unknown placeholders in the translation of {keys}."),
    N_("Use the placeholders of the source text."),
)
PLACEHOLDERS_MISSING = warning(
    7146,
    N_("{path}: other placeholders or tags in the translation of {keys}."),
    N_("Check the placeholders and tags of the translation."),
)
TEXTS_CHANGED = info(
    7147,
    N_("{path}, texts compared with {last}: {added} added, {changed} changed, {gone} removed"),
    N_("No action required."),
)
PLACEHOLDERS_CHANGED = warning(
    7148,
    N_("{path}: placeholders changed since {last}: {keys}."),
    N_(
        "Local translations of these texts are unused until renewed. For a new meaning, use"
        " a new key."
    ),
)
KEYS_RENAMED = warning(
    7149,
    N_("{path}: keys renamed since {last}: {keys}."),
    N_("Add them to 'renamed' in [[overlays]], or local translations are lost."),
)
OVERLAY_NAMES_UNKNOWN = warning(
    7150,
    N_("Unknown names in the manifest: {names} not found in {path}."),
    N_("Correct the names in 'areas', 'rules' or 'renamed'."),
)
LANGUAGES_DROPPED = warning(
    7152,
    N_("{path}: languages removed since {last}: {languages}."),
    N_("Add the files; without them, users see '{source}'."),
)
OVERLAY_DROPPED = warning(
    7153,
    N_("Overlay {overlay} is no longer in the release; its local content has no effect."),
    N_("Restore the [[overlays]] entry of {last}, or announce its end in the release notes."),
)
OVERLAY_FORMAT_CHANGED = critical(
    7154,
    N_("{overlay} changes from {old} to {new}: local files become unreadable."),
    N_("Use another path in 'site_path', or keep kind, format and encoding."),
)
SETTINGS_DROPPED = warning(
    7155,
    N_("{path}: settings removed since {last}: {keys}."),
    N_("Announce in the release notes that local values have no effect."),
)
SETTINGS_CHANGED = warning(
    7156,
    N_("{path}: values changed since {last}: {keys}."),
    N_("Explain the new value in the release notes; local values stay."),
)
SETTINGS_REQUIRED = warning(
    7157,
    N_("Each site must set {keys} in {overlay} before the upgrade: no default value."),
    N_("Add a default value, or describe the setting in the release notes."),
)
SETTING_RULES_STRICTER = warning(
    7158,
    N_("{path}: stricter rules than in {last}: {keys}."),
    N_("Announce the new rule in the release notes."),
)
SETTING_BREAKS_RULE = critical(
    7159,
    N_("{path}: default value of {key} breaks its rule: {rule}"),
    N_("Correct the value or the rule."),
)

# ---- ``[compatibility]`` ----
COMPATIBILITY_DROPPED = warning(
    7161,
    N_("No [compatibility], unlike {last}: sites copy every database."),
    N_("Add [compatibility], unless compatible releases are unknown."),
)
COMPATIBILITY_NEW = warning(
    7162,
    N_("{last} has no [compatibility]: sites still copy every database from there."),
    N_("No action required."),
)
SCHEMA_NUMBER_LOWERED = critical(
    7163,
    N_("'schema_number' falls from {before} in {last} to {schema}."),
    N_("Use the number of {last}, or a higher one if the schema changes."),
)
SCHEMA_NUMBER_RAISED_IDLY = warning(
    7164,
    N_("'schema_number' rises from {before} to {schema} without a migration."),
    N_("Use the number of {last}, unless the application changes its databases at startup."),
)
COMPATIBLE_DOWN_TO_LOWERED = warning(
    7165,
    N_("'compatible_down_to' falls from {previous} in {last} to {compatible_down_to}."),
    N_(
        "Confirm that releases with schema number {compatible_down_to} run on data written by"
        " {last}."
    ),
)
ROLLBACK_GIVES_UP_DATA = warning(
    7166,
    N_(
        "Rollback to {last} loses records: 'compatible_down_to' is {compatible_down_to}, the schema"
        " number of {last} is {before}."
    ),
    N_("If {last} runs on the new schema, lower 'compatible_down_to'."),
)
NEW_MIGRATIONS_SAME_NUMBER = warning(
    7167,
    N_("'schema_number' stays {schema} with new migrations: {migrations}"),
    N_("Raise it, unless the schema and the meaning of the data stay the same."),
)
NEW_MIGRATOR_SAME_NUMBER = warning(
    7168,
    N_("'schema_number' stays {schema}: [migrator] does not run on upgrades from {last}."),
    N_("Raise it, unless nothing has to run on the databases of {last}."),
)
NEW_FILES_SAME_NUMBER = critical(
    7169,
    N_("'schema_number' stays {schema}: {files} do not run on upgrades from {last}."),
    N_("Raise it."),
)
EXPAND_WITHOUT_MIGRATOR = warning(
    7180,
    N_("'expand' has no effect without [migrator]."),
    N_("Remove 'expand'."),
)
EXPAND_NOT_FROM_LAST = warning(
    7181,
    N_(
        "'expand' has no effect from {last}: 'compatible_down_to' is {compatible_down_to}, the"
        " schema number of {last} is {before}."
    ),
    N_("If {last} runs on the new schema, lower 'compatible_down_to'."),
)
EVERY_ROW_UPDATED = info(
    7183,
    N_("{path}, line {line}: UPDATE of every row of {table}."),
    N_("ALTER TABLE ... ALTER COLUMN ... TYPE ... USING takes less time for large tables."),
)
CONTRACT_SAME_NUMBER = warning(
    7182,
    N_("'schema_number' stays {schema}: [migrator.contract] does not run on upgrades from {last}."),
    N_("Raise it, unless nothing has to run on the databases of {last}."),
)


@dataclass(frozen=True)
class LintedRelease:
    """A release as the rules see it.

    Attributes:
        manifest: Its manifest.
        tree: Its tree.
        files: Digest of every file, by path.
        previous: The newest published release of the product, if any.
        read_bytes: Reads an existing SQL file by its path.
        texts: Content of its overlay files, by path.
        texts_before: The same of the previous release; None if not available.
        files_before: Digests of the previous release's files, by path; None if not available.
        peek: Returns the first bytes of a file of the release; None if not available.
    """

    manifest: Manifest
    tree: Tree
    files: dict[str, str]
    previous: ReleaseDocument | None
    read_bytes: Callable[[str], bytes]
    texts: Mapping[str, bytes] = field(default_factory=dict)
    texts_before: Mapping[str, bytes] | None = None
    files_before: Mapping[str, str] | None = None
    peek: Callable[[str], bytes | None] = lambda _path: None

    def iter_migrations(self) -> Iterator[tuple[str, Migration]]:
        """Yield each migration with its database."""
        for database in self.manifest.databases:
            for migration in database.migrations:
                yield database.name, migration

    def iter_new_migrations(self) -> Iterator[tuple[str, Migration]]:
        """Yield the migrations that the newest published release does not have."""
        known = list_known_migrations(self.previous)
        for database, migration in self.iter_migrations():
            if migration.id not in known.get(database, ()):
                yield database, migration


def describe_path(path: str) -> LazyText | str:
    """Return a path of a manifest with an explanation of its placeholder, if it has one.

    A text with a space is no path, and is returned unchanged.
    """
    if " " in path:
        return path
    if ENGINE_PLACEHOLDER in path:
        return LazyText(N_("{path} (per engine)"), {"path": LocalizedFigure(path)})
    if LANGUAGE_PLACEHOLDER in path:
        return LazyText(N_("{path} (per language)"), {"path": LocalizedFigure(path)})
    return path


def list_files(tree: Tree) -> dict[str, str]:
    """Return the digest of every file of a tree, by path."""
    return {e.path: e.sha256 or "" for e in tree.entries if e.type is EntryType.FILE}


def list_known_migrations(previous: ReleaseDocument | None) -> dict[str, set[str]]:
    """Return the ids of the published release's migrations, by database."""
    if previous is None:
        return {}
    return {d.name: {m.id for m in d.migrations} for d in previous.manifest.databases}


def list_migration_content(
    migration: Migration, digests: Mapping[str, str]
) -> dict[tuple[str, str], tuple[str, str | None]]:
    """Return path and digest of each file of a migration, by direction and engine.

    Args:
        migration: The migration.
        digests: SHA-256 of the files of its release, by path.
    """
    sources = {"up": migration.up, "down": migration.down, "verify": migration.verify}
    paths = {
        (direction, engine): fill_engine(engine, source)
        for direction, source in sources.items()
        for engine in ENGINE_NAMES
        if source
    }
    return {key: (path, digests.get(path)) for key, path in paths.items()}
