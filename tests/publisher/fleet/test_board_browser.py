"""Tests of the board in a real browser: on telephone, desktop and paper, and accessible."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from ncen_updater.formats.rollout import RolloutWave
from ncen_updater.publisher.fleet.board import build_board, render_board
from ncen_updater.publisher.fleet.store import FleetStore
from tests.publisher.fleet.sites import TODAY, Reporter
from tests.publisher.fleet.test_board import REGIONS, board_of, failed
from tests.support.axe import fetch_axe
from tests.support.webdriver import browser, missing

LACKS = missing()
pytestmark = pytest.mark.skipif(LACKS is not None, reason=str(LACKS))


def test_board_pages_are_accessible(tmp_path: Path) -> None:
    axe = fetch_axe()
    sites = [Reporter(f"{code.lower()}-1", code) for code in ("KE", "TZ", "FR")]
    good = {
        "change": ["3.2.4", "3.3.0"], "outcome": "upgraded", "soaked": True,
        "ended": TODAY - timedelta(days=2), "downtime": [9, 4, 8],
    }  # fmt: skip
    board_of(
        tmp_path, (sites[0], failed(sites[0]), 1), (sites[1], failed(sites[1]), -9),
        (sites[2], good, 90),
    )  # fmt: skip
    wave = RolloutWave.model_validate({"opens": "2026-11-26T08:00:00Z", "percent": 100})
    with FleetStore.open(tmp_path / "fleet.sqlite") as store:
        board = build_board(store.list_sites(), REGIONS, TODAY, {("ncen", "3.3.0"): (wave,)})
    found = []
    with browser() as person:
        for language in ("en", "fr"):
            for name, content in render_board(board, language).items():
                if not name.endswith(".html"):
                    continue
                page = tmp_path / f"{language}-{name}"
                page.write_bytes(content)
                person.open(page.as_uri())
                for scheme in ("light", "dark"):
                    person.media(scheme=scheme)
                    for width in (360, 1280):
                        person.width(width)
                        found += [f"{page.name}: {one}" for one in axe.violations(person)]
                        if person.overflows():
                            found.append(f"{page.name} is wider than {width}")
                assert person.printed().startswith(b"%PDF")
        found += person.complaints()
    assert found == []
    axe.require()
