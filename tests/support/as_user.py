"""``python -m tests.support.as_user USER GROUP,GROUP WORDS``: be somebody else, then the program.

What the program may import is imported before: the interpreter of a trial may lie where others
cannot read, which says nothing of the program.
"""

from __future__ import annotations

import encodings.idna
import encodings.utf_8_sig
import grp
import http.client
import importlib
import os
import pwd
import sys

from ncen_updater.agent.cli.main import COMMANDS, run
from ncen_updater.agent.service.client import Client
from ncen_updater.common.cli import terminal

__all__ = ["main"]

#: What commands import when they work on the site themselves.
WORKING = (
    "ncen_updater.agent.composition",
    "ncen_updater.agent.config.loader",
    "ncen_updater.agent.diagnostics.doctor",
    "ncen_updater.agent.diagnostics.support_bundle.bundle",
    "ncen_updater.agent.engine.operations",
    "ncen_updater.agent.engine.plan",
    "ncen_updater.agent.databases.sqlite.engine",
    "ncen_updater.agent.application.command",
)
LOADED = (terminal, encodings.idna, encodings.utf_8_sig, http.client, Client)


def main() -> None:
    """Become the user for good, and run a command line."""
    user, groups, *words = sys.argv[1:]
    for module in (*WORKING, *(module for module, _ in COMMANDS.values())):
        importlib.import_module(module)
    entry = pwd.getpwnam(user)
    os.setgroups([grp.getgrnam(name).gr_gid for name in groups.split(",") if name])
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
    sys.exit(run(words))


if __name__ == "__main__":
    main()
