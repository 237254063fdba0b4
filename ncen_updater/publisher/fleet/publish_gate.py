"""Publication that waits for receipts: the condition is signed, the machine that publishes asks it.

Sites do not read the condition: until it is met they see no list that contains it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import PUBLICATION_WAITS
from ncen_updater.formats.receipt import Fault, Outcome
from ncen_updater.formats.rollout import PublishCondition
from ncen_updater.publisher.feed.role_policy import read_publish_condition
from ncen_updater.publisher.fleet.release_rows import find_last_words
from ncen_updater.publisher.fleet.store import FleetSite, FleetStore, Mark, Waiver
from ncen_updater.publisher.signing.signing_event import SigningEvent


def check_publish_conditions(
    event: SigningEvent, record: Path, waive: str | None, today: date
) -> None:
    """Refuse an event whose signers asked for more receipts than came; record why one is not.

    Args:
        event: To be published.
        record: The database of receipts.
        waive: Why it is published all the same.
        today: The day.

    Raises:
        PUBLICATION_WAITS: If too few countries reported.
        FLEET_UNUSABLE: If the database cannot be used.
    """
    for draft in event.drafts.values():
        condition = read_publish_condition(draft.signed)
        if condition is None:
            continue
        version, count = condition.version, condition.count
        with FleetStore.open(record) as store:
            reached = list_soaked_countries(store.list_sites(), condition)
            if len(reached) < count and not waive:
                missing = ", ".join(one for one in condition.countries if one not in reached)
                raise UpdaterError(
                    PUBLICATION_WAITS, version=version, reached=len(reached), count=count,
                    countries=missing,
                )  # fmt: skip
            if len(reached) < count:
                store.record_waiver(
                    Waiver(today, condition.product, version, count, reached, waive or "")
                )


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
