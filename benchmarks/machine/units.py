"""Paths and addresses that each unit can write and reach, tested under the machine's systemd."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.debian.container import Container
from benchmarks.machine.probe import LOGGING_IN, READ


@dataclass(frozen=True)
class Allowed:
    """Everything that a unit may do, of all that is tested.

    Attributes:
        writes: Writable places, as in docs/reference/units-and-permissions.md.
        reads: Readable files.
        sees_room: Places whose free space it can see.
        sockets: Sockets that answer.
        reaches: Reachable addresses.
        does: Actions that work.
    """

    writes: frozenset[str] = frozenset()
    reads: frozenset[str] = frozenset()
    sees_room: frozenset[str] = frozenset()
    sockets: frozenset[str] = frozenset()
    reaches: frozenset[str] = frozenset()
    does: frozenset[str] = frozenset()


OWN = "/var/lib/ncen-updater"
CODE = "/opt/ncen-updater"
POSTGRESQL = "/var/lib/postgresql/17/main"
#: Files of the site that a process reads despite their permissions.
SITE = frozenset({
    f"{OWN}/journal.sqlite", "/etc/ncen-updater/agent.toml", "/srv/ncen/overlay/ncen.json",
    "/opt/ncen/current/app/release.json",
})  # fmt: skip
AT_WORK = frozenset(
    f"/run/ncen-updater/{name}.sock"
    for name in ("apply", "fetch", "renew", "send", "api", "console")
)
#: Files that these units can read as root until they drop that right, which they need to see the
#: free space (``docs/reference/units-and-permissions.md``).
SERVER_FILES = frozenset({f"{POSTGRESQL}/PG_VERSION", f"{POSTGRESQL}/global/1260"})
#: Abilities of both units that work on the databases.
DATABASES = Allowed(
    writes=frozenset({
        OWN, f"{OWN}/received", f"{OWN}/inbox", "/opt/ncen/slots", "/run/ncen", "/var/tmp",
    }),
    reads=SITE | SERVER_FILES,
    sees_room=frozenset({POSTGRESQL}),
    sockets=AT_WORK | {
        "/run/postgresql/.s.PGSQL.5432", "/run/dbus/system_bus_socket", "/run/systemd/private",
        "/run/ncen-updater/login.sock",
    },
    reaches=frozenset({"the application", "the web server", "the resolver of systemd"}),
    does=frozenset({"become another user", "writable code", "signal process 1"}),
)  # fmt: skip
UNITS: Mapping[str, Allowed] = {
    "ncen-updater.service": Allowed(
        writes=frozenset({OWN, f"{OWN}/inbox", "/run/ncen-updater", "/var/tmp"}),
        reads=SITE,
        sockets=AT_WORK,
        does=frozenset({"signal process 1"}),
    ),
    "ncen-updater-apply@.service": DATABASES,
    "ncen-updater-renew@.service": replace(
        DATABASES,
        writes=frozenset({OWN, f"{OWN}/received", f"{OWN}/inbox", CODE, "/var/tmp"}),
        reads=SITE,
        sees_room=frozenset(),
        does=DATABASES.does | {"give the agent's code away"},
    ),
    "ncen-updater-resume.service": DATABASES,
    "ncen-updater-fetch@.service": Allowed(
        writes=frozenset({f"{OWN}/received", "/var/tmp"}),
        reads=frozenset({
            "/etc/ncen-updater/agent.toml", "/srv/ncen/overlay/ncen.json",
            "/opt/ncen/current/app/release.json",
        }),
        reaches=frozenset({"the feed", "the resolver of systemd"}),
    ),
    "ncen-updater-send@.service": Allowed(
        writes=frozenset({"/var/tmp"}),
        reads=frozenset({"/etc/ncen-updater/agent.toml"}),
        reaches=frozenset({
            "the feed", "the application", "the web server", "the resolver of systemd",
            "link-local",
        }),
    ),
    # It checks passwords as PAM does.
    "ncen-updater-login@.service": Allowed(
        writes=frozenset({"/run/ncen-updater-login", "/var/tmp"}),
        reads=frozenset({"/etc/shadow"}),
        sockets=frozenset({"/run/ncen-updater/api.sock", "/run/ncen-updater/console.sock"}),
        does=frozenset({"become another user", "writable code"}),
    ),
    "ncen-updater-console.service": Allowed(
        writes=frozenset({"/var/tmp"}), sockets=frozenset({"/run/ncen-updater/login.sock"})
    ),
}  # fmt: skip
#: Disabled in the package; needed for login by password.
WANTED = ("ncen-updater-login.socket", "ncen-updater-console.socket")
PERSON, PASSWORD, LOGIN = "amina", "of-the-trial", "/run/ncen-updater/login.sock"
#: Logs a user in as the console does, and queries the status of the service.
COME_IN = """
import http.client, json, socket, sys
with socket.socket(socket.AF_UNIX) as line:
    line.settimeout(60)
    line.connect(sys.argv[2])
    line.sendall(sys.argv[1].encode() + b"\\n")
    answer = json.loads(line.makefile("rb", 0).readline())
    if "name" in answer:
        line.sendall(b'{"method": "GET", "address": "/v1/status"}\\n')
        _, [handed], _, _ = socket.recv_fds(line, 4096, 1)
        with socket.socket(fileno=handed) as service:
            service.settimeout(60)  # what is handed over does not wait by itself
            response = http.client.HTTPResponse(service)
            response.begin()
            answer["answered"] = response.status
            answer["asked as"] = json.loads(response.read()).get("you", {}).get("name")
    print(json.dumps(answer))
