"""The findings of ``lint``: code, severity and words of each, in one table.

Strict findings forbid the release, advisory ones are for a person to weigh. The numbers 7101 to
7199 are those of the rules, which say what a finding is about.
"""

from __future__ import annotations

from dataclasses import dataclass

from ncen_updater.common.findings import Finding, Severity
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.publisher.lint.release import describe_path


@dataclass(frozen=True)
class LintRule:
    """What is said where a release breaks a rule.

    Attributes:
        number: Of its code.
        severity: Whether it forbids the release.
        what: Template of what was found.
        remedy: Template of what is done about it.
    """

    number: int
    severity: Severity
    what: str
    remedy: str

    def report(self, severity: Severity | None = None, /, **values: object) -> Finding:
        """Make a finding; its figures hold paths as the manifest has them.

        Args:
            severity: Another one than usual.
            **values: What stands in the templates.
        """
        reported = {key: describe_path(v) if isinstance(v, str) else v for key, v in values.items()}
        return Finding(
            f"NU-{self.number}",
            severity or self.severity,
            LazyText(self.what, reported),
            LazyText(self.remedy, reported),
            values,
        )


def strict(number: int, what: str, remedy: str) -> LintRule:
    """Name a rule whose breach forbids the release."""
    return LintRule(number, Severity.CRITICAL, what, remedy)


def advisory(number: int, what: str, remedy: str) -> LintRule:
    """Name a rule whose breach a person weighs."""
    return LintRule(number, Severity.WARNING, what, remedy)


def info(number: int, what: str, remedy: str) -> LintRule:
    """Name a fact for the page of the officers."""
    return LintRule(number, Severity.INFO, what, remedy)


# ---- the manifest, its files and its history ----
INVALID_MANIFEST = strict(
    7101,
    N_("The manifest is not valid: {mistakes}"),
    N_("Correct the places that are named; docs/release-format.md explains each."),
)
FORBIDDEN_ENTRY = strict(
    7102,
    N_("The directory holds what no release may hold: {reason}"),
    N_("A release holds files, directories and links inside itself, nothing else."),
)
VERSION_NOT_NEWER = strict(
    7103,
    N_("Version {version} is not newer than the published {last}."),
    N_("Give the release a higher version number."),
)
NEWEST_SITES_EXCLUDED = advisory(
    7104,
    N_("Sites that run {last}, the newest release, may not install this one."),
    N_("Widen 'upgrade_from', unless sites are meant to stop in between."),
)
MIGRATION_FILE_MISSING = strict(
    7105,
    N_("{path}, which migration {migration} of {database} names, is missing."),
    N_("Add the file, or correct its name in the manifest."),
)
PUBLISHED_FILE_CHANGED = strict(
    7106,
    N_("{path} is not the file that was published with {version}."),
    N_(
        "Restore the published file and write a new migration instead. If {version} was bad, "
        "withdraw it and leave it out of 'upgrade_from': nothing of it has to stay then."
    ),
)
PUBLISHED_MIGRATION_MISSING = strict(
    7107,
    N_("Migration {migration} of {database} was published and is gone."),
    N_(
        "Keep every published migration in the manifest, with its files. If {version} was bad, "
        "withdraw it and leave it out of 'upgrade_from': nothing of it has to stay then."
    ),
)
MIGRATION_OUT_OF_ORDER = strict(
    7108,
    N_("The new migration {migration} of {database} comes before {newest}."),
    N_("Give it an id that sorts after every published one."),
)
NOTES_LANGUAGE_MISSING = advisory(
    7109,
    N_("There are no notes in the language '{language}'."),
    N_("Write [notes.{language}], if operators of sites read that language."),
)
PATHS_ALIKE = strict(
    7110,
    N_("{first} and {second} differ in case, or in how accents are written, only."),
    N_("Rename one: such paths are one file on some systems."),
)
MIGRATION_IRREVERSIBLE = advisory(
    7115,
    N_("Migration {migration} of {database} has no way back: {reason}"),
    N_("After the commit sites cannot go back keeping new records. Be sure of it."),
)
MIGRATION_UNVERIFIED = advisory(
    7116,
    N_("Migration {migration} of {database} is not verified."),
    N_("Add a 'verify' file whose statements return the rows that are wrong."),
)
HEALTH_PROBE_MISSING = strict(
    7120,
    N_("The release names no health probe."),
    N_("Add [[health]]: without one a site learns from its users that an upgrade failed."),
)
SECRETS_SUSPECTED = advisory(
    7121,
    N_("What should not be published may lie there: {paths}"),
    N_("Everybody can read a release. Take it out unless it is meant to be public."),
)
UPGRADE_FROM_EMPTY = advisory(
    7122,
    N_("No site can upgrade to the release: it may be installed over no version."),
    N_(
        "Set 'upgrade_from' to the versions that the migrations were tried with; only a release "
        "that sites begin with goes without."
    ),
)
COUNTRY_UNKNOWN = strict(
    7140,
    N_("'countries' names {country}, and there is no such country."),
    N_("Write the two letters of ISO 3166, such as MU or SN."),
)
NOTES_MISSING = strict(
    7141,
    N_("The release has no notes: nobody is told what it brings."),
    N_("Write [notes.en], or another language, with a title and a text for operators."),
)
REPORTED_VERSION_DIFFERS = advisory(
    7160,
    N_("The manifest says that {version} reports {reports}, which is another version."),
    N_("Correct 'reports', or leave it out where the application reports the version."),
)
SMOKE_PROGRAM_MISSING = strict(
    7188,
    N_("The program of [smoke], {path}, is not in the release."),
    N_("Add the file, or correct its name in the manifest."),
)

