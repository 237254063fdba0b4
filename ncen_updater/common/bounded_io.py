"""Bounded reading of untrusted files: only regular files, and never more than a limit.

These functions never block, exhaust the memory or raise undocumented errors. They refuse a FIFO,
device or directory in place of a file, and text that is too expensive to parse. They use only the
standard library, because ``status`` imports them.
"""

from __future__ import annotations

import json
import os
import re
import stat
import tomllib
from pathlib import Path
from typing import IO, Any

MAX_SECRET_BYTES = 4096
# tomllib needs quadratic time for dotted keys; valid files have at most four parts.
_TOO_MANY_PARTS = re.compile(
    r"""(?<![\w-])(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){100}"""
)


class NotRegularFileError(OSError):
    """A path that is not a regular file."""


class FileTooLargeError(OSError):
    """A file with more bytes than the limit."""


def open_file(path: Path) -> IO[bytes]:
    """Open a regular file for reading, following symbolic links.

    Raises:
        NotRegularFileError: If it is not a regular file, or the name is invalid.
        OSError: If it does not exist or cannot be opened.
    """
    try:
        # O_NONBLOCK: opening a FIFO would wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except ValueError as error:  # a null character or a lone surrogate in the name
        raise NotRegularFileError(f"not the name of a file: {error}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotRegularFileError("not a regular file")
    return os.fdopen(descriptor, "rb")


def read_file(path: Path, limit: int) -> bytes:
    """Read a regular file.

    Args:
        path: The file; symbolic links are followed.
        limit: Maximum number of bytes.

    Raises:
        NotRegularFileError: If it is not a regular file, or the name is invalid.
        FileTooLargeError: If it has more bytes.
        OSError: If it does not exist or cannot be read.
    """
    with open_file(path) as stream:
        content = stream.read(limit + 1)
    if len(content) > limit:
        raise FileTooLargeError(f"more than {limit} bytes")
    return content


def parse_toml(text: str) -> dict[str, Any]:
    """Parse TOML.

    Raises:
        tomllib.TOMLDecodeError: If it is not TOML, is nested too deeply, or has a number with too
            many digits.
    """
    deep = _TOO_MANY_PARTS.search(text)
    if deep:
        line = text.count("\n", 0, deep.start()) + 1
        column = deep.start() - text.rfind("\n", 0, deep.start())
        raise tomllib.TOMLDecodeError(f"nested too deeply (at line {line}, column {column})")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except RecursionError as error:
        raise tomllib.TOMLDecodeError("nested too deeply (at a value)") from error
    except (ValueError, OverflowError) as error:  # for example a number of thousands of digits
        raise tomllib.TOMLDecodeError(f"{error} (at a value)") from error


def parse_json(content: bytes | str) -> Any:  # noqa: ANN401 - JSON of any form
    """Parse JSON.

    Raises:
        ValueError: If it is not JSON, is nested too deeply, or has a number with too many digits.
    """
    try:
        return json.loads(content)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


class SecretUnreadableError(Exception):
    """A secret file that cannot be read; the message never contains its content."""


class SecretExposedError(Exception):
    """A secret file that other users may read."""


def read_secret_file(path: Path, *, has_acl: bool = False) -> str:
    """Return the content of a secret file, without its final line break.

    Args:
        path: The file.
        has_acl: Whether an ACL controls who may read it; its mask appears as group permissions.

    Raises:
        SecretUnreadableError: If it cannot be read.
        SecretExposedError: If other users may read it.
    """
    try:
        if not has_acl and path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise SecretExposedError
        return read_file(path, MAX_SECRET_BYTES).decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise SecretUnreadableError("?") from None  # the error would quote the content
    except OSError as error:
        raise SecretUnreadableError(os.strerror(error.errno) if error.errno else "?") from error
