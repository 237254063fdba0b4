"""Errors of the command lines. Codes 1101 to 1199. Imports nothing heavy."""

from __future__ import annotations

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import COMMAND_INTERRUPTED, UNEXPECTED

SITE_STATE_UNKNOWN = N_("State of the site unknown: {why}")
NOTHING_CHANGED = LazyText(N_("Nothing was changed."))


class CommandInterruptedError(UpdaterError):
    """A signal ended a command that had nothing to undo."""

    message = COMMAND_INTERRUPTED


class UnexpectedError(UpdaterError):
    """A mistake in this program; the trace is in ``detail`` or in a file that it names."""

    message = UNEXPECTED
