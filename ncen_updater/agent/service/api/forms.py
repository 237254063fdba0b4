"""Strict parsing of request bodies and queries: malformed input is refused, never corrected."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import parse_qsl

from packaging.version import InvalidVersion, Version
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
)

from ncen_updater.agent.service.errors import BadRequestError
from ncen_updater.agent.storage.inbox import MAX_NAME_LENGTH, is_plain_name
from ncen_updater.common.http_server import PATH_PATTERNS
from ncen_updater.common.i18n import DEFAULT_LANGUAGE, LazyText, list_languages, match_language
from ncen_updater.common.json_records import parse_stored_time
from ncen_updater.formats.errors import describe_mistakes

MAX_BODY_BYTES = 65_536
#: Longest wait for an inspection by its number, in seconds.
MAX_WAIT_S = 30
MAX_ROWS = 10_000
#: SQLite's largest integer.
MAX_NUMBER = 2**63 - 1


def _normalize_version(text: str) -> str:
    try:
        return str(Version(text))
    except InvalidVersion as error:
        raise ValueError("not a version") from error


def _validate_inbox_name(text: str) -> str:
    if not is_plain_name(text):
        raise ValueError("not a file name in the import directory")
    return text


def _require_printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("non-printable characters")
    return text


def _parse_utc_time(value: object) -> object:
    """Accept only text: a number would be read as seconds."""
    if not isinstance(value, str):
        raise ValueError("not a time")
    try:
        return parse_stored_time(value)
    except ValueError as error:
        raise ValueError("not a time such as 2030-01-31T18:00:00Z") from error


ReleaseVersion = Annotated[
    str,
    StringConstraints(min_length=1, max_length=50),
    AfterValidator(_normalize_version),
]
Binding = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
ReasonText = Annotated[
    str,
    StringConstraints(min_length=1, max_length=500, pattern=r"\S"),
    AfterValidator(_require_printable),
]
RecordCount = Annotated[int, Field(ge=0, le=MAX_NUMBER)]
UtcTime = Annotated[AwareDatetime, BeforeValidator(_parse_utc_time)]


class ApiForm(BaseModel):
    """Base class of all forms."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class HoldForm(ApiForm):
    """A hold on upgrades.

    Attributes:
        reason: Reason, shown to other users.
        until: When the hold ends automatically; it has no end if omitted.
    """

    reason: ReasonText
    until: UtcTime | None = None


class ApprovalForm(ApiForm):
    """An approval.

    Attributes:
        binding: Binding of the dossier or rollback plan that the user saw.
        version: The release, if the user named one.
        change_kind: Whether the next upgrade is approved, or a rollback of the installed release.
        accept_loss: For a rollback: number of records that may be lost.
    """

    binding: Binding
    version: ReleaseVersion | None = None
    change_kind: Literal["upgrade", "rollback"] = "upgrade"
    accept_loss: RecordCount | None = None


class ScheduleForm(ApiForm):
    """A scheduled start of an upgrade.

    Attributes:
        binding: Binding of the dossier that the user saw.
        not_before: Earliest start.
        version: The release, if the user named one.
    """

    binding: Binding
    not_before: UtcTime
    version: ReleaseVersion | None = None


class ReceiptLevelForm(ApiForm):
    """Sharing level of receipts.

    Attributes:
        level: The level.
    """

    level: Literal["none", "version", "outcome", "figures"]


def _validate_language(language: str) -> str:
    known = match_language(language)
    if known is None:
        raise ValueError("no catalogue for this language")
    return known


def _add_language_enum(schema: dict[str, Any]) -> None:
    schema["enum"] = list(list_languages())


Language = Annotated[
    str, AfterValidator(_validate_language), Field(json_schema_extra=_add_language_enum)
]
CHAIN_HEAD_PATTERN = r"^[1-9][0-9]{0,17}:[0-9a-f]{16,64}$"
InboxFileName = Annotated[
    str,
    StringConstraints(min_length=1, max_length=MAX_NAME_LENGTH),
    AfterValidator(_validate_inbox_name),
]


class RejectionForm(ApiForm):
    """A rejection of an upgrade by an approver.

    Attributes:
        binding: Binding of the dossier that the user saw.
        version: The release; the next one if omitted.
        reason: Reason, shown to other users.
        language: Language of the hold's text.
    """

    binding: Binding
    version: ReleaseVersion | None = None
    reason: ReasonText
    language: Language = DEFAULT_LANGUAGE


