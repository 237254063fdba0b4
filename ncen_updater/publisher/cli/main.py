"""``ncen-publisher``: the release signers' program.

Thin and light: each command is imported when it is run, reads its arguments, calls the publisher's
library, and shows what it returned. Standard output is data, standard error is progress and errors.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ncen_updater.common.cli.lazy import LazyGroup, make_global_options, make_version_option
from ncen_updater.common.cli.program import run_program
from ncen_updater.common.cli.session import CliSession
from ncen_updater.common.cli.usage import CommandInterruptedError, UnexpectedError
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.publisher.cli.command_help import COMMAND_HELP, COMMANDS

cli = LazyGroup(
    "ncen-publisher",
    lazy=COMMANDS,
    command_help=COMMAND_HELP,
    params=[*make_global_options(config=False), make_version_option()],
    help=N_("Build, sign and publish releases"),
)


def _report_state(error: UpdaterError) -> Sequence[LazyText]:
    if isinstance(error, UnexpectedError | CommandInterruptedError):
        return [LazyText(N_("The feed is unchanged or completely published."))]
    return [LazyText(N_("Nothing was published."))]


def run(arguments: Sequence[str]) -> int:
    """Run a command line and return its exit code."""
    return run_program(cli, CliSession("ncen-publisher"), arguments, _report_state)


def main() -> None:
    """Be the program."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
