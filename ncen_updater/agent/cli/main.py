"""The program ``ncen-updater``. Light: everything that costs time is imported by its command."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ncen_updater.agent.cli.guide import COMMANDS, GUIDE
from ncen_updater.agent.cli.session import AgentSession
from ncen_updater.common.cli.lazy import LazyGroup, global_options, version_option
from ncen_updater.common.cli.program import run_program
from ncen_updater.common.cli.session import DEFAULT_CONFIG
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, Text
from ncen_updater.feed.left_out_imports import leave_out

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
    from ncen_updater.agent.model.errors import JournalMissing

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
