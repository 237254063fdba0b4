"""Load ``agent.toml`` completely, or report all its errors at once.

In the result, relative paths are already resolved below the root. Path checks use the raw data, so
that their mistakes are in one list with those of the models.
"""

from __future__ import annotations

import difflib
import logging
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, get_args

from packaging.version import InvalidVersion, Version
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ncen_updater.agent.config.agent_config import AgentConfig, PathSettings
from ncen_updater.agent.config.engines import ENGINE_SETTINGS
from ncen_updater.agent.config.errors import INVALID, InvalidConfigError, InvalidSetting
from ncen_updater.agent.config.raw_config import RawConfig, read_raw_config
from ncen_updater.agent.config.setting_lines import SettingPath, find_line
from ncen_updater.agent.model.errors import SelectionDamagedError
from ncen_updater.agent.storage.agent_selection import AgentSelectionFile
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.formats.errors import find_remedy

logger = logging.getLogger(__name__)

# Files of [notify] are checked when a message is sent, and the health token when it is used: if one
# is missing, an interrupted change must still be resumed.
SECRET_FILE_SETTINGS = tuple(
    ("databases", name, path)
    for name, own in ENGINE_SETTINGS.items()
    for path in own.secret_file_settings
)
OTHER_USERS_BITS = stat.S_IRWXG | stat.S_IRWXO
# An inaccessible path counts as missing.
isdir, isfile = os.path.isdir, os.path.isfile
USE_ABSOLUTE_PATH = N_("Write the absolute path, beginning with /.")
SEE_DOCUMENTATION = LazyText(N_("See docs/reference/configuration.md."))

# Expected formats, for settings whose pattern would not help an operator.
FORMAT_HINTS: Mapping[str, str] = {
    "site.id": N_("Use letters, digits, dots and hyphens, at most 40."),
    "site.country": N_("Use an ISO 3166 code in capitals, such as KE."),
    "site.product": N_("Use the product name in lower case, such as ncen."),
    "feed.urls": N_("Begin with http:// or https://, without spaces."),
    "feed.proxy": N_("Write it as http://host:port."),
    "application.health_url": N_("Begin with http:// or https://, without spaces."),
    "application.health_path": N_("Begin with /, without spaces."),
    "version": N_("Write it as the release does, such as 3.2.4."),
    "notify.language": N_("Use a language code, such as fr or pt_BR."),
    "notify.mail": N_("Use one address, name or host, without spaces and brackets."),
    "notify.webhook": N_("Begin with http:// or https://, without spaces."),
    "service.timezone": N_(
        "Use a name listed by timedatectl list-timezones, such as Africa/Nairobi."
    ),
    "service.viewer_group": N_("Use the name of a group on this machine."),
    "service.operator_group": N_("Use the name of a group on this machine."),
    "service.approver_group": N_("Use the name of a group on this machine."),
    "people": N_("Use names of accounts on this machine."),
    "databases.host": N_(
        "Use the directory of the server's socket, as unix_socket_directories names it."
    ),
    "databases": N_(
        "Use letters, digits, hyphens and underscores, beginning with a letter; at most 48."
    ),
}


def load_config(path: Path, *, euid: int | None = None, check_disk: bool = True) -> AgentConfig:
    """Load and validate the configuration.

    Args:
        path: The file.
        euid: User id of the reader; by default the process's.
        check_disk: Whether to check that files and directories exist, with safe permissions.

    Returns:
        The configuration, with absolute paths.

    Raises:
        CONFIG_MISSING: If the file does not exist.
        CONFIG_UNREADABLE: If it is not a regular file or cannot be read.
        CONFIG_EXPOSED: If root reads it and another user may write it.
        CONFIG_TOO_LARGE: If it is larger than 1 MB.
        CONFIG_NOT_TEXT, CONFIG_NOT_TOML, CONFIG_DUPLICATE_KEY, CONFIG_TYPOGRAPHIC_QUOTES: If it
            cannot be parsed, with line and column.
        InvalidConfigError: With every mistake, its line and its remedy.
    """
    return validate_config(read_raw_config(path, euid=euid), check_disk=check_disk)


def validate_config(raw: RawConfig, *, check_disk: bool = True) -> AgentConfig:
    """Validate a configuration that was read; see :func:`load_config`.

    Raises:
        InvalidConfigError: With every mistake, its line and its remedy.
    """
    mistakes = []
    config = None
    data = _make_paths_absolute(raw.data)
    try:
        config = AgentConfig.model_validate(data)
    except ValidationError as error:
        problems = list_problems(error)
        unknown = [item["loc"] for item in problems if item["type"] == "extra_forbidden"]
        if unknown:
            config, problems = _ignore_unknown_settings(data, unknown, problems)
        mistakes += [make_invalid_setting(item, AgentConfig, raw.lines) for item in problems]
    if check_disk:
        mistakes += check_paths(raw)
    if config is None or mistakes:
        raise InvalidConfigError(
            raw.path, sorted(mistakes, key=lambda item: (item.line or 0, item.setting))
        )
    return config


