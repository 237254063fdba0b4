"""Do the tables of the journal say what its events say? Pure.

Every record and the event that tells of it are one transaction, so whatever stands in one of them
alone was written by somebody else. Told of are approvals, changes and orders: what people are asked
for, and what they asked for. Facts and steps are not compared.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ncen_updater.common.i18n import N_, Text

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
