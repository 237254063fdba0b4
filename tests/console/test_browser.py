"""Every page in a real browser: at any width, with scripts and without, printed, and for all."""

from __future__ import annotations

import re
import socket as sockets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ncen_updater.agent.model.change import StepName
from ncen_updater.agent.service.snapshot import SnapshotStore
from ncen_updater.agent.storage.journal.jobs import JobQueue
from ncen_updater.agent.storage.journal.journal import Journal
from tests.agent.cli.site import make_site
from tests.agent.service.api.conftest import FOUND, NEXT, NOW, SETTINGS, Counter
from tests.agent.service.api.serving import answering
from tests.agent.service.test_long_history import make
from tests.console.browsers import GUIDE, NARROW, PAGES, WIDE, consoled, entered, origin, settled
from tests.support.axe import fetch_axe
from tests.support.rotation import in_turns
from tests.support.webdriver import Browser, missing

TAB, ENTER = "\ue004", "\ue007"
#: What a page lets people use, as long as it is shown.
USABLE = "a, button, input:not([type=hidden]), select, summary, [tabindex='0']"
LACKS = missing()
pytestmark = pytest.mark.skipif(LACKS is not None, reason=str(LACKS))


@pytest.fixture(scope="module")
def socket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A service whose site has something of everything; what looks at databases is played."""
    site = make_site(tmp_path_factory.mktemp("console") / "site")
    site.journal.unlink()
    make(site.journal, 2)
    counter = Counter(site, SnapshotStore(SETTINGS, lambda: NOW))
    counter.know(NEXT)
    assert counter.ask("POST", "/v1/jobs", {"kind": "check"}).status == 202
    with Journal.open(site.journal) as journal:
        JobQueue(journal).mark_started(1)
        JobQueue(journal).mark_ended(1, {"exit_code": 0, "document": FOUND["plan"]})
    site.open_change(StepName.FETCH, StepName.COPY)
    (inbox := site.state / "inbox").mkdir(mode=0o700)
    for name in ("ke.part-1-of-2.ncen", "mu.ncen"):
        (inbox / name).write_bytes(b"bundle")
    (inbox / "link.ncen").symlink_to("mu.ncen")
    with answering(counter) as path:
        yield path


@pytest.fixture(scope="module")
def person(socket: Path) -> Iterator[Browser]:
    with entered(socket) as found:
        yield found


def go(person: Browser, name: str) -> None:
    person.open(origin(person) + PAGES[name])
    settled(person)


@pytest.fixture
def as_usual(person: Browser) -> Iterator[Browser]:
    """Whatever a trial set in the browser, the next one finds it as it is."""
    yield person
    person.scripts(on=True)
    person.media()
    person.width(WIDE)


def test_every_page_is_accessible_at_any_width(as_usual: Browser) -> None:
    """At any width, in both schemes, enlarged: nothing is cut off or inaccessible."""
    person, axe = as_usual, fetch_axe()
    person.complaints()
    found = []
    for name in PAGES:
        go(person, name)
        assert len(person.all("h1")) == 1, name
        for scheme in ("light", "dark"):
            person.media(scheme=scheme)
            for width in (NARROW, GUIDE, WIDE):
                person.width(width)
                found += [f"{name} at {width}, {scheme}: {one}" for one in axe.violations(person)]
                if scheme == "light":
                    found += cut_off(person, f"{name} at {width}")
        person.zoom(2)
        found += cut_off(person, f"{name} at 200 %")
    assert [*found, *person.complaints()] == []
    axe.require()


def cut_off(person: Browser, what: str) -> list[str]:
    """What has to be pushed sideways to be read."""
    wide = [f"{what} is wider than its window"] if person.overflows() else []
    return wide + [f"{what} is pushed: {one}" for one in person.pushed()]


@in_turns("name")
@pytest.mark.parametrize("name", PAGES)
def test_pages_work_without_scripts(as_usual: Browser, name: str) -> None:
    """What a script would show is on the page, and its forms are there."""
    as_usual.scripts(on=False)
    go(as_usual, name)
    assert as_usual.one("h1").text
    assert as_usual.one("nav").shown
    assert not [place.text for place in as_usual.all("noscript") if place.text]


@in_turns("name")
@pytest.mark.parametrize("name", PAGES)
def test_printed_pages_omit_controls(as_usual: Browser, name: str) -> None:
    """Paper shows the requested content, and no controls."""
    go(as_usual, name)
    paper = as_usual.printed()
    assert paper.startswith(b"%PDF-")
    assert len(re.findall(rb"/Type */Page\b", paper)) >= 1
    as_usual.media("print")
    assert as_usual.one("h1").shown
    for selector in ("nav", "button", ".skip"):
        assert not any(part.shown for part in as_usual.all(selector)), selector


def test_selected_language_persists(as_usual: Browser) -> None:
    """In French every page says so, to who reads it out, too; and the choice is one click."""
    go(as_usual, "status")
    choose(as_usual, "fr")
    for name in PAGES:
        go(as_usual, name)
        assert as_usual.one("html").attribute("lang") == "fr", name
        assert "État" in as_usual.one("nav").text
    choose(as_usual, "en")
    assert as_usual.one("html").attribute("lang") == "en"


def choose(person: Browser, language: str) -> None:
    person.one(f'#language option[value="{language}"]').click()
    person.one('form[action="/language"] button').click()
    person.until(language, lambda: person.all(f'html[lang="{language}"]'))


@in_turns("name")
@pytest.mark.parametrize("name", PAGES)
def test_every_page_is_usable_by_keyboard(as_usual: Browser, name: str) -> None:
    """The first key leads past the pages; each further one to what can be used, and is seen."""
    go(as_usual, name)
    as_usual.key(TAB)
    skip = as_usual.run("return document.activeElement.getAttribute('href')")
    assert skip == "#main"
    shown = """return [...document.querySelector("main").querySelectorAll(arguments[0])]
        .filter((one) => one.checkVisibility()).length"""
    wanted = as_usual.run(shown, USABLE)
    as_usual.key(ENTER)
    assert as_usual.address.endswith("#main")
    for _ in range(int(wanted)):
        as_usual.key(TAB)
        place = as_usual.run(
            "const one = document.activeElement; return [!!one.closest('main'),"
            " getComputedStyle(one).outlineStyle, one.outerHTML.slice(0, 200)]"
        )
        assert place[0] and place[1] != "none", place


@contextmanager
def squatting(port: int) -> Iterator[list[str]]:
    """Answer at the same port of ::1, as any user of the machine may; yields what is asked for.

    Browsers take ``localhost`` for ::1 first, and both places for one.
    """
    heard: list[str] = []

    class Squatter(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            heard.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *words: object) -> None:
            del words

    class SixServer(ThreadingHTTPServer):
        address_family, daemon_threads, block_on_close = sockets.AF_INET6, True, False

    try:
        server = SixServer(("::1", port), Squatter)
    except OSError as error:
        pytest.skip(f"this machine has no IPv6: {error}")
    with server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield heard
        finally:
            server.shutdown()
            thread.join()


def test_other_listener_on_the_port_receives_nothing(as_usual: Browser, socket: Path) -> None:
    with consoled(socket) as link:
        port = int(re.findall(r":(\d+)/", link)[0])
        with squatting(port) as heard:
            as_usual.open(link)
            as_usual.until("the first page", lambda: as_usual.all('body[data-page="status"]'))
            go(as_usual, "live")
            assert heard == []
            as_usual.open(f"http://localhost:{port}/")
            assert len(heard) >= 1, "this browser would have gone there by the name"
    as_usual.complaints()
