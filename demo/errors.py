"""Errors of the stand-in and the demonstration. Codes 8002 to 8099 (8001: embedded PostgreSQL)."""

from __future__ import annotations

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_
from ncen_updater.common.messages import ErrorMessage


class ReleaseSourceNotFoundError(UpdaterError):
    """Release of the stand-in without a source."""

    message = ErrorMessage(
        "NU-8002",
        N_("Unknown stand-in release {name}"),
        N_("Run it in a clone of the repository."),
    )


class InvalidReleaseSourceError(UpdaterError):
    """Source of the stand-in that cannot be laid out."""

    message = ErrorMessage(
        "NU-8003",
        N_("Incomplete source of the stand-in release {name}"),
        N_("Restore the directory 'manifests' from the repository."),
    )


class StandInError(UpdaterError):
    """Process of the stand-in that does not start or stop."""

    message = ErrorMessage(
        "NU-8004",
        N_("{part} of the stand-in does not reach the state: {wanted}"),
        N_("Read its log in the directory of the demonstration."),
    )