# ---- SQL ----
SQL_FORBIDDEN = strict(
    7111,
    N_("'{name}' holds what sites on {engines} refuse: {reason}"),
    N_(
        "Take it out: a migration changes its own database alone, under the role and in the "
        "transaction that the agent holds."
    ),
)
SQL_OUTSIDE_TRANSACTION = strict(
    7112,
    N_("'{name}' holds a statement that refuses a transaction. Sites on {engines}: {reason}"),
    N_(
        "Write it without CONCURRENTLY: migrations run on a copy that nobody uses. Else set "
        "'transactional = false' for a migration of its own."
    ),
)
SQL_NOT_ALONE = strict(
    7113,
    N_("'{name}' runs outside a transaction, and sites on {engines} refuse it: {reason}"),
    N_("Make a migration of each statement, repeatable by itself."),
)
SQL_EMPTY = advisory(
    7114,
    N_("{path} holds no statement."),
    N_("Write the migration, or take it out of the manifest."),
)
SQL_NO_QUESTION = strict(
    7117,
    N_("'{name}' is no question, and sites on {engines} refuse it: {reason}"),
    N_("Ask with a SELECT that changes nothing."),
)
UNMAPPED_ROWS_PASS = advisory(
    7118,
    N_("Rows that '{name}' does not map are reported but do not stop the upgrade."),
    N_("Set 'strict = true', or say in the notes what becomes of such rows."),
)
CHECKS_MISSING = advisory(
    7119,
    N_("The release changes data and no check asks whether any was lost."),
    N_("Add [[checks]] such as: cases before = cases after."),
)
CODE_UNMAPPED = strict(
    7123,
    N_("'{name}': no migration says what becomes of the class {code}."),
    N_("Map it in a migration, as a quoted value, or take it out of 'codes'."),
)
SQL_FILE_UNUSABLE = strict(
    7124,
    N_("No site can use {path}: {reason}"),
    N_("Save it as plain UTF-8 text, or give the migration another id."),
)
SQL_SYNTAX_ERROR = strict(
    7125,
    N_("{engines} would not understand '{name}': {reason}"),
    N_("Correct the SQL, or give each engine a file of its own."),
)
SYNTAX_UNCHECKED = advisory(
    7126,
    N_("Nobody looked for mistakes of syntax in the SQL for {engine}: {reason}."),
    N_("Install the package squawk-cli beside this program, or rehearse the release."),
)
ROLLBACK_LOSES_DATA = strict(
    7127,
    N_("{down}, line {line}: what officers enter in {database}.{object} is lost on the way back."),
    N_(
        "Park it first, in the schema 'ncen_kept' on PostgreSQL or in tables 'ncen_kept__...' on "
        "SQLite, and bring it back in 'up'; or name it in 'data_loss' of the migration."
    ),
)
DECLARED_LOSSES = advisory(
    7128,
    N_("{down} of {database} does not keep {objects}: so says the release."),
    N_(
        "Be sure of it: sites are told before the upgrade and before they go back, and a release "
        "that turns bad is then not taken back without being asked."
    ),
)
ROLLBACK_RESTORES_OWN_ROWS = advisory(
    7129,
    N_(
        "{down}, line {line}: of {database}.{object} only the rows come back that the release "
        "itself puts there."
    ),
    N_("Park it in 'ncen_kept' too, if officers or administrators can add to it."),
)
ROLLBACK_MAY_FAIL = strict(
    7130,
    N_(
        "{down}, line {line}: what officers enter in {database}.{object} may break a rule that is"
        " added there, and going back would then fail."
    ),
    N_(
        "Change such rows first and park their values in 'ncen_kept', or name the object in "
        "'data_loss' of the migration."
    ),
)

