"""The manifest: the description of one release, which the Secretariat writes by hand."""

from __future__ import annotations

import tomllib
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from ncen_updater.common.bounded_io import parse_toml, read_file
from ncen_updater.common.errors import InvalidValueError
from ncen_updater.common.i18n import N_, LocalizedFigure
from ncen_updater.formats.errors import ManifestError, describe_mistakes
from ncen_updater.formats.reported_version import get_reported_version

MAX_MANIFEST_BYTES = 1_000_000
ENGINE_PLACEHOLDER = "{engine}"
#: Placeholder for a language in paths of translations: ``fr``, ``pt_BR``, ``zh-Hant``.
LANGUAGE_PLACEHOLDER = "{lang}"
LANGUAGE_PATTERN = r"^[a-z]{2,3}([_-][A-Za-z0-9]{2,8}){0,2}$"


def _check_version(value: str) -> str:
    try:
        parsed = Version(value)
    except InvalidVersion as error:
        raise ValueError("not a PEP 440 version") from error
    if str(parsed) != value:
        raise InvalidValueError(N_("write it in its normal form: {version}"), version=parsed)
    return value


def _check_specifier(value: str) -> str:
    try:
        # Commas alone would match any version.
        is_valid = len(SpecifierSet(value)) > 0 or not value.strip()
    except InvalidSpecifier:
        is_valid = False
    if not is_valid:
        raise ValueError("not a version specifier such as '>=3.2.4,<3.3'")
    return value


def _check_relative_path(value: str) -> str:
    parts = value.split("/")
    if value.startswith("/") or "\\" in value or any(p in ("", ".", "..") for p in parts):
        raise ValueError("must be a relative path inside the release")
    if any(character < " " for character in value):
        raise ValueError("control character in a path")
    return value


def _check_no_zero_byte(value: str) -> str:
    if "\0" in value:
        raise ValueError("null character")
    return value


VersionText = Annotated[str, StringConstraints(max_length=64), AfterValidator(_check_version)]
SpecifierText = Annotated[str, StringConstraints(max_length=200), AfterValidator(_check_specifier)]
ReportedText = Annotated[str, StringConstraints(pattern=r"^[!-~]{1,100}$")]
Identifier = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,40}$")]
ProductName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,40}$")]
SiteId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,40}$")]
Country = Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$")]
PathInside = Annotated[str, StringConstraints(max_length=400), AfterValidator(_check_relative_path)]
Sql = Annotated[
    str, StringConstraints(min_length=1, max_length=20_000), AfterValidator(_check_no_zero_byte)
]
DatabaseObject = Annotated[
    str,
    StringConstraints(
        pattern=r"^[^\s.\x00-\x1f\x7f]+(\.[^\s.\x00-\x1f\x7f]+){0,2}$", max_length=200
    ),
]
#: A table, with its schema unless that is the default one; ``*`` matches any characters, but the
#: first three characters must be literal.
TablePattern = Annotated[
    str,
    StringConstraints(pattern=r"^[^\s*\x00-\x1f\x7f]{3}[^\s\x00-\x1f\x7f]*$", max_length=200),
]
Argument = Annotated[str, AfterValidator(_check_no_zero_byte)]
PRINTABLE_PATTERN = r"^[^\x00-\x1f\x7f]*$"
KeyPattern = Annotated[
    str, StringConstraints(min_length=1, max_length=400, pattern=PRINTABLE_PATTERN)
]
Language = Annotated[str, StringConstraints(pattern=LANGUAGE_PATTERN, max_length=20)]
NotesLanguage = Annotated[str, StringConstraints(pattern=r"^[a-z]{2}$")]
PlainName = Annotated[str, StringConstraints(min_length=3, max_length=200)]
# A range that disks, databases, files and programs can represent.
Integer = Annotated[int, Field(ge=-(2**63), lt=2**63)]
ByteCount = Annotated[int, Field(ge=0, lt=2**63)]
Milliseconds = Annotated[int, Field(ge=1, le=86_400_000)]


class SignedModel(BaseModel):
    """Base of all signed models: frozen, and refuses unknown fields."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class Channel(StrEnum):
    """Which sites are offered a release; each site chooses its channel."""

    STABLE = "stable"
    PREVIEW = "preview"


class Urgency(StrEnum):
    """How soon the Secretariat recommends to install a release."""

    ROUTINE = "routine"
    RECOMMENDED = "recommended"
    SECURITY = "security"


class CheckStage(StrEnum):
    """Whether a check runs before or after the migrations."""

    BEFORE = "before"
    AFTER = "after"
    BOTH = "both"


class CheckRelation(StrEnum):
    """The relation that must hold between a check's value before and after the migrations."""

    EQUAL = "equal"
    NOT_LESS = "not-less"
    NOT_MORE = "not-more"


