"""Tests that the patches with which the benchmark breaks agents still apply."""

from __future__ import annotations

from pathlib import Path

import pytest

import ncen_updater
from benchmarks.debian.agents import BREAKS

PACKAGE = Path(ncen_updater.__file__).parent


@pytest.mark.parametrize("kind", BREAKS)
def test_patched_location_exists_once(kind: str) -> None:
    for change in BREAKS[kind]:
        text = (PACKAGE / change.module).read_text("utf-8")
        assert text.count(change.before) == 1
        broken = text.replace(change.before, change.insert + change.before)
        compile(broken, change.module, "exec")
