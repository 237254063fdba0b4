"""Act: an administrator adopts a site that was installed by hand."""

from __future__ import annotations

import shutil

from demo.show.proof import read_rows
from demo.show.stage import Stage
from ncen_updater.common.cli.render import format_count
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import ExitCode


def play(stage: Stage) -> None:
    """Adopt the site and show its status."""
    site, say, run = stage.site, stage.narrator.say, stage.commands.run
    stage.narrator.act(N_("Site adopted"))
    say(
        N_(
            "The site runs the stand-in 3.2.4 with three databases ({engine}) and {rows} rows,"
            " and users work. Its administrator has root.json and agent.toml; NCEN_CONFIG_FILE"
            " is set."
        ),
        engine=_engine(stage),
        rows=format_count(site.generated.total if site.generated else 0),
    )
    shutil.copyfile(stage.places.feed / "metadata" / "1.root.json", site.trusted_root)
    stage.generated = read_rows(site.databases)
    site.start_app()
    site.start_front_door()
    site.start_traffic(pause_s=0.1)
    with stage.trial(
        LazyText(N_("adopt a running site")),
        LazyText(N_("3.2.4 keeps running")),
        runs="3.2.4",
        undone=True,
    ) as trial:
        adopted = run("ncen-updater", "adopt", "3.2.4", "--quiet")
        trial.ended(adopted.status, ExitCode.OK)
    run("ncen-updater", "check", "--quiet")
    if not stage.quick:
        run("ncen-updater", "status")
        run("ncen-updater", "plan", "--quiet", limit=18)
        say(N_("SQL statements of the upgrade, for the database administrator:"))
        run("ncen-updater", "plan", "--sql", "--quiet", limit=14)


def _engine(stage: Stage) -> str:
    return f"PostgreSQL {stage.server.binaries.major}" if stage.server else "SQLite"
