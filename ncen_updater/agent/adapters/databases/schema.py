"""Kinds of schema objects: those that only hold data, and those that are code.

A release may declare that its application changes the first kind while it runs. Code, and objects
that call it, can never be declared: so a planted function, or an index or check that calls one, is
always found. Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.formats.manifest import SelfManagedObject

#: Key and version of the format in a record of kinds. Increase the version whenever an engine sorts
#: or describes objects differently.
FORMAT_KEY, FORMAT_VERSION = "form", "1"


class SchemaKind(StrEnum):
    """Kinds of schema objects; a release may declare only the first five."""

    TABLES = SelfManagedObject.TABLES.value
    COLUMNS = SelfManagedObject.COLUMNS.value
    CONSTRAINTS = SelfManagedObject.CONSTRAINTS.value
    INDEXES = SelfManagedObject.INDEXES.value
    SEQUENCES = SelfManagedObject.SEQUENCES.value
    COMPUTED_COLUMNS = "computed-columns"
    CALLING_CONSTRAINTS = "calling-constraints"
    CALLING_INDEXES = "calling-indexes"
    VIEWS = "views"
    EXTERNAL_TABLES = "outside-tables"
    TRIGGERS = "triggers"
    RULES = "rules"
    FUNCTIONS = "functions"
    EXTENSION_FUNCTIONS = "member-functions"
    CASTS = "casts"
    TYPES = "types"
    POLICIES = "policies"
    EXTENSIONS = "extensions"


_LABELS: Mapping[SchemaKind, str] = {
    SchemaKind.TABLES: N_("tables"),
    SchemaKind.COLUMNS: N_("columns"),
    SchemaKind.CONSTRAINTS: N_("constraints"),
    SchemaKind.INDEXES: N_("indexes"),
    SchemaKind.SEQUENCES: N_("sequences"),
    SchemaKind.COMPUTED_COLUMNS: N_("generated columns and defaults"),
    SchemaKind.CALLING_CONSTRAINTS: N_("constraints that call functions"),
    SchemaKind.CALLING_INDEXES: N_("indexes that call functions"),
    SchemaKind.VIEWS: N_("views"),
    SchemaKind.EXTERNAL_TABLES: N_("foreign or virtual tables"),
    SchemaKind.TRIGGERS: N_("triggers"),
    SchemaKind.RULES: N_("rules"),
    SchemaKind.FUNCTIONS: N_("functions"),
    SchemaKind.EXTENSION_FUNCTIONS: N_("functions added to extensions"),
    SchemaKind.CASTS: N_("casts"),
    SchemaKind.TYPES: N_("types"),
    SchemaKind.POLICIES: N_("row-level security"),
    SchemaKind.EXTENSIONS: N_("extensions"),
}
#: Kinds that the fingerprint of the whole schema does not cover.
KINDS_OUTSIDE_FINGERPRINT = frozenset(
    {SchemaKind.RULES, SchemaKind.CASTS, SchemaKind.EXTENSION_FUNCTIONS}
)


@dataclass(frozen=True)
class SchemaDigest:
    """Digests of the schema of one database.

    Attributes:
        fingerprint: Digest of the whole schema.
        kinds: Digest of each kind that occurs, and the version of the format.
    """

    fingerprint: str
    kinds: Mapping[str, str]


def build_schema_digest(
    items: Iterable[tuple[SchemaKind, str]], fingerprint_lines: Iterable[str]
) -> SchemaDigest:
    """Build the digests of a schema.

    Args:
        items: All schema objects with their kind, each in a canonical form.
        fingerprint_lines: The lines of which the fingerprint is computed.
    """
    by_kind: dict[str, list[str]] = {}
    for kind, described in items:
        by_kind.setdefault(kind.value, []).append(described)
    kinds = {kind: _digest(found) for kind, found in sorted(by_kind.items())}
    return SchemaDigest(_digest(fingerprint_lines), {FORMAT_KEY: FORMAT_VERSION, **kinds})


def _digest(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def find_changed_kinds(
    recorded: Mapping[str, object], current: Mapping[str, str]
) -> tuple[SchemaKind, ...] | None:
    """Return the kinds in which a schema differs from the record; None if unknown.

    Args:
        recorded: The recorded digests; empty if there are none.
        current: The current digests.
    """
    if not recorded or recorded.get(FORMAT_KEY) != current.get(FORMAT_KEY):
        return None
    return tuple(kind for kind in SchemaKind if recorded.get(kind.value) != current.get(kind.value))


def format_kinds(kinds: Collection[str]) -> LazyText:
    """Format the names of kinds for messages, in the order of :class:`SchemaKind`."""
    found = [_LABELS[kind] for kind in SchemaKind if kind.value in kinds]
    names = {f"k{number}": LazyText(label) for number, label in enumerate(found)}
    return LazyText(", ".join(f"{{{name}}}" for name in names), names)
