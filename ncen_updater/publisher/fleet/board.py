"""The board: the state of the fleet for the Secretariat, and country counts for all countries.

Its input is the stored receipts and a date; it does not query sites. A site that sends no receipts
has a state of its own, and never counts as upgraded.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum

from packaging.version import Version

from ncen_updater.common.cli.render import encode_as_words, format_date
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.html_templates import render_page
from ncen_updater.common.i18n import LazyText, join_texts
from ncen_updater.common.json_records import encode_canonical_json, error_to_json, to_json_value
from ncen_updater.common.messages import (
    RECEIPTS_UNCONFIRMED,
    RELEASE_FAILS_ONCE,
    RELEASE_FAILS_WIDELY,
    RELEASE_HALT_ENDS,
    SITE_CLOCK_WRONG,
    SITE_CONTRADICTED,
    SITE_KEY_DIFFERS,
    SITE_KEY_UNCONFIRMED,
    SITE_RECEIPT_MISSING,
    SITE_RESTORED,
    SITE_SILENT,
)
from ncen_updater.formats.receipt import compute_fingerprint
from ncen_updater.formats.rollout import Waiver
from ncen_updater.publisher.fleet.releases import (
    OUTCOMES,
    Regions,
    ReleaseRow,
    Rollouts,
    build_release_rows,
    find_contact,
    find_region,
)
from ncen_updater.publisher.fleet.store import MOST_UNCONFIRMED, Edition, FleetSite, Mark

#: A site is silent without a receipt for this long; it reports once a month plus up to a day.
SILENT_AFTER = timedelta(days=40)
#: Smallest group of countries that is shown to other countries.
FEWEST_TOGETHER = 3


#: What *Attention* says of marks.
MARKS = {
    Mark.CONTRADICTED: SITE_CONTRADICTED,
    Mark.RESTORED: SITE_RESTORED,
    Mark.GAP: SITE_RECEIPT_MISSING,
    Mark.CLOCK: SITE_CLOCK_WRONG,
}


class Reporting(StrEnum):
    """Whether a site reports."""

    CURRENT = "current"
    SILENT = "silent"
    UNCONFIRMED = "unconfirmed"


@dataclass(frozen=True)
class SiteRow(FleetSite):
    """One site on the board.

    Attributes:
        region: Code of its region; empty if none.
        reported: Day of its last receipt.
        days: Days since then.
        reporting: Whether it reports.
        contact: Contact; empty if ``regions.toml`` lists none.
    """

    region: str
    reported: date
    days: int
    reporting: Reporting
    contact: str

    @property
    def release(self) -> str:
        """Return product and version that it runs."""
        return f"{self.last.product} {self.last.running}"


@dataclass(frozen=True)
class RegionRow:
    """One region on the board.

    Attributes:
        states: Names of countries by the best state of their sites; by "" without a receipt.
        versions: Number of reporting sites by release, newest first.
        sites: Its sites.
    """

    code: str
    name: str
    states: Mapping[str, Sequence[str]]
    versions: tuple[tuple[str, int], ...]
    sites: tuple[SiteRow, ...]


@dataclass(frozen=True)
class Board:
    """Data of all pages.

    Attributes:
        day: Date of the board.
        regions: Regions with their sites.
        releases: Releases, newest first.
        attention: Problems that the Secretariat should handle, urgent ones first; their values
            have a contact, empty if none is listed.
        given_back: Counts published to all countries.
        sums: Counts of deleted receipts, as returned by :meth:`FleetStore.list_sums`.
        names: Country names by code.
    """

    day: date
    regions: tuple[RegionRow, ...]
    releases: tuple[ReleaseRow, ...]
    attention: tuple[UpdaterError, ...]
    given_back: Edition
    sums: tuple[Mapping[str, str | int], ...]
    names: Mapping[str, str]

    def name_countries(self, codes: Iterable[str]) -> LazyText:
        """Join country names; use the code of a country without a region."""
        return join_texts(self.names.get(code, code) for code in codes)

    @property
    def sites(self) -> tuple[SiteRow, ...]:
        """Return all sites, by region."""
        return tuple(site for region in self.regions for site in region.sites)

    @property
    def history(self) -> Mapping[str, tuple[tuple[str, int], ...]]:
        """Group the sums by month, newest first: number of countries by release and outcome."""
        found: dict[str, list[tuple[str, str]]] = {}
        for row in self.sums:
            label = f"{row['outcome']} {row['release']}"
            found.setdefault(str(row["month"]), []).append((label, str(row["country"])))
        return {month: merge_small_groups(pairs) for month, pairs in found.items()}


def build_board(
    sites: Sequence[FleetSite],
    regions: Regions,
    today: date,
    rollouts: Rollouts | None = None,
    waivers: Sequence[tuple[date, Waiver]] = (),
    former: Edition | None = None,
    sums: tuple[Mapping[str, str | int], ...] = (),
    places: tuple[str, LazyText | str] = ("fleet.db", "FEED"),
) -> Board:
    """Compute the board; pure.

    Args:
        sites: Sites from :meth:`FleetStore.list_sites`.
        regions: Regions from ``regions.toml``; may be empty.
        today: Date of the board.
        rollouts: Rollouts of the feed.
        waivers: Waivers from :meth:`FeedDirectory.list_waivers`.
        former: The last published edition.
        sums: Counts from :meth:`FleetStore.list_sums`.
        places: Paths of the record and of the feed, as shown in commands.
    """
    record, feed = places
    rows = [_build_site_row(site, regions, today) for site in sites]
    releases = build_release_rows(sites, regions, today, rollouts or {}, waivers)
    names = {row.country: row.country for row in rows}
    names |= {code: name for one in regions.values() for code, name in one.countries.items()}
    attention = [
        *_list_release_attention(releases, regions, names, feed),
        *_list_site_attention(rows, names, record),
    ]
    in_use = [(row.release, row.country) for row in rows if row.reporting is Reporting.CURRENT]
    return Board(
        day=today,
        regions=tuple(_build_region_rows(rows, regions)),
        releases=releases,
        attention=tuple(sorted(attention, key=lambda one: one.message is not RELEASE_FAILS_WIDELY)),
        given_back=choose_edition(former, today, merge_small_groups(in_use)),
        sums=sums,
        names=names,
    )


def _build_site_row(site: FleetSite, regions: Regions, today: date) -> SiteRow:
    # If the site's clock is ahead, the day of receipt counts.
    reported = min(site.last.day, site.received_on)
    reporting = Reporting.CURRENT if today - reported <= SILENT_AFTER else Reporting.SILENT
    if not site.is_confirmed:
        reporting = Reporting.UNCONFIRMED
    return SiteRow(
        **vars(site),
        region=find_region(regions, site.country),
        reported=reported,
        days=(today - reported).days,
        reporting=reporting,
        contact=find_contact(regions, site.country, site.site),
    )


def _build_region_rows(rows: Sequence[SiteRow], regions: Regions) -> Iterable[RegionRow]:
    for code in [*regions, *sorted({row.region for row in rows} - set(regions))]:
        inside, region = tuple(row for row in rows if row.region == code), regions.get(code)
        countries = region.countries if region else {row.country: row.country for row in inside}
        states: dict[str, list[str]] = {}
        for one, name in countries.items():
            # In alphabetical order, the best state comes first.
            best = min((row.reporting for row in inside if row.country == one), default="")
            states.setdefault(best, []).append(name)
        counted = (row.release for row in inside if row.reporting is Reporting.CURRENT)
        versions = _sort_versions(Counter(counted))
        yield RegionRow(code, region.name if region else "", states, versions, inside)


def _sort_versions(counts: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(counts.items(), key=lambda item: _read_version(item[0]), reverse=True))


def _read_version(label: str) -> Version:
    return Version(label.rpartition(" ")[2])


def _list_release_attention(
    releases: Sequence[ReleaseRow], regions: Regions, names: Mapping[str, str], feed: LazyText | str
) -> Iterable[UpdaterError]:
    for release in releases:
        numbers = {names[one]: find_contact(regions, one) for one in release.failed_countries}
        contacts = [{"name": name, "text": number} for name, number in numbers.items() if number]
        message = RELEASE_FAILS_WIDELY if release.is_halt_proposed else RELEASE_FAILS_ONCE
        until = release.stop[1] if release.stop else None
        if numbers and until != "":
            yield UpdaterError(
                RELEASE_HALT_ENDS if until else message, product=release.product,
                version=release.version, until=until, feed=feed, countries=join_texts(numbers),
                codes=", ".join(release.codes) or "-",
                contact=join_texts(LazyText("{name}: {text}", one) for one in contacts),
            )  # fmt: skip


def _list_site_attention(
    rows: Sequence[SiteRow], names: Mapping[str, str], record: str
) -> Iterable[UpdaterError]:
    if sum(len(row.receipts) for row in rows if not row.is_confirmed) >= MOST_UNCONFIRMED:
        yield UpdaterError(RECEIPTS_UNCONFIRMED, contact="", limit=MOST_UNCONFIRMED)
    confirmed = {row.site for row in rows if row.is_confirmed}
    for row in sorted(rows, key=lambda row: not row.is_confirmed):
        of_key = SITE_KEY_DIFFERS if row.site in confirmed else SITE_KEY_UNCONFIRMED
        of_state = {Reporting.SILENT: [SITE_SILENT], Reporting.UNCONFIRMED: [of_key]}
        of_marks = (MARKS[mark] for mark in sorted(row.marks))
        for message in (*of_state.get(row.reporting, ()), *of_marks):
            yield UpdaterError(
                message, site=row.site, country=names[row.country], contact=row.contact,
                day=format_date(row.reported), record=record,
                fingerprint=encode_as_words(compute_fingerprint(row.key)),
            )  # fmt: skip


def merge_small_groups(pairs: Iterable[tuple[str, str]]) -> tuple[tuple[str, int], ...]:
    """Count countries by release for other countries; no group has fewer than three. Pure.

    Small groups are merged into ``other``. If that is still small, the smallest shown group joins
    it; otherwise its size could be computed from the total.

    Args:
        pairs: Release (or release and outcome) and country.
    """
    countries: dict[str, set[str]] = {}
    for version, country in pairs:
        countries.setdefault(version, set()).add(country)
    shown = {v: len(found) for v, found in countries.items() if len(found) >= FEWEST_TOGETHER}
    other = {c for v, found in countries.items() if v not in shown for c in found}
    while 0 < len(other) < FEWEST_TOGETHER and shown:
        smallest = min(shown, key=lambda name: (shown[name], _read_version(name)))
        del shown[smallest]
        other |= countries[smallest]
    ordered = _sort_versions(shown)
    return (*ordered, ("other", len(other))) if len(other) >= FEWEST_TOGETHER else ordered


def choose_edition(
    former: Edition | None, today: date, counts: tuple[tuple[str, int], ...]
) -> Edition:
    """Return the edition for all countries: the former one until enough has changed. Pure.

    A change by one or two countries would reveal them. So each group, and the total, changes by at
    least three or not at all.
    """
    if former is None:
        return Edition(today, counts)
    old, new = dict(former.counts), dict(counts)
    changes = [new.get(name, 0) - old.get(name, 0) for name in {*old, *new}]
    small = [one for one in (*changes, sum(changes)) if 0 < abs(one) < FEWEST_TOGETHER]
    return former if small or old == new else Edition(today, counts)


# ---- pages -------------------------------------------------------------------------------------


def render_board(board: Board, language: str) -> Mapping[str, bytes]:
    """Render the files of the board, by name: pages, ``fleet.csv`` and ``fleet.json``.

    Args:
        board: The data.
        language: Language of the texts.
    """
    values: dict[str, object] = {"board": board, "join": join_texts}
    values |= {"marks": MARKS, "outcomes": OUTCOMES}
    values["fingerprints"] = {
        row.key: encode_as_words(compute_fingerprint(row.key)) for row in board.sites
    }
    confirmed = [row.last for row in board.sites if row.is_confirmed]
    values["roots"] = Counter(last.root for last in confirmed).most_common()
    values["agents"] = Counter(last.agent for last in confirmed).most_common()
    names = [f"{name}.html" for name in ("index", "releases", "trust", "countries")]
    return {
        **{name: render_page(__package__, name, language, **values) for name in names},
        "fleet.csv": _write_table(board),
        "fleet.json": encode_canonical_json(to_json_value(_to_document(board, language), language)),
    }


#: Columns of each site in ``fleet.csv`` and ``fleet.json``.
_COLUMNS = ("region", "country", "site", "release", "since", "reported", "days", "state", "marks")


def _describe_site(row: SiteRow) -> Mapping[str, object]:
    values = (
        row.region, row.country, row.site, row.release, row.since, row.reported, row.days,
        row.reporting, " ".join(sorted(row.marks)),
    )  # fmt: skip
    return dict(zip(_COLUMNS, values, strict=True))


def _write_table(board: Board) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS)
    writer.writeheader()
    writer.writerows(map(_describe_site, board.sites))
    return text.getvalue().encode()


def _to_document(board: Board, language: str) -> Mapping[str, object]:
    names = ("product", "version", "outcomes", "failed_countries", "codes", "is_halt_proposed")
    return {
        "day": board.day.isoformat(),
        "sites": [{**_describe_site(row), "receipt": row.last.to_json()} for row in board.sites],
        "releases": [{name: getattr(one, name) for name in names} for one in board.releases],
        "attention": [
            error_to_json(one, [one.state] if one.state else (), language)
            for one in board.attention
        ],
        "sums": board.sums,
    }
