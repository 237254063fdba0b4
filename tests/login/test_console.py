"""Tests of the console behind a web server: real passwords, the helper and the service."""

from __future__ import annotations

import html
import pwd
import re
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import CONSOLE_PASSWORD
from ncen_updater.console.authentication import PasswordAuthBackend
from ncen_updater.console.password_login import LoginClient, ProxiedServiceClient
from ncen_updater.console.sessions import REQUESTS, UserContext
from tests.agent.service.api.conftest import BINDING, Counter
from tests.agent.service.api.serving import answering
from tests.console.support import Answer
from tests.console.test_app import has_dossier
from tests.login.login_socket import AMINA, MARIE, SECRETS, LoginSocket, login_socket, opened
from tests.login.proxied_console import NAME, Person, approvals, serve_proxied_console
from tests.support.forks import DEADLINE_S


@pytest.fixture
def web(login: LoginSocket, place: Path) -> Iterator[Path]:
    with serve_proxied_console(place / "console.sock", login.path) as path:
        yield path


def entered(web: Path, user: str) -> Person:
    person = Person(web)
    found = person.log_in(user, SECRETS[user])
    assert found.status == 200, found.text
    return person


def test_unauthenticated_user_is_asked_for_a_password(web: Path) -> None:
    for path in ("/", "/upgrade", "/approve", "/live", "/dossier", "/enter?key=x"):
        found = Person(web).get(path)
        assert (found.status, 'name="password"' in found.text) == (401, True), path
        assert "3.2.4" not in found.text and "mu-port-louis" not in found.text
    found = Person(web).get("/login")
    assert (found.status, found.state) == (200, "ready")
    assert found.headers["content-security-policy"].startswith("default-src 'none'")


def test_wrong_password_does_not_reveal_whether_the_name_exists(web: Path) -> None:
    said = {
        re.sub(r"\s+", " ", html.unescape(Person(web).log_in(user, "wrong").text))
        for user in (AMINA, "nobody-at-all")
    }
    assert len(said) == 1 and "NU-9711" in said.pop()
    assert "set-cookie" not in Person(web).log_in(AMINA, "wrong").headers


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec_Fetch_Site": "cross-site"}, {"Origin": "https://evil.example"},
        {"Origin": f"http://{NAME}", "Sec_Fetch_Site": None}, {"Sec_Fetch_Site": None},
        {"Host": "a b"},
    ],
)  # fmt: skip
def test_cross_site_login_is_refused(web: Path, headers: dict[str, str | None]) -> None:
    found = Person(web).log_in(AMINA, SECRETS[AMINA], **headers)
    assert found.status in (400, 403) and "set-cookie" not in found.headers


def test_two_users_of_one_console_are_separate(web: Path, counter: Counter) -> None:
    """Each sees their own name, approves with their own password, and logs out alone."""
    first, second = entered(web, AMINA), entered(web, MARIE)
    for person, name, other in ((first, AMINA, MARIE), (second, MARIE, AMINA)):
        text = person.get("/").text
        assert f"Signed in as {name}." in html.unescape(text) and other not in text
    has_dossier(counter)
    for person, name in ((first, AMINA), (second, MARIE)):
        assert approve(person, "wrong").status == 409
        assert name not in approvals(counter)
        assert approve(person, SECRETS[name]).status == 303
        assert name in approvals(counter)
    assert first.submit(first.get("/"), "/leave").status == 200
    assert first.get("/").status == 401
    assert second.get("/").status == 200


def test_user_without_a_role_cannot_log_in(counter: Counter, place: Path) -> None:
    with (
        answering(counter) as service,
        login_socket(place, service) as login,
        serve_proxied_console(place / "console.sock", login.path) as web,
    ):
        opened(service)
        service.chmod(0o660)
        found = Person(web).log_in(AMINA, SECRETS[AMINA])
    assert (found.status, "NU-9711" in found.text) == (401, True), "as for a wrong password"
    assert "set-cookie" not in found.headers


def approve(person: Person, secret: str) -> Answer:
    """Send the form as the page has it."""
    token = re.search(r'name="token" value="([^"]+)"', _form(person))
    assert token is not None
    fields = {"token": token[1], "binding": BINDING, "secret": secret, "back": "/approve"}
    return person.post("/approve", fields)


def _form(person: Person) -> str:
    text = person.settled("/approve").text
    found = re.search(r'<form method="post" action="/approve".*?</form>', text, re.DOTALL)
    assert found is not None, text
    assert 'name="secret"' in found[0]
    return found[0]


