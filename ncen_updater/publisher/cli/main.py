"""``ncen-publisher``: the release officers' program.

Thin and light: each command is imported when it is run, reads its arguments, calls the publisher's
library, and shows what it returned. Standard output is data, standard error is progress and errors.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ncen_updater.common.cli.errors import Stopped, Unexpected
from ncen_updater.common.cli.lazy import LazyGroup, commands, global_options, version_option
from ncen_updater.common.cli.program import run_program
from ncen_updater.common.cli.session import Session
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, Text
from ncen_updater.publisher.cli.guide import GUIDE

__all__ = ["COMMANDS", "cli", "main", "run"]

COMMANDS = commands(
    "ncen_updater.publisher.cli",
    {
        "keys": N_("Keys of officers and machines."),
        "init": ("ceremony", N_("Draft a new feed.")),
        "rekey": ("ceremony", N_("Draft other keys, thresholds, periods or products.")),
        "renew": ("ceremony", N_("Draft the same roles with a new expiry date.")),
        "new": N_("Write a manifest for an application, by looking and by asking."),
        "try": ("try_", N_("Try a release at a site on your desk, before anybody signs it.")),
        "lint": ("releases", N_("Say what is wrong with a release before anybody signs it.")),
        "agent-release": N_("Make the release directory of the agent itself."),
        "build": ("releases", N_("Build a release into TUF targets.")),
        "draft": ("releases", N_("Draft the publication of releases.")),
        "withdraw": ("releases", N_("Draft the withdrawal of a release.")),
        "wave": ("rollout", N_("Draft when a release opens to which sites.")),
        "brake": N_("Halt a release alone, for 72 hours at most."),
        "halt": ("rollout", N_("Draft that no further site begins with a release.")),
        "resume-wave": ("rollout", N_("Draft the end of a halt.")),
        "channel": ("rollout", N_("Draft another channel for a release.")),
        "audience": ("rollout", N_("Draft the countries that a release is for.")),
        "show": ("signing", N_("Say in words what an event changes, and who has signed.")),
        "sign": ("signing", N_("Sign an event, offline.")),
        "merge": ("signing", N_("Take signatures of officers into an event.")),
        "publish": ("feed", N_("Publish a signed event.")),
        "inspect": N_("Check SBOM and provenance of a published release."),
        "upload": N_("Copy a feed to where sites reach it."),
        "refresh": ("feed", N_("Sign the online roles anew, so that the feed does not lapse.")),
        "export": N_("Write a bundle for sites without a network."),
        "status": ("feed", N_("What a feed holds, and when its roles lapse.")),
        "monitor": N_("Look at the public feed as a site does."),
    },
)

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
