"""A complete, unprivileged stand-in site in one directory, for tests, benchmarks and the demo."""

from __future__ import annotations

import dataclasses
import json
import os
import pwd
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.version import Version

from demo.databases import (
    PostgresPlace,
    SiteDatabases,
    SqlitePlace,
    create_site_databases,
)
from demo.errors import StandInError
from demo.evidence import SiteVersion, database_digests, site_version
from demo.generator import Generated, generate
from demo.ports import find_free_ports
from demo.releases import assemble, declare
from demo.starting import held
from ncen_updater.common import atomic_files as durable
from ncen_updater.common.progress import SilentProgress
from ncen_updater.common.toml_writer import render_toml

READY_SECONDS = 120.0


@dataclass(frozen=True)
class SiteOptions:
    """Options of a site.

    Attributes:
        site_id: Name of the site in the feed.
        country: Upper case ISO code.
        version: Initial release; generated records require the schema of 3.2.4.
        seed: Seed of the generated records.
        cases: Number of generated cases; 0 for none.
        icomm: Whether the application sends queued mail; off to compare digests of a running site.
        feed_urls: URLs in ``agent.toml``.
        soak_s: Duration of the soak period.
        soak_interval_s: Interval of health checks in the soak period.
        health_timeout_s: Maximum time until the application is healthy.
        schema_number: Schema number declared by the initial release; None if it declares none.
        settings: Further tables of ``agent.toml``; they replace tables of the same name.
    """

    site_id: str = "mu-port-louis"
    country: str = "MU"
    version: str = "3.2.4"
    seed: int = 1
    cases: int = 200
    icomm: bool = True
    feed_urls: Sequence[str] = ("http://127.0.0.1:9/",)
    soak_s: float = 3.0
    soak_interval_s: float = 0.2
    health_timeout_s: float = 60.0
    schema_number: int | None = None
    settings: Mapping[str, Mapping[str, Any]] | None = None


