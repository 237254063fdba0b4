"""Tests of health requests with credentials, headers and version commands."""

from __future__ import annotations

import http.server
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ncen_updater.agent.adapters.application.base import check_maintenance_page
from ncen_updater.agent.adapters.application.command import CommandApplication
from ncen_updater.agent.adapters.application.health import HealthProber
from ncen_updater.agent.adapters.application.health_request import parse_version_output
from ncen_updater.agent.adapters.application.health_result import HealthExpectation, HealthResult
from ncen_updater.agent.config.agent_config import ApplicationSettings
from ncen_updater.common.bounded_io import SecretUnreadableError, read_secret_file
from ncen_updater.formats.manifest import HealthProbe

TOKEN = "0123456789abcdef-secret"
REFUSED = "HTTP status 401: credentials rejected (health_token_file)"
CONTROL = Path(__file__).parents[4] / "docs/examples/control"


class Guarded(http.server.ThreadingHTTPServer):
    """Answers who shows the token, and quotes all that it was sent, as a careless program does."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.wanted, self.otherwise = f"Bearer {TOKEN}", 401
        self.seen: list[dict[str, str]] = []
        self.body = b'{"version": "3.3.0"}'

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Guarded

    def do_GET(self) -> None:
        self.server.seen.append(dict(self.headers))
        said = self.headers.get("Authorization", "")
        self.send_response(200 if said == self.server.wanted else self.server.otherwise)
        self.end_headers()
        self.wfile.write(self.server.body.replace(b"SAID", said.encode()))

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def guarded() -> Iterator[Guarded]:
    with Guarded() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    write(path, TOKEN)
    return path


def write(path: Path, text: str, mode: int = 0o600) -> None:
    path.write_text(f"{text}\n", "utf-8")
    path.chmod(mode)


def settings(url: str, **changes: object) -> ApplicationSettings:
    return ApplicationSettings.model_validate(
        {"unit": "x", "health_url": url, "maintenance_file": Path("/x"), **changes}
    )


def ask(url: str, **changes: object) -> HealthResult:
    probe = HealthProbe(name="more", path="/more")
    return HealthProber(settings(url, **changes)).check_health(HealthExpectation("3.3.0", (probe,)))


# ---- headers and a token -------------------------------------------------------------------------


def test_configured_headers_and_token_are_sent(guarded: Guarded, token: Path) -> None:
    headers = {"Host": "ncen.example", "X-Forwarded-Proto": "https"}
    assert ask(guarded.url, health_token_file=token, health_headers=headers)
    for seen in guarded.seen:
        assert (seen["Host"], seen["X-Forwarded-Proto"]) == ("ncen.example", "https")
        assert seen["Authorization"] == f"Bearer {TOKEN}"
    assert len(guarded.seen) == 2


def test_token_scheme_is_configurable(guarded: Guarded, token: Path) -> None:
    guarded.wanted = f"Token {TOKEN}"
    assert not ask(guarded.url, health_token_file=token)
    assert ask(guarded.url, health_token_file=token, health_token_scheme="Token")


def test_renewed_token_is_read_again(guarded: Guarded, token: Path) -> None:
    prober = HealthProber(settings(guarded.url, health_token_file=token))
    assert prober.check_health(HealthExpectation("3.3.0"))
    guarded.wanted = "Bearer another-one"
    assert str(prober.check_health(HealthExpectation("3.3.0")).problem) == f"{REFUSED}"
    write(token, "another-one")
    assert prober.check_health(HealthExpectation("3.3.0"))


SENT = {"health_token_file": "token", "health_headers": {"X-Site": "1"}}


@pytest.mark.parametrize(
    ("sent", "what"),
    [
        (("health_token_file",), "health_token_file"),
        (("health_headers",), "health_headers"),
        (("health_token_file", "health_headers"), "health_token_file, health_headers"),
        ((), ""),
    ],
    ids=["token", "headers", "both", "nothing"],
)
@pytest.mark.parametrize("status", [401, 403, 500])
@pytest.mark.parametrize("body", [b"<html>", b'{"detail": "SAID"}', b'{"version": "3.2.4"}'])
def test_refused_credentials_name_the_remedy(
    guarded: Guarded, token: Path, sent: tuple[str, ...], what: str, status: int, body: bytes
) -> None:
    guarded.wanted, guarded.otherwise, guarded.body = "Bearer another-one", status, body
    changes = {name: token if name == "health_token_file" else SENT[name] for name in sent}
    health = ask(guarded.url, **changes)
    main, more = map(str, health.problems)
    if what and status != 500:
        assert main == f"HTTP status {status}: credentials rejected ({what})"
        assert more == f"'more': HTTP status {status}: credentials rejected ({what})"
        assert health.credentials_refused
    else:
        assert main.startswith(f"HTTP status {status}; ")
        assert more == f"'more': HTTP status {status}, expected 200"
        assert not health.credentials_refused
    assert health.answered and TOKEN not in repr(health)


def test_version_command_reports_nothing_when_credentials_are_refused(
    guarded: Guarded, token: Path
) -> None:
    guarded.wanted = "Bearer another-one"
    health = ask(guarded.url, health_token_file=token, version_command=["echo", "3.3.0"])
    assert str(health.problems[0]) == f"{REFUSED}"
    assert health.credentials_refused and health.reported == {}


def test_maintenance_page_check_sends_no_credentials(guarded: Guarded, token: Path) -> None:
    more = {"health_token_file": token, "health_headers": {"X-Site": "1"}, "probe_timeout_s": 0.1}
    assert check_maintenance_page(settings("http://127.0.0.1:9", public_url=guarded.url, **more))
    assert guarded.seen
    assert all("Authorization" not in seen and "X-Site" not in seen for seen in guarded.seen)


@pytest.mark.parametrize(
    ("text", "mode", "words"),
    [
        (None, 0, "Cannot read the health token"),
        (TOKEN, 0o640, "readable by others"),
        (TOKEN, 0o604, "readable by others"),
        ("", 0o600, "must contain one word"),
        (f"Bearer {TOKEN}", 0o600, "must contain one word"),
        (f"{TOKEN}\nX-Other: 1", 0o600, "must contain one word"),
        (f"{TOKEN}é", 0o600, "must contain one word"),
    ],
)
def test_unusable_token_is_rejected(
    guarded: Guarded, tmp_path: Path, text: str | None, mode: int, words: str
) -> None:
    path = tmp_path / "token"
    if text is not None:
        write(path, text, mode)
    health = ask(guarded.url, health_token_file=path)
    assert not health and not health.answered
    assert guarded.seen == []
    problem = str(health.problem)
    assert problem.startswith("not queried: ")
    assert words in problem and str(path) in problem
    assert TOKEN not in str(health)


def test_token_quoted_in_an_answer_is_masked(guarded: Guarded, token: Path) -> None:
    guarded.body = b'{"version": "3.2.4", "said": "SAID", "write": "SAID"}'
    health = ask(guarded.url, health_token_file=token, write_probe_field="write")
    assert "'write' is \"Bearer ***\", expected true" in str(health.problem)
    assert TOKEN not in repr(health)


def test_token_quoted_in_an_invalid_response_is_masked(token: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(f"what is {TOKEN}?\r\n\r\n".encode())

        thread = threading.Thread(target=answer)
        thread.start()
        prober = HealthProber(
            settings(f"http://127.0.0.1:{server.getsockname()[1]}", health_token_file=token)
        )
        found = prober.check_health(HealthExpectation("3.3.0"))
        assert str(found.problem) == "no response: what is ***?\r\n"
        thread.join()


def test_token_is_absent_from_representations(token: Path) -> None:
    prober = HealthProber(settings("http://127.0.0.1:9", health_token_file=token))
    assert TOKEN not in repr(prober.load_credentials()) + repr(prober) + str(vars(prober))


def test_invalid_token_file_is_not_quoted_in_the_error(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_bytes(b"secret\xff")
    path.chmod(0o600)
    with pytest.raises(SecretUnreadableError) as caught:
        read_secret_file(path)
    assert caught.value.__cause__ is None and "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"health_headers": {"Authorization": "Bearer x"}}, "use health_token_file"),
        ({"health_headers": {"cookie": "x"}}, "use health_token_file"),
        ({"health_headers": {"Transfer-Encoding": "chunked"}}, "not allowed in health_headers"),
        ({"health_headers": {"X Y": "1"}}, "pattern"),
        ({"health_headers": {"X": "1\r\nY: 2"}}, "pattern"),
        ({"health_headers": {}}, "at least 1"),
        ({"health_token_scheme": "Token"}, "requires health_token_file"),
        ({"health_token_file": "/t", "health_token_scheme": "a b"}, "pattern"),
        ({"health_token_file": "/t", "health_url": "http://10.1.2.3"}, "a token requires https"),
        (
            {"health_token_file": "/t", "health_url": "http://ncen.example"},
            "a token requires https",
        ),
        (
            {"health_token_file": "/t", "health_url": "http://localhost.example"},
            "a token requires https",
        ),
        (
            {"version_command": ["x"], "schema_field": "schema"},
            "cannot be combined with version_command",
        ),
        ({"version_command": []}, "at least 1"),
    ],
)
def test_invalid_settings_are_rejected(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        settings(str(changes.pop("health_url", "http://127.0.0.1:9")), **changes)


@pytest.mark.parametrize(
    "url", ["https://ncen.example", "http://localhost:1", "http://127.0.0.9", "http://[::1]:1"]
)
def test_token_is_allowed_to_tls_and_loopback_addresses(url: str) -> None:
    assert settings(url, health_token_file="/t").health_token_file == Path("/t")


# ---- a version that a command says ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "output", "pattern", "told"),
    [
        (0, "3.3.0\n", None, "3.3.0"),
        (0, "shop 3.3.0 (c) 2026", r"shop (\S+)", "3.3.0"),
        (0, "", None, None),
        (0, "3.3.0", r"shop (\S+)", None),
        (3, "3.3.0", None, None),
        (None, "3.3.0", None, None),
    ],
)
def test_version_command_output_is_parsed(
    status: int | None, output: str, pattern: str | None, told: str | None
) -> None:
    assert parse_version_output(status, output, pattern) == told


WEB = f"""#!{sys.executable} -B
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(int(open(os.environ["STATUS"]).read()))
        self.end_headers()
        self.wfile.write(b"fine")
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""


