"""The commands of ``ncen-publisher``, and what its help says of them beside options. Light."""

from __future__ import annotations

from ncen_updater.common.cli.guide import CommandHelp
from ncen_updater.common.cli.lazy import make_command_table
from ncen_updater.common.i18n import N_
from ncen_updater.common.messages import ExitCode

COMMANDS = make_command_table(
    "ncen_updater.publisher.cli",
    {
        "keys": N_("Keys of officers and machines."),
        "init": ("ceremony", N_("Draft a new feed.")),
        "rekey": ("ceremony", N_("Draft other keys, thresholds, periods or products.")),
        "renew": ("ceremony", N_("Draft the same roles with a new expiry date.")),
        "new": N_("Write a manifest for an application, by looking and by asking."),
        "try": ("try_", N_("Try a release at a site on your desk, before anybody signs it.")),
        "lint": ("releases", N_("Say what is wrong with a release before anybody signs it.")),
        "agent-release": ("releases", N_("Make the release directory of the agent itself.")),
        "build": ("releases", N_("Build a release into TUF targets.")),
        "draft": ("releases", N_("Draft the publication of releases.")),
        "withdraw": ("releases", N_("Draft the withdrawal of a release.")),
        "wave": ("rollout", N_("Draft when a release opens to which sites.")),
        "halt": N_("Draft that no further site begins with a release, or halt it alone at once."),
        "resume-wave": ("rollout", N_("Draft the end of a halt.")),
        "channel": ("rollout", N_("Draft another channel for a release.")),
        "audience": ("rollout", N_("Draft the countries that a release is for.")),
        "show": ("signing", N_("Say in words what an event changes, and who has signed.")),
        "sign": ("signing", N_("Sign an event, offline.")),
        "merge": ("signing", N_("Take signatures of officers into an event.")),
        "publish": ("feed", N_("Publish a signed event.")),
        "inspect": ("releases", N_("Check SBOM and provenance of a published release.")),
        "upload": ("feed", N_("Copy a feed to where sites reach it.")),
        "refresh": ("feed", N_("Sign the online roles anew, so that the feed does not lapse.")),
        "export": N_("Write a bundle for sites without a network."),
        "status": ("feed", N_("What a feed holds, and when its roles lapse.")),
        "monitor": N_("Look at the public feed as a site does."),
    },
)

COMMAND_HELP = CommandHelp(
    groups={
        N_("Every release"): (
            "lint", "try", "build", "draft", "merge", "publish", "upload", "export",
        ),
        N_("Each officer"): ("show", "sign", "keys", "inspect"),
        N_("Who gets it, and when"): (
            "wave", "audience", "channel", "halt", "resume-wave", "withdraw",
        ),
        N_("To keep the feed alive"): ("refresh", "renew", "status", "monitor"),
        N_("Rarely"): ("init", "rekey", "new", "agent-release"),
    },
    examples={
        "keys": {
            "keys new amina --directory keys": N_("a key of your own; asks for a passphrase"),
            "keys show keys/amina.pub.json": N_("its fingerprint, to be read to the others"),
        },
        "init": {"init ceremony.toml --event first": N_("draft the first lists")},
        "rekey": {
            "rekey ceremony.toml --feed feed --event keys-2027": N_("after a change of officers"),
        },
        "renew": {
            "renew --due --feed feed --event renewal": N_("only what has to be signed anew now"),
        },
        "new": {
            "new 3.3.0 --product kinto --upgrade-from '>=3.2,<3.3'": N_(
                "the rest is found in its tree, or asked"
            ),
        },
        "lint": {"lint 3.3.0 --feed feed": N_("before anybody signs")},
        "try": {
            "try 3.3.0 --before 3.2.4 --site desk/agent.toml": N_(
                "over to it and back, with keys that are thrown away"
            ),
        },
        "agent-release": {
            "agent-release agent-0.2.0 --wheels wheels --lock locks/agent.txt": N_(
                "script/release does it for you"
            ),
        },
        "build": {
            "build 3.3.0 --staging staging --feed feed": N_("twice, by two people: the same bytes"),
        },
        "draft": {
            "draft --feed feed --staging staging --event release-3.3.0"
            " --wave 2026-12-01T08:00:00Z=5 --wave 2026-12-08T08:00:00Z=100": N_(
                "5 percent of the sites first"
            ),
        },
        "withdraw": {
            'withdraw 3.3.0 --reason "loses cases" --advice "go back to 3.2.4" --feed feed'
            " --event gone": N_("no site begins with it, and those that have it are told"),
        },
        "wave": {
            "wave 3.3.0 --add 2026-12-02T08:00:00Z=100:SN,MU --feed feed --event sn-mu": N_(
                "two countries before the others"
            ),
        },
        "halt": {
            'halt 3.3.0 --reason "loses cases" --feed feed --event halt': N_(
                "until 'resume-wave' is signed"
            ),
            'halt 3.3.0 --emergency --reason "loses cases" --key keys/amina.pem --feed feed'
            " --snapshot-key keys/snapshot.pem --timestamp-key keys/timestamp.pem": N_(
                "in an emergency, by one officer"
            ),
        },
        "resume-wave": {
            "resume-wave 3.3.0 --feed feed --event on": N_("its waves go on as they were signed"),
        },
        "channel": {"channel 3.3.0 preview --feed feed --event preview": N_("for sites that ask")},
        "audience": {"audience 3.3.0 KE TZ --feed feed --event east": N_("two countries alone")},
        "show": {
            "show release-3.3.0.event --html page.html": N_("the page that is read and printed"),
        },
        "sign": {
            "sign release-3.3.0.event": N_("what is not to be typed is in officer.toml"),
        },
        "merge": {
            "merge release-3.3.0 release-3.3.0.amina.sig release-3.3.0.bo.sig": N_(
                "who has signed, and whether that is enough"
            ),
        },
        "publish": {
            "publish feed --event release-3.3.0 --staging staging"
            " --snapshot-key keys/snapshot.pem --timestamp-key keys/timestamp.pem": N_(
                "once enough officers have signed"
            ),
        },
        "inspect": {"inspect feed 3.3.0": N_("what it is made of, and who built it")},
        "upload": {"upload feed s3://bucket/feed": N_("run it again if it was cut off")},
        "refresh": {
            "refresh feed --snapshot-key keys/snapshot.pem --timestamp-key keys/timestamp.pem": N_(
                "every day, by a timer"
            ),
        },
        "export": {
            "export feed --for-site KE/ke-national --from 3.2.4 --output ke.ncen": N_(
                "one file for a medium"
            ),
        },
        "status": {"status feed": N_("when which role has to be signed anew")},
        "monitor": {
            "monitor https://feed.example.org/ --root 1.root.json": N_(
                "from another machine, by a timer"
            ),
        },
    },
    meanings={
        ExitCode.OK: N_("Done; also where nothing was due."),
        ExitCode.ERROR: N_("A file, an event, a key or the feed cannot be used."),
        ExitCode.USAGE: N_("The command line, a passphrase or a key."),
        ExitCode.BLOCKED: N_(
            "'lint' found what has to be mended, or there is nothing to do safely."
        ),
        ExitCode.APPROVAL_MISSING: N_("Too few signatures."),
        ExitCode.TRUST: N_("Something is not what was signed, or must not be signed."),
        ExitCode.NETWORK: N_("A store or a feed cannot be reached."),
        ExitCode.SPACE: N_("A disk is full."),
        ExitCode.BUSY: N_("Another publisher writes to the feed."),
        ExitCode.FEED_STALE: N_("A list has lapsed, or will soon."),
    },
)  # fmt: skip
