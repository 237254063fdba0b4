"""From 3.2.4 to 3.4.0: a required stop lies between, and the site walks it without being asked."""

from __future__ import annotations

from demo.evidence import parked_rows, select
from demo.show.stage import Stage
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import ExitCode


def play(stage: Stage) -> None:
    """Upgrade over the stop."""
    stage.narrator.act(N_("A required stop on the way"))
    stage.narrator.say(
        N_(
            "3.4.0 can be reached from 3.3.10 only, and no site may skip 3.3.10. Asked for the "
            "newest release, the agent walks both, each a whole change with its own way back."
        )
    )
    with stage.trial(
        LazyText(N_("upgrade to the newest, a required stop between")),
        LazyText(N_("3.3.10, then 3.4.0")),
        runs="3.4.0",
        undone=False,
    ) as trial:
        ran = stage.commands.run("ncen-updater", "upgrade", "--yes", "--quiet")
        trial.ended(ran.status, ExitCode.OK)
        trial.require(
            "3.3.10" in ran.output, LazyText(N_("The required stop 3.3.10 was not walked."))
        )
        objects = select(stage.site.databases, "seizures", "SELECT case_ref FROM cultural_objects")
        left = parked_rows(stage.site.databases)
        trial.require(
            bool(objects) and not left,
            LazyText(N_("What was parked has not come back: {left}"), {"left": left}),
        )
    stage.narrator.say(
        N_("What 3.2.4 could not hold is back: cultural artefacts on record: {count}."),
        count=len(objects),
    )
