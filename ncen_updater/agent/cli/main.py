"""The program ``ncen-updater``. Light: everything that costs time is imported by its command."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ncen_updater.agent.cli.guide import COMMAND_HELP, COMMANDS
from ncen_updater.agent.cli.session import AgentSession
from ncen_updater.agent.config.raw_config import PATH_VARIABLE
from ncen_updater.common.cli.lazy import LazyGroup, make_global_options, make_version_option
from ncen_updater.common.cli.program import run_program
from ncen_updater.common.cli.session import DEFAULT_CONFIG
from ncen_updater.common.cli.usage import NOTHING_CHANGED
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.feed.import_blocker import block_unused_imports

cli = LazyGroup(
    "ncen-updater",
    lazy=COMMANDS,
    aliases={"update": "upgrade", "downgrade": "rollback", "revert": "rollback"},
    command_help=COMMAND_HELP,
    params=[
        *make_global_options(),
        make_version_option(),
    ],
    help=N_("Upgrade and roll back an application with its databases"),
)


def _describe_state(session: AgentSession, error: UpdaterError) -> Sequence[LazyText]:
    from ncen_updater.agent.cli.state import format_site_state
    from ncen_updater.agent.config.errors import ConfigError
    from ncen_updater.agent.model.errors import JournalMissingError

    if isinstance(error, ConfigError):
        return [NOTHING_CHANGED]
    status = session.read_status()
    # A command that never had the site cannot have changed it.
    before = None if session.adopting else session.baseline or status
    value = format_site_state(status, before)
    if session.adopting and isinstance(status.journal, JournalMissingError):
        value.append(LazyText(N_("Not adopted. Run ncen-updater adopt again.")))
    return value


def run(arguments: Sequence[str]) -> int:
    """Run a command line and return its exit code."""
    config = os.environ.get(PATH_VARIABLE)
    session = AgentSession("ncen-updater", Path(config) if config else DEFAULT_CONFIG)
    return run_program(cli, session, arguments, lambda error: _describe_state(session, error))


def main() -> None:
    """Be the program."""
    block_unused_imports()
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
