"""Descriptions of records, made of their types: a record is described nowhere else. Pure."""

from __future__ import annotations

import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import datetime
from enum import Enum
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

Schema = dict[str, Any]
TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "integer", "minimum": 0}
TIME: Schema = {"type": "string", "format": "date-time"}
FLAG: Schema = {"type": "boolean"}
FIGURE: Schema = {"type": "number"}
_PLAIN: Mapping[object, Schema] = {
    str: TEXT, bool: FLAG, int: {"type": "integer"}, float: FIGURE, datetime: TIME,
    type(None): {"type": "null"},
}  # fmt: skip


def optional(schema: Schema) -> Schema:
    """Return the description of what may be missing."""
    return {"oneOf": [schema, {"type": "null"}]}


def schema_of(kind: Any, others: Schema | None = None) -> Schema:  # noqa: ANN401 - any annotation
    """Return the description of a type.

    Args:
        kind: An annotation: a plain type, an enumeration, a union, a tuple, a table, a record.
        others: What further fields of records may hold; see :func:`record`.

    Raises:
        TypeError: If it says nothing of what it holds, as ``object`` does.
    """
    if kind in _PLAIN:
        return _PLAIN[kind]
    origin, of = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return {"anyOf": [schema_of(arm, others) for arm in of]}
    if origin is Literal:
        return {"enum": list(of)}
    if origin in (tuple, list, Sequence):
        return {"type": "array", "items": schema_of(of[0], others)}
    if origin in (Mapping, dict):
        return {"type": "object", "additionalProperties": schema_of(of[1], others)}
    if isinstance(kind, type) and issubclass(kind, Enum):
        return {"type": "string", "enum": [item.value for item in kind]}
    if isinstance(kind, type) and is_dataclass(kind):
        return record(kind, others=others)
    raise TypeError(f"nothing is known of {kind!r}")


def record(
    kind: type, *, without: Iterable[str] = (), others: Schema | None = None, **instead: Schema
) -> Schema:
    """Return the description of a record.

    Args:
        kind: A dataclass, as JSON has it.
        without: Fields that are not told.
        others: What further fields may hold, where agents of other versions write it, too: then
            nothing need be there.
        instead: Descriptions of fields whose types say less than is known.
    """
    hints, left_out = get_type_hints(kind), frozenset(without)
    found = {
        item.name.rstrip("_"): instead.get(item.name) or schema_of(hints[item.name], others)
        for item in fields(kind)
        if item.name not in left_out
    }
    if others is not None:
        return {"type": "object", "properties": found, "additionalProperties": others}
    return {
        "type": "object", "required": list(found), "properties": found,
        "additionalProperties": False,
    }  # fmt: skip
