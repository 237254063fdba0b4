"""The stand-in's own start and status: who only asks is not taken for what runs."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import pytest

CONTROL = Path(__file__).parents[2] / "manifests/base/app/bin/ncenctl"


def status(run: Path) -> int:
    words = ["/bin/sh", str(CONTROL), "status"]
    return subprocess.run(words, env={**os.environ, "NCEN_RUN": str(run)}, check=False).returncode


def loaded() -> ModuleType:
    loader = SourceFileLoader("ncenctl", str(CONTROL))
    spec = spec_from_loader("ncenctl", loader)
    assert spec is not None
    module, written = module_from_spec(spec), sys.dont_write_bytecode
    loader.exec_module(module)
    sys.dont_write_bytecode = written  # it says so for itself
    return module


def test_concurrent_probes_do_not_see_each_other(tmp_path: Path) -> None:
    """Seen: a service that took somebody else's look for an application that runs."""
    assert status(tmp_path) == 3
    with (tmp_path / "ncen.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)  # as the other one has it for an instant
        assert status(tmp_path) == 3
        fcntl.flock(lock, fcntl.LOCK_EX)  # as a server has it
        assert status(tmp_path) == 0


def test_probe_does_not_prevent_a_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class NoAnswersLeftError(Exception):
        pass

    control, answers = loaded(), [None]

    def take(place: Path) -> None:
        if not answers:
            raise NoAnswersLeftError
        return answers.pop()

    monkeypatch.setattr(control, "take", take)
    with pytest.raises(NoAnswersLeftError):
        control.start(tmp_path)


def test_running_application_is_not_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    control = loaded()
    ticks = control.started_at(os.getpid())
    (tmp_path / "ncen.pid").write_text(f"{os.getpid()} {ticks}")
    monkeypatch.setattr(control, "take", lambda place: None)
    assert control.start(tmp_path) == 0
