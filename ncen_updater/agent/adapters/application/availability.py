"""Asks door, processes and health address whether officers can work: once, and not for long.

It takes what it needs from the file as it is and asks with the rights of whoever looks, so that
``status`` needs neither the models of the configuration nor more rights than it has; what upgrades
goes by the application's adapters. A look changes nothing and never raises: what may not or cannot
be asked is said. Standard library, and what says so in its first lines.
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

from ncen_updater.agent.adapters.application.unit_facts import PROPERTIES, STOPPED, seen_of
from ncen_updater.agent.adapters.application.unit_facts import RUNS as RUNNING
from ncen_updater.agent.config.read import read_config
from ncen_updater.agent.policy.availability import (
    Availability,
    AvailabilityState,
    DoorSeen,
    HealthAnswer,
    HealthSeen,
    availability,
)
from ncen_updater.agent.policy.ought_to_run import RunningSeen
from ncen_updater.agent.storage.slots.link import current_version
from ncen_updater.agent.storage.slots.reported import reported_by_slot
from ncen_updater.common.bounded_io import read_file
from ncen_updater.common.errors import UpdaterError
from ncen_updater.formats.reported import says, told_in

if TYPE_CHECKING:
    from http.client import HTTPConnection

    from ncen_updater.agent.adapters.application.asking import SentAlong
    from ncen_updater.agent.config.paths import Places

#: For everything that is asked, side by side.
LIMIT_S = 2.0
MAX_DOOR_BYTES, MAX_BODY_BYTES = 10_000, 1_000_000
#: What the system says where this process may not use the network at all.
FORBIDDEN = frozenset({errno.EPERM, errno.EACCES, errno.EAFNOSUPPORT, errno.ENETUNREACH})
#: As for init scripts: runs, and "program is not running".
UP, DOWN = 0, 3


class _Unasked(Exception):
    """Something that could not be asked; its text says why."""


def look_at(places: Places, *, limit_s: float = LIMIT_S) -> Availability:
    """Look at one site.

    Args:
        places: Where it is.
        limit_s: So long everything may take together.
    """
    try:
        data = read_config(places.config).data
        settings, root = _table(data, "application"), _text(_table(data, "paths"), "root", "/")
        version = current_version(places.slots, places.current)
        reported = reported_by_slot(places.slots, version) if version else ""
        asked = _Asked(settings, Path(root), places.current, reported, limit_s)
    except (_Unasked, UpdaterError, OSError, ValueError) as error:
        return Availability(AvailabilityState.UNKNOWN, why=_said(error))
    return asked.result()


def _said(error: Exception) -> str:
    """What an error says, without its number."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error).strip() or type(error).__name__