class JobForm(ApiForm):
    """A job for the service.

    Attributes:
        kind: Kind of the job.
        version: The release; the next one if omitted.
        retry: Whether to include releases that failed at this site.
        accept_loss: For a rollback: number of records that may be lost.
        undoes: For a rollback: ID of the upgrade whose rollback plan the user saw; no other upgrade
            is rolled back.
        emergency_reason: For a rollback: why it starts without the required approvals.
        file: For an import: file name of the bundle in the import directory.
        dry_run: For an import: whether the bundle is only verified and not stored.
        language: Language of texts in the result.
    """

    kind: Literal[
        "check", "prepare", "rehearse", "upgrade", "rollback", "resume", "self-update", "import"
    ]
    version: ReleaseVersion | None = None
    retry: bool = False
    accept_loss: RecordCount | None = None
    undoes: Annotated[str, StringConstraints(pattern=r"^[a-z2-7]{8}$")] | None = None
    emergency_reason: ReasonText | None = None
    file: InboxFileName | None = None
    dry_run: bool = False
    language: Language = DEFAULT_LANGUAGE


AnyForm = TypeVar("AnyForm", bound=ApiForm)


def read_form(kind: type[AnyForm], content: bytes, content_type: str) -> AnyForm:
    """Parse the body of a request.

    Raises:
        BadRequestError: If it does not match the form.
    """
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise BadRequestError(reason="Content-Type is not application/json")
    try:
        data = json.loads(
            content, object_pairs_hook=_reject_duplicate_keys, parse_constant=_reject_constant
        )
    except (ValueError, RecursionError) as error:
        raise BadRequestError(reason="the body is not JSON", detail=str(error)[:200]) from error
    return validate_form(kind, data)


def validate_form(kind: type[AnyForm], data: object) -> AnyForm:
    """Validate data as a form.

    Raises:
        BadRequestError: If it does not match the form.
    """
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise BadRequestError(reason=describe_mistakes(error, "body")) from error


def _reject_duplicate_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("duplicate name")
    return found


def _reject_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def _parse_digits(value: object) -> object:
    if not (isinstance(value, str) and value.isascii() and value.isdigit()):
        raise ValueError("not a whole number")
    return value


EventNumber = Annotated[int, BeforeValidator(_parse_digits), Field(ge=0, le=MAX_NUMBER)]
_QUERY_KINDS: Mapping[str, Any] = {
    "limit": Annotated[int, BeforeValidator(_parse_digits), Field(ge=1, le=MAX_ROWS)],
    "before": Annotated[str, StringConstraints(pattern=f"^{PATH_PATTERNS['id']}$")],
    "after": EventNumber,
    "version": ReleaseVersion,
    "change_kind": Literal["upgrade", "rollback"],
    "wait": Annotated[int, BeforeValidator(_parse_digits), Field(ge=0, le=MAX_WAIT_S)],
}
#: Types of the query parameters; a name has the same meaning in every request.
QUERY_TYPES: Mapping[str, TypeAdapter[Any]] = {
    name: TypeAdapter(kind, config=ConfigDict(defer_build=True))
    for name, kind in _QUERY_KINDS.items()
}


def parse_query(text: str, known: frozenset[str]) -> Mapping[str, Any]:
    """Parse the query string.

    Raises:
        BadRequestError: If a name is unknown or duplicate, or a value is invalid.
    """
    try:
        pairs = parse_qsl(
            text, keep_blank_values=True, strict_parsing=bool(text), max_num_fields=10
        )
    except ValueError as error:
        raise BadRequestError(reason="invalid query string") from error
    found = dict(pairs)
    if len(found) != len(pairs):
        raise BadRequestError(reason="duplicate name in the query string")
    for name in found.keys() - known:
        raise BadRequestError(
            reason=LazyText("unknown query parameter: {name}", {"name": repr(name[:50])})
        )
    return {name: parse_query_value(name, value) for name, value in found.items()}


def parse_query_value(name: str, text: str) -> Any:  # noqa: ANN401 - by the name
    """Parse the value of one query parameter.

    Raises:
        BadRequestError: If it is invalid.
    """
    try:
        return QUERY_TYPES[name].validate_python(text)
    except ValidationError as error:
        raise BadRequestError(reason=describe_mistakes(error, name)) from error
