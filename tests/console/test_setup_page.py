"""A site set up by a browser: the same questions, plan and steps as in a terminal."""

from __future__ import annotations

import json
import os
import re
import select
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ncen_updater.agent.cli import main
from ncen_updater.agent.config.loader import load_config
from ncen_updater.agent.setup.record import SetupPhase
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import LazyText
from ncen_updater.common.messages import BAD_USAGE, SETUP_CONFIGURED, SETUP_STEP_FAILED
from ncen_updater.common.progress import Amount, ProgressListener
from ncen_updater.console.app import ConsoleApplication
from ncen_updater.console.authentication import LinkAuthBackend
from ncen_updater.console.local_console import FORBIDDEN_RESPONSE, serve_on_loopback
from ncen_updater.console.service_client import ServiceClient
from ncen_updater.console.sessions import LoginKeys, UserContext
from ncen_updater.console.setup import FAREWELL_S, IDLE_S, SetupPage
from tests.agent.cli.live import PROGRAM
from tests.agent.setup.site import BareSite
from tests.agent.setup.test_units import machine_with_units
from tests.console.browsers import GUIDE, NARROW, ROOT, WIDE, keep, settled
from tests.console.support import Guest, Place, entered
from tests.console.test_peers import OTHER, asked_as
from tests.support.activation import ACTIVATOR
from tests.support.axe import fetch_axe
from tests.support.forks import DEADLINE_S
from tests.support.webdriver import Browser, browser, missing

LACKS = missing()
#: Answers in the picture of a guide.
SHOWN = {
    "site": "ke-nairobi", "country": "KE", "feed": "https://feed.example.org/ncen",
    "people": "amina",
}  # fmt: skip


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[BareSite]:
    if ACTIVATOR is None:
        pytest.skip("systemd-socket-activate is not installed")
    with tempfile.TemporaryDirectory(prefix="nu-") as directory:  # a socket's path is short
        monkeypatch.setenv("PATH", f"{directory}/bin:{os.environ['PATH']}")
        with machine_with_units(Path(directory)) as made:
            yield made