def test_console_reaches_the_service_only_as_the_user(web: Path, login: LoginSocket) -> None:
    """Where their process ends, so does what they see."""
    person = entered(web, AMINA)
    uid = pwd.getpwnam(AMINA).pw_uid
    assert [process.pid for process in login.processes if owner(process.pid) == uid]
    for process in login.processes:
        process.kill()
        process.wait()
    assert person.get("/live").status == 401
    assert person.get("/").status == 401


def owner(process: int) -> int:
    return Path(f"/proc/{process}").stat().st_uid


def test_several_sessions_of_one_account_are_served(
    web: Path, counter: Counter, login: LoginSocket
) -> None:
    """What they wait for and follow takes no place from what they ask, nor from other people."""
    counter.inspector.door.clear()
    sessions = [entered(web, AMINA) for _ in range(PasswordAuthBackend.max_sessions)]
    for person in sessions:
        assert person.get("/live").status == 200
        for path in ("/upgrade", "/help", "/audit-log"):
            found = person.get(path)
            assert (found.status, found.state) == (200, "loading"), found.text
            assert not re.search("NU-93(04|2)", found.text), found.text
    other = entered(web, MARIE)
    assert other.get("/help").status == 200
    for person in (*sessions, other):
        assert person.get("/").status == 200
    counter.inspector.door.set()
    for person in (*sessions, other):
        assert person.settled("/help").state == "ready"
    newest = entered(web, AMINA)  # one more than there may be: their own oldest goes
    assert [one.get("/").status for one in (*sessions, newest, other)] == [401, *[200] * 5]
    uid = pwd.getpwnam(AMINA).pw_uid
    running = [one.pid for one in login.processes if one.poll() is None]
    assert len([number for number in running if owner(number) == uid]) == 1


def test_one_user_does_not_block_others(web: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever they ask for at the same time, and however long the service takes."""
    amina, marie = entered(web, AMINA), entered(web, MARIE)
    gate, waiting, real = threading.Event(), threading.Semaphore(0), ProxiedServiceClient.get_status

    def status(service: ProxiedServiceClient, language: str) -> Any:
        if service._user == AMINA:
            waiting.release()
            assert gate.wait(DEADLINE_S)
        return real(service, language)

    monkeypatch.setattr(ProxiedServiceClient, "get_status", status)
    with ThreadPoolExecutor(40) as pool:
        asked = [pool.submit(amina.get, "/") for _ in range(40)]
        for _ in range(REQUESTS):
            assert waiting.acquire(timeout=DEADLINE_S)
        assert marie.get("/").status == 200
        gate.set()
        found = [one.result() for one in asked]
    assert {one.status for one in found} <= {200, 503}
    assert all("NU-9718" in one.text for one in found if one.status == 503)


def test_login_during_a_request_of_the_same_user_does_not_block_others() -> None:
    class Door(LoginClient):
        def log_in(self, user: str, password: str, address: str = "") -> tuple[socket.socket, str]:
            ours, theirs = socket.socketpair()
            theirs.close()
            return ours, user

    backend = PasswordAuthBackend(Door(Path()))

    def enter(user: str) -> UserContext:
        return backend.authenticate({"user": user, "password": "x"}, "")

    first = enter(MARIE)
    assert isinstance(first.service, ProxiedServiceClient)
    with ThreadPoolExecutor(2) as pool:
        with first.service._lock:  # as during a request
            second = pool.submit(enter, MARIE)
            other = pool.submit(enter, AMINA)
            assert other.result(DEADLINE_S) is not first
            assert not second.done()
        assert second.result(DEADLINE_S) is first
    first.close()
    third = enter(MARIE)
    assert third is not first
    third.close()
    enter(AMINA).close()


def test_pending_logins_do_not_block_logged_in_users(
    web: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marie = entered(web, MARIE)
    gate, waiting = threading.Event(), threading.Semaphore(0)

    def slow(entrance: LoginClient, user: str, password: str, address: str) -> Any:
        waiting.release()
        assert gate.wait(DEADLINE_S)
        raise UpdaterError(CONSOLE_PASSWORD)

    monkeypatch.setattr(LoginClient, "log_in", slow)
    with ThreadPoolExecutor(40) as pool:
        tried = [pool.submit(Person(web).log_in, AMINA, "guess") for _ in range(40)]
        for _ in range(PasswordAuthBackend.threads // 4):
            assert waiting.acquire(timeout=DEADLINE_S)
        assert marie.get("/").status == 200
        gate.set()
        assert {one.result().status for one in tried} <= {401, 503}
