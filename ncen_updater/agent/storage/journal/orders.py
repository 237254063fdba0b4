"""What somebody asked the service to do. A request only writes it down; the service does it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from ncen_updater.agent.model.person import Person
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.rows import optional_time, reading, stored_value
from ncen_updater.common.records import stored_time


class OrderKind(StrEnum):
    """What can be ordered."""

    CHECK = "check"
    PREPARE = "prepare"
    REHEARSE = "rehearse"
    UPGRADE = "upgrade"
    ROLLBACK = "rollback"
    RESUME = "resume"
    CONFIRM = "confirm"
    SELF_UPDATE = "self-update"
    IMPORT = "import"


@dataclass(frozen=True)
class Order:
    """One order.

    Attributes:
        data: JSON-able details, such as ``version`` or ``accept_loss``.
        result: Exit code and document of the command that did it.
    """

    id: int
    kind: OrderKind
    data: Mapping[str, object]
    person: Person
    at: datetime
    taken_at: datetime | None = None
    ended_at: datetime | None = None
    result: Mapping[str, object] | None = None


class Orders:
    """Reads and writes orders through the journal."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def give(
        self,
        kind: OrderKind,
        data: Mapping[str, object],
        person: Person,
        guard: Callable[[], None] = lambda: None,
    ) -> int:
        """Write an order down and return its number.

        Args:
            kind: What is ordered.
            data: Details.
            person: Who orders.
            guard: Raises to refuse; asked while nobody else writes.
        """
        at = self._journal.now().isoformat()
        with self._journal.transaction() as connection:
            guard()
            number = connection.execute(
                "INSERT INTO orders (kind, data, who, uid, at) VALUES (?,?,?,?,?)",
                (kind, json.dumps(data, sort_keys=True), person.who, person.uid, at),
            ).lastrowid
            self._journal.event(
                "ordered", None, order=number, what=kind, data=dict(data), by=person.who,
                uid=person.uid,
            )  # fmt: skip
        assert number is not None  # noqa: S101 - an INSERT has a row id
        return number

    def take(self, number: int) -> None:
        """Mark an order as begun."""
        with self._journal.transaction() as connection:
            connection.execute(
                "UPDATE orders SET taken_at = ? WHERE id = ?",
                (self._journal.now().isoformat(), number),
            )
            named = "SELECT kind, who FROM orders WHERE id = ?"
            row = connection.execute(named, (number,)).fetchone()
            self._journal.event("order-taken", None, order=number, what=row["kind"], by=row["who"])

    def end(self, number: int, result: Mapping[str, object]) -> None:
        """Mark an order as ended, with what it came to."""
        with self._journal.transaction() as connection:
            connection.execute(
                "UPDATE orders SET ended_at = ?, result = ? WHERE id = ?",
                (self._journal.now().isoformat(), json.dumps(result, sort_keys=True), number),
            )
            self._journal.event(
                "order-ended", None, order=number, exit_code=result.get("exit_code")
            )

    def waiting(self) -> Order | None:
        """The oldest order that has not ended.

        One that was begun and not ended was torn by a crash: what it did is in the journal, and a
        resume has brought that to its end, so it is not done twice; :meth:`torn` tells of it.
        """
        return next((order for order in self._all(limit=100) if order.taken_at is None), None)

    def interrupted(self) -> tuple[Order, ...]:
        """Orders that were begun and never ended."""
        return tuple(
            order
            for order in self._all(limit=100)
            if order.taken_at is not None and order.ended_at is None
        )

    def order(self, number: int) -> Order | None:
        """One order."""
        return next((o for o in self._select(f"id = {int(number)}") if o.id == number), None)

    def newest(self, limit: int) -> tuple[Order, ...]:
        """Orders of any state, newest first."""
        return self._select(f"TRUE ORDER BY id DESC LIMIT {int(limit)}")

    def unended(self) -> tuple[Order, ...]:
        """Orders that wait or are being carried out, oldest first."""
        return self._all(limit=100)

    def _all(self, limit: int) -> tuple[Order, ...]:
        return self._select(f"ended_at IS NULL ORDER BY id LIMIT {int(limit)}")

    def _select(self, where: str) -> tuple[Order, ...]:
        with reading(self._journal.path):
            rows = self._journal.rows(f"SELECT * FROM orders WHERE {where}")  # noqa: S608 - ours
            return tuple(_order(row) for row in rows)


class JournalOrders:
    """Marks orders for the service; opens the journal for each mark, and never holds it open.

    Args:
        path: The journal.

    Attributes:
        torn: Whether one may have been begun whose end is not written down.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.torn = True

    def take(self, number: int) -> None:
        """See :meth:`Orders.take`."""
        with Journal.open(self._path) as journal:
            Orders(journal).take(number)

    def end(self, number: int, result: Mapping[str, object]) -> None:
        """See :meth:`Orders.end`."""
        with Journal.open(self._path) as journal:
            Orders(journal).end(number, result)

    def end_torn(self) -> None:
        """End the orders that a killed service had begun; what they did is in the journal."""
        with Journal.open(self._path) as journal:
            orders = Orders(journal)
            for order in orders.interrupted():
                orders.end(order.id, {"exit_code": None, "torn": True})
        self.torn = False


def _order(row: sqlite3.Row) -> Order:
    return Order(
        row["id"], OrderKind(row["kind"]), stored_value(row["data"]),
        Person(row["who"], row["uid"]), stored_time(row["at"]),
        optional_time(row["taken_at"]), optional_time(row["ended_at"]),
        stored_value(row["result"]) if row["result"] else None,
    )  # fmt: skip
