"""``ncen-updater setup`` from a bare Debian, for each kind of site, while users work.

The application is laid out as it was installed by hand. Then the package is installed as its guide
says, and ``setup`` does all the rest: with the answers of a person at a terminal, or with a file of
answers. At the end everything is undone.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from psycopg.conninfo import make_conninfo

from benchmarks.machine.box import Box
from benchmarks.machine.disk import Image
from benchmarks.machine.guide import INSTALLATION, commands
from benchmarks.machine.judge import acknowledged, measure_user_return
from benchmarks.machine.line import FEED_URL, Outside
from benchmarks.machine.prepare import Ground
from benchmarks.machine.setup import ANSWERS, BY_HAND, STATE, TYPED, UNDO, SetupAttempt
from benchmarks.machine.site import DOOR, PLAIN_FRONT, PROGRAM, START, UNIT, Administrator
from benchmarks.report import print_line
from demo.databases import (
    AGENT_ROLE,
    DATABASES,
    PostgresPlace,
    SqlitePlace,
    create_site_databases,
)
from demo.generator import generate
from demo.releases import assemble

CASES = 300
PASSWORD = "known to it alone"
FILES = Path("/srv/ncen/databases")
APACHE_FRONT = """\
<VirtualHost *:80>
    ServerName ncen.example.org
    ProxyPass / http://127.0.0.1:8080/
</VirtualHost>
"""
SUPERVISED = f"""\
[program:ncen]
command=/usr/bin/python3 -B {PROGRAM}
directory={BY_HAND}
user=ncen
environment=NCEN_CONFIG="/srv/ncen/overlay/ncen.json"
"""
COMMANDS = """
[application]
adapter = "command"
user = "ncen"
start = ["supervisorctl", "start", "ncen"]
stop = ["supervisorctl", "stop", "ncen"]
status = ["supervisorctl", "status", "ncen"]
health_url = "http://127.0.0.1:8080"
"""
REFERENCES = {
    "postgresql": "runuser -u postgres -- psql -XAtd ncen_seizures -c 'SELECT case_ref FROM cases'",
    "sqlite": f"""python3 -c "
import sqlite3
for row in sqlite3.connect('{FILES}/live/seizures.sqlite').execute('SELECT case_ref FROM cases'):
    print(*row)" """,
}


@dataclass(frozen=True)
class Kind:
    """One kind of site.

    Attributes:
        what: Name for display.
        engine: Its database engine.
        login: Login of the application: ``peer``, or by a password through ``tcp`` or ``socket``.
        by_unit: Whether systemd starts the application.
        front: The web server.
    """

    what: str
    engine: str = "postgresql"
    login: str = "peer"
    by_unit: bool = True
    front: str = "nginx"


KINDS = (
    Kind("PostgreSQL by peer, nginx"),
    Kind("PostgreSQL by peer, Apache", front="apache2"),
    Kind("PostgreSQL by password (TCP), nginx", login="tcp"),
    Kind("PostgreSQL by password (socket), nginx", login="socket"),
    Kind("SQLite, Apache", engine="sqlite", front="apache2"),
    Kind("commands (supervisor), PostgreSQL by peer, nginx", by_unit=False),
)


def try_kinds(ground: Ground, only: str = "") -> list[SetupAttempt]:
    """Set a site of each kind up, and undo it."""
    rows = []
    for kind in KINDS:
        if only in kind.what:
            rows.append(_try(ground, kind))
            print_line(str(rows[-1]))
    return rows


def _try(ground: Ground, kind: Kind) -> SetupAttempt:
    outside = Outside(ground.secretariat.feed)
    box = ground.box(Image(ground.debian), "kind")
    try:
        box.boot()
        outside.connect(box)
        lay_out(box, ground.secretariat.directory, kind)
        box.start_users()
        if measure_user_return(box) is None:
            raise RuntimeError("users cannot work")
        return _set_up(ground, box, kind)
    finally:
        box.close()
        outside.close()


