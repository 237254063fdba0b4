"""Errors of the configuration. Codes 1001 to 1099. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, Text, joined
from ncen_updater.common.messages import CONFIG_ERROR, CONFIG_INVALID


@dataclass(frozen=True)
class Mistake:
    """One mistake in the configuration.

    Attributes:
        line: Line in the file, from 1; None where there is none to name.
        setting: Name of the setting with its table, such as ``site.country``.
        problem: What is wrong.
        remedy: What to write instead.
    """

    line: int | None
    setting: str
    problem: Text
    remedy: Text

    @property
    def told(self) -> Text:
        """Where it is, what is wrong, and what to write instead."""
        values = {"setting": self.setting, "problem": self.problem, "remedy": self.remedy}
        if self.line:
            where = N_("line {line}: {setting} {problem} {remedy}")
            return Text(where, {"line": self.line, **values})
        return Text("{setting} {problem} {remedy}", values)

    def __str__(self) -> str:
        return str(self.told).rstrip()


class ConfigError(UpdaterError):
    """Base of what can be wrong with the configuration."""

    message = CONFIG_ERROR
    family = range(1001, 1100)


class ConfigInvalid(ConfigError):
    """Settings that are missing, unknown or wrong; every one of them is listed.

    Args:
        path: The file.
        mistakes: All mistakes, at least one.
    """

    message = CONFIG_INVALID

    def __init__(self, path: Path, mistakes: Sequence[Mistake]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__(
            detail="\n".join(str(mistake) for mistake in mistakes),
            path=path,
            count=len(mistakes),
            mistakes=[
                {
                    "line": mistake.line,
                    "setting": mistake.setting,
                    "problem": str(mistake.problem),
                    "remedy": str(mistake.remedy),
                }
                for mistake in mistakes
            ],
        )

    @property
    def told(self) -> Text:
        """Every mistake, a line each."""
        return joined((mistake.told for mistake in self.mistakes), "\n")
