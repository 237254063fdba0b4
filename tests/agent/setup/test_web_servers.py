"""Tests of the maintenance page in nginx and Apache: added lines, and the served page."""

from __future__ import annotations

import contextlib
import dataclasses
import http.server
import os
import re
import shutil
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.ports import find_free_ports
from ncen_updater.agent.setup.machine import Machine
from ncen_updater.agent.setup.proof_steps import PageStep
from ncen_updater.agent.setup.server_files import MARK
from ncen_updater.agent.setup.web_servers import APACHE, CHECK, NGINX, PAGES, Front, WebServer
from tests.support.forks import DEADLINE_S
from tests.support.nginx import find_nginx, nginx
from tests.support.tls import Authority

FILE = "/run/ncen/maintenance"
OUR_PAGES = f"{Path(__file__).parents[3]}/packaging/nginx/maintenance/"
APACHE_PROGRAM = shutil.which("apache2", path=os.environ.get("PATH", "") + ":/usr/sbin")
needs_nginx = pytest.mark.skipif(find_nginx() is None, reason="this machine has no nginx")
needs_apache = pytest.mark.skipif(APACHE_PROGRAM is None, reason="this machine has no Apache")

SITE = """# a } in a comment
upstream app { server 127.0.0.1:8080; }
server {
    listen 80;
    add_header X "}";
    location /static/ { root /srv; }
    location / {
        proxy_pass http://TARGET;
    }
}
"""
HOST = """<IfModule mod_proxy.c>
  <VirtualHost *:80>
    # ProxyPass / http://127.0.0.1:8099/
    ServerName https://ncen.example.org:443
    ProxyPass /static !
    ProxyPass / http://127.0.0.1:8080/
  </VirtualHost>
</IfModule>
"""
IN_LOCATION = '<Location "/">\n      ProxyPass "http://localhost:8080/"\n    </Location>'


@pytest.mark.parametrize(
    ("target", "port", "is_understood"),
    [
        ("127.0.0.1:8080", 8080, True),
        ("localhost:8080/", 8080, True),
        ("app", 8080, True),
        ("127.0.0.1:8081", 8080, False),
        ("unix:/run/app.sock", 8080, False),
    ],
)
def test_page_is_added_to_the_proxied_location(target: str, port: int, is_understood: bool) -> None:
    changed = NGINX.add_maintenance_page(SITE.replace("TARGET", target), port, FILE)
    assert (changed is not None) is is_understood
    if changed is not None:
        lines = [line.strip() for line in changed.splitlines()]
        [include] = [at for at, line in enumerate(lines) if line.startswith("include ")]
        assert lines[include + 1 : include + 4] == [
            "location / {", f"if (-e {FILE}) {{ return 503; }}  {MARK}", f"proxy_pass http://{target};",
        ]  # fmt: skip
        assert NGINX.add_maintenance_page(changed, port, FILE) == changed


@pytest.mark.parametrize(
    ("old", "new", "is_understood"),
    [
        ("", "", True),
        ("ProxyPass / http://127.0.0.1:8080/", IN_LOCATION, True),
        ("127.0.0.1:8080/", "127.0.0.1:8081/", False),
        ("ProxyPass / ", "ProxyPass /app ", False),
        ("ProxyPass / http://127.0.0.1:8080/", "ProxyPass / balancer://app/", False),
        ("ServerName", "ErrorDocument 503 /own.html\nServerName", False),
    ],
)
def test_page_is_added_at_the_end_of_the_virtual_host(
    old: str, new: str, is_understood: bool
) -> None:
    text = HOST.replace(old, new)
    changed = APACHE.add_maintenance_page(text, 8080, FILE)
    assert (changed is not None) is is_understood
    if changed is not None:
        added = f"      {MARK}\n      Include /etc/apache2/ncen-updater.conf\n"
        assert changed == text.replace("  </VirtualHost>", f"{added}  </VirtualHost>")
        assert APACHE.add_maintenance_page(changed, 8080, FILE) == changed


