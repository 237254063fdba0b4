"""Table of all errors: stable code, title, state, remedy, exit code.

The table is ``messages.toml``. ``script/messages`` compiles it to ``messages.json``, which is quick
to read, and prints it as ``docs/reference/messages.md``; each name of the table can be imported
from here. The number of a code is never used twice and never changes its meaning; the thousands
say where it comes from. Findings of the preflight and of ``lint`` have codes of their own where
they are made.

This module is on the path of ``ncen-updater status`` and imports nothing heavy.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING


class ExitCode(IntEnum):
    """Exit codes of both programs; stable."""

    OK = 0
    ERROR = 1
    USAGE = 2
    BLOCKED = 3
    APPROVAL_MISSING = 4
    OUTSIDE_WINDOW_OR_HELD = 5
    TRUST = 6
    NETWORK = 7
    SPACE = 8
    BUSY = 9
    UPDATE_AVAILABLE = 10
    ROLLED_BACK = 11
    INTERVENTION_NEEDED = 12
    REHEARSAL_STALE = 13
    FEED_STALE = 14


@dataclass(frozen=True, slots=True)
class ErrorMessage:
    """What an error says.

    Attributes:
        code: ``NU-`` and four digits.
        title: Template of what happened, English; its ``{places}`` are filled when it is raised.
        remedy: Template of what to do.
        exit_code: What a command ends with.
        state: Template of the state now, where the error alone says what that is; None where it is
            asked for when the error is shown.
    """

    code: str
    title: str
    remedy: str
    exit_code: ExitCode = ExitCode.ERROR
    state: str | None = None


if TYPE_CHECKING:

    def __getattr__(name: str) -> ErrorMessage:
        """Return a message; so mypy knows the names of the table."""


def _read() -> dict[str, ErrorMessage]:
    rows = json.loads(Path(__file__).with_name("messages.json").read_bytes())
    return {
        name: ErrorMessage(row["code"], row["title"], row["remedy"],
                      ExitCode[row.get("exit_code", "ERROR")], row.get("state"))
        for name, row in rows.items()
    }  # fmt: skip


MESSAGES = _read()
globals().update(MESSAGES)
# The name that stands for what has none comes last and shares its code with UNEXPECTED.
_BY_CODE = {message.code: message for message in (*MESSAGES.values(), MESSAGES["UNEXPECTED"])}


def find_message(code: str) -> ErrorMessage | None:
    """Return what a code says; None for one that is not known here."""
    return _BY_CODE.get(code)
