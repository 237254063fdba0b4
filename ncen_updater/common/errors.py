"""The family of errors: each says what happened, the state now, what to do, and a stable code.

Each room defines its own errors beside its code, as subclasses of :class:`UpdaterError`. The number
of a code is never used twice and never changes its meaning. The thousands say which room it is:

====  ==============================  ====  =================================
1xxx  command line and configuration  5xxx  the application and its health
2xxx  trust and the feed              6xxx  the upgrade, journal and recovery
3xxx  releases, transfer and slots    7xxx  the publisher
4xxx  databases and migrations        8xxx  the stand-in and the demonstration
                                      9xxx  the service and the agent itself
====  ==============================  ====  =================================

This module is on the path of ``ncen-updater status`` and imports nothing heavy.
"""

from __future__ import annotations

from enum import IntEnum

from ncen_updater.common.i18n import N_, Text

__all__ = ["ExitCode", "RemoteError", "SpaceShort", "UpdaterError"]


class ExitCode(IntEnum):
    """Exit codes of both programs; stable."""

    OK = 0
    ERROR = 1
    USAGE = 2
    BLOCKED = 3
    APPROVAL_MISSING = 4
    HELD = 5
    TRUST = 6
    NETWORK = 7
    SPACE = 8
    BUSY = 9
    AVAILABLE = 10
    ROLLED_BACK = 11
    NEEDS_PERSON = 12
    REHEARSAL_STALE = 13
    FEED_STALE = 14


class UpdaterError(Exception):
    """Base of all errors that a person may see.

    A subclass sets ``code``, ``exit_code``, ``what`` and ``remedy``; the two sentences are English
    templates marked with ``N_`` whose ``{places}`` are filled from the keyword arguments.

    Args:
        state: What runs now and whether data were lost; where it is not given, the command that
            shows the error asks the site. Never guess it.
        detail: Text from a lower layer (a server's message, a line of a file), shown after *what*
            and never translated.
        **values: Values for the places of ``what`` and ``remedy``; also part of ``--json``.
    """

    code: str = "NU-1000"
    exit_code: ExitCode = ExitCode.ERROR
    what: str = N_("Something went wrong that has no name of its own.")
    remedy: str = N_("Send the Secretariat what 'ncen-updater doctor' and 'history' say.")

    def __init__(
        self, *, state: Text | None = None, detail: str | None = None, **values: object
    ) -> None:
        self.state = state
        self.detail = detail
        self.values = values
        super().__init__(self.what_text.render())

    @property
    def what_text(self) -> Text:
        """What happened."""
        return Text(self.what, self.values)

    @property
    def remedy_text(self) -> Text:
        """What to do."""
        return Text(self.remedy, self.values)

    def __str__(self) -> str:
        detail = f" ({self.detail})" if self.detail else ""
        return f"{self.code}: {self.what_text}{detail}"


class RemoteError(UpdaterError):
    """An error of another process: its code and its words are data.

    Args:
        code: The stable code.
        exit_code: What a command ends with.
        what: Template of what happened.
        remedy: Template of what to do.
    """

    def __init__(self, code: str, exit_code: ExitCode, what: str, remedy: str) -> None:
        self.code, self.exit_code, self.what, self.remedy = code, exit_code, what, remedy
        super().__init__()


class SpaceShort(UpdaterError):
    """Too little room."""

    code = "NU-3101"
    exit_code = ExitCode.SPACE
    what = N_("Too little space in {path}: {needed} bytes are needed, {free} are free.")
    remedy = N_("Free at least {missing} bytes there, then try again.")
