"""Read ``agent.toml`` whole, or report all its errors at once.

The result is ready to use: relative paths are already resolved below the root.
"""

from __future__ import annotations

import logging
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from packaging.version import InvalidVersion, Version
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from ncen_updater.agent.config.agent_config import AgentConfig, PathSettings
from ncen_updater.agent.config.errors import InvalidConfigError
from ncen_updater.agent.config.path_checks import PATH_SETTINGS, check_paths, find_root
from ncen_updater.agent.config.raw_config import read_raw_config
from ncen_updater.agent.config.setting_lines import locate_settings
from ncen_updater.agent.config.validation_messages import make_invalid_setting
from ncen_updater.agent.model.errors import SelectionDamagedError
from ncen_updater.agent.storage.agent_selection import AgentSelectionFile

logger = logging.getLogger(__name__)


def load_config(path: Path, *, euid: int | None = None, look: bool = True) -> AgentConfig:
    """Read and check the configuration.

    Args:
        path: The file.
        euid: Who reads; the process's own user by default.
        look: Whether to look on the disk for what it names.

    Returns:
        The configuration, every path absolute.

    Raises:
        CONFIG_MISSING: If it is not there.
        CONFIG_UNREADABLE: If it is not a file, or may not be read.
        CONFIG_EXPOSED: If root reads it and everybody may write it.
        CONFIG_TOO_LARGE: If it is larger than 1 MB.
        CONFIG_NOT_TOML: With line and column.
        InvalidConfigError: With every mistake, its line and its remedy.
    """
    raw = read_raw_config(path, euid=euid)
    lines = locate_settings(raw.text)
    mistakes = []
    config = None
    data = _make_paths_absolute(raw.data)
    try:
        config = AgentConfig.model_validate(data)
    except ValidationError as error:
        problems = error.errors(include_url=False)
        unknown = [item["loc"] for item in problems if item["type"] == "extra_forbidden"]
        if unknown:
            config, problems = _ignore_unknown_settings(data, unknown, problems)
        # A list whose every entry is wrong counts as empty as well, which it is not.
        wrong = {item["loc"][:-1] for item in problems if item["loc"]}
        problems = [i for i in problems if i["type"] != "too_short" or i["loc"] not in wrong]
        mistakes += [make_invalid_setting(item, AgentConfig, lines) for item in problems]
    if look:
        mistakes += check_paths(raw.data, lines)
    if config is None or mistakes:
        raise InvalidConfigError(
            path, sorted(mistakes, key=lambda item: (item.line or 0, item.setting))
        )
    return config


def _ignore_unknown_settings(
    data: dict[str, Any], unknown: list[tuple[int | str, ...]], problems: list[ErrorDetails]
) -> tuple[AgentConfig | None, list[ErrorDetails]]:
    """Pass unknown settings over where a newer agent than this one was in use here."""
    from ncen_updater.formats.lenient_parsing import drop_fields

    paths = data.get("paths")
    place = paths.get("agent_slots") if isinstance(paths, dict) else None
    newer = find_newer_agent(Path(place)) if isinstance(place, str) else None
    if newer is None:
        return None, problems
    names = ", ".join(".".join(map(str, place)) for place in unknown)
    try:
        config = AgentConfig.model_validate(drop_fields(data, unknown))
    except ValidationError as error:
        return None, error.errors(include_url=False)
    logger.warning(
        "settings that are not known are passed over, since agent %s was in use here: %s",
        newer,
        names,
    )
    return config, []


def _make_paths_absolute(data: dict[str, Any]) -> dict[str, Any]:
    """Return the data with every path below the root, default ones too."""
    root = find_root(data)
    result = _copy_tables(data)
    places = result.setdefault("paths", {})
    if isinstance(places, dict):
        for name, field in PathSettings.model_fields.items():
            if field.default is not None:
                places.setdefault(name, str(field.default))
    for *tables, name in PATH_SETTINGS:
        table: Any = result
        for part in tables:
            table = table.get(part) if isinstance(table, dict) else None
        if isinstance(table, dict) and isinstance(table.get(name), str):
            table[name] = str(root / table[name])
    files = result.get("files")
    if isinstance(files, list):
        result["files"] = [_make_directory_absolute(root, item) for item in files]
    return result


def _make_directory_absolute(root: Path, item: object) -> object:
    if isinstance(item, dict) and isinstance(item.get("directory"), str) and item["directory"]:
        return {**item, "directory": str(root / item["directory"])}
    return item


def _copy_tables(data: dict[str, Any]) -> dict[str, Any]:
    return {k: _copy_tables(v) if isinstance(v, dict) else v for k, v in data.items()}


def find_newer_agent(directory: Path, own_version: str | None = None) -> str | None:
    """Return the newest agent that was chosen here, if it is newer than this one.

    Args:
        directory: Where the slots of the agent are.
        own_version: The version of this agent.
    """
    try:
        mine = Version(own_version or version("ncen-updater"))
        found = AgentSelectionFile(directory).load()
    except (PackageNotFoundError, InvalidVersion, SelectionDamagedError):
        return None
    if found is None:
        return None
    names = [name for name in (found.current, found.previous, *found.failed) if name is not None]
    newest = max(filter(None, map(_parse_version, names)), default=None)
    return str(newest) if newest is not None and newest > mine else None


def _parse_version(text: str) -> Version | None:
    try:
        return Version(text)
    except InvalidVersion:
        return None
