"""Lets into a bundle what is known to be nobody's data; what is not known is left out. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Set
from datetime import UTC, datetime

from ncen_updater.agent.config.secrets import FREE_FORM_TABLES
from ncen_updater.agent.reports.diagnostics.support_bundle.leaks import split_words
from ncen_updater.common.i18n import LazyText

MASK = "***"
#: Command lines: an argument may be a password, the program is none.
COMMAND_SETTINGS = frozenset({"start", "stop", "status", "version_command"})
URL_PATTERN = re.compile(r"://|@")
#: A number with more digits may be that of a passport, of a telephone or of a machine.
MOST_DIGITS = 6
#: Fields of the journal, as the agent and the system's manager write them: names and codes.
LOG_FIELDS = (
    "PRIORITY", "NCEN_CODE", "NCEN_EVENT", "NCEN_CHANGE", "NCEN_STEP", "UNIT", "JOB_TYPE",
    "JOB_RESULT", "UNIT_RESULT", "EXIT_CODE", "EXIT_STATUS",
)  # fmt: skip
_FIELD = re.compile(r"[A-Z_]+=[A-Za-z0-9@._-]{1,60}")
_FRAME = re.compile(r'File "[^"\n]*/(ncen_updater/[\w/]{1,99}\.py)", line (\d{1,6}), in (\w{1,50})')


def log_lines(journal: str) -> Iterator[str]:
    """Yield the lines of systemd's journal that say something, without what anybody wrote.

    Args:
        journal: Records as ``journalctl --output=json`` gives them, one a line.
    """
    for line in journal.splitlines():
        try:
            record = json.loads(line)
            moment = datetime.fromtimestamp(int(record["__REALTIME_TIMESTAMP"]) // 10**6, UTC)
        except (ValueError, TypeError, LookupError, OverflowError, OSError):
            continue
        found = [f"{name}={record.get(name)}" for name in LOG_FIELDS if record.get(name)]
        reported = list(filter(_FIELD.fullmatch, found))
        reported += [":".join(frame) for frame in _FRAME.findall(str(record.get("MESSAGE")))]
        if reported[1:]:  # more than how grave it is
            yield " ".join([f"{moment:%FT%TZ}", *reported])


def mask_values(text: LazyText, own: Set[str]) -> LazyText:
    """Return a sentence of ours with those values alone that are figures or words of ours.

    Args:
        text: The sentence.
        own: Words that this program uses itself, folded.
    """
    return LazyText(
        text.template, {name: _mask_value(value, own) for name, value in text.values.items()}
    )


def mask_settings(value: object, own: Set[str], name: str = "") -> object:
    """Return a configuration in the same way; how many there are of what stays visible.

    Args:
        value: A table, a list or a value of the file.
        own: Words that this program uses itself, folded.
        name: Name of the setting.
    """
    if isinstance(value, Mapping):
        hidden = name in FREE_FORM_TABLES
        return {k: MASK if hidden else mask_settings(v, own, k) for k, v in value.items()}
    if isinstance(value, list):
        if name in COMMAND_SETTINGS:
            return [*value[:1], *(MASK for _ in value[1:])]
        return [mask_settings(inner, own, name) for inner in value]
    return _mask_value(value, own)


def _mask_value(value: object, own: Set[str]) -> object:
    if isinstance(value, LazyText):
        return mask_values(value, own)
    if value is None or isinstance(value, bool | int | float):
        return value
    text = str(value)
    digits = sum(map(str.isdigit, text))
    known = all(word in own or word.isdecimal() for word in split_words(text))
    return value if known and digits <= MOST_DIGITS and not URL_PATTERN.search(text) else MASK
