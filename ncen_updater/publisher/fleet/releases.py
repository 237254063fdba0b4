"""Regions, reports of sites by release and wave, and conditions for the publication of waves.

Regions are named sets of countries, in an unsigned file that only the Secretariat reads; signed
metadata contains countries. The condition of a wave is signed. The machine that publishes checks
it, so sites never receive metadata whose condition is not met.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property
from pathlib import Path
from typing import Annotated

from packaging.version import Version
from pydantic import Field, StringConstraints, TypeAdapter, model_validator

from ncen_updater.common.bounded_io import parse_toml, read_file
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText, join_texts
from ncen_updater.common.messages import PUBLICATION_WAITS, REGIONS_INVALID
from ncen_updater.feed.upgrade_path import compute_bucket, find_opening_time
from ncen_updater.formats.errors import describe_mistakes
from ncen_updater.formats.manifest import Country, SignedModel
from ncen_updater.formats.receipt import Fault, Outcome, Receipt
from ncen_updater.formats.rollout import PublishCondition, RolloutWave, Waiver
from ncen_updater.publisher.distribute.emergency_halts import Stop
from ncen_updater.publisher.errors import describe_system_error
from ncen_updater.publisher.feed.role_policy import read_publish_condition
from ncen_updater.publisher.fleet.store import NO_WORD, FleetSite, FleetStore, Mark, name_outcome
from ncen_updater.publisher.signing.signing_event import SigningEvent

MAX_BYTES = 100_000
#: Stands for the leading countries of all regions where a region name is expected.
LEADERS = "leaders"
RegionCode = Annotated[str, StringConstraints(pattern=r"^[A-Z]{2,8}$")]
#: Number of countries with a failure caused by the release from which a halt is proposed.
COUNTRIES_FOR_HALT = 2
#: Outcome of a failure caused by the release.
OWN_FAULT = f"failed-{Fault.RELEASE}"
#: Older changes do not stretch the time line of a release.
YEAR = timedelta(days=365)
#: A release: product and version.
ReleaseKey = tuple[str, str]
#: Signed waves of releases, and :data:`Stop` of those that no site may start to install.
Rollouts = Mapping[ReleaseKey, tuple[tuple[RolloutWave, ...], Stop | None]]
#: States of a site or country in the report on a release. For a condition, the first one counts.
OUTCOMES = {
    "contradicted": LazyText(N_("contradictory receipts")),
    OWN_FAULT: LazyText(N_("failed, release at fault")),
    "upgraded": LazyText(N_("upgraded, soak period completed")),
    "upgraded-early": LazyText(N_("upgraded, soak period ended by a person")),
    "failed-site": LazyText(N_("failed, site at fault")),
    "failed-interrupted": LazyText(N_("interrupted")),
    "rolled-back": LazyText(N_("rolled back by people")),
    "unconfirmed": LazyText(N_("key not confirmed")),
    NO_WORD: LazyText(N_("nothing reported")),
}


class Region(SignedModel):
    """One region.

    Attributes:
        name: Display name.
        countries: Names of its countries, by code.
        leader: Code of its leading country.
        contacts: Contacts by country or by site.
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
    """Read ``regions.toml``, which has one table per region; return none without a file.

    Raises:
        REGIONS_INVALID: If it is unreadable, or a country is in two regions.
    """
    if path is None:
        return {}
    try:
        regions = _ADAPTER.validate_python(parse_toml(read_file(path, MAX_BYTES).decode()))
        for code, region in regions.items():
            for country in region.countries:
                if (first := find_region(regions, country)) != code:
                    words = N_("{country} is in {first} and in {second}")
                    places = {"country": country, "first": first, "second": code}
                    raise ValueError(LazyText(words, places))
    except (OSError, ValueError) as error:
        of_system = isinstance(error, OSError)
        reason = describe_system_error(error) if of_system else describe_mistakes(error, "-")
        raise UpdaterError(REGIONS_INVALID, path=path, reason=reason) from error
    return regions


def list_countries(regions: Regions, name: str) -> tuple[str, ...]:
    """Return the countries of ``@NAME``: a region, or the leading countries of all regions.

    Raises:
        KeyError: If the region does not exist.
    """
    if name == LEADERS:
        return tuple(sorted(region.leader for region in regions.values()))
    return tuple(sorted(regions[name].countries))


def find_region(regions: Regions, country: str) -> str:
    """Return the code of a country's region; empty if none."""
    return next((code for code, one in regions.items() if country in one.countries), "")


def find_contact(regions: Regions, country: str, site: str = "") -> str:
    """Return the contact of a site or its country; empty if none is listed."""
    region = regions.get(find_region(regions, country))
    contacts = region.contacts if region else {}
    return contacts.get(site) or contacts.get(country) or ""