class ProgramNeed(SignedModel):
    """A program that the machine must have, such as an interpreter.

    Attributes:
        name: Name in the PATH of the application's user; must support ``--version``.
        version: Accepted versions.
    """

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9+._-]{0,40}$")]
    version: SpecifierText


class SiteRequirements(SignedModel):
    """What a site must provide.

    Attributes:
        disk_bytes: Free bytes needed for the new tree and its work, without database copies.
        postgresql: Accepted server versions, if the site uses PostgreSQL.
        sqlite: Accepted library versions, if the site uses SQLite.
        programs: Programs of the machine, without those that the release contains.
    """

    disk_bytes: ByteCount = 0
    postgresql: SpecifierText = ">=14,<19"
    sqlite: SpecifierText = ">=3.35"
    programs: Annotated[tuple[ProgramNeed, ...], Field(min_length=1, max_length=20)] | None = None

    def get_specifier(self, engine: str) -> str:
        """Return the accepted versions of an engine; empty if any version is accepted."""
        return str(getattr(self, engine, ""))


class Migration(SignedModel):
    """One migration of one database: an ``up`` file, and a ``down`` file or a reason for none.

    ``{engine}`` in a path stands for ``postgresql`` or ``sqlite``.

    Attributes:
        id: Identifies and orders the migration; unique in its database, never reused.
        up: Path of the SQL file that upgrades to this release.
        down: Path of the SQL file that rolls back; it keeps all values except ``data_loss``.
        data_loss: Tables or columns (``table`` or ``table.column``, as in the database) whose
            entered values ``down`` loses. Shown to signers and operators; the values are counted
            before a rollback.
        irreversible: The reason why there is no ``down``.
        verify: Path of an SQL file, run after ``up``, whose statements must all return no row.
        transactional: False for statements that cannot run in a transaction; such a migration has
            exactly one statement, which must be repeatable.
        lock_timeout_ms: ``lock_timeout`` of each statement.
        statement_timeout_ms: ``statement_timeout`` of each statement.
    """

    id: Annotated[str, StringConstraints(pattern=r"^[0-9a-z][0-9a-z_]{0,60}$")]
    up: PathInside
    down: PathInside | None = None
    data_loss: Annotated[tuple[DatabaseObject, ...], Field(min_length=1, max_length=200)] | None = (
        None
    )
    irreversible: Annotated[str, StringConstraints(min_length=10, max_length=500)] | None = None
    verify: PathInside | None = None
    transactional: bool = True
    lock_timeout_ms: Milliseconds = 5_000
    statement_timeout_ms: Milliseconds = 3_600_000

    @model_validator(mode="after")
    def _check_down_or_reason(self) -> Migration:
        if (self.down is None) == (self.irreversible is None):
            raise ValueError("give either 'down' or the reason in 'irreversible'")
        if self.data_loss is not None and self.down is None:
            raise ValueError("'data_loss' needs 'down'")
        return self


class SelfManagedObject(StrEnum):
    """Kinds of schema objects that an application may create or change at run time; none is code.

    Agents refuse unknown kinds, so no kind may be added to this field later.
    """

    TABLES = "tables"
    COLUMNS = "columns"
    CONSTRAINTS = "constraints"
    INDEXES = "indexes"
    SEQUENCES = "sequences"


class DatabaseManifest(SignedModel):
    """One database of the product, with all its migrations since the first release, in order.

    Attributes:
        name: Name of the database in the sites' configuration.
        migrations: The migrations; empty if the application has its own migrator.
        tables_without_records: Tables without entered data (sessions, caches), whose data loss is
            shown but not counted.
        self_managed: Kinds of schema objects that the running application changes itself.
    """

    name: Identifier
    migrations: tuple[Migration, ...] = ()
    tables_without_records: (
        Annotated[tuple[TablePattern, ...], Field(min_length=1, max_length=200)] | None
    ) = None
    self_managed: (
        Annotated[tuple[SelfManagedObject, ...], Field(min_length=1, max_length=5)] | None
    ) = None

    @model_validator(mode="after")
    def _check_unique_ids(self) -> DatabaseManifest:
        kinds = self.self_managed or ()
        if len(set(kinds)) != len(kinds):
            raise ValueError("duplicate value in 'self_managed'")
        ids = [m.id for m in self.migrations]
        if ids != sorted(set(ids)):
            raise ValueError("migration ids must be unique and in ascending order")
        return self


