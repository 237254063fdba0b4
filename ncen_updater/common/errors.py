"""Error classes: each error has a title, the state, a remedy, and a stable code.

The texts are data, in the one table :mod:`ncen_updater.common.messages`. There is a class only
for errors that are caught; all others use the nearest class with another message::

    raise DatabaseError(FENCE_MISSING, database=name)
"""

from __future__ import annotations

from typing import Self

from ncen_updater.common.i18n import LazyText
from ncen_updater.common.messages import INSUFFICIENT_SPACE, UNNAMED, ErrorMessage, ExitCode

#: The words of a lower layer, as they stand.
DETAIL = "{detail}"


def causes(error: BaseException) -> list[BaseException]:
    """Return an error and what is behind it, each once."""
    chain = [error]
    while (behind := chain[-1].__cause__ or chain[-1].__context__) and behind not in chain:
        chain.append(behind)
    return chain


def get_error_text(error: BaseException) -> LazyText | str:
    """Return what an error says: a text of ours, to be translated, or the words of a library."""
    if isinstance(error, UpdaterError):
        return error.full_text
    text = error.args[0] if error.args else None
    return text if isinstance(text, LazyText) else str(error)


class UpdaterError(Exception):
    """Base of all errors that a person may see.

    Args:
        message: What it says; that of the class where it is left out.
        state: What runs now and whether data were lost; where neither it nor the message says that,
            the command that shows the error asks the site. Never guess it.
        detail: More of it, shown after *what*: a sentence of ours, or the words of a lower layer (a
            server's message, a line of a file), which are never translated.
        **values: Values for the places of the two sentences; also part of ``--json``.
    """

    message: ErrorMessage = UNNAMED
    #: Numbers of the codes that belong to a class beside its own: as which class an error of
    #: another process arrives, since only its code crosses.
    code_range: range = range(0)
    #: What a lower layer said that may hold rows of a database, such as the output of a program of
    #: the application's. Never shown, in no journal: :mod:`ncen_updater.agent.engine.raw_errors`.
    raw_error: str | None = None

    def __init__(
        self,
        message: ErrorMessage | None = None,
        /,
        *,
        state: LazyText | None = None,
        detail: str | LazyText | None = None,
        **values: object,
    ) -> None:
        self.message = message or type(self).message
        value = self.message.state
        self.state = LazyText(value, values) if state is None and value is not None else state
        self.detail = None if detail is None else str(detail)
        self._detail = detail if isinstance(detail, LazyText) else None
        self.values = values
        super().__init__(self.title_text.render())

    def with_raw_error(self, raw_error: str | None) -> Self:
        """Keep what may hold rows, for a file that root alone reads."""
        self.raw_error = raw_error or None
        return self

    @property
    def code(self) -> str:
        """Return the stable code."""
        return self.message.code

    @property
    def exit_code(self) -> ExitCode:
        """Return what a command ends with."""
        return self.message.exit_code

    @property
    def title_text(self) -> LazyText:
        """Return what happened."""
        return LazyText(self.message.title, self.values)

    @property
    def full_text(self) -> LazyText:
        """Return what happened, with the detail where there is one."""
        values = {"title": self.title_text, "detail": self.detail_text}
        return LazyText("{title} ({detail})", values) if self.detail else self.title_text

    @property
    def remedy_text(self) -> LazyText:
        """Return what to do."""
        return LazyText(self.message.remedy, self.values)

    @property
    def detail_text(self) -> LazyText | None:
        """Return the detail as a person reads it."""
        if self.detail is None:
            return None
        return self._detail or LazyText(DETAIL, {"detail": self.detail})

    def __str__(self) -> str:
        return f"{self.code}: {self.full_text}"


class InsufficientSpaceError(UpdaterError):
    """Too little room."""

    message = INSUFFICIENT_SPACE
    code_range = range(3110, 3111)
