"""What a stable code means, in one sentence, and what to do about it.

Values of the error that happened are not told: they may quote the database. Used by the process
that sends, and by the support bundle.
"""

from __future__ import annotations

from ncen_updater.common.i18n import PLACE, Text
from ncen_updater.common.messages import message_of

__all__ = ["Reason", "reason"]

#: What stands for a value.
HIDDEN = "…"
Reason = tuple[Text, Text]


def _hidden(template: str) -> Text:
    return Text(template, dict.fromkeys(PLACE.findall(template), HIDDEN))


def reason(code: str) -> Reason | None:
    """Return what happened and what to do; None for a code that is not known here."""
    message = message_of(code)
    return (_hidden(message.what), _hidden(message.remedy)) if message is not None else None
