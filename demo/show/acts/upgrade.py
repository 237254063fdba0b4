"""The upgrade from 3.2.4 to 3.3.0, while officers work."""

from __future__ import annotations

from demo.show.stage import Stage
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import ExitCode


def play(stage: Stage) -> None:
    """Upgrade the busy site."""
    stage.narrator.act(N_("The upgrade, while officers work"))
    stage.narrator.say(
        N_(
            "Download and preflight cost officers nothing. Then the door closes, all three "
            "databases are copied and the copies migrated; one transaction renames them, the code "
            "is switched, and only a healthy 3.3.0 is let out. Then it is watched for a while."
        )
    )
    with stage.trial(
        LazyText(N_("upgrade 3.2.4 -> 3.3.0, officers at work")),
        LazyText(N_("3.3.0, every record there")),
        runs="3.3.0",
        undone=False,
    ) as trial:
        ran = stage.commands.watch("ncen-updater", "upgrade", "3.3.0", "--yes")
        trial.ended(ran.status, ExitCode.OK)
    if not stage.quick:
        stage.commands.run("ncen-updater", "verify", "--quiet", limit=6)
