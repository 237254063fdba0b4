"""Records, values and errors as JSON. Imports little.

A missing field gets its default, and unknown fields are ignored, so that an older agent can read
the file. Any other mismatch is refused. A JSON name that is a Python keyword, such as ``from``, is
a field with a trailing underscore: ``from_``.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import types
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from enum import Enum, StrEnum
from typing import Any, Self, cast, get_args, get_origin, get_type_hints

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import DEFAULT_LANGUAGE, PLACEHOLDER, LazyText, LocalizedFigure

#: Prefix of our statement types; described in docs/reference/release-format.md. ``.invalid`` never
#: resolves. A project with its own host sets it before its first release.
STATEMENT_TYPES = "https://ncen.invalid"
#: Allowed years, far from the limits of ``datetime``: adding a zone or a delay cannot overflow.
_YEARS = range(1000, 9900)
#: Maximum nesting of texts within texts; agents write two levels.
_MAX_TEXT_DEPTH = 8
#: Maximum stored characters of a value.
MAX_TEXT_VALUE = 2000


def within_calendar(moment: datetime) -> datetime:
    """Return an external time in UTC; a time without a zone is taken as local.

    Raises:
        ValueError: If it is near the limits of ``datetime``.
    """
    if moment.year not in _YEARS:
        raise ValueError(f"year out of range: {moment}")
    return moment.astimezone(UTC)


def parse_stored_time(text: str) -> datetime:
    """Parse a stored time, in UTC. It must have a zone to be comparable with our times.

    Raises:
        ValueError: If it is invalid.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"time without a zone: {text!r:.100}")
    return within_calendar(moment)


class JsonRecord:
    """Base of dataclasses that can be stored as JSON; supports nested records and lazy texts."""

    def to_json(self) -> dict[str, object]:
        """Return the record as JSON values."""
        return {
            _get_key(name): _encode_value(getattr(self, name))
            for name in _get_field_types(type(self))
        }

    @classmethod
    def from_json(cls, data: object) -> Self:
        """Create a record from the result of :meth:`to_json`.

        Raises:
            ValueError: If the data does not match.
        """
        if not isinstance(data, dict):
            raise ValueError(f"not a {cls.__name__}: {data!r:.100}")
        kinds = _get_field_types(cls)
        values = {
            name: _decode_value(kinds[name], data[stored], stored)
            for name in kinds
            if (stored := _get_key(name)) in data
        }
        try:
            return cls(**values)
        except TypeError as error:  # a field without a default is missing
            raise ValueError(f"not a {cls.__name__}: {error}") from error


def _get_key(name: str) -> str:
    return name.rstrip("_")


def _get_field_types(of: type) -> Mapping[str, Any]:
    return _read_field_types(cast("Hashable", of))


@functools.cache
def _read_field_types(of: Any) -> Mapping[str, Any]:  # noqa: ANN401 - a class is no Hashable to mypy
    hints = get_type_hints(of)
    return {item.name: hints[item.name] for item in fields(of)}


