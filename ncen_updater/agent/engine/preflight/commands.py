"""Can the application be controlled?"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from ncen_updater.agent.engine.preflight.base import PreflightContext, make_blocker, register_check
from ncen_updater.common.findings import Finding
from ncen_updater.common.i18n import N_


@register_check(90)
def check_commands(context: PreflightContext) -> tuple[Finding, ...]:
    """NU-6308 for each command of the configuration that cannot be run."""
    settings = context.config.application
    path = settings.environment.get("PATH", os.environ.get("PATH"))
    if settings.adapter == "systemd":
        commands = {"systemctl": "systemctl"}
    else:
        named = {"": settings, **{f"parts.{part.name}.": part for part in settings.parts}}
        commands = {
            f"{name}{act}": argv[0]
            for name, item in named.items()
            for act, argv in (("start", item.start), ("stop", item.stop), ("status", item.status))
            if argv
        }
    if settings.version_command:
        commands["version_command"] = settings.version_command[0]
    return tuple(
        make_blocker(
            6308,
            N_("Program {program} of '{setting}' not found or not executable"),
            N_("Correct [application] in agent.toml, or make the program executable."),
            setting=setting,
            program=program,
        )
        for setting, program in commands.items()
        # A path that is not absolute would be looked for below /, where commands run.
        if shutil.which(program if "/" not in program else str(Path("/", program)), path=path)
        is None
    )
