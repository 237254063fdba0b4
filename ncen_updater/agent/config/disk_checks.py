"""What the configuration says of the disk, compared with the disk.

These checks look at the raw data, so that their mistakes come in one list with those of the models.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ncen_updater.agent.config.engines import ENGINE_SETTINGS
from ncen_updater.agent.config.errors import Mistake
from ncen_updater.agent.config.setting_lines import Path as Place
from ncen_updater.agent.config.setting_lines import line_of
from ncen_updater.common.i18n import N_, Text

# Every setting that is a path, besides the root itself; relative ones are below the root.
PATHS: tuple[tuple[str, ...], ...] = (
    ("paths", "state"),
    ("paths", "received"),
    ("paths", "slots"),
    ("paths", "current"),
    ("paths", "trusted_root"),
    ("paths", "agent"),
    ("feed", "ca_file"),
    ("feed", "client_certificate"),
    *(("databases", name, path) for name, own in ENGINE_SETTINGS.items() for path in own.paths),
    ("application", "door_file"),
    ("application", "health_token_file"),
    ("service", "socket"),
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
SECRETS = tuple(
    ("databases", name, path) for name, own in ENGINE_SETTINGS.items() for path in own.secrets
)
OTHERS = stat.S_IRWXG | stat.S_IRWXO
# What may not even be looked at is for the agent as good as not there.
isdir, isfile = os.path.isdir, os.path.isfile


def root_of(data: Mapping[str, Any]) -> Path:
    """Return the directory below which relative paths are."""
    value = _text(data, ("paths", "root"))
    return Path(value) if value else Path("/")


def check_places(data: Mapping[str, Any], lines: Mapping[Place, int]) -> Iterator[Mistake]:
    """Yield what does not fit the disk; settings of the wrong type are left to the models."""

    def mistake(setting: tuple[str, ...], problem: str, remedy: str, **values: object) -> Mistake:
        name = ".".join(setting)
        return Mistake(line_of(lines, setting), name, Text(problem, values), Text(remedy, values))

    for setting in (("paths", "root"), *PATHS):
        named = _text(data, setting) or ""
        if "\0" in named:
            yield mistake(setting, N_("holds a zero character."), N_("Remove it."))
            return
        if named.startswith("~"):
            yield mistake(
                setting,
                N_("begins with ~, which names nobody's home here."),
                N_("Write the whole path, beginning with /."),
            )
    root = root_of(data)
    if not root.is_absolute():
        yield mistake(
            ("paths", "root"),
            N_("is not an absolute path."),
            N_("Write the whole path, beginning with /."),
        )
        return
    for setting in (("feed", "ca_file"), ("feed", "client_certificate"), *SECRETS):
        value = _text(data, setting)
        if not value:
            continue
        path = root / value
        if not isfile(path):
            yield mistake(
                setting,
                N_("names a file that is not there: {path}."),
                N_("Correct the path, or make the file."),
                path=path,
            )
        elif setting in SECRETS and path.stat().st_mode & OTHERS:
            yield mistake(
                setting,
                N_("can be read by others: {path}."),
                N_("Run: chmod 600 {path}"),
                path=path,
            )
    value = _text(data, ("application", "door_file"))
    door = root / (value or "")
    if value and isdir(door):
        yield mistake(
            ("application", "door_file"),
            N_("is a directory: {path}."),
            N_("Name a file in it, which the agent makes."),
            path=door,
        )
    # What is below /run is gone after each start of the machine: the agent makes that itself.
    elif value and not isdir(door.parent) and not door.is_relative_to(root / "run"):
        yield mistake(
            ("application", "door_file"),
            N_("lies in a directory that is not there: {path}."),
            N_("Make the directory, or correct the path."),
            path=door.parent,
        )


def _text(data: Mapping[str, Any], setting: tuple[str, ...]) -> str | None:
    value: Any = data
    for name in setting:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, str) else None
