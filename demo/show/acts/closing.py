"""Closing act: the results, and where to continue reading."""

from __future__ import annotations

import sys
from pathlib import Path

from demo.show.report import broken_rows, report_lines
from demo.show.stage import Stage
from ncen_updater.common.cli.render import format_decimal
from ncen_updater.common.i18n import N_


def play(stage: Stage, keep: Path | None) -> None:
    """Show the history, then the table of results."""
    narrator, site = stage.narrator, stage.site
    narrator.act(N_("Results"))
    stage.commands.run("ncen-updater", "history")
    summary = site.stop_traffic() if site.traffic_log.exists() else None
    narrator.lines(["", *report_lines(stage.rows, narrator.language), ""])
    if summary is not None:
        narrator.say(
            N_(
                "Users entered {entered} records; {refused} requests were refused; longest wait:"
                " {longest} s"
            ),
            entered=summary["acknowledged"],
            refused=summary["refused"],
            longest=format_decimal(float(summary["longest_outage_s"])),
        )
    broken = broken_rows(stage.rows)
    if broken:
        narrator.bad(N_("Checks failed: {count} of {all}"), count=len(broken), all=len(stage.rows))
        for row in broken:
            for text in row.broken:
                narrator.bad("{tried}: {text}", tried=row.tried, text=text)
    else:
        narrator.good(N_("All checks passed: {all} of {all}"), all=len(stage.rows))
    narrator.lines([""])
    narrator.say(N_("Read next: README.md, docs/explanation/crash-safety.md"))
    if keep is not None:
        narrator.say(
            N_(
                "Files are in {directory}. The site stops when the demonstration ends. To use"
                " ncen-updater on it, type in another terminal:"
            ),
            directory=keep,
        )
        narrator.lines(
            [
                f"    export PATH={Path(sys.executable).parent}:$PATH",
                f"    export NCEN_CONFIG_FILE={site.config_path}",
            ]
        )
