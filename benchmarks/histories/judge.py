"""Invariants that hold after a trial, judged from outside. Pure: all observations are passed in.

The judge knows the promises and not the product. One whole version runs. Every acknowledged record
is in the live set, or in a retained set that a report names, or its loss was accepted. Users can
work. An operation that nothing disturbed did what was requested.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from enum import StrEnum

#: Maximum number of items listed in one sentence of a verdict.
SHOWN = 4


class Kind(StrEnum):
    """Result of a trial."""

    OK = "ok"
    REFUSED = "refused as it should"
    WRONG = "WRONG"


@dataclass(frozen=True)
class Record:
    """A record whose commit was acknowledged to its author.

    Attributes:
        place: ``database.table``.
        key: Its key.
        by: Its author.
        began: Wall clock before the first statement.
        acknowledged: Wall clock after the commit was acknowledged.
        value: Number of the last acknowledged edit, for records that are edited.
    """

    place: str
    key: str
    by: str
    began: float
    acknowledged: float
    value: int = 0


@dataclass(frozen=True)
class Loss:
    """A data loss that an operator accepted.

    Attributes:
        since: Wall clock of the fence of the upgrade that is rolled back: older records remain.
        until: Wall clock of the fence of the rollback: younger records remain.
        accepted: The accepted number.
    """

    since: float
    until: float
    accepted: int


@dataclass(frozen=True)
class Attempt:
    """An operation and its conditions, as observed from outside.

    Attributes:
        operation: Its name.
        before: Version before it.
        wanted: Version after it if nothing disturbs it.
        fails: Whether it is made to fail (a bad release).
        refusal: Whether it must be refused before the downtime (a hold, a release that is not for
            this site).
        between: Further versions on which an interrupted operation may end, between its hops.
        exit_code: Its exit status; None if it was killed.
        downtime_began: Whether it began a downtime.
        fault: The fault that took effect; empty for none.
        stranger: The foreign session; empty for none.
        may_block: Whether the foreign session was connected before, so that a refusal may name it.
        excuses: Whether the foreign session did something that must revert the change.
        names: Names of the foreign session, one of which a refusal must contain.
        output: Its output.
        resumes: Number of resumes.
        at_rest: Whether no change is open after them.
        loss: The accepted data loss.
        promised: Data loss predicted by a dry run (0 for "every record"); None without one.
    """

    operation: str
    before: str
    wanted: str
    fails: bool = False
    refusal: bool = False
    between: tuple[str, ...] = ()
    exit_code: int | None = 0
    downtime_began: bool = False
    fault: str = ""
    stranger: str = ""
    may_block: bool = False
    excuses: bool = False
    names: tuple[str, ...] = ()
    output: str = ""
    resumes: int = 0
    at_rest: bool = True
    loss: Loss | None = None
    promised: int | None = None

    @property
    def undisturbed(self) -> bool:
        """Return whether nothing excuses a failure of the operation."""
        return not self.fault and not self.excuses


@dataclass(frozen=True)
class Seen:
    """Observations of the site after the trial and its resumes.

    Attributes:
        code: Version of the code; None if it cannot be read.
        schemas: Version reported by each database.
        reported: Version reported by the running application.
        different: Differences from a site of that version that was made by hand.
        live: Keys by ``database.table``, with the number of the last edit.
        retained: Keys of every other set, by set and ``database.table``.
        reported_sets: Sets that a finding, an outcome or an unusual event names.
        maintenance_off: Whether the maintenance page is off.
        user_can_work: Whether a user could enter a case.
        attributes: Differences in owner, grants, limits and settings.
        verify: Strict findings of ``verify``.
        left: Leftovers: copies, fences, directories without a database.
        untrue: False statements of the site.
        unreadable: Why the site could not be read.
    """

    code: str | None
    schemas: Mapping[str, str]
    reported: str | None
    different: tuple[str, ...] = ()
    live: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    retained: Mapping[str, Mapping[str, frozenset[str]]] = field(default_factory=dict)
    reported_sets: frozenset[str] = frozenset()
    maintenance_off: bool = True
    user_can_work: bool = True
    attributes: tuple[str, ...] = ()
    verify: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    untrue: tuple[str, ...] = ()
    unreadable: str = ""

    @property
    def whole(self) -> str | None:
        """Return the one version of all parts; None for a mixture or a site that does not run."""
        parts = {self.code, self.reported, *self.schemas.values()}
        return self.code if len(parts) == 1 else None


@dataclass(frozen=True)
class Verdict:
    """Verdict on a trial.

    Attributes:
        kind: Right or wrong.
        reasons: What is wrong, or how the trial ended.
        agreed: Records that were lost by consent.
        set_aside: Records in a retained set that a report names.
    """

    kind: Kind
    reasons: tuple[str, ...]
    agreed: tuple[Record, ...] = ()
    set_aside: tuple[Record, ...] = ()


def collect_keys(value: object) -> set[str]:
    """Return every key of a document, nested ones included."""
    if isinstance(value, Mapping):
        return {str(key) for key in value} | {
            k for item in value.values() for k in collect_keys(item)
        }
    if isinstance(value, list):
        return {key for item in value for key in collect_keys(item)}
    return set()


def list_unusual_values(value: object, ordinary: Set[str]) -> list[str]:
    """Return the values under keys that a document does not have in the ordinary case."""
    if isinstance(value, Mapping):
        found = []
        for key, item in value.items():
            found += list_unusual_values(item, ordinary) if key in ordinary else [str(item)]
        return found
    if isinstance(value, list):
        return [words for item in value for words in list_unusual_values(item, ordinary)]
    return []


def find_named_sets(sets: Iterable[str], text: str) -> set[str]:
    """Return the database sets that a text names as whole words.

    ``base`` is not found in ``databases``.
    """
    return {n for n in sets if re.search(rf"(?<![\w-]){re.escape(n)}(?![\w-])", text)}


def find_missing_records(
    records: Sequence[Record], live: Mapping[str, Mapping[str, int]]
) -> list[Record]:
    """Return acknowledged records that are not in the live set, or only with an older edit."""
    return [
        record
        for record in records
        if live.get(record.place, {}).get(record.key, -1) < record.value
    ]


def judge(tried: Attempt, seen: Seen, records: Sequence[Record]) -> Verdict:
    """Compare the observations with the promises."""
    if seen.unreadable:
        return Verdict(Kind.WRONG, (f"the site cannot be looked at: {seen.unreadable}",))
    wrong = [*_version(tried, seen), *_standing(tried, seen)]
    found, agreed, set_aside = _records(tried, seen, records)
    wrong += found
    done = seen.whole == tried.wanted and tried.exit_code == 0 and tried.resumes == 0
    refused = _is_refused(tried, seen)
    if tried.undisturbed and not wrong:
        wrong += _explain_failure(tried, done=done, refused=refused)
    if wrong:
        return Verdict(Kind.WRONG, tuple(wrong), tuple(agreed), tuple(set_aside))
    kind = Kind.REFUSED if refused else Kind.OK
    return Verdict(kind, (_describe_result(tried, seen),), tuple(agreed), tuple(set_aside))


def _version(tried: Attempt, seen: Seen) -> list[str]:
    if seen.whole is None:
        return [
            f"a mixture, or nothing that runs: code {seen.code}, databases"
            f" {dict(seen.schemas)}, running {seen.reported}"
        ]
    allowed = {tried.before, tried.wanted, *tried.between}
    wrong = []
    if seen.whole not in allowed:
        wrong.append(f"the site runs {seen.whole}, which nobody asked for")
    if seen.different:
        wrong.append(f"not as release {seen.whole} is: {_join_some(seen.different)}")
    return wrong


def _standing(tried: Attempt, seen: Seen) -> list[str]:
    wrong = []
    if not tried.at_rest:
        wrong.append(f"recovery does not come to an end after {tried.resumes} resumes")
    if not seen.maintenance_off:
        wrong.append("users are kept out")
    elif not seen.user_can_work:
        wrong.append("no officer can enter a case")
    for words, found in (
        ("owner, grants, limits or settings differ", seen.attributes),
        ("verify finds", seen.verify),
        ("left behind", seen.left),
        ("said and not so", seen.untrue),
    ):
        if found:
            wrong.append(f"{words}: {_join_some(found)}")
    return wrong


def _records(
    tried: Attempt, seen: Seen, records: Sequence[Record]
) -> tuple[list[str], list[Record], list[Record]]:
    lost: dict[str, list[Record]] = {}
    agreed, set_aside = [], []
    restored = tried.loss is not None and seen.whole == tried.wanted
    for record in find_missing_records(records, seen.live):
        sets = [
            name for name, tables in seen.retained.items()
            if record.key in tables.get(record.place, frozenset())
        ]  # fmt: skip
        if restored and tried.loss is not None and _is_accepted_loss(record, tried.loss):
            agreed.append(record)
        elif any(name in seen.reported_sets for name in sets):
            set_aside.append(record)
        else:
            where = f"retained in {_join_some(sets)} and not reported" if sets else "nowhere"
            if record.key in seen.live.get(record.place, {}):
                where = "there with an older edit"
            lost.setdefault(f"acknowledged to {record.by}, now {where}", []).append(record)
    wrong = [
        f"{len(found)} records {words}: {_join_some([f'{r.place} {r.key}' for r in found])}"
        for words, found in lost.items()
    ]
    cases = sum(1 for record in agreed if record.place == "seizures.cases")
    if tried.loss is not None and cases > tried.loss.accepted:
        wrong.append(f"{cases} cases lost, {tried.loss.accepted} records were agreed to")
    if tried.promised == 0 and agreed:
        wrong.append(f"a dry run said that every record stays, {len(agreed)} are gone")
    return wrong, agreed, set_aside


def _is_accepted_loss(record: Record, loss: Loss) -> bool:
    """Return whether a record was written after the restored state and before the rollback."""
    return record.acknowledged >= loss.since and record.began <= loss.until


def _is_refused(tried: Attempt, seen: Seen) -> bool:
    """Return whether the operation was refused before the downtime."""
    return (
        tried.exit_code not in (0, None)
        and not tried.downtime_began
        and not tried.fails
        and seen.whole == tried.before
    )


def _explain_failure(tried: Attempt, *, done: bool, refused: bool) -> list[str]:
    """Return why an undisturbed operation did not do what was requested."""
    whom = f" beside {tried.stranger}" if tried.stranger else ""
    said = f": {_shorten(tried.output)}"
    if tried.refusal:
        return [] if refused else [f"{tried.operation} was not refused{said}"]
    if tried.fails:
        if tried.exit_code in (0, None):
            return [f"{tried.operation} passed, although the release is bad"]
        return [f"{tried.resumes} resumes after a release that failed"] if tried.resumes else []
    if done:
        return []
    if refused and tried.may_block:
        if any(name in tried.output for name in tried.names):
            return []
        return [f"{tried.operation} was refused{whom}, which it does not name{said}"]
    if refused:
        return [f"an undisturbed {tried.operation} was refused{whom}{said}"]
    out = " after users were kept out" if tried.downtime_began else ""
    return [f"an undisturbed {tried.operation} failed{out}{whom}{said}"]


def _describe_result(tried: Attempt, seen: Seen) -> str:
    if seen.whole == tried.wanted and not tried.fails and tried.before != tried.wanted:
        return f"done, {seen.whole} runs"
    return f"{seen.whole} runs"


def _join_some(items: Sequence[str]) -> str:
    more = f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return ", ".join(items[:SHOWN]) + more


def _shorten(text: str) -> str:
    return " ".join(text.split())[:400]
