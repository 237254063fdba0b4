"""Errors of the application room. Codes 5001 to 5099."""

from __future__ import annotations

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import APPLICATION_ERROR, COMMAND_FAILED, STOP_FAILED


class ApplicationError(UpdaterError):
    """Base of what the application refuses or fails to do."""

    message = APPLICATION_ERROR


class CommandFailed(ApplicationError):
    """A command that ended badly, was not found, or did not end in time."""

    message = COMMAND_FAILED


class StopFailed(ApplicationError):
    """An application that goes on running.

    The value ``refused`` tells whether the order itself failed; else it may be on its way down.
    """

    message = STOP_FAILED
