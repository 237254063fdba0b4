"""Answers of the operator for a setup: read from a file or asked one by one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from ncen_updater.agent.config.agent_config import FeedSettings, SiteSettings
from ncen_updater.agent.config.engines import BaseSettings, PhysicalName
from ncen_updater.agent.config.errors import InvalidConfigError, InvalidSetting
from ncen_updater.agent.config.loader import list_problems, make_invalid_setting
from ncen_updater.agent.config.raw_config import read_raw_config
from ncen_updater.agent.config.service import WindowSettings
from ncen_updater.agent.config.setting_lines import SettingPath
from ncen_updater.common.cli.render import parse_digest
from ncen_updater.common.errors import InvalidValueError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.formats.manifest import Identifier
from ncen_updater.formats.rollout import find_invalid_countries

MAX_NAMES = 50
#: Absolute path without characters that a PostgreSQL socket address cannot hold.
SocketDirectory = Annotated[str, StringConstraints(pattern=r"^/[!-~]{1,90}$")]
UserName = Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_.-]{0,31}$")]


class TrustAnswers(BaseSettings):
    """Root of trust of the site.

    Attributes:
        root: Path of the ``root.json`` received from the Secretariat.
        fingerprint: Its SHA-256, read out by the Secretariat: hexadecimal or eight words.
    """

    root: Path
    fingerprint: str

    @field_validator("fingerprint")
    @classmethod
    def _require_digest(cls, value: str) -> str:
        digest = parse_digest(value)
        if not re.fullmatch(r"[0-9a-f]{32}([0-9a-f]{32})?", digest):
            raise ValueError("use eight words or 64 hexadecimal digits")
        return digest


class PeopleAnswers(BaseSettings):
    """Accounts of this machine for each right."""

    operators: Annotated[tuple[UserName, ...], Field(max_length=MAX_NAMES)] = ()
    approvers: Annotated[tuple[UserName, ...], Field(max_length=MAX_NAMES)] = ()


class DatabaseAnswers(BaseSettings):
    """Database settings that setup cannot detect.

    Attributes:
        engine: Kind of the databases.
        host: Directory of PostgreSQL's socket.
        port: Port number in the socket's name.
        owner: Role of the application.
        user: Role of the agent.
        names: Maps the name in releases to the name in the server.
        directory: SQLite directory that contains ``live``.
        password_file: Password file of a role that logs in by password.
        bin_directory: Directory of ``pg_dump``.
    """

    engine: Literal["postgresql", "sqlite"] | None = None
    host: SocketDirectory | None = None
    port: Annotated[int, Field(ge=1, le=65_535)] = 5432
    owner: PhysicalName | None = None
    user: PhysicalName = "ncen_updater"
    names: Annotated[
        dict[Identifier, PhysicalName], Field(default_factory=dict, max_length=MAX_NAMES)
    ]
    directory: Path | None = None
    password_file: Path | None = None
    bin_directory: Path | None = None


class SiteAnswers(SiteSettings):
    """Identity of the site, with a country that releases can name."""

    @field_validator("country")
    @classmethod
    def _require_country(cls, value: str) -> str:
        if find_invalid_countries([value]):
            raise InvalidValueError(N_("unknown country {country}"), country=value)
        return value


class SetupAnswers(BaseSettings):
    """All of ``setup.toml``; the table ``[application]`` is copied to ``agent.toml`` unchanged.

    Attributes:
        version: Release that runs, if the application does not report it.
        windows: Maintenance windows.
        required_approvals: Number of approvals that an upgrade needs.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    schema_: Annotated[Literal[1], Field(alias="schema")]
    site: SiteAnswers
    feed: FeedSettings
    trust: TrustAnswers
    people: PeopleAnswers = PeopleAnswers()
    windows: Annotated[tuple[WindowSettings, ...], Field(max_length=MAX_NAMES)] = ()
    required_approvals: Annotated[int, Field(ge=1, le=2)] = 1
    version: Annotated[str, StringConstraints(pattern=r"^\d[0-9A-Za-z.+!-]{0,40}$")] | None = None
    databases: DatabaseAnswers = DatabaseAnswers(names={})
    application: Annotated[dict[str, Any], Field(default_factory=dict)]

    @field_validator("required_approvals")
    @classmethod
    def _require_approvers(cls, value: int, info: ValidationInfo) -> int:
        people: PeopleAnswers | None = info.data.get("people")
        if people and 0 < len(set(people.approvers)) < value:
            raise ValueError("add a second account to people.approvers")
        return value


def load_answers(path: Path) -> SetupAnswers:
    """Read a file with all answers.

    Raises:
        InvalidConfigError: If settings are wrong; lists each mistake with its line and remedy.
        ConfigError: If the file is missing, unreadable or not valid TOML.
    """
    raw = read_raw_config(
        path,
        option="--answers",
        command=f"cp /usr/share/doc/ncen-updater/examples/setup.toml {path}",
        any_owner=True,
    )
    try:
        return SetupAnswers.model_validate(raw.data)
    except ValidationError as error:
        raise InvalidConfigError(path, _list_mistakes(error, raw.lines)) from error


def find_mistake(tables: Mapping[str, Any]) -> LazyText | None:
    """Return the first mistake in the given settings, or None; others may be missing."""
    try:
        SetupAnswers.model_validate({"schema": 1, **tables})
    except ValidationError as error:
        for item in list_problems(error):
            if item["type"] != "missing":
                return make_invalid_setting(item, SetupAnswers, {}).remedy
    return None


def make_answers(given: Mapping[str, Any]) -> SetupAnswers:
    """Build the answers from those that were asked one by one.

    Raises:
        InvalidConfigError: If settings are wrong; lists each mistake.
    """
    try:
        return SetupAnswers.model_validate({"schema": 1, **given})
    except ValidationError as error:
        raise InvalidConfigError(Path("setup.toml"), _list_mistakes(error, {})) from error


def _list_mistakes(
    error: ValidationError, lines: Mapping[SettingPath, int]
) -> list[InvalidSetting]:
    mistakes = [make_invalid_setting(item, SetupAnswers, lines) for item in list_problems(error)]
    return sorted(mistakes, key=lambda item: (item.line or 0, item.setting))
