"""Lenient parsing of signed documents that were written for newer agents.

A name that an agent must understand comes with an ``agent`` that shuts out those that do not. So a
site passes over names that it does not know; everything else is read as strictly as ever, and the
publisher, who writes these documents, refuses unknown names as well.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from ncen_updater.formats.manifest import SignedModel

FieldPath = tuple[int | str, ...]
Read = TypeVar("Read", bound=SignedModel)


def drop_fields(data: Mapping[str, Any], places: Iterable[FieldPath]) -> dict[str, Any]:
    """Return data without what stands at some places, where something does; pure."""
    result = copy.deepcopy(dict(data))
    for *tables, name in places:
        table: Any = result
        try:
            for part in tables:
                table = table[part]
            del table[name]
        except (KeyError, IndexError, TypeError):
            continue
    return result


def parse_leniently(model: type[Read], data: object) -> Read:
    """Read a document, passing over names that are not known.

    Args:
        model: Its form.
        data: What was signed.

    Raises:
        ValidationError: If it is wrong in any other way.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        unknown = [item["loc"] for item in found if item["type"] == "extra_forbidden"]
        if not unknown or not isinstance(data, Mapping):
            raise
        return model.model_validate(drop_fields(data, unknown))
