"""Errors of the support bundle. Codes 9651 to 9699. Nothing was written where one is raised."""

from __future__ import annotations

from ncen_updater.common.errors import ExitCode, UpdaterError
from ncen_updater.common.i18n import N_

__all__ = ["BundleExists", "BundleLeaks", "BundleUnwritable", "UnknownPart"]


class BundleLeaks(UpdaterError):
    """A value of the databases stands in what was gathered."""

    code = "NU-9651"
    exit_code = ExitCode.BLOCKED
    what = N_("No bundle was written: a value of {column} stands in the part {part}.")
    remedy = N_(
        "Look at it with --dry-run --show {part}. Leave the part out with --leave-out {part}, and "
        "tell the Secretariat that it was."
    )


class BundleUnwritable(UpdaterError):
    """The file could not be written."""

    code = "NU-9652"
    what = N_("The file {path} cannot be written: {reason}")
    remedy = N_("Choose another place with --output.")


class BundleExists(UpdaterError):
    """There is something already."""

    code = "NU-9653"
    what = N_("There is something at {path} already; it was left alone.")
    remedy = N_("Choose another name with --output.")


class UnknownPart(UpdaterError):
    """A part that a bundle does not have."""

    code = "NU-9654"
    exit_code = ExitCode.USAGE
    what = N_("A bundle has no part {part}.")
    remedy = N_("The parts are: {parts}.")