class DemoSite:
    """One site. As a context manager it lays itself out, and stops its processes at the end.

    Args:
        root: Directory of the whole site; created if missing.
        databases: Location of the databases; SQLite files below ``root`` by default.
        options: Options of the site.
    """

    def __init__(
        self,
        root: Path,
        databases: SiteDatabases | None = None,
        options: SiteOptions | None = None,
    ) -> None:
        self.root = root.absolute()
        self.options = options or SiteOptions()
        self.databases: SiteDatabases = databases or SqlitePlace(self.root / "srv/ncen/databases")
        self.slots = self.root / "opt/ncen/slots"
        self.current = self.root / "opt/ncen/current"
        self.state = self.root / "var/lib/ncen-updater"
        self.overlay = self.root / "srv/ncen/overlay"
        self.photos = self.overlay / "photos"
        self.country = self.root / "srv/ncen/country"
        self.merged = self.root / "opt/ncen/overlay"
        self.run = self.root / "run/ncen"
        self.maintenance_file = self.run / "maintenance-on"
        self.config_path = self.root / "etc/ncen-updater/agent.toml"
        self.trusted_root = self.root / "etc/ncen-updater/trust/root.json"
        self.traffic_log = self.root / "traffic.jsonl"
        self.app_port, self.front_port = find_free_ports(2)
        self.generated: Generated | None = None
        self._front: subprocess.Popen[bytes] | None = None
        self._traffic: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> DemoSite:
        self.lay_out()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def public_url(self) -> str:
        """URL for users."""
        return f"http://127.0.0.1:{self.front_port}"

    @property
    def app_url(self) -> str:
        """URL of the application itself."""
        return f"http://127.0.0.1:{self.app_port}"

    # ---- laying out ----------------------------------------------------------------------------

    def lay_out(self) -> None:
        """Create all files and databases without starting anything."""
        places = (self.slots, self.state, self.photos, self.run, self.config_path.parent)
        for place in (*places, self.trusted_root.parent):
            place.mkdir(parents=True, exist_ok=True)
        self._build_slot(self.options.version)
        create_site_databases(self.databases, release=self.options.version)
        if self.options.cases:
            self.generated = generate(
                self.databases, self.options.seed, self.options.cases, photos=self.photos
            )
        overlay = {
            "country": self.options.country,
            "port": self.app_port,
            "maintenance_file": str(self.maintenance_file),
            "run_directory": str(self.run),
            "overlay": str(self.overlay),
            "texts": str(self.merged / "current"),
            "icomm": self.options.icomm,
            "engine": self.databases.kind,
            "databases": {n: self.databases.address(n) for n in self.databases.names},
            "translations": {"title": "nCEN — substitut", "cases": "affaires"},
        }
        text = json.dumps(overlay, indent=2, ensure_ascii=False)
        (self.overlay / "ncen.json").write_text(text, "utf-8")
        self.configure(self.options.settings or {})

    def configure(self, settings: Mapping[str, Mapping[str, Any]]) -> None:
        """Rewrite ``agent.toml`` atomically, because a service may be reading it.

        Args:
            settings: Tables that replace those of the same name.
        """
        self.options = dataclasses.replace(self.options, settings=settings)
        content = render_toml({"schema": 1, **self._settings()}).encode()
        durable.write_file(self.config_path, content, 0o600)

    def _build_slot(self, version: str) -> None:
        """Build the slot like the agent, from an archive like the publisher's."""
        from ncen_updater.agent.storage.slots.store import SlotStore
        from ncen_updater.publisher.build.release_build import build_release, scan_release

        with tempfile.TemporaryDirectory(prefix="nu-slot-") as directory:
            source = assemble(version, Path(directory) / "source")
            if self.options.schema_number is not None:
                declare(source, self.options.schema_number)
            built = build_release(source, Path(directory) / "staging")
            archive = built.staging / "targets" / built.document.archive.target
            store = SlotStore(self.slots, self.current)
            store.build_slot(built.document, scan_release(source), archive, SilentProgress())
            store.switch_current(Version(version))

    def _settings(self) -> dict[str, Any]:
        options = self.options
        databases: dict[str, Any] = {
            "engine": self.databases.kind,
            "names": dict(self.databases.names),
        }
        if isinstance(self.databases, PostgresPlace):
            databases["postgresql"] = {
                "host": self.databases.host,
                "port": self.databases.port,
                "user": self.databases.agent,
                "owner": self.databases.owner,
                "control_database": f"{self.databases.prefix}control",
            }
            if self.databases.programs is not None:
                databases["postgresql"]["bin_directory"] = str(self.databases.programs)
        else:
            databases["sqlite"] = {"directory": str(self.databases.directory)}
        return {
            "site": {"id": options.site_id, "country": options.country},
            "paths": {"root": str(self.root)},
            "feed": {"urls": list(options.feed_urls)},
            "databases": databases,
            "files": [{"name": "photographs", "directory": str(self.photos.resolve())}],
            "application": {
                "adapter": "command",
                "user": pwd.getpwuid(os.geteuid()).pw_name,
                "start": self._control_words("start"),
                "stop": self._control_words("stop"),
                "status": self._control_words("status"),
                "environment": self.environment(),
                "stop_timeout_s": 30.0,
                "health_url": self.app_url,
                "version_field": "version",
                "schema_field": "schema",
                "write_probe_field": "writes_ok",
                "health_timeout_s": options.health_timeout_s,
                "maintenance_file": str(self.maintenance_file),
            },
            "soak": {"seconds": options.soak_s, "interval_s": options.soak_interval_s},
            **(options.settings or {}),
        }

    def own_words(self) -> dict[str, dict[str, Any]]:
        """Return the settings table that enables the local overlay, and create its directory."""
        self.country.mkdir(parents=True, exist_ok=True)
        return {"overlay": {"directory": str(self.country)}}

    def environment(self) -> dict[str, str]:
        """Return the environment variables of the application's commands."""
        return {"NCEN_CONFIG": str(self.overlay / "ncen.json"), "NCEN_RUN": str(self.run)}

    # ---- running -------------------------------------------------------------------------------

    def start_app(self) -> None:
        """Start the release at ``current`` and wait until it responds, healthy or not."""
        self._control("start")
        _wait_for_port(self.app_port, "application")

    def stop_app(self) -> None:
        """Stop the application; do nothing if it does not run."""
        self._control("stop")

    def app_running(self) -> bool:
        """Return whether any process of the application runs."""
        return self._run_control("status").returncode == 0

    def start_front_door(self) -> None:
        """Start the stand-in for the web server."""
        with held():
            self._front = self._spawn(
                "frontdoor", "--port", str(self.front_port), "--target-port", str(self.app_port),
                "--maintenance-file", str(self.maintenance_file),
            )  # fmt: skip
        _wait_for_port(self.front_port, "front door")

    def start_traffic(self, pause_s: float = 0.05) -> None:
        """Start simulated users, who enter cases through the web server; see ``traffic_log``."""
        with held():
            self._traffic = self._spawn(
                "traffic", "--url", self.public_url, "--log", str(self.traffic_log),
                "--pause", str(pause_s),
            )  # fmt: skip

    def stop_traffic(self) -> dict[str, Any]:
        """Stop the simulated users; return their summary (see :class:`~.traffic.Summary`)."""
        process, self._traffic = self._traffic, None
        if process is None:
            raise StandInError(part="traffic", wanted="stopped", detail="not started")
        output = _end(process)
        try:
            summary: dict[str, Any] = json.loads(output)
        except ValueError as error:
            raise StandInError(part="traffic", wanted="stopped", detail=str(error)) from error
        return summary

    def close(self) -> None:
        """Stop all processes of the site."""
        for process in (self._traffic, self._front):
            if process is not None:
                _end(process)
        self._traffic = self._front = None
        if self.current.is_symlink():
            self.stop_app()

    def _control(self, act: str) -> None:
        with held():  # an interrupted start would continue after the cleanup's stop
            ended = self._run_control(act)
        if ended.returncode != 0:
            detail = ended.stderr + _tail(self.run / "ncen.log")
            raise StandInError(part="application", wanted=act, detail=detail)

    def _control_words(self, act: str) -> list[str]:
        # Needs no installed package; frequent status queries run without a Python interpreter.
        reader = ("/bin/sh",) if act == "status" else (sys.executable, "-S", "-B")
        return [*reader, str(self.current / "app/bin/ncenctl"), act]

    def _run_control(self, act: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self._control_words(act),
            env={**os.environ, **self.environment()},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def _spawn(self, module: str, *arguments: str) -> subprocess.Popen[bytes]:
        with (self.root / f"{module}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", f"demo.{module}", *arguments],
                cwd=Path(__file__).parents[1],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )


def digests(site: DemoSite) -> dict[str, str]:
    """Compute the digest of every table of all three databases, read directly."""
    return database_digests(site.databases)


def version_of(site: DemoSite) -> SiteVersion:
    """Return the version of each part of the site, to detect a mixture."""
    return site_version(site.databases, site.current, site.app_port)


def _end(process: subprocess.Popen[bytes]) -> bytes:
    process.send_signal(signal.SIGTERM)
    try:
        output, _ = process.communicate(timeout=30)
    except subprocess.TimeoutExpired:
        process.kill()
        output, _ = process.communicate()
    return output


def _wait_for_port(port: int, part: str) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError as error:
            if time.monotonic() > deadline:
                raise StandInError(part=part, wanted="running", detail=str(error)) from error
            time.sleep(0.01)
        else:
            return


def _tail(path: Path) -> str:
    return path.read_text("utf-8", "replace")[-2000:] if path.exists() else ""