def list_problems(error: ValidationError) -> list[ErrorDetails]:
    """Return the errors of pydantic, without lists that are too short for their invalid entries."""
    problems = error.errors(include_url=False)
    wrong = {item["loc"][:-1] for item in problems if item["loc"]}
    return [i for i in problems if i["type"] != "too_short" or i["loc"] not in wrong]


def _ignore_unknown_settings(
    data: dict[str, Any], unknown: list[tuple[int | str, ...]], problems: list[ErrorDetails]
) -> tuple[AgentConfig | None, list[ErrorDetails]]:
    """Ignore unknown settings if a newer agent than this one was used at this site."""
    from ncen_updater.formats.release_document import drop_fields

    paths = data.get("paths")
    slots = paths.get("agent_slots") if isinstance(paths, dict) else None
    newer = find_newer_agent(Path(slots)) if isinstance(slots, str) else None
    if newer is None:
        return None, problems
    names = ", ".join(".".join(map(str, setting)) for setting in unknown)
    try:
        config = AgentConfig.model_validate(drop_fields(data, unknown))
    except ValidationError as error:
        return None, list_problems(error)
    logger.warning(
        "ignoring unknown settings, because agent %s was in use here: %s",
        newer,
        names,
    )
    return config, []


def _make_paths_absolute(data: dict[str, Any]) -> dict[str, Any]:
    """Return the data with all paths absolute, including the defaults of the table [paths]."""
    root, result = find_root(data), deepcopy(data)
    paths = result.setdefault("paths", {})
    if isinstance(paths, dict):
        for name, field in PathSettings.model_fields.items():
            if field.default is not None:
                paths.setdefault(name, str(field.default))
    for *tables, name in iter_path_settings(AgentConfig):
        for table in _iter_tables(result, tables):
            if name != "root" and isinstance(table.get(name), str) and table[name]:
                table[name] = str(root / table[name])
    return result


def iter_path_settings(model: type[BaseModel]) -> Iterator[tuple[str, ...]]:
    """Yield tables and name of every setting that is a path; relative ones are below the root."""
    for name, field in model.model_fields.items():
        if _holds_path(field.annotation):
            yield (name,)
        for inner in _iter_models(field.annotation):
            yield from ((name, *rest) for rest in iter_path_settings(inner))


def _holds_path(annotation: object) -> bool:
    return annotation is Path or any(map(_holds_path, get_args(annotation)))


