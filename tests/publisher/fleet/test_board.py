"""The board: right against what the sites did, and silent about what nobody said."""

from __future__ import annotations

import csv
import io
import json
import random
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import REGIONS_INVALID
from ncen_updater.formats.receipt import ReceiptLevel, encode_public_key
from ncen_updater.publisher.fleet.board import (
    Board,
    Reporting,
    build_board,
    merge_small_groups,
    render_board,
)
from ncen_updater.publisher.fleet.intake import import_receipts
from ncen_updater.publisher.fleet.regions import Region, find_region, list_countries, read_regions
from ncen_updater.publisher.fleet.store import FleetStore, Mark
from tests.publisher.fleet.sites import RELEASES, TODAY, Reporter, lay

REGIONS = {
    "ESA": Region(name="East and Southern Africa", countries=("KE", "TZ", "MU"), leader="KE"),
    "EUR": Region(name="Europe", countries=("FR", "DE"), leader="FR"),
}


def failed(site: Reporter, fault: str = "release", code: str = "NU-6011") -> dict[str, Any]:
    """Facts of an upgrade to 3.3.0 that was reverted."""
    return {
        "change": ["3.2.4", "3.3.0"], "outcome": "reverted", "fault": fault, "code": code,
        "downtime_s": 30, "predicted_s": [10, 20], "change_day": TODAY,
    }  # fmt: skip


def board_of(tmp_path: Path, *sites: tuple[Reporter, dict[str, Any], int]) -> Board:
    """Return the board after one receipt of each site, so many days ago, all keys confirmed."""
    spool = tmp_path / "spool"
    spool.mkdir()
    for site, facts, ago in sites:
        lay(spool, site.write(TODAY - timedelta(days=ago), **facts))
    with FleetStore.open(tmp_path / "fleet.sqlite") as store:
        assert not import_receipts(store, spool, RELEASES, TODAY).refused
        for site, _, _ in sites:
            store.confirm(site.site, encode_public_key(site.private), TODAY)
        return build_board(store.list_sites(), REGIONS, TODAY)


def test_one_country_is_looked_at_and_two_propose_a_halt(tmp_path: Path) -> None:
    kenya, tanzania, france = (
        Reporter("ke-1", "KE"), Reporter("tz-1", "TZ"), Reporter("fr-1", "FR"),
    )  # fmt: skip
    one = board_of(
        tmp_path, (kenya, failed(kenya), 1), (france, failed(france, "site"), 1),
        (tanzania, {}, 1),
    )  # fmt: skip
    (release,) = one.releases
    assert (release.failed_countries, release.is_halt_proposed) == (("KE",), False)
    assert release.outcomes == {"failed-release": 1, "failed-site": 1}
    assert [item.urgent for item in one.attention] == [False]

    (tmp_path / "two").mkdir()
    two = board_of(tmp_path / "two", (kenya, failed(kenya), 1), (tanzania, failed(tanzania), 1))
    assert two.releases[0].is_halt_proposed
    assert two.attention[0].urgent
    assert two.attention[0].command == 'ncen-publisher halt 3.3.0 --emergency --reason "NU-6011"'


def test_two_sites_of_one_country_propose_nothing(tmp_path: Path) -> None:
    first, second = Reporter("ke-1", "KE"), Reporter("ke-2", "KE")
    found = board_of(tmp_path, (first, failed(first), 1), (second, failed(second), 1))
    assert not found.releases[0].is_halt_proposed


