"""Errors of the stand-in and the demonstration. Codes 8002 to 8099 (8001: embedded PostgreSQL)."""

from __future__ import annotations

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_

__all__ = ["BadReleaseSource", "NoReleaseSource", "StandInFailed"]


class NoReleaseSource(UpdaterError):
    """A release of the stand-in that is not among the sources."""

    code = "NU-8002"
    what = N_("The stand-in has no release named {name}.")
    remedy = N_("Run this from a clone of the project, which has the directory 'manifests'.")


class BadReleaseSource(UpdaterError):
    """A source of the stand-in that cannot be laid out."""

    code = "NU-8003"
    what = N_("The source of the stand-in's release {name} is not complete.")
    remedy = N_("Restore the directory 'manifests' from the project's repository.")


class StandInFailed(UpdaterError):
    """A process of the stand-in that does not start or stop."""

    code = "NU-8004"
    what = N_("The stand-in's {part} could not be brought to: {wanted}.")
    remedy = N_("Read its log in the demonstration's directory.")
