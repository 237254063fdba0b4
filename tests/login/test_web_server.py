"""The password page as people meet it: Debian's nginx as our guide sets it up, and a browser.

The console is a process of a user of its own, on a socket that the web server's group may speak on,
as its units have it; nginx has the example of the guide, and the certificate that the guide makes.
"""

from __future__ import annotations

import http.client
import json
import os
import pwd
import re
import shlex
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from ncen_updater.console.web_request import COOKIE_PREFIX
from tests.agent.service.api.conftest import Counter
from tests.agent.service.api.serving import answering
from tests.console.browsers import keep, settled
from tests.console.support import Answer
from tests.console.test_app import has_dossier
from tests.login.login_socket import AMINA, SECRETS, login_socket, opened
from tests.login.proxied_console import PasswordGuest, approvals, console_process
from tests.support.forks import DEADLINE_S
from tests.support.nginx import Nginx, find_nginx, nginx
from tests.support.system_users import create_users
from tests.support.webdriver import Browser, browser, known_place, missing

PROGRAM, LACKS = find_nginx(), missing()
pytestmark = [
    pytest.mark.skipif(PROGRAM is None, reason="nginx is not installed"),
    pytest.mark.skipif(shutil.which("openssl") is None, reason="this machine has no openssl"),
]
ROOT = Path(__file__).parents[2]
RULES = (ROOT / "packaging/nginx/console.conf").read_text("utf-8")
GUIDE = (ROOT / "docs/how-to/web-console.md").read_text("utf-8")
NAME, PORT = "ncen-console.example.org", 8443
SOCKET, NETWORK = "/run/ncen-updater/console.sock", "192.0.2.0/24"
CERTIFICATE, KEY = "/etc/ssl/certs/ncen-console.pem", "/etc/ssl/private/ncen-console.key"
#: The user of the console's unit is made for the trial; nginx of Debian runs as the other one.
CONSOLE, WEB = "nu-login-console", "www-data"


#: What people read who asked for French; as they read it, and not as a catalogue has it.
FRENCH = {
    "way in": "Se connecter",
    "enter": "Se connecter",
    "wrong": "Échec de la connexion : identifiants incorrects ou compte non autorisé",
    "secret": "Confirmez avec votre mot de passe",
    "said": "Vous l'avez déjà approuvée.",
    "withdrawn": "Approbation retirée.",
}


@dataclass
class Site:
    """Everything that is set up for people with passwords.

    Attributes:
        place: Its directory.
        console: The process.
        listener: At which that answers, and which the service manager would keep.
    """

    place: Path
    console: subprocess.Popen[bytes]
    listener: socket.socket

    @property
    def certificate(self) -> Path:
        """What the web server shows."""
        return self.place / "ncen-console.pem"

    @contextmanager
    def web(self, network: str = "127.0.0.0/8") -> Iterator[Nginx]:
        """Run nginx by the example, with places of this machine; one network may come."""
        places = {
            SOCKET: str(self.place / "console.sock"), NETWORK: network,
            CERTIFICATE: str(self.certificate), KEY: str(self.place / "ncen-console.key"),
        }  # fmt: skip
        work = self.place / "nginx"
        with nginx(str(PROGRAM), work, work, RULES, places, PORT, WEB) as running:
            yield running


class TlsGuest(PasswordGuest):
    """A browser that trusts the certificate of the site alone."""

    def __init__(self, site: Site, web: Nginx, name: str = NAME) -> None:
        super().__init__(web.port)
        self.host = f"{name}:{web.port}"
        self.trust = ssl.create_default_context(cafile=str(site.certificate))

    def connection(self) -> http.client.HTTPConnection:
        line = socket.create_connection(("127.0.0.1", self.port), DEADLINE_S)
        made = http.client.HTTPConnection(NAME, timeout=DEADLINE_S)
        made.sock = self.trust.wrap_socket(line, server_hostname=NAME)
        return made


def make_certificate(place: Path) -> None:
    """Type what the guide says, with places of this trial."""
    (line,) = re.findall(r"    sudo (openssl req (?:.*\\\n)*.*)\n", GUIDE)
    places = {CERTIFICATE: place / "ncen-console.pem", KEY: place / "ncen-console.key"}
    words = shlex.split(line.replace("\\\n", ""))
    assert set(places) <= set(words) and any(NAME in word for word in words)
    subprocess.run(
        [str(places.get(word, word)) for word in words], check=True, capture_output=True
    )  # fmt: skip


def test_guide_creates_the_certificate_before_testing_the_rules() -> None:
    """Seen: `cannot load certificate`, typed line by line."""
    assert 0 < GUIDE.index("    sudo openssl req") < GUIDE.index("    sudo nginx -t")


