"""Changed manifest fields, and warnings about changes of an event that weaken protection. Pure.

The fields come from the models, so that none is forgotten. Every change that is not known to be
harmless is marked.
"""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from tuf.api.metadata import Root, Targets  # type: ignore[attr-defined]

from ncen_updater.common.i18n import N_, LazyText, LocalizedFigure, join_texts
from ncen_updater.feed.emergency_halt_statements import read_emergency_halt_keys
from ncen_updater.formats.manifest import Manifest
from ncen_updater.formats.rollout import find_invalid_countries
from ncen_updater.formats.sql import ENGINE_NAMES
from ncen_updater.publisher.feed.role_policy import (
    OFFLINE_EXPIRY_DAYS,
    ONLINE_EXPIRY_DAYS,
    ONLINE_ROLES,
    POLICY_FIELD,
    read_issue_time,
)
from ncen_updater.publisher.review.statement_marks import find_marks
from ncen_updater.publisher.signing.event_files import iter_drafted_offers
from ncen_updater.publisher.signing.keys import compute_fingerprint, get_key_owner
from ncen_updater.publisher.signing.signing_event import SigningEvent
from ncen_updater.publisher.signing.value_format import (
    format_change,
    format_signed_time,
    parse_signed_time,
)

#: In longer lists only the differing values are shown.
MAX_SHOWN: Final = 20
#: Fields that change in every release, or are shown elsewhere on the page.
_HARMLESS: Final = re.compile(
    r"schema|product|version|urgency|notes\.\w+\.\w+|databases\[\w+\]\.name"
    r"|databases\[\w+\]\.migrations\[\w+\]\.(?:id|up|down|verify|data_loss|irreversible)"
)
#: Fields by which a site judges an upgrade; adding a new probe is harmless.
_CRITICAL: Final = re.compile(
    r"(?:health|checks|reference_maps|compatibility|migrator|smoke)\b.*"
    r"|databases\[\w+\]\.(?:tables_without_records|self_managed)"
)
_SQL: Final = re.compile(r".*\.(?:sql|sql_after|unmapped|affected)", re.DOTALL)
#: Growth of a validity period above which there is a warning.
PERIOD_GROWTH_LIMIT: Final = 1.5
#: Limit of a first ceremony's periods without a warning, as a multiple of the default.
DEFAULT_PERIOD_FACTOR: Final = 2
#: A wave that opened longer than this before it was drafted is probably a mistake.
PAST_TOLERANCE: Final = timedelta(days=1)
ALL_PERCENT: Final = 100


def find_weakened_protection(event: SigningEvent) -> list[LazyText]:
    """Return all warnings about keys, thresholds, periods, waves and countries."""
    found: list[LazyText] = []
    for role, draft in event.drafts.items():
        base = event.base.get(role)
        old, new = base.signed if base else None, draft.signed
        found += _compare_holders(_read_holders(old), _read_holders(new))
        if isinstance(new, Root):
            found += _compare_periods(old, new)
        else:
            found += _compare_offers(old, new)
    found += _check_duplicate_owners(draft.signed for draft in event.drafts.values())
    return found


def _check_duplicate_owners(lists: Iterable[Root | Targets]) -> Iterator[LazyText]:
    """Warn about owners with several keys: a fingerprint read aloud verifies only one of them."""
    held: dict[str, set[str]] = {}
    for signed in lists:
        named: list[tuple[str, str]] = []
        if isinstance(signed, Root):
            named = [
                (get_key_owner(key), compute_fingerprint(key))
                for key in read_emergency_halt_keys(signed).values()
            ]
        for _threshold, keys in _read_holders(signed).values():
            named += [(owner, mark) for mark, owner in keys.items()]
        for owner, mark in named:
            held.setdefault(owner, set()).add(mark)
    for owner, marks in sorted(held.items()):
        if len(marks) > 1:
            words = N_(
                "WARNING: {owner} has several keys: {keys}; compare each fingerprint with {owner}"
            )
            text = ", ".join(f"{mark[:8]}..." for mark in sorted(marks))
            yield LazyText(words, {"owner": owner, "keys": text})


