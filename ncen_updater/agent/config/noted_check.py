"""What is wrong with the whole configuration, and which one to go by meanwhile. Light.

To check it takes the models, which cost more than all of ``status``. So that a configuration was
found without a mistake is noted beside the journal, by its digest and the rules that it was checked
by; of one that was not changed since, nothing more is asked. What only the disk can say, such as a
directory that was removed later, is then said by the command that needs it.

The last configuration that had no mistake is kept, too. A change that was interrupted began under
it, and is brought to its end by it, whatever stands in the file by now.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from pathlib import Path

from ncen_updater.agent.config.errors import ConfigError, ConfigInvalid, Mistake
from ncen_updater.agent.config.paths import DEFAULTS
from ncen_updater.agent.config.read import MAX_BYTES, read_config
from ncen_updater.common import atomic_files as durable
from ncen_updater.common.bounded_io import read_file

__all__ = ["VALID", "config_error", "find_state", "mark_of", "note_checked", "usable_config"]

logger = logging.getLogger(__name__)

#: Below the state directory: the note, and the configuration that it speaks of.
CHECKED, VALID = "config-checked", "config-valid.toml"
MAX_NOTE_BYTES = 1000


def config_error(path: Path, state: Path) -> ConfigError | None:
    """Return what is wrong with a configuration, None where nothing is.

    Args:
        path: The file.
        state: The site's state directory.
    """
    mark = mark_of(path)  # before it is read: what is written meanwhile is not checked
    with contextlib.suppress(OSError):  # nobody has checked it yet, or this user may not look
        if read_file(state / CHECKED, MAX_NOTE_BYTES) == mark:
            return None
    from ncen_updater.agent.config.loader import load_config

    try:
        load_config(path)
    except ConfigInvalid as error:
        # What this user may not look at may well be there.
        seen = [mistake for mistake in error.mistakes if not _hidden(mistake)]
        return ConfigInvalid(path, seen) if seen else None
    except ConfigError as error:
        return error
    note_checked(path, state, mark)
    return None


def find_state(path: Path) -> Path:
    """Return the state directory, whatever is wrong with the file that names it."""
    try:
        paths = read_config(path).data.get("paths", {})
    except ConfigError:
        paths = None  # then it is as the package lays a site out
    places = paths if isinstance(paths, dict) else {"root": None}
    root, state = places.get("root", "/"), places.get("state")
    above = Path(root) if isinstance(root, str) else path.absolute().parent.parent.parent
    return above / (state if isinstance(state, str) else DEFAULTS["state"])


def usable_config(path: Path) -> Path:
    """Return the file, or the last one that had no mistake where it has one; the disk is not asked.

    Raises:
        ConfigError: If neither can be used: what is wrong with the file.
    """
    from ncen_updater.agent.config.loader import load_config

    try:
        load_config(path, look=False)
    except ConfigError as error:
        kept = find_state(path) / VALID
        with contextlib.suppress(ConfigError):
            load_config(kept, look=False)
            logger.error("%s is used in place of %s: %s", kept, path, error)
            return kept
        raise
    return path


def note_checked(path: Path, state: Path, mark: bytes) -> None:
    """Keep a configuration that was found without a mistake; left undone where it may not be.

    Args:
        path: The file.
        state: The site's state directory.
        mark: What :func:`mark_of` said before it was checked.
    """
    note = state / CHECKED
    with contextlib.suppress(OSError):
        if mark and not (note.exists() and note.read_bytes() == mark):
            content = read_file(path, MAX_BYTES)
            if mark.startswith(hashlib.sha256(content).hexdigest().encode()):
                durable.write(state / VALID, content, 0o600)  # it may name passwords
                durable.write(note, mark)


def mark_of(path: Path) -> bytes:
    """Return what stands for a file and the rules of this agent; empty where it cannot be read."""
    rules = Path(__file__).with_name("model.py")
    try:
        content = hashlib.sha256(read_file(path, MAX_BYTES)).hexdigest()
        return f"{content} {rules} {rules.stat().st_mtime_ns}\n".encode()
    except OSError:
        return b""


def _hidden(mistake: Mistake) -> bool:
    place = mistake.problem.values.get("path")
    try:
        return place is not None and not os.lstat(str(place))
    except PermissionError:
        return True
    except OSError:
        return False