class NamedModel(SignedModel):
    """Base of items with a name that operators read.

    Attributes:
        names: The name in other languages.
        name: Plain-language name, shown in the operator's language if ``names`` has it.
    """

    names: dict[NotesLanguage, PlainName] | None = None
    name: PlainName

    @field_validator("name")
    @classmethod
    def _know_other_languages(cls, name: str, info: ValidationInfo) -> str:
        return LocalizedFigure(name, **(info.data.get("names") or {}))


class DomainCheck(NamedModel):
    """A check of the data's meaning, run on a candidate database.

    The SQL is one SELECT that returns one row with one value.

    Attributes:
        database: The database to query.
        sql: The query before and after the migrations.
        sql_after: The query after them, if the schema change requires another one.
        when: Stage at which the query runs; a ``relation`` needs both.
        expect: The required value.
        relation: The required relation between the values before and after.
    """

    database: Identifier
    sql: Sql
    sql_after: Sql | None = None
    when: CheckStage = CheckStage.BOTH
    expect: Integer | str | None = None
    relation: CheckRelation | None = None

    @model_validator(mode="after")
    def _check_expectation(self) -> DomainCheck:
        if (self.expect is None) == (self.relation is None):
            raise ValueError("give either 'expect' or 'relation'")
        if self.relation is not None and self.when is not CheckStage.BOTH:
            raise ValueError("'relation' needs the value on both sides")
        return self


