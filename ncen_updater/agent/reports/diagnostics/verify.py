"""Does reality match the journal? Slots, schemas, migrations and markers against what was recorded.

Reads only, and changes nothing that it finds.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from packaging.version import Version

from ncen_updater.agent.engine.fingerprints import schema_findings
from ncen_updater.agent.engine.preflight.migrations import WHOSE, not_applied
from ncen_updater.agent.engine.recovery import RecoveryAction, decide
from ncen_updater.agent.engine.site import Site
from ncen_updater.agent.engine.situation import contradiction, look
from ncen_updater.agent.model.change import Change
from ncen_updater.agent.model.errors import DatabaseError
from ncen_updater.agent.model.facts import ChangeFacts
from ncen_updater.agent.reports.diagnostics.overlay import overlay_look
from ncen_updater.agent.reports.diagnostics.proved import proved_look
from ncen_updater.agent.storage.journal.head import ChainHead
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.slots.compare import Difference
from ncen_updater.common.findings import Finding, Severity
from ncen_updater.common.i18n import N_, Text
from ncen_updater.common.messages import CONTRACT_FAILED
from ncen_updater.common.progress import Progress

#: A row of a table, or an event with ``kind``, ``change`` and ``data``.
Row = Mapping[str, Any]
#: How a change is by the event that told last of it.
STATES = {"begun": "running", "committed": "committed"}


def _data(event: Row) -> Mapping[str, Any]:
    data = json.loads(event["data"])
    return data if isinstance(data, dict) else {}


def approvals_by_events(events: Iterable[Row], rows: Iterable[Row]) -> Iterator[Text]:
    """Say which approvals are in force by the table alone, or by the events alone."""
    told: set[tuple[str, int]] = set()
    for event in events:
        kind, data = event["kind"], _data(event)
        key = (str(data.get("binding")), int(data.get("uid") or 0))
        if kind in ("approved", "rollback-approved"):
            told.add(key)
        elif kind == "approval-withdrawn":
            told.discard(key)
        elif kind == "approvals-spent":
            spent = data.get("binding")  # one binding, or whatever there was
            told = {one for one in told if spent is not None and one[0] != spent}
    kept = {(row["binding"], row["uid"]): row["who"] for row in rows if row["withdrawn_at"] is None}
    for binding, uid in sorted(kept.keys() - told):
        yield Text(
            N_("an approval by {who} (user {uid}) of {binding} has no event"),
            {"who": kept[binding, uid], "uid": uid, "binding": binding[:16]},
        )
    for binding, uid in sorted(told - kept.keys()):
        yield Text(
            N_("the approval by user {uid} of {binding} is told of and not there"),
            {"uid": uid, "binding": binding[:16]},
        )


def changes_by_events(events: Iterable[Row], rows: Iterable[Row]) -> Iterator[Text]:
    """Say which changes are not as their events tell."""
    begun: dict[str, Mapping[str, Any]] = {}
    states: dict[str, str] = {}
    for event in events:
        kind, change = event["kind"], event["change"]
        if change is None:
            continue
        if kind == "begun":
            begun[change] = _data(event)
        state = STATES.get(kind) or (kind[7:] if kind.startswith("change-") else None)
        if state is not None:
            states[change] = state
    there = {row["id"]: row for row in rows}
    for change in sorted(there.keys() | begun.keys()):
        if change not in there:
            yield Text(N_("change {change} is told of and not there"), {"change": change})
        elif change not in begun:
            yield Text(N_("change {change} has no event"), {"change": change})
        else:
            row, said = there[change], begun[change]
            wanted = {
                "kind": said.get("what"),
                **{name: said.get(name) for name in ("mode", "from_version", "to_version")},
                "state": states[change],
            }
            wrong = [name for name, value in wanted.items() if value not in (None, row[name])]
            if wrong:
                values = {"change": change, "names": ", ".join(wrong)}
                yield Text(N_("change {change} is told of otherwise: {names}"), values)


def orders_by_events(events: Iterable[Row], rows: Iterable[Row]) -> Iterator[Text]:
    """Say which orders are not as their events tell."""
    given: dict[int, Mapping[str, Any]] = {}
    ended: set[int] = set()
    for event in events:
        if event["kind"] == "ordered":
            given[int(_data(event).get("order") or 0)] = _data(event)
        elif event["kind"] == "order-ended":
            ended.add(int(_data(event).get("order") or 0))
    there = {row["id"]: row for row in rows}
    for number in sorted(there.keys() | given.keys()):
        values = {"order": number}
        if number not in there:
            yield Text(N_("order {order} is told of and not there"), values)
        elif number not in given:
            yield Text(N_("order {order} has no event"), values)
        else:
            row, said = there[number], given[number]
            same = (row["kind"], row["who"], row["uid"], json.loads(row["data"])) == (
                said.get("what"), said.get("by"), said.get("uid"), said.get("data"),
            )  # fmt: skip
            if not same or (row["ended_at"] is not None) is not (number in ended):
                yield Text(N_("order {order} is told of otherwise"), values)


#: One part of a diagnosis.
Look = Callable[[], Iterable[Finding]]

CALL = Text(WHOSE)
#: Paths that a person is told of.
SHOWN = 10
#: What to do about files of a release that somebody changed: whoever did it may have meant well,
#: and then nobody else can help.
WHOSE_FILES = N_(
    "If somebody here changed them, put the released ones back and keep your changes in the"
    " country's own files (docs/translations.md). If nobody knows of it, do not upgrade; send the"
    " Secretariat what 'ncen-updater doctor' and 'history' say."
)
COMPARED = {
    "approvals": approvals_by_events,
    "changes": changes_by_events,
    "orders": orders_by_events,
}


def verify_site(
    site: Site, journal: Journal, progress: Progress, heads: Sequence[ChainHead] = ()
) -> tuple[Finding, ...]:
    """Compare what is there with what was recorded.

    Args:
        site: The site.
        journal: Its journal.
        progress: Told what is being done.
        heads: Events that a person kept elsewhere, which have to be in the chain.

    Returns:
        Strict findings for what differs; advisory ones for what is only untidy. Empty when all
        is as recorded.

    Raises:
        JournalUnreadable: If the chain of the journal does not close.
        UpdaterError: If a fact cannot be had.
    """
    looks = verify_looks(site, journal, progress, heads=heads)
    return tuple(finding for look in looks for finding in look())


def verify_looks(
    site: Site,
    journal: Journal,
    progress: Progress,
    *,
    databases: bool = True,
    heads: Sequence[ChainHead] = (),
) -> tuple[Look, ...]:
    """Return what :func:`verify_site` looks at, part by part: one that fails takes no other along.

    Args:
        site: The site.
        journal: Its journal.
        progress: Told of what takes long.
        databases: Whether they are looked into; closed ones cannot be.
        heads: Events that a person kept elsewhere, which have to be in the chain.

    Raises:
        JournalUnreadable: If the chain of the journal does not close.
    """
    journal.verify_chain()
    current = site.slots.current()
    if current is None:
        return (
            lambda: _records(journal, heads),
            lambda: proved_look(site),
            lambda: (_unchosen(site),),
        )
    looks: tuple[Look, ...] = (
        lambda: _records(journal, heads),
        lambda: proved_look(site),
        lambda: _change(site, journal),
        lambda: _slots(site, current, progress),
        lambda: overlay_look(site, current),
    )
    return (*looks, lambda: _databases(site, journal, current)) if databases else looks


def verify_journal(journal: Journal, heads: Sequence[ChainHead] = ()) -> tuple[Finding, ...]:
    """Compare the journal with itself and with what a person kept of it; asks nothing else.

    Args:
        journal: The journal.
        heads: Events that a person kept elsewhere, which have to be in the chain.

    Raises:
        JournalUnreadable: If the chain of the journal does not close.
    """
    journal.verify_chain()
    return _records(journal, heads)


def _records(journal: Journal, heads: Sequence[ChainHead]) -> tuple[Finding, ...]:
    with journal.at_one_time():
        return (*_heads(journal, heads), *_tables(journal))


def _unchosen(site: Site) -> Finding:
    """Say that there is no link: a name that is written wrong is the likeliest reason."""
    values = {"link": site.slots.link}
    return Finding(
        "NU-6101",
        Severity.STRICT,
        Text(N_("There is no link {link}, so no release is chosen here."), values),
        Text(
            N_(
                "Check 'current' below [paths] in agent.toml: if the application runs, it is"
                " another link that leads to its release. On a new site run 'ncen-updater adopt'."
            )
        ),
        {"path": str(site.slots.link)},
    )


def _differs(code: str, template: str, remedy: Text = CALL, **values: object) -> Finding:
    figures = {key: str(value) for key, value in values.items()}
    return Finding(code, Severity.STRICT, Text(template, values), remedy, figures)


_TYPED_FIRST = Text(
    N_(
        "Compare what was typed with what was kept, the number and each digit. Where they are the "
        "same, keep a copy of the journal as it is, and call the Secretariat."
    )
)


def _heads(journal: Journal, heads: Sequence[ChainHead]) -> Iterator[Finding]:
    """What a person kept has to be there still: nobody can make an event with that hash anew."""
    for head in heads:
        there = journal.hash_of(head.number)
        if there is None:
            yield _differs(
                "NU-6108",
                N_("Event {number} is not in the journal any more; the last one is {last}."),
                _TYPED_FIRST,
                number=head.number,
                last=journal.last_event(),
            )
        elif not head.is_of(there):
            yield _differs(
                "NU-6109",
                N_("Event {number} or one before it was written anew: its hash is {hash}."),
                _TYPED_FIRST,
                number=head.number,
                hash=there,
            )


def _tables(journal: Journal) -> Iterator[Finding]:
    events = _plain(journal.rows("SELECT change, kind, data FROM events ORDER BY number"))
    for table, compare in COMPARED.items():
        # The name is one of ours.
        for reason in compare(events, _plain(journal.rows(f"SELECT * FROM {table}"))):  # noqa: S608
            yield Finding(
                "NU-6110",
                Severity.STRICT,
                Text(N_("A record and its event differ: {reason}."), {"reason": reason}),
                CALL,
                {"table": table, "reason": str(reason)},
            )


def _plain(rows: Iterable[sqlite3.Row]) -> list[dict[str, object]]:
    return [dict(row) for row in rows]


def _change(site: Site, journal: Journal) -> Iterator[Finding]:
    change = journal.open_change()
    decision = decide(look(site, change, by_person=True))
    try:
        site.engine.require_live(opened=change is None)
    except DatabaseError as error:
        yield Finding(error.code, Severity.STRICT, error.what_text, error.remedy_text)
        return
    if decision.action is RecoveryAction.STOP:
        yield _differs("NU-6102", N_("Contradiction: {reason}."), reason=decision.reason)
    elif change is None and (reason := contradiction(site, journal)) is not None:
        yield _differs("NU-6102", N_("Contradiction: {reason}."), reason=reason)
    elif change is not None and decision.action is not RecoveryAction.NOTHING:
        yield not_ended(change, Severity.ADVISORY, journal.facts(change.id))


def not_ended(change: Change, severity: Severity, facts: ChangeFacts) -> Finding:
    """Say that a change is open; it bars every upgrade, and is as it was recorded."""
    remedy = Text(N_("Run 'ncen-updater resume'; do not start the application by hand."))
    if change.commit_written and facts.contract_failed is not None:
        remedy = Text(CONTRACT_FAILED.remedy, {"version": change.to_version, "cause_remedy": ""})
    return Finding(
        "NU-6103",
        severity,
        Text(N_("The change {change} has not come to its end."), {"change": change.id}),
        remedy,
    )


def _slots(site: Site, current: Version, progress: Progress) -> Iterator[Finding]:
    for version in site.slots.versions():
        differences = site.slots.verify(version, progress)
        if differences:
            yield Finding(
                "NU-6104",
                Severity.STRICT if version == current else Severity.ADVISORY,
                Text(
                    N_("{count} paths of slot {version} are not as signed: {paths}"),
                    {"count": len(differences), "version": version, "paths": _some(differences)},
                ),
                Text(WHOSE_FILES),
                {"version": str(version), "paths": [d.path for d in differences[:100]]},
            )


def _some(differences: Sequence[Difference]) -> str:
    """The first paths, for people; programs get more of them."""
    first = ", ".join(difference.path for difference in differences[:SHOWN])
    return f"{first}, ..." if len(differences) > SHOWN else first


def _databases(site: Site, journal: Journal, current: Version) -> Iterator[Finding]:
    beside = _works_beside(journal)
    for finding in schema_findings(site, journal):
        if beside is not None and finding.severity is Severity.STRICT:
            yield _in_the_making(str(finding.figures["database"]), beside)
        else:
            yield finding
    yield from not_applied(site.engine, site.migrations(current))


def _works_beside(journal: Journal) -> Change | None:
    """The change whose program works on the live databases while officers do, or was cut off."""
    change = journal.open_change()
    if change is None:
        return None
    facts = journal.facts(change.id)
    began = facts.contracted if change.commit_written else facts.expanded
    return change if began else None


def _in_the_making(database: str, change: Change) -> Finding:
    values = {"database": database, "version": change.to_version}
    return Finding(
        "NU-6144",
        Severity.INFO,
        Text(
            N_(
                "A program of {version} works on {database} while officers do, or was cut off in"
                " it: the schema is not the one that was recorded."
            ),
            values,
        ),
        Text(
            N_(
                "It is written down when the program has come to its end, or the change is undone:"
                " ask again then."
            )
        ),
        {"database": database, "change": change.id},
    )
