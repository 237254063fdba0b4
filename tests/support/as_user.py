"""Run a command of the agent as another user, in a fork of root's interpreter.

All modules are imported before the fork: the interpreter of a test may be in a directory that other
users cannot read, which would say nothing about the program.
"""

from __future__ import annotations

import atexit
import encodings.idna
import encodings.utf_8_sig
import functools
import grp
import http.client
import importlib
import os
import pwd
import subprocess
from collections.abc import Mapping, Sequence

from ncen_updater.agent.cli.main import COMMANDS, run
from ncen_updater.agent.service.api_client import SiteServiceClient
from ncen_updater.common.cli import progress_display as terminal
from tests.support.forks import Forks

__all__ = ["COMMANDS", "become", "run_as"]

#: Modules that commands import for local work on the site.
WORKING = (
    "ncen_updater.agent.engine.site_factory",
    "ncen_updater.agent.config.loader",
    "ncen_updater.agent.reports.diagnostics.doctor",
    "ncen_updater.agent.reports.diagnostics.support_bundle.bundle",
    "ncen_updater.agent.engine.operations",
    "ncen_updater.agent.engine.plan",
    "ncen_updater.agent.adapters.databases.sqlite.engine",
    "ncen_updater.agent.adapters.application.command",
)
LOADED = (terminal, encodings.idna, encodings.utf_8_sig, http.client, SiteServiceClient)


for _module in WORKING:
    importlib.import_module(_module)


def run_as(
    user: str, groups: Sequence[str], words: Sequence[str], environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end as a user with exactly these groups; requires root."""
    return _forks().run([user, ",".join(groups), *words], environment)


@functools.cache
def _forks() -> Forks:
    forks = Forks(__name__, become.__name__, {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"})
    atexit.register(forks.close)
    return forks


def become(arguments: list[str]) -> int:
    """Change the user permanently, and run a command line."""
    user, groups, *words = arguments
    entry = pwd.getpwnam(user)
    os.setgroups([grp.getgrnam(name).gr_gid for name in groups.split(",") if name])
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
    return run(words)
