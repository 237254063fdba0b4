"""What each unit can write and reach, tried within its own limits under the machine's systemd."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.debian.container import Container

__all__ = ["UNITS", "exposure", "try_units", "unexpected"]

#: What the table in ``docs/installation.md`` allows, of what is tried: places to write to,
#: addresses that are reached, and acts that work.
UNITS: Mapping[str, tuple[frozenset[str], frozenset[str], frozenset[str]]] = {
    "ncen-updater.service": (
        frozenset({"/var/lib/ncen-updater", "/opt/ncen-updater", "/run/ncen-updater", "/var/tmp"}),
        frozenset(),
        frozenset({"signal process 1"}),
    ),
    "ncen-updater-apply@.service": (
        frozenset({
            "/var/lib/ncen-updater", "/var/lib/ncen-updater/received", "/opt/ncen-updater",
            "/opt/ncen/slots", "/run/ncen", "/var/tmp",
        }),
        frozenset({"the application", "the web server", "the resolver of systemd"}),
        frozenset({"become another user", "writable code", "signal process 1"}),
    ),
    "ncen-updater-resume.service": (
        frozenset({
            "/var/lib/ncen-updater", "/var/lib/ncen-updater/received",
            "/opt/ncen/slots", "/run/ncen", "/var/tmp",
        }),
        frozenset({"the application", "the web server", "the resolver of systemd"}),
        frozenset({"become another user", "writable code", "signal process 1"}),
    ),
    "ncen-updater-fetch@.service": (
        frozenset({"/var/lib/ncen-updater/received", "/var/tmp"}),
        frozenset({"the feed", "the resolver of systemd"}),
        frozenset(),
    ),
    "ncen-updater-send@.service": (
        frozenset({"/var/tmp"}),
        frozenset({
            "the feed", "the application", "the web server", "the resolver of systemd",
            "link-local",
        }),
        frozenset(),
    ),
}  # fmt: skip
PYTHON = "/opt/ncen-updater/current/bin/python"
#: It gives up a right by itself, and keeps it until then.
GIVES_UP = ("ncen-updater.service", "ncen-updater-apply@.service")
CODE = "/opt/ncen-updater"
#: When and how often a unit runs; everything else limits it.
OF_LIFE = re.compile(
    r"(Standard\w+|Type|Restart\w*|WatchdogSec|RemainAfterExit|ExecReload|RuntimeMaxSec"
    r"|ConditionPathExists|RequiredBy|WantedBy|Before|After|Wants)="
)
#: Nobody listens there: what matters is that the kernel refuses or not.
NOBODY = ("ECONNREFUSED", "ETIMEDOUT", "EHOSTUNREACH", "ENETUNREACH")


def exposure(container: Container) -> dict[str, float]:
    """What ``systemd-analyze security`` of the machine reckons, of 10."""
    found = {}
    for unit in UNITS:
        name = unit.replace("@.", "@probe.")
        said = container.run("systemd-analyze", "security", "--no-pager", name).stdout
        number = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said)
        found[unit] = float(number[1]) if number else -1.0
    return found


def try_units(container: Container, shared: Path) -> dict[str, dict[str, Any]]:
    """Run the probe in the limits of each unit; everything but what is started is as handed out.

    Args:
        container: The machine.
        shared: Its ``/pkg``.
    """
    shutil.copyfile(Path(__file__).with_name("probe.py"), shared / "probe.py")
    found = {}
    for unit in UNITS:
        text = container.must("cat", f"/usr/lib/systemd/system/{unit}")
        name = f"probe-{unit.replace('@', '')}"
        container.must("mkdir", "-p", "/run/probe")
        container.must(
            "sh", "-c", f"cat > /run/systemd/system/{name} <<'END'\n{as_probe(unit, text)}END"
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


def as_probe(unit: str, text: str) -> str:
    """The file of a unit that starts the probe within the same limits. Pure."""
    kept = [line for line in text.splitlines() if not OF_LIFE.match(line)]
    give_up = " --give-up" if unit in GIVES_UP else ""
    start = [
        f"ExecStart={PYTHON} -I /pkg/probe.py{give_up}",
        "Type=oneshot",
        f"StandardOutput=truncate:/run/probe/{unit}.json",
    ]
    lines = []
    for line in kept:
        lines += start if line.startswith("ExecStart=") else [line]
    return "\n".join(lines) + "\n"


def unexpected(unit: str, tried: Mapping[str, Any]) -> list[str]:
    """What a unit could do beyond what is documented, or could not do of it. Pure."""
    if "failed" in tried:
        return [f"{unit} does not start: {tried['failed']}"]
    writes, reaches, does = UNITS[unit]
    wrong = []
    for place, answer in tried["write"].items():
        if (answer == "yes") != (place in writes):
            wrong.append(f"{unit}: writing to {place}: {answer}")
    for place, answer in tried.get("write after giving up", {}).items():
        if (answer == "yes") != (place in writes and place != CODE):
            wrong.append(f"{unit}: writing to {place} after giving up {CODE}: {answer}")
    for name, answer in tried["connect"].items():
        if (answer in ("yes", *NOBODY)) != (name in reaches):
            wrong.append(f"{unit}: connecting to {name}: {answer}")
    for act, answer in tried["do"].items():
        if (answer == "yes") != (act in does):
            wrong.append(f"{unit}: {act}: {answer}")
    return wrong
