"""``ncen-publisher``: the release signers' program, its commands and their help.

Each command is imported on demand, reads its arguments, calls the publisher's library, and shows
the result. Standard output has the results, standard error the progress and errors.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ncen_updater.common.cli.lazy import (
    EXIT_CODE_MEANINGS,
    CommandHelp,
    LazyGroup,
    make_command_table,
    make_global_options,
    make_version_option,
)
from ncen_updater.common.cli.program import run_program
from ncen_updater.common.cli.session import CliSession
from ncen_updater.common.cli.usage import CommandInterruptedError, UnexpectedError
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import ExitCode

COMMANDS = make_command_table(
    "ncen_updater.publisher.cli",
    {
        "keys": N_("Create and show signing keys"),
        "init": ("keys", N_("Draft the first root metadata of a new feed")),
        "rekey": ("keys", N_("Draft a change of keys, thresholds, expiry periods or products")),
        "renew": ("keys", N_("Draft a new expiry date for roles")),
        "new": N_("Write a manifest for an application interactively"),
        "try": ("new", N_("Test an unsigned release on a local test site")),
        "lint": ("releases", N_("Check an unsigned release for errors")),
        "build": ("releases", N_("Build a release as TUF targets")),
        "draft": ("releases", N_("Draft the publication of releases")),
        "withdraw": ("releases", N_("Draft the withdrawal of a release")),
        "retire": ("rollout", N_("Draft the retirement of old releases")),
        "wave": ("rollout", N_("Draft the staged rollout of a release")),
        "halt": ("rollout", N_("Draft a halt of the rollout of a release")),
        "resume-wave": ("rollout", N_("Draft the end of a halt")),
        "channel": ("rollout", N_("Draft a change of the channel of a release")),
        "audience": ("rollout", N_("Draft the countries to which a release is offered")),
        "show": ("signing", N_("Show the changes and signatures of a signing event")),
        "sign": ("signing", N_("Sign a signing event offline")),
        "merge": ("signing", N_("Merge signatures into a signing event")),
        "publish": ("feed", N_("Publish a signed event")),
        "inspect": ("releases", N_("Verify SBOM and provenance of a published release")),
        "upload": ("feed", N_("Upload a feed to a directory or an S3 bucket")),
        "refresh": ("feed", N_("Re-sign the online roles before they expire")),
        "export": N_("Export an offline bundle"),
        "status": ("feed", N_("Show the releases of a feed and role expiry dates")),
        "monitor": N_("Monitor the public feed as a client"),
        "fleet": N_("Import receipts of the sites and show them on a board"),
    },
)

#: Exit codes that mean the same as those of the agent.
COMMON_MEANINGS = (
    ExitCode.OK, ExitCode.ERROR, ExitCode.TRUST, ExitCode.NETWORK, ExitCode.SPACE, ExitCode.BUSY,
    ExitCode.FEED_STALE,
)  # fmt: skip
COMMAND_HELP = CommandHelp(
    groups={
        N_("Release"): (
            "lint", "try", "build", "draft", "merge", "publish", "upload", "export",
        ),
        N_("Sign"): ("show", "sign", "keys", "inspect"),
        N_("Roll out"): (
            "wave", "audience", "channel", "halt", "resume-wave", "withdraw", "retire",
        ),
        N_("Maintain the feed"): ("refresh", "renew", "status", "monitor"),
        N_("See the fleet"): ("fleet",),
        N_("Set up"): ("init", "rekey", "new"),
    },
    examples={
        "keys": {
            "keys new amina --directory keys": N_("Your own key; prompts for a passphrase"),
            "keys show keys/amina.pub.json": N_(
                "Its fingerprint, to compare with the other signers"
            ),
        },
        "init": {"init ceremony.toml --event first": ""},
        "rekey": {"rekey ceremony.toml --feed feed --event keys-2027": ""},
        "renew": {"renew --due --feed feed --event renewal": ""},
        "new": {"new 3.3.0 --product kinto --upgrade-from '>=3.2,<3.3'": ""},
        "lint": {"lint 3.3.0 --feed feed": ""},
        "try": {
            "try 3.3.0 --before 3.2.4 --site desk/agent.toml": N_(
                "Upgrade and rollback, with temporary keys"
            ),
        },
        "build": {"build 3.3.0 --staging staging --feed feed": ""},
        "draft": {
            "draft --feed feed --staging staging --event release-3.3.0"
            " --wave 2030-12-03T08:00:00Z=5 --wave 2030-12-10T08:00:00Z=100": N_(
                "5 percent of the sites first"
            ),
        },
        "withdraw": {
            N_(
                'withdraw 3.3.0 --reason "loses cases" --advice "roll back to 3.2.4" --feed feed'
                " --event gone"
            ): N_(
                "The release is no longer offered; sites that installed it are notified"
            ),
        },
        "retire": {
            "retire 3.1.0 --feed feed --event old": N_(
                "Smaller metadata for every site; releases that a site still needs stay"
            ),
        },
        "wave": {
            "wave 3.3.0 --add 2030-12-04T08:00:00Z=100:SN,MU --feed feed --event sn-mu": "",
        },
        "halt": {
            N_('halt 3.3.0 --reason "loses cases" --feed feed --event halt'): N_(
                "Until resume-wave is signed"
            ),
            N_(
                'halt 3.3.0 --emergency --reason "loses cases" --key keys/amina.pem --feed feed'
                " --snapshot-key keys/snapshot.pem --timestamp-key keys/timestamp.pem"
            ): N_(
                "In an emergency, by one signer"
            ),
        },
        "resume-wave": {"resume-wave 3.3.0 --feed feed --event on": ""},
        "channel": {"channel 3.3.0 preview --feed feed --event preview": ""},
        "audience": {"audience 3.3.0 KE TZ --feed feed --event east": ""},
        "show": {
            "show release-3.3.0.event --html page.html": N_("The review page, to read and print"),
        },
        "sign": {
            "sign release-3.3.0.event": N_("With defaults from signer.toml"),
        },
        "merge": {"merge release-3.3.0 release-3.3.0.amina.sig release-3.3.0.bo.sig": ""},
        "publish": {
            "publish feed --event release-3.3.0 --staging staging"
            " --snapshot-key keys/snapshot.pem --timestamp-key keys/timestamp.pem": "",
        },
        "inspect": {"inspect feed 3.3.0": ""},
        "upload": {"upload feed s3://bucket/feed": N_("Run it again after an interruption")},
        "refresh": {
            "refresh feed --snapshot-key keys/snapshot.pem --timestamp-key keys/timestamp.pem": N_(
                "Daily, by a timer"
            ),
        },
        "export": {"export feed --for-site KE/ke-national --from 3.2.4 --output ke.ncen": ""},
        "status": {"status feed": ""},
        "fleet": {
            "fleet import spool --feed feed": N_("Import receipts from a directory"),
            "fleet confirm ke-nairobi": N_("After the site read out its fingerprint"),
            "fleet board board --regions regions.toml": N_("Write the board as web pages"),
        },
        "monitor": {
            "monitor https://feed.example.org/ --root 1.root.json": N_(
                "From another machine, by a timer"
            ),
        },
    },
    meanings=dict(sorted({
        **{code: EXIT_CODE_MEANINGS[code] for code in COMMON_MEANINGS},
        ExitCode.USAGE: N_("usage error, or wrong passphrase or key"),
        ExitCode.BLOCKED: N_("blocked by lint, or nothing safe to do"),
        ExitCode.APPROVAL_MISSING: N_("signature threshold not reached"),
    }.items())),
)  # fmt: skip
#: Words that users may type instead of a command, for suggestions.
SYNONYMS = {
    "lint": "check validate",
    "try": "test simulate rehearse",
    "show": "review diff info",
    "sign": "approve",
    "publish": "send release",
    "wave": "staging stage rollout",
    "halt": "stop pause hold",
    "resume-wave": "resume continue",
    "withdraw": "revoke unpublish remove",
    "retire": "prune archive clean",
    "export": "bundle",
}
cli = LazyGroup(
    "ncen-publisher",
    lazy=COMMANDS,
    synonyms=SYNONYMS,
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
    """Run the program."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
