"""Structured log records for systemd's journal, if stderr is connected to it.

Each record has the fields ``NCEN_CODE``, ``NCEN_CHANGE``, ``NCEN_STEP``, ``NCEN_ACTION``,
``NCEN_EVENT`` and ``NCEN_HEAD`` if known, and a ``MESSAGE_ID`` derived from the code, with an entry
in journald's message catalogue. The native protocol is one datagram per record
(https://systemd.io/JOURNAL_NATIVE_PROTOCOL/). Without a journal, records are plain lines. Secrets
of the configuration are masked in both. No third-party imports.
"""

from __future__ import annotations

import logging
import os
import socket
import struct
import sys
import uuid
from collections.abc import Iterable, Mapping
from typing import TextIO

from ncen_updater.common.errors import UpdaterError

JOURNAL_SOCKET = "/run/systemd/journal/socket"
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:ncen-updater:messages")
#: INFO is logged as "notice", because units drop lower priorities (LogLevelMax=).
PRIORITY_BY_LEVEL = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 5))
DEBUG_PRIORITY = 7
#: Journal field by attribute of the log record.
FIELDS = {
    "NCEN_CODE": "code",
    "NCEN_CHANGE": "change",
    "NCEN_STEP": "step",
    "NCEN_ACTION": "action",
    "NCEN_EVENT": "event",
    "NCEN_HEAD": "head",
}
#: Maximum characters of a message in the journal; a datagram could hold more.
MAX_MESSAGE = 16_000
PLAIN_FORMAT = "%(levelname)s %(name)s %(message)s"
#: tuf logs each key without a signature, for every metadata file of every check. Below the
#: threshold this is normal, so it is logged with ``--verbose`` only.
NOISY_LOGGER = "tuf"


def make_message_id(code: str) -> str:
    """Return the ``MESSAGE_ID`` of a stable code such as ``NU-6011``: 32 hexadecimal digits."""
    return uuid.uuid5(NAMESPACE, code).hex


def is_journal_stream(environment: Mapping[str, str], stream: TextIO) -> bool:
    """Return whether a stream is connected to the journal, by inode in JOURNAL_STREAM."""
    named = environment.get("JOURNAL_STREAM", "")
    try:
        seen = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return named == f"{seen.st_dev}:{seen.st_ino}"


class SecretFilter(logging.Filter):
    """A filter that masks secrets in the log records of all loggers.

    Args:
        secrets: The secrets.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        super().__init__()
        self._secrets: tuple[str, ...] = ()
        self.add_secrets(secrets)

    def add_secrets(self, secrets: Iterable[str]) -> None:
        """Mask these secrets from now on, too."""
        known = {*self._secrets, *(secret for secret in secrets if secret)}
        self._secrets = tuple(sorted(known, key=len, reverse=True))

    def mask_text(self, text: str) -> str:
        """Return a text with the secrets masked."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    def filter(self, record: logging.LogRecord) -> bool:
        """Accept every record, after masking secrets in it."""
        message = record.getMessage()
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        error = next((a for a in _get_arguments(record) if isinstance(a, UpdaterError)), None)
        if error is not None and not hasattr(record, "code"):
            record.code = error.code
        record.msg, record.args = self.mask_text(message), None
        record.exc_text = self.mask_text(record.exc_text) if record.exc_text else None
        return True


def _get_arguments(record: logging.LogRecord) -> Iterable[object]:
    return record.args if isinstance(record.args, tuple) else ()


def _encode_field(name: str, value: str) -> bytes:
    data = value.encode("utf-8", "backslashreplace")
    if b"\n" in data:
        return name.encode() + b"\n" + struct.pack("<Q", len(data)) + data + b"\n"
    return name.encode() + b"=" + data + b"\n"


class JournaldHandler(logging.Handler):
    """A handler that sends records to journald.

    Args:
        address: Path of its socket.
        identifier: Name of the program.
    """

    def __init__(self, address: str = JOURNAL_SOCKET, identifier: str = "ncen-updater") -> None:
        super().__init__()
        self._address, self._identifier = address, identifier
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record."""
        try:
            self._socket.sendto(self.encode_record(record), self._address)
        except OSError:
            sys.stderr.write(f"{record.levelname} {record.name} {record.getMessage()}\n")

    def encode_record(self, record: logging.LogRecord) -> bytes:
        """Return a record in journald's native protocol."""
        message = record.getMessage()
        if record.exc_text:
            message = f"{message}\n{record.exc_text}"
        fields = {
            "MESSAGE": message[:MAX_MESSAGE],
            "PRIORITY": str(_get_priority(record.levelno)),
            "SYSLOG_IDENTIFIER": self._identifier,
            "NCEN_LOGGER": record.name,
            "CODE_FILE": record.pathname,
            "CODE_LINE": str(record.lineno),
            "CODE_FUNC": record.funcName or "",
        }
        for name, attribute in FIELDS.items():
            value = getattr(record, attribute, None)
            if value is not None:
                fields[name] = str(value)[:200]
        if "NCEN_CODE" in fields:
            fields["MESSAGE_ID"] = make_message_id(fields["NCEN_CODE"])
        return b"".join(_encode_field(name, value) for name, value in fields.items())

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
        super().close()


def _get_priority(level: int) -> int:
    return next((number for least, number in PRIORITY_BY_LEVEL if level >= least), DEBUG_PRIORITY)


def install_logging(
    level: int,
    *,
    always: bool,
    program: str = "ncen-updater",
    environment: Mapping[str, str] = os.environ,
) -> SecretFilter | None:
    """Send the log of this process to the journal, or to stderr as plain lines.

    Args:
        level: Minimum level.
        always: Whether to log to stderr if it is not connected to the journal.
        program: Name of the program.
        environment: Environment with ``JOURNAL_STREAM``.

    Returns:
        The filter that masks secrets; None if no handler was installed.
    """
    handler: logging.Handler
    if is_journal_stream(environment, sys.stderr):
        handler = JournaldHandler(JOURNAL_SOCKET, program)
    elif always:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter(PLAIN_FORMAT))
    else:
        return None
    masking = SecretFilter()
    handler.addFilter(masking)
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
        if isinstance(old, JournaldHandler):
            old.close()
    root.addHandler(handler)
    root.setLevel(level)
    talkative = logging.getLogger(NOISY_LOGGER)
    talkative.setLevel(level if level <= logging.DEBUG else max(level, logging.WARNING))
    return masking
