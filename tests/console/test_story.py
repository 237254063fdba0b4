"""The whole story in pages, on a real site: look, decide, upgrade, look on, go back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.site import DemoSite, SiteOptions, version_of
from tests.console.support import Guest, served_console
from tests.support.served import SOCKET, Served, served
from tests.support.sites import TrialFeed, connect, serve


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Served]:
    feed = TrialFeed(tmp_path)
    feed.publish(["3.3.0"])
    with serve(feed.directory) as url:
        options = SiteOptions(
            feed_urls=(url,), cases=20, icomm=False, soak_s=0.2, soak_interval_s=0.1,
            settings={"service": {"timezone": "UTC"}},
        )  # fmt: skip
        with DemoSite(tmp_path / "site", None, options) as site:
            connect(site, feed)
            site.start_app()
            with served(site.config_path, site.root) as process:
                process.demo = site
                yield process


def ordered(guest: Guest, service: Served, sent: str) -> None:
    """Wait until an order has ended, and see that its page says so."""
    number = re.match(r"/orders/(\d+)", sent)
    assert number is not None, sent
    service.until("order-ended", order=int(number[1]))
    found = guest.get(sent.partition("?")[0])
    assert found.heading == "The order is carried out.", found.text


def test_from_a_release_on_offer_to_the_one_before(service: Served) -> None:
    service.until_outlook(lambda outlook: outlook["binding"] is not None)
    with served_console(service.root / SOCKET) as place:
        guest, other = place.enter(), place.enter("fr")
        assert guest.get("/").heading == "Officers can work on ncen 3.2.4."
        upgrade = guest.settled("/upgrade")
        assert upgrade.heading == "ncen 3.3.0 can be put in here."
        assert "Officers would be out for" in upgrade.text
        assert "seizures.offences" in upgrade.text and "<svg" in upgrade.text
        assert "<title>ncen" in guest.get("/dossier").text
        decided = guest.submit(guest.settled("/approve"), "/approve")
        assert "Your yes is written down." in decided.text
        page = guest.settled("/upgrade")
        fields = next(hidden for where, hidden in page.forms() if hidden.get("kind") == "upgrade")
        assert "NU-9704" in guest.post("/order", fields).text, "nobody agreed"
        page = guest.settled("/upgrade")
        fields = next(hidden for where, hidden in page.forms() if hidden.get("kind") == "upgrade")
        sent = guest.post("/order", {**fields, "agreed": "yes"}).headers["location"]
        ordered(guest, service, sent)
        assert version_of(service.demo).whole == "3.3.0"
        assert guest.get("/live").heading == "The change to 3.3.0 is done."
        assert other.get("/live").heading == "Le changement vers 3.3.0 est fait."
        history = guest.get("/history")
        assert "3.2.4 → 3.3.0" in history.text and 'class="range"' in history.text
        change = re.search(r'href="(/history/[a-z2-7]{8})"', history.text)
        assert change is not None
        told = guest.get(change[1])
        assert "officers were kept out for" in told.text and "letting officers in" in told.text
        assert guest.settled("/proof").heading == "The journal is whole."
        back = guest.settled("/way-back")
        assert back.heading == "How the site would go back to 3.2.4"
        assert "No record is lost by it." in back.text
        sent = guest.post("/rollback", back.form("/rollback")).headers["location"]
        ordered(guest, service, sent)
        assert version_of(service.demo).whole == "3.2.4"
        assert guest.get("/").heading == "Officers can work on ncen 3.2.4."
