"""Regions, what sites reported of each release beside its waves, and the wait for their receipts.

Regions are names for sets of countries, in a file that nobody signs and only the Secretariat reads:
what is signed holds countries. A condition on a wave is signed; the machine that publishes asks it,
and sites never see a list that waits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated

from packaging.version import Version
from pydantic import Field, StringConstraints, TypeAdapter, model_validator

from ncen_updater.common.bounded_io import parse_toml, read_file
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import PUBLICATION_WAITS, REGIONS_INVALID
from ncen_updater.feed.upgrade_path import compute_bucket, find_opening_time
from ncen_updater.formats.errors import describe_mistakes
from ncen_updater.formats.manifest import Country, SignedModel
from ncen_updater.formats.receipt import Fault, Outcome, Receipt
from ncen_updater.formats.rollout import MOST_REASON, PublishCondition, RolloutWave, Waiver
from ncen_updater.publisher.errors import describe_system_error
from ncen_updater.publisher.feed.role_policy import read_publish_condition
from ncen_updater.publisher.fleet.store import NO_WORD, FleetSite, FleetStore, Mark, name_outcome
from ncen_updater.publisher.signing.signing_event import SigningEvent

MAX_BYTES = 100_000
#: Names the leaders of all regions, where a region is asked for.
LEADERS = "leaders"
RegionCode = Annotated[str, StringConstraints(pattern=r"^[A-Z]{2,8}$")]
#: So many countries must report a release's own fault before a halt is proposed.
COUNTRIES_FOR_HALT = 2
#: Signed waves by product and version.
Waves = Mapping[tuple[str, str], tuple[RolloutWave, ...]]


class Region(SignedModel):
    """One region.

    Attributes:
        name: For people.
        countries: Names of its countries, by code.
        leader: The country that leads it.
        contacts: Whom to call, by country or by site.
    """

    name: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    countries: Annotated[
        Mapping[Country, Annotated[str, StringConstraints(min_length=1, max_length=100)]],
        Field(min_length=1, max_length=300),
    ]
    leader: Country
    contacts: Mapping[str, Annotated[str, StringConstraints(pattern=r"^[^\n]{1,200}$")]] = {}

    @model_validator(mode="after")
    def _check_leader(self) -> Region:
        if self.leader not in self.countries:
            words = N_("the leader {leader} is none of its countries")
            raise ValueError(LazyText(words, {"leader": self.leader}))
        return self


Regions = Mapping[str, Region]
_ADAPTER = TypeAdapter(dict[RegionCode, Region])


def read_regions(path: Path | None) -> Regions:
    """Read ``regions.toml``, a table for each region; without a file there are none.

    Raises:
        REGIONS_INVALID: If it is not readable, or a country is in two regions.
    """
    if path is None:
        return {}
    try:
        regions = _ADAPTER.validate_python(parse_toml(read_file(path, MAX_BYTES).decode()))
        seen: dict[str, str] = {}
        for code, region in regions.items():
            for country in region.countries:
                if country in seen:
                    words = N_("{country} is in {first} and in {second}")
                    places = {"country": country, "first": seen[country], "second": code}
                    raise ValueError(LazyText(words, places))
                seen[country] = code
    except OSError as error:
        reason: object = describe_system_error(error)
        raise UpdaterError(REGIONS_INVALID, path=path, reason=reason) from error
    except ValueError as error:
        reason = describe_mistakes(error, "-")
        raise UpdaterError(REGIONS_INVALID, path=path, reason=reason) from error
    return regions


def list_countries(regions: Regions, name: str) -> tuple[str, ...]:
    """Return the countries that ``@NAME`` stands for: of a region, or the leaders of all.

    Raises:
        KeyError: If there is no such region.
    """
    if name == LEADERS:
        return tuple(sorted(region.leader for region in regions.values()))
    return tuple(sorted(regions[name].countries))


def find_region(regions: Regions, country: str) -> str:
    """Return the code of a country's region; empty for none."""
    return next((code for code, one in regions.items() if country in one.countries), "")


def find_contact(regions: Regions, country: str, site: str = "") -> str:
    """Return whom to call about a site or a country; empty where nobody is named."""
    region = regions.get(find_region(regions, country))
    contacts = region.contacts if region else {}
    return contacts.get(site) or contacts.get(country) or ""


