"""What a schema is made of, by kinds of things: those that only hold data, and those that are code.

An application may change the first by itself once it runs, where its release says so. What is code
or calls some is a kind of its own and can never be declared: a planted function, or an index or a
check that calls one, is found whatever a release says (decision 92). Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from ncen_updater.common.i18n import N_, Text
from ncen_updater.formats.manifest import ChangedItself

#: Under which name a record says by what its kinds were told apart, and by what they are now:
#: raise it whenever an engine sorts or describes them otherwise.
FORM, FORM_NOW = "form", "1"


class SchemaKind(StrEnum):
    """Kinds of things in a schema; the first five are those that a release may declare."""

    TABLES = ChangedItself.TABLES.value
    COLUMNS = ChangedItself.COLUMNS.value
    CONSTRAINTS = ChangedItself.CONSTRAINTS.value
    INDEXES = ChangedItself.INDEXES.value
    SEQUENCES = ChangedItself.SEQUENCES.value
    COMPUTED_COLUMNS = "computed-columns"
    CALLING_CONSTRAINTS = "calling-constraints"
    CALLING_INDEXES = "calling-indexes"
    VIEWS = "views"
    OUTSIDE_TABLES = "outside-tables"
    TRIGGERS = "triggers"
    RULES = "rules"
    FUNCTIONS = "functions"
    MEMBER_FUNCTIONS = "member-functions"
    CASTS = "casts"
    TYPES = "types"
    POLICIES = "policies"
    EXTENSIONS = "extensions"


_WORDS: Mapping[SchemaKind, str] = {
    SchemaKind.TABLES: N_("tables"),
    SchemaKind.COLUMNS: N_("columns"),
    SchemaKind.CONSTRAINTS: N_("constraints"),
    SchemaKind.INDEXES: N_("indexes"),
    SchemaKind.SEQUENCES: N_("sequences"),
    SchemaKind.COMPUTED_COLUMNS: N_("computed columns and defaults"),
    SchemaKind.CALLING_CONSTRAINTS: N_("constraints that call functions"),
    SchemaKind.CALLING_INDEXES: N_("indexes that call functions"),
    SchemaKind.VIEWS: N_("views"),
    SchemaKind.OUTSIDE_TABLES: N_("foreign or virtual tables"),
    SchemaKind.TRIGGERS: N_("triggers"),
    SchemaKind.RULES: N_("rules"),
    SchemaKind.FUNCTIONS: N_("functions"),
    SchemaKind.MEMBER_FUNCTIONS: N_("functions that were put into extensions"),
    SchemaKind.CASTS: N_("casts"),
    SchemaKind.TYPES: N_("types"),
    SchemaKind.POLICIES: N_("row security"),
    SchemaKind.EXTENSIONS: N_("extensions"),
}
#: Kinds that the fingerprint of the whole does not hold: they were not looked at before.
BESIDE = frozenset({SchemaKind.RULES, SchemaKind.CASTS, SchemaKind.MEMBER_FUNCTIONS})


@dataclass(frozen=True)
class Schema:
    """The shape of one database.

    Attributes:
        fingerprint: Of the whole.
        kinds: A digest of each kind that there is, and what they were told apart by.
    """

    fingerprint: str
    kinds: Mapping[str, str]


def make_schema(things: Iterable[tuple[SchemaKind, str]], whole: Iterable[str]) -> Schema:
    """Put a schema together.

    Args:
        things: Everything that is there, by kind, each in one form.
        whole: What the fingerprint is made of.
    """
    by_kind: dict[str, list[str]] = {}
    for kind, described in things:
        by_kind.setdefault(kind.value, []).append(described)
    kinds = {kind: _digest(found) for kind, found in sorted(by_kind.items())}
    return Schema(_digest(whole), {FORM: FORM_NOW, **kinds})


def _digest(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def changed_kinds(
    then: Mapping[str, object], now: Mapping[str, str]
) -> tuple[SchemaKind, ...] | None:
    """Return the kinds in which a schema is another one; None where that is not known.

    Args:
        then: What was recorded; empty by an agent that knew of no kinds.
        now: What is there.
    """
    if not then or then.get(FORM) != now.get(FORM):
        return None
    return tuple(kind for kind in SchemaKind if then.get(kind.value) != now.get(kind.value))


def kind_words(kinds: Collection[str]) -> Text:
    """Name kinds for people, in the order in which they stand here."""
    found = [_WORDS[kind] for kind in SchemaKind if kind.value in kinds]
    names = {f"k{number}": Text(words) for number, words in enumerate(found)}
    return Text(", ".join(f"{{{name}}}" for name in names), names)
