"""The program ``ncen-updater``: its commands and their help. Commands are imported on demand."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ncen_updater.agent.cli.session import AgentSession
from ncen_updater.agent.config.raw_config import PATH_VARIABLE
from ncen_updater.common.cli.lazy import (
    EXIT_CODE_MEANINGS,
    CommandHelp,
    LazyGroup,
    make_command_table,
    make_global_options,
    make_version_option,
)
from ncen_updater.common.cli.program import run_program
from ncen_updater.common.cli.session import DEFAULT_CONFIG
from ncen_updater.common.cli.usage import NOTHING_CHANGED
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import OPEN_CHANGE, SOAK_NOT_FINISHED
from ncen_updater.feed import prepare_process

COMMANDS = make_command_table(
    "ncen_updater.agent.cli",
    {
        "status": N_("Show the installed release and the current operation"),
        "check": ("upgrade", N_("Check the feed for a new release")),
        "plan": N_("Show the upgrade plan without changing anything"),
        "rehearse": ("plan", N_("Rehearse the upgrade on copies of the databases")),
        "approve": N_("Approve a rehearsed upgrade or a rollback"),
        "schedule": ("approve", N_("Set the start time of an approved upgrade")),
        "dossier": ("plan", N_("Write the approval dossier as an HTML page")),
        "upgrade": N_("Upgrade the application"),
        "watch": N_("Follow the current operation"),
        "console": ("serve", N_("Open the web console")),
        "confirm": ("upgrade", N_("Confirm the release and end the soak period")),
        "rollback": ("upgrade", N_("Roll back to the previous release")),
        "resume": N_("Resume an interrupted upgrade or rollback"),
        "history": N_("Show past upgrades and rollbacks"),
        "prune": ("resume", N_("Remove previous databases and releases past their retention")),
        "translations": N_("Manage the translations of the local overlay"),
        "verify": ("doctor", N_("Verify releases, databases and files against the audit log")),
        "doctor": N_("Check the site for problems that block an upgrade"),
        "support-bundle": ("doctor", N_("Write a support bundle for the Secretariat")),
        "receipt": N_("Show, allow and write receipts of this site"),
        "import": ("import_and_mirror", N_("Import an offline bundle")),
        "mirror": ("import_and_mirror", N_("Create or update a local mirror of the feed")),
        "hold": N_("Hold upgrades"),
        "unhold": ("hold", N_("Remove all holds")),
        "serve": N_("Run the service (started by systemd)"),
        "self-update": ("upgrade", N_("Update ncen-updater itself")),
        "setup": N_("Set up this site"),
        "adopt": N_("Adopt an existing installation"),
    },
)

COMMAND_HELP = CommandHelp(
    groups={
        N_("Inspect"): (
            "status", "check", "plan", "doctor", "verify", "history", "watch", "console",
        ),
        N_("Prepare an upgrade"): (
            "rehearse", "dossier", "approve", "schedule", "hold", "unhold", "translations",
        ),
        N_("Upgrade and roll back"): ("upgrade", "confirm", "rollback", "resume", "prune"),
        N_("Install and maintain"): (
            "setup", "adopt", "import", "mirror", "self-update", "serve",
        ),
        N_("Troubleshoot and report"): ("support-bundle", "receipt"),
    },
    examples={
        "status": {"status": N_("Show the installed release and the current operation")},
        "check": {
            "check": N_("Check the feed for a new release"),
        },
        "plan": {
            "plan": N_("Show the upgrade plan without changing anything"),
            "plan 3.3.0 --sql": N_("SQL statements of the upgrade"),
        },
        "rehearse": {"rehearse": N_("Rehearse the upgrade on copies of the databases")},
        "approve": {
            "approve": N_("Review, then approve"),
            "approve --withdraw": N_("Withdraw your approval"),
        },
        "schedule": {
            "schedule 2030-01-30T22:00": N_("Not before this local time"),
            "schedule --cancel": N_("Cancel the schedule"),
        },
        "dossier": {
            "dossier --output dossier.html": N_("Write the approval dossier as an HTML page"),
        },
        "upgrade": {
            "upgrade 3.3.0 --dry-run": N_("Show the plan"),
            "upgrade 3.3.0": N_("Show the plan, ask, then upgrade"),
        },
        "watch": {"watch": N_("Follow the current operation")},
        "console": {"console": N_("Print a link; stop with Ctrl-C")},
        "confirm": {"confirm": N_("Confirm the release and end the soak period")},
        "rollback": {
            "rollback --dry-run": N_("Show the rollback plan and the data loss"),
            "rollback": N_("Show the plan, ask, then roll back"),
        },
        "resume": {"resume": N_("After a power cut")},
        "history": {
            "history": N_("Show past upgrades and rollbacks"),
            "history lencl4bt --events": N_("One change with steps and events"),
        },
        "prune": {"prune --dry-run": N_("List what would be removed")},
        "translations": {
            "translations report --for 3.3.0": N_("Effect of an upgrade on local texts"),
            "translations export sw --to sw.po": N_("Export texts to translate"),
        },
        "verify": {"verify": N_("After a restore or manual changes")},
        "doctor": {"doctor": N_("Before an upgrade")},
        "support-bundle": {
            "support-bundle --dry-run": N_("List the content"),
            "support-bundle": N_("Write a support bundle for the Secretariat"),
        },
        "receipt": {
            "receipt": N_("Show what the next receipt would say"),
            "receipt --level outcome --to /media/usb": N_("Allow receipts, and write the first"),
        },
        "import": {
            "import --dry-run /media/usb/ke.ncen": N_("Verify a bundle"),
            "import /media/usb/ke.ncen": N_("Import an offline bundle"),
        },
        "mirror": {"mirror /srv/mirror --keep 2": N_("Keep two releases of each product")},
        "hold": {
            N_('hold --reason "end of the year" --until 2031-01-10'): N_(
                "No upgrades until this day"
            ),
        },
        "unhold": {"unhold": N_("Remove all holds")},
        "serve": {"serve": N_("Run the service (started by systemd)")},
        "self-update": {"self-update": N_("Update ncen-updater itself")},
        "setup": {
            "setup --dry-run": N_("Show what would be done"),
            "setup": N_("Ask, show the plan, then apply it"),
            "setup --undo": N_("Restore the site as it was"),
        },
        "adopt": {
            "adopt 3.2.4 --dry-run": N_("Check only"),
            "adopt 3.2.4": N_("Adopt an existing installation"),
            "adopt 3.2.4 --restored --dry-run": N_("Check the restored databases"),
            N_("adopt 3.2.4 --restored --reason 'an index of ours'"): N_(
                "Adopt them; run by two approvers"
            ),
        },
    },
    meanings=EXIT_CODE_MEANINGS,
    exit_codes={
        "status": (12,),
        "check": (6, 7, 12, 14),
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
        "receipt": (4, 7, 12),
        "import": (3, 4, 6, 8, 9, 14),
        "mirror": (6, 7, 8, 9, 14),
        "hold": (12,),
        "unhold": (12,),
        "serve": (9,),
        "self-update": (6, 7, 8, 9),
        "watch": (),
        "console": (),
        "confirm": (),
        "setup": (3, 4, 6, 9, 12),
        "adopt": (3, 4, 6, 7, 8, 9, 12, 14),
    },
)  # fmt: skip
#: Words that users may type instead of a command, for suggestions.
SYNONYMS = {
    "status": "info state show",
    "doctor": "validate diagnose health",
    "history": "log logs journal events",
    "watch": "follow progress",
    "rehearse": "test try simulate download fetch prepare",
    "approve": "accept agree ok",
    "hold": "pause stop freeze",
    "unhold": "unpause unfreeze",
    "upgrade": "apply install-update deploy",
    "rollback": "undo back",
    "resume": "continue recover",
    "prune": "remove clean delete",
    "support-bundle": "report bundle",
    "setup": "config configure init",
}
cli = LazyGroup(
    "ncen-updater",
    lazy=COMMANDS,
    aliases={"update": "upgrade", "downgrade": "rollback", "revert": "rollback"},
    synonyms=SYNONYMS,
    command_help=COMMAND_HELP,
    params=[
        *make_global_options(),
        make_version_option(),
    ],
    help=N_("Upgrade and roll back an application with its databases"),
)


def _describe_state(session: AgentSession, error: UpdaterError) -> Sequence[LazyText]:
    from ncen_updater.agent.cli.state_text import format_site_state
    from ncen_updater.agent.config.errors import ConfigError
    from ncen_updater.agent.model.errors import JournalMissingError

    if isinstance(error, ConfigError):
        return [NOTHING_CHANGED]
    status = session.read_status()
    # A command that has not opened the site cannot have changed it.
    before = None if session.adopting else session.baseline or status
    named = error.code in (OPEN_CHANGE.code, SOAK_NOT_FINISHED.code)
    value = format_site_state(status, before, change_named=named)
    if session.adopting and isinstance(status.journal, JournalMissingError):
        value.append(LazyText(N_("Not adopted. Run sudo ncen-updater adopt again.")))
    return value


def run(arguments: Sequence[str]) -> int:
    """Run a command line and return its exit code."""
    config = os.environ.get(PATH_VARIABLE)
    session = AgentSession("ncen-updater", Path(config) if config else DEFAULT_CONFIG)
    return run_program(cli, session, arguments, lambda error: _describe_state(session, error))


def main() -> None:
    """Run the program."""
    prepare_process()
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