class HealthProbe(SignedModel):
    """A request to the application's health endpoint, with the expected values of JSON fields."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    path: Annotated[str, StringConstraints(pattern=r"^/[!-~]{0,300}$")]
    status: Annotated[int, Field(ge=100, le=599)] = 200
    expect: dict[str, str | Integer | bool] = Field(default_factory=dict)


class ReferenceMap(NamedModel):
    """A change of codes in a reference table; rows whose code has no successor are reported first.

    Attributes:
        database: The database of the rows.
        unmapped: SELECT of the rows without a new code: code and count; run by the preflight.
        affected: SELECT of the number of rows whose code changes; run by a rehearsal.
        codes: All old codes; ``lint`` refuses a release whose migrations omit one of them.
        strict: Whether rows without a new code block the upgrade.
    """

    database: Identifier
    unmapped: Sql
    affected: Sql | None = None
    codes: Annotated[
        tuple[Annotated[str, StringConstraints(pattern=r"^[^'\\\s]{1,100}$")], ...],
        Field(max_length=10_000),
    ] = ()
    strict: bool = False


class DatabaseProgram(SignedModel):
    """A program of the application that works on its databases.

    Attributes:
        argv: Program and arguments. The program's path is relative to the slot and inside it;
            ``{slot}`` in an argument is replaced by the slot's directory. The databases' addresses
            are in the environment: ``NCEN_DB_<NAME>_URL``, and ``_HOST``, ``_PORT``, ``_NAME`` and
            ``_USER``.
        timeout_s: Seconds after which the program is killed and has failed.
    """

    argv: Annotated[tuple[Argument, ...], Field(min_length=1, max_length=40)]
    timeout_s: Annotated[int, Field(ge=1, le=86_400)] = 3_600

    def is_in_slot(self) -> bool:
        """Return whether the program is a plain path below the slot; sites run no other."""
        parts = self.argv[0].split("/")
        return all(part not in ("", ".", "..") for part in parts)


class MigratorCommand(DatabaseProgram):
    """The application's own migrator, used instead of SQL files; runs on the candidates.

    Attributes:
        no_rollback_reason: Why the migrations cannot be rolled back without data loss.
        contract: Program that completes the migrations on the live databases after the soak
            period, while users work.
    """

    no_rollback_reason: Annotated[str, StringConstraints(min_length=10, max_length=500)] = (
        "the application's own migrator only goes forward"
    )
    contract: DatabaseProgram | None = None


class SmokeCommand(DatabaseProgram):
    """A program that tests the release on migrated copies in a rehearsal; status 0 is success.

    It may only read: changes that it makes to the databases are attributed to the migration.
    """

    timeout_s: Annotated[int, Field(ge=1, le=3_600)] = 300


class SchemaCompatibility(SignedModel):
    """Which releases and schemas are compatible, so that an upgrade may change only the code.

    Attributes:
        schema_number: Number of this release's schema; raised whenever the form of tables or of
            their data changes.
        compatible_down_to: Releases with at least this schema number also run on databases that
            this release has written.
        expand: Whether the migrations may run while a compatible older release serves users: they
            only add objects which that release does not see, hold no long locks, and are
            repeatable.
    """

    schema_number: Annotated[int, Field(ge=0, lt=2**31)]
    compatible_down_to: Annotated[int, Field(ge=0, lt=2**31)]
    expand: bool | None = None

    @model_validator(mode="after")
    def _check_numbers(self) -> SchemaCompatibility:
        if self.compatible_down_to > self.schema_number:
            raise ValueError("'compatible_down_to' must not exceed 'schema_number'")
        if self.expand and self.compatible_down_to == self.schema_number:
            raise ValueError("'expand' needs 'compatible_down_to' below 'schema_number'")
        return self


class SiteFileEffect(StrEnum):
    """Effect of a release on site files, from its first start on."""

    NOTHING = "nothing"  # the release only reads them
    ADDS = "adds"  # creates new files
    MOVES = "moves"  # renames, replaces or removes files
    REWRITES = "rewrites"  # writes into existing files


class SiteFilesManifest(SignedModel):
    """A release's declared effect on files that the site owns; the plan shows it.

    Attributes:
        name: Name in the sites' configuration.
        effect: The strongest effect.
        description: The exact effect, in plain language.
    """

    name: Identifier
    effect: SiteFileEffect
    description: Annotated[str, StringConstraints(max_length=500, pattern=PRINTABLE_PATTERN)] = ""

    @model_validator(mode="after")
    def _check_description(self) -> SiteFilesManifest:
        if self.effect is not SiteFileEffect.NOTHING and len(self.description) < 10:
            raise ValueError("describe the change to these files in 'description'")
        return self


class OverlayKind(StrEnum):
    """Kind of the files of an ``[[overlays]]`` entry."""

    TRANSLATIONS = "translations"
    SETTINGS = "settings"


class OverlayFormat(StrEnum):
    """File format of an overlay."""

    PO = "po"
    PROPERTIES = "properties"
    JSON = "json"
    INI = "ini"


class OverlayArea(SignedModel):
    """Texts of one part of the application, counted separately.

    Attributes:
        keys: Pattern of their keys, with ``*``.
        label: Where users see them: "where users enter seizures".
    """

    keys: KeyPattern
    label: Annotated[
        str, StringConstraints(min_length=3, max_length=200, pattern=PRINTABLE_PATTERN)
    ]


class SettingRule(SignedModel):
    """A rule for the value of one setting.

    Attributes:
        key: Key of the setting.
        type: Type of the value.
        least: Minimum of a number, or minimum length in characters.
        most: Maximum of a number, or maximum length in characters.
        one_of: All allowed values, if they are few.
    """

    key: KeyPattern
    type: Literal["text", "integer", "number", "boolean"] = "text"
    least: FiniteFloat | None = None
    most: FiniteFloat | None = None
    one_of: Annotated[tuple[str, ...], Field(max_length=200)] = ()


class OverlayManifest(SignedModel):
    """Translations or settings that a country may override, merged by key at each upgrade.

    Attributes:
        kind: Translations or settings.
        format: File format.
        release_path: Path of the release's file; ``{lang}`` stands for a language.
        site_path: Path of the country's file below its overlay directory; it has overrides only.
        source: For translations: the language in which texts are first written.
        template: For translations: a file with all texts, if the source language has no file.
        encoding: Encoding of the files.
        compiled: For ``po``: whether a ``.mo`` file is written beside each file.
        areas: For translations: groups of texts that are counted separately.
        required: Settings that must have a value.
        rules: Rules for the values of settings.
        renamed: New keys by old keys.
    """

    kind: OverlayKind
    format: OverlayFormat
    release_path: PathInside
    site_path: PathInside
    source: Language = "en"
    template: PathInside | None = None
    encoding: Literal["utf-8", "latin-1"] = "utf-8"
    compiled: bool = False
    areas: Annotated[tuple[OverlayArea, ...], Field(max_length=50)] = ()
    required: Annotated[tuple[str, ...], Field(max_length=1000)] = ()
    rules: Annotated[tuple[SettingRule, ...], Field(max_length=1000)] = ()
    renamed: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check_kind(self) -> OverlayManifest:
        wanted = 1 if self.kind is OverlayKind.TRANSLATIONS else 0
        for name, path in (("release_path", self.release_path), ("site_path", self.site_path)):
            if path.count(LANGUAGE_PLACEHOLDER) != wanted or "{" in path.replace(
                LANGUAGE_PLACEHOLDER, ""
            ):
                raise InvalidValueError(
                    N_(
                        "'{name}' must contain {placeholder} once for translations, and not for"
                        " settings"
                    ),
                    name=name,
                    placeholder=LANGUAGE_PLACEHOLDER,
                )
        if wanted and (self.required or self.rules):
            raise ValueError("'required' and 'rules' are for settings only")
        if not wanted and (self.areas or self.template or self.format is OverlayFormat.PO):
            raise ValueError("'areas', 'template' and format 'po' are for translations only")
        if self.format is OverlayFormat.PO and self.encoding != "utf-8":
            raise ValueError("format 'po' requires utf-8")
        if self.compiled and self.format is not OverlayFormat.PO:
            raise ValueError("'compiled' is for format 'po' only")
        return self


class ReleaseNotes(SignedModel):
    """Release notes in one language: plain text in paragraphs."""

    title: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    text: Annotated[str, StringConstraints(max_length=20_000)] = ""


class Manifest(SignedModel):
    """One release of one product. See ``docs/reference/release-format.md`` for the TOML form."""

    schema_: Annotated[Literal[1], Field(alias="schema")]
    product: ProductName
    version: VersionText
    reports: ReportedText | None = None
    upgrade_from: SpecifierText = ""
    required: bool = False
    channel: Channel = Channel.STABLE
    urgency: Urgency = Urgency.ROUTINE
    agent: SpecifierText = ">=0.1"
    countries: tuple[Country, ...] = ()
    needs: SiteRequirements = SiteRequirements.model_construct()
    databases: tuple[DatabaseManifest, ...] = ()
    migrator: MigratorCommand | None = None
    smoke: SmokeCommand | None = None
    compatibility: SchemaCompatibility | None = None
    checks: tuple[DomainCheck, ...] = ()
    health: tuple[HealthProbe, ...] = ()
    reference_maps: tuple[ReferenceMap, ...] = ()
    files: tuple[SiteFilesManifest, ...] = ()
    overlays: Annotated[tuple[OverlayManifest, ...], Field(max_length=50)] = ()
    notes: dict[NotesLanguage, ReleaseNotes] = Field(default_factory=dict)

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True, populate_by_name=True)

    @model_validator(mode="after")
    def _check_consistency(self) -> Manifest:
        names = [database.name for database in self.databases]
        if len(names) != len(set(names)):
            raise ValueError("duplicate database name")
        if len({item.name for item in self.files}) != len(self.files):
            raise ValueError("duplicate name in [[files]]")
        for of in ("release_path", "site_path"):
            if len({getattr(item, of) for item in self.overlays}) != len(self.overlays):
                raise InvalidValueError(N_("duplicate '{name}' in 'overlays'"), name=of)
        asked = [(check.name, check.database) for check in self.checks]
        asked += [(item.name, item.database) for item in self.reference_maps]
        for name, database_name in asked:
            if database_name not in names:
                raise InvalidValueError(
                    N_("'{name}' needs the unknown database '{database}'"),
                    name=name,
                    database=database_name,
                )
        if self.migrator and any(database.migrations for database in self.databases):
            raise ValueError("give either SQL migrations or a migrator command, not both")
        return self

    @property
    def release_version(self) -> Version:
        """Return the parsed version."""
        return Version(self.version)

    @property
    def reported(self) -> str:
        """Return the version that the application reports: ``reports`` or the release's version."""
        return get_reported_version(self.version, self.reports)

    def accepts_version(self, version: Version) -> bool:
        """Return whether this release may be installed over ``version``."""
        return is_version_accepted(self.upgrade_from, version)


