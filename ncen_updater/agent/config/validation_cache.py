"""Errors of the whole configuration, and the last valid one to use meanwhile. Light.

A check needs the models, which cost more than all of ``status``. So a valid configuration is stored
in the state directory, with the version of the rules; an unchanged one is not checked again. What
only the disk can show, such as a directory that was removed later, is reported by the command that
needs it.

An interrupted change is completed with the stored configuration under which it began, whatever the
file contains by now. That runs as root: so the copy is in a directory where units that accept
connections cannot write (``ReadOnlyPaths=``).
"""

from __future__ import annotations

import contextlib
import logging
import os
from codecs import BOM_UTF8
from pathlib import Path
from typing import TYPE_CHECKING

from ncen_updater.agent.config.errors import ConfigError
from ncen_updater.agent.config.essential_settings import DEFAULT_PATHS
from ncen_updater.agent.config.raw_config import MAX_CONFIG_BYTES, read_raw_config
from ncen_updater.common import atomic_files as durable
from ncen_updater.common.bounded_io import read_file

if TYPE_CHECKING:
    from ncen_updater.agent.config.agent_config import AgentConfig

logger = logging.getLogger(__name__)

#: Below the state directory: the last configuration without a mistake, below a line with the rules.
VALID = "checked/config-valid.toml"
MOST_BYTES = MAX_CONFIG_BYTES + 1000


def check_config(path: Path, state: Path) -> ConfigError | None:
    """Return what is wrong with a configuration, None where nothing is.

    Args:
        path: The file.
        state: The site's state directory.
    """
    with contextlib.suppress(OSError):  # nobody has checked it yet, or this user may not look
        if read_file(state / VALID, MOST_BYTES) == _mark_of(path):
            return None
    try:
        # What a member of the group may not look at may well be there.
        load_noted(path, look=os.access(state, os.W_OK))
    except ConfigError as error:
        return error
    return None


def find_state(path: Path) -> Path:
    """Return the state directory, whatever is wrong with the file that names it."""
    try:
        paths = read_raw_config(path).data["paths"]
        return Path(paths.get("root", "/"), paths.get("state", DEFAULT_PATHS["state"]))
    except (ConfigError, AttributeError, KeyError, TypeError):
        return (
            path.absolute().parent.parent.parent / DEFAULT_PATHS["state"]
        )  # as a package lays it out


def usable_config(path: Path) -> Path:
    """Return the file, or the last one that had no mistake where it has one; the disk is not asked.

    Raises:
        ConfigError: If neither can be used: what is wrong with the file.
    """
    from ncen_updater.agent.config.loader import load_config

    try:
        load_config(path, look=False)
    except ConfigError as error:
        retained = find_state(path) / VALID
        with contextlib.suppress(ConfigError):
            load_config(retained, look=False)
            logger.error("%s is used in place of %s: %s", retained, path, error)
            return retained
        raise
    return path


def load_noted(path: Path, *, look: bool = True) -> AgentConfig:
    """Read the whole configuration, and keep it where this process may.

    Args:
        path: The file.
        look: Whether what it names is looked for on the disk.

    Raises:
        ConfigError: If it has a mistake.
    """
    from ncen_updater.agent.config.loader import load_config

    mark = _mark_of(path)  # before it is read: what is written meanwhile is not checked
    config = load_config(path, look=look)
    retained = config.paths.resolve(config.paths.state) / VALID
    with contextlib.suppress(OSError):
        if mark and not (retained.exists() and retained.read_bytes() == mark):
            retained.parent.mkdir(0o700, exist_ok=True)
            durable.write_file(retained, mark, 0o600)  # it may name passwords
    return config


def _mark_of(path: Path) -> bytes:
    """Return a file below the rules of this agent, as a comment; empty where it cannot be read."""
    rules = Path(__file__).with_name("agent_config.py")
    try:
        content = read_file(path, MAX_CONFIG_BYTES).removeprefix(BOM_UTF8)
        return f"# {rules} {rules.stat().st_mtime_ns}\n".encode() + content
    except OSError:
        return b""
