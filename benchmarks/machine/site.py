"""The site on the machine: nCEN as installed by hand, then the agent as its guide says.

nCEN is the stand-in application, with Debian's PostgreSQL, nginx and invented records. The steps by
hand create what a site has before the agent is installed. Everything that the agent needs comes
from the commands of ``docs/how-to/install-agent.md``.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.debian.container import Container
from benchmarks.machine.guide import INSTALLATION, commands
from benchmarks.machine.line import FEED_URL
from demo.databases import AGENT_ROLE, DATABASES, PostgresPlace, create_site_databases
from demo.generator import generate
from demo.release_flow import publish_release
from demo.releases import assemble
from ncen_updater.publisher.new.trial import create_feed, create_keys

START, TARGET = "3.2.4", "3.3.0"
CLUSTER = "/etc/postgresql/17/main"
DOOR = "/run/ncen/maintenance"
UNIT = """\
[Unit]
Description=nCEN (stand-in)
After=network-online.target postgresql.service
Wants=network-online.target

[Service]
User=ncen
Group=ncen
WorkingDirectory=/var/lib/ncen
Environment=NCEN_CONFIG=/srv/ncen/overlay/ncen.json
ExecStart=/bin/sh -c 'cd -P {place} && exec /usr/bin/python3 -B {program}'
Restart=on-failure
RestartSec=5
NoNewPrivileges=yes
ProtectSystem=strict
ReadWritePaths=/var/lib/ncen -/srv/ncen/overlay

