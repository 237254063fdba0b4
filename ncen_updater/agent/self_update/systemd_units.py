"""Units that systemd starts by itself: enabled with the agent, disabled before its files go.

A link that names a unit which is no more would keep the application from starting, since it waits
for the unit that resumes. Without that link, an upgrade that a power cut interrupted would not be
brought to its end before the application works again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from ncen_updater.agent.application.process import minimal_environment
from ncen_updater.agent.application.systemctl import run_systemctl
from ncen_updater.agent.self_update import installation_parts as part
from ncen_updater.agent.self_update.installation_parts import InstalledPart
from ncen_updater.common.i18n import N_, Text

SYSTEMD_RUNS = Path("/run/systemd/system")  # sd_booted(3)
TIMEOUT_S = 60
#: In a unit that a site switches on itself: what begins with X- is for us, systemd.unit(5).
OPTIONAL = "\n[X-ncen-updater]\nOptional=yes\n"


def enabling(units: Iterable[Path]) -> Iterator[InstalledPart]:
    """Let systemd start by itself what is meant for that, and not only for sites that want it.

    Args:
        units: Unit files, in their places or still where they are taken from.
    """
    for unit in _startable(units):
        if OPTIONAL in unit.read_text("utf-8"):
            continue
        what = Text(N_("{name} starts by itself"), {"name": unit.name})
        words = ["systemctl", "enable", *_at_once(unit), unit.name]
        yield part.command(what, words, partial(_enabled, unit.name))


def disabling(units: Iterable[Path]) -> Iterator[InstalledPart]:
    """The opposite. The unit that resumes is not stopped: the application would end with it.

    Args:
        units: Unit files that are about to go.
    """
    for unit in _startable(units):
        what = Text(N_("{name} starts no more by itself"), {"name": unit.name})
        words = ["systemctl", "disable", *_at_once(unit), unit.name]
        yield part.command(what, words, partial(_disabled, unit.name))


def _startable(units: Iterable[Path]) -> Iterator[Path]:
    for unit in units:
        if unit.is_file() and "\n[Install]\n" in unit.read_text("utf-8"):
            yield unit


def _at_once(unit: Path) -> list[str]:
    """Sockets wait at once; services when a person or the next start of the machine says so."""
    return ["--now"] if unit.suffix == ".socket" and SYSTEMD_RUNS.is_dir() else []


def _enabled(name: str) -> bool:
    words = ["systemctl", "is-enabled", "--quiet", name]
    return run_systemctl(words, minimal_environment(), TIMEOUT_S).status == 0


def _disabled(name: str) -> bool:
    return not _enabled(name)
