"""Fixtures of the SQLite adapter's tests."""

from __future__ import annotations

import pytest


@pytest.fixture
def sees_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests: what is said of being blind is not what they are about."""
    monkeypatch.setattr(
        "ncen_updater.agent.adapters.databases.sqlite.read_operations.can_see_other_users",
        lambda: True,
    )