# ---- releases ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class CountryRow:
    """One country in the report of one release.

    Attributes:
        leads: Whether it leads a region.
        opens: When the release first opened to one of its sites, where that is known.
        outcomes: Its sites by outcome.
        days: Day and outcome of each change that tells its day.
        downtime: The longest of its sites, and what was predicted there, as a receipt has it.
    """

    country: str
    leads: bool
    opens: date | None
    outcomes: Mapping[str, int]
    days: tuple[tuple[date, str], ...]
    downtime: tuple[int, ...]


@dataclass(frozen=True)
class ReleaseRow:
    """What confirmed sites reported of one release.

    Attributes:
        outcomes: Sites by the last outcome of a change to it.
        failed_countries: Countries in which it failed by its own fault.
        codes: Error codes of those failures, the most frequent first.
        countries: Leaders first, then as it opened to them.
        waves: As they are signed; empty where no feed was given.
        waivers: Publications of it that did not wait for receipts, with their days.
        today: Where its time line ends.
    """

    version: str
    outcomes: Mapping[str, int]
    failed_countries: tuple[str, ...]
    codes: tuple[str, ...]
    countries: tuple[CountryRow, ...]
    waves: tuple[RolloutWave, ...]
    waivers: tuple[tuple[date, Waiver], ...]
    today: date

    @property
    def is_halt_proposed(self) -> bool:
        """Whether enough countries report the release's own fault."""
        return len(self.failed_countries) >= COUNTRIES_FOR_HALT

    @property
    def first_day(self) -> date:
        """Where its time line begins: the first wave or change."""
        days = [day for row in self.countries for day, _ in row.days]
        return min([*days, *(wave.opens.date() for wave in self.waves), self.today])

    def locate(self, day: date) -> float:
        """Return the place of a day on the time line, 0 to 100."""
        last = max([self.today, *(wave.opens.date() for wave in self.waves)])
        return round(100 * (day - self.first_day).days / max((last - self.first_day).days, 1), 1)

    @property
    def longest_s(self) -> int:
        """The longest downtime, real or predicted: the scale of their pictures."""
        return max([1, *(second for row in self.countries for second in row.downtime)])


def find_last_words(site: FleetSite) -> Mapping[tuple[str, str], Receipt]:
    """Return the last word of a site on each release that it changed to, by product and version."""
    last = {}
    for receipt in (signed.receipt for signed in site.receipts):
        release, outcome = name_outcome(receipt)
        if outcome != NO_WORD:
            last[receipt.product, release] = receipt
    return last


def build_release_rows(
    sites: Sequence[FleetSite],
    regions: Regions,
    today: date,
    waves: Waves,
    waivers: Sequence[tuple[date, Waiver]],
) -> tuple[ReleaseRow, ...]:
    """Take of each confirmed site the last word on each release that it changed to, newest first.

    Args:
        sites: All sites.
        regions: For leaders.
        today: The day.
        waves: Of the feed; may be empty.
        waivers: Of the feed.
    """
    confirmed = [(site, find_last_words(site)) for site in sites if site.is_confirmed]
    products = {site.last.product for site, _ in confirmed}
    known = {*waves, *(key for _, words in confirmed for key in words)}
    keys = sorted((key for key in known if key[0] in products), key=lambda key: Version(key[1]))
    leaders = {region.leader for region in regions.values()}
    rows = []
    for key in reversed(keys):
        signed = waves.get(key, ())
        # Only for the newest one is silence worth a word: older ones were passed over.
        opened_by = today if key == keys[-1] else date.min
        reports = [*_list_reports(key, confirmed, signed, opened_by)]
        rows.append(_build_release_row(key, reports, leaders, signed, waivers, today))
    return tuple(rows)


@dataclass(frozen=True)
class _SiteReport:
    """The last word of a site on a release, None where it is awaited."""

    country: str
    opens: date | None
    receipt: Receipt | None

    @property
    def outcome(self) -> str:
        return name_outcome(self.receipt)[1] if self.receipt is not None else NO_WORD


