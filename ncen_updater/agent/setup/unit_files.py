"""Drop-in that makes the application's unit start the release at the link ``current``."""

from __future__ import annotations

import re
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from ncen_updater.agent.adapters.application.health import HealthProber
from ncen_updater.agent.adapters.application.health_result import HealthExpectation
from ncen_updater.agent.adapters.application.systemd import (
    PATH_PATTERN,
    names_path_below,
    parse_unit,
)
from ncen_updater.agent.config.agent_config import ApplicationSettings
from ncen_updater.agent.setup.machine import COMMAND_LIMIT_S, Machine
from ncen_updater.agent.setup.server_files import MARK
from ncen_updater.agent.setup.steps import Before, SiteStep, create_flag_file, find_missing
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import (
    SETUP_UNDONE_UNHEALTHY,
    SETUP_UNHEALTHY,
    SETUP_UNIT_UNFIT,
)

INTERVAL_S = 0.5


def make_unit_drop_in(text: str, current: str) -> str | None:
    """Return a drop-in that makes a unit start from ``current``; pure.

    Args:
        text: The unit, as printed by ``systemctl cat``.
        current: Path of the link.

    Returns:
        Empty if the unit already does so; None if the required change is ambiguous.
    """
    found = parse_unit(text)
    if len(found.start) != 1:
        return None
    if names_path_below(found.start[0], current):
        return ""
    directory = found.find_installation()
    ours = re.compile(re.escape(directory) + r"(?=[/\s'\";]|$)")
    if not directory or any(ours.search(value) for value in found.others):
        return None
    lines = [MARK, "[Service]", "ExecStart=", f"ExecStart={ours.sub(current, found.start[0])}"]
    if ours.search(found.working):
        lines.append(f"WorkingDirectory={ours.sub(current, found.working)}")
    return "\n".join([*lines, ""])


@dataclass(frozen=True)
class RestartStep(SiteStep, kind="restart"):
    """Restart the application and wait until it is healthy.

    Users see the maintenance page meanwhile: they are refused once, until the application is
    healthy, and the web server does not find the application absent.

    Attributes:
        unit: Unit of the application.
        paths: Files of the release that the unit starts.
        before_files: Whether the step precedes the drop-in; then it restarts the unit only on undo,
            after the drop-in was removed.
    """

    unit: str
    paths: list[str]
    before_files: bool

    @property
    def title(self) -> LazyText:
        """See :class:`SetupStep`."""
        if self.before_files and not self.paths:
            return LazyText(N_("prepare the undo"))
        if self.before_files:
            return LazyText(N_("check the files that {unit} starts"), {"unit": self.unit})
        return LazyText(N_("restart {unit} (short downtime)"), {"unit": self.unit})

    def capture(self, machine: Machine) -> Before:
        """See :class:`SetupStep`; raise if the release lacks a file that the unit starts."""
        for path in self.paths:
            if not Path(path).exists():
                raise UpdaterError(SETUP_UNIT_UNFIT, unit=self.unit, path=path)
        page = self._load()[1]
        return {"shown": page.exists(), "missing": find_missing(page.parent)}

    def do(self, machine: Machine, before: Before) -> None:
        """See :class:`SetupStep`."""
        if not self.before_files:
            machine.require(("systemctl", "daemon-reload"))
            self._restart(machine, before)

    def undo(self, machine: Machine, before: Before) -> None:
        """See :class:`SetupStep`; the caller reports an unhealthy application after all steps."""
        if not self.before_files:
            return
        machine.require(("systemctl", "daemon-reload"))  # forget the removed drop-in
        try:
            self._restart(machine, before)
        except UpdaterError as error:
            raise UpdaterError(
                SETUP_UNDONE_UNHEALTHY, unit=self.unit, detail=error.detail or str(error)
            ) from error

    def _load(self) -> tuple[ApplicationSettings, Path]:
        config = self.load_config()
        return config.application, config.paths.resolve(config.application.maintenance_file)

    def _restart(self, machine: Machine, before: Before) -> None:
        settings, page = self._load()
        is_shown = before["shown"]  # an operator's own maintenance page stays on
        with nullcontext() if is_shown else create_flag_file(page, before["missing"]):
            limit = max(COMMAND_LIMIT_S, settings.stop_timeout_s + settings.health_timeout_s)
            machine.require(("systemctl", "restart", self.unit), limit)
            prober, until = HealthProber(settings), time.monotonic() + settings.health_timeout_s
            while not (seen := prober.check_health(HealthExpectation(self.version))):
                if time.monotonic() > until:
                    raise UpdaterError(SETUP_UNHEALTHY, unit=self.unit, detail=str(seen.problem))
                time.sleep(INTERVAL_S)


def list_paths(drop_in: str, current: str) -> list[str]:
    """Return the paths below ``current`` that a drop-in starts."""
    return [path for path in PATH_PATTERN.findall(drop_in) if path.startswith(f"{current}/")]
