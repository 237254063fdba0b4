"""Tests of the login helper: real accounts, PAM, and limits of the console."""

from __future__ import annotations

import json
import os
import pwd
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ncen_updater.agent.service.api.routes import ROUTES
from ncen_updater.agent.storage.journal.jobs import JobKind
from ncen_updater.common.errors import UpdaterError
from ncen_updater.console import service_client as console_service
from ncen_updater.console.password_login import LoginClient, ProxiedServiceClient
from ncen_updater.console.service_client import ServiceRefusedError
from ncen_updater.login.helper import REFUSED_S, LoginHelper
from ncen_updater.login.login_throttle import LoginThrottle
from ncen_updater.login.pam import PamResult, PamService, PamVerdict
from ncen_updater.login.user_proxy import PREPARATORY_JOBS, is_allowed
from tests.agent.service.api.conftest import BINDING, READER, Counter
from tests.agent.service.api.serving import answering
from tests.login.login_socket import (
    AMINA,
    GROUP,
    MARIE,
    RULES,
    SECRETS,
    LoginSocket,
    login_socket,
    opened,
)
from tests.support.system_users import expired, without_password

PACKAGING = Path(__file__).resolve().parents[2] / "packaging"
APPROVE = {"binding": BINDING, "change_kind": "upgrade"}


def came_in(login: LoginSocket, user: str = AMINA) -> ProxiedServiceClient:
    entrance = LoginClient(login.path)
    line, who = entrance.log_in(user, SECRETS[user])
    assert who == user
    service = ProxiedServiceClient(line, who, entrance)
    login.closing.callback(service.close)
    return service


# ---- the password --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("user", "password", "verdict"),
    [
        (AMINA, SECRETS[AMINA], PamVerdict.ACCEPTED), (MARIE, SECRETS[MARIE], PamVerdict.ACCEPTED),
        (AMINA, SECRETS[MARIE], PamVerdict.WRONG), (AMINA, "", PamVerdict.WRONG),
        ("nobody-at-all", "x", PamVerdict.WRONG), ("", "x", PamVerdict.WRONG),
        (f"{AMINA}\0", SECRETS[AMINA], PamVerdict.WRONG),
        (AMINA, SECRETS[AMINA] + "\0", PamVerdict.WRONG),
    ],
)  # fmt: skip
def test_pam_verdict_is_reported(
    people: None, tmp_path: Path, user: str, password: str, verdict: PamVerdict
) -> None:
    (tmp_path / "trial").write_text(RULES)
    assert PamService("trial", tmp_path).check_password(user, password).verdict is verdict


def test_missing_pam_rules_refuse_everybody(people: None, tmp_path: Path) -> None:
    """The default rules are not used, which may admit everyone."""
    (tmp_path / "other").write_text("auth required pam_permit.so\naccount required pam_permit.so\n")
    answer = PamService("trial", tmp_path).check_password(AMINA, SECRETS[AMINA])
    assert (answer.verdict, "trial" in answer.detail) == (PamVerdict.UNAVAILABLE, True)


@pytest.mark.parametrize(
    ("user", "password", "code"),
    [
        (AMINA, "wrong", "NU-9711"), ("nobody-at-all", "x", "NU-9711"), ("root", "", "NU-9711"),
        (AMINA, "x" * 5000, "NU-9711"), ("x" * 5000, "x", "NU-9711"),
    ],
)  # fmt: skip
def test_unsuitable_account_is_refused(
    login: LoginSocket, user: str, password: str, code: str
) -> None:
    with pytest.raises(UpdaterError, match=code):
        LoginClient(login.path).log_in(user, password)


