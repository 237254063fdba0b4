"""Application as one or several systemd units."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from ncen_updater.agent.adapters.application.base import (
    Application,
    ApplicationPart,
    describe_exit,
    describe_failed_stop,
    run_checked,
)
from ncen_updater.agent.adapters.application.maintenance import MaintenanceNote
from ncen_updater.agent.adapters.application.process import CommandResult
from ncen_updater.agent.adapters.application.systemctl import (
    ACTIVE_STATES,
    STOPPED,
    UNIT_PROPERTIES,
    build_process_state,
    run_systemctl,
)
from ncen_updater.agent.config.agent_config import ApplicationSettings, ControlSettings
from ncen_updater.agent.model.errors import ApplicationError, CommandError
from ncen_updater.agent.policy.restart_policy import ProcessState
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import STATE_UNKNOWN

SYSTEMCTL_TIMEOUT_S = 30.0
STABLE_STATES = frozenset({"active", "reloading", "refreshing"})
#: Directories of programs that belong to no release.
_SYSTEM = ("/bin/", "/dev/null", "/etc/", "/lib", "/proc/", "/run/", "/sbin/", "/usr/", "/var/")
PATH_PATTERN = re.compile(r"(?<![\w./-])/[^\s'\";:=,$]+")
#: Directory to which a shell command changes.
_SHELL_DIRECTORY = re.compile(r"(?<![\w./-])cd\s+(?:-[LP]\s+)?[\"']?(/[^\s'\";:=,$&|]+)")


@dataclass(frozen=True)
class UnitCommands:
    """Commands and settings of a unit.

    Attributes:
        start: Each ``ExecStart``.
        working: ``WorkingDirectory``; empty if there is none.
        others: Values of all other settings.
    """

    start: tuple[str, ...]
    working: str = ""
    others: tuple[str, ...] = ()

    def find_installation(self) -> str:
        """Return the directory in which the application is installed; empty if unknown."""
        all_paths = PATH_PATTERN.findall(self.start[0])
        paths = [path for path in all_paths if not path.startswith(_SYSTEM)]
        if not paths:
            return ""
        program, working = PurePosixPath(paths[0]), self.working.lstrip("-")
        if working and program.is_relative_to(working):
            return working.rstrip("/")
        shell_directory = _SHELL_DIRECTORY.search(self.start[0])
        if shell_directory and not f"{shell_directory[1]}/".startswith(_SYSTEM):
            directory = PurePosixPath(shell_directory[1])
        else:
            directory = (
                program.parent.parent if program.parent.name in ("bin", "sbin") else program.parent
            )
        return str(directory) if len(directory.parts) > 2 else ""


def parse_unit(text: str) -> UnitCommands:
    """Parse a unit with its drop-ins."""
    settings: dict[str, list[str]] = {}
    for line in text.replace("\\\n", " ").splitlines():
        name, equals, value = line.strip().partition("=")
        if not equals or name.startswith(("#", ";")):
            continue
        values = settings.setdefault(name.strip(), [])
        if name.strip() == "WorkingDirectory" or not value.strip():
            values.clear()
        if value.strip():
            values.append(value.strip())
    started = settings.pop("ExecStart", [])
    working = "".join(settings.pop("WorkingDirectory", []))
    return UnitCommands(
        tuple(started), working, tuple(value for one in settings.values() for value in one)
    )


def names_path_below(value: str, directory: str) -> bool:
    """Tell whether a setting contains a directory or a path below it."""
    return any(
        PurePosixPath(path).is_relative_to(directory) for path in PATH_PATTERN.findall(value)
    )


def find_outside_installation(text: str, current: str) -> str:
    """Return the directory from which a unit starts the application instead of ``current``.

    Empty if it starts from ``current``, or if this cannot be determined.
    """
    found = parse_unit(text)
    if len(found.start) != 1 or any(
        names_path_below(value, current) for value in (*found.start, found.working, *found.others)
    ):
        return ""
    directory = found.find_installation()
    return "" if PurePosixPath(current).is_relative_to(directory or "/") else directory


class SystemdApplication(Application):
    """Application controlled by ``systemctl``.

    Args:
        settings: The table ``[application]``.
        current: The link to the slot in use.
        make_note: Returns why the maintenance page is on.
        systemctl: The program.
    """

    def __init__(
        self,
        settings: ApplicationSettings,
        current: Path,
        *,
        make_note: Callable[[], MaintenanceNote] = MaintenanceNote,
        systemctl: str = "systemctl",
    ) -> None:
        self._systemctl, self._current = systemctl, current
        super().__init__(settings, current, make_note=make_note)

    def _make_part(
        self, settings: ControlSettings, name: str, *, start_after_maintenance: bool
    ) -> _SystemdUnit:
        return _SystemdUnit(
            name, start_after_maintenance, settings, self._environment, self._systemctl
        )

    def describe_outage(self) -> LazyText | None:
        """See :meth:`Application.describe_outage`."""
        resting = all(part.is_at_rest() for part in self._parts)
        first = self._parts[0]
        return first.describe_outage() if resting and isinstance(first, _SystemdUnit) else None

    def find_outside_installations(self) -> Mapping[str, str]:
        """See :meth:`Application.find_outside_installations`."""
        units = (part for part in self._parts if isinstance(part, _SystemdUnit))
        found = {part.unit: part.find_outside_installation(self._current) for part in units}
        return {unit: directory for unit, directory in found.items() if directory}


class _SystemdUnit(ApplicationPart):
    def __init__(
        self,
        name: str,
        start_after_maintenance: bool,
        settings: ControlSettings,
        environment: Mapping[str, str],
        systemctl: str,
    ) -> None:
        self._unit = settings.unit or ""
        super().__init__(name, start_after_maintenance=start_after_maintenance, what=self._unit)
        self._environment = environment
        self._systemctl = systemctl
        self._restarts: str | None = None

    @property
    def unit(self) -> str:
        """Return the name of the unit."""
        return self._unit

    def find_outside_installation(self, current: Path) -> str:
        """Return the directory from which it starts instead of ``current``, or an empty text."""
        argv = self._build_argv("cat", "--no-pager")
        ended = self._run_systemctl(argv, SYSTEMCTL_TIMEOUT_S)
        return find_outside_installation(ended.output, str(current)) if ended.status == 0 else ""

    def is_running(self) -> bool:
        """Tell whether the unit has processes, or is starting or stopping.

        Raises:
            STATE_UNKNOWN: If systemd does not know the unit or gives no clear answer.
        """
        return self._read_properties()["ActiveState"] in ACTIVE_STATES

    def observe_state(self) -> ProcessState:
        """Return the state of the unit."""
        return build_process_state(self._read_properties())

    def is_at_rest(self) -> bool:
        """Tell whether it neither runs nor is queued in systemd; the queue outlives the agent."""
        facts = self._read_properties()
        return facts["ActiveState"] not in ACTIVE_STATES and facts.get("Job", "") in ("", "0")

    def describe_outage(self) -> LazyText:
        """Describe how it ended, or which failed dependency prevented its start."""
        facts = self._read_properties()
        needed = f"{facts.get('Requires', '')} {facts.get('BindsTo', '')}".split()
        argv = (self._systemctl, "is-failed", "--", *needed)
        states = self._run_systemctl(argv, SYSTEMCTL_TIMEOUT_S).output.split()
        failed = [unit for unit, state in zip(needed, states, strict=False) if state == "failed"]
        reason: object = facts.get("Result", "-")
        if failed:
            reason = LazyText(N_("failed dependency: {units}"), {"units": ", ".join(failed)})
        return LazyText(N_("{unit} not running: {reason}"), {"unit": self._unit, "reason": reason})

    def is_stable(self, *, since_last_check: bool = False) -> bool:
        """Tell whether it is active, and systemd has not restarted it since the first check.

        A process that dies at each start is active for an instant each time. One that ended once
        while users work, and has run since, is accepted at the next check.
        """
        facts = self._read_properties()
        restarts = facts.get("NRestarts", "0")
        known = restarts if self._restarts is None else self._restarts
        if self._restarts is None or since_last_check:
            self._restarts = restarts
        return facts["ActiveState"] in STABLE_STATES and restarts == known

    def _read_properties(self) -> Mapping[str, str]:
        argv = self._build_argv("show", f"--property={UNIT_PROPERTIES}")
        ended = self._run_systemctl(argv, SYSTEMCTL_TIMEOUT_S)
        facts = dict(line.split("=", 1) for line in ended.output.splitlines() if "=" in line)
        state = facts.get("ActiveState", "")
        if ended.status != 0:
            reason = describe_exit(ended, SYSTEMCTL_TIMEOUT_S)
        elif facts.get("LoadState") == "not-found":
            reason = LazyText(N_("unit {unit} not found by systemd"), {"unit": self._unit})
        elif state not in ACTIVE_STATES | STOPPED:
            values = {"unit": self._unit, "state": state}
            reason = LazyText(N_("unit {unit} is in state '{state}'"), values)
        else:
            return facts
        raise ApplicationError(
            STATE_UNKNOWN, reason=reason, command=shlex.join(argv), detail=ended.output or None
        )

    def request_stop(self, timeout_s: float) -> LazyText | None:
        """Request the stop; this also cancels a queued start."""
        ended = self._run_systemctl(self._build_argv("stop"), timeout_s)
        return describe_failed_stop(ended, timeout_s)

    def request_start(self, timeout_s: float) -> None:
        """Request the start."""
        # systemd refuses to start a unit that failed too often; this start is not subject to that.
        if self._read_properties()["ActiveState"] == "failed":
            self._run_checked(self._build_argv("reset-failed"))
        # The health check decides whether it came up, with its own deadline.
        self._run_checked(self._build_argv("start", "--no-block"))
        self._restarts = "0"  # systemd counts restarts from the last requested start

    def _run_checked(self, argv: Sequence[str]) -> None:
        ended = self._run_systemctl(argv, SYSTEMCTL_TIMEOUT_S)
        if ended.status != 0:
            raise CommandError(
                reason=describe_exit(ended, SYSTEMCTL_TIMEOUT_S),
                command=shlex.join(argv),
                detail=ended.output or None,
            )

    def _run_systemctl(self, argv: Sequence[str], timeout_s: float) -> CommandResult:
        return run_checked(argv, partial(run_systemctl, argv, self._environment, timeout_s))

    def _build_argv(self, verb: str, *options: str) -> tuple[str, ...]:
        return (self._systemctl, verb, *options, "--", self._unit)
