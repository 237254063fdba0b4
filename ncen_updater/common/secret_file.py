"""A file that holds a secret alone, which others may not read. Standard library alone."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ncen_updater.common.bounded_io import read_file

MAX_BYTES = 4096


class SecretUnreadableError(Exception):
    """The file cannot be read; its text is why, and nothing of what is in it."""


class SecretExposedError(Exception):
    """Others may read the file."""


def read_secret_file(path: Path, *, listed: bool = False) -> str:
    """Return what is in it, without the line's end.

    Args:
        path: The file.
        listed: Whether an access list says who may read it, which shows as a group's right.

    Raises:
        SecretUnreadableError: If it cannot be read.
        SecretExposedError: If others may read it.
    """
    try:
        if not listed and path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise SecretExposedError
        return read_file(path, MAX_BYTES).decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise SecretUnreadableError("?") from None  # the error would quote it
    except OSError as error:
        raise SecretUnreadableError(os.strerror(error.errno) if error.errno else "?") from error
