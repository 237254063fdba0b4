"""Act: upgrade from 3.2.4 to 3.3.0 while users work."""

from __future__ import annotations

from demo.show.stage import Stage
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import ExitCode


def play(stage: Stage) -> None:
    """Upgrade the busy site."""
    stage.narrator.act(N_("Upgrade"))
    stage.narrator.say(
        N_(
            "Users work during the download and the preflight checks. During the downtime, the"
            " databases are copied, the copies are migrated, databases and code are switched"
            " and health is checked. The soak period follows."
        )
    )
    with stage.trial(
        LazyText(N_("upgrade from 3.2.4 to 3.3.0 while users work")),
        LazyText(N_("3.3.0, all records kept")),
        runs="3.3.0",
        undone=False,
    ) as trial:
        ran = stage.commands.watch("ncen-updater", "upgrade", "3.3.0", "--yes")
        trial.ended(ran.status, ExitCode.OK)
    if not stage.quick:
        stage.commands.run("ncen-updater", "verify", "--quiet", limit=6)
