"""Errors of the stand-in and the demonstration. Codes 8002 to 8099 (8001: embedded PostgreSQL)."""

from __future__ import annotations

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_
from ncen_updater.common.messages import ErrorMessage


class NoReleaseSource(UpdaterError):
    """A release of the stand-in that is not among the sources."""

    message = ErrorMessage(
        "NU-8002",
        N_("The stand-in has no release named {name}."),
        N_("Run this from a clone of the project, which has the directory 'manifests'."),
    )


class BadReleaseSource(UpdaterError):
    """A source of the stand-in that cannot be laid out."""

    message = ErrorMessage(
        "NU-8003",
        N_("The source of the stand-in's release {name} is not complete."),
        N_("Restore the directory 'manifests' from the project's repository."),
    )


class StandInFailed(UpdaterError):
    """A process of the stand-in that does not start or stop."""

    message = ErrorMessage(
        "NU-8004",
        N_("The stand-in's {part} could not be brought to: {wanted}."),
        N_("Read its log in the demonstration's directory."),
    )