# ---- releases ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class SiteReport:
    """Last report of a site on a release.

    Attributes:
        country: Country of the site.
        opens: Day when the release opened to the site; None if unknown, or without a confirmed key.
        receipt: None while a report is awaited, or if the key of the site is not confirmed.
        outcome: Outcome as the board counts it.
    """

    country: str
    opens: date | None
    receipt: Receipt | None
    outcome: str


@dataclass(frozen=True)
class CountryRow:
    """One country in the report on a release.

    Attributes:
        leads: Whether it leads a region.
        reports: Reports of its sites.
    """

    country: str
    leads: bool
    reports: tuple[SiteReport, ...]

    @property
    def opens(self) -> date | None:
        """Return the day when the release first opened to one of its sites; None if unknown."""
        return min((one.opens for one in self.reports if one.opens is not None), default=None)

    @property
    def outcomes(self) -> Mapping[str, int]:
        """Return the number of its sites by outcome."""
        return Counter(one.outcome for one in self.reports)

    @cached_property
    def days(self) -> tuple[tuple[date, str], ...]:
        """Return day and outcome of each change with a known day."""
        found = [(one.receipt.ended, one.outcome) for one in self.reports if one.receipt]
        return tuple((day, outcome) for day, outcome in found if day)

    @property
    def downtime(self) -> tuple[int, ...]:
        """Return the longest downtime of its sites with its prediction, as in a receipt."""
        found = [one.receipt.downtime or () for one in self.reports if one.receipt]
        return max(found, default=())


@dataclass(frozen=True)
class ReleaseRow:
    """Reports of sites on one release.

    Leading countries without a confirmed key are listed, and not counted.

    Attributes:
        countries: Leading countries first, then by opening day.
        waves: Signed waves; empty without a feed.
        stop: Set if no site may start to install it.
        waivers: Publications that did not wait for receipts, with their days.
        today: Date of the board.
    """

    product: str
    version: str
    countries: tuple[CountryRow, ...]
    waves: tuple[RolloutWave, ...]
    stop: Stop | None
    waivers: tuple[tuple[date, Waiver], ...]
    today: date

    @cached_property
    def reports(self) -> tuple[SiteReport, ...]:
        """Return the reports that are not awaited."""
        return tuple(one for row in self.countries for one in row.reports if one.receipt)

    @property
    def outcomes(self) -> Mapping[str, int]:
        """Return the number of sites by their last outcome."""
        return Counter(one.outcome for one in self.reports)

    @property
    def failed_countries(self) -> tuple[str, ...]:
        """Return the countries with a failure caused by the release."""
        return tuple(sorted({row.country for row in self.countries if OWN_FAULT in row.outcomes}))

    @property
    def codes(self) -> tuple[str, ...]:
        """Return the error codes of these failures, most frequent first."""
        failed = [one.receipt for one in self.reports if one.outcome == OWN_FAULT]
        codes = Counter(receipt.code for receipt in failed if receipt)
        return tuple(code for code, _ in codes.most_common() if code)

    @property
    def is_halt_proposed(self) -> bool:
        """Whether enough countries report a failure by the release, and nobody has stopped it."""
        return self.stop is None and len(self.failed_countries) >= COUNTRIES_FOR_HALT

    @cached_property
    def first_day(self) -> date:
        """Start of the time line: the first wave, or the first change of the last year."""
        days = [day for row in self.countries for day, _ in row.days if self.today - day < YEAR]
        return min([*days, *(wave.opens.date() for wave in self.waves), self.today])

    @property
    def last_day(self) -> date:
        """End of the time line: today, or the last wave."""
        return max([self.today, *(wave.opens.date() for wave in self.waves)])

    def locate(self, day: date) -> float:
        """Return the position of a day on the time line, 0 to 100."""
        days = (self.last_day - self.first_day).days
        place = 100 * (day - self.first_day).days / max(days, 1)
        return round(min(max(place, 0), 100), 1)

    @cached_property
    def longest_s(self) -> int:
        """Longest actual or predicted downtime in seconds: the scale of the bars."""
        return max([1, *(second for row in self.countries for second in row.downtime)])