def _encode_value(value: object) -> object:
    if isinstance(value, JsonRecord):
        return value.to_json()
    if isinstance(value, LazyText):
        return encode_text(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(_encode_value(key)): _encode_value(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_encode_value(item) for item in value]
    return value


def encode_text(text: LazyText, depth: int = 0) -> dict[str, object]:
    """Return a text as JSON values: its template and the values that it shows. Pure."""
    shown = [name for name in PLACEHOLDER.findall(text.template) if name in text.values]
    values = {name: _encode_text_value(text.values[name], depth) for name in shown}
    return {"template": text.template, "values": values}


def _encode_text_value(value: object, depth: int) -> object:
    if isinstance(value, StrEnum):  # members of our enumerations are translatable
        value = LazyText(value.value)
    if isinstance(value, LazyText) and depth < _MAX_TEXT_DEPTH:
        return encode_text(value, depth + 1)
    if isinstance(value, LocalizedFigure) and value.forms:
        forms = {name: form[:MAX_TEXT_VALUE] for name, form in value.forms.items()}
        return {"template": str(value)[:MAX_TEXT_VALUE], "values": {}, "forms": forms}
    plain = _encode_value(value) if isinstance(value, list | tuple | datetime) else value
    return (
        plain
        if plain is None or isinstance(plain, bool | int | float | list)
        else str(plain)[:MAX_TEXT_VALUE]
    )


def _decode_value(kind: Any, value: object, name: str) -> Any:  # noqa: ANN401 - of the given type
    origin, of = get_origin(kind), get_args(kind)
    if kind is object:
        return value
    if origin is types.UnionType:
        if value is None and types.NoneType in of:
            return None
        arms = [arm for arm in of if arm is not types.NoneType]
        return _decode_value(
            next((arm for arm in arms if type(value) is arm), arms[0]), value, name
        )
    if origin is tuple and isinstance(value, list):
        return tuple(_decode_value(of[0], item, name) for item in value)
    if origin is Mapping and isinstance(value, dict):
        return {
            _decode_value(of[0], k, name): _decode_value(of[1], item, name)
            for k, item in value.items()
        }
    if kind is LazyText and isinstance(value, dict):
        return decode_text(value, name)
    if origin is None and issubclass(kind, JsonRecord):
        return kind.from_json(value)
    if origin is None and issubclass(kind, Enum):
        return kind(value)
    if kind is datetime and isinstance(value, str):
        return parse_stored_time(value)
    if (kind is float and type(value) in (int, float)) or type(value) is kind:
        return value
    raise ValueError(f"{name} is {value!r:.100}")


def decode_text(data: object, name: str, depth: int = 0) -> LazyText:
    """Create a text from JSON values, with the texts among its values.

    Raises:
        ValueError: If the data does not match.
    """
    found: dict[str, Any] = data if isinstance(data, dict) else {}
    template, values = found.get("template"), found.get("values")
    if not isinstance(template, str) or not isinstance(values, dict) or depth > _MAX_TEXT_DEPTH:
        raise ValueError(f"{name} is {data!r:.100}")
    return LazyText(
        template,
        {key: _decode_text_value(value, name, depth + 1) for key, value in values.items()},
    )


def _decode_text_value(value: object, name: str, depth: int) -> object:
    if not isinstance(value, dict):
        return value
    text, forms = decode_text(value, name, depth), value.get("forms")
    if not isinstance(forms, dict) or not all(isinstance(form, str) for form in forms.values()):
        return text
    return LocalizedFigure(text.template, **forms)


def to_json_value(value: object, language: str = DEFAULT_LANGUAGE) -> object:
    """Return a value as JSON values; times in UTC, unknown types as their text."""
    if isinstance(value, LazyText):
        return value.render(language)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: to_json_value(getattr(value, field.name), language)
            for field in dataclasses.fields(value)
        }
    if isinstance(value, Mapping):
        return {str(key): to_json_value(item, language) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [to_json_value(item, language) for item in value]
    return str(value)


def error_to_json(
    error: UpdaterError, state: Sequence[LazyText], language: str = DEFAULT_LANGUAGE
) -> dict[str, object]:
    """Return an error as JSON values.

    Args:
        error: The error.
        state: The present state, in complete sentences.
        language: Language of the sentences.
    """
    return {
        "code": error.code,
        "title": error.title_text.render(language),
        # Complete sentences, joined; none is assembled from parts.
        "state": " ".join(sentence.render(language) for sentence in state),
        "remedy": error.remedy_text.render(language),
        "detail": None if error.detail_text is None else error.detail_text.render(language),
        "values": to_json_value(error.values, language),
    }


def encode_canonical_json(value: object) -> bytes:
    """Return the canonical JSON of a value, with a line feed.

    Raises:
        ValueError: If it contains NaN or an infinity.
    """
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode() + b"\n"


def compute_sha256(content: bytes) -> str:
    """Return the SHA-256 digest in lower-case hexadecimal."""
    return hashlib.sha256(content).hexdigest()
