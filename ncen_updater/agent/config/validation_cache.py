"""Errors of the complete configuration, and the last valid configuration. Imports little.

Validation needs the models, which cost more time than all of ``status``. So a valid configuration
is stored in the state directory, with the version of the models; an unchanged one is not validated
again. Mistakes that depend on the disk, such as a directory removed later, are reported by the
command that needs it.

An interrupted change is completed with the stored configuration, whatever the file contains by
then. That runs as root, so the copy is in a directory where units that accept connections cannot
write (``ReadOnlyPaths=``).
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
MOST_BYTES = MAX_CONFIG_BYTES + 1000


def check_config(path: Path, state: Path) -> ConfigError | None:
    """Return the error of a configuration; None if it is valid.

    Args:
        path: The file.
        state: The site's state directory.
    """
    with contextlib.suppress(OSError):  # not validated yet, or this user may not read it
        if read_file(state / VALID, MOST_BYTES) == _mark_of(path):
            return None
    try:
        # Paths that a group member cannot access may still exist.
        load_noted(path, look=os.access(state, os.W_OK))
    except ConfigError as error:
        return error
    return None


def find_state(path: Path) -> Path:
    """Return the state directory, even if the file that names it has mistakes."""
    try:
        paths = read_raw_config(path).data["paths"]
        return Path(paths.get("root", "/"), paths.get("state", DEFAULT_PATHS["state"]))
    except (ConfigError, AttributeError, KeyError, TypeError):
        return (
            path.absolute().parent.parent.parent / DEFAULT_PATHS["state"]
        )  # the layout of the package


def usable_config(path: Path) -> Path:
    """Return the file if it is valid, else the last valid copy; paths on disk are not checked.

    Raises:
        ConfigError: The error of the file, if neither is valid.
    """
    from ncen_updater.agent.config.loader import load_config

    try:
        load_config(path, look=False)
    except ConfigError as error:
        retained = find_state(path) / VALID
        with contextlib.suppress(ConfigError):
            load_config(retained, look=False)
            logger.error("using %s instead of %s: %s", retained, path, error)
            return retained
        raise
    return path


def load_noted(path: Path, *, look: bool = True) -> AgentConfig:
    """Load the complete configuration, and store a copy if this process may.

    Args:
        path: The file.
        look: Whether to check the paths on disk.

    Raises:
        ConfigError: If it has a mistake.
    """
    from ncen_updater.agent.config.loader import load_config

    mark = _mark_of(path)  # read first: a file written meanwhile must not count as validated
    config = load_config(path, look=look)
    retained = config.paths.resolve(config.paths.state) / VALID
    with contextlib.suppress(OSError):
        if mark and not (retained.exists() and retained.read_bytes() == mark):
            retained.parent.mkdir(0o700, exist_ok=True)
            durable.write_file(retained, mark, 0o600)  # it may contain passwords
    return config


def _mark_of(path: Path) -> bytes:
    """Return a file with the version of the models as a comment; empty if it cannot be read."""
    rules = Path(__file__).with_name("agent_config.py")
    try:
        content = read_file(path, MAX_CONFIG_BYTES).removeprefix(BOM_UTF8)
        return f"# {rules} {rules.stat().st_mtime_ns}\n".encode() + content
    except OSError:
        return b""