def _read_holders(signed: Root | Targets | None) -> dict[str, tuple[int, dict[str, str]]]:
    """Return threshold and keys (fingerprint to owner) of each role."""
    delegator = signed.delegations if isinstance(signed, Targets) else signed
    if delegator is None:
        return {}
    keys = delegator.keys
    return {
        name: (
            role.threshold,
            {compute_fingerprint(keys[i]): get_key_owner(keys[i]) for i in role.keyids},
        )
        for name, role in (delegator.roles or {}).items()
    }


def _compare_holders(
    old: Mapping[str, tuple[int, Mapping[str, str]]],
    new: Mapping[str, tuple[int, Mapping[str, str]]],
) -> Iterator[LazyText]:
    for name, (threshold, keys) in new.items():
        was, held = old.get(name, (0, {}))
        if threshold < was:
            words = N_("WARNING: {name}: signature threshold lowered from {old} to {threshold}")
            yield LazyText(words, {"name": name, "threshold": threshold, "old": was})
        if threshold == 1 and was != 1 and name not in ONLINE_ROLES:
            words = N_("WARNING: {name}: signature threshold is 1")
            yield LazyText(words, {"name": name})
        gone = {owner: mark for mark, owner in held.items() if mark not in keys}
        for mark, owner in keys.items():
            if mark not in held and owner in gone:
                words = N_(
                    "WARNING: {name}: key of {owner} changes from {old}... to {new}...; compare the"
                    " fingerprint with {owner}"
                )
                marks = {"new": mark[:8], "old": gone[owner][:8]}
                yield LazyText(words, {"name": name, "owner": owner, **marks})


def _read_periods(root: Root | None) -> Mapping[str, Any]:
    policy = root.unrecognized_fields.get(POLICY_FIELD) if root is not None else None
    days = policy.get("expiry_days") if isinstance(policy, dict) else None
    return days if isinstance(days, dict) else {}


def _compare_periods(old: Root | None, new: Root) -> Iterator[LazyText]:
    before = _read_periods(old)
    for name, days in sorted(_read_periods(new).items()):
        usual = ONLINE_EXPIRY_DAYS.get(name, OFFLINE_EXPIRY_DAYS)
        was = before.get(name)
        limit = was * PERIOD_GROWTH_LIMIT if isinstance(was, int) else usual * DEFAULT_PERIOD_FACTOR
        if isinstance(days, int) and days > limit:
            words = N_(
                "WARNING: {name}: metadata is valid for {days} days (before: {old}); outdated"
                " metadata stays acceptable that long"
            )
            yield LazyText(words, {"name": name, "days": days, "old": was or "-"})


def _compare_offers(old: Targets | None, new: Targets) -> Iterator[LazyText]:
    issued = read_issue_time(new)
    drafted = parse_signed_time(issued)
    for before, offer in iter_drafted_offers(old, new):
        name = f"{offer.get('product')} {offer.get('version')}"
        waves, was = offer.get("waves") or [], (before or {}).get("waves") or []
        if waves != was:
            yield from check_waves(name, waves, drafted)
        countries = [*(offer.get("countries") or [])]
        for wave in waves:
            countries += wave.get("countries") or []
        for code in find_invalid_countries(countries):
            yield LazyText(
                N_("WARNING: {name}: unknown country {country}"),
                {"name": name, "country": code},
            )


