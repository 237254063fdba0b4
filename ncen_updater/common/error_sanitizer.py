"""Sanitize error messages of a database: remove values of rows, for messages and the journal.

Messages of a server can quote rows: ``Failing row contains (7, ...)``, ``Key (name)=(...) already
exists``, ``invalid input syntax for type integer: "..."``, CONTEXT lines, and texts of a release's
own ``RAISE``. So only the SQLSTATE, the error's name and the names of table, column and constraint
are retained; the text only if it concerns the statement or the server. The raw error goes into a
file for root only, see :mod:`ncen_updater.agent.engine.raw_errors`.

This module reads only attributes of the error and imports no third-party driver.
"""

from __future__ import annotations

import re
import sqlite3
from typing import Final

from ncen_updater.common.errors import DETAIL, UpdaterError
from ncen_updater.common.i18n import LazyText

#: SQLSTATE classes whose primary message concerns the statement, the session or the server.
_SAFE_SQLSTATE_CLASSES: Final = frozenset(
    {"03", "08", "0A", "25", "28", "2B", "2D", "3D", "3F", "40", "42", "53", "54", "55", "57", "58"}
)
_OBJECT_ATTRIBUTES: Final = (
    ("table", "table_name"),
    ("column", "column_name"),
    ("constraint", "constraint_name"),
    ("type", "datatype_name"),
)
# Messages of the SQLite library about the statement's text, or about names only.
_SAFE_SQLITE_MESSAGES: Final = (
    r"(?:no such |near \"|unrecognized token|incomplete input|duplicate column name|ambiguous"
    r"|table \S+ (?:already exists|has )|index \S+ already exists|there is already|view \S+ "
    r"|cannot |not authorized|foreign key mismatch|wrong number of arguments|misuse of|\d+ values"
    r"|all VALUES|sub-select|no tables specified|no query solution|error in )"
)
# Server messages as PostgreSQL's client programs print them, and those that quote no row.
_SERVER_MESSAGE: Final = re.compile(
    r"(?P<before>.*?\b(?:ERROR|FATAL|PANIC|WARNING)): *(?P<text>.*)"
)
_CLIENT_PROGRAM: Final = re.compile(r"\S*\b(?:pg_dump|pg_restore|psql)\b\S*: ")
_SAFE_SERVER_MESSAGES: Final = (
    r"permission denied|does not exist|already exists|must be |row-level security|terminat|cancel"
    r"|connection|shutting down|starting up|memory|No space left|no space left|disk|too many"
    r"|not supported|unsupported|unrecognized configuration|out of|could not open|read-only"
)


def describe_error(error: BaseException) -> LazyText:
    """Return an error for the journal: our own with its detail, any other sanitized."""
    if isinstance(error, UpdaterError):
        return error.full_text
    return LazyText(DETAIL, {"detail": sanitize_error(error)})


def sanitize_error(error: BaseException) -> str:
    """Return the message of an exception; of a database error only parts without row values."""
    if isinstance(error, sqlite3.Error):
        return _sanitize_sqlite_error(error)
    state = getattr(error, "sqlstate", None)
    diagnosis = getattr(error, "diag", None)
    if state is None or diagnosis is None:
        # An error of the client library, or not of a database. psycopg's DataError quotes a value
        # that Python cannot represent, such as a date before our era.
        quotes = type(error).__name__ == "DataError"
        return "DataError" if quotes else str(error).strip()
    message = getattr(diagnosis, "message_primary", None)
    # A statement that a function composed may contain row values.
    composed = getattr(diagnosis, "internal_query", None)
    if message and state[:2] in _SAFE_SQLSTATE_CLASSES and not composed:
        return f"{message} ({state})"
    names = [
        f"{kind} {name}"
        for kind, attribute in _OBJECT_ATTRIBUTES
        if (name := getattr(diagnosis, attribute, None))
    ]
    return ", ".join([f"{type(error).__name__} ({state})", *names])


def _sanitize_sqlite_error(error: sqlite3.Error) -> str:
    message, name = str(error), getattr(error, "sqlite_errorname", None)
    if name is None:  # an error of Python's module
        return message.partition(" with text ")[0]
    if name == "SQLITE_CONSTRAINT_TRIGGER" or name.startswith("SQLITE_CONSTRAINT_FUNCTION"):
        return str(name)  # the message of a trigger of the release or the application
    if name == "SQLITE_ERROR" and not re.match(_SAFE_SQLITE_MESSAGES, message):
        return str(name)
    return message


def sanitize_program_output(text: str) -> str:
    """Return the lines of pg_dump, pg_restore or psql output that quote no row. Pure."""
    shown = []
    for line in text.splitlines():
        message = _SERVER_MESSAGE.match(line)
        if message and not re.search(_SAFE_SERVER_MESSAGES, message["text"]):
            shown.append(message["before"])
        elif message or _CLIENT_PROGRAM.match(line):
            shown.append(line.strip())
    return "\n".join(shown)
