"""Inspect the machine without changing it; output of other programs is untrusted data."""

from __future__ import annotations

import contextlib
import grp
import json
import os
import pwd
import re
import socket
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ncen_updater.agent.adapters.application.health import HealthProber
from ncen_updater.agent.adapters.application.health_result import HealthExpectation
from ncen_updater.agent.config.agent_config import ApplicationSettings, PathSettings
from ncen_updater.agent.setup.machine import (
    QUICK_LIMIT_S,
    Machine,
    ServerAddress,
    find_server,
)
from ncen_updater.agent.setup.web_servers import WEB_SERVERS, WebServer
from ncen_updater.common.bounded_io import read_file
from ncen_updater.common.disk_space import get_free_bytes, supports_reflink
from ncen_updater.common.errors import UpdaterError

SOCKETS = "/var/run/postgresql"
HEALTH_PATHS = ("/healthz", "/health", "/api/health", "/")
MAX_FILE_BYTES = 1_000_000
SLOTS = f"/{PathSettings().slots}"
#: Users of services that cannot be the application: system services and PostgreSQL.
NEVER_ASKED = frozenset({"root", "postgres"})
UNIT_PROPERTIES = "Id,MainPID,User,ActiveState"
_QUERIES = (
    "SELECT current_setting('server_version_num')::int / 10000, current_setting('hba_file'),"
    " current_setting('ident_file'), current_setting('data_directory')",
    "SELECT datname, pg_get_userbyid(datdba), pg_database_size(d.oid), datallowconn, rolsuper"
    " FROM pg_database d JOIN pg_roles r ON r.oid = datdba"
    " WHERE NOT datistemplate ORDER BY 1",
    "SELECT usename, datname, bool_or(client_port = -1) FROM pg_stat_activity"
    " WHERE client_port IS NOT NULL AND datname IS NOT NULL"
    " AND application_name NOT LIKE 'ncen-updater%' GROUP BY 1, 2 ORDER BY 1, 2",
    "SELECT line_number, type, database, user_name, auth_method, options, error"
    " FROM pg_hba_file_rules ORDER BY 1",
    "SELECT m.rolname, g.rolname FROM pg_auth_members a JOIN pg_roles m ON m.oid = a.member"
    " JOIN pg_roles g ON g.oid = a.roleid ORDER BY 1, 2",
)  # fmt: skip


@dataclass(frozen=True)
class FoundDatabase:
    """Database whose owner is not a superuser."""

    name: str
    owner: str
    size_bytes: int = 0


@dataclass(frozen=True)
class LoginSession:
    """Sessions of one role in one database; ``by_socket`` if at least one uses the socket."""

    role: str
    database: str
    by_socket: bool


@dataclass(frozen=True)
class HbaRule:
    """One rule of ``pg_hba.conf``, as the server parses it."""

    line: int
    kind: str
    databases: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    method: str = ""
    options: tuple[str, ...] = ()
    error: str = ""