# ---- texts and settings that countries change ----
CARRIED_FILE_MISSING = strict(
    7142,
    N_("{path}, which [[overlays]] names, is missing."),
    N_("Add the file, or correct its name in the manifest."),
)
SOURCE_TEXTS_MISSING = advisory(
    7143,
    N_("No file holds all texts of {path}: no 'template', and none in '{language}'."),
    N_("Name the file with all texts as 'template', so that countries can translate."),
)
CARRIED_FILE_UNREADABLE = strict(
    7144,
    N_("{path} cannot be read as [[overlays]] says: {why}"),
    N_("Correct the file, or 'format' and 'encoding' in the manifest."),
)
PLACEHOLDERS_UNKNOWN = strict(
    7145,
    N_("{path}: nothing fills a placeholder in the translation of {keys}."),
    N_("Write the placeholders of the source text: a program may end at others."),
)
PLACEHOLDERS_MISSING = advisory(
    7146,
    N_("{path}: the translation of {keys} has other placeholders or tags."),
    N_("Look whether what the program fills in, or the mark-up, is missing."),
)
TEXTS_CHANGED = info(
    7147,
    N_("{path} against {last}: texts new {added}, worded anew {changed}, gone {gone}."),
    N_("Countries translate them; the officers' page lists them."),
)
PLACEHOLDERS_CHANGED = advisory(
    7148,
    N_("{path}: other placeholders than in {last}: {keys}."),
    N_(
        "A country's translation of them is not used until it is written anew; a new key for a "
        "new text leaves the old one alone."
    ),
)
KEYS_RENAMED = advisory(
    7149,
    N_("{path}: the same text has another key than in {last}: {keys}."),
    N_("Name them in 'renamed' of the [[overlays]], or what countries translated is lost."),
)
CARRIED_NAMES_UNKNOWN = advisory(
    7150,
    N_("The manifest names {names}, and {path} has nothing of that name."),
    N_("Correct the names in 'areas', 'rules' or 'renamed': they do nothing now."),
)
LANGUAGES_DROPPED = advisory(
    7152,
    N_("{path}: {last} had {languages} as well, and the release does not."),
    N_("Bring the files along, unless it is meant so: officers would see '{source}'."),
)
CARRIED_DROPPED = advisory(
    7153,
    N_("The release no longer carries {overlay}: what countries have there ends."),
    N_("Keep the [[overlays]] of {last}, unless it is meant so; say it in the notes."),
)
CARRIED_FORM_CHANGED = strict(
    7154,
    N_("{overlay} was {old} and is {new} now: no file of a country could be read."),
    N_("Choose another path for 'site_path', or keep kind, format and encoding."),
)
SETTINGS_DROPPED = advisory(
    7155,
    N_("{path}: settings of {last} that are gone: {keys}."),
    N_("What countries set there has no effect any more: say so in the notes."),
)
SETTINGS_CHANGED = advisory(
    7156,
    N_("{path}: settings with another value than in {last}: {keys}."),
    N_("Countries that set them keep theirs; say in the notes why it changed."),
)
SETTINGS_REQUIRED = advisory(
    7157,
    N_("No site can upgrade before it sets {keys} in {overlay}: there is no default."),
    N_("Ship a value, or say in the notes what each site has to set beforehand."),
)
SETTING_RULES_STRICTER = advisory(
    7158,
    N_("{path}: other values than in {last} are refused for {keys}."),
    N_("A site that has such a value cannot upgrade before it changes it: say so."),
)
SETTING_BREAKS_RULE = strict(
    7159,
    N_("{path}: the release's own value of {key} breaks its rule: {rule}"),
    N_("Correct the value or the rule: no site without a value could upgrade."),
)

