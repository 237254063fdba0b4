"""``ncen-publisher``: the release officers' program.

Thin and light: each command is imported when it is run, reads its arguments, calls the publisher's
library, and shows what it returned. Standard output is data, standard error is progress and errors.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ncen_updater.common.cli.errors import Stopped, Unexpected
from ncen_updater.common.cli.lazy import LazyGroup, global_options, version_option
from ncen_updater.common.cli.program import run_program
from ncen_updater.common.cli.session import Session
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, Text
from ncen_updater.publisher.cli.guide import COMMANDS, GUIDE

cli = LazyGroup(
    "ncen-publisher",
    lazy=COMMANDS,
    guide=GUIDE,
    params=[*global_options(config=False), version_option()],
    help=N_("Make, sign and publish releases."),
)


def _state_now(error: UpdaterError) -> Sequence[Text]:
    if isinstance(error, Unexpected | Stopped):
        return [Text(N_("Clients see the feed as it was, or the whole new one."))]
    return [Text(N_("Nothing was published; the feed is as it was."))]


def run(arguments: Sequence[str]) -> int:
    """Run a command line and return its exit code."""
    return run_program(cli, Session("ncen-publisher"), arguments, _state_now)


def main() -> None:
    """Be the program."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
