"""The settings of the site as they are in force, for who may read the file itself: without secrets.

A password has no place in the file, and may stand there all the same: in an address, in a variable
of the environment, in an argument of a command. None of these is told.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ncen_updater.agent.config.loader import load_config
from ncen_updater.agent.config.read import read_config
from ncen_updater.agent.config.secrets import FREE_TABLES, without_password
from ncen_updater.agent.service.api.context import ApiContext
from ncen_updater.agent.service.api.queries import Document, Request

#: Settings that are command lines: what stands behind the program may be anything.
COMMANDS = frozenset({"start", "stop", "status", "version_command"})


@dataclass(frozen=True)
class SettingRow:
    """One setting.

    Attributes:
        table: Its table, such as ``service`` or ``application.parts.1``; empty at the top.
        name: Its name.
        value: What is in force: a value, or a list of them.
        chosen: Whether the file says so; else it is what is meant where a file says nothing.
        hidden: Whether a part of it is not told.
    """

    table: str
    name: str
    value: object
    chosen: bool
    hidden: bool


def settings(context: ApiContext, request: Request) -> tuple[int, Document]:
    """The settings in force, without secrets; those of a file that cannot be used are refused.

    Raises:
        ConfigError: If the file cannot be used.
    """
    del request
    given = read_config(context.config).data
    whole = load_config(context.config).model_dump(mode="json", by_alias=True)
    return 200, {"settings": list(rows_of(whole, given))}


def rows_of(whole: Mapping[str, object], given: object, table: str = "") -> Iterator[SettingRow]:
    """Yield every setting of a configuration; pure.

    Args:
        whole: What is in force, with what is meant where the file says nothing.
        given: What the file says at the same place.
        table: The place.
    """
    said = given if isinstance(given, Mapping) else {}
    for name, value in whole.items():
        place = f"{table}.{name}" if table else name
        own = said.get(name)
        rows = value if isinstance(value, list) else ()
        tables = [row for row in rows if isinstance(row, Mapping)]
        for number, inner in enumerate(tables, 1):
            of_it = own[number - 1] if isinstance(own, list) and len(own) >= number else None
            yield from rows_of(inner, of_it, f"{place}.{number}")
        if isinstance(value, Mapping):
            yield from rows_of(value, own, place)
        elif not tables:
            shown, hidden = _shown(table.rpartition(".")[2], name, value)
            yield SettingRow(table, name, shown, name in said, hidden)


def _shown(table: str, name: str, value: object) -> tuple[object, bool]:
    """Return a value as it may be told, and whether something of it is not."""
    if table in FREE_TABLES:
        return None, True
    if name in COMMANDS and isinstance(value, list):
        return value[:1], len(value) > 1
    if isinstance(value, list):
        shown: object = [without_password(one) for one in value]
    else:
        shown = without_password(value)
    return shown, shown != value