def test_correct_password_of_an_excluded_account_is_not_revealed(
    counter: Counter, place: Path
) -> None:
    """Every password is right here: all excluded accounts get the same answer."""
    rules = "auth required pam_permit.so\naccount required pam_permit.so\n"
    with answering(counter) as service, login_socket(place, service, rules=rules) as login:
        opened(service)
        service.chmod(0o660)
        told = []
        for name in ("root", AMINA, "nobody-at-all", "\ud800", "\udc80", f"{AMINA}\0", ""):
            with pytest.raises(UpdaterError) as caught:
                LoginClient(login.path).log_in(name, "x")
            told.append((caught.value.code, caught.value.values["wait"]))
        assert len(set(told)) == 1 and told[0][0] == "NU-9711"
        shutil.chown(service, group=GROUP)
        came_in(login)
        service.unlink()  # the permitted caller is unknown then: all are refused
        with pytest.raises(UpdaterError, match="NU-9304"):
            LoginClient(login.path).log_in(AMINA, SECRETS[AMINA])


def test_account_without_a_password_is_refused(people: None, tmp_path: Path) -> None:
    """As sshd has it; the rules of Debian take any word for one."""
    (tmp_path / "trial").write_text(RULES.replace("nodelay", "nodelay nullok"))
    with without_password(MARIE):
        for password in (" ", "x", ""):
            answer = PamService("trial", tmp_path).check_password(MARIE, password)
            assert answer.verdict is PamVerdict.WRONG


def test_pam_receives_the_client_address(people: None, tmp_path: Path) -> None:
    said, script = tmp_path / "said", tmp_path / "note"
    script.write_text(f'#!/bin/sh\necho "$PAM_USER $PAM_RHOST" >> {said}\n')
    script.chmod(0o700)
    (tmp_path / "trial").write_text(f"auth optional pam_exec.so quiet {script}\n{RULES}")
    for address in ("192.0.2.7", ""):
        found = PamService("trial", tmp_path).check_password(AMINA, SECRETS[AMINA], address)
        assert found.verdict is PamVerdict.ACCEPTED
    assert said.read_text() == f"{AMINA} 192.0.2.7\n{AMINA} \n"


class PlayedPam(PamService):
    """Takes its time, and then every password of one name."""

    def __init__(self, clock: list[float], took: float) -> None:
        super().__init__("played")
        self._clock, self._took = clock, took

    def check_password(self, user: str, password: str, address: str = "") -> PamResult:
        del user, password, address
        self._clock[0] += self._took
        return PamResult(PamVerdict.WRONG)


@pytest.mark.parametrize(
    ("user", "took", "after"),
    [
        ("root", 9.0, REFUSED_S), ("nobody-at-all", 9.0, REFUSED_S), (AMINA, 0.5, REFUSED_S),
        (AMINA, 2.5, REFUSED_S), (AMINA, REFUSED_S + 1, 2 * REFUSED_S),
    ],
)  # fmt: skip
def test_every_refusal_takes_the_same_time(
    people: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user: str, took: float,
    after: float,
) -> None:  # fmt: skip
    clock, service = [100.0], tmp_path / "api.sock"
    service.touch()
    service.chmod(0o666)
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    monkeypatch.setattr("time.sleep", lambda s: clock.__setitem__(0, clock[0] + s))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(json.dumps({"user": user, "password": "x"}).encode() + b"\n")
        helper = LoginHelper(
            theirs, os.geteuid(), service, PlayedPam(clock, took), LoginThrottle(tmp_path / "tries")
        )
        helper.run()
        assert json.loads(ours.recv(4096)) == {"refused": "wrong"}
    assert clock[0] == pytest.approx(100.0 + after)


def test_expired_account_is_refused(counter: Counter, place: Path) -> None:
    rules = "auth required pam_permit.so\naccount required pam_unix.so\n"
    with (
        answering(counter) as service,
        login_socket(place, service, rules=rules) as login,
        expired(MARIE),
        pytest.raises(UpdaterError, match="NU-9713"),
    ):
        opened(service)
        LoginClient(login.path).log_in(MARIE, "x")


def test_repeated_failures_are_delayed_increasingly(login: LoginSocket) -> None:
    entrance = LoginClient(login.path)
    for _ in range(4):
        with pytest.raises(UpdaterError, match="NU-9711"):
            entrance.log_in(AMINA, "guess")
    with pytest.raises(UpdaterError, match="NU-9712"):
        entrance.log_in(AMINA, SECRETS[AMINA])
    came_in(login, MARIE)  # another name does not wait