def check_waves(
    name: str, waves: Sequence[Mapping[str, Any]], drafted: datetime | None
) -> Iterator[LazyText]:
    """Yield warnings about unusual rollout waves.

    Args:
        name: Name of the release, for the sentences.
        waves: The signed waves.
        drafted: Issue time of the draft; None if unknown.
    """
    highest: dict[tuple[str, ...], int] = {}
    everybody = 0
    for wave in sorted(waves, key=lambda wave: str(wave.get("opens"))):
        opens = parse_signed_time(str(wave.get("opens")))
        percent = int(wave.get("percent") or 0)
        values = {"name": name, "opens": format_signed_time(wave.get("opens")), "percent": percent}
        if drafted is not None and opens is not None and opens < drafted - PAST_TOLERANCE:
            words = N_(
                "WARNING: {name}: the wave of {opens} is in the past: {percent} % of its sites can"
                " start immediately"
            )
            yield LazyText(words, values)
        where = tuple(sorted(wave.get("countries") or []))
        before = max(highest.get(where, 0), everybody)
        if percent < before:
            words = N_(
                "WARNING: {name}: the wave of {opens} ({percent} %) has no effect after one with"
                " {before} %"
            )
            yield LazyText(words, {**values, "before": before})
        highest[where] = max(highest.get(where, 0), percent)
        if not where:
            everybody = max(everybody, percent)
    stuck = [where for where, top in highest.items() if max(top, everybody) < ALL_PERCENT]
    if waves and stuck:
        top = max(max(highest[where], everybody) for where in stuck)
        words = N_(
            "WARNING: {name}: the waves end at {percent} %; the other sites need another wave"
        )
        yield LazyText(words, {"name": name, "percent": top})


def is_rollback_code_only(manifest: Manifest, before: Manifest | None) -> bool:
    """Return whether both releases declare that the previous one runs on the new databases."""
    new, old = manifest.compatibility, before.compatibility if before else None
    return new is not None and old is not None and old.schema_number >= new.compatible_down_to


def find_release_warnings(manifest: Manifest, before: Manifest | None) -> Iterator[LazyText]:
    """Yield warnings about a release that a signer has to consider.

    Args:
        manifest: The release.
        before: The previous release; None if there is none.
    """
    name = f"{manifest.product} {manifest.version}"
    migrator, was = manifest.migrator, before.migrator if before else None
    if migrator is not None:
        values: dict[str, object] = {
            "name": name,
            "command": LocalizedFigure(" ".join(migrator.argv)),
        }
        words = N_("WARNING: {name} runs its own program on the databases: {command}")
        if was == migrator:
            words = N_(
                "WARNING: {name} runs its own program on the databases, unchanged: {command}"
            )
        elif was is not None:
            words = N_("WARNING: {name} runs its own program on the databases, changed: {command}")
        yield LazyText(words, values)
        if migrator.contract is not None:
            later = LocalizedFigure(" ".join(migrator.contract.argv))
            words = N_(
                "WARNING: after the soak period, a program of {name} changes the live databases and"
                " cannot be undone: {command}"
            )
            yield LazyText(words, {"name": name, "command": later})
        if not is_rollback_code_only(manifest, before):
            lost = {"name": name, "reason": migrator.no_rollback_reason}
            yield LazyText(N_("WARNING: rollback of {name} loses records: {reason}"), lost)
    compatibility = manifest.compatibility
    if compatibility is not None and (before is None or before.compatibility != compatibility):
        words = N_(
            "WARNING: {name} declares its databases compatible down to schema number"
            " {compatible_down_to}."
            " At schema number {number}, sites make no previous databases."
        )
        values = {
            "name": name,
            "compatible_down_to": compatibility.compatible_down_to,
            "number": compatibility.schema_number,
        }
        yield LazyText(words, values)
    if compatibility is not None and compatibility.expand and migrator is not None:
        words = N_(
            "WARNING: a program of {name} changes the live databases before the downtime,"
            " without a copy, and cannot be undone (schema number {compatible_down_to} or later)"
        )
        yield LazyText(
            words, {"name": name, "compatible_down_to": compatibility.compatible_down_to}
        )


