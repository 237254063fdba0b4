"""Act: the database server is killed in the middle of the cut-over, as by a power cut."""

from __future__ import annotations

import contextlib
import subprocess

from demo.embedded_postgres import EmbeddedPostgres
from demo.show.instants import (
    as_superuser,
    renamed_but_waiting,
    step_state,
    wait_for,
)
from demo.show.stage import Stage
from ncen_updater.agent.model.change import StepName
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import ExitCode


def play(stage: Stage) -> None:
    """Kill the server inside the transaction that renames the databases, and resume."""
    server = stage.server
    if server is None:
        return
    say, run = stage.narrator.say, stage.commands.run
    stage.narrator.act(N_("Database server killed during the cut-over"))
    say(
        N_(
            "The cut-over transaction takes milliseconds. Another session therefore locks the"
            " last database, so that the transaction waits; then every server process gets"
            " SIGKILL."
        )
    )
    words = ("ncen-updater", "upgrade", "3.3.0", "--yes", "--quiet")
    with stage.trial(
        LazyText(N_("kill the database server during the cut-over")),
        LazyText(N_("3.2.4, unchanged")),
        runs="3.2.4",
        undone=True,
    ) as trial:
        stage.narrator.command(words)
        with stage.commands.started(*words) as process, stage.narrator.working() as progress:
            progress.report(LazyText(N_("waiting for the interval")))
            rename = _strike(server, stage, process)
            server.start()
            output, _ = process.communicate(timeout=180)
        stage.narrator.output(output.decode(errors="replace"))
        trial.require(rename is not None, LazyText(N_("The kill missed the cut-over.")))
        say(
            N_(
                "The server was killed while the transaction waited, in: {rename} ... After its"
                " restart, the agent checked the catalog for the result of the cut-over and ended"
                " with exit code {status}."
            ),
            rename=(rename or "-").partition(";")[0],
            status=process.returncode,
        )
        trial.require(
            process.returncode == ExitCode.ROLLED_BACK,
            LazyText(N_("Exit code {status}, expected 11"), {"status": process.returncode}),
        )
        resumed = run("ncen-updater", "resume", "--quiet")
        trial.ended(resumed.status, ExitCode.OK)
        trial.came = LazyText(N_("waited for the server: 3.2.4, unchanged"))


def _strike(server: EmbeddedPostgres, stage: Stage, process: subprocess.Popen[bytes]) -> str | None:
    """Kill the server inside the transaction; return the statement that was running."""
    from psycopg import OperationalError, sql

    rename: str | None = None
    last = sql.Identifier(sorted(stage.site.databases.names.values())[-1])
    with contextlib.suppress(OperationalError), as_superuser(server) as session:
        wait_for(lambda: step_state(stage.site, StepName.MIGRATE), process)
        with as_superuser(server) as locker:
            # A comment that is never committed: it locks the name and changes nothing.
            locker.execute("BEGIN")
            locker.execute(sql.SQL("COMMENT ON DATABASE {} IS 'locked'").format(last))
            rename = wait_for(lambda: renamed_but_waiting(session), process)
            # The server's end closes both sessions.
            server.kill()
    return rename