def test_only_the_console_user_may_call_the_helper(counter: Counter, place: Path) -> None:
    other = pwd.getpwnam(READER).pw_uid
    with (
        answering(counter) as service,
        login_socket(place, service, console=other) as login,
        pytest.raises(UpdaterError, match="NU-9716"),
    ):
        LoginClient(login.path).log_in(AMINA, SECRETS[AMINA])


# ---- as the person -------------------------------------------------------------------------------


def test_service_identifies_the_logged_in_user(login: LoginSocket) -> None:
    service = came_in(login)
    you = service.get("/v1/status", "en")["you"]
    assert (you["name"], you["uid"]) == (AMINA, pwd.getpwnam(AMINA).pw_uid)
    assert you["roles"] == ["approve", "read"]
    kind, _ = next((kind, document) for _, kind, document in service.stream("en"))
    assert kind == "service"
    service.close()


def test_user_process_cannot_regain_privileges(login: LoginSocket) -> None:
    came_in(login)
    (process,) = login.processes
    status = Path(f"/proc/{process.pid}/status").read_text()
    entry = pwd.getpwnam(AMINA)
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert fields["Uid"].split() == [str(entry.pw_uid)] * 4
    assert fields["Gid"].split() == [str(entry.pw_gid)] * 4
    assert fields["NoNewPrivs"] == "1"
    assert {int(fields[name], 16) for name in ("CapEff", "CapPrm", "CapInh", "CapAmb")} == {0}


def test_logout_leaves_nothing(login: LoginSocket) -> None:
    service = came_in(login)
    service.close()
    (process,) = login.processes
    assert process.wait(60) == 0
    with pytest.raises(UpdaterError, match="NU-9710"):
        service.get("/v1/status", "en")


def test_approval_needs_the_password_again(login: LoginSocket, counter: Counter) -> None:
    service = came_in(login)
    with pytest.raises(UpdaterError, match="NU-9711"):
        service.call_with_password("POST", "/v1/approvals", "en", APPROVE, "wrong")
    assert counter.rows()["approvals"] == []
    given = service.call_with_password("POST", "/v1/approvals", "en", APPROVE, SECRETS[AMINA])
    assert given["added"] is True
    (row,) = counter.rows()["approvals"]
    assert AMINA in json.dumps([str(cell) for cell in row])


# ---- a console that was taken over ---------------------------------------------------------------

ASKED: Mapping[str, tuple[str, str, dict[str, Any] | None]] = {
    "a yes": ("POST", "/v1/approvals", dict(APPROVE)),
    "a yes, by another word": ("POST", "/v1/approvals?x=1", dict(APPROVE)),
    "a yes, by a path": ("POST", "/v1/../v1/approvals", dict(APPROVE)),
    "a yes as a question": ("POST", "/v1/approvals/", dict(APPROVE)),
    "an upgrade": ("POST", "/v1/jobs", {"kind": "upgrade"}),
    "rollback": ("POST", "/v1/jobs", {"kind": "rollback", "undoes": "abcdefgh"}),
    "an order without a kind": ("POST", "/v1/jobs", None),
    "an order of tomorrow": ("POST", "/v1/jobs", {"kind": "tomorrow"}),
    "resuming a change": ("POST", "/v1/jobs", {"kind": "resume"}),
    "another agent": ("POST", "/v1/jobs", {"kind": "self-update"}),
    "a time at which an approved upgrade begins": (
        "PUT",
        "/v1/schedule",
        {"binding": BINDING, "not_before": "2026-11-24T06:00:01+00:00"},
    ),
    "no time": ("DELETE", "/v1/schedule", None),
    "the end of the watching": ("POST", "/v1/confirmation", None),
    "a hold": ("POST", "/v1/holds", {"reason": "x"}),
    "no hold": ("DELETE", "/v1/holds", None),
    "a yes taken back": ("DELETE", "/v1/approvals", None),
    "a request in a request": ("GET", "/v1/x HTTP/1.1\r\nHost: x\r\n\r\nPOST /v1/approvals", None),
    "another method": ("PATCH", "/v1/approvals", dict(APPROVE)),
}


