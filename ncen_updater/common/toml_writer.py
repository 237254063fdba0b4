"""Write TOML, which the standard library can only read. Pure."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from datetime import date, datetime, time


def render_toml(tables: Mapping[str, object], heading: str = "") -> str:
    """Return a TOML document.

    Args:
        tables: Values and tables by name; None values are omitted.
        heading: A comment of one line.
    """
    lines = [f"# {heading}"] if heading else []
    return "\n".join([*lines, *_render_table((), tables), ""])


def _render_table(path: tuple[str, ...], table: Mapping[str, object]) -> Iterator[str]:
    given = {name: value for name, value in table.items() if value is not None}
    for name, value in given.items():
        if not isinstance(value, Mapping):
            yield f"{quote_key(name)} = {quote_value(value)}"
    for name, value in given.items():
        if isinstance(value, Mapping):
            inner = (*path, quote_key(name))
            yield from ("", f"[{'.'.join(inner)}]")
            yield from _render_table(inner, value)


def quote_key(name: str) -> str:
    """Return a key, quoted if necessary."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else quote_value(name)


def quote_value(value: object) -> str:
    """Return a value on one line.

    Raises:
        TypeError: If TOML has no such type.
    """
    if isinstance(value, Mapping):
        pairs = (f"{quote_key(name)} = {quote_value(item)}" for name, item in value.items())
        return f"{{ {', '.join(pairs)} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(quote_value, value))}]"
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    # JSON's strings, numbers and booleans are valid TOML, except for DEL.
    if isinstance(value, bool | int | float | str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    raise TypeError(type(value).__name__)