def find_last_words(site: FleetSite) -> Mapping[tuple[str, str], Receipt]:
    """Return the last report of a site on each release, by product and version."""
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
    rollouts: Rollouts,
    waivers: Sequence[tuple[date, Waiver]],
) -> tuple[ReleaseRow, ...]:
    """Build one row per release, newest first, from the last reports of the sites.

    A site with an unconfirmed key is listed if its country leads, for which a publication waits.
    Anybody can send receipts of other such sites.

    Args:
        sites: All sites.
        regions: Regions, for their leading countries.
        today: Date of the board.
        rollouts: Rollouts of the feed; may be empty.
        waivers: Waivers of the feed.
    """
    leaders = {region.leader for region in regions.values()}
    listed = [site for site in sites if site.is_confirmed or site.country in leaders]
    reported = [(site, find_last_words(site)) for site in listed]
    products = {site.last.product for site in listed}
    known = {key for site, words in reported if site.is_confirmed for key in words}
    known |= {key for key, (waves, _) in rollouts.items() if waves}
    keys = [key for key in known if key[0] in products]
    keys.sort(key=lambda key: (key[0], Version(key[1])))
    newest = dict(keys)
    rows = []
    for key in reversed(keys):
        waves, stop = rollouts.get(key, ((), None))
        # Missing reports are listed for the newest release only; sites may have skipped older ones.
        opened_by = today if newest[key[0]] == key[1] else date.min
        reports: dict[str, list[SiteReport]] = {}
        for report in _list_reports(key, reported, waves, opened_by):
            reports.setdefault(report.country, []).append(report)
        countries = [
            CountryRow(country, country in leaders, tuple(found))
            for country, found in reports.items()
        ]
        countries.sort(key=lambda row: (not row.leads, row.opens or date.max, row.country))
        rows.append(ReleaseRow(
            *key, countries=tuple(countries), today=today, stop=stop,
            waves=tuple(sorted(waves, key=lambda wave: wave.opens)),
            waivers=tuple(one for one in waivers if (one[1].product, one[1].version) == key),
        ))  # fmt: skip
    return tuple(rows)


def _list_reports(
    key: tuple[str, str],
    sites: Sequence[tuple[FleetSite, Mapping[tuple[str, str], Receipt]]],
    waves: Sequence[RolloutWave],
    opened_by: date,
) -> Iterator[SiteReport]:
    """Yield sites that reported on a release, or run an older one although it opened by a day."""
    product, version = key
    for site, words in sites:
        moment = find_opening_time(waves, compute_bucket(site.site, product, version), site.country)
        opens = moment.date() if moment is not None else None
        open_to_it = (opens or date.max) <= opened_by if waves else opened_by > date.min
        last = site.last
        older = last.product == product and Version(last.running) < Version(version)
        if key in words or (open_to_it and older):
            receipt = words.get(key)
            if not site.is_confirmed:
                yield SiteReport(site.country, None, None, "unconfirmed")
                continue
            outcome = name_outcome(receipt)[1] if receipt is not None else NO_WORD
            yield SiteReport(site.country, opens, receipt, outcome)


# ---- publication conditions --------------------------------------------------------------------


def check_publish_conditions(
    event: SigningEvent, record: Path, waive: str | None
) -> tuple[Waiver, ...]:
    """Refuse an event if receipts required by its signers are missing; return the waivers.

    Args:
        event: Event to publish.
        record: Database of receipts.
        waive: Reason to publish although receipts are missing.

    Raises:
        PUBLICATION_WAITS: If too few countries have reported.
        FLEET_UNUSABLE: If the database is unusable.
    """
    waived = []
    for draft in event.drafts.values():
        condition = read_publish_condition(draft.signed)
        if condition is None:
            continue
        product, version, count = condition.product, condition.version, condition.count
        with FleetStore.open(record, create=False) as store:
            states = judge_countries(store.list_sites(), condition)
        missing = {one: state for one, state in states.items() if state != Outcome.UPGRADED}
        reached = len(states) - len(missing)
        if reached >= count:
            continue
        if not waive:
            pairs = ({"name": one, "text": OUTCOMES[state]} for one, state in missing.items())
            raise UpdaterError(
                PUBLICATION_WAITS, version=version, reached=reached, count=count,
                countries=join_texts(LazyText("{name}: {text}", one) for one in pairs),
            )  # fmt: skip
        values = {"product": product, "version": version, "count": count, "reached": reached}
        waived.append(Waiver.model_validate({**values, "reason": waive}))
    return tuple(waived)


def judge_countries(sites: Sequence[FleetSite], condition: PublishCondition) -> Mapping[str, str]:
    """Return the state of each country of a condition, of :data:`OUTCOMES`. Pure.

    A country counts if its state is ``upgraded``: one of its sites completed the soak period, and
    none reports a failure caused by the release or sent contradictory receipts.
    """
    found: dict[str, list[str]] = {country: [NO_WORD] for country in condition.countries}
    for site in sites:
        last = find_last_words(site).get((condition.product, condition.version))
        state = name_outcome(last)[1] if last else NO_WORD
        state = Mark.CONTRADICTED if Mark.CONTRADICTED in site.marks else state
        found.get(site.country, []).append(state if site.is_confirmed else "unconfirmed")
    return {country: min(states, key=[*OUTCOMES].index) for country, states in found.items()}
