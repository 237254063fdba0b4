"""What a stable code means, in one sentence, and what to do about it.

Values of the error that happened are not told: they may quote the database, and who looks a code up
has none. Used by what sends letters, by ``history`` and by the page of help.
"""

from __future__ import annotations

from ncen_updater.common.i18n import N_, PLACEHOLDER, LazyText
from ncen_updater.common.messages import find_message

#: What stands for a value.
HIDDEN_VALUE = "…"
CodeExplanation = tuple[LazyText, LazyText]


#: Where the whole sentence is a value.
DEPENDS_ON_CAUSE = N_("Depends on the cause. Run: ncen-updater history")


def _hide_values(template: str) -> LazyText:
    if not PLACEHOLDER.sub("", template).strip():
        return LazyText(DEPENDS_ON_CAUSE)
    return LazyText(template, dict.fromkeys(PLACEHOLDER.findall(template), HIDDEN_VALUE))


def has_hidden_values(sentence: LazyText) -> bool:
    """Whether values of the error are missing in a sentence of :func:`explain_code`."""
    return HIDDEN_VALUE in sentence.values.values()


def explain_code(code: str) -> CodeExplanation | None:
    """Return what happened and what to do; None for a code that is not known here."""
    message = find_message(code)
    return (
        (_hide_values(message.title), _hide_values(message.remedy)) if message is not None else None
    )