def test_compromised_console_cannot_approve(login: LoginSocket, counter: Counter) -> None:
    """With both who approve in at the same time, and all that it may say to their processes."""
    for service in (came_in(login, AMINA), came_in(login, MARIE)):
        for method, address, body in ASKED.values():
            with pytest.raises((UpdaterError, ServiceRefusedError)):
                service.call(method, address, "en", body)
        with pytest.raises(UpdaterError, match="NU-9711"):
            service.call_with_password("POST", "/v1/approvals", "en", APPROVE, "guessed")
    assert counter.rows()["approvals"] == [] and counter.rows()["jobs"] == []


def test_connection_serves_one_request_after_the_password(
    login: LoginSocket, counter: Counter
) -> None:
    """The connection is the person's; a second request on it would be theirs, too."""
    line, _ = LoginClient(login.path).log_in(AMINA, SECRETS[AMINA])
    login.closing.enter_context(line)
    asked = {"method": "GET", "address": "/v1/status", "body": None, "language": "en"}
    line.sendall(json.dumps(asked).encode() + b"\n")
    _, found, _, _ = socket.recv_fds(line, 4096, 1)
    with socket.socket(fileno=found[0]) as connection, pytest.raises(BrokenPipeError):
        body = json.dumps(APPROVE)
        connection.sendall(
            b"POST /v1/approvals HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            + f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
        )
    assert counter.rows()["approvals"] == []


@pytest.mark.parametrize(
    "said",
    [b"\n", b"[]\n", b"{}\n", b"{\n", b'{"user": "a"}\n', b"x" * 200_000 + b"\n",
     b'{"user": "a", "password": "b", "request": {"method": "GET", "address": "/v1/status"}}\n',
     b'{"user": "a", "password": "b", "request": {"method": "POST", "address": "/v1/holds"}}\n',
     b'{"user": "a", "password": "b", "request": {"method": "POST", "address": "/v1/holds",'
     b' "body": []}}\n'],
)  # fmt: skip
def test_malformed_first_line_is_refused(login: LoginSocket, said: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.connect(str(login.path))
        try:
            line.sendall(said)
            line.shutdown(socket.SHUT_WR)
            answer = line.recv(4096)
        except OSError:
            answer = b""
    assert b"name" not in answer and b"sent" not in answer


def test_unit_command_starts_the_helper(tmp_path: Path) -> None:
    """Its options were renamed and their parser was not, so that every login failed."""
    unit = PACKAGING / "systemd/ncen-updater-login@.service"
    (started,) = re.findall(r"^ExecStart=(.*)$", unit.read_text("utf-8"), re.MULTILINE)
    words = shlex.split(started)
    own = {"--console": pwd.getpwuid(os.geteuid()).pw_name, "--socket": str(tmp_path / "away")}
    for option, value in {**own, "--tries": str(tmp_path / "tries")}.items():
        words[words.index(option) + 1] = value
    here, there = socket.socketpair()
    with here, there:
        command, line = [sys.executable, *words[1:]], there.fileno()
        with subprocess.Popen(command, stdin=line, stdout=line) as helper:
            there.close()
            here.settimeout(60)
            here.sendall(b'{"user": "nobody-at-all", "password": "x"}\n')
            answer = here.recv(4096)
        assert (answer, helper.returncode) == (b'{"refused": "unreachable"}\n', 0)


def test_console_alone_may_only_read() -> None:
    """Of all that changes something at the service no more than what looks and fetches."""
    for method, address, body in ASKED.values():
        assert not is_allowed(method, address, body) or method == "GET"
    assert is_allowed("GET", "/v1/history?limit=1", None)
    kinds = {kind.value for kind in JobKind}
    harmless = {
        (route.method, route.path_template, kind)
        for route in ROUTES
        for kind in (kinds if route.path_template == "/v1/jobs" else {""})
        if route.method != "GET" and is_allowed(route.method, route.path_template, {"kind": kind})
    }
    assert harmless == {
        ("POST", "/v1/inspections", ""),
        *(("POST", "/v1/jobs", kind) for kind in ("check", "import", "prepare", "rehearse")),
    }
    assert console_service.PREPARATORY_JOBS == PREPARATORY_JOBS
