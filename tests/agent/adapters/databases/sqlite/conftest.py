"""Fixtures of the SQLite adapter's tests."""

from __future__ import annotations

import pytest


@pytest.fixture
def sees_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """The user that runs the tests: the warning about missing rights is not their subject."""
    monkeypatch.setattr(
        "ncen_updater.agent.adapters.databases.sqlite.read_operations.can_see_other_users",
        lambda: True,
    )
