"""Table of all errors, with title, state, remedy and exit code, and of the publisher's findings.

The source is ``messages.toml``. ``script/messages`` compiles it to ``messages.json``, which loads
faster, and to ``docs/reference/messages.md``. Each name of the table can be imported from here. A
code is never reused and never changes its meaning; its thousands digit tells the component. Checks
of the preflight define codes of their own in their modules.

``ncen-updater status`` imports this module, so it imports nothing slow.
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
    ROLLED_BACK = 11
    INTERVENTION_NEEDED = 12
    REHEARSAL_STALE = 13
    FEED_STALE = 14


@dataclass(frozen=True, slots=True)
class ErrorMessage:
    """Texts of an error with its exit code, or of a finding with its severity.

    Attributes:
        code: ``NU-`` and four digits.
        title: English template of what happened; ``{placeholders}`` are filled when it is raised.
        remedy: Template of what to do.
        exit_code: Exit code of a command that ends with this error.
        state: Template of the resulting state, if the error determines it; None if the state is
            read when the error is shown.
        severity: Usual severity of a finding; None for an error.
        http_status: Status of a response with this error; None for that of the exit code.
    """

    code: str
    title: str
    remedy: str
    exit_code: ExitCode = ExitCode.ERROR
    state: str | None = None
    severity: str | None = None
    http_status: int | None = None


if TYPE_CHECKING:

    def __getattr__(name: str) -> ErrorMessage:
        """Return a message; declares the names of the table for mypy."""


def _read() -> dict[str, ErrorMessage]:
    rows = json.loads(Path(__file__).with_name("messages.json").read_bytes())
    return {
        name: ErrorMessage(row["code"], row["title"], row["remedy"],
                      ExitCode[row.get("exit_code", "ERROR")], row.get("state"),
                      row.get("severity"), row.get("http_status"))
        for name, row in rows.items()
    }  # fmt: skip


MESSAGES = _read()
globals().update(MESSAGES)
# UNNAMED has the same code as UNEXPECTED, which comes last so that it is the one that is found.
_BY_CODE = {message.code: message for message in (*MESSAGES.values(), MESSAGES["UNEXPECTED"])}


def find_message(code: str) -> ErrorMessage | None:
    """Return the message of a code; None if the code is unknown."""
    return _BY_CODE.get(code)
