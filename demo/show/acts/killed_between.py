"""Act: the agent is killed when the databases are new and the code is still old."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys

from demo.show.commands import ended
from demo.show.stage import Stage
from demo.show.worker import REACHED
from demo.site import version_of
from demo.starting import held
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import ExitCode

PATIENCE_S = 120.0


def play(stage: Stage) -> None:
    """Kill the agent between the cut-over and the switch of the code, and resume."""
    say = stage.narrator.say
    stage.narrator.act(N_("Agent killed between databases and code"))
    say(
        N_(
            "This interval is too short to hit from outside. The agent therefore runs in a"
            " process that pauses there until it is killed."
        )
    )
    with stage.trial(
        LazyText(N_("kill the agent between databases and code")),
        LazyText(N_("3.2.4, unchanged")),
        runs="3.2.4",
        undone=True,
    ) as trial:
        # The databases accept sessions again, but the journal does not record it yet.
        words = ("-m", "demo.show.worker", str(stage.site.config_path), "3.3.0")
        with contextlib.ExitStack() as stack:
            with held():
                process = subprocess.Popen(
                    [sys.executable, *words],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
                stack.enter_context(ended(process))
            progress = stack.enter_context(stage.narrator.working())
            progress.report(LazyText(N_("waiting for the interval")))
            assert process.stdout is not None  # noqa: S101 - it was asked for
            reached = process.stdout.readline().decode().strip() == REACHED
            mixture = version_of(stage.site) if reached else None
            process.kill()
            process.wait()
        trial.require(
            reached and process.returncode == -signal.SIGKILL,
            LazyText(N_("The kill missed the interval.")),
        )
        if mixture is not None:
            say(
                N_(
                    "SIGKILL between databases and code: code {code}, databases {schemas}. The"
                    " application is stopped, the maintenance page is shown."
                ),
                code=mixture.code,
                schemas=", ".join(sorted(set(mixture.schemas.values()))),
            )
            trial.require(mixture.whole is None, LazyText(N_("Code and databases still match.")))
        resumed = stage.commands.run("ncen-updater", "resume", "--quiet")
        trial.ended(resumed.status, ExitCode.OK)
        trial.came = LazyText(N_("resumed: 3.2.4, unchanged"))
