"""What a stable code means, in one sentence, and what to do about it.

Values of the error that happened are not told: they may quote the database, and who looks a code up
has none. Used by what sends letters, by ``history`` and by the page of help.
"""

from __future__ import annotations

from ncen_updater.common.i18n import N_, PLACE, Text
from ncen_updater.common.messages import message_of

#: What stands for a value.
HIDDEN = "…"
Reason = tuple[Text, Text]


#: Where the whole sentence is a value.
BY_CAUSE = N_("It depends on the cause: 'ncen-updater history' and 'ncen-updater doctor' show it.")


def _hidden(template: str) -> Text:
    if not PLACE.sub("", template).strip():
        return Text(BY_CAUSE)
    return Text(template, dict.fromkeys(PLACE.findall(template), HIDDEN))


def with_gaps(sentence: Text) -> bool:
    """Whether values of the error are missing in a sentence of :func:`reason`."""
    return HIDDEN in sentence.values.values()


def reason(code: str) -> Reason | None:
    """Return what happened and what to do; None for a code that is not known here."""
    message = message_of(code)
    return (_hidden(message.what), _hidden(message.remedy)) if message is not None else None
