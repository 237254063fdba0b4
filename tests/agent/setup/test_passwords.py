"""Tests of an application that logs in by a password, which setup never learns."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.setup.site import AGENT, OURSELVES, BareSite, bare_site
from tests.agent.setup.test_setup import differences, is_set_up, run


@pytest.fixture(params=["socket", "tcp"])
def way(request: pytest.FixtureRequest) -> str:
    """Where the application gives its password."""
    return str(request.param)


@pytest.fixture
def site(way: str, tmp_path: Path) -> Iterator[BareSite]:
    with bare_site(tmp_path, with_postgres=True, password=way) as made:
        yield made


def test_application_keeps_its_password(site: BareSite, way: str) -> None:
    assert site.server is not None
    before = site.look()
    done = run(site, "--answers", str(site.write_answers()), "--yes", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert is_set_up(site)
    found = json.loads(done.stdout)
    ident = (site.server.data / "pg_ident.conf").read_text().splitlines()
    assert f"ncen_updater {OURSELVES} {AGENT}" in ident
    # By a password through the socket nobody else comes in, and a person is told what that costs.
    assert (f"ncen_updater {OURSELVES} portal" in ident) is (way == "tcp")
    assert any("password_file" in line for line in found["by_hand"]) is (way == "socket")
    assert "password" not in site.demo.config_path.read_text()
    assert ("NU-4164" in done.stdout) is (way == "socket")
    site.demo.stop_app()
    site.demo.start_app()  # new sessions, by the lines as they are now
    undone = run(site, "--undo", "--yes")
    assert undone.returncode == 0, undone.stderr
    assert differences(site, before) == set()
    site.demo.stop_app()
    site.demo.start_app()