@pytest.mark.parametrize(
    ("server", "text"),
    [
        (NGINX, SITE.replace("TARGET", "app").replace("listen 80;", "error_page 503 /own.html;")),
        (NGINX, SITE.replace("TARGET", "app") + SITE.replace("TARGET", "127.0.0.1:8080")),
        (APACHE, HOST + HOST.replace("*:80", "*:81")),
    ],
)
def test_existing_pages_and_several_sites_are_left_to_the_operator(
    server: WebServer, text: str
) -> None:
    assert server.add_maintenance_page(text, 8080, FILE) is None


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("listen 80;", Front("127.0.0.1", 80, tls=False, name="localhost")),
        ("listen [::]:443 ssl; server_name _ *.a.org ncen.example.org;",
         Front("::1", 443, tls=True, name="ncen.example.org")),
        ("listen unix:/run/n.sock; # listen 81;\n listen 10.0.0.1:8443 ssl http2; server_name ~x;",
         Front("10.0.0.1", 8443, tls=True, name="localhost")),
        ("listen 80 proxy_protocol; listen *:82;",
         Front("127.0.0.1", 82, tls=False, name="localhost")),
        ("listen unix:/run/n.sock;", None),
    ],
)  # fmt: skip
def test_nginx_front_end_is_found(lines: str, expected: Front | None) -> None:
    other = "server { listen 99; server_name other.example.org; location / { return 404; } }\n"
    text = other + SITE.replace("TARGET", "app").replace("listen 80;", lines)
    assert NGINX.find_front(text, 8080) == expected


@pytest.mark.parametrize(
    ("address", "line", "expected"),
    [
        ("*:80", "", Front("127.0.0.1", 80, tls=False, name="ncen.example.org")),
        ("_default_:443 [::]:443", "SSLEngine on",
         Front("127.0.0.1", 443, tls=True, name="ncen.example.org")),
        ("[::1]:81", "# SSLEngine on", Front("::1", 81, tls=False, name="ncen.example.org")),
        ("*", "", None),
    ],
)  # fmt: skip
def test_apache_front_end_is_found(address: str, line: str, expected: Front | None) -> None:
    text = HOST.replace("*:80", address).replace("ServerName", f"{line}\n    ServerName")
    assert APACHE.find_front(HOST.replace("8080", "8099") + text, 8080) == expected


def lay_out(
    server: WebServer, site: str, port: int, directory: Path, file: Path
) -> tuple[str, str]:
    """Write the added files below a directory; return the text of the first, and the site."""
    changed = server.add_maintenance_page(site, port, str(file))
    assert changed is not None
    (_, common), (snippet, text) = server.added
    path = directory / "snippet.conf"
    path.write_text(text.replace("FILE", str(file)).replace(PAGES, OUR_PAGES))
    return common, changed.replace(snippet, str(path))


def prove(front: Front | None, directory: Path, file: Path) -> None:
    """Check the page as setup does; users do not see it then."""
    assert front is not None
    step, machine = PageStep(dataclasses.asdict(front), str(file)), Machine(directory)
    before = step.capture(machine)
    step.do(machine, before)
    assert not file.parent.exists()
    assert step._fetch() == "status 404"


@needs_nginx
@pytest.mark.parametrize("tls", [False, True])
def test_nginx_shows_the_page_to_the_check_only(tmp_path: Path, tls: bool) -> None:
    tmp_path.chmod(0o755)
    file = tmp_path / "run/maintenance"
    site, other = SITE.replace("TARGET", "app"), ""
    if tls:  # who does not name the site gets no further
        pair = Authority(tmp_path).certify("portal.example.org")
        lines = f"listen 80 ssl; server_name portal.example.org; ssl_certificate {pair};"
        site = site.replace("listen 80;", f"{lines} ssl_certificate_key {pair};")
        other = "server { listen 80 ssl default_server; ssl_reject_handshake on; }"
    common, changed = lay_out(NGINX, site, 8080, tmp_path, file)
    rules = f"{common}{other}\n{changed}"
    with nginx(str(find_nginx()), tmp_path, tmp_path / "nginx", rules, {}) as running:
        rules = rules.replace("listen 80", f"listen 127.0.0.1:{running.port}")
        prove(NGINX.find_front(rules, 8080), tmp_path, file)


