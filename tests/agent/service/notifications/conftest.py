from __future__ import annotations

from pathlib import Path

import pytest

from tests.agent.cli.site import TrialSite, make_site
from tests.support.tls import Authority


@pytest.fixture
def site(tmp_path: Path) -> TrialSite:
    """A site that runs 3.2.4, without recipients."""
    return make_site(tmp_path / "site")


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))
