"""Errors of the configuration. Codes 1001 to 1099. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, Text

__all__ = [
    "ConfigError",
    "ConfigExposed",
    "ConfigInvalid",
    "ConfigNotToml",
    "ConfigTooLarge",
    "ConfigUnreadable",
    "Mistake",
    "RunnerDoesNotFit",
]


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

    def __str__(self) -> str:
        place = f"line {self.line}: " if self.line else ""
        return f"{place}{self.setting} {self.problem} {self.remedy}".rstrip()


class ConfigError(UpdaterError):
    """Base of what can be wrong with the configuration."""

    code = "NU-1001"
    what = N_("The configuration {path} cannot be used.")
    remedy = N_("Correct the file; docs/configuration.md explains every setting.")


class ConfigUnreadable(ConfigError):
    """No file, or no right to read it."""

    code = "NU-1002"
    what = N_("The configuration {path} cannot be read.")
    remedy = N_("Give the right file with --config, and check who may read it.")


class ConfigTooLarge(ConfigError):
    """A file that is no configuration."""

    code = "NU-1003"
    what = N_("The configuration {path} is larger than {limit} bytes.")
    remedy = N_("Check that this is the agent's configuration and not another file.")


class ConfigNotToml(ConfigError):
    """A file whose grammar is broken."""

    code = "NU-1004"
    what = N_("The configuration {path} cannot be understood at {place}.")
    remedy = N_("Look there for a missing quote, bracket or equals sign, or a name given twice.")


class ConfigInvalid(ConfigError):
    """Settings that are missing, unknown or wrong; every one of them is listed.

    Args:
        path: The file.
        mistakes: All mistakes, at least one.
    """

    code = "NU-1005"
    what = N_("The configuration {path} has mistakes: {count}.")
    remedy = N_("Correct each place that is named; docs/configuration.md explains every setting.")

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


class ConfigExposed(ConfigError):
    """A file that anybody can change, read by an agent that may do anything."""

    code = "NU-1006"
    what = N_("Every user of this machine may change the configuration {path}.")
    remedy = N_("Run: chmod o-w {path}")


class RunnerDoesNotFit(ConfigError):
    """A service that would do the work itself, in a unit that leaves it no way to."""

    code = "NU-1007"
    what = N_(
        "The unit of this service has no network and no database, and {path} lets the service do"
        " the work itself."
    )
    remedy = N_(
        'Write runner = "systemd" below [service]: the units of the package do the work then.'
    )