@pytest.fixture
def site(counter: Counter, place: Path) -> Iterator[Site]:
    make_certificate(place)
    with (
        create_users({CONSOLE: CONSOLE}),
        answering(counter) as service,
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener,
    ):
        opened(service)
        user = pwd.getpwnam(CONSOLE).pw_uid
        with login_socket(place, service, console=user) as login:
            os.chown(login.path, user, 0)
            login.path.chmod(0o600)
            listener.bind(str(place / "console.sock"))
            shutil.chown(place / "console.sock", "root", WEB)
            (place / "console.sock").chmod(0o660)
            listener.listen()
            with console_process(listener, login.path, CONSOLE) as process:
                yield Site(place, process, listener)


def log_in(person: Browser, password: str, user: str = AMINA) -> None:
    person.one("#user").type(user)
    person.one("#password").type(password)
    person.one('form[action="/login"] button').click()


def wait_for_text(person: Browser, words: str) -> None:
    person.until(words, lambda: words in person.text)


@pytest.mark.skipif(LACKS is not None, reason=str(LACKS))
def test_user_logs_in_and_approves_with_a_password(site: Site, counter: Counter) -> None:
    """They come in, look, decide with their password once more, and leave nothing behind."""
    has_dossier(counter)
    with site.web() as web, browser(more=known_place(NAME, site.certificate)) as person:
        address = f"https://{NAME}:{web.port}"
        person.open(f"{address}/login")
        keep(person, "login")
        person.open(f"{address}/approve")
        assert [one.text for one in person.all('[role="alert"] p')] == [
            "Not signed in, or session ended",
            "Sign in with your account on this server.",
        ]
        log_in(person, "wrong")
        wait_for_text(person, "NU-9711")
        assert person.cookies() == []
        log_in(person, SECRETS[AMINA])
        person.until("Now", lambda: person.all('body[data-page="status"]'))
        assert f"Signed in as {AMINA}." in person.text
        (cookie,) = person.cookies()
        assert cookie["name"].startswith(COOKIE_PREFIX) and COOKIE_PREFIX.startswith("__Host-")
        assert (cookie["secure"], cookie["httpOnly"], cookie["sameSite"]) == (True, True, "Strict")
        assert (cookie["path"], cookie["domain"], cookie.get("expiry")) == ("/", NAME, None)
        # An approval needs the password again.
        for password, words in (("wrong", "NU-9711"), (SECRETS[AMINA], "Already approved by you.")):
            assert approvals(counter) == []
            person.open(f"{address}/approve")
            settled(person)
            person.one('form[action="/approve"] input[type="password"]').type(password)
            person.one('form[action="/approve"] button').click()
            wait_for_text(person, words)
        assert approvals(counter) == [AMINA]
        # Progress arrives automatically, through the web server.
        person.open(f"{address}/live")
        counter.site.open_change()
        wait_for_text(person, "Upgrading to 3.3.0")
        person.one('form[action="/leave"] button').click()
        person.until("the way in", lambda: person.all("#password"))
        assert person.cookies() == []
        person.open(f"{address}/")
        assert person.all("#password") and AMINA not in person.text
        refused = re.compile(r"the server responded with a status of 4(01|09)")
        assert [said for said in person.complaints() if not refused.search(said)] == []


@pytest.mark.skipif(LACKS is not None, reason=str(LACKS))
def test_login_and_approval_are_in_french(site: Site, counter: Counter) -> None:
    """The same way in, in the browser's own language: every word of it, what is refused too."""
    has_dossier(counter)
    more = known_place(NAME, site.certificate)
    with site.web() as web, browser(language="fr", more=more) as person:
        address = f"https://{NAME}:{web.port}"
        person.open(f"{address}/login")
        keep(person, "login", "fr")
        person.open(f"{address}/approve")
        assert person.one("html").attribute("lang") == "fr"
        assert person.one("h1").text == FRENCH["way in"]
        assert person.one('form[action="/login"] button').text == FRENCH["enter"]
        log_in(person, "faux")
        wait_for_text(person, "NU-9711")
        wait_for_text(person, FRENCH["wrong"])
        assert person.cookies() == []
        log_in(person, SECRETS[AMINA])
        person.until("Now", lambda: person.all('body[data-page="status"]'))
        assert AMINA in person.text
        # An approval needs the password again: a wrong one changes nothing.
        for password, words in (("faux", FRENCH["wrong"]), (SECRETS[AMINA], FRENCH["said"])):
            assert approvals(counter) == []
            person.open(f"{address}/approve")
            settled(person)
            label = person.one('form[action="/approve"] label[for]')
            assert label.text == FRENCH["secret"]
            person.one('form[action="/approve"] input[type="password"]').type(password)
            person.one('form[action="/approve"] button').click()
            wait_for_text(person, words)
        assert approvals(counter) == [AMINA]
        person.open(f"{address}/approve")
        settled(person)
        person.one('form[action="/withdraw"] input[type="password"]').type(SECRETS[AMINA])
        person.one('form[action="/withdraw"] button').click()
        wait_for_text(person, FRENCH["withdrawn"])
        assert counter.ask("GET", "/v1/next-upgrade").document["approvals"] == []
        person.one('form[action="/leave"] button').click()
        person.until("the way in", lambda: person.all("#password"))
        assert (person.one("h1").text, person.cookies()) == (FRENCH["way in"], [])