def _iter_tables(data: object, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the tables of this name, of an array each one."""
    if isinstance(data, list):
        for one in data:
            yield from _iter_tables(one, names)
    elif isinstance(data, dict):
        if names:
            yield from _iter_tables(data.get(names[0]), names[1:])
        else:
            yield data


def find_newer_agent(directory: Path) -> str | None:
    """Return the newest of the selected, previous and failed agents, if newer than this one.

    Args:
        directory: Directory of the agent's slots.
    """
    try:
        own = Version(version("ncen-updater"))
        selection = AgentSelectionFile(directory).load()
    except (PackageNotFoundError, InvalidVersion, SelectionDamagedError):
        return None
    if selection is None:
        return None
    agents = (selection.current, selection.previous, *selection.failed)
    versions = (_parse_version(agent) for agent in agents if agent is not None)
    newest = max(filter(None, versions), default=None)
    return str(newest) if newest is not None and newest > own else None


def _parse_version(text: str) -> Version | None:
    try:
        return Version(text)
    except InvalidVersion:
        return None


def find_root(data: Mapping[str, Any]) -> Path:
    """Return the root directory of relative paths."""
    text = _read_text(data, ("paths", "root"))
    return Path("/" if text is None else text)


def check_paths(raw: RawConfig) -> Iterator[InvalidSetting]:
    """Yield mistakes of paths on disk; settings of the wrong type are left to the models."""

    def mistake(
        setting: tuple[str, ...], problem: str, remedy: str, **values: object
    ) -> InvalidSetting:
        texts = LazyText(problem, values), LazyText(remedy, values)
        return InvalidSetting(find_line(raw.lines, setting), ".".join(setting), *texts)

    data = raw.data
    for setting in iter_path_settings(AgentConfig):
        for table in _iter_tables(data, setting[:-1]):
            text = str(table.get(setting[-1]))
            if "\0" in text:
                yield mistake(setting, INVALID.template, N_("Remove the NUL character."))
                return
            if text.startswith("~"):
                yield mistake(setting, INVALID.template, USE_ABSOLUTE_PATH)
    root = find_root(data)
    if not root.is_absolute():
        yield mistake(("paths", "root"), INVALID.template, USE_ABSOLUTE_PATH)
        return
    for setting in (("feed", "ca_file"), ("feed", "client_certificate"), *SECRET_FILE_SETTINGS):
        value = _read_text(data, setting)
        path = root / (value or "")
        if value and not isfile(path):
            remedy = N_("Correct the path, or create the file.")
            yield mistake(setting, N_("file not found: {path}."), remedy, path=path)
        elif setting in SECRET_FILE_SETTINGS and value and path.stat().st_mode & OTHER_USERS_BITS:
            problem = N_("is readable by other users: {path}.")
            yield mistake(setting, problem, N_("Run: chmod 600 {path}"), path=path)
    setting = ("application", "maintenance_file")
    value = _read_text(data, setting)
    path = root / (value or "")
    if value and isdir(path):
        remedy = N_("Name a file in it; ncen-updater creates it.")
        yield mistake(setting, N_("is a directory: {path}."), remedy, path=path)
    # Units are not granted access below /var/run, and the agent does not create it there.
    elif value and path.is_relative_to(root / "var/run"):
        yield mistake(setting, N_("is below /var/run."), N_("Write /run instead of /var/run."))
    # /run is empty after each boot: the agent creates directories below it.
    elif value and not isdir(path.parent) and not path.is_relative_to(root / "run"):
        remedy = N_("Create the directory, or correct the path.")
        yield mistake(setting, N_("directory not found: {path}."), remedy, path=path.parent)


def _read_text(data: Mapping[str, Any], setting: tuple[str, ...]) -> str | None:
    value: Any = data
    for name in setting:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, str) else None


def make_invalid_setting(
    error: ErrorDetails, model: type[BaseModel], lines: Mapping[SettingPath, int]
) -> InvalidSetting:
    """Convert a pydantic error to a mistake with a text.

    Args:
        error: The error.
        model: Model of the whole file.
        lines: Line of each setting.
    """
    # A last part "[key]" means that the name itself is invalid, not the value.
    path: SettingPath = tuple(part for part in error["loc"] if part != "[key]")
    setting = _format_setting_name(path)
    line = find_line(lines, path)
    kind = error["type"]
    if kind == "extra_forbidden":
        return InvalidSetting(
            line, setting, LazyText(N_("is not a known setting.")), _suggest_remedy(path, model)
        )
    if kind == "missing":
        table = _format_setting_name(path[:-1])
        remedy = (
            LazyText(N_("Add it to the table [{table}]."), {"table": table})
            if table
            else LazyText(N_("Add it."))
        )
        return InvalidSetting(line, setting, LazyText(N_("is missing.")), remedy)
    known_remedy = find_remedy(error, setting)
    if known_remedy is not None:
        return InvalidSetting(line, setting, INVALID, known_remedy)
    if kind == "string_pattern_mismatch":
        names = [setting, _format_setting_name(path[:2]), _format_setting_name(path[:1])]
        problem = INVALID
    else:
        names = [setting] if len(path) > 1 else []  # the hint of a table is for its settings
        cause = error.get("ctx", {}).get("error")
        message = cause.args[0] if isinstance(cause, ValueError) else error["msg"]
        problem = LazyText(N_("is invalid: {message}."), {"message": message})
    form = next((FORMAT_HINTS[name] for name in names if name in FORMAT_HINTS), None)
    return InvalidSetting(line, setting, problem, LazyText(form) if form else SEE_DOCUMENTATION)


def _format_setting_name(path: SettingPath) -> str:
    name = ""
    for part in path:
        name += f"[{part}]" if isinstance(part, int) else f".{part}" if name else part
    return name


def _iter_models(annotation: object) -> Iterator[type[BaseModel]]:
    if get_args(annotation):  # a union, or a list of tables
        for argument in get_args(annotation):
            yield from _iter_models(argument)
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation


def iter_settings(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield (table, name) of every setting below a model."""
    for field_name, field in model.model_fields.items():
        name = field.alias or field_name
        yield prefix, name
        for inner in _iter_models(field.annotation):
            yield from iter_settings(inner, f"{prefix}.{name}" if prefix else name)


def _suggest_remedy(path: SettingPath, model: type[BaseModel]) -> LazyText:
    table, wrong = _format_setting_name(path[:-1]), str(path[-1])
    known = list(iter_settings(model))
    same_table = [name for other, name in known if other == table]
    close = difflib.get_close_matches(wrong, same_table, n=1, cutoff=0.6)
    if close:
        return LazyText(N_("Did you mean {name}?"), {"name": close[0]})
    tables = [other for other, name in known if name == wrong]
    if tables:
        place = f"[{tables[0]}]" if tables[0] else LazyText(N_("the top of the file"))
        return LazyText(N_("Move it to {place}."), {"place": place})
    return LazyText(N_("Remove it. Known settings: {names}."), {"names": ", ".join(same_table)})
