"""Fixtures of the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.agent.cli.site import TrialSite, make_site


@pytest.fixture
def site(tmp_path: Path) -> TrialSite:
    """A site that runs 3.2.4."""
    return make_site(tmp_path / "site")
