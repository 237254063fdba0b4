"""The manifest: what one release of a product is, as the Secretariat writes it by hand."""

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
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from ncen_updater.common.bounded_io import parse_toml, read_file
from ncen_updater.common.i18n import N_, LazyText, LocalizedFigure
from ncen_updater.formats.errors import ManifestError, describe_mistakes
from ncen_updater.formats.reported_version import get_reported_version

MAX_MANIFEST_BYTES = 1_000_000
ENGINE_PLACEHOLDER = "{engine}"
#: Stands for a language in paths of translations: ``fr``, ``pt_BR``, ``zh-Hant``.
LANGUAGE_PLACEHOLDER = "{lang}"
LANGUAGE_PATTERN = r"^[a-z]{2,3}([_-][A-Za-z0-9]{2,8}){0,2}$"


def _check_version(value: str) -> str:
    try:
        parsed = Version(value)
    except InvalidVersion as error:
        raise ValueError("not a PEP 440 version") from error
    if str(parsed) != value:
        raise ValueError(
            LazyText(N_("write it in its normal form: {version}"), {"version": parsed})
        )
    return value


def _check_specifier(value: str) -> str:
    try:
        SpecifierSet(value)
    except InvalidSpecifier as error:
        raise ValueError("not a version specifier such as '>=3.2.4,<3.3'") from error
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
#: A table, with its schema where that is not the usual one; ``*`` stands for anything, but not for
#: most of a name.
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
# What a disk can hold, and every database, file and program can write down.
ByteCount = Annotated[int, Field(ge=0, lt=2**63)]
Milliseconds = Annotated[int, Field(ge=1, le=86_400_000)]


class SignedModel(BaseModel):
    """Base of all signed models: frozen, and strict about names it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class Channel(StrEnum):
    """Which sites a release is meant for, by their own choice."""

    STABLE = "stable"
    PREVIEW = "preview"


class Urgency(StrEnum):
    """How soon the Secretariat would see a release installed."""

    ROUTINE = "routine"
    RECOMMENDED = "recommended"
    SECURITY = "security"


class CheckStage(StrEnum):
    """On which side of the migrations a check is asked."""

    BEFORE = "before"
    AFTER = "after"
    BOTH = "both"


class CheckRelation(StrEnum):
    """The relation that must hold between a check's value before and after the migrations."""

    EQUAL = "equal"
    NOT_LESS = "not-less"
    NOT_MORE = "not-more"


class ProgramNeed(SignedModel):
    """A program of the machine's, such as an interpreter.

    Attributes:
        name: By which the application's user finds it; it says its version to ``--version``.
        version: Those that are accepted.
    """

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9+._-]{0,40}$")]
    version: SpecifierText


class SiteRequirements(SignedModel):
    """What a site must have.

    Attributes:
        disk_bytes: Free bytes that the new tree and its work need, beyond copies of the databases.
        postgresql: Accepted server versions, if the site uses PostgreSQL.
        sqlite: Accepted library versions, if the site uses SQLite.
        programs: Of the machine; what the release brings itself is none of them.
    """

    disk_bytes: ByteCount = 0
    postgresql: SpecifierText = ">=14,<19"
    sqlite: SpecifierText = ">=3.35"
    programs: Annotated[tuple[ProgramNeed, ...], Field(min_length=1, max_length=20)] | None = None

    def get_specifier(self, engine: str) -> str:
        """Return the accepted versions of an engine; empty where any is accepted."""
        return str(getattr(self, engine, ""))


class Migration(SignedModel):
    """One migration of one database: two plain SQL files, or one and the reason there is no other.

    ``{engine}`` in a path stands for ``postgresql`` or ``sqlite``.

    Attributes:
        id: Sorts and names the migration; unique in its database, never used again.
        up: Path of the SQL file that goes to this release.
        down: Path of the SQL file that goes back, keeping every record.
        data_loss: What ``down`` does not keep although people may have entered it: ``table`` or
            ``table.column``, as the database calls them. Told to who signs, to who installs, and
            counted before anybody goes back.
        irreversible: The reason why there is no ``down``.
        verify: Path of an SQL file whose every statement must return no row, run after ``up``.
        transactional: False for statements that refuse a transaction; such a migration may hold one
            statement only and must be repeatable.
        lock_timeout_ms: How long one statement may wait for a lock.
        statement_timeout_ms: How long one statement may run.
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
    """Kinds of things that an application may change in a schema by itself; none of them is code.

    An agent refuses a kind that it does not know, so there will be no more of them under this name.
    """

    TABLES = "tables"
    COLUMNS = "columns"
    CONSTRAINTS = "constraints"
    INDEXES = "indexes"
    SEQUENCES = "sequences"


class DatabaseManifest(SignedModel):
    """One database of the product, with all migrations from the first release on, in order.

    Attributes:
        name: As sites call it in their configuration.
        migrations: Files; none where the application has a migrator of its own.
        tables_without_records: Tables with nothing that anybody entered (sessions, caches): what is
            lost of them is told and not counted.
        self_managed: What the application changes in its schema by itself, once it runs.
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
    """What operators know by its name.

    Attributes:
        names: The name in other languages.
        name: In plain words; shown to operators, in their language where ``names`` has it.
    """

    names: dict[NotesLanguage, PlainName] | None = None
    name: PlainName

    @field_validator("name")
    @classmethod
    def _know_other_languages(cls, name: str, info: ValidationInfo) -> str:
        return LocalizedFigure(name, **(info.data.get("names") or {}))