def fill_throttle(tries: Path) -> None:
    """As if the names there had been tried all day: a wait that outlasts the slowest browser."""
    kept = json.loads(tries.read_text("utf-8"))
    tries.write_text(json.dumps({name: (99, last) for name, (_, last) in kept.items()}), "utf-8")


def flooded(guest: TlsGuest, **headers: str | None) -> Answer:
    """Try at once what is no password, until nothing more comes through: ten a minute do."""
    for _ in range(100):
        found = guest.log_in("", "", **headers)
        if found.status not in (400, 403):
            break
    return found


@pytest.mark.skipif(LACKS is not None, reason=str(LACKS))
def test_throttled_user_is_informed(site: Site) -> None:
    """First by the console, which waits for that name; then by the web server, for the address."""
    with site.web() as web, browser(more=known_place(NAME, site.certificate)) as person:
        for _ in range(4):
            person.open(f"https://{NAME}:{web.port}/")  # a page that tells nothing yet
            log_in(person, "guess")
            wait_for_text(person, "NU-9711")
        fill_throttle(site.place / "tries")
        log_in(person, SECRETS[AMINA])
        wait_for_text(person, "NU-9712")
        guest = TlsGuest(site, web)

        def stopped() -> bool:
            assert flooded(guest).status == 429
            person.open(f"https://{NAME}:{web.port}/")
            log_in(person, "guess")
            return "Too many passwords came from this address." in person.text

        person.until("the web server's own words", stopped)
        assert guest.get("/login").status == 200, "who only looks is not counted"


def test_web_server_adds_and_filters_headers(site: Site) -> None:
    with site.web() as web:
        guest = TlsGuest(site, web)
        found = guest.log_in(AMINA, SECRETS[AMINA], X_Real_IP="192.0.2.66")
        assert found.status == 200
        said = (site.place / "login.log").read_text("utf-8")
        assert f"{AMINA} logged in from 127.0.0.1\n" in said, "whatever a browser says of itself"
        assert re.fullmatch(
            re.escape(COOKIE_PREFIX)
            + r"[0-9a-f]{8}=[\w-]{43}; Path=/; Secure; HttpOnly; SameSite=Strict",
            found.headers["set-cookie"],
        )
        page = guest.get("/")
        assert (page.status, page.headers["server"]) == (200, "nginx")
        assert page.headers["content-security-policy"].startswith("default-src 'none';")
        assert page.headers["x-frame-options"] == "DENY"
        assert page.headers["cache-control"] == "no-store"
        assert page.headers["referrer-policy"] == "no-referrer"
        # A form comes from this origin, and other host names are refused.
        own, foreign = f"https://{guest.host}", "https://evil.example"
        answers = [
            guest.log_in(AMINA, SECRETS[AMINA], Origin=origin, Sec_Fetch_Site=None).status
            for origin in (own, foreign, own.replace("https", "http"))
        ]
        assert answers == [200, 403, 403]
        assert guest.ask("POST", "/login", b"x" * 70_000).status == 413
        with pytest.raises(http.client.HTTPException):
            TlsGuest(site, web, "another.example").get("/login")


SAID: Mapping[str, tuple[str, str]] = {
    "en": ("Too many passwords came from this address.", "The console does not answer."),
    "fr-MU,fr;q=0.9": ("Trop de mots de passe sont venus", "La console ne répond pas."),
}


@pytest.mark.parametrize("language", SAID)
def test_web_server_error_pages_are_translated(site: Site, language: str) -> None:
    many, away = SAID[language]
    with site.web() as web:
        guest = TlsGuest(site, web)
        found = flooded(guest, Accept_Language=language)
        assert (found.status, found.headers["retry-after"]) == (429, "60")
        assert found.text.startswith(many)
        assert found.headers["content-type"] == "text/plain; charset=utf-8"
        # Without the console, and without who would start it.
        site.console.terminate()
        site.console.wait(DEADLINE_S)
        site.listener.close()
        found = guest.get("/", Accept_Language=language)
        assert (found.status, found.text.startswith(away)) == (503, True), found.text


def test_public_addresses_are_denied(site: Site) -> None:
    """As the example stands, until a site names its own network."""
    with site.web(NETWORK) as web:
        assert TlsGuest(site, web).get("/login").status == 403