@contextlib.contextmanager
def apache(directory: Path, port: int, rules: str) -> Iterator[None]:
    """Run a server with the modules that Debian's has."""
    modules = "/usr/lib/apache2/modules"
    names = ("mpm_event", "authz_core", "alias", "setenvif", "mime", "proxy", "proxy_http")
    loads = "".join(f"LoadModule {name}_module {modules}/mod_{name}.so\n" for name in names)
    whole = directory / "apache.conf"
    user = "User www-data\nGroup www-data\n" if os.geteuid() == 0 else ""
    whole.write_text(
        f"ServerRoot {directory}\nServerName localhost\nPidFile {directory}/pid\n"
        f"DefaultRuntimeDir {directory}\nErrorLog {directory}/error.log\nTypesConfig /dev/null\n"
        f"Listen 127.0.0.1:{port}\n{loads}{user}"
        f"<Directory />\nRequire all denied\n</Directory>\nAddType text/html .html\n{rules}"
    )
    words = [str(APACHE_PROGRAM), "-f", str(whole)]
    subprocess.run([*words, "-t"], check=True, capture_output=True)
    with subprocess.Popen([*words, "-DFOREGROUND"], stderr=subprocess.DEVNULL) as process:
        try:
            until = time.monotonic() + DEADLINE_S
            while fetch(port)[0] == 0:
                assert time.monotonic() < until, (directory / "error.log").read_text()
            yield
        finally:
            process.terminate()


@contextlib.contextmanager
def serving_at_work(port: int) -> Iterator[None]:
    """Play an application."""

    class AtWork(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"at work")

    with http.server.ThreadingHTTPServer(("127.0.0.1", port), AtWork) as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        yield
        served.shutdown()


def fetch(port: int, path: str = "/", language: str = "de") -> tuple[int, str]:
    """Return status and text of a page; 0 without a listener."""
    asked = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", headers={"Accept-Language": language}
    )
    try:
        with urllib.request.urlopen(asked, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as answer:
        with answer:
            return answer.code, answer.read().decode()
    except OSError:
        return 0, ""


@needs_apache
@pytest.mark.parametrize("place", ["ProxyPass / http://127.0.0.1:8080/", IN_LOCATION])
def test_apache_shows_the_page(tmp_path: Path, place: str) -> None:
    for directory in (tmp_path, *tmp_path.parents[:3]):
        directory.chmod(directory.stat().st_mode | 0o055)
    file, (port, application) = tmp_path / "run/maintenance", find_free_ports(2)
    site = HOST.replace("ProxyPass / http://127.0.0.1:8080/", place)
    site = site.replace("*:80", f"*:{port}").replace(":8080", f":{application}")
    common, changed = lay_out(APACHE, site, application, tmp_path, file)
    with apache(tmp_path, port, f"{common}{changed}"):
        prove(APACHE.find_front(changed, application), tmp_path, file)
        for language, tongue in (("de", "en"), ("fr-CH,fr;q=0.9", "fr")):
            status, page = fetch(port, language=language)  # nothing answers behind it
            assert (status, page) == (503, Path(OUR_PAGES, f"away-{tongue}.html").read_text())
        with serving_at_work(application):
            assert fetch(port) == (200, "at work")
            file.parent.mkdir()
            file.touch()
            for language, tongue in (("de", "en"), ("fr-CH,fr;q=0.9", "fr")):
                status, page = fetch(port, "/cases", language)
                assert (status, page) == (503, Path(OUR_PAGES, f"{tongue}.html").read_text())
            file.unlink()
            assert fetch(port) == (200, "at work")
            assert fetch(port, CHECK)[0] == 404


@needs_apache
def test_missing_apache_modules_are_loaded_once(tmp_path: Path) -> None:
    (_, common), _ = APACHE.added
    whole = tmp_path / "apache.conf"
    modules = "/usr/lib/apache2/modules"
    first = f"LoadModule mpm_event_module {modules}/mod_mpm_event.so\n"
    for before in ("", f"LoadModule headers_module {modules}/mod_headers.so\n"):
        lines = f"ServerName localhost\nErrorLog {tmp_path}/log\nDefaultRuntimeDir {tmp_path}\n"
        whole.write_text(f"{lines}{first}{before}{common}")
        tested = subprocess.run(
            [str(APACHE_PROGRAM), "-f", str(whole), "-M"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert len(re.findall("headers_module", tested.stdout)) == 1, tested.stderr
        assert "already loaded" not in tested.stderr