def _set_up(ground: Ground, box: Box, kind: Kind) -> SetupAttempt:
    container, shared, wrong = box.container, ground.secretariat.directory, list[str]()

    def type_(line: str, status: int = 0) -> str:
        ended = container.run("sh", "-c", line)
        said = ended.stdout + ended.stderr
        if ended.returncode != status:
            wrong.append(f"{line}: exit status {ended.returncode}: {said}")
        return said

    def list_state() -> set[str]:
        return set(container.must("sh", "-c", STATE).splitlines())

    began, wall = time.monotonic(), time.time()
    [package] = ground.secretariat.packages()
    person = Administrator(container, shared, package)
    person.install_package()
    wrong += [f"{one.line}: {one.said}" for one in person.typed if one.status]
    installed, before = time.monotonic() - began, list_state()
    typed = ",".join(TYPED)
    digest = hashlib.sha256((shared / "root.json").read_bytes()).hexdigest()
    answers = ANSWERS.format(feed=FEED_URL, fingerprint=digest) + COMMANDS
    began = time.monotonic()
    if kind.by_unit:
        keys = "\\n".join(TYPED)
        said = type_(f"printf '{keys}\\n' | script -qec 'ncen-updater setup' /dev/null")
    else:
        container.must("sh", "-c", 'printf %s "$0" > /root/setup.toml', answers)
        said = type_("ncen-updater setup --answers /root/setup.toml --yes")
    seconds = time.monotonic() - began
    print_line(f"{kind.what} ({typed}):\n{said}")
    by_hand = {line[:40] for line in said.splitlines() if line.startswith("By hand: ")}
    type_("ncen-updater doctor")
    type_("ncen-updater check")
    figures = {
        "minutes": round((installed + seconds) / 60, 1),
        "questions": len(TYPED) if kind.by_unit else 0,
        "commands": len(commands(INSTALLATION.read_text("utf-8"), 1)) + 1,
        "edits_by_hand": len(by_hand) + (not kind.by_unit),
        **_count(box.log, wall),
    }
    if figures["outages"] > (1 if kind.by_unit else 0):
        wrong.append("users were refused beside the announced restart")
    type_(UNDO)
    now = list_state()
    wrong += [f"undo, gone: {line}" for line in sorted(before - now)[:10]]
    wrong += [f"undo, new: {line}" for line in sorted(now - before)[:10]]
    there = set(container.must("sh", "-c", REFERENCES[kind.engine]).split())
    lost = {case.reference for case in acknowledged(box.log, time.time())} - there
    wrong += [f"lost records: {sorted(lost)[:3]}"] if lost else []
    return SetupAttempt(kind.what, round(seconds, 1), figures, tuple(wrong))


def _count(log: Path, since: float) -> Mapping[str, float]:
    """Return the figures that users observed since a time."""
    entries = [json.loads(line) for line in log.read_bytes().split(b"\n")[:-1]]
    outages = [one for one in entries if one.get("from_wall", 0.0) > since]
    longest = max((float(one["outage_s"]) for one in outages), default=0.0)
    refused = sum(int(one["refused"]) for one in outages)
    cases = sum("case_ref" in one for one in entries)
    for one in outages:
        print_line(f"outage {one['from_wall'] - since:.1f} s after the beginning: {one}")
    return {
        "cases": cases, "outages": len(outages), "longest_s": round(longest, 1), "refused": refused,
    }  # fmt: skip