class DomainCheck(NamedModel):
    """A question about the meaning of the data, asked in SQL on a candidate.

    The SQL is one SELECT that returns one row with one value.

    Attributes:
        database: Where it is asked.
        sql: Asked before and after; ``sql_after`` where the question changes with the schema.
        when: On which side it is asked; a ``relation`` needs both.
        expect: The value it must have.
        relation: The relation between the value before and after.
    """

    database: Identifier
    sql: Sql
    sql_after: Sql | None = None
    when: CheckStage = CheckStage.BOTH
    expect: int | str | None = None
    relation: CheckRelation | None = None

    @model_validator(mode="after")
    def _check_expectation(self) -> DomainCheck:
        if (self.expect is None) == (self.relation is None):
            raise ValueError("give either 'expect' or 'relation'")
        if self.relation is not None and self.when is not CheckStage.BOTH:
            raise ValueError("'relation' needs the value on both sides")
        return self


class HealthProbe(SignedModel):
    """A request to the application's own health end point; JSON fields must have these values."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    path: Annotated[str, StringConstraints(pattern=r"^/[!-~]{0,300}$")]
    status: Annotated[int, Field(ge=100, le=599)] = 200
    expect: dict[str, str | int | bool] = Field(default_factory=dict)


class ReferenceMap(NamedModel):
    """Old codes to new codes of a reference table; rows with no target are reported beforehand.

    Attributes:
        database: Where the rows are.
        unmapped: SELECT of the rows without a target: code and count; run before anything begins.
        affected: SELECT of the number of rows that get another code; a rehearsal tells it.
        codes: Every old code, from the list that was in force; ``lint`` refuses a release whose
            migrations do not name one of them.
        strict: Whether such rows block the upgrade.
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
    """A program of the application's that works on its databases.

    Attributes:
        argv: Program and arguments, the program relative to the slot and in it; ``{slot}`` in an
            argument stands for its directory. The addresses of the databases are in the environment
            as ``NCEN_DB_<NAME>_URL``, and in parts (``_HOST``, ``_PORT``, ``_NAME``, ``_USER``).
        timeout_s: Seconds until it is ended and counts as failed.
    """

    argv: Annotated[tuple[Argument, ...], Field(min_length=1, max_length=40)]
    timeout_s: Annotated[int, Field(ge=1, le=86_400)] = 3_600

    def is_in_slot(self) -> bool:
        """Tell whether the program is named by a plain path below the slot; sites run no other."""
        parts = self.argv[0].split("/")
        return all(part not in ("", ".", "..") for part in parts)


class MigratorCommand(DatabaseProgram):
    """The application's own migrator instead of SQL files, run on the candidates.

    Attributes:
        no_rollback_reason: The reason why the migrations cannot be undone keeping records.
        contract: What brings the migrations to their end once the release was watched, on the live
            databases, while users work with it.
    """

    no_rollback_reason: Annotated[str, StringConstraints(min_length=10, max_length=500)] = (
        "the application's own migrator only goes forward"
    )
    contract: DatabaseProgram | None = None


class SmokeCommand(DatabaseProgram):
    """A program by which a rehearsal tries the release on migrated copies; it ends with 0 if well.

    It may read, and leaves the databases as they are: what it writes counts as the migration's.
    """

    timeout_s: Annotated[int, Field(ge=1, le=3_600)] = 300


