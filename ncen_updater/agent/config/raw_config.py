"""Read a configuration file with a size limit, and parse its TOML. Imports little."""

from __future__ import annotations

import os
import re
import shlex
import stat
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from ncen_updater.agent.config.errors import ConfigError
from ncen_updater.agent.config.setting_lines import SettingPath, locate_settings
from ncen_updater.common.bounded_io import open_file, parse_toml
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import (
    CONFIG_DUPLICATE_KEY,
    CONFIG_EXPOSED,
    CONFIG_MISSING,
    CONFIG_NOT_TEXT,
    CONFIG_NOT_TOML,
    CONFIG_TOO_LARGE,
    CONFIG_TYPOGRAPHIC_QUOTES,
    CONFIG_UNREADABLE,
)

#: Tables with arbitrary values, which may be passwords.
FREE_FORM_TABLES = frozenset({"environment", "health_headers", "migrator_environment"})
#: Settings that are command lines: their arguments may be passwords, the program's name is not.
COMMAND_SETTINGS = frozenset({"start", "stop", "status", "version_command"})
#: Shorter values ("1", "en", "yes") are not secrets; masking them would hide half of each line.
MIN_SECRET_LENGTH = 6
POSITION = N_("line {line}, column {column}")
MAX_CONFIG_BYTES = 1_000_000
#: Environment variable with the file's path, used without an option.
PATH_VARIABLE = "NCEN_CONFIG_FILE"
#: Typographic quotes, which word processors write instead of straight ones.
TYPOGRAPHIC = "\u201c\u201d\u201e\u2018\u2019\u201a\u00ab\u00bb"


@dataclass(frozen=True)
class RawConfig:
    """A parsed but not yet validated configuration."""

    path: Path
    text: str
    data: dict[str, Any]

    @cached_property
    def lines(self) -> dict[SettingPath, int]:
        """Return the line of each setting."""
        return locate_settings(self.text)


def read_raw_config(
    path: Path,
    *,
    euid: int | None = None,
    option: str = "--config",
    command: str = "sudo ncen-updater setup",
    any_owner: bool = False,
) -> RawConfig:
    """Read a TOML file.

    Args:
        path: The file.
        euid: User id of the reader; by default the process's.
        option: Name of the command-line option for the file.
        command: Command that creates the file on a new site.
        any_owner: Whether root accepts a file of another user, as one that is shown before it
            takes effect.

    Raises:
        CONFIG_MISSING: If the file does not exist.
        CONFIG_UNREADABLE: If it is not a regular file or cannot be read.
        CONFIG_EXPOSED: If root reads it and another user may write it.
        CONFIG_TOO_LARGE: If it is larger than 1 MB.
        CONFIG_NOT_TEXT, CONFIG_NOT_TOML, CONFIG_DUPLICATE_KEY, CONFIG_TYPOGRAPHIC_QUOTES: If it
            cannot be parsed, with line and column.
    """
    try:
        with open_file(path) as stream:
            if (os.geteuid() if euid is None else euid) == 0:
                info = os.fstat(stream.fileno())
                trusted = any_owner or info.st_uid in {0, os.geteuid()}
                if not trusted or info.st_mode & stat.S_IWOTH:  # root runs its commands
                    raise ConfigError(CONFIG_EXPOSED, path=path)
            content = stream.read(MAX_CONFIG_BYTES + 1)
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        raise ConfigError(
            CONFIG_MISSING if missing else CONFIG_UNREADABLE,
            path=path,
            origin=PATH_VARIABLE if os.environ.get(PATH_VARIABLE) == str(path) else option,
            command=command,
            detail=None if missing else error.strerror or str(error),
        ) from error
    if len(content) > MAX_CONFIG_BYTES:
        raise ConfigError(CONFIG_TOO_LARGE, path=path, limit_bytes=MAX_CONFIG_BYTES)
    try:
        text = content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - content.rfind(b"\n", 0, error.start)
        place = LazyText(POSITION, {"line": line, "column": column})
        raise ConfigError(CONFIG_NOT_TEXT, path=path, place=place) from error
    try:
        data = parse_toml(text)
    except tomllib.TOMLDecodeError as error:
        place = _format_position(str(error), text)
        quotes = _find_typographic_quotes(str(error), text)
        if quotes:
            raise ConfigError(
                CONFIG_TYPOGRAPHIC_QUOTES, path=path, place=place, quotes=quotes
            ) from error
        if str(error).startswith(("Cannot overwrite", "Cannot declare")):
            raise ConfigError(CONFIG_DUPLICATE_KEY, path=path, place=place) from error
        raise ConfigError(CONFIG_NOT_TOML, path=path, place=place, detail=str(error)) from error
    return RawConfig(path, text, data)


def _find_typographic_quotes(message: str, text: str) -> str:
    """Return the typographic quotes in the line that cannot be parsed."""
    match = re.search(r"line (\d+)", message)
    lines = text.split("\n")
    line = lines[min(int(match[1]), len(lines)) - 1] if match else lines[-1]
    return " ".join(dict.fromkeys(char for char in line if char in TYPOGRAPHIC))


def _format_position(message: str, text: str) -> LazyText:
    match = re.search(r"line (\d+), column (\d+)", message)
    if match:
        return LazyText(POSITION, {"line": match[1], "column": match[2]})
    if "(at a value)" in message:
        return LazyText(N_("a value"))
    lines = text.split("\n")
    return LazyText(POSITION, {"line": len(lines), "column": len(lines[-1]) + 1})


#: Replaces the value of an environment variable, which may be a password.
HIDDEN_VALUE = "…"


def format_start_command(unit: object, start: object, environment: object) -> str | None:
    """Return the application's start command as an operator types it; None without one.

    Args:
        unit: ``application.unit``.
        start: ``application.start``.
        environment: ``application.environment``, without which ``start`` may fail.
    """
    if isinstance(unit, str):
        return f"systemctl start {unit}"
    if not isinstance(start, list | tuple):
        return None
    names = environment if isinstance(environment, dict) else {}
    variables = ["env", *(f"{name}={HIDDEN_VALUE}" for name in names)] if names else []
    return " ".join((*variables, shlex.join(map(str, start))))


def find_secrets(data: Mapping[str, Any]) -> frozenset[str]:
    """Return the passwords in addresses, and the values of environment variables and headers.

    Args:
        data: The configuration as the file has it.
    """
    return frozenset(
        text for text in _iter_secrets(data, free=False) if len(text) >= MIN_SECRET_LENGTH
    )


def _iter_secrets(value: object, *, free: bool) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _iter_secrets(inner, free=free or name in FREE_FORM_TABLES)
    elif isinstance(value, str):
        if free:
            yield value
        yield from _iter_url_passwords(value)
    elif isinstance(value, Sequence):
        for inner in value:
            yield from _iter_secrets(inner, free=free)


def _iter_url_passwords(text: str) -> Iterator[str]:
    if "://" not in text or "@" not in text:
        return
    try:
        password = urlsplit(text).password
    except ValueError:
        return
    if password:
        yield password
        yield unquote(password)


def strip_credentials(value: object) -> object:
    """Return a value of the configuration; of an address, without user and password."""
    if not isinstance(value, str) or "://" not in value or "@" not in value:
        return value
    try:
        parts = urlsplit(value)
    except ValueError:
        return value.partition("://")[0] + "://"
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
