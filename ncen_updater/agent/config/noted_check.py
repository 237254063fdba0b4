"""What is wrong with the whole configuration, for whoever only wants to tell of it. Light.

To check it takes the models, which cost more than all of ``status``. So that a configuration was
found without a mistake is noted beside the journal, by its digest and the rules that it was checked
by; of one that was not changed since, nothing more is asked. What only the disk can say, such as a
directory that was removed later, is then said by the command that needs it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

from ncen_updater.agent.config.errors import ConfigError, ConfigInvalid, Mistake
from ncen_updater.agent.config.read import MAX_BYTES
from ncen_updater.common import atomic_files as durable
from ncen_updater.common.bounded_io import read_file

__all__ = ["config_error", "mark_of", "note_checked"]

#: Below the state directory.
CHECKED = "config-checked"
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
    note_checked(state, mark)
    return None


def note_checked(state: Path, mark: bytes) -> None:
    """Note that a configuration was found without a mistake; left undone where it may not be.

    Args:
        state: The site's state directory.
        mark: What :func:`mark_of` said before it was checked.
    """
    note = state / CHECKED
    with contextlib.suppress(OSError):
        if mark and not (note.exists() and note.read_bytes() == mark):
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
