"""Additions to files of PostgreSQL, nginx and the application's unit. Pure."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ncen_updater.agent.adapters.application.base import HealthExpectation
from ncen_updater.agent.adapters.application.health import HealthProber
from ncen_updater.agent.config.loader import load_config
from ncen_updater.agent.setup.machine import Machine
from ncen_updater.agent.setup.steps import Before, SetupStep
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import SETUP_UNHEALTHY, SETUP_UNIT_UNFIT

INTERVAL_S = 0.5
#: Where programs lie that belong to no release.
_SYSTEM = ("/bin/", "/dev/null", "/etc/", "/lib", "/proc/", "/run/", "/sbin/", "/usr/", "/var/")
_PATH = re.compile(r"(?<![\w./-])/[^\s'\";:=,$]+")
#: What a shell makes its directory.
_CHANGED_TO = re.compile(r"(?<![\w./-])cd\s+(?:-[LP]\s+)?[\"']?(/[^\s'\";:=,$&|]+)")
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
        method: By which the application's role comes through the socket now.
        options: Of that rule.
        user: The system user that the agent runs as.
    """
    found = [option.removeprefix("map=") for option in options if option.startswith("map=")]
    name = found[0] if found else MAP
    ident = [f"{name} {user} {quote_name(agent)}"]
    hba = [f"local all {quote_name(agent)} peer map={name}"]
    if method == "peer":
        ident.append(f"{name} {user} {quote_name(owner)}")
        if not found:
            ident.append(f"{name} {quote_name(owner)} {quote_name(owner)}")
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
    kept = text.splitlines(keepends=True)
    place = next(
        (i for i, line in enumerate(kept) if line.strip() and not line.lstrip().startswith("#")),
        len(kept),
    )
    if kept and not kept[-1].endswith("\n"):
        kept[-1] += "\n"
    return "".join([*kept[:place], *(f"{line}\n" for line in (MARK, *lines)), *kept[place:]])


# ---- nginx ---------------------------------------------------------------------------------------

SNIPPET = "/etc/nginx/snippets/ncen-updater.conf"
LANGUAGES = "/etc/nginx/conf.d/ncen-updater.conf"
LANGUAGES_TEXT = f"""{MARK}
map $http_accept_language $ncen_updater_language {{
    default en;
    "~*^\\s*fr" fr;
}}
"""
SNIPPET_TEXT = f"""{MARK}
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
"""
_TOKEN = re.compile(r"#[^\n]*|\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'|\$\{|[{};]")


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
    start, inside = place
    indent = re.search(r"[ \t]*$", text[:start])
    pad = indent[0] if indent else ""
    test = f"\n{pad}    if (-e {maintenance_file}) {{ return 503; }}  {MARK}"
    return (
        f"{text[:start]}include {SNIPPET};  {MARK}\n{pad}{text[start:inside]}{test}{text[inside:]}"
    )


def _find_location(text: str, port: int) -> tuple[int, int] | None:
    """Return where the ``location /`` begins that hands on to a port, and where its inside does."""
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
                return head.start(), inside
    return None


def make_unit_drop_in(text: str, current: str) -> str | None:
    """Return an addition to a unit with which it starts from ``current``; pure.

    Args:
        text: The unit, as ``systemctl cat`` prints it.
        current: The link.

    Returns:
        Empty where the unit does so already; None where it is not plain what to change.
    """
    settings: dict[str, list[str]] = {}
    for line in text.replace("\\\n", " ").splitlines():
        name, equals, value = line.strip().partition("=")
        if not equals or name.startswith(("#", ";")):
            continue
        kept = settings.setdefault(name.strip(), [])
        if name.strip() == "WorkingDirectory" or not value.strip():
            kept.clear()
        if value.strip():
            kept.append(value.strip())
    started = settings.pop("ExecStart", [])
    working = "".join(settings.pop("WorkingDirectory", []))
    if len(started) != 1:
        return None
    if current in started[0]:
        return ""
    directory = _find_installation(started[0], working.lstrip("-"))
    ours = re.compile(re.escape(directory) + r"(?=[/\s'\";]|$)")
    if not directory or any(ours.search(value) for one in settings.values() for value in one):
        return None
    lines = [MARK, "[Service]", "ExecStart=", f"ExecStart={ours.sub(current, started[0])}"]
    if ours.search(working):
        lines.append(f"WorkingDirectory={ours.sub(current, working)}")
    return "\n".join([*lines, ""])


def _find_installation(command: str, working: str) -> str:
    """Return the directory in which the application is installed; empty where that is open."""
    paths = [path for path in _PATH.findall(command) if not path.startswith(_SYSTEM)]
    if not paths:
        return ""
    place = PurePosixPath(paths[0])
    if working and place.is_relative_to(working):
        return working.rstrip("/")
    entered = _CHANGED_TO.search(command)
    if entered and not f"{entered[1]}/".startswith(_SYSTEM):
        above = PurePosixPath(entered[1])
    else:
        above = place.parent.parent if place.parent.name in ("bin", "sbin") else place.parent
    return str(above) if len(above.parts) > 2 else ""


@dataclass(frozen=True)
class RestartStep(SetupStep, kind="restart"):
    """The application starts once more, and is healthy.

    Attributes:
        unit: Its unit.
        config: The configuration.
        version: What has to run.
        paths: What the unit starts from the release.
        before_files: Whether it stands before the addition to the unit: then it does nothing, and
            restarts when that is undone.
    """

    unit: str
    config: str
    version: str
    paths: list[str]
    before_files: bool

    @property
    def title(self) -> LazyText:
        """See :class:`SetupStep`."""
        if self.before_files:
            return LazyText(N_("check the files that {unit} starts"), {"unit": self.unit})
        return LazyText(N_("restart {unit} (short downtime)"), {"unit": self.unit})

    def capture(self, machine: Machine) -> Before:
        """See :class:`SetupStep`; a release without these files is no reason for a restart."""
        del machine
        for path in self.paths:
            if not Path(path).exists():
                raise UpdaterError(SETUP_UNIT_UNFIT, unit=self.unit, path=path)
        return {}

    def do(self, machine: Machine, before: Before) -> None:
        """See :class:`SetupStep`."""
        del before
        if not self.before_files:
            self._restart(machine)

    def undo(self, machine: Machine, before: Before) -> None:
        """See :class:`SetupStep`."""
        del before
        if self.before_files:
            self._restart(machine)

    def _restart(self, machine: Machine) -> None:
        settings = load_config(Path(self.config), look=False).application
        machine.require(("systemctl", "daemon-reload"))
        machine.require(("systemctl", "restart", self.unit))
        prober, until = HealthProber(settings), time.monotonic() + settings.health_timeout_s
        while not (seen := prober.check_health(HealthExpectation(self.version))):
            if time.monotonic() > until:
                raise UpdaterError(SETUP_UNHEALTHY, unit=self.unit, detail=str(seen.problem))
            time.sleep(INTERVAL_S)


def list_paths(drop_in: str, current: str) -> list[str]:
    """Return what an addition starts below ``current``."""
    return [path for path in _PATH.findall(drop_in) if path.startswith(f"{current}/")]
