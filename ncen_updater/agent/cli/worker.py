"""Worker process of the service: runs one command of the agent, or one probe, on the site.

The service accepts connections on its socket and has no access to the databases; this process has
access to them and no network. To prevent other uses of the databases through the service, it runs
only the commands of :data:`ALLOWED_COMMANDS` with the options of :data:`ALLOWED_OPTIONS`, and with
the configuration that the unit specifies.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import IO

from ncen_updater.agent.self_update.agent_directory import (
    OWN,
    DirectoryAction,
    create_action_handler,
)
from ncen_updater.agent.service.apply_runner import RENEWING
from ncen_updater.agent.service.errors import BadRequestError
from ncen_updater.agent.service.systemd_notify import SystemdNotifier
from ncen_updater.agent.storage.agent_selection import STARTED_BY, VERSION_PATTERN
from ncen_updater.common.bounded_io import parse_json
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import ExitCode
from ncen_updater.common.workers import serve_request
from ncen_updater.feed import prepare_process

logger = logging.getLogger(__name__)

#: Commands that the service and its API clients may run.
ALLOWED_COMMANDS = frozenset(
    {
        "check",
        "prune",
        "import",
        "plan",
        "receipt",
        "rehearse",
        "resume",
        "rollback",
        "self-update",
        "upgrade",
    }
)
#: Environment variable of the unit that may run only commands on the agent's own directory.
RENEWS = "NCEN_RENEWS"
#: Allowed options. Not ``--config``: another configuration could name other programs, which would
#: run with the privileges of this process.
ALLOWED_OPTIONS = frozenset(
    {
        "--accept-loss",
        "--start-before",
        "--dry-run",
        "--lang",
        "--job",
        "--retry",
        "--scheduled",
        "--unattended",
        "--undoes",
        "--yes",
    }
)
#: Allowed options of an inspection.
ALLOWED_INSPECTION_OPTIONS = frozenset(
    {
        "--accept-loss",
        "--all-levels",
        "--dry-run",
        "--head",
        "--in-document",
        "--journal",
        "--lang",
        "--leave-out",
        "--prepared",
        "--retry",
        "--show",
    }
)
#: Read-only commands, with the options without which they would write or use the feed.
REQUIRED_INSPECTION_OPTIONS: Mapping[str, frozenset[str]] = {
    "doctor": frozenset(),
    "dossier": frozenset({"--prepared"}),
    "plan": frozenset({"--prepared"}),
    "receipt": frozenset({"--all-levels"}),
    "rollback": frozenset({"--dry-run"}),
    "support-bundle": frozenset({"--in-document"}),
    "verify": frozenset(),
}
#: Probes of the site that are not commands.
PROBES = frozenset({"assess", "availability", "in-reach"})
#: Probes that leave no traces.
READ_ONLY_PROBES = frozenset({"availability", "in-reach"})
MAX_DOCUMENT_BYTES = 16_000_000
#: An inspection has the lowest CPU priority, and is killed first if memory is short; other work is
#: protected (the unit's OOMScoreAdjust=).
NICENESS, OOM_SCORE_ADJ = 10, 800


@dataclass(frozen=True)
class InspectionLimits:
    """Limits of an inspection.

    Attributes:
        timeout_s: Time limit in seconds.
        max_bytes: Size limit of the result in bytes.
    """

    timeout_s: float
    max_bytes: int


def parse_limits(request: Mapping[str, object]) -> InspectionLimits | None:
    """Return the limits of an inspection; None for other work. Pure.

    Raises:
        BadRequestError: If the limits are invalid.
    """
    value = request.get("inspect")
    if value is None:
        return None
    if isinstance(value, dict):
        seconds, max_bytes = value.get("timeout_s"), value.get("max_bytes")
        if (
            isinstance(seconds, int | float)
            and type(max_bytes) is int
            and min(seconds, max_bytes) > 0
        ):
            return InspectionLimits(float(seconds), min(max_bytes, MAX_DOCUMENT_BYTES))
    raise BadRequestError(reason="invalid inspection limits")


def parse_command(request: Mapping[str, object]) -> tuple[str, ...]:
    """Return the command of a request. Pure.

    Raises:
        BadRequestError: If it is not allowed.
    """
    command = request.get("command")
    if isinstance(command, list) and command and all(isinstance(word, str) for word in command):
        allowed, options = command[0] in ALLOWED_COMMANDS, ALLOWED_OPTIONS
        if command[0] == OWN:
            allowed = (
                len(command) == 3
                and command[1] in [*DirectoryAction]
                and bool(VERSION_PATTERN.fullmatch(command[2]))
            )
        if command[0] in PROBES:
            allowed = len(command) == 1
        if "inspect" in request:
            allowed = REQUIRED_INSPECTION_OPTIONS.get(command[0], frozenset({""})) <= set(command)
            options = ALLOWED_INSPECTION_OPTIONS
        options_allowed = all(word in options for word in command if word.startswith("-"))
        if allowed and options_allowed and not any("\0" in word for word in command):
            return tuple(command)
    raise BadRequestError(reason="job not allowed")


def is_bound_to_requester(request: Mapping[str, object]) -> bool:
    """Return whether the command must stop when the requester disconnects. Pure.

    This applies to inspections and read-only probes: nobody would receive their result, and they
    would occupy a connection of the socket.
    """
    return "inspect" in request or request.get("command") in [[word] for word in READ_ONLY_PROBES]


def _execute_request(config: Path, request: Mapping[str, object]) -> dict[str, object]:
    command, limits = parse_command(request), parse_limits(request)
    if command[0] == OWN or os.environ.get(RENEWS):
        directory = os.environ.get(STARTED_BY)
        if not directory or command[0] not in RENEWING | {OWN} or limits is not None:
            raise BadRequestError(reason="job not allowed")
        if command[0] == OWN:
            create_action_handler(
                Path(directory), command[2], lambda: datetime.now(UTC), lambda: None
            )(DirectoryAction(command[1]))
            return {}
    if limits is not None:
        return _run_inspection(command, config, limits)
    return _run_probe(command[0], config) if command[0] in PROBES else _run_command(command, config)


class _InspectionTimeoutError(BaseException):
    """Time limit of an inspection; a BaseException, so that no handler treats it as an error."""


def _run_inspection(
    command: Sequence[str], config: Path, limits: InspectionLimits
) -> dict[str, object]:
    """Run a read-only command within its limits."""

    def raise_timeout(_number: int, _frame: FrameType | None) -> None:
        raise _InspectionTimeoutError

    with suppress(OSError):  # the unit may forbid it
        os.nice(NICENESS)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE_ADJ), "ascii")
    signal.signal(signal.SIGALRM, raise_timeout)
    try:
        signal.setitimer(signal.ITIMER_REAL, limits.timeout_s)
        result = _run_command(command, config, limits.max_bytes)
    except _InspectionTimeoutError:
        return {"exit_code": int(ExitCode.ERROR), "document": {}, "overdue": True}
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return result


def _run_command(
    command: Sequence[str], config: Path, max_bytes: int = MAX_DOCUMENT_BYTES
) -> dict[str, object]:
    from ncen_updater.agent.cli.main import run

    _drop_rights(config)
    before = ["--config", str(config), "--local", "--json", "--text", "--quiet"]
    os.environ["NO_COLOR"] = "1"
    with tempfile.TemporaryFile() as output:
        os.dup2(output.fileno(), 1)
        code = run([*before, *command])
        size = output.seek(0, os.SEEK_END)
        if size > max_bytes:
            return {"exit_code": code, "document": {}, "too_large": True}
        return {"exit_code": code, "document": _parse_document(output)}


def _drop_rights(config_path: Path) -> None:
    """Drop the privileges that the command does not need."""
    from ncen_updater.agent.adapters.rights import drop_server_file_access
    from ncen_updater.agent.config.validation_cache import load_and_store_config

    try:
        config = load_and_store_config(
            config_path
        )  # the service cannot store the result of the check
    except UpdaterError:
        return  # the command itself reports the error
    drop_server_file_access(config)


def _run_probe(name: str, config: Path) -> dict[str, object]:
    from ncen_updater.agent.adapters.application.availability_probe import probe_availability
    from ncen_updater.agent.config.essential_settings import load_essential_settings
    from ncen_updater.agent.self_update.agent_update import run_self_check
    from ncen_updater.agent.service.assessment import assess_site

    probes: Mapping[str, Callable[[Path], dict[str, object]]] = {
        "assess": assess_site,
        "availability": lambda path: probe_availability(load_essential_settings(path)).to_json(),
        "in-reach": run_self_check,
    }
    try:
        document = probes[name](config)
    except UpdaterError as error:
        logger.warning("%s: %s", name, error, extra={"code": error.code})
        document = {"error": {"code": error.code, "title": str(error)}}
        return {"exit_code": int(error.exit_code), "document": document}
    return {"exit_code": 0, "document": document}


def _parse_document(output: IO[bytes]) -> Mapping[str, object]:
    size = output.seek(0, os.SEEK_END)
    if not 0 < size <= MAX_DOCUMENT_BYTES:
        return {}
    output.seek(0)
    try:
        data = parse_json(output.read())
    except ValueError as error:
        logger.warning("a command wrote invalid JSON: %s", error)
        return {}
    return data if isinstance(data, dict) else {}


def main() -> int:
    """Execute a request of the service; return the exit status."""
    prepare_process()
    config = Path(sys.argv[1])
    # Not bound to the service: if the service crashes, the work continues, and the next service
    # finds the result in the journal.
    alive = SystemdNotifier().ping_watchdog
    return serve_request(
        lambda order, _: _execute_request(config, order),
        ends_with_caller=is_bound_to_requester,
        alive=alive,
    )


if __name__ == "__main__":
    sys.exit(main())