class SchemaCompatibility(SignedModel):
    """How far releases and databases of others go together: what lets only the code change.

    Attributes:
        schema_number: Of the schema that this release runs on, as the application counts: raised
            whenever tables or what stands in them get another form.
        compatible_down_to: A release with this number or a later one runs on the databases of this
            release, and on whatever this release wrote into them from its first start on.
        expand: Whether its migrations may run while such a release serves: they only add what
            that one does not see, hold no lock for long, and may be repeated.
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
    """What a release does to files of the site, from its first start on."""

    NOTHING = "nothing"  # it reads them
    ADDS = "adds"  # new ones beside those that are there
    MOVES = "moves"  # it renames, replaces or removes
    REWRITES = "rewrites"  # it writes into files that are there


class SiteFilesManifest(SignedModel):
    """What a release does to files that the site owns. Declared, shown in the plan, and undone.

    Attributes:
        name: As in the sites' configuration.
        effect: The strongest that holds.
        description: What exactly, for people.
    """

    name: Identifier
    effect: SiteFileEffect
    description: Annotated[
        str, StringConstraints(max_length=500, pattern=r"^[^\x00-\x1f\x7f]*$")
    ] = ""

    @model_validator(mode="after")
    def _check_description(self) -> SiteFilesManifest:
        if self.effect is not SiteFileEffect.NOTHING and len(self.description) < 10:
            raise ValueError("describe the change to these files in 'words'")
        return self


class OverlayKind(StrEnum):
    """What the files of a ``[[overlays]]`` are."""

    TRANSLATIONS = "translations"
    SETTINGS = "settings"


class OverlayFormat(StrEnum):
    """In which form they are written."""

    PO = "po"
    PROPERTIES = "properties"
    JSON = "json"
    INI = "ini"


class OverlayArea(SignedModel):
    """Texts that people meet in one place, counted apart.

    Attributes:
        keys: Which, as a pattern with ``*``.
        label: Where, for people: "where users enter seizures".
    """

    keys: KeyPattern
    label: Annotated[
        str, StringConstraints(min_length=3, max_length=200, pattern=PRINTABLE_PATTERN)
    ]


class SettingRule(SignedModel):
    """What a release asks of one setting's value.

    Attributes:
        key: Which.
        type: Of the value.
        least: The smallest number, or the fewest characters.
        most: The largest number, or the most characters.
        one_of: The only values, where there are few.
    """

    key: Annotated[str, StringConstraints(min_length=1, max_length=400, pattern=PRINTABLE_PATTERN)]
    type: Literal["text", "integer", "number", "boolean"] = "text"
    least: float | None = None
    most: float | None = None
    one_of: Annotated[tuple[str, ...], Field(max_length=200)] = ()


class OverlayManifest(SignedModel):
    """Translations or settings of which the country owns a part, merged by key at each release.

    Attributes:
        kind: What they are.
        format: In which form.
        release_path: What the release ships; ``{lang}`` stands for a language.
        site_path: The country's own, below its directory; only what differs.
        source: Translations: the language that all texts are written in first.
        template: Translations: a file with all texts, where the source language has none.
        encoding: Of the files.
        compiled: Format ``po``: whether a ``.mo`` is written beside each.
        areas: Translations: texts that are counted apart.
        required: Settings that must have a value.
        rules: What is asked of the values of settings.
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
                raise ValueError(
                    LazyText(
                        N_("'{name}' holds {placeholder} once for translations, else not"),
                        {"name": name, "placeholder": LANGUAGE_PLACEHOLDER},
                    )
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
    """What a person reads about a release, in one language (plain text, paragraphs)."""

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
    needs: SiteRequirements = SiteRequirements()
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
                raise ValueError(LazyText(N_("duplicate '{name}' in 'overlays'"), {"name": of}))
        asked = [(check.name, check.database) for check in self.checks]
        asked += [(item.name, item.database) for item in self.reference_maps]
        for name, database_name in asked:
            if database_name not in names:
                raise ValueError(
                    LazyText(
                        N_("'{name}' needs the unknown database '{database}'"),
                        {"name": name, "database": database_name},
                    )
                )
        if self.migrator and any(database.migrations for database in self.databases):
            raise ValueError("give either SQL migrations or a migrator command, not both")
        return self

    @property
    def release_version(self) -> Version:
        """Return the version, parsed."""
        return Version(self.version)

    @property
    def reported(self) -> str:
        """Return what the application says that it is: ``reports``, or the version."""
        return get_reported_version(self.version, self.reports)

    def accepts_version(self, version: Version) -> bool:
        """Tell whether this release may be installed over ``version``."""
        return is_version_accepted(self.upgrade_from, version)


def is_version_accepted(upgrade_from: str, version: Version) -> bool:
    """Tell whether an ``upgrade_from`` lets a release be installed over ``version``.

    An empty one names no release: such a release is only for a first installation. (An empty
    specifier would hold for every version, which nobody who left it out can have meant.)
    """
    return bool(upgrade_from.strip()) and SpecifierSet(upgrade_from, prereleases=True).contains(
        version
    )


def fill_engine(engine: str, path: str) -> str:
    """Fill the engine's name into a path of the manifest."""
    return path.replace(ENGINE_PLACEHOLDER, engine)


def parse_manifest(data: object, source: str) -> Manifest:
    """Check data of any origin against the schema.

    Raises:
        ManifestError: With every mistake and its place in ``detail``.
    """
    try:
        return Manifest.model_validate(data)
    except ValidationError as error:
        raise ManifestError(source=source, detail=describe_mistakes(error, "manifest")) from error


def load_manifest(path: Path) -> Manifest:
    """Read ``manifest.toml``.

    Raises:
        ManifestError: If it cannot be read, is too large, is not TOML, or breaks the schema.
    """
    try:
        data = parse_toml(read_file(path, MAX_MANIFEST_BYTES).decode("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ManifestError(source=path, detail=str(error)) from error
    return parse_manifest(data, str(path))
