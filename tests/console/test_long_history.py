"""A page asks the service as often, however many changes the journal holds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from ncen_updater.console.pages.history import MAX_CHANGES
from ncen_updater.console.service_client import Document, ServiceClient
from tests.agent.cli.site import CHANGE
from tests.agent.service.api.conftest import Counter
from tests.agent.service.test_long_history import ids, make
from tests.console.support import Guest, served_console

COUNT = 2 * MAX_CHANGES + 7


class CountedService(ServiceClient):
    """Remembers what it asked for."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.asked: list[str] = []

    def call(
        self, method: str, path: str, language: str, body: Mapping[str, object] | None = None
    ) -> Document:
        self.asked.append(f"{method} {path}")
        return super().call(method, path, language, body)


def listed(guest: Guest, path: str) -> tuple[list[str], list[str]]:
    """The changes of a page, and where more are."""
    text = guest.get(path).text
    changes = re.findall(r'href="/history/([a-z2-7]{8})"', text)
    return changes, re.findall(r'href="(/history(?:\?before=[a-z2-7]{8})?)">(?:Newest|Older)', text)


@pytest.mark.parametrize(
    ("path", "most"),
    [
        ("/", 6),
        ("/live", 5),
        ("/history", 2),
        (f"/history/{ids(COUNT)[0]}", 2),
        ("/rollback-plan", 6),
    ],
)
def test_page_request_count_is_independent_of_the_history(
    counter: Counter, socket: Path, path: str, most: int
) -> None:
    counter.site.journal.unlink()
    make(counter.site.journal, COUNT)
    service = CountedService(socket)
    with served_console(socket, service) as place:
        guest = place.enter()
        guest.get("/")  # whose answer tells the zone, once
        service.asked.clear()
        assert guest.get(path).status == 200
        asked = [one for one in service.asked if "inspections" not in one]
    assert len(asked) <= most, asked


def test_every_change_is_on_some_page(counter: Counter, guest: Guest) -> None:
    counter.site.journal.unlink()
    make(counter.site.journal, COUNT)
    seen, ways = listed(guest, "/history")
    assert len(seen) == MAX_CHANGES and len(ways) == 1
    while not ways[-1].endswith("/history"):
        more, ways = listed(guest, ways[-1])
        seen += more
    assert seen == ids(COUNT)[::-1]
    assert guest.get("/history?before=zzzzzzzz").status == 400
    assert guest.get(f"/history?before={CHANGE.id}%27").state == "refused"
