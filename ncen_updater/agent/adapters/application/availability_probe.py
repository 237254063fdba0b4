"""Probe of maintenance page, processes and health address: can users work?

A probe is made once, within a time limit. It reads the settings from the raw configuration file and
runs with the caller's rights, so ``status`` needs neither the configuration's models nor more
rights. Upgrades use the adapters instead. A probe changes nothing and never raises: a failed query
is reported as unknown. Imports only the standard library and light modules.
"""

from __future__ import annotations

import contextlib
import errno
import json
import re
import shlex
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ncen_updater.agent.adapters.application.systemctl import ACTIVE_STATES as ACTIVE_UNIT_STATES
from ncen_updater.agent.adapters.application.systemctl import (
    STOPPED,
    UNIT_PROPERTIES,
    build_process_state,
)
from ncen_updater.agent.config.raw_config import read_raw_config
from ncen_updater.agent.policy.availability import (
    Availability,
    AvailabilityState,
    HealthAnswer,
    HealthProbe,
    MaintenanceProbe,
    judge_availability,
)
from ncen_updater.agent.policy.restart_policy import ProcessState
from ncen_updater.agent.storage.slots.link import read_current_version, read_reported_version
from ncen_updater.common.bounded_io import read_file
from ncen_updater.common.cli.characters import strip_control_characters
from ncen_updater.common.errors import DETAIL, UpdaterError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.formats.reported_version import extract_version, matches_reported_version

if TYPE_CHECKING:
    from http.client import HTTPConnection

    from ncen_updater.agent.adapters.application.health_request import RequestCredentials
    from ncen_updater.agent.config.essential_settings import EssentialSettings

#: Time limit for all queries, which run in parallel.
PROBE_TIMEOUT_S = 2.0
MAX_MAINTENANCE_FILE_BYTES, MAX_BODY_BYTES = 10_000, 1_000_000
#: Errors of a process that may not use the network at all.
PERMISSION_ERRNOS = frozenset({errno.EPERM, errno.EACCES, errno.EAFNOSUPPORT, errno.ENETUNREACH})
#: Exit statuses of a status command, as of init scripts.
EXIT_RUNNING, EXIT_STOPPED = 0, 3


class _ProbeError(Exception):
    """A failed query; ``reason`` is the reason."""

    def __init__(self, reason: str, **values: object) -> None:
        self.reason = LazyText(reason, values)
        super().__init__(str(self.reason))


def probe_availability(
    paths: EssentialSettings, *, limit_s: float = PROBE_TIMEOUT_S
) -> Availability:
    """Probe one site.

    Args:
        paths: Paths of the site.
        limit_s: Time limit for everything, in seconds.
    """
    try:
        data = read_raw_config(paths.config_path).data
        settings, root = (
            _require_table(data, "application"),
            _require_text(_require_table(data, "paths"), "root", "/"),
        )
        version = read_current_version(paths.slots, paths.current)
        reported = read_reported_version(paths.slots, version) if version else ""
        probe = _AvailabilityProbe(settings, Path(root), paths.current, reported, limit_s)
    except (_ProbeError, UpdaterError, OSError, ValueError) as error:
        return Availability(AvailabilityState.UNKNOWN, unknown_because=_format_error(error))
    return probe.run()


def make_late_text(limit_s: float) -> LazyText:
    """Return the reason of a query that did not end in time."""
    return LazyText(N_("no answer within {seconds} s"), {"seconds": f"{limit_s:g}"})


def _format_error(error: Exception) -> LazyText:
    """Return an error as text: lazy text for the agent's own errors, otherwise the message."""
    if isinstance(error, _ProbeError):
        return error.reason
    if isinstance(error, UpdaterError):
        return error.title_text
    text = str(error).strip() or type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return LazyText(DETAIL, {"detail": strip_control_characters(text)})


