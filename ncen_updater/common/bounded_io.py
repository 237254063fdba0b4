"""Bounded reading of untrusted files: whole, of a known kind, and never more than a limit.

No function here blocks for ever, fills the memory, or raises undocumented errors: a pipe, device or
directory in the place of a file is refused, and so is text that is too costly to parse. Standard
library alone: this module is on the path of ``status``.
"""

from __future__ import annotations

import json
import os
import re
import stat
import tomllib
from pathlib import Path
from typing import IO, Any

# tomllib takes the square of the number of parts of a name; ours have at most four.
_TOO_MANY_PARTS = re.compile(
    r"""(?<![\w-])(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){100}"""
)


class NotRegularFileError(OSError):
    """Something that is no regular file."""


class FileTooLargeError(OSError):
    """A file with more bytes than may be read."""


def open_file(path: Path) -> IO[bytes]:
    """Open a regular file for reading; a link to one is followed.

    Raises:
        NotRegularFileError: If it is something else, or the name cannot be one.
        OSError: If it is not there or may not be read.
    """
    try:
        # Opening a pipe would wait for its writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except ValueError as error:  # a zero character, or half a character, in the name
        raise NotRegularFileError(f"not the name of a file: {error}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotRegularFileError("not a regular file")
    return os.fdopen(descriptor, "rb")


def read_file(path: Path, limit: int) -> bytes:
    """Read a regular file.

    Args:
        path: The file; a link to one is followed.
        limit: The most bytes that it may have.

    Raises:
        NotRegularFileError: If it is something else, or the name cannot be one.
        FileTooLargeError: If it has more bytes.
        OSError: If it is not there or may not be read.
    """
    with open_file(path) as stream:
        content = stream.read(limit + 1)
    if len(content) > limit:
        raise FileTooLargeError(f"more than {limit} bytes")
    return content


def parse_toml(text: str) -> dict[str, Any]:
    """Read TOML.

    Raises:
        tomllib.TOMLDecodeError: If it is none, is nested too deeply, or holds a number that is too
            long.
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
    except (ValueError, OverflowError) as error:  # such as a number of thousands of digits
        raise tomllib.TOMLDecodeError(f"{error} (at a value)") from error


def parse_json(content: bytes | str) -> Any:  # noqa: ANN401 - JSON of any form
    """Read JSON.

    Raises:
        ValueError: If it is none, is nested too deeply, or holds a number that is too long.
    """
    try:
        return json.loads(content)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


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