def test_version_command_reports_the_running_slot_rather_than_the_link(tmp_path: Path) -> None:
    """Status only: the answer says no version, and a command of the site finds out what runs."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    run, status = tmp_path / "run", tmp_path / "status"
    run.mkdir()
    status.write_text("200")
    for version in ("3.3.0", "3.4.0"):
        program = tmp_path / "slots" / version / "bin/web"
        program.parent.mkdir(parents=True)
        program.write_text(WEB)
        program.chmod(0o755)
    current = tmp_path / "current"
    current.symlink_to("slots/3.3.0")
    control = [str(CONTROL), "web"]
    told = ApplicationSettings.model_validate({
        "adapter": "command", "health_url": f"http://127.0.0.1:{port}",
        "maintenance_file": run / "door",
        "start": [*control, "start"], "stop": [*control, "stop"], "status": [*control, "status"],
        "version_command": [*control, "version"],
        "environment": {"RUN": str(run), "PORT": str(port), "STATUS": str(status)},
    })  # fmt: skip
    application = CommandApplication(told, current)
    old, new = HealthExpectation("3.3.0"), HealthExpectation("3.4.0")
    application.start()
    try:
        while not application.check_health(old).answered:
            assert application.is_running()
        assert application.check_health(old)
        _link(tmp_path, "slots/3.4.0").replace(current)
        assert application.check_health(old)
        differs = application.check_health(new)
        assert str(differs.problem) == '\'version\' is "3.3.0", expected "3.4.0"'
        status.write_text("503")
        assert str(application.check_health(old).problem) == "HTTP status 503"
    finally:
        application.stop()
    missing = told.model_copy(update={"version_command": ("/no/such", "--key", "geheim")})
    status.write_text("200")
    application.start()
    try:
        while not application.check_health(new).answered:
            assert application.is_running()
        assert application.check_health(new)
        silent = CommandApplication(missing, current).check_health(new)
        assert str(silent.problem) == "'/no/such' failed: No such file or directory"
        failing = told.model_copy(update={"version_command": (sys.executable, "-c", "exit(7)")})
        said = str(CommandApplication(failing, current).check_health(new).problem)
        assert said == f"'{sys.executable}' printed no version (exit code 7)"
    finally:
        application.stop()


def _link(directory: Path, target: str) -> Path:
    link = directory / "next"
    link.symlink_to(target)
    return link
