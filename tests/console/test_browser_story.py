"""Tests from an offered release to its rollback, by users with nothing but a browser.

One who operates and two who approve, each in a console and a browser of their own. The service, the
site and its databases are real, and the service is killed with all that it does in the middle.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from demo.site import DemoSite, SiteOptions, version_of
from tests.console.browsers import entered, keep, origin, settled
from tests.support.attention import Attention, row
from tests.support.rotation import in_turns
from tests.support.service_process import ROOT, Served, served
from tests.support.sites import TrialFeed, connect, serve
from tests.support.system_users import create_users, require_user_creation
from tests.support.webdriver import Browser, missing

LACKS = missing()
pytestmark = pytest.mark.skipif(LACKS is not None, reason=str(LACKS))
#: People of this site, and the group of each.
OPERATORS, APPROVERS, READERS = "nu-operators", "nu-approvers", "daemon"
OPERATOR, FIRST, SECOND = "nu-joao", "nu-amina", "nu-marie"
PEOPLE = {OPERATOR: OPERATORS, FIRST: APPROVERS, SECOND: APPROVERS}
PATIENCE_S = 600.0
#: Further pages in the guides, and the part of each with which its picture begins.
PICTURED = {
    "history": ("/history", "body"),
    "rollback": ("/rollback-plan", "body"),
    "audit": ("/audit-log", "body"),
    "sharing": ("/sharing", "[aria-labelledby=level-version]"),
    "settings": ("/settings", "body"),
    "help": ("/help?code=NU-6012", "#codes"),
}


@dataclass(frozen=True)
class Telling:
    """One variant of the story."""

    language: str
    scripts: bool


TOLD = {
    "English, with scripts": Telling("en", scripts=True),
    "French, without": Telling("fr", scripts=False),
}


@contextmanager
def story_site() -> Iterator[Served]:
    """The site of the story, and its service."""
    require_user_creation()
    place = Path(tempfile.mkdtemp(prefix="nu-story-"))
    place.chmod(0o755)
    feed = TrialFeed(place)
    feed.publish(["3.3.0"])
    rights = {
        "timezone": "UTC", "mode": "notify", "required_approvals": 2, "viewer_group": READERS,
        "operator_group": OPERATORS, "approver_group": APPROVERS,
    }  # fmt: skip
    with create_users(PEOPLE), serve(feed.directory) as url:
        options = SiteOptions(
            feed_urls=(url,), cases=20, icomm=False, soak_s=0.0, settings={"service": rights}
        )
        with DemoSite(place / "site", None, options) as site:
            connect(site, feed)
            site.start_app()
            with served(site.config_path, place / "site") as process:
                process.demo = site
                yield process
    shutil.rmtree(place)


@pytest.fixture
def service() -> Iterator[Served]:
    with story_site() as process:
        yield process


def require_counted(where: str, people: Mapping[str, Attention]) -> None:
    """What was counted is what is recorded."""
    shares = [row(f"{where}: {who}", one) for who, one in people.items()]
    whole = row(f"**{where}: all**", sum(people.values(), Attention()))
    guide = (ROOT / "tests/console/attention.md").read_text("utf-8")
    lacks = [line for line in (*shares, whole) if line not in guide]
    assert not lacks, "tests/console/attention.md says otherwise:\n" + "\n".join(lacks)


def look(person: Browser, path: str) -> None:
    """Load a page to see that something is not there; no person would."""
    person.open(origin(person) + path)
    settled(person)


def go(person: Browser, path: str) -> None:
    person.attention.pages += 1
    look(person, path)


def person_waits(person: Browser, path: str, selector: str) -> None:
    """Wait until a page has something; going there is counted by who acts on it."""
    there(person, path, selector)
    person.attention.pages -= 1


def there(person: Browser, path: str, selector: str) -> None:
    """Go to a page, and wait there until something is."""
    person.attention.pages += 1

    def look() -> bool:
        person.open(origin(person) + path)
        return bool(person.all(selector))

    person.until(f"{selector} on {path}", look, PATIENCE_S)


def press(person: Browser, path: str, form: str) -> None:
    """Go to a page, wait for a form there, and send it as it stands.

    A page that waits for something loads itself again, also between a look and a click.
    """
    person.attention.pages += 1

    def sent() -> bool:
        person.open(origin(person) + path)
        found = person.all(f"{form} button")
        if found:
            found[0].click()
        return bool(found)

    person.until(f"{form} on {path}", sent, PATIENCE_S)


def order(person: Browser, path: str, kind: str) -> None:
    """Give an order by its button, and wait on its own page until it has ended."""
    press(person, path, f'form[action="/job"]:has(input[value="{kind}"])')
    ended(person)


def ended(person: Browser) -> None:
    person.until("the order's page", lambda: "/jobs/" in person.address)
    person.until("the order's end", lambda: person.all(".label:not(.wait)"), PATIENCE_S)
    assert person.all(".label.good"), person.text


def approve(person: Browser, path: str) -> None:
    press(person, path, 'form[action="/approve"]')
    person.until("their yes stands", lambda: person.all('form[action="/withdraw"]'))


def approve_concurrently(people: Sequence[Browser], path: str) -> None:
    """At once: each presses as soon as there is a button."""
    with ThreadPoolExecutor(len(people)) as pool:
        ready = [pool.submit(person_waits, one, path, 'form[action="/approve"]') for one in people]
        for one in ready:
            one.result()
        for said in [pool.submit(approve, one, path) for one in people]:
            said.result()


def upgrade_now(person: Browser) -> None:
    there(person, "/upgrade", "#agreed")
    person.one("#agreed").click()
    person.one('form[action="/job"]:has(#agreed) button').click()


def require_outage_notice(person: Browser, told: Telling) -> None:
    """The page that was open says so, by its script or by loading itself again."""
    if told.scripts:
        person.until("nobody answers", lambda: person.one("[data-live-lost]").shown)
    else:
        person.until("nobody answers", lambda: person.all('main[data-state="broken"]'))


def goes_on(person: Browser, told: Telling) -> None:
    if told.scripts:
        person.until("it goes on", lambda: not person.one("[data-live-lost]").shown)
    else:
        person.until("it goes on", lambda: person.all('main[data-state="ready"]'))


@in_turns("told")
@pytest.mark.parametrize("told", TOLD.values(), ids=TOLD)
def test_release_is_installed_and_rolled_back_by_browsers_alone(
    service: Served, told: Telling
) -> None:
    socket = service.client.path
    with ExitStack() as stack:
        operator, first, second = (
            stack.enter_context(entered(socket, user, READERS, language=told.language))
            for user in (OPERATOR, FIRST, SECOND)
        )
        for person in (operator, first, second):
            person.scripts(on=told.scripts)
            assert person.one("html").attribute("lang") == told.language
        # The service found the release; prepare, rehearse.
        person_waits(first, "/upgrade", ".path .goal")
        assert not first.all('form[action="/job"]'), "who approves does not order"
        order(operator, "/upgrade", "prepare")
        look(first, "/approve")
        assert not first.all('form[action="/approve"]'), "nothing was rehearsed"
        order(operator, "/upgrade", "rehearse")
        service.until_next_upgrade(lambda next_upgrade: next_upgrade["binding"] is not None)
        look(operator, "/upgrade")
        keep(operator, "updates", told.language)
        look(operator, "/approve")
        assert not operator.all('form[action="/approve"]'), "who operates does not approve"
        # Two people say yes, each as themselves.
        approve(first, "/approve")
        look(operator, "/")
        keep(operator, "status", told.language)
        look(operator, "/upgrade")
        assert not operator.all("#agreed"), "one yes is not enough"
        look(second, "/approve")
        keep(second, "approve", told.language)
        approve(second, "/approve")
        given = service.client.get("/v1/next-upgrade")["approvals"]
        assert [one["actor"] for one in given] == [FIRST, SECOND]
        # The upgrade; all that does it is killed in the middle, and the pages say so.
        go(first, "/live")
        upgrade_now(operator)
        service.until("step-intended", step="migrate")
        service.kill_all()
        require_outage_notice(first, told)
        look(second, "/")
        assert second.all('main[data-state="broken"]'), second.text
        assert "3.2.4" in second.one(".stale").text, "what was known last"
        service.start()
        service.until("change-reverted")
        goes_on(first, told)
        assert version_of(service.demo).whole == "3.2.4"
        look(second, "/live")
        keep(second, "failure", told.language)
        # Once more, since one yes was for one stop; both say it at once, and both count.
        service.until_next_upgrade(lambda next_upgrade: next_upgrade["binding"] is not None)
        approve_concurrently((first, second), "/approve")
        given = service.client.get("/v1/next-upgrade")["approvals"]
        assert sorted(one["actor"] for one in given) == sorted([FIRST, SECOND])
        upgrade_now(operator)
        look(second, "/live")
        assert not second.all(".steps .undone"), "the change of before is no answer to this order"
        go(first, "/live")
        service.until("change-finished")
        first.until("its end, live", lambda: first.all(".label.good") and first.one("h1").text)
        assert "3.3.0" in first.one("h1").text
        first.until("users can work", lambda: first.all(".users.good"))
        assert not first.all('form[action="/confirm"]'), "what is over cannot be ended"
        keep(first, "activity", told.language)
        for name, (path, part) in PICTURED.items():
            look(second, path)
            keep(second, name, told.language, part)
        look(operator, "/hold")
        keep(operator, "hold", told.language)
        assert version_of(service.demo).whole == "3.3.0"
        # What was: predicted and real, and each change in a dozen lines.
        changes = service.client.get("/v1/history")["changes"]
        assert [change["state"] for change in changes] == ["finished", "reverted"]
        go(second, "/history")
        assert len(second.all("tbody tr")) == len(changes), second.text
        for change in changes:
            go(second, f"/history/{change['id']}")
            assert change["to"] in second.one("h1").text
        # And back: two people, and the count of what would be lost, typed.
        approve(first, "/rollback-plan")
        approve(second, "/rollback-plan")
        form = 'form[action="/rollback"]'
        there(operator, "/rollback-plan", f"{form} button")
        if operator.all("#typed"):
            operator.one("#typed").type(operator.one('input[name="lost"]').attribute("value") or "")
        operator.one(f"{form} button").click()
        ended(operator)
        people = {"who operates": operator, "the first to approve": first, "the second": second}
        require_counted("browser", {name: person.attention for name, person in people.items()})
    assert version_of(service.demo).whole == "3.2.4"
