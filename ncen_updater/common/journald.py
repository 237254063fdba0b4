"""Records with fields in systemd's journal, where that is what stderr leads to.

Each record of ours has ``NCEN_CODE``, ``NCEN_CHANGE``, ``NCEN_STEP``, ``NCEN_ACTION``,
``NCEN_EVENT`` and ``NCEN_HEAD`` as far as it knows them, and ``MESSAGE_ID``, made from the code,
under which journald's catalogue explains it. The native protocol is one datagram
(https://systemd.io/JOURNAL_NATIVE_PROTOCOL/). Elsewhere there are plain lines. Values that the
configuration keeps secret are taken out of both. Standard library only.
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
#: What was done, and by whom, is a notice: units leave out what is less (LogLevelMax=).
PRIORITY_BY_LEVEL = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 5))
DEBUG_PRIORITY = 7
#: Field to the name that records have it under.
FIELDS = {
    "NCEN_CODE": "code",
    "NCEN_CHANGE": "change",
    "NCEN_STEP": "step",
    "NCEN_ACTION": "action",
    "NCEN_EVENT": "event",
    "NCEN_HEAD": "head",
}
#: One datagram takes more; a line that is longer says nothing to a person.
MAX_MESSAGE = 16_000
PLAIN_FORMAT = "%(levelname)s %(name)s %(message)s"
#: This library names each key that did not sign, for every document at every question to the feed.
#: Where fewer sign than may, that is no news; ``--verbose`` has it.
NOISY_LOGGER = "tuf"


def make_message_id(code: str) -> str:
    """Return the ``MESSAGE_ID`` of a stable code such as ``NU-6011``: 32 hexadecimal digits."""
    return uuid.uuid5(NAMESPACE, code).hex


def is_journal_stream(environment: Mapping[str, str], stream: TextIO) -> bool:
    """Tell whether a stream leads to the journal: ``JOURNAL_STREAM`` names its device and inode."""
    named = environment.get("JOURNAL_STREAM", "")
    try:
        seen = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return named == f"{seen.st_dev}:{seen.st_ino}"


class SecretFilter(logging.Filter):
    """Filter that takes secrets out of log records of every logger.

    Args:
        secrets: Texts that must not appear.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        super().__init__()
        self._secrets: tuple[str, ...] = ()
        self.add_secrets(secrets)

    def add_secrets(self, secrets: Iterable[str]) -> None:
        """Mask these from now on, too."""
        known = {*self._secrets, *(secret for secret in secrets if secret)}
        self._secrets = tuple(sorted(known, key=len, reverse=True))

    def mask_text(self, text: str) -> str:
        """Return a text without the secrets."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record through, without the secrets."""
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
    """Sends records to journald.

    Args:
        address: Its socket.
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
        """Return a record as journald takes it."""
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
    """Lead the log of this process to the journal, or to stderr as plain lines.

    Args:
        level: Records below it are left out.
        always: Whether there is a log too where stderr does not lead to the journal.
        program: Name of the program.
        environment: Where ``JOURNAL_STREAM`` is looked for.

    Returns:
        What masks secrets in every record; None where nothing was installed.
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
