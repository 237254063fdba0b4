"""The machine of a site: the package, the stand-in with SQLite, and a feed at its own address."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from benchmarks.debian.container import Container
from demo.databases import SqlitePlace, create_site_databases

DATABASES = Path("/var/lib/ncen/databases")
CONFIG = """\
schema = 1
[site]
id = "mu-port-louis"
country = "MU"
[feed]
urls = ["http://127.0.0.1:8088/"]
[databases]
engine = "sqlite"
[databases.names]
seizures = "seizures"
suspects = "suspects"
companies = "companies"
[databases.sqlite]
directory = "var/lib/ncen/databases"
[application]
unit = "ncen.service"
health_url = "http://127.0.0.1:8080"
maintenance_file = "run/ncen/maintenance"
[paths]
feed_state = "var/lib/ncen-updater/received"
[service]
runner = "systemd"
confirm_agent_s = 4
"""
UNITS = {
    "ncen.service": """\
[Service]
User=ncen
Environment=NCEN_CONFIG=/srv/ncen/overlay/ncen.json
ExecStart=/usr/bin/python3 -B /opt/ncen/current/app/lib/nucen/server.py /var/lib/ncen/run/ncen.pid
[Install]
WantedBy=multi-user.target
""",
    "feed.service": """\
[Service]
ExecStart=/usr/bin/python3 -m http.server --bind 127.0.0.1 --directory /pkg/feed 8088
DynamicUser=yes
[Install]
WantedBy=multi-user.target
""",
    # The feed is on this machine, which the packaged feed reader cannot reach.
    "ncen-updater-fetch@.service.d/feed.conf": """\
[Service]
IPAddressAllow=localhost
""",
    # Instead of minutes; everything else of the unit is as packaged.
    "ncen-updater.service.d/quick.conf": """\
[Service]
TimeoutStartSec=15s
WatchdogSec=30s
RestartSec=1s
""",
}
SETUP = """\
set -e
dpkg --install /pkg/package.deb
useradd --system --home-dir /var/lib/ncen ncen
mkdir -p /var/lib/ncen/run /srv/ncen/overlay/photos
cp -a /pkg/databases /var/lib/ncen/databases
cp /pkg/ncen.json /srv/ncen/overlay/
cp /pkg/agent.toml /etc/ncen-updater/
install -m 0644 /pkg/feed/metadata/1.root.json /etc/ncen-updater/trust/root.json
chown -R ncen: /var/lib/ncen /srv/ncen
systemd-tmpfiles --create ncen-updater.conf
cp -r /pkg/units/. /etc/systemd/system/
systemctl daemon-reload
systemctl enable --now feed.service
ncen-updater adopt 3.2.4
systemctl enable --now ncen.service
systemctl start ncen-updater.service
"""


def lay_out(container: Container, shared: Path, package: Path) -> None:
    """Install the agent as on a server, and adopt the site.

    Args:
        container: The machine, running.
        shared: Its ``/pkg``, which already contains the feed.
        package: The Debian package.
    """
    shutil.copyfile(package, shared / "package.deb")
    create_site_databases(SqlitePlace(shared / "databases"))
    inside = SqlitePlace(DATABASES)
    overlay = {
        "country": "MU", "port": 8080, "maintenance_file": "/run/ncen/maintenance",
        "run_directory": "/var/lib/ncen/run", "overlay": "/srv/ncen/overlay", "icomm": False,
        "engine": "sqlite", "databases": {name: inside.address(name) for name in inside.names},
    }  # fmt: skip
    (shared / "ncen.json").write_text(json.dumps(overlay), "utf-8")
    (shared / "agent.toml").write_text(CONFIG, "utf-8")
    for name, text in UNITS.items():
        (shared / "units" / name).parent.mkdir(parents=True, exist_ok=True)
        (shared / "units" / name).write_text(text, "utf-8")
    (shared / "setup").write_text(SETUP, "utf-8")
    container.must("sh", "/pkg/setup")


def sequence(container: Container) -> dict[str, object]:
    """Return the agent's selection file; empty if it cannot be read now."""
    try:
        found = json.loads(container.run("cat", "/opt/ncen-updater/sequence.json").stdout)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def running(container: Container) -> str | None:
    """Return the version whose service is active; None if there is none."""
    show = ["systemctl", "show", "--property=ActiveState,MainPID", "ncen-updater.service"]
    said = dict(line.split("=", 1) for line in container.run(*show).stdout.splitlines())
    if said.get("ActiveState") != "active":
        return None
    command = container.run("cat", f"/proc/{said['MainPID']}/cmdline").stdout
    found = re.search(r"/opt/ncen-updater/([0-9][^/]*)/bin/", command)
    return found[1] if found else None