# ---- ``[compatibility]`` ----
COMPATIBILITY_DROPPED = advisory(
    7161,
    N_("The release has no [compatibility], and {last} had it: sites copy every database."),
    N_("Write it, unless nobody can say on which databases the release before runs."),
)
COMPATIBILITY_NEW = advisory(
    7162,
    N_("{last} has no [compatibility]: from there, and back, sites copy all the same."),
    N_("Nothing is to be done: it counts from this release on."),
)
SCHEMA_NUMBER_LOWERED = strict(
    7163,
    N_("'schema_number' is {schema}, and was {before} in {last}: it only rises."),
    N_("Give it the number of {last}, or a higher one where the databases change."),
)
SCHEMA_NUMBER_RAISED_IDLY = advisory(
    7164,
    N_("'schema_number' rises from {before} to {schema}, and nothing of it migrates."),
    N_("Leave it, unless the application changes its databases itself when it starts."),
)
BACK_TO_LOWERED = advisory(
    7165,
    N_(
        "'compatible_down_to' falls to {compatible_down_to};"
        " in {last}, whose rows stay, it was {back_before}."
    ),
    N_("Be sure that releases of number {compatible_down_to} run on what {last} wrote, too."),
)
ROLLBACK_GIVES_UP_DATA = advisory(
    7166,
    N_(
        "'compatible_down_to' is {compatible_down_to}:"
        " {last}, of number {before}, does not run afterwards."
    ),
    N_("Going back to it gives up what was entered since. Lower it if {last} does run."),
)
NEW_MIGRATIONS_SAME_NUMBER = advisory(
    7167,
    N_("'schema_number' stays {schema}, and these migrations are new: {migrations}"),
    N_("Raise it, unless tables and what stands in them keep their form."),
)
NEW_MIGRATOR_SAME_NUMBER = advisory(
    7168,
    N_("'schema_number' stays {schema}: the [migrator] never runs where {last} was."),
    N_("Raise it, unless the [migrator] has nothing to do on the databases of {last}."),
)
NEW_FILES_SAME_NUMBER = strict(
    7169,
    N_("'schema_number' stays {schema}: {files} never run where {last} was."),
    N_("Raise it: where it stays, a [migrator] runs nowhere."),
)
EXPAND_WITHOUT_MIGRATOR = advisory(
    7180,
    N_("'expand' counts for nothing: only a [migrator] works while officers do."),
    N_("Leave it out: files of migrations run on copies, in the stop."),
)
EXPAND_NOT_FROM_LAST = advisory(
    7181,
    N_(
        "'expand' does not count from {last}, of number {before}:"
        " 'compatible_down_to' is {compatible_down_to}."
    ),
    N_(
        "Sites that have it copy, with officers out. Lower 'compatible_down_to' if {last} does run."
    ),
)
CONTRACT_SAME_NUMBER = advisory(
    7182,
    N_("'schema_number' stays {schema}: [migrator.contract] never runs where {last} was."),
    N_("Raise it, unless it has nothing to do on the databases of {last}."),
)
