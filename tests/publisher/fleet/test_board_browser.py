"""Tests of the board in a real browser: on telephone, desktop and paper, and accessible."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from ncen_updater.formats.rollout import RolloutWave
from ncen_updater.publisher.fleet.board import Board, build_board, render_board
from ncen_updater.publisher.fleet.releases import Region
from ncen_updater.publisher.fleet.store import FleetStore
from tests.console.browsers import keep
from tests.publisher.fleet.sites import RELEASES, TODAY, Reporter, lay
from tests.publisher.fleet.test_board import board_of, failed
from tests.support.axe import fetch_axe
from tests.support.webdriver import browser, missing

LACKS = missing()
pytestmark = pytest.mark.skipif(LACKS is not None, reason=str(LACKS))


#: Where the picture of a page in the guides begins.
PARTS = {"trust.html": "dl"}


def make_board(place: Path) -> Board:
    """A release that failed in two countries, went well in six, and one site of each odd kind."""
    names = {
        "ESA": {"KE": "Kenya", "MU": "Mauritius", "TZ": "Tanzania"},
        "EUR": {"BE": "Belgium", "DE": "Germany", "FR": "France", "IT": "Italy"},
        "AMS": {"BR": "Brazil", "CA": "Canada", "CL": "Chile", "MX": "Mexico"},
    }
    titles = {"ESA": "East and Southern Africa", "EUR": "Europe", "AMS": "Americas"}
    regions = {
        code: Region(
            name=titles[code], countries=countries, leader=next(iter(countries)),
            contacts={"KE": "Duty officer, +254 20 555 0100"},
        )
        for code, countries in names.items()
    }  # fmt: skip
    sites = {
        code: Reporter(f"{code.lower()}-{city}", code)
        for code, city in (
            ("KE", "nairobi"), ("TZ", "dodoma"), ("BE", "brussels"), ("BR", "brasilia"),
            ("CA", "ottawa"), ("CL", "santiago"), ("DE", "bonn"), ("IT", "rome"), ("FR", "paris"),
            ("MX", "veracruz"),
        )
    }  # fmt: skip
    good = {
        "change": ["3.2.4", "3.3.0"], "outcome": "upgraded", "soaked": True, "running": "3.3.0",
    }  # fmt: skip
    ended = [TODAY - timedelta(days=ago) for ago in (4, 3, 3, 2, 1, 1)]
    board_of(
        place, (sites["KE"], failed(sites["KE"]), 1), (sites["TZ"], failed(sites["TZ"]), -9),
        (sites["FR"], {}, 90), (sites["MX"], {}, 1),
        *(
            (sites[code], {**good, "ended": day, "downtime": [seconds, 4, 58]}, 0)
            for code, day, seconds in zip(
                ("BE", "BR", "CA", "CL", "DE", "IT"), ended, (9, 21, 14, 44, 61, 7), strict=True
            )
        ),
    )  # fmt: skip
    (place / "spool").mkdir(exist_ok=True)
    lay(place / "spool", Reporter("mu-port-louis", "MU").write())
    waves = tuple(
        RolloutWave.model_validate({"opens": f"2026-11-{day}T08:00:00Z", "percent": 100, **rest})
        for day, rest in (("24", {"countries": ["KE", "BE", "BR"]}), ("27", {}))
    )
    with FleetStore.open(place / "fleet.sqlite") as store:
        store.import_spool(place / "spool", RELEASES, TODAY)
        return build_board(store.list_sites(), regions, TODAY, {("ncen", "3.3.0"): (waves, None)})


def test_board_pages_are_accessible(tmp_path: Path) -> None:
    axe, board = fetch_axe(), make_board(tmp_path)
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
                person.media(scheme="light")
                keep(
                    person,
                    name.removesuffix(".html"),
                    language,
                    PARTS.get(name, "body"),
                    of="board",
                )
        found += person.complaints()
    assert found == []
    axe.require()
