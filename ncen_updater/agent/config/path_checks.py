"""Checks of the configured paths against the disk.

These checks look at the raw data, so that their mistakes come in one list with those of the models.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ncen_updater.agent.config.engines import ENGINE_SETTINGS
from ncen_updater.agent.config.errors import InvalidSetting
from ncen_updater.agent.config.setting_lines import SettingPath as Place
from ncen_updater.agent.config.setting_lines import find_line
from ncen_updater.common.i18n import N_, LazyText

# Every setting that is a path, besides the root itself; relative ones are below the root.
PATH_SETTINGS: tuple[tuple[str, ...], ...] = (
    ("paths", "state"),
    ("paths", "feed_state"),
    ("paths", "slots"),
    ("paths", "current"),
    ("paths", "trusted_root"),
    ("paths", "agent_slots"),
    ("feed", "ca_file"),
    ("feed", "client_certificate"),
    *(
        ("databases", name, path)
        for name, own in ENGINE_SETTINGS.items()
        for path in own.path_settings
    ),
    ("application", "maintenance_file"),
    ("application", "health_token_file"),
    ("service", "api_socket"),
    ("service", "fetch_socket"),
    ("service", "apply_socket"),
    ("service", "renew_socket"),
    ("service", "send_socket"),
    ("notify", "mail", "password_file"),
    ("notify", "mail", "ca_file"),
    ("notify", "webhook", "secret_file"),
    ("notify", "webhook", "ca_file"),
    ("metrics", "file"),
)
# What [notify] names is looked at when something is sent, and the token of the health when it is
# asked: what is missing there must not keep a change from being brought to its end.
SECRET_FILE_SETTINGS = tuple(
    ("databases", name, path)
    for name, own in ENGINE_SETTINGS.items()
    for path in own.secret_file_settings
)
GROUP_AND_OTHER_BITS = stat.S_IRWXG | stat.S_IRWXO
# What may not even be looked at is for the agent as good as not there.
isdir, isfile = os.path.isdir, os.path.isfile


def find_root(data: Mapping[str, Any]) -> Path:
    """Return the directory below which relative paths are."""
    value = _read_text(data, ("paths", "root"))
    return Path(value) if value else Path("/")


def check_paths(data: Mapping[str, Any], lines: Mapping[Place, int]) -> Iterator[InvalidSetting]:
    """Yield what does not fit the disk; settings of the wrong type are left to the models."""

    def mistake(
        setting: tuple[str, ...], problem: str, remedy: str, **values: object
    ) -> InvalidSetting:
        name = ".".join(setting)
        return InvalidSetting(
            find_line(lines, setting), name, LazyText(problem, values), LazyText(remedy, values)
        )

    for setting in (("paths", "root"), *PATH_SETTINGS):
        named = _read_text(data, setting) or ""
        if "\0" in named:
            yield mistake(setting, N_("is invalid."), N_("Remove the NUL character."))
            return
        if named.startswith("~"):
            yield mistake(
                setting,
                N_("is invalid."),
                N_("Write the absolute path, beginning with /."),
            )
    root = find_root(data)
    if not root.is_absolute():
        yield mistake(
            ("paths", "root"),
            N_("is invalid."),
            N_("Write the absolute path, beginning with /."),
        )
        return
    for setting in (("feed", "ca_file"), ("feed", "client_certificate"), *SECRET_FILE_SETTINGS):
        value = _read_text(data, setting)
        if not value:
            continue
        path = root / value
        if not isfile(path):
            yield mistake(
                setting,
                N_("file not found: {path}."),
                N_("Correct the path, or create the file."),
                path=path,
            )
        elif setting in SECRET_FILE_SETTINGS and path.stat().st_mode & GROUP_AND_OTHER_BITS:
            yield mistake(
                setting,
                N_("is readable by other users: {path}."),
                N_("Run: chmod 600 {path}"),
                path=path,
            )
    value = _read_text(data, ("application", "maintenance_file"))
    maintenance_file = root / (value or "")
    if value and isdir(maintenance_file):
        yield mistake(
            ("application", "maintenance_file"),
            N_("is a directory: {path}."),
            N_("Name a file in it; ncen-updater creates it."),
            path=maintenance_file,
        )
    # By this name it is neither opened to the units nor made where it is gone.
    elif value and maintenance_file.is_relative_to(root / "var/run"):
        yield mistake(
            ("application", "maintenance_file"),
            N_("is below /var/run."),
            N_("Write /run instead of /var/run."),
        )
    # What is below /run is gone after each start of the machine: the agent makes that itself.
    elif (
        value
        and not isdir(maintenance_file.parent)
        and not maintenance_file.is_relative_to(root / "run")
    ):
        yield mistake(
            ("application", "maintenance_file"),
            N_("directory not found: {path}."),
            N_("Create the directory, or correct the path."),
            path=maintenance_file.parent,
        )


def _read_text(data: Mapping[str, Any], setting: tuple[str, ...]) -> str | None:
    value: Any = data
    for name in setting:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, str) else None
