"""Tests of the board: it matches the sites' history, and claims nothing unreported."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pytest

from ncen_updater.common.cli.render import encode_as_words
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import REGIONS_INVALID
from ncen_updater.formats.receipt import compute_fingerprint, encode_public_key
from ncen_updater.formats.rollout import RolloutWave, Waiver
from ncen_updater.publisher.fleet.board import (
    MARKS,
    Board,
    Reporting,
    build_board,
    choose_edition,
    merge_small_groups,
    render_board,
)
from ncen_updater.publisher.fleet.releases import (
    Region,
    find_contact,
    find_region,
    list_countries,
    read_regions,
)
from ncen_updater.publisher.fleet.store import Edition, FleetStore, Mark
from tests.publisher.fleet.simulation import DAY, ROLLOUTS, Fleet
from tests.publisher.fleet.sites import RELEASES, TODAY, Reporter, lay

REGIONS = {
    "ESA": Region(
        name="East and Southern Africa",
        countries={"KE": "KE", "TZ": "TZ", "MU": "MU"},
        leader="KE",
        contacts={"KE": "A. Otieno, +254 20 1", "ke-2": "B. Kamau, +254 20 2"},
    ),
    "EUR": Region(name="Europe", countries={"FR": "FR", "DE": "DE"}, leader="FR"),
}


def failed(site: Reporter, fault: str = "release", code: str = "NU-6011") -> dict[str, Any]:
    """Facts of an upgrade to 3.3.0 that was reverted."""
    return {
        "change": ["3.2.4", "3.3.0"], "outcome": "reverted", "fault": fault, "code": code,
        "downtime": [30, 10, 20], "ended": TODAY,
    }  # fmt: skip


def board_of(tmp_path: Path, *sites: tuple[Reporter, dict[str, Any], int]) -> Board:
    """Return the board after one receipt of each site, so many days ago, all keys confirmed."""
    spool = tmp_path / "spool"
    spool.mkdir()
    for site, facts, ago in sites:
        lay(spool, site.write(TODAY - timedelta(days=ago), **facts))
    with FleetStore.open(tmp_path / "fleet.sqlite") as store:
        assert not store.import_spool(spool, RELEASES, TODAY).refused
        for site, _, _ in sites:
            store.confirm(site.site, encode_public_key(site.private), TODAY)
        return build_board(store.list_sites(), REGIONS, TODAY)


def test_halt_is_proposed_when_two_countries_fail(tmp_path: Path) -> None:
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
    assert [item.code for item in one.attention] == ["NU-9832"]

    (tmp_path / "two").mkdir()
    two = board_of(tmp_path / "two", (kenya, failed(kenya), 1), (tanzania, failed(tanzania), 1))
    assert two.releases[0].is_halt_proposed
    first = two.attention[0]
    assert first.code == "NU-9831"
    command = "ncen-publisher halt 3.3.0 --product ncen --emergency --reason"
    assert f'{command} "fails at several sites (NU-6011)" --feed FEED --key KEY' in str(
        first.remedy_text
    )
    assert str(first.values["contact"]) == "KE: A. Otieno, +254 20 1"
    assert str(first.title_text).endswith("in several countries (NU-6011): KE; TZ")


@pytest.mark.parametrize(
    ("until", "codes", "page"),
    [
        ("", [], "No site starts this upgrade: loses cases"),
        ("Friday", ["NU-9840"], "Emergency halt until Friday: loses cases"),
    ],
)
def test_no_halt_is_proposed_for_a_release_that_is_halted(
    tmp_path: Path, until: str, codes: list[str], page: str
) -> None:
    sites = [Reporter("ke-1", "KE"), Reporter("tz-1", "TZ")]
    board_of(tmp_path, *((site, failed(site), 1) for site in sites))
    with FleetStore.open(tmp_path / "fleet.sqlite") as store:
        rollouts = {("ncen", "3.3.0"): ((), ("loses cases", until))}
        board = build_board(store.list_sites(), REGIONS, TODAY, rollouts)
    assert not board.releases[0].is_halt_proposed
    assert [item.code for item in board.attention] == codes
    command = "ncen-publisher halt 3.3.0 --product ncen --reason TEXT --feed FEED --event DIRECTORY"
    assert all(command in str(item.remedy_text) for item in board.attention)
    assert page in render_board(board, "en")["releases.html"].decode()


def test_two_products_are_kept_apart(tmp_path: Path) -> None:
    kenya, france = Reporter("ke-1", "KE"), Reporter("fr-1", "FR", running="3.2.4")
    board_of(tmp_path, (kenya, failed(kenya), 1))
    with FleetStore.open(tmp_path / "fleet.sqlite") as store:
        tariff = {digest: ("tariff", version) for digest, (_, version) in RELEASES.items()}
        lay(tmp_path / "spool", france.write(**failed(france), product="tariff"))
        assert store.import_spool(tmp_path / "spool", tariff, TODAY).stored == 1
        store.confirm("fr-1", encode_public_key(france.private), TODAY)
        board = build_board(store.list_sites(), REGIONS, TODAY)
    assert [(one.product, [row.country for row in one.countries]) for one in board.releases] == [
        ("tariff", ["FR"]), ("ncen", ["KE"]),
    ]  # fmt: skip
    assert [str(item.title_text)[:20] for item in board.attention] == [
        "Release tariff 3.3.0", "Release ncen 3.3.0 f",
    ]  # fmt: skip
    assert [region.versions for region in board.regions] == [
        (("ncen 3.2.4", 1),), (("tariff 3.2.4", 1),),
    ]  # fmt: skip
    page = render_board(board, "en")["releases.html"].decode()
    assert "<h2>ncen 3.3.0</h2>" in page and "<h2>tariff 3.3.0</h2>" in page


def test_two_sites_of_one_country_propose_no_halt(tmp_path: Path) -> None:
    first, second = Reporter("ke-1", "KE"), Reporter("ke-2", "KE")
    found = board_of(tmp_path, (first, failed(first), 1), (second, failed(second), 1))
    assert not found.releases[0].is_halt_proposed


def test_unconfirmed_key_does_not_count(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    for country in ("KE", "TZ", "MU"):
        site = Reporter(f"{country.lower()}-1", country)
        lay(spool, site.write(**failed(site)))
    with FleetStore.open(tmp_path / "fleet.sqlite") as store:
        store.import_spool(spool, RELEASES, TODAY)
        found = build_board(store.list_sites(), REGIONS, TODAY)
    assert found.releases == ()
    assert {row.reporting for row in found.sites} == {Reporting.UNCONFIRMED}
    assert found.given_back.counts == ()
    assert {item.code for item in found.attention} == {"NU-9834"}
    assert {str(item.values["site"]) for item in found.attention} == {"ke-1", "tz-1", "mu-1"}


def test_leader_with_an_unconfirmed_key_has_a_row(tmp_path: Path) -> None:
    """Seen: only the refusal to publish named it, so that nobody knew what it waited for."""
    kenya, tanzania = Reporter("ke-1", "KE"), Reporter("tz-1", "TZ")
    board_of(tmp_path, (tanzania, failed(tanzania, "site"), 1))
    # Anybody can send these: a site of another country, and one with a name that opens early.
    stranger = Reporter("mu-1", "MU")
    lay(tmp_path / "spool", *(one.write(**failed(one)) for one in (kenya, stranger)))
    wave = RolloutWave(percent=100, opens=datetime.combine(TODAY, time(0), UTC), countries=())
    with FleetStore.open(tmp_path / "fleet.sqlite") as store:
        store.import_spool(tmp_path / "spool", RELEASES, TODAY)
        rollouts = {("ncen", "3.3.0"): ((wave,), None)}
        board = build_board(store.list_sites(), REGIONS, TODAY, rollouts)
    (release,) = board.releases
    assert [(row.country, row.leads, dict(row.outcomes)) for row in release.countries] == [
        ("KE", True, {"unconfirmed": 1}), ("TZ", False, {"failed-site": 1}),
    ]  # fmt: skip
    assert [row.opens for row in release.countries] == [None, TODAY]
    assert (release.outcomes, release.failed_countries) == ({"failed-site": 1}, ())
    assert "key not confirmed: 1" in render_board(board, "en")["releases.html"].decode()


def test_attention_lists_contact_and_command(tmp_path: Path) -> None:
    names = ("ke-1", "ke-2", "fr-1")
    board = board_of(tmp_path, *((Reporter(one, one[:2].upper()), {}, 41) for one in names))
    words = "Call the site. To send one, it runs: sudo ncen-updater receipt --send"
    assert [(item.values["contact"], str(item.remedy_text)) for item in board.attention] == [
        (contact, words) for contact in ("", "A. Otieno, +254 20 1", "B. Kamau, +254 20 2")
    ]
    pages = render_board(board, "en")
    assert "Contact: B. Kamau, +254 20 2" in pages["index.html"].decode()
    assert "Kamau" not in pages["countries.html"].decode()
    assert json.loads(pages["fleet.json"])["attention"][0]["values"]["contact"] == ""


def test_a_flood_of_unconfirmed_keys_is_named_and_hides_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ncen_updater.publisher.fleet.board.MOST_UNCONFIRMED", 3)
    board_of(tmp_path, (Reporter("tz-1", "TZ"), {}, 41))
    lay(tmp_path / "spool", *(Reporter(f"fr-{n}", "FR").write() for n in range(3)))
    with FleetStore.open(tmp_path / "fleet.sqlite") as store:
        store.import_spool(tmp_path / "spool", RELEASES, TODAY)
        for day in (TODAY, TODAY + timedelta(days=41)):
            texts = [
                str(item.title_text) for item in build_board(store.list_sites(), {}, day).attention
            ]
            assert texts[0].startswith("More than 3 receipts with unconfirmed keys")
            assert texts[1].startswith("tz-1 (TZ): no receipt since")
            # However old they are: nobody is sent to call sites that may not exist.
            assert all("key not confirmed" in text for text in texts[2:]), texts


@pytest.mark.parametrize(
    ("ago", "reporting"), [(0, Reporting.CURRENT), (40, Reporting.CURRENT), (41, Reporting.SILENT)]
)
def test_site_without_receipts_is_silent(tmp_path: Path, ago: int, reporting: Reporting) -> None:
    found = board_of(tmp_path, (Reporter("ke-1", "KE"), {}, ago))
    (row,) = found.sites
    assert (row.reporting, row.days) == (reporting, ago)
    assert [region.states for region in found.regions] == [
        {reporting: ["KE"], "": ["TZ", "MU"]}, {"": ["FR", "DE"]},
    ]  # fmt: skip


def test_installation_date_is_that_of_the_installing_change(tmp_path: Path) -> None:
    kenya, spool = Reporter("ke-1", "KE"), tmp_path / "spool"
    spool.mkdir()
    day = [TODAY - timedelta(days=ago) for ago in range(9)]

    def look(running: str, outcome: str, change: list[str], ended: int) -> date | None:
        kenya.running = running
        facts = {"outcome": outcome, "change": change, "ended": day[ended]}
        lay(spool, kenya.write(day[ended], **facts))
        with FleetStore.open(tmp_path / "fleet.sqlite") as store:
            assert not store.import_spool(spool, RELEASES, TODAY).refused
            board = build_board(store.list_sites(), REGIONS, TODAY)
        pages, (row,) = render_board(board, "en"), board.sites
        (line,) = csv.DictReader(io.StringIO(pages["fleet.csv"].decode()))
        (site,) = json.loads(pages["fleet.json"])["sites"]
        shown = row.since.isoformat() if row.since else None
        assert (line["since"] or None, site["since"]) == (shown, shown)
        assert f'<td class="day">{shown or "-"}</td>' in pages["index.html"].decode()
        return row.since

    # The installation of 3.2.4 was not reported: a failed upgrade is not that day.
    assert look("3.2.4", "reverted", ["3.2.4", "3.3.0"], 8) is None
    assert look("3.3.0", "upgraded", ["3.2.4", "3.3.0"], 7) == day[7]
    assert look("3.3.0", "reverted", ["3.3.0", "3.3.1"], 6) == day[7]
    assert look("3.3.1", "soak-failed", ["3.3.0", "3.3.1"], 5) == day[5]
    assert look("3.3.0", "rolled-back", ["3.3.1", "3.3.0"], 4) == day[4]


def test_silent_sites_and_countries_are_listed(tmp_path: Path) -> None:
    board_of(tmp_path, (Reporter("ke-1", "KE"), {}, 41))
    (tmp_path / "regions.toml").write_text(
        '[ESA]\nname = "East"\nleader = "KE"\ncountries = { KE = "Kenya", TZ = "Tanzania" }\n'
    )
    regions = read_regions(tmp_path / "regions.toml")
    with FleetStore.open(tmp_path / "fleet.sqlite") as store:
        board = build_board(store.list_sites(), regions, TODAY)
    for language, words in (
        ("en", ("no report for 41 days", "<td>Kenya</td>", "No receipt yet: Tanzania",
                "No report for more than 40 days: Kenya", "0 of 2 countries report",
                "no receipt since 2026-10-20<", '<td class="day">2026-10-20</td>')),
        ("fr", ("aucun compte rendu depuis 41 jours", "<td>Kenya</td>", "Tanzania",
                "aucun compte rendu depuis le 20/10/2026<", '<td class="day">20/10/2026</td>')),
    ):  # fmt: skip
        page = render_board(board, language)["index.html"].decode()
        assert [word for word in words if word not in page] == []


def test_country_is_in_one_state_and_names_keep_their_comma(tmp_path: Path) -> None:
    asia = Region(
        name="Asia", leader="FJ",
        countries={"FJ": "Fiji", "HK": "Hong Kong, China", "KR": "Korea", "MO": "Macao, China"},
    )  # fmt: skip
    names = (("hk-1", "HK", 41), ("hk-2", "HK", 1), ("kr-1", "KR", 41))
    board_of(tmp_path, *((Reporter(site, code), {}, ago) for site, code, ago in names))
    lay(tmp_path / "spool", Reporter("fj-1", "FJ").write(), Reporter("kr-1", "KR").write())
    with FleetStore.open(tmp_path / "fleet.sqlite") as store:
        assert store.import_spool(tmp_path / "spool", RELEASES, TODAY).stored == 2
        board = build_board(store.list_sites(), {"AP": asia}, TODAY)
    (region,) = board.regions
    assert region.states == {
        Reporting.UNCONFIRMED: ["Fiji"], Reporting.CURRENT: ["Hong Kong, China"],
        Reporting.SILENT: ["Korea"], "": ["Macao, China"],
    }  # fmt: skip
    assert str(board.name_countries(["HK", "FJ"])) == "Hong Kong, China; Fiji"
    assert board.name_countries(["HK", "FJ"]).render("fr") == "Hong Kong, China ; Fiji"


def test_clock_far_ahead_does_not_keep_a_site_current(tmp_path: Path) -> None:
    site = Reporter("ke-1", "KE")
    board_of(tmp_path, (site, {}, -1000))
    with FleetStore.open(tmp_path / "fleet.sqlite") as store:
        later = build_board(store.list_sites(), REGIONS, TODAY + timedelta(days=50))
    (row,) = later.sites
    assert (row.reporting, row.marks) == (Reporting.SILENT, frozenset({Mark.CLOCK}))


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
def test_groups_smaller_than_three_are_merged(
    pairs: list[tuple[str, str]], shown: tuple[tuple[str, int], ...]
) -> None:
    assert merge_small_groups(pairs) == shown


@pytest.mark.parametrize(
    ("former", "counts", "changes"),
    [
        ({"3.2.4": 9}, {"3.2.4": 9}, False),
        ({"3.2.4": 9}, {"3.2.4": 10}, False),  # a new site
        ({"3.2.4": 9, "3.3.0": 4}, {"3.2.4": 8, "3.3.0": 5}, False),  # an upgrade
        ({"3.2.4": 9, "3.3.0": 4}, {"3.2.4": 7, "3.3.0": 6}, False),
        ({"3.2.4": 9, "3.3.0": 4}, {"3.2.4": 6, "3.3.0": 7}, True),
        ({"3.2.4": 9}, {"3.2.4": 6, "3.3.0": 3}, True),
        ({"3.2.4": 9, "3.3.0": 4}, {"3.2.4": 6, "3.3.0": 8}, False),  # three upgraded, one came
        ({"3.2.4": 4}, {}, True),
        ({}, {"3.2.4": 3}, True),
    ],
)
def test_edition_changes_by_three_countries_or_not_at_all(
    former: dict[str, int], counts: dict[str, int], *, changes: bool
) -> None:
    old = Edition(TODAY, tuple(former.items()))
    later = TODAY + timedelta(days=9)
    expected = Edition(later, tuple(counts.items())) if changes else old
    assert choose_edition(old, later, tuple(counts.items())) == expected
    assert choose_edition(None, later, old.counts) == Edition(later, old.counts)


def test_previous_edition_is_remembered(tmp_path: Path) -> None:
    board = board_of(tmp_path, *((Reporter(f"s-{n}", f"A{n:c}"), {}, 1) for n in range(65, 70)))
    assert board.given_back == Edition(TODAY, (("ncen 3.2.4", 5),))
    with FleetStore.open(tmp_path / "fleet.sqlite") as store:
        assert store.read_edition() is None
        for _ in range(2):
            store.write_edition(board.given_back)
        assert store.read_edition() == board.given_back
        later, former = TODAY + timedelta(days=1), store.read_edition()
        store.forget("s-65")
        kept = build_board(store.list_sites(), REGIONS, later, former=former)
    assert kept.given_back == board.given_back
    page = render_board(kept, "en")["countries.html"].decode()
    assert f"Releases in use on {TODAY}" in page
    assert "<td>5</td>" in page


def test_monthly_sums_merge_small_groups(tmp_path: Path) -> None:
    board = board_of(tmp_path, (Reporter("ke-1", "KE"), {}, 1))
    sums: tuple[Mapping[str, str | int], ...] = tuple(
        {"month": month, "country": country, "release": "3.3.0", "outcome": word, "receipts": 2}
        for month, country, word in (
            ("2026-02", "KE", "upgraded"), ("2026-02", "TZ", "upgraded"),
            ("2026-02", "MU", "upgraded"), ("2026-02", "FR", "upgraded"),
            ("2026-02", "DE", "failed-release"), ("2026-02", "BE", "failed-site"),
            ("2026-02", "NL", "none"), ("2026-01", "DE", "upgraded"),
        )
    )  # fmt: skip
    board = replace(board, sums=sums)
    assert dict(board.history) == {
        "2026-02": (("upgraded 3.3.0", 4), ("other", 3)),
        "2026-01": (),
    }
    page = render_board(board, "en")["releases.html"].decode()
    assert "3.3.0, upgraded, soak period completed: 4<br>other: 3<br>" in page
    assert json.loads(render_board(board, "en")["fleet.json"])["sums"][0]["country"] == "KE"


def test_pages_agree_and_escape_markup(tmp_path: Path) -> None:
    kenya = Reporter("ke-1", "KE")
    found = board_of(tmp_path, (kenya, failed(kenya), 1), (Reporter("fr-1", "FR"), {}, 90))
    for language in ("en", "fr"):
        pages = render_board(found, language)
        assert set(pages) == {
            "index.html", "releases.html", "trust.html", "countries.html", "fleet.csv",
            "fleet.json",
        }  # fmt: skip
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


def test_board_matches_two_simulated_years(tmp_path: Path) -> None:
    """Outages, restored backups, silent countries, one bad release: the board says what was."""
    fleet = Fleet(tmp_path, 50)
    assert fleet.play() == []
    second_wave = next(second for version, _, second, _, _ in ROLLOUTS if version == "3.3.1")
    assert set(fleet.halted) == {"3.3.1"}
    assert fleet.halted["3.3.1"] < second_wave * DAY
    # Within an hour of the failure in a second country.
    _, second, *_ = sorted(fleet.failed["3.3.1"].values())
    assert second <= fleet.halted["3.3.1"] <= second + 60


def test_release_lists_leaders_awaited_and_early_countries(tmp_path: Path) -> None:
    kenya, tanzania, mauritius, france = (
        Reporter(f"{code.lower()}-1", code) for code in ("KE", "TZ", "MU", "FR")
    )
    good = {
        "change": ["3.2.4", "3.3.0"], "outcome": "upgraded", "soaked": True,
        "running": "3.3.0", "ended": TODAY - timedelta(days=2), "downtime": [9, 4, 8],
    }  # fmt: skip
    sites = board_of(
        tmp_path, (tanzania, {**good, "soaked": False}, 1), (kenya, good, 1), (mauritius, {}, 1),
        (france, {}, 1),
    ).sites  # fmt: skip
    assert len(sites) == 4
    opened, later = (
        RolloutWave.model_validate({"opens": f"2026-11-{day}T08:00:00Z", "percent": 100, **rest})
        for day, rest in (("26", {"countries": ["KE", "MU"]}), ("28", {"countries": ["TZ"]}))
    )
    waiver = Waiver(product="ncen", version="3.3.0", count=2, reached=1, reason="closed till May")
    waves = {("ncen", "3.3.0"): ((later, opened), None), ("other", "9"): ((opened,), None)}
    with FleetStore.open(tmp_path / "fleet.sqlite") as store:
        board = build_board(store.list_sites(), REGIONS, TODAY, waves, [(TODAY, waiver)])
    (release,) = board.releases
    assert release.waves == (opened, later)
    assert [(row.country, row.leads, dict(row.outcomes)) for row in release.countries] == [
        ("KE", True, {"upgraded": 1}),
        ("MU", False, {"none": 1}),
        ("TZ", False, {"upgraded-early": 1}),  # France: no wave opened it there
    ]
    assert release.countries[0].downtime == (9, 4, 8)
    assert [release.locate(day) for day in (opened.opens.date(), TODAY)] == [0, 100]
    assert (release.locate(TODAY - timedelta(days=2)), release.longest_s) == (50, 9)
    page = render_board(board, "en")["releases.html"].decode()
    assert "closed till May" in page
    assert page.index(">KE ") < page.index(">MU<") < page.index(">TZ<")
    assert "2026-11-26 to 2026-11-30" in page
    # A wave ahead stretches the time line, and its heading says so.
    ahead = opened.model_copy(update={"opens": opened.opens + timedelta(days=20)})
    board = replace(board, releases=(replace(release, waves=(opened, ahead)),))
    page = render_board(board, "en")["releases.html"].decode()
    assert "2026-11-26 to 2026-12-16" in page


def test_each_of_two_keys_is_named_by_its_fingerprint(tmp_path: Path) -> None:
    """Otherwise two lines of Attention would be the same, and the command fail."""
    genuine, forged = Reporter("ke-1", "KE"), Reporter("ke-1", "KE")
    board_of(tmp_path, (genuine, {}, 1))
    lay(tmp_path / "spool", forged.write())
    with FleetStore.open(tmp_path / "fleet.sqlite") as store:
        store.import_spool(tmp_path / "spool", RELEASES, TODAY)
        (item,) = build_board(store.list_sites(), REGIONS, TODAY).attention
    words = encode_as_words(compute_fingerprint(encode_public_key(forged.private)))
    assert item.code == "NU-9835"
    command = f'ncen-publisher fleet confirm ke-1 --key "{words}" --record fleet.db'
    assert str(item.remedy_text).endswith(f"run: {command}")


def test_attention_says_what_a_mark_means_until_it_is_answered(tmp_path: Path) -> None:
    kenya, france = Reporter("ke-1", "KE"), Reporter("fr-1", "FR")
    board_of(tmp_path, (kenya, {}, 1), (france, {}, 1))
    kenya.epoch, kenya.number = "cd" * 4, 0
    france.write()  # on the way, and never seen again
    lay(tmp_path / "spool", kenya.write(), france.write())
    with FleetStore.open(tmp_path / "fleet.sqlite") as store:
        store.import_spool(tmp_path / "spool", RELEASES, TODAY)
        gap, restored = build_board(store.list_sites(), REGIONS, TODAY).attention
        assert "ncen-publisher fleet confirm ke-1 --key " in str(restored.remedy_text)
        assert str(gap.remedy_text) == "Wait for its next receipt."
        assert [str(item.state) for item in (gap, restored)] == [
            MARKS[mark].state for mark in (Mark.GAP, Mark.RESTORED)
        ]
        assert "restaurés" not in restored.title_text.render("fr")
        for site in (kenya, france):
            store.confirm(site.site, encode_public_key(site.private), TODAY)
        lay(tmp_path / "spool", france.write())
        store.import_spool(tmp_path / "spool", RELEASES, TODAY)
        board = build_board(store.list_sites(), REGIONS, TODAY)
    assert board.attention == ()
    page = render_board(board, "en")["trust.html"].decode()
    assert f"ke-1: answered by telephone on {TODAY}" in page


def test_impossible_days_do_not_stretch_the_time_line(tmp_path: Path) -> None:
    kenya, tanzania, france = (Reporter(f"{one.lower()}-1", one) for one in ("KE", "TZ", "FR"))
    days = (date(1, 1, 1), TODAY - timedelta(days=9), date(9999, 12, 31))
    board = board_of(
        tmp_path,
        *(
            (site, {**failed(site, "site"), "ended": day}, 1)
            for site, day in zip((kenya, tanzania, france), days, strict=True)
        ),
    )
    (release,) = board.releases
    assert release.first_day == days[1]
    assert [release.locate(day) for day in (*days, TODAY)] == [0, 0, 100, 100]


def test_trust_page_counts_confirmed_sites_only(tmp_path: Path) -> None:
    board_of(tmp_path, (Reporter("ke-1", "KE"), {}, 1))
    lay(tmp_path / "spool", Reporter("tz-1", "TZ").write(root=77, agent="9.9"))
    with FleetStore.open(tmp_path / "fleet.sqlite") as store:
        assert store.import_spool(tmp_path / "spool", RELEASES, TODAY).stored == 1
        page = render_board(build_board(store.list_sites(), REGIONS, TODAY), "en")["trust.html"]
    assert b"Trusted root version 1: 1 site<" in page
    assert [word for word in (b"root version 77", b"ncen-updater 9.9") if word in page] == []


def test_trust_page_names_unusual_sites_and_explains_marks(tmp_path: Path) -> None:
    kenya = Reporter("ke-1", "KE")
    board = board_of(tmp_path, (kenya, {}, -1000), (Reporter("fr-1", "FR"), {}, 1))
    page = render_board(board, "en")["trust.html"].decode()
    assert "wrong clock: ke-1</dt>" in page
    assert "contradictory receipts: -</dt>" in page
    assert encode_as_words(compute_fingerprint(encode_public_key(kenya.private))) in page


TEXT = """
[ESA]
name = "East and Southern Africa"
countries = { KE = "Kenya", TZ = "Tanzania" }
leader = "KE"
contacts = { TZ = "C. Moshi, +255 22 3", ke-2 = "B. Kamau, +254 20 2" }
[EUR]
name = "Europe"
countries = { FR = "France" }
leader = "FR"
"""


def test_example_lists_each_country_in_one_region() -> None:
    regions = read_regions(Path(__file__).parents[3] / "packaging/examples/regions.toml")
    countries = [country for region in regions.values() for country in region.countries]
    assert (len(regions), len(countries)) == (6, len(set(countries)))
    assert [len(region.countries) for region in regions.values()] == [24, 24, 18, 52, 34, 35]


def test_contacts_are_found_by_region(tmp_path: Path) -> None:
    path = tmp_path / "regions.toml"
    path.write_text(TEXT)
    regions = read_regions(path)
    assert list_countries(regions, "ESA") == ("KE", "TZ")
    assert list_countries(regions, "leaders") == ("FR", "KE")
    assert (find_region(regions, "TZ"), find_region(regions, "US")) == ("ESA", "")
    places = (("TZ", "tz-1"), ("KE", "ke-2"), ("KE", "ke-1"), ("FR", "ke-2"), ("US", ""))
    assert [find_contact(regions, *place) for place in places] == [
        "C. Moshi, +255 22 3", "B. Kamau, +254 20 2", "", "", "",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "", "x", TEXT + "[", TEXT.replace("{ FR", "{ KE"), TEXT.replace('leader = "KE"', ""),
        TEXT.replace('leader = "KE"', 'leader = "US"'), TEXT.replace("TZ = ", "tz = "),
        TEXT + 'more = 1\n', TEXT.replace("[ESA]", "[esa]"),
        TEXT.replace("C. Moshi, +255 22 3", ""),
    ][1:],
)  # fmt: skip
def test_invalid_regions_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "regions.toml"
    path.write_text(text)
    with pytest.raises(UpdaterError) as refused:
        read_regions(path)
    assert refused.value.message is REGIONS_INVALID