def lay_out(box: Box, shared: Path, kind: Kind) -> None:
    """Lay the application out and start it, as on a site before the agent is installed."""
    container, root = box.container, Path(f"/proc/{box.container.first}/root")
    if not (shared / "by-hand").exists():
        assemble(START, shared / "by-hand")
    container.must(
        "sh", "-ec",
        f"""
        useradd --system --home-dir /var/lib/ncen ncen
        useradd --create-home --shell /bin/bash amina
        mkdir -p /var/lib/ncen/run /srv/ncen/overlay/photos {FILES}
        cp -r /pkg/by-hand {BY_HAND}
        """,
    )  # fmt: skip
    if kind.engine == "sqlite":
        container.must("systemctl", "disable", "--now", "postgresql")
        made = SqlitePlace(shared / "files")
        if not made.directory.exists():
            create_site_databases(made)
            generate(made, 1, CASES, photos=shared / "files/photos")
        container.must("cp", "-rT", "/pkg/files/sets/base", str(FILES / "live"))
        addresses = {name: str(FILES / "live" / f"{name}.sqlite") for name in DATABASES}
    else:
        _make_databases(box, root, kind)
        secret = {} if kind.login == "peer" else {"password": PASSWORD}
        host = "127.0.0.1" if kind.login == "tcp" else "/var/run/postgresql"
        addresses = {
            name: make_conninfo(host=host, user="ncen", dbname=physical, **secret)
            for name, physical in PostgresPlace("").names.items()
        }
    overlay = {
        "country": "MU", "port": 8080, "maintenance_file": DOOR,
        "run_directory": "/var/lib/ncen/run", "overlay": "/srv/ncen/overlay", "icomm": True,
        "engine": kind.engine, "databases": addresses,
    }  # fmt: skip
    (root / "srv/ncen/overlay/ncen.json").write_text(json.dumps(overlay), "utf-8")
    unit = UNIT.format(place=BY_HAND, program=PROGRAM)
    unit = unit.replace("/srv/ncen/overlay\n\n", f"/srv/ncen/overlay {FILES}\n\n")
    front = {"nginx": PLAIN_FRONT, "apache2": APACHE_FRONT}[kind.front]
    place_of = {
        "nginx": "etc/nginx/sites-available/default",
        "apache2": "etc/apache2/sites-available/000-default.conf",
    }
    (root / place_of[kind.front]).write_text(front, "utf-8")
    start = "systemctl enable --now ncen"
    if kind.by_unit:
        (root / "etc/systemd/system/ncen.service").write_text(unit, "utf-8")
    else:
        (root / "etc/supervisor/conf.d/ncen.conf").write_text(SUPERVISED, "utf-8")
        start = "supervisorctl update"
    container.must(
        "sh", "-ec",
        f"""
        chown -R ncen: /var/lib/ncen /srv/ncen/overlay {FILES}
        systemctl daemon-reload
        {start}
        if [ {kind.front} = apache2 ]; then
          systemctl disable --now nginx
          a2enmod -q proxy_http
          systemctl enable --now apache2
        fi
        systemctl restart {kind.front}
        """,
    )  # fmt: skip


def _make_databases(box: Box, root: Path, kind: Kind) -> None:
    container = box.container
    [hba] = container.must("sh", "-c", "ls /etc/postgresql/*/main/pg_hba.conf").split()
    reload = "systemctl reload postgresql"
    container.must(
        "sh", "-ec", f"cp -p {hba} /root/hba; sed -i '1i local all all trust' {hba}; {reload}"
    )
    place = PostgresPlace(str(root / "run/postgresql"))
    create_site_databases(place)
    generate(place, 1, CASES, photos=root / "srv/ncen/overlay/photos")
    lines = [f"ALTER ROLE ncen PASSWORD '{PASSWORD}'"] if kind.login != "peer" else []
    lines += [f"DROP OWNED BY {AGENT_ROLE}", f"DROP ROLE {AGENT_ROLE}"]
    for name in place.names.values():
        container.must("psql", "-qU", "postgres", "-d", name, "-c", lines[-2])
    for line in lines:
        container.must("psql", "-qU", "postgres", "-c", line)
    own = "sed -i '1i local all ncen scram-sha-256' " + hba if kind.login == "socket" else "true"
    container.must("sh", "-ec", f"cp -p /root/hba {hba}; {own}; {reload}")
