"""Errors of the complete configuration, and the last valid configuration. Imports little.

Validation needs the models, which cost more time than all of ``status``. So a valid configuration
is stored in the state directory, with the version of the models; an unchanged one is not validated
again. Mistakes that depend on the disk, such as a directory removed later, are reported by the
command that needs it.

If the file becomes invalid, an interrupted change is completed with the stored configuration. This
runs as root, so the copy is in a directory where units that accept connections cannot write
(``ReadOnlyPaths=``).
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

#: Path below the state directory: the last valid configuration, after a line with the version.
VALID = "checked/config-valid.toml"
MAX_COPY_BYTES = MAX_CONFIG_BYTES + 1000


def check_config(path: Path, state: Path) -> ConfigError | None:
    """Return the error of a configuration; None if it is valid.

    Args:
        path: The file.
        state: The site's state directory.
    """
    with contextlib.suppress(OSError):  # not validated yet, or this user may not read it
        if read_file(state / VALID, MAX_COPY_BYTES) == _build_copy(path):
            return None
    try:
        # Paths that a group member cannot access may still exist.
        load_and_store_config(path, check_disk=os.access(state, os.W_OK))
    except ConfigError as error:
        return error
    return None


def find_state_directory(path: Path) -> Path:
    """Return the state directory; that of the package if the file cannot be read or parsed."""
    try:
        paths = read_raw_config(path).data["paths"]
        return Path(paths.get("root", "/"), paths.get("state", DEFAULT_PATHS["state"]))
    except (ConfigError, AttributeError, KeyError, TypeError):
        root = path.absolute().parent.parent.parent  # as the package lays out the files
        return root / DEFAULT_PATHS["state"]


def choose_usable_config(path: Path) -> Path:
    """Return the file if it is valid, else the last valid copy; paths on disk are not checked.

    Raises:
        ConfigError: The error of the file, if neither is valid.
    """
    from ncen_updater.agent.config.loader import load_config

    try:
        load_config(path, check_disk=False)
    except ConfigError as error:
        stored = find_state_directory(path) / VALID
        with contextlib.suppress(ConfigError):
            load_config(stored, check_disk=False)
            logger.error("using %s instead of %s: %s", stored, path, error)
            return stored
        raise
    return path


def load_and_store_config(path: Path, *, check_disk: bool = True) -> AgentConfig:
    """Load the complete configuration, and store a copy if this process may.

    Args:
        path: The file.
        check_disk: Whether to check the paths on disk.

    Raises:
        ConfigError: If it has a mistake.
    """
    from ncen_updater.agent.config.loader import load_config

    copy = _build_copy(path)  # read first: a file written meanwhile must not count as validated
    config = load_config(path, check_disk=check_disk)
    stored = config.paths.resolve(config.paths.state) / VALID
    with contextlib.suppress(OSError):
        if copy and not (stored.exists() and stored.read_bytes() == copy):
            stored.parent.mkdir(0o700, exist_ok=True)
            durable.write_file(stored, copy, 0o600)  # it may contain passwords
    return config


def _build_copy(path: Path) -> bytes:
    """Return the copy of a file, headed by the version of the models; empty if unreadable."""
    rules = Path(__file__).with_name("agent_config.py")
    try:
        content = read_file(path, MAX_CONFIG_BYTES).removeprefix(BOM_UTF8)
        return f"# {rules} {rules.stat().st_mtime_ns}\n".encode() + content
    except OSError:
        return b""
