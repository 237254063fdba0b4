"""What the help of ``ncen-updater`` says beside options. Imports nothing heavy."""

from __future__ import annotations

from ncen_updater.common.cli.guide import EXITS, Guide
from ncen_updater.common.i18n import N_

__all__ = ["GUIDE"]

GUIDE = Guide(
    groups={
        N_("To look"): (
            "status", "check", "plan", "doctor", "verify", "history", "watch",
        ),
        N_("Before an upgrade"): (
            "rehearse", "dossier", "approve", "schedule", "hold", "unhold", "translations",
        ),
        N_("To change the site"): ("upgrade", "confirm", "rollback", "resume", "collect"),
        N_("To set up and to keep"): (
            "install", "adopt", "import", "mirror", "self-update", "serve", "uninstall",
        ),
        N_("When something went wrong"): ("support-bundle", "accept-restore"),
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
        "collect": {"collect --dry-run": N_("what would go, and how much room that gives")},
        "accept-restore": {
            "accept-restore 3.2.4 --dry-run": N_("compare the restored databases only"),
        },
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
        },
    },
    meanings=EXITS,
    exits={
        "status": (12,),
        "check": (6, 7, 10, 12, 14),
        "plan": (3, 6, 7, 8, 14),
        "rehearse": (3, 9, 12),
        "approve": (4, 13),
        "schedule": (4, 13),
        "dossier": (13,),
        "upgrade": (3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14),
        "rollback": (3, 4, 9, 11, 12),
        "resume": (9, 11, 12),
        "history": (12,),
        "collect": (9, 12),
        "accept-restore": (3, 4, 9, 12),
        "translations": (3, 8, 9, 12),
        "verify": (12,),
        "doctor": (3,),
        "support-bundle": (3,),
        "import": (6, 8, 9, 14),
        "mirror": (6, 7, 8, 9, 14),
        "hold": (12,),
        "unhold": (12,),
        "serve": (9,),
        "self-update": (6, 7, 8, 9),
        "install": (6,),
        "uninstall": (9,),
        "watch": (),
        "confirm": (),
        "adopt": (3, 4, 6, 7, 8, 9, 12, 14),
    },
)  # fmt: skip
