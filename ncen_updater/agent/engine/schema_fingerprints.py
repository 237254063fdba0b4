"""Fingerprints of the schemas before and after a change, as recorded in the journal.

A rollback to previous databases runs no code of the older release. It verifies these databases by
the fingerprints that the upgrade took of its copies before it migrated them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from packaging.version import InvalidVersion, Version

from ncen_updater.agent.adapters.databases.base import (
    DatabaseEngine,
    DatabaseSelector,
    LiveDatabase,
)
from ncen_updater.agent.adapters.databases.parallel import run_in_parallel
from ncen_updater.agent.adapters.databases.schema import (
    KINDS_OUTSIDE_FINGERPRINT,
    SchemaKind,
    find_changed_kinds,
    format_kinds,
)
from ncen_updater.agent.engine.observed_state import read_recorded_state
from ncen_updater.agent.model.change_facts import FingerprintSource
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common.findings import Finding, Severity
from ncen_updater.common.i18n import N_, LazyText

if TYPE_CHECKING:
    from ncen_updater.agent.engine.site import Site

#: Increase it whenever an engine describes a schema differently; fingerprints recorded before are
#: no longer compared.
FINGERPRINT_FORMAT = 1

#: Remedy for a schema that was changed outside an upgrade.
DRIFT_REMEDY = N_(
    "Have the change in {database} undone. To accept it, two approvers run: sudo"
    " ncen-updater adopt --restored {version} --reason TEXT"
)


@dataclass(frozen=True)
class DatabaseSchemas:
    """Schemas of all databases, by logical name.

    Attributes:
        fingerprints: Fingerprint of each schema.
        kinds: Fingerprint of each kind of its objects.
    """

    fingerprints: Mapping[str, str]
    kinds: Mapping[str, Mapping[str, str]]


def read_schemas(engine: DatabaseEngine, select: DatabaseSelector) -> DatabaseSchemas:
    """Read the schema of each database, in parallel, since this may be part of the downtime."""
    schemas = run_in_parallel(
        {name: partial(engine.read_schema, select(name)) for name in engine.names},
        cancel=engine.cancel_sessions,
    )
    return DatabaseSchemas(
        {name: schema.fingerprint for name, schema in schemas.items()},
        {name: schema.kinds for name, schema in schemas.items()},
    )


def read_fingerprints(engine: DatabaseEngine, select: DatabaseSelector) -> Mapping[str, str]:
    """Compute the fingerprint of each database, in parallel."""
    return read_schemas(engine, select).fingerprints


def find_schema_drift(site: Site, journal: Journal) -> Iterator[Finding]:
    """Yield a finding for each live database whose schema differs from the recorded one.

    Nothing is yielded if no release is installed, nothing was recorded, or the fingerprints were
    computed with another server version.
    """
    engine, current, recorded = (
        site.database_engine,
        site.slots.read_current(),
        read_recorded_state(journal),
    )
    source = journal.read_facts(recorded.change.id).fingerprint_source if recorded.change else None
    if current is None or (source is not None and source != read_fingerprint_source(engine)):
        return
    manifest = site.slots.read_document(current).manifest
    declared = {item.name: item.self_managed or () for item in manifest.databases}
    for name in engine.names:
        if name not in recorded.fingerprints:
            continue
        schema, fingerprint = engine.read_schema(LiveDatabase(name)), recorded.fingerprints[name]
        kinds = find_changed_kinds(recorded.schema_kinds.get(name, {}), schema.kinds)
        same = fingerprint == schema.fingerprint
        drift = judge_drift(same=same, kinds=kinds, declared=declared.get(name, ()))
        if drift is not None:
            yield drift.to_finding(name, current)


@dataclass(frozen=True)
class SchemaDrift:
    """Schema that differs from the recorded one.

    Attributes:
        kinds: Kinds of objects that differ; None if unknown.
        declared: Whether the release declares that the application makes such changes.
    """

    kinds: tuple[SchemaKind, ...] | None
    declared: bool = False

    def to_finding(self, database: str, version: Version) -> Finding:
        """Return the finding; ``version`` is the installed release."""
        figures: dict[str, object] = {"database": database}
        values: dict[str, object] = {"database": database, "version": version}
        if self.kinds is not None:
            values["kinds"] = format_kinds(self.kinds)
            figures["kinds"] = [kind.value for kind in self.kinds]
        if self.declared:
            return Finding(
                "NU-6143",
                Severity.INFO,
                LazyText(
                    N_(
                        "Schema of {database} changed by the application, as declared by"
                        " the release: {kinds}"
                    ),
                    values,
                ),
                LazyText(""),
                figures,
            )
        return Finding(
            "NU-6106",
            Severity.CRITICAL,
            LazyText(
                N_("Schema of {database} changed outside an upgrade")
                if self.kinds is None
                else N_("Schema of {database} changed outside an upgrade: {kinds}"),
                values,
            ),
            LazyText(DRIFT_REMEDY, values),
            figures,
        )


def judge_drift(
    *, same: bool, kinds: tuple[SchemaKind, ...] | None, declared: Collection[str]
) -> SchemaDrift | None:
    """Tell whether a schema was changed, and whether the release declares this; pure.

    Args:
        same: Whether the fingerprint of the whole schema is the recorded one.
        kinds: Kinds of objects that differ; None if they were not recorded.
        declared: Kinds that the application changes itself.
    """
    if same:
        # Some kinds are not part of the whole fingerprint, so they are compared separately.
        separate = tuple(kind for kind in kinds or () if kind in KINDS_OUTSIDE_FINGERPRINT)
        return SchemaDrift(separate) if separate else None
    # No differing kind although the whole differs: treated as unknown, not as declared.
    return SchemaDrift(kinds or None, declared=bool(kinds) and set(kinds or ()) <= set(declared))


def read_fingerprint_source(engine: DatabaseEngine) -> FingerprintSource:
    """Return format, engine and server version with which fingerprints are computed now."""
    return FingerprintSource(
        FINGERPRINT_FORMAT, engine.engine_name, _parse_major(engine.read_version())
    )


def _parse_major(version: str) -> int:
    try:
        return Version(version).major
    except InvalidVersion:
        return 0


def read_expected_fingerprints(
    journal: Journal, source: str, engine: DatabaseEngine
) -> Mapping[str, str]:
    """Return the expected fingerprints of the previous databases of an upgrade; empty if unknown.

    Args:
        journal: The journal.
        source: The upgrade.
        engine: The databases; fingerprints of another server version are not compared.
    """
    facts = journal.read_facts(source)
    comparable = facts.fingerprint_source == read_fingerprint_source(engine)
    return (facts.fingerprints_before or {}) if comparable else {}


def list_differing(expected: Mapping[str, str], actual: Mapping[str, str]) -> tuple[str, ...]:
    """Return the databases whose fingerprint differs from a known expected one; pure."""
    return tuple(n for n, text in actual.items() if n in expected and expected[n] != text)
