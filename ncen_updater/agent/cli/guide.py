"""The commands of ``ncen-updater``, and what its help says of them beside options. Light."""

from __future__ import annotations

from ncen_updater.common.cli.guide import EXIT_CODE_MEANINGS, CommandHelp
from ncen_updater.common.cli.lazy import make_command_table
from ncen_updater.common.i18n import N_

COMMANDS = make_command_table(
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
        "console": N_("Show the site in a browser."),
        "confirm": N_("End the watched time: the new release is good."),
        "rollback": N_("Go back to the release before."),
        "resume": N_("Bring an interrupted change to its end."),
        "history": N_("What was done here."),
        "prune": N_("Drop what is kept longer than its days."),
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

COMMAND_HELP = CommandHelp(
    groups={
        N_("To look"): (
            "status", "check", "plan", "doctor", "verify", "history", "watch", "console",
        ),
        N_("Before an upgrade"): (
            "rehearse", "dossier", "approve", "schedule", "hold", "unhold", "translations",
        ),
        N_("To change the site"): ("upgrade", "confirm", "rollback", "resume", "prune"),
        N_("To set up and to keep"): (
            "install", "adopt", "import", "mirror", "self-update", "serve", "uninstall",
        ),
        N_("When something went wrong"): ("support-bundle",),
    },
    examples={
        "status": {"status": N_("the site on a few lines")},
        "check": {
            "check": N_("read the signed list now"),
            "check --exit-code": N_("for a script: 10 when there is an upgrade"),
        },
        "plan": {
            "plan": N_("the upgrade to the newest release"),
            "plan 3.3.0 --sql": N_("every statement that would run"),
        },
        "rehearse": {"rehearse": N_("the newest release, on a restored backup")},
        "approve": {
            "approve": N_("read what was rehearsed, then say yes"),
            "approve --withdraw": N_("take your own yes back"),
        },
        "schedule": {
            "schedule 2027-01-30T22:00": N_("not before this time, of this machine"),
            "schedule --cancel": N_("wait for a window or another time again"),
        },
        "dossier": {
            "dossier --output dossier.html": N_("the page, to print"),
        },
        "upgrade": {
            "upgrade 3.3.0 --dry-run": N_("show the plan only"),
            "upgrade 3.3.0": N_("show it, ask, upgrade"),
        },
        "watch": {"watch": N_("until the work of now has ended")},
        "console": {"console": N_("a link for a browser, until Ctrl-C")},
        "confirm": {"confirm": N_("the new release is good: end the watching")},
        "rollback": {
            "rollback --dry-run": N_("how it would go, and what it would lose"),
            "rollback": N_("show that, ask, go back"),
        },
        "resume": {"resume": N_("after a power cut: to the end, or back")},
        "history": {
            "history": N_("the last changes"),
            "history lencl4bt --events": N_("one of them with all its steps"),
        },
        "prune": {"prune --dry-run": N_("what would go, and how much room that gives")},
        "translations": {
            "translations report --for 3.3.0": N_("what becomes of your own texts"),
            "translations export sw --to sw.po": N_("what is to be translated"),
        },
        "verify": {"verify": N_("after a restore, a power cut, or work by hand")},
        "doctor": {"doctor": N_("before an upgrade, and when something is odd")},
        "support-bundle": {
            "support-bundle --dry-run": N_("show what would be in it"),
            "support-bundle": N_("write it, to send"),
        },
        "import": {
            "import --dry-run /media/usb/ke.ncen": N_("verify a bundle only"),
            "import /media/usb/ke.ncen": N_("verify it, and keep its releases"),
        },
        "mirror": {"mirror /srv/mirror --keep 2": N_("the two newest releases of each product")},
        "hold": {
            'hold --reason "end of the year" --until 2027-01-10': N_("no upgrade before this day"),
        },
        "unhold": {"unhold": N_("lift every hold")},
        "serve": {"serve": N_("as the unit of systemd does")},
        "self-update": {"self-update --dry-run": N_("whether there is a newer agent")},
        "install": {
            "install --from /tmp/ncen-updater-0.1.0 --dry-run": N_("list what would be done"),
        },
        "uninstall": {"uninstall --dry-run": N_("list what would be taken away")},
        "adopt": {
            "adopt 3.2.4 --dry-run": N_("ask application and databases only"),
            "adopt 3.2.4": N_("take the site over, once"),
            "adopt 3.2.4 --restored --dry-run": N_("compare the restored databases only"),
            "adopt 3.2.4 --restored --reason 'an index of ours'": N_(
                "they are meant so, and why; two people type it"
            ),
        },
    },
    meanings=EXIT_CODE_MEANINGS,
    exit_codes={
        "status": (12,),
        "check": (6, 7, 10, 12, 14),
        "plan": (3, 6, 7, 8, 14),
        "rehearse": (3, 9, 12),
        "approve": (3, 4, 13),
        "schedule": (3, 4, 13),
        "dossier": (3, 13),
        "upgrade": (3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14),
        "rollback": (3, 4, 9, 11, 12),
        "resume": (9, 11, 12),
        "history": (12,),
        "prune": (9, 12),
        "translations": (3, 8, 9, 12),
        "verify": (12,),
        "doctor": (3,),
        "support-bundle": (3,),
        "import": (3, 4, 6, 8, 9, 14),
        "mirror": (6, 7, 8, 9, 14),
        "hold": (12,),
        "unhold": (12,),
        "serve": (9,),
        "self-update": (6, 7, 8, 9),
        "install": (6,),
        "uninstall": (3, 9),
        "watch": (),
        "console": (),
        "confirm": (),
        "adopt": (3, 4, 6, 7, 8, 9, 12, 14),
    },
)  # fmt: skip
