"""Tests of the shipped maintenance page, with a real nginx and the agent's maintenance file."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from ncen_updater.agent.adapters.application.maintenance import MaintenanceFile
from tests.support.forks import DEADLINE_S
from tests.support.http_server import WebServer, serving
from tests.support.nginx import Nginx, find_nginx, nginx

PROGRAM = find_nginx()
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="nginx is not installed")
PACKAGING = Path(__file__).parents[2] / "packaging" / "nginx"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("site")
    (made / "cases").write_text("the application")
    return made


@pytest.fixture(scope="module")
def application(directory: Path) -> Iterator[WebServer]:
    with serving(directory) as server:
        yield server


@pytest.fixture(scope="module")
def server(directory: Path, application: WebServer) -> Iterator[Nginx]:
    places = {
        "/run/ncen/maintenance": str(directory / "door"),
        "http://127.0.0.1:8080": application.url.rstrip("/"),
        "/usr/share/ncen-updater/maintenance/": f"{PACKAGING}/maintenance/",
    }
    rules = (PACKAGING / "ncen.conf").read_text("utf-8")
    with nginx(str(PROGRAM), directory, directory / "nginx", rules, places) as running:
        yield running


@pytest.fixture
def maintenance_file(directory: Path) -> Iterator[MaintenanceFile]:
    made = MaintenanceFile(directory / "door")
    yield made
    made.remove()


def ask(
    server: Nginx, path: str = "/cases", method: str = "GET", language: str | None = None
) -> tuple[int, dict[str, str], str]:
    address = urlsplit(server.url)
    connection = http.client.HTTPConnection(
        address.hostname or "", address.port, timeout=DEADLINE_S
    )
    try:
        headers = {} if language is None else {"Accept-Language": language}
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        named = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, named, answer.read().decode()
    finally:
        connection.close()


def test_maintenance_page_is_shown_and_removed(
    server: Nginx, maintenance_file: MaintenanceFile, application: WebServer
) -> None:
    assert ask(server)[0::2] == (200, "the application")
    maintenance_file.write()
    asked = len(application.requests)
    status, headers, body = ask(server)
    assert status == 503
    assert headers["retry-after"] == "120"
    assert headers["cache-control"] == "no-store"
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert "nCEN is being upgraded" in body
    assert len(application.requests) == asked, "an officer came through"
    maintenance_file.remove()
    assert ask(server)[0::2] == (200, "the application")


@pytest.mark.parametrize(
    ("language", "expected"),
    [
        (None, "en"),
        ("en-GB,en;q=0.9", "en"),
        ("fr", "fr"),
        ("fr-MU,fr;q=0.9,en;q=0.5", "fr"),
        ("FR", "fr"),
        ("en,fr;q=0.5", "en"),
        ("de", "en"),
    ],
)
def test_page_is_in_the_language_of_the_user(
    server: Nginx, maintenance_file: MaintenanceFile, language: str | None, expected: str
) -> None:
    maintenance_file.write()
    status, headers, body = ask(server, language=language)
    assert (status, headers["content-language"]) == (503, expected)
    assert f'<html lang="{expected}">' in body


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD", "OPTIONS"])
def test_every_request_gets_503_during_maintenance(
    server: Nginx, maintenance_file: MaintenanceFile, method: str
) -> None:
    maintenance_file.write()
    status, headers, _ = ask(server, "/api/cases", method)
    assert (status, headers["retry-after"]) == (503, "120")


@pytest.mark.parametrize(
    ("language", "words"), [("en", "does not answer"), ("fr", "ne répond pas")]
)
def test_page_is_shown_after_a_power_cut(
    directory: Path, tmp_path: Path, language: str, words: str
) -> None:
    """The maintenance file is on a volatile disk; the application waits for the agent."""
    rules = (PACKAGING / "ncen.conf").read_text("utf-8")
    with socket.socket() as taken:  # bound, without a listener
        taken.bind(("127.0.0.1", 0))
        places = {
            "/run/ncen/maintenance": str(directory / "door"),
            "http://127.0.0.1:8080": f"http://127.0.0.1:{taken.getsockname()[1]}",
            "/usr/share/ncen-updater/maintenance/": f"{PACKAGING}/maintenance/",
        }
        with nginx(str(PROGRAM), directory, tmp_path / "nginx", rules, places) as running:
            status, headers, body = ask(running, language=language)
    assert (status, headers["retry-after"]) == (503, "120")
    assert (headers["cache-control"], headers["content-language"]) == ("no-store", language)
    assert words in body


def test_page_file_is_not_served_directly(server: Nginx) -> None:
    assert ask(server, "/.maintenance/en.html")[0] == 404


@pytest.mark.parametrize("language", ["en", "fr", "away-en", "away-fr"])
def test_page_is_self_contained(language: str) -> None:
    """Whatever it asked for would be answered with 503."""
    page = (PACKAGING / "maintenance" / f"{language}.html").read_text("utf-8")
    for reference in ("src=", "href=", "url(", "@import"):
        assert reference not in page
