"""The program ``ncen-updater``. Light: everything that costs time is imported by its command."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ncen_updater.agent.cli.guide import GUIDE
from ncen_updater.agent.cli.session import AgentSession
from ncen_updater.common.cli.lazy import LazyGroup, commands, global_options, version_option
from ncen_updater.common.cli.program import run_program
from ncen_updater.common.cli.session import DEFAULT_CONFIG
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, Text
from ncen_updater.feed.left_out_imports import leave_out

__all__ = ["COMMANDS", "main", "run"]

COMMANDS = commands(
    "ncen_updater.agent.cli",
    {
        "status": N_("What runs here, and what the agent is doing."),
        "check": N_("Ask the feed whether an upgrade is available."),
        "plan": N_("Say what an upgrade would do here, and change nothing."),
        "rehearse": N_("Try a release on copies of your own data."),
        "approve": N_("Say yes to what was rehearsed."),
        "schedule": ("approve", N_("Choose when an approved upgrade may begin.")),
        "dossier": N_("Make a page on the upgrade for people to sign."),
        "upgrade": N_("Upgrade the application."),
        "watch": N_("Follow what the service does."),
        "confirm": N_("End the watched time: the new release is good."),
        "rollback": N_("Go back to the release before."),
        "resume": N_("Bring an interrupted change to its end."),
        "history": N_("What was done here."),
        "collect": N_("Drop what is kept longer than its days."),
        "accept-restore": N_(
            "Take databases that were restored from a backup as those of a release."
        ),
        "translations": N_("What the country has in texts of its own, and what is to be done."),
        "verify": N_("Compare what is there with what was recorded."),
        "doctor": N_("Look for everything that would stand in the way."),
        "support-bundle": N_("Gather what the Secretariat needs to help."),
        "import": ("media", N_("Take releases from a bundle that came on a medium.")),
        "mirror": ("media", N_("Make or renew a copy of the feed for this country.")),
        "hold": N_("Forbid upgrades, with a reason."),
        "unhold": ("hold", N_("Allow upgrades again.")),
        "serve": N_("Be the service of this site."),
        "self-update": N_("Renew the agent itself."),
        "install": N_("Install the agent on this server."),
        "uninstall": ("install", N_("Take the agent away; the application stays.")),
        "adopt": N_("Take over a site that was installed by hand."),
    },
)

cli = LazyGroup(
    "ncen-updater",
    lazy=COMMANDS,
    guide=GUIDE,
    params=[
        *global_options(),
        version_option(),
    ],
    help=N_("Upgrade a national nCEN instance, whole or not at all."),
)


def _state_now(session: AgentSession, error: UpdaterError) -> Sequence[Text]:
    from ncen_updater.agent.cli.state import sentences
    from ncen_updater.agent.config.errors import ConfigError
    from ncen_updater.agent.engine.errors import JournalMissing

    if isinstance(error, ConfigError):
        return [Text(N_("The site was not looked at, and nothing was changed."))]
    status = session.look()
    # A command that never had the site cannot have changed it.
    before = None if session.adopting else session.before or status
    said = sentences(status, before)
    if session.adopting and isinstance(status.journal, JournalMissing):
        said.append(Text(N_("The site was not taken over; 'adopt' may be repeated.")))
    return said


def run(arguments: Sequence[str]) -> int:
    """Run a command line and return its exit code."""
    config = os.environ.get("NCEN_CONFIG_FILE")
    session = AgentSession("ncen-updater", Path(config) if config else DEFAULT_CONFIG)
    return run_program(cli, session, arguments, lambda error: _state_now(session, error))


def main() -> None:
    """Be the program."""
    leave_out()
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