@dataclass(frozen=True)
class Cluster:
    """Running PostgreSQL server.

    ``closed`` are databases that allow no connections; ``owners`` has the owner of every database.
    """

    address: ServerAddress
    major: int
    hba_file: str
    ident_file: str
    databases: tuple[FoundDatabase, ...] = ()
    sessions: tuple[LoginSession, ...] = ()
    rules: tuple[HbaRule, ...] = ()
    members: Mapping[str, frozenset[str]] | None = None
    data_directory: str = ""
    closed: frozenset[str] = frozenset()
    owners: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Return version and address for messages."""
        return f"PostgreSQL {self.major}, {self.address.host}, port {self.address.port}"


@dataclass(frozen=True)
class FoundUnit:
    """Running systemd service.

    Attributes:
        ports: Ports on which its processes listen.
        sqlite: SQLite files that its processes have open.
    """

    name: str
    user: str
    ports: tuple[int, ...] = ()
    sqlite: tuple[str, ...] = ()


@dataclass(frozen=True)
class FoundHealth:
    """Local health URL that reports a version."""

    url: str
    path: str
    version: str


@dataclass(frozen=True)
class FoundDisk:
    """File system of a directory.

    Attributes:
        free_bytes: Space available to an unprivileged account.
        clones: Whether the file system supports copies that share blocks (reflink).
    """

    free_bytes: int
    clones: bool = False


@dataclass(frozen=True)
class SiteFacts:
    """Facts about the machine.

    Attributes:
        person: Account that ran ``sudo``.
        refused: Errors of PostgreSQL servers that could not be queried.
        sqlite: SQLite databases in the usual directories of a site.
        sites: Web server, file and content of each site.
        disks: File systems by directory: that of the databases, or ``SLOTS``.
    """

    hostname: str = ""
    country: str = ""
    person: str = ""
    clusters: tuple[Cluster, ...] = ()
    refused: tuple[UpdaterError, ...] = ()
    units: tuple[FoundUnit, ...] = ()
    sqlite: tuple[str, ...] = ()
    health: tuple[FoundHealth, ...] = ()
    sites: tuple[tuple[WebServer, str, str], ...] = ()
    system_users: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()
    disks: Mapping[str, FoundDisk] = field(default_factory=dict)


def gather_facts(
    machine: Machine, health_urls: Sequence[str] = (), named: Cluster | None = None
) -> SiteFacts:
    """Collect all facts.

    Args:
        machine: The machine.
        health_urls: Health URLs given by the operator; then no others are searched for.
        named: Server given by the operator; then no other server is searched for.
    """
    units = tuple(_find_units(machine))
    sites = tuple(_read_sites(machine))
    likely = (unit for unit in units if unit.user not in NEVER_ASKED)
    own = {port for unit in likely for port in unit.ports}
    ports = sorted(own.union(*(find_proxied_ports(text) for _, _, text in sites)))
    urls = health_urls or [f"http://127.0.0.1:{port}" for port in ports]
    clusters, refused = ([named], []) if named else _find_clusters(machine)
    sqlite = tuple(sorted(_find_sqlite(machine)))
    files = {path for found in (sqlite, *(unit.sqlite for unit in units)) for path in found}
    places = [str(Path(path).parent) for path in files]
    places += [one.data_directory for one in clusters]
    disks = {place: _measure_disk(Path(place)) for place in places}
    disks[SLOTS] = _measure_disk(machine.path(SLOTS))
    return SiteFacts(
        hostname=socket.gethostname(),
        country=_find_country(_find_time_zone(machine)),
        person=os.environ.get("SUDO_USER", ""),
        clusters=tuple(clusters),
        refused=tuple(refused),
        units=units,
        sqlite=sqlite,
        health=tuple(found for url in urls for found in _probe_health(url)),
        sites=sites,
        system_users=frozenset(entry.pw_name for entry in pwd.getpwall()),
        groups=frozenset(entry.gr_name for entry in grp.getgrall()),
        disks={place: disk for place, disk in disks.items() if disk},
    )


# ---- PostgreSQL ----------------------------------------------------------------------------------


def _find_clusters(machine: Machine) -> tuple[list[Cluster], list[UpdaterError]]:
    """Return the running servers, and the errors of those that refused a session."""
    clusters, refused = [], []
    for host, port in sorted(_find_sockets(machine)):
        address = find_server(host, port)
        if address is not None:
            try:
                clusters.append(survey_cluster(address))
            except UpdaterError as error:
                refused.append(error)
    return clusters, refused


def _find_sockets(machine: Machine) -> set[tuple[str, int]]:
    listed = machine.run(("pg_lsclusters", "--json"), QUICK_LIMIT_S)
    found = set()
    if listed.status == 0:
        with contextlib.suppress(ValueError, KeyError, TypeError):
            for cluster in json.loads(listed.output):
                if cluster["running"]:
                    found.add((str(cluster["socketdir"]), int(cluster["port"])))
    for path in machine.path(SOCKETS).glob(".s.PGSQL.*"):
        if path.is_socket() and path.suffix[1:].isdigit():
            found.add((str(path.parent), int(path.suffix[1:])))
    real = {(os.path.realpath(host), port): host for host, port in found}
    return {(host, port) for (_, port), host in real.items()}


def survey_cluster(address: ServerAddress) -> Cluster:
    """Query a server as its superuser.

    Raises:
        SETUP_DATABASE_REFUSED: If it refuses the session or does not respond.
    """
    ((server,), databases, sessions, rules, members) = address.query(_QUERIES)
    groups = defaultdict(set)
    for member, group in members:
        groups[member].add(group)
    return Cluster(
        address, int(server[0]), server[1], server[2],
        tuple(
            FoundDatabase(a, b, int(c))
            for a, b, c, is_open, by_superuser in databases
            if is_open and not by_superuser
        ),
        tuple(LoginSession(a, b, bool(c)) for a, b, c in sessions if a != address.superuser),
        tuple(
            HbaRule(int(line), kind or "", tuple(names or ()), tuple(users or ()), method or "",
                    tuple(options or ()), error or "")
            for line, kind, names, users, method, options, error in rules
        ),
        {name: frozenset(found) for name, found in groups.items()},
        server[3],
        frozenset(name for name, *_, is_open, _ in databases if not is_open),
        {name: owner for name, owner, *_ in databases},
    )  # fmt: skip


# ---- systemd -------------------------------------------------------------------------------------


def _find_units(machine: Machine) -> Iterable[FoundUnit]:
    asked = machine.run(
        ("systemctl", "show", "*.service", f"--property={UNIT_PROPERTIES}", "--no-pager"),
        QUICK_LIMIT_S,
    )
    if asked.status != 0:
        return
    listening = None
    for block in asked.output.split("\n\n"):
        facts = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        pid = int(facts.get("MainPID") or 0)
        if facts.get("ActiveState") != "active" or not pid or not facts.get("Id"):
            continue
        listening = _read_listening() if listening is None else listening
        inodes, files = _read_open_files(pid)
        yield FoundUnit(
            facts["Id"],
            facts.get("User") or "root",
            tuple(sorted({listening[inode] for inode in inodes if inode in listening})),
            files,
        )


def _find_sqlite(machine: Machine) -> Iterable[str]:
    for place in ("/var/lib", "/srv"):
        for pattern in ("*/live/*.sqlite", "*/*/live/*.sqlite"):
            yield from map(str, machine.path(place).glob(pattern))


def _read_listening() -> dict[str, int]:
    """Map the inode of each listening socket to its port."""
    found = {}
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in Path("/proc/net", name).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A":
                    found[fields[9]] = int(fields[1].rsplit(":", 1)[1], 16)
    return found


def _read_open_files(pid: int) -> tuple[set[str], tuple[str, ...]]:
    """Return socket inodes and SQLite files that a process and its children have open."""
    sockets, files = set(), set()
    children: list[int] = []
    with contextlib.suppress(OSError, ValueError):
        children = [int(i) for i in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    for process in (pid, *children):
        with contextlib.suppress(OSError):
            for link in Path(f"/proc/{process}/fd").iterdir():
                with contextlib.suppress(OSError):
                    target = str(link.readlink())
                    if target.startswith("socket:["):
                        sockets.add(target[8:-1])
                    elif target.endswith((".sqlite", ".sqlite3", ".db")):
                        files.add(target)
    return sockets, tuple(sorted(files))


# ---- health, web servers, disks ------------------------------------------------------------------


def _probe_health(url: str) -> Iterable[FoundHealth]:
    """Try the usual paths; yield the first that reports a version."""
    for path in HEALTH_PATHS:
        try:
            settings = ApplicationSettings(
                unit="x.service", environment={}, health_url=url, health_path=path,
                probe_timeout_s=3.0, maintenance_file=Path("x"),
            )  # fmt: skip
            seen = HealthProber(settings).check_health(HealthExpectation(version=""))
        except (UpdaterError, ValueError):  # the operator's URL is checked elsewhere
            return
        if not seen.answered and seen.status is None:
            return
        version = seen.reported.get(settings.version_field)
        if isinstance(version, str) and version:
            yield FoundHealth(url, path, version)
            return


def _read_sites(machine: Machine) -> Iterable[tuple[WebServer, str, str]]:
    for server in WEB_SERVERS:
        found = (machine.path("/etc").glob(pattern) for pattern in server.sites)
        for path in sorted({path.resolve() for paths in found for path in paths}):
            with contextlib.suppress(OSError):
                content = read_file(path, MAX_FILE_BYTES)
                yield server, str(path), content.decode("utf-8", "surrogateescape")


def find_proxied_ports(text: str) -> set[int]:
    """Return the local ports that a site file proxies to; pure."""
    found = re.compile(r"(?:http://|\bserver\s+)(?:127\.0\.0\.1|localhost|\[::1\]):(\d{1,5})")
    return {int(port) for port in found.findall(re.sub(r"(?m)^\s*#.*$", "", text))}


def _measure_disk(place: Path) -> FoundDisk | None:
    """Measure the file system of a directory or, if missing, of its nearest parent."""
    with contextlib.suppress(OSError):
        there = next(path for path in (place, *place.parents) if path.exists())
        return FoundDisk(get_free_bytes(there), supports_reflink(there))
    return None


def _find_time_zone(machine: Machine) -> str:
    with contextlib.suppress(OSError):
        target = str(machine.path("/etc/localtime").resolve())
        if "/zoneinfo/" in target:
            return target.split("/zoneinfo/", 1)[1]
    with contextlib.suppress(OSError):
        return machine.path("/etc/timezone").read_text("utf-8").strip()
    return ""


def _find_country(zone: str) -> str:
    with contextlib.suppress(OSError):
        for line in Path("/usr/share/zoneinfo/zone.tab").read_text("utf-8").splitlines():
            fields = line.split("\t")
            if len(fields) > 2 and fields[2] == zone:
                return fields[0]
    return ""