def is_version_accepted(upgrade_from: str, version: Version) -> bool:
    """Return whether ``upgrade_from`` allows a release to be installed over ``version``.

    An empty value allows none: such a release is for a first installation only. (PEP 440 would let
    an empty specifier match every version, which an author who omits it cannot intend.)
    """
    return bool(upgrade_from.strip()) and SpecifierSet(upgrade_from, prereleases=True).contains(
        version
    )


def fill_engine(engine: str, path: str) -> str:
    """Replace ``{engine}`` in a path of the manifest."""
    return path.replace(ENGINE_PLACEHOLDER, engine)


def parse_manifest(data: object, source: str) -> Manifest:
    """Validate data against the manifest's schema.

    Raises:
        ManifestError: With each mistake and its place in ``detail``.
    """
    try:
        return Manifest.model_validate(data)
    except ValidationError as error:
        raise ManifestError(source=source, detail=describe_mistakes(error, "manifest")) from error


def load_manifest(path: Path) -> Manifest:
    """Read ``manifest.toml``.

    Raises:
        ManifestError: If it cannot be read, is too large, is not TOML, or is invalid.
    """
    try:
        data = parse_toml(read_file(path, MAX_MANIFEST_BYTES).decode("utf-8"))
    except OSError as error:
        raise ManifestError(source=path, detail=f"{path}: {error.strerror or error}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ManifestError(source=path, detail=str(error)) from error
    return parse_manifest(data, str(path))
