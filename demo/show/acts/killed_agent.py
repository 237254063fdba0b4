"""Act: the agent is killed in the middle of a migration."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from typing import TYPE_CHECKING, Any

from demo.show.instants import (
    as_superuser,
    migrating_session,
    step_state,
    wait_for,
)
from demo.show.stage import Stage
from ncen_updater.agent.model.change import StepName, StepState
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import ExitCode

if TYPE_CHECKING:
    import psycopg

#: Number of queries for a running statement before the agent is killed without one.
LOOKS = 40


def play(stage: Stage) -> None:
    """Kill the agent during the migration of a copy, and resume."""
    say, run = stage.narrator.say, stage.commands.run
    stage.narrator.act(N_("Agent killed during a migration"))
    words = ("ncen-updater", "upgrade", "3.3.0", "--yes", "--quiet")
    with stage.trial(
        LazyText(N_("kill the agent during a migration")),
        LazyText(N_("3.2.4, unchanged")),
        runs="3.2.4",
        undone=True,
    ) as trial:
        stage.narrator.command(words)
        with stage.commands.started(*words) as process:
            seen = _strike(stage, process)
        inside = step_state(stage.site, StepName.MIGRATE) is StepState.INTENDED
        trial.require(
            inside and process.returncode == -signal.SIGKILL and seen is not None,
            LazyText(N_("The kill missed the migration.")),
        )
        say(
            N_(
                "SIGKILL to process {pid} of the agent during: {seen}. Journal: migration"
                " {state}. The maintenance page is shown."
            ),
            pid=process.pid,
            seen=seen or "-",
            state=LazyText(N_("started, not finished")) if inside else "-",
        )
        if not stage.quick:
            run("ncen-updater", "status")
        resumed = run("ncen-updater", "resume", "--quiet")
        trial.ended(resumed.status, ExitCode.OK)
        trial.came = LazyText(N_("resumed: 3.2.4, unchanged"))


def _strike(stage: Stage, process: subprocess.Popen[bytes]) -> LazyText | None:
    with as_superuser(stage.server) if stage.server else contextlib.nullcontext() as session:
        intended = wait_for(lambda: _intended(stage), process)
        # Poll for some hundredths of a second: migrating small databases takes little longer.
        found = _statement(session) if session is not None and intended is not None else None
        process.kill()
        process.wait()
    if intended is None:
        return None
    if found is None:
        return LazyText(N_("migrating the databases"))
    return LazyText(N_("migration of {database}"), {"database": found[0]})


def _statement(session: psycopg.Connection[Any]) -> tuple[str, str] | None:
    looks = (migrating_session(session) for _ in range(LOOKS))
    return next((found for found in looks if found is not None), None)


def _intended(stage: Stage) -> StepState | None:
    state = step_state(stage.site, StepName.MIGRATE)
    return state if state is StepState.INTENDED else None
