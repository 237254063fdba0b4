"""Tests of the rights of the process that reads the feed, from within it as another user.

A module that Python loads at its start tries each thing in the real child and writes down what came
of it: so it is what code that took over this process could do, and not what a table says.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ncen_updater.agent.adapters.feed_reader.worker_source import WorkerReleaseSource
from ncen_updater.agent.config.loader import load_config
from ncen_updater.common.workers import INHERITED_VARIABLES
from tests.feed.test_reader_unit import CONFIG
from tests.support.http_server import WebServer
from tests.support.tuf_repository import Feed

NOBODY = 65534
HERE = Path(__file__).resolve().parents[2]
PROBE = """
import json, os, socket, sys
if len(sys.argv) > 1 or "worker" in " ".join(sys.orig_argv):
    def of(act):
        try:
            act()
            return "done"
        except OSError as error:
            return error.strerror
    def connect():
        with socket.socket(socket.AF_UNIX) as side:
            side.connect(PLACES["socket"])
    PLACES = json.loads({places!r})
    report = {{
        "user": [os.getuid(), os.geteuid(), os.getgid(), *os.getgroups()],
        "variables": sorted(os.environ),
        "arguments": sys.orig_argv,
        "descriptors": {{n: os.readlink(f"/proc/self/fd/{{n}}") for n in os.listdir("/proc/self/fd")
                        if os.path.lexists(f"/proc/self/fd/{{n}}")}},
        "journal": of(lambda: open(PLACES["journal"], "rb")),
        "database": of(lambda: open(PLACES["database"], "rb")),
        "socket": of(connect),
        "root": of(lambda: open(PLACES["root"], "ab")),
        "config": of(lambda: open(PLACES["config"], "ab")),
        "beside": of(lambda: open(PLACES["beside"], "wb")),
        "parent": of(lambda: open(f"/proc/{{os.getppid()}}/environ", "rb")),
        "kill": of(lambda: os.kill(os.getppid(), 0)),
        "back": of(lambda: os.setuid(0)),
    }}
    with open(PLACES["report"], "w") as stream:
        json.dump(report, stream)
"""


def _python() -> Path | None:
    """An interpreter of this version that another user may run, with what is installed here."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for place in (
        Path(sys.executable),
        Path("/usr/bin") / version,
        Path("/usr/local/bin") / version,
    ):
        environment = {"PYTHONPATH": _packages()}
        code = "import ncen_updater.feed.tuf_source, pydantic"
        with contextlib.suppress(OSError):
            done = subprocess.run(
                [place, "-c", code], user=NOBODY, env=environment, capture_output=True, check=False
            )
            if done.returncode == 0:
                return place
    return None


def _packages() -> str:
    return f"{HERE}:{sysconfig.get_paths()['purelib']}"


def _slot(python: Path, place: Path, probe: str) -> Path:
    """An environment with what is installed here, and a module that it loads at its start."""
    words = [str(python), "-I", "-m", "venv", "--without-pip", "--symlinks", str(place)]
    subprocess.run(words, check=True, umask=0o022)
    (packages,) = place.glob("lib/python*/site-packages")
    (packages / "ours.pth").write_text(_packages().replace(":", "\n"))
    # No sitecustomize: Debian's Python has one of its own, which is found first.
    (packages / "reader_probe.py").write_text(probe)
    (packages / "reader_probe.pth").write_text("import reader_probe\n")
    return place / "bin" / "python"


@contextlib.contextmanager
def _site(server: WebServer, feed: Feed) -> Iterator[Path]:
    """A site as a package lays it out: the reader's directory, and what is not the reader's."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:  # pytest's own is closed to others
        root = Path(name)
        root.chmod(0o755)
        feed.trusted_root(root / "root.json").chmod(0o644)
        text = CONFIG.format(url=server.url, root=root).replace('"systemd"', '"process"')
        (root / "agent.toml").write_text(text)
        (root / "received").mkdir()
        os.chown(root / "received", NOBODY, NOBODY)
        for closed in ("state", "databases", "sockets"):
            (root / closed).mkdir(mode=0o700)
        (root / "state/journal.sqlite").write_bytes(b"journal")
        (root / "databases/cases.sqlite").write_bytes(b"cases")
        yield root


@pytest.fixture(scope="module")
def python() -> Path:
    if os.geteuid() != 0:
        pytest.skip("only root can give a child another user")
    found = _python()
    if found is None:
        pytest.skip("another user may run no Python of this version")
    return found


def test_reader_reaches_only_its_own_directory(
    server: WebServer, feed: Feed, python: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        _site(server, feed) as root,
        socket.socket(socket.AF_UNIX) as listener,
        (root / "state/journal.sqlite").open("rb") as held,
    ):
        listener.bind(str(root / "sockets/.s.PGSQL.5432"))
        listener.listen()
        os.set_inheritable(held.fileno(), True)
        places = {
            "journal": root / "state/journal.sqlite", "database": root / "databases/cases.sqlite",
            "socket": root / "sockets/.s.PGSQL.5432", "root": root / "root.json",
            "config": root / "agent.toml", "beside": root / "new",
            "report": root / "received/probe.json",
        }  # fmt: skip
        probe = PROBE.format(places=json.dumps({k: str(v) for k, v in places.items()}))
        monkeypatch.setattr(sys, "executable", str(_slot(python, root / "slot", probe)))
        monkeypatch.setenv("PYTHONPATH", "secret")
        for name in ("PGPASSWORD", "PGPASSFILE", "CREDENTIALS_DIRECTORY", "LD_PRELOAD_X"):
            monkeypatch.setenv(name, "secret")
        before = os.umask(0)  # whatever the service was started with
        try:
            WorkerReleaseSource(load_config(root / "agent.toml"), root / "agent.toml").refresh()
        finally:
            os.umask(before)
        report: dict[str, Any] = json.loads(places["report"].read_text())
        left = [path for path in (root / "received").rglob("*") if path != places["report"]]
        assert left
        assert {path.stat().st_uid for path in left} == {NOBODY}
        assert [p for p in left if not p.is_symlink() and p.stat().st_mode & 0o022] == []
    assert set(report["user"]) == {NOBODY}
    assert set(report["variables"]) <= {*INHERITED_VARIABLES, "LC_CTYPE"}
    assert "secret" not in json.dumps(report["variables"] + report["arguments"])
    # 3 is the directory that was listed.
    assert {n for n in report["descriptors"] if int(n) > 2} <= {"3"}
    assert "journal" not in json.dumps(report["descriptors"])
    denied = {"journal", "database", "socket", "root", "config", "beside", "parent"}
    assert {name: report[name] for name in denied} == dict.fromkeys(denied, "Permission denied")
    refused = {"kill", "back"}
    assert {name: report[name] for name in refused} == dict.fromkeys(
        refused, "Operation not permitted"
    )