@contextmanager
def setting_up(site: BareSite, *words: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Type the command; yields the link."""
    command = [*PROGRAM, "--json", "setup", "--web", "--root", str(site.demo.root), *words]
    kept = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
        env={**kept, "LANG": "C.UTF-8", "PYTHONPATH": str(ROOT)},
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            assert select.select([process.stdout], [], [], DEADLINE_S)[0], "it showed no link"
            yield json.loads(process.stdout.readline())["link"], process
        finally:
            process.terminate()


def checked(person: Browser, name: str) -> None:
    """The page is accessible at any width and in both schemes."""
    found = []
    for scheme in ("light", "dark"):
        person.media(scheme=scheme)
        for width in (NARROW, GUIDE, WIDE):
            person.width(width)
            found += fetch_axe().violations(person)
            found += [f"{name}: wider than {width}"] if person.overflows() else []
    person.media()
    assert found == []


@pytest.mark.skipif(LACKS is not None, reason=str(LACKS))
@pytest.mark.parametrize("language", ["en", "fr"])
def test_site_is_set_up_in_a_browser(site: BareSite, language: str) -> None:
    before = site.look()
    with setting_up(site) as (link, process), browser(None, language) as person:
        person.open(link)
        person.until("the questions", lambda: person.all("#site"))
        assert not person.all("nav")
        assert site.demo.app_url in person.text
        checked(person, "questions")
        proposed = [one.attribute("value") for one in person.all("input:not([type=hidden])")]
        assert (proposed[2:4], proposed[5]) == (["", "root.json"], "22:00-04:00")
        for name, text in SHOWN.items():
            person.one(f"#{name}").type(text)
        keep(person, "setup", language, ".card")
        replies = {
            "site": "two words", "country": "ke", "feed": site.answers["feed"]["urls"][0],
            "trust": site.answers["trust"]["root"], "people": "none", "window": "at night",
        }  # fmt: skip
        for name, text in replies.items():
            person.one(f"#{name}").type(text)
        answer(person)
        person.until("the mistakes", lambda: person.all(".mistake"))
        wrong = [one.attribute("id") for one in person.all("input[aria-invalid]")]
        assert wrong == ["site", "window"]
        assert person.one("#feed").attribute("value") == replies["feed"]
        checked(person, "mistakes")
        person.one("#site").type("ke-national")
        person.one("#window").type("22:00-04:00")
        answer(person)
        person.until("the plan", lambda: person.all(".plan"))
        assert person.one(".digest").text.startswith(site.answers["trust"]["fingerprint"])
        for part in ('+id = "ke-national"', "proxy_pass", "systemctl daemon-reload"):
            assert part in person.text, part
        assert site.look() == before
        checked(person, "plan")
        keep(person, "plan", language, ".plan li:nth-last-child(4)", site.demo.root)
        person.one('form[action="/apply"] button').click()
        assert not person.all("main[data-state=loading]"), "it was not said to be compared"
        person.one("#compared").click()
        person.one('form[action="/apply"] button').click()
        person.until("the end", lambda: person.all('form[action="/close"]'))
        assert site.record().phase is SetupPhase.DONE
        assert "setup --undo" in person.text and "ncen-updater check" in person.text
        checked(person, "done")
        person.one('form[action="/close"] button').click()
        person.until("the farewell", lambda: person.all(".said"))
        assert process.wait(DEADLINE_S) == 0
    config = load_config(site.demo.config_path)
    assert (config.site.id, config.site.country) == ("ke-national", "KE")
    fetch_axe().require()
    assert len(config.service.windows) == 1
    site.undo()
    assert site.look() == before


def answer(person: Browser) -> None:
    person.one('form[action="/answers"] button').click()
    settled(person)


def test_answers_of_a_file_are_not_asked_and_setup_continues_without_the_page(
    site: BareSite,
) -> None:
    before = site.look()
    with setting_up(site, "--answers", str(site.write_answers())) as (link, process):
        guest = entered(int(link.split(":")[2].partition("/")[0]), link)
        shown = guest.settled("/")
        assert 'class="plan"' in shown.text
        assert [address for address, _ in shown.forms()] == ["/apply", "/language"]
        guest.submit(shown, "/apply", compared="yes")
        while (seen := guest.get("/")).state == "loading" and '<li class="now">' not in seen.text:
            pass
        children = Path(f"/proc/{process.pid}/task").glob("*/children")
        workers = [os.pidfd_open(int(pid)) for one in children for pid in one.read_text().split()]
        process.terminate()
        assert process.wait(DEADLINE_S) == 0
    for worker in workers:  # it inspects the site after the last step
        assert select.select([worker], [], [], DEADLINE_S)[0]
        os.close(worker)
    assert site.record().phase is SetupPhase.DONE
    site.undo()
    assert site.look() == before


@pytest.mark.parametrize("words", [("--yes",), ("--undo",), ("--dry-run",)])
def test_page_rejects_terminal_options(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["--json", "setup", "--web", *words]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == BAD_USAGE.code


def test_page_is_refused_for_a_configured_site(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "etc/ncen-updater/agent.toml"
    config.parent.mkdir(parents=True)
    config.touch()
    assert main.run(["--json", "setup", "--web", "--root", str(tmp_path)]) == 3
    assert json.loads(capsys.readouterr().out)["error"]["code"] == SETUP_CONFIGURED.code


# ---- who may come in, and what is done twice -----------------------------------------------------

PLAN: Mapping[str, Any] = {
    "found": [{"text": "unit: {name}", "values": {"name": "ncen.service"}}],
    "questions": [{"name": "site", "text": {"text": "Site ID", "values": {}}, "answer": "ke",
                   "mistake": ""}],
    "plan": {
        "fingerprint": "00000000", "by_hand": [], "records": [{"kind": "command"}],
        "steps": [{"title": {"text": word, "values": {}}, "preview": [word]}
                  for word in ("first", "second", "third")],
    },
}  # fmt: skip


class Agent:
    """Plays the worker: does what a trial says, when it says so.

    Attributes:
        orders: What it was ordered.
    """

    def __init__(self) -> None:
        self.orders: list[Mapping[str, Any]] = []
        self.answers: list[object] = [PLAN]
        self.steps: tuple[int, ...] = ()
        self.told, self.goes = threading.Event(), threading.Event()

    def __call__(self, order: Mapping[str, Any], progress: ProgressListener) -> Mapping[str, Any]:
        self.orders.append(order)
        for number in self.steps:
            progress.report(LazyText("step"), Amount(number, 3))
        if order["act"] == "apply":
            self.told.set()
            assert self.goes.wait(DEADLINE_S)
        found = self.answers.pop(0)
        if isinstance(found, UpdaterError):
            raise found
        assert isinstance(found, Mapping)
        return found


@pytest.fixture
def agent() -> Agent:
    return Agent()


@contextmanager
def served(agent: Agent, clock: list[float]) -> Iterator[tuple[SetupPage, Place]]:
    page, keys = SetupPage({"root": "/"}, agent, lambda: clock[0]), LoginKeys()
    inside = UserContext(ServiceClient(Path()), persistent=True)
    backend = LinkAuthBackend(keys, inside)
    with serve_on_loopback(0, ConsoleApplication(backend, routes=page.make_routes())) as port:
        yield page, Place(port, keys)


@pytest.fixture
def clock() -> list[float]:
    return [0.0]


@pytest.fixture
def place(agent: Agent, clock: list[float]) -> Iterator[tuple[SetupPage, Place]]:
    with served(agent, clock) as found:
        yield found


def test_unauthenticated_request_gets_nothing(agent: Agent, place: tuple[SetupPage, Place]) -> None:
    _, there = place
    key = there.keys.issue_key()
    nobody = Guest(there.port)
    assert nobody.get("/").status == 401
    for form in ("/answers", "/apply", "/again", "/close"):
        assert nobody.post(form, {"plan": "x", "compared": "yes"}).status == 401
    assert nobody.get(f"/enter?key={key[:-1]}").status == 403
    assert nobody.get(f"/enter?key={key}").status == 200
    assert nobody.get(f"/enter?key={key}").status == 403, "a second browser with the same link"
    if os.geteuid() == 0:
        assert asked_as(OTHER, there.port) in (FORBIDDEN_RESPONSE, b"")
    assert [order["act"] for order in agent.orders] == ["plan"]


def test_forged_form_does_nothing(agent: Agent, place: tuple[SetupPage, Place]) -> None:
    guest = place[1].enter()
    page = guest.settled("/")
    fields = {**page.form("/apply"), "compared": "yes"}
    for headers in ({"Origin": "http://127.0.0.1:1"}, {"Sec_Fetch_Site": "cross-site"}):
        assert guest.post("/apply", fields, **headers).status == 403
    assert guest.post("/apply", {**fields, "token": "x.y"}).status == 400
    assert [order["act"] for order in agent.orders] == ["plan"]


def test_plan_is_applied_once_as_shown(agent: Agent, place: tuple[SetupPage, Place]) -> None:
    page, there = place
    first, second = there.enter(), there.enter()
    shown, old = first.settled("/"), second.settled("/")
    assert first.submit(shown, "/apply").status == 409, "the fingerprint was not compared"
    other = {**PLAN, "plan": {**PLAN["plan"], "fingerprint": "11111111"}}
    agent.answers.append(other)
    first.submit(shown, "/answers", site="ug")
    shown = first.settled("/")
    assert agent.orders[-1]["answers"] == {"site": "ug"}
    assert second.submit(old, "/apply", compared="yes").status == 409, "another plan was shown"
    agent.answers.append({"by_hand": [], "doctor": {}})
    first.submit(shown, "/apply", compared="yes")
    agent.told.wait(DEADLINE_S)
    assert page.is_applying
    late = second.post("/apply", {**second.get("/").form("/language"), "compared": "yes"})
    assert late.status == 400
    agent.goes.set()
    assert 'action="/close"' in second.settled("/").text
    assert [order["act"] for order in agent.orders] == ["plan", "plan", "apply"]
    assert agent.orders[-1]["plan"] == other["plan"]


def test_failed_step_is_shown_being_reverted(agent: Agent, place: tuple[SetupPage, Place]) -> None:
    page, there = place
    guest = there.enter()
    shown = guest.settled("/")
    agent.steps = (0, 1, 1)
    agent.answers.append(UpdaterError(SETUP_STEP_FAILED, step="second", cause="-"))
    guest.submit(shown, "/apply", compared="yes")
    agent.told.wait(DEADLINE_S)
    rows = re.findall(r'<li class="(\w*)">', guest.get("/").text)
    assert rows == ["done", "now", "undone"]
    agent.goes.set()
    failed = guest.settled("/")
    assert SETUP_STEP_FAILED.code in failed.text
    agent.answers.append({"interrupted": []})
    guest.submit(failed, "/again")
    assert 'action="/apply"' in guest.settled("/").text
    assert not page.is_applying


def test_typed_answers_are_kept_after_a_failed_plan(
    agent: Agent, place: tuple[SetupPage, Place]
) -> None:
    guest = place[1].enter()
    shown = guest.settled("/")
    agent.answers.append(UpdaterError(SETUP_STEP_FAILED, step="-", cause="-"))
    guest.submit(shown, "/answers", site="typed-by-hand")
    failed = guest.settled("/")
    assert SETUP_STEP_FAILED.code in failed.text and 'value="typed-by-hand"' in failed.text


def test_page_ends_with_the_setup_or_when_idle(agent: Agent, clock: list[float]) -> None:
    with served(agent, clock) as (page, there):
        guest = there.enter()
        shown = guest.settled("/")
        clock[0] = IDLE_S
        assert not page.is_over()
        guest.get("/")
        clock[0] += 1
        assert not page.is_over()
        agent.answers.append({"by_hand": [], "doctor": {}})
        guest.submit(shown, "/apply", compared="yes")
        clock[0] += 2 * IDLE_S
        assert not page.is_over(), "it is at work"
        agent.goes.set()
        done = guest.settled("/")
        clock[0] += 1
        assert not page.is_over()
        guest.submit(done, "/close")
        clock[0] += FAREWELL_S + 1
        assert page.is_over()
