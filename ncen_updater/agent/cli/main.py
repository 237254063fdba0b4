"""The program ``ncen-updater``. Light: everything that costs time is imported by its command."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ncen_updater.agent.cli.session import AgentSession
from ncen_updater.common.cli.lazy import LazyGroup, global_options, version_option
from ncen_updater.common.cli.program import run_program
from ncen_updater.common.cli.session import DEFAULT_CONFIG
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, Text

__all__ = ["COMMANDS", "main", "run"]

_AT = "ncen_updater.agent.cli."
COMMANDS = {
    "status": (f"{_AT}status", N_("What runs here, and what the agent is doing.")),
    "check": (f"{_AT}check", N_("Ask the feed whether an upgrade is available.")),
    "plan": (f"{_AT}plan", N_("Say what an upgrade would do here, and change nothing.")),
    "rehearse": (f"{_AT}rehearse", N_("Try a release on copies of your own data.")),
    "approve": (f"{_AT}approve", N_("Say yes to what was rehearsed.")),
    "schedule": (f"{_AT}approve", N_("Choose when an approved upgrade may begin.")),
    "dossier": (f"{_AT}dossier", N_("Make a page on the upgrade for people to sign.")),
    "upgrade": (f"{_AT}upgrade", N_("Upgrade the application.")),
    "watch": (f"{_AT}watch", N_("Follow what the service does.")),
    "confirm": (f"{_AT}confirm", N_("End the watched time: the new release is good.")),
    "rollback": (f"{_AT}rollback", N_("Go back to the release before.")),
    "resume": (f"{_AT}resume", N_("Bring an interrupted change to its end.")),
    "history": (f"{_AT}history", N_("What was done here.")),
    "collect": (f"{_AT}collect", N_("Drop what is kept longer than its days.")),
    "accept-restore": (
        f"{_AT}accept_restore",
        N_("Take databases that were restored from a backup as those of a release."),
    ),
    "verify": (f"{_AT}verify", N_("Compare what is there with what was recorded.")),
    "doctor": (f"{_AT}doctor", N_("Look for everything that would stand in the way.")),
    "support-bundle": (
        f"{_AT}support_bundle",
        N_("Gather what the Secretariat needs to help."),
    ),
    "import": (f"{_AT}media", N_("Take releases from a bundle that came on a medium.")),
    "mirror": (f"{_AT}media", N_("Make or renew a copy of the feed for this country.")),
    "hold": (f"{_AT}hold", N_("Forbid upgrades, with a reason.")),
    "unhold": (f"{_AT}hold", N_("Allow upgrades again.")),
    "serve": (f"{_AT}serve", N_("Be the service of this site.")),
    "self-update": (f"{_AT}self_update", N_("Renew the agent itself.")),
    "install": (f"{_AT}install", N_("Install the agent on this server.")),
    "uninstall": (f"{_AT}install", N_("Take the agent away; the application stays.")),
    "adopt": (f"{_AT}adopt", N_("Take over a site that was installed by hand.")),
}


cli = LazyGroup(
    "ncen-updater",
    lazy=COMMANDS,
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
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