@dataclass(frozen=True)
class FieldChange:
    """A value of the manifest that differs from the previous release.

    Attributes:
        path: Path of the value: ``health[answers].path``.
        old: The old value; None if it is new.
        new: The new value; None if it was removed.
    """

    path: str
    old: object = None
    new: object = None

    @property
    def item(self) -> str:
        """Return the manifest entry that the value belongs to; its changes are shown together."""
        listed = re.match(r"(?:health|checks|reference_maps|files|overlays)\[.*\]", self.path)
        return listed[0] if listed else self.path

    @property
    def text(self) -> LazyText:
        """Return the description of the change."""
        old, new = (
            None if value is None else LocalizedFigure(json.dumps(value, ensure_ascii=False))
            for value in (self.old, self.new)
        )
        return format_change(LocalizedFigure(self.path), old, new)


def manifest_changes(manifest: Manifest, before: Manifest | None) -> list[FieldChange]:
    """Return all differing values, sorted by path."""
    new, old = (
        dict(_values(one.model_dump(mode="json", by_alias=True, exclude_defaults=True), ""))
        if one is not None
        else {}
        for one in (manifest, before)
    )
    return [
        change
        for path in sorted(new.keys() | old.keys())
        if old.get(path) != new.get(path)
        for change in _changes(path, old.get(path), new.get(path))
    ]


def manifest_marks(
    changes: list[FieldChange], names: Collection[str] = frozenset()
) -> Iterator[tuple[bool, LazyText]]:
    """Yield changes that are not known to be harmless: whether each is critical, and its text.

    Args:
        changes: The result of :func:`manifest_changes`.
        names: Names that the SQL of the release defines.
    """
    differs = [change for change in changes if not _HARMLESS.fullmatch(change.path)]
    for item, group in itertools.groupby(differs, lambda change: change.item):
        of_item = list(group)
        new = all(change.old is None for change in of_item) and item.startswith(("ch", "ref"))
        value = join_texts([change.text for change in of_item[:MAX_SHOWN]], ", ")
        critical = _CRITICAL.fullmatch(item) is not None and not new
        yield critical, LazyText(N_("WARNING: manifest: {changes}"), {"changes": value})
        for change in of_item:
            if _SQL.fullmatch(change.path) and isinstance(change.new, str):
                for mark in find_marks(change.new, ENGINE_NAMES, "verify", names=names):
                    words = N_("WARNING: manifest, {path}, {kinds}: {statement}")
                    kinds = join_texts([LazyText(kind.value) for kind in mark.kinds], ", ")
                    path, statement = LocalizedFigure(change.path), LocalizedFigure(mark.text)
                    values = {"path": path, "kinds": kinds, "statement": statement}
                    yield True, LazyText(words, values)


def _values(value: object, path: str) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for name, inside in value.items():
            yield from _values(inside, f"{path}.{name}" if path else name)
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        names = list[str]()
        for number, item in enumerate(value):
            known = (item[key] for key in ("name", "id", "site_path", "key", "keys") if key in item)
            name = str(next(known, number))
            while name in names:  # an entry could be named "a (2)" to hide the second "a"
                name += " (2)"
            names.append(name)
            yield from _values(item, f"{path}[{names[-1]}]")
        yield f"{path}[]", names
    else:
        yield path, value


def _changes(path: str, old: object, new: object) -> Iterator[FieldChange]:
    if not isinstance(old, list) or not isinstance(new, list):
        if not path.endswith("[]"):
            yield FieldChange(path, old, new)
        return
    one, other = (Counter(json.dumps(item) for item in side) for side in (old, new))
    if one == other or (len(old) + len(new) <= MAX_SHOWN and not path.endswith("[]")):
        yield FieldChange(path, old, new)
    elif not path.endswith("[]"):  # the entries of a list of names are compared on their own
        yield from (FieldChange(path, None, json.loads(item)) for item in other - one)
        yield from (FieldChange(path, json.loads(item)) for item in one - other)
