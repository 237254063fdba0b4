"""Plain mistakes of syntax, found without a server: for what a site would only find while it runs.

The other half of what sites refuse is decided by :mod:`ncen_updater.formats.sql`, whose words are
the sites' own. Here other programs judge, so that their words are other ones too.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sqlite3
import subprocess
import tempfile
from collections.abc import Callable, Collection, Mapping
from contextlib import closing
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Final

from ncen_updater.common.i18n import N_, Text
from ncen_updater.formats.dialects.base import Statement
from ncen_updater.formats.sql import counting, split

#: A text, and whether it is a ``verify`` file, of whose statements the rows are counted.
Asked = tuple[str, bool]

SECONDS: Final = 120.0
# What the library says about the text alone, and not about tables that are not there.
_OF_THE_TEXT: Final = re.compile(r"syntax error|incomplete input|unrecognized token")
_NO_TABLE: Final = re.compile(r"no such table: (?:\w+\.)?(?P<name>.+)", re.DOTALL)


class Unchecked(Exception):
    """That nobody has looked at the syntax, and why."""

    def __init__(self, reason: Text) -> None:
        super().__init__(reason)
        self.reason = reason


def _sqlite_mistakes(asked: Collection[Asked]) -> dict[Asked, str]:
    found = {(sql, verifies): _sqlite_mistake(sql, verifies=verifies) for sql, verifies in asked}
    return {item: said for item, said in found.items() if said is not None}


def _sqlite_mistake(sql: str, *, verifies: bool) -> str | None:
    """The first mistake: every statement is compiled in an empty database, and none is run."""
    with closing(sqlite3.connect(":memory:")) as database:
        for statement in split(sql, "sqlite"):
            text = counting(statement) if verifies else statement.text
            said = _compile(database, replace(statement, text=text))
            if said is not None:
                return f"line {statement.line}: {said}"
    return None


def _compile(database: sqlite3.Connection, statement: Statement) -> str | None:
    explain = "" if statement.words[:1] == ("EXPLAIN",) else "EXPLAIN "
    try:
        database.execute(f"{explain}{statement.text}")
    except sqlite3.OperationalError as error:
        missing = _NO_TABLE.match(str(error))
        if missing and "TRIGGER" in statement.words[:3]:
            # The body of a trigger is looked at only where its table is.
            name = missing["name"].replace('"', '""')
            with contextlib.suppress(sqlite3.Error):  # no table can have that name, or it is there
                database.execute(f'CREATE TABLE "{name}" (x)')
                return _compile(database, statement)
            return None
        return str(error) if _OF_THE_TEXT.search(str(error)) else None
    except sqlite3.Error:
        return None  # not about the text alone: a rehearsal tells
    return None


def _postgresql_mistakes(asked: Collection[Asked]) -> dict[Asked, str]:
    texts = dict.fromkeys(sql for sql, _ in asked)
    numbered = {f"{number}.sql": text for number, text in enumerate(texts)}
    if not numbered:
        return {}
    program = _squawk()
    if program is None:
        raise Unchecked(Text(N_("squawk is not installed")))
    with tempfile.TemporaryDirectory() as directory:
        for name, text in numbered.items():
            Path(directory, name).write_text(text, "utf-8", newline="")
        # Its rules about style are not ours, and no file of somebody's may switch this one off.
        argv = [str(program), "--config", os.devnull, "--reporter", "json", *numbered]
        try:
            done = subprocess.run(
                argv, cwd=directory, env={}, capture_output=True, timeout=SECONDS, check=False
            )
            found = json.loads(done.stdout)
            mistakes: dict[str, str] = {}
            for item in found:
                if item["rule_name"] == "syntax-error":
                    said = f"line {int(item['line']) + 1}: syntax error: {item['message']}"
                    mistakes.setdefault(numbered[Path(item["file"]).name], said)
        except (OSError, subprocess.TimeoutExpired, ValueError, LookupError, TypeError) as error:
            told = Text(N_("squawk did not answer ({detail})"), {"detail": error})
            raise Unchecked(told) from error
    return {item: mistakes[item[0]] for item in asked if item[0] in mistakes}


def _squawk() -> Path | None:
    """Return the program of the package squawk-cli; whatever else has its name is none of ours."""
    try:
        files = metadata.distribution("squawk-cli").files or []
    except metadata.PackageNotFoundError:
        return None
    places = (Path(str(file.locate())) for file in files if file.name == "squawk")
    return next((place for place in places if os.access(place, os.X_OK)), None)


#: Who knows an engine's syntax; of another engine nobody says anything.
_JUDGES: Final[Mapping[str, Callable[[Collection[Asked]], dict[Asked, str]]]] = {
    "postgresql": _postgresql_mistakes,
    "sqlite": _sqlite_mistakes,
}


def mistakes(engine: str, asked: Collection[Asked]) -> dict[Asked, str]:
    """Return the first mistake of each text that has one, with its line.

    Args:
        engine: For which it is.
        asked: The texts.

    Raises:
        Unchecked: The program that knows is not installed, or did not answer.
    """
    judge = _JUDGES.get(engine)
    return judge(asked) if judge is not None and asked else {}