def _list_reports(
    key: tuple[str, str],
    sites: Sequence[tuple[FleetSite, Mapping[tuple[str, str], Receipt]]],
    waves: Sequence[RolloutWave],
    opened_by: date,
) -> Iterator[_SiteReport]:
    """Yield the sites that reported a release, or to which it was open by a day."""
    product, version = key
    for site, words in sites:
        moment = find_opening_time(waves, compute_bucket(site.site, product, version), site.country)
        opens = moment.date() if moment is not None else None
        open_to_it = (opens or date.max) <= opened_by if waves else opened_by > date.min
        older = Version(site.last.running) < Version(version)
        if key in words or (open_to_it and older):
            yield _SiteReport(site.country, opens, words.get(key))


def _build_release_row(
    key: tuple[str, str],
    reports: Sequence[_SiteReport],
    leaders: Collection[str],
    waves: Sequence[RolloutWave],
    waivers: Sequence[tuple[date, Waiver]],
    today: date,
) -> ReleaseRow:
    own = [one for one in reports if one.outcome == f"failed-{Fault.RELEASE}"]
    codes = Counter(one.receipt.code for one in own if one.receipt and one.receipt.code)
    countries = {one.country: one.country in leaders for one in reports}
    rows = [
        _build_country_row(country, leads, [one for one in reports if one.country == country])
        for country, leads in countries.items()
    ]
    return ReleaseRow(
        version=key[1],
        outcomes=Counter(one.outcome for one in reports if one.receipt is not None),
        failed_countries=tuple(sorted({one.country for one in own})),
        codes=tuple(code for code, _ in codes.most_common()),
        countries=tuple(
            sorted(rows, key=lambda row: (not row.leads, row.opens or date.max, row.country))
        ),
        waves=tuple(sorted(waves, key=lambda wave: wave.opens)),
        waivers=tuple(one for one in waivers if (one[1].product, one[1].version) == key),
        today=today,
    )


def _build_country_row(country: str, leads: bool, reports: Sequence[_SiteReport]) -> CountryRow:
    outcomes = [(one.receipt, one.outcome) for one in reports if one.receipt is not None]
    return CountryRow(
        country=country,
        leads=leads,
        opens=min((one.opens for one in reports if one.opens is not None), default=None),
        outcomes=Counter(one.outcome for one in reports),
        days=tuple((receipt.ended, outcome) for receipt, outcome in outcomes if receipt.ended),
        downtime=max((receipt.downtime or () for receipt, _ in outcomes), default=()),
    )


# ---- waves that wait ---------------------------------------------------------------------------


def check_publish_conditions(
    event: SigningEvent, record: Path, waive: str | None
) -> tuple[Waiver, ...]:
    """Refuse an event whose signers asked for more receipts than came; return what is waived.

    Args:
        event: To be published.
        record: The database of receipts.
        waive: Why it is published all the same.

    Raises:
        PUBLICATION_WAITS: If too few countries reported.
        FLEET_UNUSABLE: If the database cannot be used.
    """
    waived = []
    for draft in event.drafts.values():
        condition = read_publish_condition(draft.signed)
        if condition is None:
            continue
        product, version, count = condition.product, condition.version, condition.count
        with FleetStore.open(record) as store:
            reached = list_soaked_countries(store.list_sites(), condition)
        if len(reached) >= count:
            continue
        if not waive:
            missing = ", ".join(one for one in condition.countries if one not in reached)
            raise UpdaterError(
                PUBLICATION_WAITS, version=version, reached=len(reached), count=count,
                countries=missing,
            )  # fmt: skip
        waived.append(Waiver(
            product=product, version=version, count=count, reached=len(reached),
            reason=waive[:MOST_REASON],
        ))  # fmt: skip
    return tuple(waived)


def list_soaked_countries(
    sites: Sequence[FleetSite], condition: PublishCondition
) -> tuple[str, ...]:
    """List the countries of a condition whose confirmed sites say upgraded and soaked; pure.

    A country does not count while one of its sites reports the release's own fault or contradicts
    itself.
    """
    good: set[str] = set()
    bad: set[str] = set()
    for site in sites:
        if not site.is_confirmed or site.country not in condition.countries:
            continue
        last = find_last_words(site).get((condition.product, condition.version))
        if last is not None and last.fault is Fault.RELEASE:
            bad.add(site.country)
        elif last is not None and last.outcome is Outcome.UPGRADED and last.soaked:
            (bad if Mark.CONTRADICTED in site.marks else good).add(site.country)
    return tuple(sorted(good - bad))
