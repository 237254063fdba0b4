"""Act: upgrade from 3.2.4 to 3.4.0; the site passes a required stop automatically."""

from __future__ import annotations

from demo.evidence import parked_rows, select
from demo.show.stage import Stage
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import ExitCode


def play(stage: Stage) -> None:
    """Upgrade over the required stop."""
    stage.narrator.act(N_("Required release"))
    stage.narrator.say(
        N_(
            "3.4.0 upgrades only from 3.3.10, a required release. The agent installs both, each"
            " as a change with its own rollback."
        )
    )
    with stage.trial(
        LazyText(N_("upgrade to the newest release through a required release")),
        LazyText(N_("3.3.10, then 3.4.0")),
        runs="3.4.0",
        undone=False,
    ) as trial:
        ran = stage.commands.run("ncen-updater", "upgrade", "--yes", "--quiet")
        trial.ended(ran.status, ExitCode.OK)
        trial.require(
            "3.3.10" in ran.output, LazyText(N_("The required release 3.3.10 was not installed."))
        )
        objects = select(stage.site.databases, "seizures", "SELECT case_ref FROM cultural_objects")
        left = parked_rows(stage.site.databases)
        trial.require(
            bool(objects) and not left,
            LazyText(N_("Saved values not restored: {left}"), {"left": left}),
        )
    stage.narrator.say(
        N_("Restored records about cultural artefacts, unknown to 3.2.4: {count}"),
        count=len(objects),
    )
