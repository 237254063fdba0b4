"""The agent is killed in the middle of a migration."""

from __future__ import annotations

import signal
import subprocess

from demo.show.instants import (
    as_superuser,
    migrating_session,
    step_state,
    wait_for,
)
from demo.show.stage import Stage
from ncen_updater.agent.journal.change import StepName, StepState
from ncen_updater.common.errors import ExitCode
from ncen_updater.common.i18n import N_, Text

__all__ = ["play"]


def play(stage: Stage) -> None:
    """Kill the agent while a copy is being migrated, and resume."""
    say, run = stage.narrator.say, stage.commands.run
    stage.narrator.act(N_("The agent is killed in the middle of a migration"))
    words = ("ncen-updater", "upgrade", "3.3.0", "--yes", "--quiet")
    with stage.trial(
        Text(N_("kill the agent in the middle of a migration")),
        Text(N_("3.2.4, as before")),
        runs="3.2.4",
        undone=True,
    ) as trial:
        stage.narrator.command(words)
        with stage.commands.started(*words) as process:
            seen = _strike(stage, process)
        inside = step_state(stage.site, StepName.MIGRATE) is StepState.INTENDED
        trial.require(
            inside and process.returncode == -signal.SIGKILL and seen is not None,
            Text(N_("The kill did not land inside the migration.")),
        )
        say(
            N_(
                "SIGKILL to the agent's process {pid}, while {seen}. In the journal the step "
                "'migrate' is {state}. Officers see the maintenance page."
            ),
            pid=process.pid,
            seen=seen or "-",
            state=Text(N_("intended, not done")) if inside else "-",
        )
        if not stage.quick:
            run("ncen-updater", "status")
        resumed = run("ncen-updater", "resume", "--quiet")
        trial.ended(resumed.status, ExitCode.OK)
        trial.came = Text(N_("resumed: 3.2.4 as before"))


def _strike(stage: Stage, process: subprocess.Popen[bytes]) -> Text | None:
    if stage.server is None:
        state = wait_for(lambda: _intended(stage), process)
        process.kill()
        process.wait()
        return Text(N_("it was at work in the step 'migrate'")) if state else None
    with as_superuser(stage.server) as session:
        found = wait_for(lambda: migrating_session(session), process)
        process.kill()
        process.wait()
    if found is None:
        return None
    return Text(N_("the server ran a migration in {database}"), {"database": found[0]})


def _intended(stage: Stage) -> StepState | None:
    state = step_state(stage.site, StepName.MIGRATE)
    return state if state is StepState.INTENDED else None
