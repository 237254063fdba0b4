"""Error classes: each error has a title, a state, a remedy and a stable code.

The texts are data in one table, :mod:`ncen_updater.common.messages`. Only errors that code catches
have a class of their own; others use the nearest class with another message::

    raise DatabaseError(FENCE_MISSING, database=name)
"""

from __future__ import annotations

from typing import Self

from ncen_updater.common.i18n import LazyText
from ncen_updater.common.messages import INSUFFICIENT_SPACE, UNNAMED, ErrorMessage, ExitCode

#: Message of a library or server, quoted verbatim.
DETAIL = "{detail}"


def causes(error: BaseException) -> list[BaseException]:
    """Return an error and the chain of its causes, each once."""
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) and cause not in chain:
        chain.append(cause)
    return chain


def get_error_text(error: BaseException) -> LazyText | str:
    """Return the text of an error: this program's translatable text, or a library's message."""
    if isinstance(error, UpdaterError):
        return error.full_text
    text = error.args[0] if error.args else None
    return text if isinstance(text, LazyText) else str(error)


class TextError(Exception):
    """An error inside this program, whose translatable reason becomes part of a message.

    Args:
        template: The reason.
        **values: Values of its placeholders.
    """

    def __init__(self, template: str, /, **values: object) -> None:
        super().__init__(LazyText(template, values) if values else template)


class InvalidValueError(TextError, ValueError):
    """A value that a model or a file may not have."""


class UpdaterError(Exception):
    """Base of all errors shown to operators.

    Args:
        message: The message; by default that of the class.
        state: The state of the site: what runs and whether data was lost. If neither this nor the
            message has one, the command that shows the error determines it. Never guess it.
        detail: Shown after the title: a translatable text, or a verbatim message of a library or
            server, which is never translated.
        **values: Values for the message's placeholders; also part of ``--json``.
    """

    message: ErrorMessage = UNNAMED
    #: Numbers of the error codes that belong to this class besides its own. An error of another
    #: process arrives as a code only, and gets its class from this range.
    code_range: range = range(0)
    #: Raw error that may contain database rows, such as a program's output. It is not shown or
    #: journaled: :mod:`ncen_updater.agent.engine.raw_errors`.
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
        template = self.message.state
        self.state = LazyText(template, values) if state is None and template else state
        self.detail = None if detail is None else str(detail)
        self._detail = detail if isinstance(detail, LazyText) else None
        self.values = values
        super().__init__(self.title_text.render())

    def with_raw_error(self, raw_error: str | None) -> Self:
        """Attach the raw error, which may contain rows, for a file that only root reads."""
        self.raw_error = raw_error or None
        return self

    @property
    def code(self) -> str:
        """Return the stable code; that of the cause if a change or rehearsal failed."""
        return str(self.values.get("cause_code") or self.message.code)

    @property
    def exit_code(self) -> ExitCode:
        """Return the exit code of a command that fails with this error."""
        return self.message.exit_code

    @property
    def title_text(self) -> LazyText:
        """Return the title."""
        return LazyText(self.message.title, self.values)

    @property
    def full_text(self) -> LazyText:
        """Return the title, with the detail in parentheses if there is one."""
        values = {"title": self.title_text, "detail": self.detail_text}
        return LazyText("{title} ({detail})", values) if self.detail else self.title_text

    @property
    def remedy_text(self) -> LazyText:
        """Return the remedy."""
        return LazyText(self.message.remedy, self.values)

    @property
    def original_detail(self) -> str | LazyText | None:
        """Return the detail as it was given, for an error that carries it on."""
        return self._detail or self.detail

    @property
    def detail_text(self) -> LazyText | None:
        """Return the detail for display."""
        if self.detail is None:
            return None
        return self._detail or LazyText(DETAIL, {"detail": self.detail})

    def __str__(self) -> str:
        return f"{self.code}: {self.full_text}"


class InsufficientSpaceError(UpdaterError):
    """Too little disk space."""

    message = INSUFFICIENT_SPACE
    code_range = range(3110, 3111)
