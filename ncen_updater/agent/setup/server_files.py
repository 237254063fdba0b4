"""What is added to the files of PostgreSQL and nginx; pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

MAP = "ncen_updater"
MARK = "# Added by 'ncen-updater setup'; removed by 'ncen-updater setup --undo'."


@dataclass(frozen=True)
class LoginLines:
    """Lines by which root comes in as the agent's role and as the application's.

    Attributes:
        ident: For ``pg_ident.conf``.
        hba: For ``pg_hba.conf``, before all others.
    """

    ident: tuple[str, ...]
    hba: tuple[str, ...]


def make_login_lines(
    agent: str, owner: str, method: str, options: Sequence[str], *, user: str = "root"
) -> LoginLines:
    """Decide which lines are needed, so that nobody else's way in changes.

    Without a map ``peer`` lets a system user in as the role of the same name: for the application's
    role our map says the same once more.

    Args:
        agent: The agent's role.
        owner: The application's role.
        method: By which the application's role comes through the socket now; empty where it does
            not.
        options: Of that rule.
        user: The system user that the agent runs as.
    """
    found = [option.removeprefix("map=") for option in options if option.startswith("map=")]
    name = found[0] if found else MAP
    ident = [f"{name} {user} {quote_name(agent)}"]
    hba = [f"local all {quote_name(agent)} peer map={name}"]
    if method in ("peer", ""):
        ident.append(f"{name} {user} {quote_name(owner)}")
        if method == "peer" and not found:
            ident.append(f"{name} {quote_name(owner)} {quote_name(owner)}")
        if not found:
            hba.append(f"local all {quote_name(owner)} peer map={name}")
    return LoginLines(tuple(ident), tuple(hba))


def quote_name(name: str) -> str:
    """Return a name as both files take it: keywords and signs in double quotes."""
    plain = re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]*", name) and name.lower() not in (
        "all", "sameuser", "samerole", "replication",
    )  # fmt: skip
    return name if plain else '"' + name.replace('"', '""') + '"'


def insert_before_rules(text: str, lines: Sequence[str]) -> str:
    """Add lines before the first one that is no comment."""
    present = text.splitlines(keepends=True)
    place = next(
        (i for i, line in enumerate(present) if line.strip() and not line.lstrip().startswith("#")),
        len(present),
    )
    if present and not present[-1].endswith("\n"):
        present[-1] += "\n"
    return "".join([*present[:place], *(f"{line}\n" for line in (MARK, *lines)), *present[place:]])


# ---- nginx ---------------------------------------------------------------------------------------

SNIPPET = "/etc/nginx/snippets/ncen-updater.conf"
LANGUAGES = "/etc/nginx/conf.d/ncen-updater.conf"
LANGUAGES_TEXT = f"""{MARK}
map $http_accept_language $ncen_updater_language {{
    default en;
    "~*^\\s*fr" fr;
}}
"""
#: ``CHECK`` shows the page to nobody but who asks for it, while a file of this ending exists.
CHECK, CHECK_ENDING = "/.maintenance-check", ".check"
_SNIPPET_TEXT = f"""{MARK}
error_page 503 /.maintenance/$ncen_updater_language.html;
error_page 502 =503 /.maintenance/away-$ncen_updater_language.html;
location ^~ /.maintenance/ {{
    internal;
    alias /usr/share/ncen-updater/maintenance/;
    add_header Retry-After 120 always;
    add_header Cache-Control "no-store" always;
    add_header Content-Language $ncen_updater_language always;
    charset utf-8;
    types {{
        text/html html;
    }}
}}
location = {CHECK} {{
    if (-e FILE{CHECK_ENDING}) {{ return 503; }}
    return 404;
}}
"""
_TOKEN = re.compile(r"#[^\n]*|\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'|\$\{|[{};]")


def make_snippet(maintenance_file: str) -> str:
    """Return what every server has that shows the page."""
    return _SNIPPET_TEXT.replace("FILE", maintenance_file)


@dataclass(frozen=True)
class Front:
    """Where a web server of this machine takes requests.

    Attributes:
        host: Its address.
        port: Its port.
        tls: Whether it speaks TLS there.
        name: Of the site, as a browser sends it.
    """

    host: str
    port: int
    tls: bool
    name: str


_ADDRESS = re.compile(r"^(?:(?P<host>[\w.*-]+|\[[\w:.]+\]):)?(?P<port>\d+)$")


def find_front(text: str, port: int) -> Front | None:
    """Return where the server answers that hands on to a port; None where that is not plain."""
    place = _find_location(text, port)
    if place is None:
        return None
    head = re.sub(r"#[^\n]*", "", text[place[2] : place[0]])
    names = " ".join(re.findall(r"\bserver_name\s+([^;]+);", head)).split()
    name = next((one for one in names if re.fullmatch(r"[a-z0-9][\w.-]*", one)), "localhost")
    for words in re.findall(r"\blisten\s+([^;]+);", head):
        address, *more = words.split()
        found = _ADDRESS.match(address)
        if found and "proxy_protocol" not in more:
            host = (found["host"] or "*").strip("[]")
            host = {"*": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
            return Front(
                host, int(found["port"]), "ssl" in more, "localhost" if name == "_" else name
            )
    return None


def add_maintenance_page(text: str, port: int, maintenance_file: str) -> str | None:
    """Let a web server show the maintenance page; None where its file is not understood.

    Args:
        text: The file.
        port: At which the application listens.
        maintenance_file: While it exists the page is shown.
    """
    if maintenance_file in text:
        return text
    place = _find_location(text, port)
    if place is None or "error_page" in text:
        return None
    start, inside, _ = place
    indent = re.search(r"[ \t]*$", text[:start])
    pad = indent[0] if indent else ""
    test = f"\n{pad}    if (-e {maintenance_file}) {{ return 503; }}  {MARK}"
    return (
        f"{text[:start]}include {SNIPPET};  {MARK}\n{pad}{text[start:inside]}{test}{text[inside:]}"
    )


def _find_location(text: str, port: int) -> tuple[int, int, int] | None:
    """Return where the ``location /`` that hands on begins, its inside, and that of its block."""
    upstreams = [
        found[1]
        for found in re.finditer(r"\bupstream\s+(\S+)\s*\{([^}]*)\}", text)
        if re.search(rf":{port}\b", found[2])
    ]
    targets = "|".join([rf"(?:127\.0\.0\.1|localhost|\[::1\]):{port}", *map(re.escape, upstreams)])
    passes = re.compile(rf"\bproxy_pass\s+http://(?:{targets})\b")
    opened: list[int] = []
    for token in _TOKEN.finditer(text):
        if token[0] == "{":
            opened.append(token.end())
        elif token[0] == "}" and opened:
            inside = opened.pop()
            head = re.search(r"\blocation\s+/\s*\{$", text[:inside])
            if head and passes.search(text, inside, token.start()):
                return head.start(), inside, opened[-1] if opened else 0
    return None
