"""What is added to the files of PostgreSQL and nginx."""

from __future__ import annotations

import dataclasses
import subprocess
from pathlib import Path

import pytest

from ncen_updater.agent.setup.machine import Machine
from ncen_updater.agent.setup.proof_steps import PageStep
from ncen_updater.agent.setup.server_files import (
    LANGUAGES,
    LANGUAGES_TEXT,
    MARK,
    SNIPPET,
    Front,
    add_maintenance_page,
    find_front,
    insert_before_rules,
    make_login_lines,
    make_snippet,
    quote_name,
)
from tests.support.nginx import find_nginx, nginx
from tests.support.tls import Authority

needs_nginx = pytest.mark.skipif(find_nginx() is None, reason="this machine has no nginx")
AGENTS = "local all ncen_updater peer map="


@pytest.mark.parametrize(
    ("method", "options", "ident", "hba"),
    [
        ("peer", (),
         ("ncen_updater root ncen_updater", "ncen_updater root ncen", "ncen_updater ncen ncen"),
         (f"{AGENTS}ncen_updater", "local all ncen peer map=ncen_updater")),
        ("peer", ("map=own",), ("own root ncen_updater", "own root ncen"), (f"{AGENTS}own",)),
        ("scram-sha-256", (), ("ncen_updater root ncen_updater",), (f"{AGENTS}ncen_updater",)),
        ("trust", (), ("ncen_updater root ncen_updater",), (f"{AGENTS}ncen_updater",)),
        ("", (), ("ncen_updater root ncen_updater", "ncen_updater root ncen"),
         (f"{AGENTS}ncen_updater", "local all ncen peer map=ncen_updater")),
    ],
)  # fmt: skip
def test_lines_for_the_way_in_that_the_application_has(
    method: str, options: tuple[str, ...], ident: tuple[str, ...], hba: tuple[str, ...]
) -> None:
    lines = make_login_lines("ncen_updater", "ncen", method, options)
    assert (lines.ident, lines.hba) == (ident, hba)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", f"{MARK}\nnew\n"),
        ("# only a comment", f"# only a comment\n{MARK}\nnew\n"),
        ("# c\n\nlocal all all peer\n", f"# c\n\n{MARK}\nnew\nlocal all all peer\n"),
        ("local a\nhost b", f"{MARK}\nnew\nlocal a\nhost b\n"),
    ],
)
def test_lines_come_before_all_others(text: str, expected: str) -> None:
    assert insert_before_rules(text, ["new"]) == expected


@pytest.mark.parametrize(
    ("name", "quoted"), [("ncen", "ncen"), ("all", '"all"'), ("a b", '"a b"'), ('a"', '"a"""')]
)
def test_names_are_quoted(name: str, quoted: str) -> None:
    assert quote_name(name) == quoted


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
def test_maintenance_page_goes_into_the_location_that_hands_on(
    target: str, port: int, is_understood: bool
) -> None:
    text = SITE.replace("TARGET", target)
    changed = add_maintenance_page(text, port, "/run/ncen/maintenance")
    assert (changed is not None) is is_understood
    if changed is not None:
        ours = [line for line in changed.splitlines() if MARK in line]
        assert len(ours) == 2
        assert changed.index(f"include {SNIPPET};") < changed.index("location / {")
        assert (
            changed.index("location / {")
            < changed.index("return 503")
            < changed.index("proxy_pass")
        )
        assert add_maintenance_page(changed, port, "/run/ncen/maintenance") == changed


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
def test_front_of_the_server_that_hands_on(lines: str, expected: Front | None) -> None:
    other = "server { listen 99; server_name other.example.org; location / { return 404; } }\n"
    text = other + SITE.replace("TARGET", "app").replace("listen 80;", lines)
    assert find_front(text, 8080) == expected


def test_web_server_with_pages_of_its_own_is_left_to_a_person() -> None:
    text = SITE.replace("TARGET", "app").replace("listen 80;", "error_page 503 /own.html;")
    assert add_maintenance_page(text, 8080, "/run/ncen/maintenance") is None


@needs_nginx
@pytest.mark.parametrize("tls", [False, True])
def test_nginx_shows_the_page_to_who_checks_it_alone(tmp_path: Path, tls: bool) -> None:
    tmp_path.chmod(0o755)
    file, snippet = tmp_path / "run/maintenance", tmp_path / "snippet.conf"
    site, other = SITE.replace("TARGET", "app"), ""
    if tls:  # who does not name the site gets no further
        pair = Authority(tmp_path).certify("portal.example.org")
        lines = f"listen 80 ssl; server_name portal.example.org; ssl_certificate {pair};"
        site = site.replace("listen 80;", f"{lines} ssl_certificate_key {pair};")
        other = "server { listen 80 ssl default_server; ssl_reject_handshake on; }"
    changed = add_maintenance_page(site, 8080, str(file))
    assert changed is not None
    rules = f"{LANGUAGES_TEXT}{other}\n{changed.replace(SNIPPET, str(snippet))}"
    pages = Path(__file__).parents[3] / "packaging/nginx/maintenance"
    text = make_snippet(str(file)).replace("/usr/share/ncen-updater/maintenance", str(pages))
    snippet.write_text(text)
    with nginx(str(find_nginx()), tmp_path, tmp_path / "nginx", rules, {}) as running:
        front = find_front(rules.replace("listen 80", f"listen 127.0.0.1:{running.port}"), 8080)
        assert front is not None
        step = PageStep(dataclasses.asdict(front), str(file))
        machine = Machine(tmp_path)
        before = step.capture(machine)
        step.do(machine, before)
        assert not file.parent.exists()
        assert step._fetch() == "status 404"  # nobody else sees it then


@needs_nginx
def test_nginx_takes_it(tmp_path: Path) -> None:
    changed = add_maintenance_page(SITE.replace("TARGET", "app"), 8080, "/run/ncen/maintenance")
    assert changed is not None
    snippet = tmp_path / "snippet.conf"
    snippet.write_text(make_snippet("/run/ncen/maintenance"))
    whole = tmp_path / "nginx.conf"
    listens = changed.replace(SNIPPET, str(snippet)).replace("listen 80", "listen 127.0.0.1:1")
    whole.write_text(
        f"pid {tmp_path}/pid; error_log {tmp_path}/log; events {{}}\n"
        f"http {{ access_log off;\n{LANGUAGES_TEXT}{listens} }}"
    )
    tested = subprocess.run(
        [str(find_nginx()), "-t", "-q", "-c", str(whole)], capture_output=True, check=False
    )
    # To bind the port is another matter.
    assert b"[emerg]" not in tested.stderr or b"bind()" in tested.stderr, tested.stderr
    assert LANGUAGES.startswith("/etc/nginx/conf.d/")