def test_a_key_that_nobody_confirmed_counts_for_nothing(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    for country in ("KE", "TZ", "MU"):
        site = Reporter(f"{country.lower()}-1", country)
        lay(spool, site.write(**failed(site)))
    with FleetStore.open(tmp_path / "fleet.sqlite") as store:
        import_receipts(store, spool, RELEASES, TODAY)
        found = build_board(store.list_sites(), REGIONS, TODAY)
    assert found.releases == ()
    assert {row.reporting for row in found.sites} == {Reporting.UNCONFIRMED}
    assert found.given_back == ()
    assert {item.command for item in found.attention} == {
        f"ncen-publisher fleet confirm {name}-1" for name in ("ke", "tz", "mu")
    }


@pytest.mark.parametrize(
    ("ago", "reporting"), [(0, Reporting.CURRENT), (40, Reporting.CURRENT), (41, Reporting.SILENT)]
)
def test_a_site_that_says_nothing_is_silent(tmp_path: Path, ago: int, reporting: Reporting) -> None:
    found = board_of(tmp_path, (Reporter("ke-1", "KE"), {}, ago))
    (row,) = found.sites
    assert (row.reporting, row.days) == (reporting, ago)
    assert [region.reporting for region in found.regions] == [
        int(reporting is Reporting.CURRENT), 0,
    ]  # fmt: skip


def test_a_clock_far_ahead_keeps_nobody_current(tmp_path: Path) -> None:
    site = Reporter("ke-1", "KE")
    board_of(tmp_path, (site, {}, -1000))
    with FleetStore.open(tmp_path / "fleet.sqlite") as store:
        later = build_board(store.list_sites(), REGIONS, TODAY + timedelta(days=50))
    (row,) = later.sites
    assert (row.reporting, row.marks) == (Reporting.SILENT, (Mark.CLOCK,))


@pytest.mark.parametrize(
    ("pairs", "shown"),
    [
        ([], ()),
        ([("3.3.0", "KE"), ("3.3.0", "TZ")], ()),
        ([("3.3.0", c) for c in ("KE", "TZ", "MU")], (("3.3.0", 3),)),
        # Two that are left would be known by who they are not: the smallest group joins them.
        (
            [("3.3.0", c) for c in ("KE", "TZ", "MU")] + [("3.2.4", c) for c in ("FR", "DE")],
            (("other", 5),),
        ),
        (
            [("3.3.0", c) for c in ("AA", "BB", "CC", "DD")]
            + [("3.2.4", c) for c in ("EE", "FF", "GG")] + [("3.1.0", "HH")],
            (("3.3.0", 4), ("other", 4)),
        ),
        # Two sites of one country are one country.
        ([("3.3.0", "KE"), ("3.3.0", "KE"), ("3.3.0", "TZ")], ()),
    ],
)  # fmt: skip
def test_no_group_of_fewer_than_three_is_given_back(
    pairs: list[tuple[str, str]], shown: tuple[tuple[str, int], ...]
) -> None:
    assert merge_small_groups(pairs) == shown


def test_pages_show_the_same_and_nothing_can_become_markup(tmp_path: Path) -> None:
    kenya = Reporter("ke-1", "KE")
    found = board_of(tmp_path, (kenya, failed(kenya), 1), (Reporter("fr-1", "FR"), {}, 90))
    for language in ("en", "fr"):
        pages = render_board(found, language)
        assert set(pages) == {"index.html", "countries.html", "fleet.csv", "fleet.json"}
        text = pages["index.html"].decode()
        assert "ke-1" in text
        assert "<script" not in text
        # Given to all countries: no site and no country stands in it.
        given = pages["countries.html"].decode()
        assert not [word for word in ("ke-1", "fr-1", ">KE<", ">FR<", "Europe") if word in given]
    rows = [*csv.DictReader(io.StringIO(pages["fleet.csv"].decode()))]
    assert [(row["site"], row["state"]) for row in rows] == [
        ("ke-1", "current"),
        ("fr-1", "silent"),
    ]
    document = json.loads(pages["fleet.json"])
    assert [one["site"] for one in document["sites"]] == ["ke-1", "fr-1"]
    assert document["releases"][0]["failed_countries"] == ["KE"]


def test_many_months_of_fifty_sites_against_what_they_did(tmp_path: Path) -> None:
    """Outages, restored backups, silent countries, one bad release: the board says what was."""
    chance, countries = random.Random(5), [f"{a}{b}" for a in "ABCDE" for b in "KLMNOPQRST"]
    sites = [Reporter(f"{c.lower()}-1", c, level=ReceiptLevel.OUTCOME) for c in countries]
    silent, spool = {c for c in countries if chance.random() < 0.15}, tmp_path / "spool"
    spool.mkdir()
    truth: dict[str, str] = {}
    halted_on = None
    with FleetStore.open(tmp_path / "fleet.sqlite") as store:
        for day in range(250):
            today = TODAY + timedelta(days=day)
            for place, site in enumerate(sites):
                facts: dict[str, Any] = {}
                # 3.3.0 at day 100, well; 3.3.1 fails everywhere: five leaders at day 200.
                bad = day == 200 + place % 2 and place < 5
                if day == 100 + place:
                    site.running = "3.3.0"
                    facts = {"change": ["3.2.4", "3.3.0"], "outcome": "upgraded", "fault": "none"}
                elif bad:
                    facts = {
                        "change": ["3.3.0", "3.3.1"], "outcome": "turned-bad", "fault": "release",
                        "code": "NU-6013",
                    }  # fmt: skip
                    facts["change"] = ["3.3.1", "3.3.0"]
                elif day % 30 != place % 30:
                    continue
                if chance.random() < 0.01:  # restored from a backup, and adopted again
                    site.epoch, site.number = f"{chance.randrange(2**32):08x}", 0
                signed = site.write(today, **facts)
                if site.country not in silent and chance.random() > 0.03:  # the line is down
                    lay(spool, signed)
                    truth[site.site] = site.running
            if any(spool.iterdir()):
                taken = import_receipts(store, spool, RELEASES, today)
                assert taken.refused == ()
                for path in taken.done:
                    path.unlink()
            if day == 30:
                for site in sites:
                    if site.site in truth:
                        store.confirm(site.site, encode_public_key(site.private), today)
            if 198 < day < 210:
                board = build_board(store.list_sites(), {}, today)
                if halted_on is None and any(r.is_halt_proposed for r in board.releases):
                    halted_on = day
        last = TODAY + timedelta(days=249)
        board = build_board(store.list_sites(), {}, last)
    assert halted_on is not None
    assert halted_on < 207  # the second wave
    assert {row.site: row.running for row in board.sites} == truth
    assert [r.version for r in board.releases if r.is_halt_proposed] == ["3.3.1"]
    versions = Counter(dict(board.regions[0].versions))
    current = [row for row in board.sites if row.reporting is Reporting.CURRENT]
    assert versions == Counter(truth[row.site] for row in current)
    assert not {row.country for row in board.sites} & silent


TEXT = """
[ESA]
name = "East and Southern Africa"
countries = ["KE", "TZ"]
leader = "KE"
[EUR]
name = "Europe"
countries = ["FR"]
leader = "FR"
"""


def test_regions(tmp_path: Path) -> None:
    path = tmp_path / "regions.toml"
    path.write_text(TEXT)
    regions = read_regions(path)
    assert list_countries(regions, "ESA") == ("KE", "TZ")
    assert list_countries(regions, "leaders") == ("FR", "KE")
    assert (find_region(regions, "TZ"), find_region(regions, "US")) == ("ESA", "")


@pytest.mark.parametrize(
    "text",
    [
        "", "x", TEXT + "[", TEXT.replace('"FR"', '"KE"'), TEXT.replace('leader = "KE"', ""),
        TEXT.replace('leader = "KE"', 'leader = "US"'), TEXT.replace('"TZ"', '"tz"'),
        TEXT + 'more = 1\n', TEXT.replace("[ESA]", "[esa]"),
    ][1:],
)  # fmt: skip
def test_regions_that_are_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "regions.toml"
    path.write_text(text)
    with pytest.raises(UpdaterError) as refused:
        read_regions(path)
    assert refused.value.message is REGIONS_INVALID
