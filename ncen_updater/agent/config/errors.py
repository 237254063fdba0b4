"""Errors of the configuration. Codes 1001 to 1099. Imports nothing heavy."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText, join_texts
from ncen_updater.common.messages import (
    CONFIG_ERROR,
    CONFIG_INVALID,
    DATABASE_UNKNOWN,
    ROLE_UNKNOWN,
)

INVALID = LazyText(N_("is invalid."))


@dataclass(frozen=True)
class InvalidSetting:
    """One mistake in the configuration.

    Attributes:
        line: Line in the file, from 1; None if unknown.
        setting: Name of the setting with its table, such as ``site.country``.
        problem: What is wrong.
        remedy: How to correct it.
    """

    line: int | None
    setting: str
    problem: LazyText
    remedy: LazyText

    @property
    def text(self) -> LazyText:
        """Return line, setting, problem and remedy."""
        values = {"setting": self.setting, "problem": self.problem, "remedy": self.remedy}
        if self.line:
            template = N_("line {line}: {setting} {problem} {remedy}")
            return LazyText(template, {"line": self.line, **values})
        return LazyText("{setting} {problem} {remedy}", values)

    def __str__(self) -> str:
        return str(self.text).rstrip()


class ConfigError(UpdaterError):
    """Base of configuration errors."""

    message = CONFIG_ERROR
    code_range = range(1001, 1100)


class InvalidConfigError(ConfigError):
    """Missing, unknown or invalid settings; all of them are listed.

    Args:
        path: The file.
        invalid_settings: All mistakes, at least one.
    """

    message = CONFIG_INVALID

    def __init__(self, path: Path, invalid_settings: Sequence[InvalidSetting]) -> None:
        self.invalid_settings = tuple(invalid_settings)
        super().__init__(
            detail="\n".join(str(mistake) for mistake in invalid_settings),
            path=path,
            count=len(invalid_settings),
            mistakes=[
                {
                    "line": mistake.line,
                    "setting": mistake.setting,
                    "problem": str(mistake.problem),
                    "remedy": str(mistake.remedy),
                }
                for mistake in invalid_settings
            ],
        )

    @property
    def detail_text(self) -> LazyText:
        """Return all mistakes, one per line."""
        return join_texts((mistake.text for mistake in self.invalid_settings), "\n")


#: Code of errors that a database server reported.
SERVER_REFUSED_CODE = "NU-4001"
_UNKNOWN = re.compile(
    r'database "(?P<database>[^"]+)" does not exist \(3D000\)'
    r'|role "(?P<role>[^"]+)" does not exist \(42704\)'
)


def find_unknown_database(server_message: str) -> str | None:
    """Return the database that a server reports as missing; None for another message.

    Args:
        server_message: Message of the server.
    """
    found = _UNKNOWN.search(server_message)
    return found["database"] if found is not None else None


def explain_unknown_name(error: BaseException, config: Path) -> UpdaterError | None:
    """Return a clearer error if the server does not know a database or role; else None."""
    if not isinstance(error, UpdaterError) or error.code != SERVER_REFUSED_CODE:
        return None
    found = _UNKNOWN.search(error.detail or "")
    if found is None:
        return None
    if found["database"] is not None:
        return UpdaterError(DATABASE_UNKNOWN, database=found["database"], detail=error.detail)
    return UpdaterError(ROLE_UNKNOWN, user=_read_database_user(config), detail=error.detail)


def _read_database_user(config: Path) -> str:
    """Return the agent's database role, as written in the configuration."""
    from ncen_updater.agent.config.raw_config import read_raw_config

    databases = read_raw_config(config).data.get("databases")
    if not isinstance(databases, dict):
        return "-"
    server = databases.get(str(databases.get("engine")))
    return str(server.get("user", "-")) if isinstance(server, dict) else "-"
