"""A whole setup on real servers: there and back, byte for byte."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.setup.site import AGENT, VERSION, BareSite, bare_site


@pytest.fixture(params=["postgresql", "sqlite"], scope="module")
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[BareSite]:
    directory = tmp_path_factory.mktemp(request.param)
    with bare_site(directory, with_postgres=request.param == "postgresql") as made:
        yield made


def test_there_and_back(site: BareSite) -> None:
    before = site.look()
    site.apply()
    assert site.demo.config_path.is_file()
    assert (site.demo.root / "opt/ncen/current").readlink() == Path("slots", VERSION)
    assert site.look() != before
    if site.server is not None:
        assert [AGENT] in site.ask("postgres", "SELECT rolname FROM pg_roles")
    site.undo()
    after = site.look()
    assert {name for name in before | after if before.get(name) != after.get(name)} == set()