[Install]
WantedBy=multi-user.target
"""
PROGRAM = "app/lib/nucen/server.py /var/lib/ncen/run/ncen.pid"
PLAIN_FRONT = """\
server {
    listen 80 default_server;
    location / {
        proxy_pass http://127.0.0.1:8080;
    }
}
"""
CONFIG = """\
schema = 1
[site]
id = "mu-port-louis"
country = "MU"
contact = "Secretariat, +32 2 000 00 00"
[feed]
urls = ["{feed}"]
[databases]
engine = "postgresql"
[databases.names]
{names}
[databases.postgresql]
owner = "ncen"
[[files]]
name = "photographs"
directory = "srv/ncen/overlay/photos"
[application]
user = "ncen"
unit = "ncen.service"
health_url = "http://127.0.0.1:8080"
public_url = "http://127.0.0.1/"
schema_field = "schema"
write_probe_field = "writes_ok"
maintenance_file = "run/ncen/maintenance"
[soak]
seconds = 10
interval_s = 1
[paths]
feed_state = "var/lib/ncen-updater/received"
[service]
runner = "systemd"
confirm_agent_s = 4
[[service.windows]]
start = "00:00"
end = "12:00"
[[service.windows]]
start = "12:00"
end = "00:00"
"""
#: Lines inserted at the head of two files of PostgreSQL.
LINES = {
    "pg_ident.conf": ("ncen root ncen_updater", "ncen root ncen", "ncen ncen ncen"),
    "pg_hba.conf": ("local all ncen_updater peer map=ncen", "local all ncen         peer map=ncen"),
}
#: Edited files, as files in ``/pkg``.
EDITED = {
    "/etc/ncen-updater/agent.toml": "agent.toml",
    "/etc/systemd/system/ncen.service": "ncen.service",
}


def now() -> datetime:
    """Return the current time, for the feed."""
    return datetime.now(UTC)


class Secretariat:
    """What the Secretariat provides, in one directory.

    Args:
        work: Directory for all files; existing ones are used again.

    Attributes:
        directory: The machine's ``/pkg``: package, digests, signature, root, signers.
        feed: Feed with the running release.
    """

    def __init__(self, work: Path) -> None:
        self._work = work
        self.directory, self.feed = work / "pkg", work / "feed"
        self._keys = create_keys(work / "keys", "correct horse battery")

    def make(self, package: Path) -> None:
        """Create a feed and a signed package."""
        self.directory.mkdir()
        create_feed(self.feed, self._keys, now)
        self.publish(self.feed, START)
        shutil.copyfile(self.feed / "metadata/1.root.json", self.directory / "root.json")
        shutil.copyfile(package, self.directory / package.name)
        key = self._work / "package-key"
        _do(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], self._work)
        public = key.with_suffix(".pub").read_text("utf-8")
        signer = f'ncen-updater-packages namespaces="file" {public}'
        (self.directory / "allowed_signers").write_text(signer, "utf-8")
        sums = subprocess.check_output(["sha256sum", package.name], cwd=self.directory)
        (self.directory / "SHA256SUMS").write_bytes(sums)
        sign = ["ssh-keygen", "-q", "-Y", "sign", "-f", str(key), "-n", "file", "SHA256SUMS"]
        _do(sign, self.directory)

    def packages(self) -> list[str]:
        """Return the file names of the packages."""
        return [path.name for path in self.directory.glob("*.deb")]

    def publish(self, feed: Path, version: str) -> None:
        """Publish a release of the stand-in in a feed."""
        source = assemble(version, self._work / f"release-{version}")
        self.publish_source(feed, source)
        shutil.rmtree(source)

    def publish_source(self, feed: Path, source: Path) -> None:
        """Publish the content of a directory."""
        publish_release(feed, [source], self._keys, now)

    def feed_with(self, version: str) -> Path:
        """Return a second feed with one more release."""
        feed = self._work / f"feed-{version}"
        if not feed.exists():
            shutil.copytree(self.feed, feed)
            self.publish(feed, version)
        return feed


def lay_out_application(container: Container, shared: Path, cases: int, seed: int) -> None:
    """Lay nCEN out and start it, as on a site before the agent is installed."""
    assemble(START, shared / "by-hand")
    overlay = {
        "country": "MU", "port": 8080, "maintenance_file": DOOR,
        "run_directory": "/var/lib/ncen/run",
        "overlay": "/srv/ncen/overlay", "icomm": True, "engine": "postgresql",
        "databases": {
            name: PostgresPlace("/var/run/postgresql").address(name) for name in DATABASES
        },
    }  # fmt: skip
    (shared / "ncen.json").write_text(json.dumps(overlay), "utf-8")
    (shared / "ncen.service").write_text(
        UNIT.format(place=f"/srv/ncen/{START}", program=PROGRAM), "utf-8"
    )
    (shared / "plain-front").write_text(PLAIN_FRONT, "utf-8")
    container.must(
        "sh", "-ec",
        f"""
        useradd --system --home-dir /var/lib/ncen ncen
        useradd --create-home --shell /bin/bash amina
        mkdir -p /var/lib/ncen/run /srv/ncen/overlay/photos
        cp -r /pkg/by-hand /srv/ncen/{START}
        cp /pkg/ncen.json /srv/ncen/overlay/
        chown -R ncen: /var/lib/ncen /srv/ncen/overlay
        cp /pkg/ncen.service /etc/systemd/system/
        cp /pkg/plain-front /etc/nginx/sites-available/default
        cp {CLUSTER}/pg_hba.conf /root/pg_hba.conf
        sed -i '1i local all all trust' {CLUSTER}/pg_hba.conf
        systemctl reload postgresql
        """,
    )  # fmt: skip
    place = PostgresPlace(f"/proc/{container.first}/root/run/postgresql")
    create_site_databases(place)
    photos = Path(f"/proc/{container.first}/root/srv/ncen/overlay/photos")
    generate(place, seed, cases, photos=photos)
    container.must(
        "sh", "-ec",
        f"""
        for name in {' '.join(place.names.values())} postgres; do
          psql -qU postgres -d $name -c 'DROP OWNED BY {AGENT_ROLE}'
        done
        psql -qU postgres -c 'DROP ROLE {AGENT_ROLE}'
        cp /root/pg_hba.conf {CLUSTER}/pg_hba.conf
        systemctl reload postgresql
        chown -R ncen: /srv/ncen/overlay
        systemctl daemon-reload
        systemctl enable --now ncen
        systemctl reload nginx
        """,
    )  # fmt: skip


@dataclass(frozen=True)
class Typed:
    """A command of the guide that was typed."""

    line: str
    status: int
    said: str


class Administrator:
    """Types the commands of the guide, and makes the edits that it describes.

    Args:
        container: The machine.
        shared: Its ``/pkg``.
        package: File name of the package.
        config: The edited configuration; ``{feed}`` and ``{names}`` are filled in.
        current: The path that the unit of the application starts.
    """

    def __init__(
        self,
        container: Container,
        shared: Path,
        package: str,
        config: str = CONFIG,
        current: str = "/opt/ncen/current",
    ) -> None:
        self._container, self._shared = container, shared
        self._config, self._current = config, current
        text = INSTALLATION.read_text("utf-8")
        self._guide = text.replace("ncen-updater_0.1.0~deb13_amd64.deb", package)
        self.typed: list[Typed] = []

    def install_package(self) -> None:
        """Follow section 1."""
        self._container.must("cp", "-r", "/pkg", "/root/secretariat")
        self._section(1)

    def install(self, *, without: str = "") -> None:
        """Follow sections 1 to 5, with one line of PostgreSQL's files left out if given."""
        names = "\n".join(f'{n} = "{p}"' for n, p in PostgresPlace("").names.items())
        config = self._config.format(feed=FEED_URL, names=names)
        (self._shared / "agent.toml").write_text(config, "utf-8")
        self.install_package()
        for file, lines in LINES.items():
            for line in lines:
                if line not in self._guide:
                    raise LookupError(f"the guide does not tell the line {line!r}")
                if line != without:
                    self._container.must("sed", "-i", f"1i {line}", f"{CLUSTER}/{file}")
        for section in (3, 4, 5):
            self._section(section)

    def adopt(self) -> None:
        """Follow section 6."""
        unit = UNIT.format(place=self._current, program=PROGRAM)
        (self._shared / "ncen.service").write_text(unit, "utf-8")
        self._section(6)
        # The guide names three groups of people; amina approves.
        if "usermod -aG ncen-updater,ncen-approver approver1" not in self._guide:
            raise LookupError("the guide does not tell how somebody may approve")
        self._container.must("usermod", "-aG", "ncen-updater,ncen-approver", "amina")

    def _section(self, number: int) -> None:
        for line in commands(self._guide, number):
            written = EDITED.get(line.removeprefix("sudo editor "))
            typed = f"cp /pkg/{written} {line.split()[-1]}" if written else line
            ended = self._container.run("sh", "-c", f"cd /root/secretariat && {typed}")
            self.typed.append(Typed(line, ended.returncode, ended.stdout + ended.stderr))


def run_query(container: Container, database: str, query: str) -> list[list[str]]:
    """Query a database of the machine as its administrator."""
    words = ["runuser", "-u", "postgres", "--", "psql", "-XAtqF", "\t", "-d", database, "-c", query]
    return [line.split("\t") for line in container.must(*words).splitlines()]


def _do(words: list[str], directory: Path) -> None:
    subprocess.run(words, cwd=directory, check=True, stdin=subprocess.DEVNULL)