def _require_table(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    table = data.get(name, {})
    if not isinstance(table, dict):
        raise _ProbeError(N_("[{name}] is not a table"), name=name)
    return table


def _require_text(table: Mapping[str, Any], name: str, default: str | None = None) -> str:
    value = table.get(name, default)
    if not isinstance(value, str) or "\0" in value:
        raise _ProbeError(N_("'{name}' is missing or not text"), name=name)
    return value


def _parse_health_fields(body: bytes, field: str, pattern: str) -> object:
    """Parse a health response: JSON, or the version that the pattern finds; None if invalid."""
    try:
        if pattern:
            reported = extract_version(body, pattern)
            return None if reported is None else {field: reported}
        return json.loads(body)
    except re.error as error:
        template = N_("'version_pattern' is not a regular expression: {error}")
        raise _ProbeError(template, error=error) from error
    except (ValueError, RecursionError):
        return None


def _require_argv(table: Mapping[str, Any], name: str) -> Sequence[str]:
    argv = table.get(name)
    if not isinstance(argv, list) or not argv or not all(isinstance(a, str) for a in argv):
        raise _ProbeError(N_("'{name}' is not a list of strings"), name=name)
    return argv


class _AvailabilityProbe:
    """All queries of one site, run in parallel."""

    def __init__(
        self, settings: Mapping[str, Any], root: Path, current: Path, reported: str, limit_s: float
    ) -> None:
        self._settings, self._reported, self._root = settings, reported, root
        self._maintenance_file = root / _require_text(settings, "maintenance_file")
        self._until = time.monotonic() + limit_s
        self._limit_s = limit_s
        self._environment = {
            "NCEN_CURRENT": str(current),
            "NCEN_MAINTENANCE_FILE": str(self._maintenance_file),
        }
        self._connections: list[HTTPConnection] = []
        self._found: dict[str, Any] = {}

    def run(self) -> Availability:
        """Run the queries, and wait no longer than the limit."""
        threads = [
            threading.Thread(target=self._store_result, args=(name, query), daemon=True)
            for name, query in (
                ("health", self._probe_health),
                ("processes", self._probe_processes),
            )
        ]
        for thread in threads:
            thread.start()
        maintenance_file = self._probe_maintenance_file()
        for thread in threads:
            thread.join(self._compute_remaining_s())
        found = dict(self._found)
        # End late queries now, so that nothing waits for them later.
        for connection in self._connections:
            with contextlib.suppress(OSError, AttributeError):
                connection.sock.shutdown(socket.SHUT_RDWR)
        late = make_late_text(self._limit_s)
        health = found.get("health") or HealthProbe(HealthAnswer.NO_ANSWER, late)
        if isinstance(health, LazyText):
            health = HealthProbe(HealthAnswer.NOT_ASKED, health)
        states = found.get("processes", late)
        if isinstance(states, LazyText):
            return judge_availability(maintenance_file, states, health)
        missing = tuple(name for name, runs in list(states.items())[1:] if runs is False)
        return judge_availability(maintenance_file, states[""], health, missing)

    def _store_result(self, name: str, query: Callable[[], object]) -> None:
        try:
            self._found[name] = query()
        except (_ProbeError, UpdaterError, OSError, ValueError) as error:
            self._found[name] = _format_error(error)

    def _compute_remaining_s(self) -> float:
        return max(0.0, self._until - time.monotonic())

    # ---- the maintenance page --------------------------------------------------------------------

    def _probe_maintenance_file(self) -> MaintenanceProbe | LazyText:
        try:
            self._maintenance_file.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return MaintenanceProbe(on=False)
        except OSError as error:
            return _format_error(error)
        since = None
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError, RecursionError):
            # An operator may create an empty file; then the start time is unknown.
            reported = datetime.fromisoformat(
                json.loads(read_file(self._maintenance_file, MAX_MAINTENANCE_FILE_BYTES))["since"]
            )
            since = reported if reported.tzinfo else None
        return MaintenanceProbe(on=True, since=since)

    # ---- the health address ----------------------------------------------------------------------

    def _probe_health(self) -> HealthProbe:
        import http.client
        from urllib.parse import urlsplit

        from ncen_updater.agent.adapters.application.health_request import describe_refusal

        parts = urlsplit(_require_text(self._settings, "health_url"))
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise _ProbeError(N_("invalid URL in 'health_url'"))
        kinds = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
        credentials = self._read_request_credentials()
        connection = kinds[parts.scheme](parts.hostname, parts.port, timeout=self._limit_s)
        self._connections.append(connection)
        path = parts.path.rstrip("/") + _require_text(self._settings, "health_path", "/healthz")
        try:
            connection.request("GET", path, headers={"Connection": "close", **credentials.headers})
            with connection.getresponse() as response:
                status, body = response.status, response.read(MAX_BODY_BYTES)
                if response.length and len(body) < MAX_BODY_BYTES:
                    return HealthProbe(HealthAnswer.NO_ANSWER, LazyText(N_("incomplete answer")))
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, OSError) and error.errno in PERMISSION_ERRNOS:
                return HealthProbe(HealthAnswer.NOT_ASKED, _format_error(error))
            return HealthProbe(
                HealthAnswer.NO_ANSWER, credentials.mask_text(str(_format_error(error)))
            )
        finally:
            connection.close()
        refusal = describe_refusal(status, credentials)
        if refusal:
            # This says nothing about the health, only about the credentials.
            return HealthProbe(HealthAnswer.NOT_ASKED, refusal)
        return self._judge_response(status, credentials.mask(body))

    def _read_request_credentials(self) -> RequestCredentials:
        from ncen_updater.agent.adapters.application.health_request import (
            DEFAULT_AUTHORIZATION_SCHEME,
            load_request_credentials,
        )

        headers = self._settings.get("health_headers", {})
        if not isinstance(headers, dict) or not all(isinstance(v, str) for v in headers.values()):
            raise _ProbeError(N_("'health_headers' is not a table of strings"))
        file = _require_text(self._settings, "health_token_file", "")
        scheme = _require_text(self._settings, "health_token_scheme", DEFAULT_AUTHORIZATION_SCHEME)
        return load_request_credentials(headers, self._root / file if file else None, scheme)

    def _run_version_command(self) -> object:
        """Run the site's version command and return the version it reports."""
        from ncen_updater.agent.adapters.application.health_request import parse_version_output

        status, output = self._run_command(_require_argv(self._settings, "version_command"))
        return parse_version_output(
            status, output, _require_text(self._settings, "version_pattern", "") or None
        )

    def _judge_response(self, status: int, body: bytes) -> HealthProbe:
        if status != 200:
            return HealthProbe(HealthAnswer.HTTP_ERROR, str(status))
        field = _require_text(self._settings, "version_field", "version")
        if "version_command" in self._settings:
            reported = self._run_version_command()
            fields: object = None if reported is None else {field: reported}
        else:
            fields = _parse_health_fields(
                body, field, _require_text(self._settings, "version_pattern", "")
            )
        if not isinstance(fields, dict) or field not in fields:
            return HealthProbe(HealthAnswer.UNREADABLE)
        writes = self._settings.get("write_probe_field")
        if isinstance(writes, str) and fields.get(writes) is not True:
            return HealthProbe(HealthAnswer.CANNOT_WRITE)
        text = str(fields[field])[:100]
        matches = matches_reported_version(fields[field], self._reported)
        return HealthProbe(HealthAnswer.HEALTHY if matches else HealthAnswer.OTHER_VERSION, text)

    # ---- processes -------------------------------------------------------------------------------

    def _probe_processes(self) -> Mapping[str, ProcessState | LazyText | bool | None]:
        """Return the state of the main part, and whether the others run, by name."""
        parts = self._settings.get("parts", [])
        if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
            raise _ProbeError(N_("'parts' is not a list of tables"))
        named = {"": self._settings, **{_require_text(part, "name"): part for part in parts}}
        probe = (
            self._probe_systemd_units
            if self._settings.get("adapter", "systemd") == "systemd"
            else self._probe_status_commands
        )
        states = probe(named)
        others = {
            name: state.runs if isinstance(state, ProcessState) else None
            for name, state in states.items()
            if name
        }
        return {"": states[""], **others}

    def _run_command(self, argv: Sequence[str]) -> tuple[int, str]:
        from ncen_updater.agent.adapters.application.process import build_minimal_environment
        from ncen_updater.agent.adapters.application.systemctl import run_systemctl

        table = self._settings.get("environment", {})
        variables = table.items() if isinstance(table, dict) else ()
        configured = {name: value for name, value in variables if isinstance(value, str)}
        environment = {**build_minimal_environment(), **configured, **self._environment}
        ended = run_systemctl(argv, environment, self._compute_remaining_s())
        if ended.status is None:
            values = {"command": shlex.join(argv), "seconds": f"{self._limit_s:g}"}
            raise _ProbeError(N_("'{command}' did not end within {seconds} s"), **values)
        return ended.status, ended.output

    def _probe_systemd_units(
        self, parts: Mapping[str, Mapping[str, Any]]
    ) -> Mapping[str, ProcessState | LazyText]:
        units = [_require_text(part, "unit") for part in parts.values()]
        status, output = self._run_command(
            ("systemctl", "show", f"--property={UNIT_PROPERTIES}", "--", *units)
        )
        blocks = [
            dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
            for block in output.split("\n\n")
        ]
        if status != 0 or len(blocks) != len(units):
            raise _ProbeError(
                N_("systemctl ended with {status}: {output}"),
                status=status, output=output.split("\n", 1)[0] or "-",
            )  # fmt: skip
        return dict(zip(parts, map(_parse_unit_state, units, blocks), strict=True))

    def _probe_status_commands(
        self, parts: Mapping[str, Mapping[str, Any]]
    ) -> Mapping[str, ProcessState | LazyText]:
        states: dict[str, ProcessState | LazyText] = {}
        for name, part in parts.items():
            argv = _require_argv(part, "status")
            status, output = self._run_command(argv)
            problem = LazyText(
                N_("'{command}' ended with {status}: {output}"),
                {"command": shlex.join(argv), "status": status, "output": output[:200] or "-"},
            )
            states[name] = (
                ProcessState(status == EXIT_RUNNING)
                if status in (EXIT_RUNNING, EXIT_STOPPED)
                else problem
            )
        return states


def _parse_unit_state(name: str, facts: Mapping[str, str]) -> ProcessState | LazyText:
    state = facts.get("ActiveState", "")
    if facts.get("LoadState") == "not-found":
        return LazyText(N_("unit {unit} not found by systemd"), {"unit": name})
    if state not in ACTIVE_UNIT_STATES | STOPPED:
        return LazyText(N_("unit {unit} is in state '{state}'"), {"unit": name, "state": state})
    return build_process_state(facts)
