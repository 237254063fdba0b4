"""Values and errors as JSON has them, for ``--json`` and the local interface. Imports little."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import DEFAULT_LANGUAGE, LazyText


def to_json_value(value: object, language: str = DEFAULT_LANGUAGE) -> object:
    """Return a value in the forms that JSON has; times in UTC, everything unknown as its text."""
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
    """Return an error as JSON has it.

    Args:
        error: What happened.
        state: The state now, whole sentences.
        language: Of the sentences.
    """
    return {
        "code": error.code,
        "title": error.title_text.render(language),
        # Whole sentences one after the other; none is built from parts.
        "state": " ".join(sentence.render(language) for sentence in state),
        "remedy": error.remedy_text.render(language),
        "detail": None if error.detail_text is None else error.detail_text.render(language),
        "values": to_json_value(error.values, language),
    }


def encode_canonical_json(value: object) -> bytes:
    """Return the one byte form of a JSON value; refuses NaN and infinities."""
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode() + b"\n"


def compute_sha256(content: bytes) -> str:
    """Return the SHA-256 digest in lower-case hexadecimal."""
    return hashlib.sha256(content).hexdigest()
