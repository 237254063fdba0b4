"""Pieces of the guide that every example has: ``control``, and how long a desk is watched."""

from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path

import pytest

from ncen_updater.agent.config.agent_config import SoakSettings
from tests.examples.building import SOURCES

#: As Celery's worker: what is at work in its child ends well where nobody but the parent is told.
WORKER = """#!/bin/sh
trap 'touch "$RUN/told"; wait' TERM
sh -c 'touch "$RUN/up"; while [ ! -e "$RUN/told" ]; do sleep 0.05; done; touch "$RUN/finished"' &
wait
"""


#: On a loaded machine the new process gets its turn late.
SLOW_SETSID = """#!/bin/sh
sleep 0.5
exec /usr/bin/setsid "$@"
"""


def test_running_job_finishes_on_termination(tmp_path: Path) -> None:
    (program := tmp_path / "release/bin/worker").parent.mkdir(parents=True)
    program.write_text(WORKER, "utf-8")
    program.chmod(0o755)
    (run := tmp_path / "run").mkdir()
    (setsid := tmp_path / "setsid").write_text(SLOW_SETSID, "utf-8")
    setsid.chmod(0o755)
    environment = {
        "PATH": f"{tmp_path}:/usr/bin:/bin",
        "RUN": str(run),
        "NCEN_CURRENT": str(tmp_path / "release"),
    }

    def control(act: str) -> int:
        words = [str(SOURCES / "control"), "worker", act]
        return subprocess.run(words, env=environment, check=False, timeout=60).returncode

    assert control("start") == 0
    assert control("status") == 0
    while not (run / "up").exists():
        assert control("status") == 0
    assert control("stop") == 0
    assert control("status") == 3
    assert (run / "finished").exists()


@pytest.mark.parametrize("example", ["alembic", "container", "django", "tomcat"])
def test_sandbox_soak_detects_a_dead_worker(example: str) -> None:
    """Seen: one look in the whole watched time, and three are needed for a verdict."""
    text = (SOURCES / example / "agent.toml").read_text("utf-8").replace("{db_port}", "5432")
    soak = tomllib.loads(text)["soak"]
    usual = SoakSettings()
    interval_s = soak.get("interval_s", usual.interval_s)
    assert soak["seconds"] > interval_s * (soak.get("max_failures", usual.max_failures) - 1)
