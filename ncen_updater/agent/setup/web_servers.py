"""Configuration of nginx and Apache that shows the maintenance page; pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ncen_updater.agent.setup.server_files import MARK

PAGES = "/usr/share/ncen-updater/maintenance/"
#: Suffix of the file whose presence shows the page at ``CHECK``; users do not request this path.
CHECK, CHECK_ENDING = "/.maintenance-check", ".check"
#: Pattern of a proxy target at ``PORT`` of this machine.
_TARGET = r"(?:127\.0\.0\.1|localhost|\[::1\]):PORT\b"
_ADDRESS = re.compile(r"^(?:(?P<host>[\w.*-]+|\[[\w:.]+\]):)?(?P<port>\d+)$")
_ANY = ("*", "0.0.0.0", "_default_")  # noqa: S104 - read, not bound


@dataclass(frozen=True)
class Front:
    """Address at which the web server accepts requests for a site.

    Attributes:
        host: IP address.
        port: Port.
        tls: Whether the port uses TLS.
        name: Host name of the site, as browsers send it.
    """

    host: str
    port: int
    tls: bool
    name: str


@dataclass(frozen=True)
class Place:
    """Block of a site file that proxies requests.

    Attributes:
        additions: Positions in the file with the text to insert, in which ``FILE`` stands for the
            maintenance file.
        addresses: Listen addresses, each with whether it uses TLS.
        names: Host names of the site.
    """

    additions: tuple[tuple[int, str], ...]
    addresses: tuple[tuple[str, bool], ...]
    names: Sequence[str]


@dataclass(frozen=True)
class WebServer:
    """Differences between the web servers.

    Attributes:
        sites: Patterns below ``/etc`` of the site files.
        unit: Unit of the web server.
        test: Command that tests its configuration.
        added: Files that setup adds, with their content.
        own_pages: Pattern of a site file that configures its own error pages.
        find_places: Yields the blocks that proxy all requests to a port.
    """

    sites: tuple[str, ...]
    unit: str
    test: tuple[str, ...]
    added: tuple[tuple[str, str], ...]
    own_pages: str
    find_places: Callable[[str, int], Iterator[Place]]

    def add_maintenance_page(self, text: str, port: int, maintenance_file: str) -> str | None:
        """Return the site file with the maintenance page; None if the file is not understood.

        Args:
            text: Content of the site file.
            port: Port of the application.
            maintenance_file: File whose presence shows the page.
        """
        if MARK in text or maintenance_file in text:
            return text
        places = list(self.find_places(text, port))
        if len(places) != 1 or re.search(self.own_pages, text, re.IGNORECASE):
            return None
        for position, addition in sorted(places[0].additions, reverse=True):
            text = text[:position] + addition.replace("FILE", maintenance_file) + text[position:]
        return text

    def find_front(self, text: str, port: int) -> Front | None:
        """Return the address of the site that proxies to a port; None if none is found."""
        for place in self.find_places(text, port):
            named = (one for one in place.names if re.fullmatch(r"[a-z0-9][\w.-]*", one))
            for address, tls in place.addresses:
                if found := _ADDRESS.match(address):
                    host = (found["host"] or "*").strip("[]")
                    host = "127.0.0.1" if host in _ANY else {"::": "::1"}.get(host, host)
                    return Front(host, int(found["port"]), tls, next(named, "localhost"))
        return None


# ---- nginx ---------------------------------------------------------------------------------------

_TOKEN = re.compile(r"#[^\n]*|\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'|\$\{|[{};]")
_NGINX_SNIPPET = "/etc/nginx/snippets/ncen-updater.conf"
_NGINX_SNIPPET_TEXT = f"""{MARK}
error_page 503 /.maintenance/$ncen_updater_language.html;
error_page 502 =503 /.maintenance/away-$ncen_updater_language.html;
location ^~ /.maintenance/ {{
    internal;
    alias {PAGES};
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
_NGINX_LANGUAGES_TEXT = f"""{MARK}
map $http_accept_language $ncen_updater_language {{
    default en;
    "~*^\\s*fr" fr;
}}
"""


def _find_locations(text: str, port: int) -> Iterator[Place]:
    """Yield each ``location /`` of nginx that proxies to the port."""
    upstreams = [
        found[1]
        for found in re.finditer(r"\bupstream\s+(\S+)\s*\{([^}]*)\}", text)
        if re.search(rf":{port}\b", found[2])
    ]
    targets = "|".join([_TARGET.replace("PORT", str(port)), *map(re.escape, upstreams)])
    passes = re.compile(rf"\bproxy_pass\s+http://(?:{targets})")
    opened: list[int] = []
    for token in _TOKEN.finditer(text):
        if token[0] == "{":
            opened.append(token.end())
        elif token[0] == "}" and opened:
            inside = opened.pop()
            found = re.search(r"([ \t]*)\blocation\s+/\s*\{$", text[:inside])
            if found and passes.search(text, inside, token.start()):
                start, pad = found.end(1), found[1]
                head = re.sub(r"#[^\n]*", "", text[opened[-1] if opened else 0 : start])
                listens = (line.split() for line in re.findall(r"\blisten\s+([^;]+);", head))
                yield Place(
                    (
                        (start, f"include {_NGINX_SNIPPET};  {MARK}\n{pad}"),
                        (inside, f"\n{pad}    if (-e FILE) {{ return 503; }}  {MARK}"),
                    ),
                    tuple((at, "ssl" in more) for at, *more in listens
                          if "proxy_protocol" not in more),
                    " ".join(re.findall(r"\bserver_name\s+([^;]+);", head)).split(),
                )  # fmt: skip


# ---- Apache --------------------------------------------------------------------------------------

_APACHE_SNIPPET = "/etc/apache2/ncen-updater.conf"
_LANGUAGE = "%{env:ncen_updater_language}"
_APACHE_SNIPPET_TEXT = f"""{MARK}
Alias "/.maintenance/" "{PAGES}"
SetEnvIf Accept-Language "^" ncen_updater_language=en
SetEnvIf Accept-Language "^\\s*fr" ncen_updater_language=fr
ErrorDocument 502 "/.maintenance/away-{_LANGUAGE}.html"
ErrorDocument 503 "/.maintenance/away-{_LANGUAGE}.html"
<Location "/.maintenance">
    ProxyPass !
    Require all granted
    Header always set Retry-After 120
    Header always set Cache-Control no-store
    AddDefaultCharset utf-8
</Location>
<If "%{{REQUEST_URI}} !~ m#^/\\.maintenance/# && (-e 'FILE' || %{{REQUEST_URI}} == '{CHECK}' && -e 'FILE{CHECK_ENDING}')">
    ErrorDocument 503 "/.maintenance/{_LANGUAGE}.html"
    Redirect 503 /
</If>
<ElseIf "%{{REQUEST_URI}} == '{CHECK}'">
    Redirect 404 /
</ElseIf>
"""  # noqa: E501 - a condition is one line
_APACHE_MODULES_TEXT = "\n".join(
    [
        MARK,
        *(
            f"<IfModule !{name}_module>\n"
            f"    LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n</IfModule>"
            for name in ("alias", "headers", "setenvif")
        ),
        "",
    ]
)


def _find_virtual_hosts(text: str, port: int) -> Iterator[Place]:
    """Yield each ``VirtualHost`` of Apache that proxies all requests to the port."""
    target = rf"\"?http://{_TARGET.replace('PORT', str(port))}"
    passes = re.compile(
        rf"^\s*(?:ProxyPass\s+\"?/\"?\s+|<Location\s+\"?/\"?\s*>\s*\n\s*ProxyPass\s+){target}",
        re.IGNORECASE | re.MULTILINE,
    )
    for block in re.finditer(
        r"^[ \t]*<VirtualHost\s+([^>]+)>(.*?)^([ \t]*)</VirtualHost>", text,
        re.IGNORECASE | re.MULTILINE | re.DOTALL,
    ):  # fmt: skip
        inside = re.sub(r"^\s*#.*$", "", block[2], flags=re.MULTILINE)
        if passes.search(inside):
            pad = f"{block[3]}    "
            names = re.findall(r"^\s*Server(?:Name|Alias)\s+(.+)$", inside, re.I | re.M)
            tls = re.search(r"^\s*SSLEngine\s+on\b", inside, re.I | re.M) is not None
            yield Place(
                ((block.start(3), f"{pad}{MARK}\n{pad}Include {_APACHE_SNIPPET}\n"),),
                tuple((address, tls) for address in block[1].split()),
                [re.sub(r"^https?://|:\d+$", "", name) for name in " ".join(names).split()],
            )


NGINX = WebServer(
    ("nginx/sites-enabled/*", "nginx/conf.d/*.conf"), "nginx.service", ("nginx", "-t"),
    (("/etc/nginx/conf.d/ncen-updater.conf", _NGINX_LANGUAGES_TEXT),
     (_NGINX_SNIPPET, _NGINX_SNIPPET_TEXT)),
    r"\berror_page\b", _find_locations,
)  # fmt: skip
APACHE = WebServer(
    ("apache2/sites-enabled/*.conf", "apache2/conf-enabled/*.conf"), "apache2.service",
    ("apachectl", "configtest"),
    (("/etc/apache2/conf-enabled/ncen-updater.conf", _APACHE_MODULES_TEXT),
     (_APACHE_SNIPPET, _APACHE_SNIPPET_TEXT)),
    r"(?m)^\s*ErrorDocument\s+50", _find_virtual_hosts,
)  # fmt: skip
WEB_SERVERS = (NGINX, APACHE)
