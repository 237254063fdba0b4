"""One step of the service, where the disk does not take what became of an order."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from ncen_updater.agent.approvals.store import Person
from ncen_updater.agent.engine.errors import JournalUnwritable
from ncen_updater.agent.journal.journal import Journal
from ncen_updater.agent.journal.orders import OrderKind, Orders
from ncen_updater.agent.policy.automation import Action, ServiceDecision
from ncen_updater.agent.service import serve
from ncen_updater.agent.service.loop import Service
from ncen_updater.common.i18n import Text


class Torn:
    """A service that begins the order and finds no room to say that it ended, once."""

    def __init__(self, orders: serve._JournalOrders) -> None:
        self._orders, self.full = orders, True

    def step(self) -> ServiceDecision:
        if self.full:
            self._orders.take(1)
            raise JournalUnwritable(path="x", reason="full")
        return ServiceDecision(Action.WAIT, Text("nothing"))


def test_an_order_whose_end_was_not_written_is_ended_once_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal.sqlite"
    with Journal.create(path) as journal:
        Orders(journal).give(OrderKind.REHEARSE, {}, Person("amina", 1))
    orders = serve._JournalOrders(path)
    service = Torn(orders)

    def refused(self: Orders, number: int, result: object) -> None:
        raise JournalUnwritable(path=path, reason="full")

    with monkeypatch.context() as full:
        full.setattr(Orders, "end", refused)
        for _ in range(2):
            serve._step(cast("Service", service), orders)
            service.full = False
        with Journal.open(path) as journal:
            assert len(Orders(journal).unended()) == 1
    serve._step(cast("Service", service), orders)
    with Journal.open(path) as journal:
        assert Orders(journal).unended() == (), "or none of its kind could be given any more"
