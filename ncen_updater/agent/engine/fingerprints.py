"""Fingerprints of schemas in the journal: what the databases looked like before a change and after.

A way back to kept databases runs nothing of the older release. That they are what that release ran
on is proven by the fingerprint that the upgrade took of its copies before it migrated them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from packaging.version import InvalidVersion, Version

from ncen_updater.agent.databases.base import DatabaseEngine, Live, PlaceOf
from ncen_updater.agent.databases.side_by_side import side_by_side
from ncen_updater.agent.engine.situation import ADOPTED
from ncen_updater.agent.journal.facts import TakenBy
from ncen_updater.agent.journal.journal import Journal
from ncen_updater.agent.journal.wordings import Wordings
from ncen_updater.common.findings import Finding, Severity
from ncen_updater.common.i18n import N_, Text

__all__ = [
    "CALL",
    "FORM",
    "ExpectedSchemas",
    "KnownSchemas",
    "differing",
    "expected_before",
    "fingerprints_of",
    "schema_findings",
    "taken_by",
]

#: Raise it whenever an engine describes a schema in other words than before: what was recorded
#: until then cannot be compared any more.
FORM = 1

#: What to do where reality is not what was recorded.
CALL = Text(
    N_("Do not upgrade; send the Secretariat what 'ncen-updater doctor' and 'history' say.")
)


def fingerprints_of(engine: DatabaseEngine, places: PlaceOf) -> dict[str, str]:
    """Take the fingerprint of each database, side by side: officers may be out meanwhile."""
    return side_by_side(
        {name: partial(engine.fingerprint, places(name)) for name in engine.names},
        halt=engine.halt,
    )


def schema_findings(
    engine: DatabaseEngine, expected: Mapping[str, object], wordings: Wordings
) -> Iterator[Finding]:
    """Yield a finding for each live database whose schema was changed since it was migrated.

    Args:
        engine: The databases.
        expected: The fingerprints of then, by logical name, as far as they are known.
        wordings: What restores worded anew.
    """
    for name in engine.names:
        if name not in expected:
            continue
        if not wordings.same(name, expected[name], engine.fingerprint(Live(name))):
            values: dict[str, object] = {"database": name}
            what = Text(N_("The schema of {database} was changed since it was migrated."), values)
            yield Finding("NU-6106", Severity.STRICT, what, CALL, values)


def taken_by(engine: DatabaseEngine) -> TakenBy:
    """Return by what fingerprints are taken now."""
    return TakenBy(FORM, engine.kind, _major(engine.version()))


def _major(version: str) -> int:
    try:
        return Version(version).major
    except InvalidVersion:
        return 0


class KnownSchemas(StrEnum):
    """What is known of kept databases."""

    BEFORE = "before"  # taken of the very copies, before the upgrade migrated them
    EARLIER = "earlier"  # taken when their release came: it may have changed them while it ran
    NOTHING = "nothing"


@dataclass(frozen=True)
class ExpectedSchemas:
    """The fingerprints that kept databases should have, and how far they can be relied on."""

    known: KnownSchemas
    fingerprints: Mapping[str, str]


def expected_before(journal: Journal, source: str, engine: DatabaseEngine) -> ExpectedSchemas:
    """Return what the databases that an upgrade kept should look like.

    Args:
        journal: The journal.
        source: The upgrade.
        engine: The databases; fingerprints that another server took are not compared.
    """
    facts = journal.facts(source)
    before = facts.fingerprints_before
    if before and facts.fingerprints_by == taken_by(engine):
        return ExpectedSchemas(KnownSchemas.BEFORE, before)
    earlier = None if before else _of_the_release_before(journal, source)
    if earlier:
        return ExpectedSchemas(KnownSchemas.EARLIER, earlier)
    return ExpectedSchemas(KnownSchemas.NOTHING, {})


def _of_the_release_before(journal: Journal, source: str) -> Mapping[str, str]:
    """What an agent that took none before migrating recorded when the older release came."""
    changes = journal.changes()
    places = [place for place, change in enumerate(changes) if change.id == source]
    for change in changes[places[0] + 1 :] if places else ():
        if change.commit_written:
            return journal.facts(change.id).fingerprints or {}
    adopted = [event for event in journal.events() if event.kind == ADOPTED]
    return _texts(adopted[-1].data.get("fingerprints")) if adopted else {}


def _texts(value: object) -> Mapping[str, str]:
    if not isinstance(value, dict):
        return {}
    return {str(name): str(text) for name, text in value.items()}


def differing(expected: Mapping[str, str], found: Mapping[str, str]) -> tuple[str, ...]:
    """Return the databases whose fingerprint is known and is another; pure."""
    return tuple(n for n, text in found.items() if n in expected and expected[n] != text)