def _table(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    table = data.get(name, {})
    if not isinstance(table, dict):
        raise _Unasked(f"[{name}] is not a table")
    return table


def _text(table: Mapping[str, Any], name: str, default: str | None = None) -> str:
    value = table.get(name, default)
    if not isinstance(value, str) or "\0" in value:
        raise _Unasked(f"'{name}' is missing or not text")
    return value


def _fields(body: bytes, field: str, pattern: str) -> object:
    """What the answer tells: an object of JSON, or the version alone that a pattern finds in it."""
    try:
        if pattern:
            told = told_in(body, pattern)
            return None if told is None else {field: told}
        return json.loads(body)
    except re.error as error:
        raise _Unasked(f"'version_pattern' is no regular expression: {error}") from error
    except (ValueError, RecursionError):
        return None


def _argv(table: Mapping[str, Any], name: str) -> Sequence[str]:
    argv = table.get(name)
    if not isinstance(argv, list) or not argv or not all(isinstance(a, str) for a in argv):
        raise _Unasked(f"'{name}' is no list of texts")
    return argv


class _Asked:
    """Everything that is asked of one site, side by side."""

    def __init__(
        self, settings: Mapping[str, Any], root: Path, current: Path, reported: str, limit_s: float
    ) -> None:
        self._settings, self._reported, self._root = settings, reported, root
        self._door = root / _text(settings, "door_file")
        self._until = time.monotonic() + limit_s
        self._limit_s = limit_s
        self._environment = {"NCEN_CURRENT": str(current), "NCEN_DOOR_FILE": str(self._door)}
        self._connections: list[HTTPConnection] = []
        self._found: dict[str, Any] = {}

    def result(self) -> Availability:
        """Ask, and wait for the answers no longer than the limit."""
        threads = [
            threading.Thread(target=self._keep, args=(name, ask), daemon=True)
            for name, ask in (("health", self._health), ("processes", self._processes))
        ]
        for thread in threads:
            thread.start()
        door = self._closed()
        for thread in threads:
            thread.join(self._left())
        found = dict(self._found)
        for connection in self._connections:  # one that is late must not be waited for later either
            with contextlib.suppress(OSError, AttributeError):
                connection.sock.shutdown(socket.SHUT_RDWR)
        late = f"no answer within {self._limit_s:g} seconds"
        health = found.get("health") or HealthSeen(HealthAnswer.NONE, late)
        if isinstance(health, str):
            health = HealthSeen(HealthAnswer.NOT_ASKED, health)
        seen = found.get("processes", late)
        if isinstance(seen, str):
            return availability(door, seen, health)
        missing = tuple(name for name, one in list(seen.items())[1:] if one is False)
        return availability(door, seen[""], health, missing)

    def _keep(self, name: str, ask: Callable[[], object]) -> None:
        try:
            self._found[name] = ask()
        except (_Unasked, OSError, ValueError) as error:
            self._found[name] = _said(error)

    def _left(self) -> float:
        return max(0.0, self._until - time.monotonic())

    # ---- the door --------------------------------------------------------------------------------

    def _closed(self) -> DoorSeen | str:
        try:
            self._door.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return DoorSeen(closed=False)
        except OSError as error:
            return _said(error)
        since = None
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError, RecursionError):
            # People close it by an empty file, too; then nobody wrote down since when.
            told = datetime.fromisoformat(
                json.loads(read_file(self._door, MAX_DOOR_BYTES))["since"]
            )
            since = told if told.tzinfo else None
        return DoorSeen(closed=True, since=since)

    # ---- the health address ----------------------------------------------------------------------

    def _health(self) -> HealthSeen:
        import http.client
        from urllib.parse import urlsplit

        from ncen_updater.agent.adapters.application.asking import refusal

        parts = urlsplit(_text(self._settings, "health_url"))
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise _Unasked("'health_url' is no address")
        kinds = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
        along = self._along()
        connection = kinds[parts.scheme](parts.hostname, parts.port, timeout=self._limit_s)
        self._connections.append(connection)
        path = parts.path.rstrip("/") + _text(self._settings, "health_path", "/healthz")
        try:
            connection.request("GET", path, headers={"Connection": "close", **along.headers})
            with connection.getresponse() as response:
                status, body = response.status, response.read(MAX_BODY_BYTES)
                if response.length and len(body) < MAX_BODY_BYTES:
                    return HealthSeen(HealthAnswer.NONE, "the answer was cut short")
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, OSError) and error.errno in FORBIDDEN:
                return HealthSeen(HealthAnswer.NOT_ASKED, _said(error))
            return HealthSeen(HealthAnswer.NONE, along.masked_text(_said(error)))
        finally:
            connection.close()
        refused = refusal(status, along)
        if refused:
            # It says nothing of how the application is, but of what the site sends along.
            return HealthSeen(HealthAnswer.NOT_ASKED, refused)
        return self._answer(status, along.masked(body))

    def _along(self) -> SentAlong:
        from ncen_updater.agent.adapters.application.asking import SCHEME, asking

        headers = self._settings.get("health_headers", {})
        if not isinstance(headers, dict) or not all(isinstance(v, str) for v in headers.values()):
            raise _Unasked("'health_headers' is no table of texts")
        file = _text(self._settings, "health_token_file", "")
        scheme = _text(self._settings, "health_token_scheme", SCHEME)
        try:
            return asking(headers, self._root / file if file else None, scheme)
        except UpdaterError as error:
            raise _Unasked(error.what_text.render()) from error

    def _commanded(self) -> object:
        """What the site's command says of the version."""
        from ncen_updater.agent.adapters.application.asking import said_by_command

        status, output = self._run(_argv(self._settings, "version_command"))
        return said_by_command(status, output, _text(self._settings, "version_pattern", "") or None)

    def _answer(self, status: int, body: bytes) -> HealthSeen:
        if status != 200:
            return HealthSeen(HealthAnswer.STATUS, str(status))
        field = _text(self._settings, "version_field", "version")
        if "version_command" in self._settings:
            told = self._commanded()
            fields: object = None if told is None else {field: told}
        else:
            fields = _fields(body, field, _text(self._settings, "version_pattern", ""))
        if not isinstance(fields, dict) or field not in fields:
            return HealthSeen(HealthAnswer.NOT_UNDERSTOOD)
        writes = self._settings.get("write_probe_field")
        if isinstance(writes, str) and fields.get(writes) is not True:
            return HealthSeen(HealthAnswer.CANNOT_WRITE)
        said = str(fields[field])[:100]
        well = says(fields[field], self._reported)
        return HealthSeen(HealthAnswer.WELL if well else HealthAnswer.OTHER_VERSION, said)

    # ---- processes -------------------------------------------------------------------------------

    def _processes(self) -> Mapping[str, RunningSeen | str | bool | None]:
        """Look at the part that is asked for its health, and whether the others run, by name."""
        parts = self._settings.get("parts", [])
        if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
            raise _Unasked("'parts' is no list of tables")
        named = {"": self._settings, **{_text(part, "name"): part for part in parts}}
        look = self._units if self._settings.get("adapter", "systemd") == "systemd" else self._told
        seen = look(named)
        others = {
            name: one.runs if isinstance(one, RunningSeen) else None
            for name, one in seen.items()
            if name
        }
        return {"": seen[""], **others}

    def _run(self, argv: Sequence[str]) -> tuple[int, str]:
        from ncen_updater.agent.adapters.application.process import minimal_environment
        from ncen_updater.agent.adapters.application.systemctl import run_systemctl

        more = self._settings.get("environment", {})
        texts = more.items() if isinstance(more, dict) else ()
        own = {name: value for name, value in texts if isinstance(value, str)}
        environment = {**minimal_environment(), **own, **self._environment}
        ended = run_systemctl(argv, environment, self._left())
        if ended.status is None:
            raise _Unasked(f"'{shlex.join(argv)}' did not end within {self._limit_s:g} seconds")
        return ended.status, ended.output

    def _units(self, parts: Mapping[str, Mapping[str, Any]]) -> Mapping[str, RunningSeen | str]:
        units = [_text(part, "unit") for part in parts.values()]
        status, output = self._run(("systemctl", "show", f"--property={PROPERTIES}", "--", *units))
        blocks = [
            dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
            for block in output.split("\n\n")
        ]
        if status != 0 or len(blocks) != len(units):
            raise _Unasked(output.splitlines()[0] if output else f"systemctl ended with {status}")
        return dict(zip(parts, map(_unit, units, blocks), strict=True))

    def _told(self, parts: Mapping[str, Mapping[str, Any]]) -> Mapping[str, RunningSeen | str]:
        seen: dict[str, RunningSeen | str] = {}
        for name, part in parts.items():
            argv = _argv(part, "status")
            status, output = self._run(argv)
            why = f"'{shlex.join(argv)}' ended with {status} {output[:200]}".rstrip()
            seen[name] = RunningSeen(status == UP) if status in (UP, DOWN) else why
        return seen


def _unit(name: str, facts: Mapping[str, str]) -> RunningSeen | str:
    state = facts.get("ActiveState", "")
    if facts.get("LoadState") == "not-found":
        return f"systemd does not know the unit {name}"
    if state not in RUNNING | STOPPED:
        return f"the state of {name} is '{state}'"
    return seen_of(facts)
