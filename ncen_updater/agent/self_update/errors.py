"""Errors of the agent's own renewal and installation. Codes 9401 to 9499."""

from __future__ import annotations

from ncen_updater.common.errors import ExitCode, UpdaterError
from ncen_updater.common.i18n import N_

__all__ = [
    "AgentNotConfirmed",
    "AgentNotFromSlot",
    "AgentOnTrial",
    "AgentReleaseUnusable",
    "AgentSlotFailed",
    "ChangeStillOpen",
    "InstallFailed",
    "RootAlreadyInstalled",
    "RootUnusable",
    "SequenceDamaged",
    "SequenceUnwritable",
]


class SequenceDamaged(UpdaterError):
    """The file that says which agent is chosen is not what it should be."""

    code = "NU-9401"
    what = N_("{path} is damaged: {reason}")
    remedy = N_(
        "Start the agent's service again: it is written anew from the slots that are there."
    )


class SequenceUnwritable(UpdaterError):
    """The choice of the agent cannot be written down."""

    code = "NU-9402"
    exit_code = ExitCode.SPACE
    what = N_("The choice of the agent in {path} cannot be written: {reason}")
    remedy = N_("Make room on that disk, or let the agent's user write there.")


class AgentNotFromSlot(UpdaterError):
    """An agent that was not installed by ``install``."""

    code = "NU-9403"
    exit_code = ExitCode.USAGE
    what = N_("This agent does not run from a slot in {path} that was chosen there.")
    remedy = N_("Install it from its release with 'ncen-updater install', or renew it by hand.")


class AgentOnTrial(UpdaterError):
    """A new agent that has not confirmed itself yet."""

    code = "NU-9404"
    exit_code = ExitCode.BUSY
    what = N_("Agent {version} is still on trial here.")
    remedy = N_(
        "Wait until it has confirmed itself or was given up; start the service if it stands."
    )


class AgentSlotFailed(UpdaterError):
    """A slot of the agent that cannot be made, or does not work."""

    code = "NU-9405"
    what = N_("The slot of agent {version} cannot be made: {reason}")
    remedy = N_("The agent that runs goes on. Look at the reason, then try 'self-update' again.")


class AgentNotConfirmed(UpdaterError):
    """A new agent that could not confirm itself in its time."""

    code = "NU-9406"
    what = N_("Agent {version} did not confirm itself within {seconds} seconds.")
    remedy = N_("Nothing: it is tried once more, and then the previous agent comes back by itself.")


class AgentReleaseUnusable(UpdaterError):
    """A directory that is no release of the agent."""

    code = "NU-9407"
    exit_code = ExitCode.USAGE
    what = N_("{path} is no release of the agent that can be installed: {reason}")
    remedy = N_("Unpack the archive of an agent release whole, and name that directory.")


class RootUnusable(UpdaterError):
    """A file that is no trusted root."""

    code = "NU-9408"
    exit_code = ExitCode.TRUST
    what = N_("{path} cannot be used as the trusted root: {reason}")
    remedy = N_(
        "Take the file 'root.json' that the Secretariat handed over, and compare its digest."
    )


class RootAlreadyInstalled(UpdaterError):
    """Another trusted root is there already."""

    code = "NU-9409"
    exit_code = ExitCode.TRUST
    what = N_("There is another trusted root at {path}.")
    remedy = N_("Nothing was replaced. Follow docs/trust.md if the root has to be another one.")


class InstallFailed(UpdaterError):
    """A part of the installation that the system refused."""

    code = "NU-9410"
    what = N_("'{part}' was refused: {reason}")
    remedy = N_(
        "Mend the reason and run the command again: what was done already is left as it is."
    )


class ChangeStillOpen(UpdaterError):
    """The agent cannot go while a change is open."""

    code = "NU-9411"
    exit_code = ExitCode.BUSY
    what = N_("Change {change} has not come to its end.")
    remedy = N_("Run 'ncen-updater resume' first; without the agent nothing could finish it.")
