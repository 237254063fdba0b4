"""A store of slots in a temporary directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from ncen_updater.agent.storage.slots.store import SlotStore


@pytest.fixture
def store(tmp_path: Path) -> SlotStore:
    return SlotStore(tmp_path / "slots", tmp_path / "current")
