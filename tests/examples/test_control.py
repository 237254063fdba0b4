"""The guide's ``control`` ends a program as that program wants to be ended."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.examples.building import SOURCES

#: As Celery's worker: what is at work in its child ends well where nobody but the parent is told.
WORKER = """#!/bin/sh
trap 'touch "$RUN/told"; wait' TERM
sh -c 'touch "$RUN/up"; while [ ! -e "$RUN/told" ]; do sleep 0.05; done; touch "$RUN/finished"' &
wait
"""


def test_a_job_that_is_at_work_ends_well(tmp_path: Path) -> None:
    (program := tmp_path / "release/bin/worker").parent.mkdir(parents=True)
    program.write_text(WORKER, "utf-8")
    program.chmod(0o755)
    (run := tmp_path / "run").mkdir()
    environment = {
        "PATH": "/usr/bin:/bin",
        "RUN": str(run),
        "NCEN_CURRENT": str(tmp_path / "release"),
    }

    def control(act: str) -> int:
        words = [str(SOURCES / "control"), "worker", act]
        return subprocess.run(words, env=environment, check=False, timeout=60).returncode

    assert control("start") == 0
    while not (run / "up").exists():
        assert control("status") == 0
    assert control("stop") == 0
    assert control("status") == 3
    assert (run / "finished").exists()