"""
PYTHON = "/opt/ncen-updater/current/bin/python"
#: Units that drop a right themselves, and its name in the probe.
GIVES_UP: Mapping[str, str] = {
    "ncen-updater-apply@.service": " files",
    "ncen-updater-resume.service": " files",
}
#: Settings for when and how often a unit runs; all others limit it.
OF_LIFE = re.compile(
    r"(Standard\w+|Type|Restart\w*|WatchdogSec|RemainAfterExit|ExecReload|RuntimeMaxSec"
    r"|ConditionPathExists|RefuseManualStart|ExecStartPre|RequiredBy|Requires|WantedBy|Before|After|Wants)="
)
#: Creates files that sites have and a fresh ``debootstrap`` system lacks: nobody can read a missing
#: file.
LAY = """
for file in "$@"; do
  mkdir -p "${file%/*}"
  test -s "$file" || (umask 077; echo of the trial > "$file")
done
"""
#: Run without limits, prints the files that cannot be read.
UNREADABLE = """
for file in "$@"; do test "$(head -c 1 "$file" | wc -c)" = 1 || echo "$file"; done
"""
#: Errors without a listener: only the kernel's refusal matters.
NOBODY = ("ECONNREFUSED", "ETIMEDOUT", "EHOSTUNREACH", "ENETUNREACH")


def exposure(container: Container) -> dict[str, float]:
    """Return the exposure levels from ``systemd-analyze security`` (maximum 10)."""
    found = {}
    for unit in UNITS:
        name = unit.replace("@.", "@probe.")
        said = container.run("systemd-analyze", "security", "--no-pager", name).stdout
        number = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said)
        found[unit] = float(number[1]) if number else -1.0
    return found


def try_units(container: Container, shared: Path) -> dict[str, dict[str, Any]]:
    """Run the probe within the limits of each unit; only the started program differs.

    Args:
        container: The machine.
        shared: Its ``/pkg``.
    """
    shutil.copyfile(Path(__file__).with_name("probe.py"), shared / "probe.py")
    container.must("systemctl", "start", *WANTED)
    container.must("sh", "-ec", LAY, "sh", *LOGGING_IN)
    found = {}
    for unit in UNITS:
        text = container.must("cat", f"/usr/lib/systemd/system/{unit}")
        name = f"probe-{unit.replace('@', '')}"
        container.must("mkdir", "-p", "/run/probe")
        container.must(
            "sh",
            "-c",
            f"cat > /run/systemd/system/{name} <<'END'\n{make_probe_unit(unit, text)}END",
        )
        container.must("systemctl", "daemon-reload")
        ended = container.run("systemctl", "start", name)
        said = container.run("cat", f"/run/probe/{unit}.json").stdout
        try:
            found[unit] = json.loads(said)
        except ValueError:
            found[unit] = {
                "failed": f"{ended.stderr} {container.run('journalctl', '-u', name).stdout}"
            }
    return found


def list_missing_files(container: Container) -> list[str]:
    """List the files that do not exist, so that no unit could have read them."""
    said = container.run("sh", "-c", UNREADABLE, "sh", *READ).stdout
    return [f"nothing to read: {file}" for file in said.split()]


def log_in(container: Container) -> list[str]:
    """Log in at the console's helper as one user of the machine; return the faults found."""
    container.must("systemctl", "start", *WANTED)
    container.must("sh", "-c", f"echo {PERSON}:{PASSWORD} | chpasswd")
    wrong = []
    for password, expected in (
        (PASSWORD, {"name": PERSON, "answered": 200, "asked as": PERSON}),
        ("another", {"refused": "wrong"}),
    ):
        first = json.dumps({"user": PERSON, "password": password})
        said = container.run(
            "runuser", "-u", "ncen-updater-console", "--", "python3", "-c", COME_IN, first, LOGIN
        )
        try:
            answer = json.loads(said.stdout)
        except ValueError:
            answer = {}
        if not expected.items() <= answer.items():
            log = container.run(
                "journalctl", "--no-pager", "-n", "20", "-u", "ncen-updater-login@*"
            )
            wrong.append(f"coming in: {answer} {said.stderr} {log.stdout}")
    return wrong


def make_probe_unit(unit: str, text: str) -> str:
    """Return a unit file that starts the probe with the same restrictions. Pure."""
    kept = [line for line in text.splitlines() if not OF_LIFE.match(line)]
    start = [
        f"ExecStart={PYTHON} -I /pkg/probe.py{GIVES_UP.get(unit, '')}",
        "Type=oneshot",
        f"StandardOutput=truncate:/run/probe/{unit}.json",
    ]
    lines = []
    for line in kept:
        lines += start if line.startswith("ExecStart=") else [line]
    return "\n".join(lines) + "\n"


def list_unexpected(unit: str, tried: Mapping[str, Any]) -> list[str]:
    """List undocumented abilities of a unit, and documented ones that it lacks. Pure."""
    if "failed" in tried:
        return [f"{unit} does not start: {tried['failed']}"]
    allowed = UNITS[unit]
    wrong = []
    for act, may in (
        ("write", allowed.writes),
        ("read", allowed.reads),
        ("read after giving up", allowed.reads - SERVER_FILES),
        ("see room", allowed.sees_room),
        ("see room after giving up", allowed.sees_room),
        ("socket", allowed.sockets),
        ("connect", allowed.reaches),
        ("do", allowed.does),
    ):
        works = ("yes", *NOBODY) if act == "connect" else ("yes",)
        for what, answer in tried.get(act, {}).items():
            if (answer in works) != (what in may):
                wrong.append(f"{unit}: {act}: {what}: {answer}")
    return wrong
