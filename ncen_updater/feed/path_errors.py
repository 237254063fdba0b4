"""Errors of the choice of a release. Codes 2201 to 2219."""

from __future__ import annotations

from ncen_updater.common.errors import ExitCode, UpdaterError
from ncen_updater.common.i18n import N_

__all__ = [
    "NoPathToTarget",
    "PathError",
    "TargetBad",
    "TargetForOtherCountry",
    "TargetHalted",
    "TargetNeedsNewerAgent",
    "TargetNotNewer",
    "TargetOtherChannel",
    "TargetUnknown",
    "TargetWithdrawn",
]


class PathError(UpdaterError):
    """A release that was asked for by name and may not be installed here."""

    code = "NU-2201"
    exit_code = ExitCode.BLOCKED
    what = N_("Release {version} cannot be installed here.")
    remedy = N_("Run 'ncen-updater check' to see what is offered to this site.")


class TargetUnknown(PathError):
    """Not in the list."""

    code = "NU-2202"
    what = N_("The feed does not offer a release {version}.")


class TargetForOtherCountry(PathError):
    """Another audience."""

    code = "NU-2203"
    what = N_("Release {version} is for other countries ({countries}), not for {country}.")


class TargetOtherChannel(PathError):
    """A preview at a site that did not ask for previews."""

    code = "NU-2204"
    what = N_("Release {version} is in the channel '{channel}', which this site does not follow.")
    remedy = N_("Change 'channel' in the agent's configuration if you want such releases.")


class TargetWithdrawn(PathError):
    """Taken back."""

    code = "NU-2205"
    what = N_("Release {version} was withdrawn by the Secretariat: {reason}")


class TargetNeedsNewerAgent(PathError):
    """The agent is too old."""

    code = "NU-2206"
    what = N_("Release {version} needs another version of this agent: {agent}.")
    remedy = N_("Update the agent first.")


class TargetBad(PathError):
    """Failed here before."""

    code = "NU-2207"
    what = N_("Release {version} failed at this site before.")
    remedy = N_(
        "Read 'ncen-updater history'; to try it again, "
        "run 'ncen-updater upgrade {version} --retry'."
    )


class TargetNotNewer(PathError):
    """Installed already, or older."""

    code = "NU-2208"
    what = N_("Release {version} is not newer than what runs here ({current}).")
    remedy = N_("To go back, use 'ncen-updater rollback'.")


class NoPathToTarget(PathError):
    """Eligible, but no allowed sequence of upgrades leads there."""

    code = "NU-2209"
    what = N_("There is no way from {current} to release {version}: {reason}")


class TargetHalted(PathError):
    """No further site shall begin with it."""

    code = "NU-2210"
    exit_code = ExitCode.HELD
    what = N_("Release {version} was halted by the Secretariat: {reason}")
    remedy = N_("Wait until it is opened again; 'ncen-updater check' says when that is so.")
