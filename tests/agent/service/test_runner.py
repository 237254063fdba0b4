"""Tests of the environment that a process of the service receives."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from ncen_updater.agent.adapters.application import process
from ncen_updater.agent.adapters.databases.migrations import migrator as command
from ncen_updater.agent.config.service import ServiceSettings
from ncen_updater.agent.service import apply_runner as runner
from ncen_updater.agent.service.apply_runner import EXIT_CANNOT_RUN, WORK_VARIABLES, ApplyRunner
from ncen_updater.agent.service.snapshot import SnapshotStore
from ncen_updater.common.workers import BEAT_S, Worker

NOBODY = SnapshotStore(ServiceSettings(), lambda: datetime.now(UTC))


def test_unlisted_variables_are_not_inherited(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given: list[dict[str, str]] = []

    def ask(worker: Worker, *_: object, **__: object) -> dict[str, object]:
        given.append(worker.build_environment())
        return {}

    monkeypatch.setattr(runner, "call_worker", ask)
    for name in ("LD_PRELOAD", "PGPASSWORD", "PGHOST", "https_proxy", "PYTHONPATH", "A_SECRET"):
        monkeypatch.setenv(name, "/nowhere")
    monkeypatch.setenv("PGSSLROOTCERT", "/etc/ssl/national.pem")
    work = ApplyRunner(tmp_path / "agent.toml", None, lambda: None, lambda: False, NOBODY)
    assert work.run(["status"]).exit_code == EXIT_CANNOT_RUN
    assert set(given[0]) <= set(WORK_VARIABLES)
    assert given[0]["PGSSLROOTCERT"] == "/etc/ssl/national.pem"


def test_variables_of_application_and_migrator_are_inherited() -> None:
    assert {*process.INHERITED_VARIABLES, *command.INHERITED_VARIABLES} <= set(WORK_VARIABLES)


def test_silent_job_is_terminated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A blocked thread kept the application down until an operator ended it."""
    given: list[Worker] = []

    def ask(worker: Worker, *_: object, **__: object) -> dict[str, object]:
        given.append(worker)
        return {}

    monkeypatch.setattr(runner, "call_worker", ask)
    ApplyRunner(tmp_path / "a", None, lambda: None, lambda: False, NOBODY).run(["upgrade"])
    silence_s = given[0].limits.silence_timeout_s
    assert silence_s is not None
    assert silence_s > 20 * BEAT_S
