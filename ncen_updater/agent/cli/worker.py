"""The process that works on the site for the service: one command of the agent, or one look.

The service accepts connections at its socket and cannot reach the databases; this process can, and
has no network. So that nobody reaches the databases through the service, only the commands of
:data:`ALLOWED_COMMANDS` are run here, with the options of :data:`ALLOWED_OPTIONS`, on the
configuration that the unit names.
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
from ncen_updater.feed import block_unused_imports

logger = logging.getLogger(__name__)

#: What the service and those whom it lets in may have done.
ALLOWED_COMMANDS = frozenset(
    {
        "check",
        "prune",
        "confirm",
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
#: Variable by which a unit says that it is there for the agent's own code, and no other work.
RENEWS = "NCEN_RENEWS"
#: With these options, whatever else a command takes: every command takes ``--config`` too, and
#: another configuration would name other programs to be started with the rights of this process.
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
#: With these options an inspection.
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
#: Commands that only read, each with the words without which it would write, or ask the feed.
REQUIRED_INSPECTION_OPTIONS: Mapping[str, frozenset[str]] = {
    "doctor": frozenset(),
    "dossier": frozenset({"--prepared"}),
    "plan": frozenset({"--prepared"}),
    "receipt": frozenset({"--all-levels"}),
    "rollback": frozenset({"--dry-run"}),
    "support-bundle": frozenset({"--in-document"}),
    "verify": frozenset(),
}
#: Looks at the site that are no commands.
PROBES = frozenset({"assess", "availability", "in-reach"})
#: Those that leave nothing behind.
READ_ONLY_PROBES = frozenset({"availability", "in-reach"})
MAX_DOCUMENT_BYTES = 16_000_000
#: An inspection lets everything else on the machine go first; and where memory is short it ends
#: before anything else, while work on the site is spared (the unit's OOMScoreAdjust=).
NICENESS, OOM_SCORE_ADJ = 10, 800


@dataclass(frozen=True)
class InspectionLimits:
    """What an inspection may take.

    Attributes:
        timeout_s: After which it ends.
        max_bytes: Bytes that it may find.
    """

    timeout_s: float
    max_bytes: int


def parse_limits(request: Mapping[str, object]) -> InspectionLimits | None:
    """Return the limits of an inspection; None for other work. Pure.

    Raises:
        BadRequestError: If they are none.
    """
    value = request.get("inspect")
    if value is None:
        return None
    if isinstance(value, dict):
        seconds, most = value.get("seconds"), value.get("most")
        if isinstance(seconds, int | float) and type(most) is int and seconds > 0 and most > 0:
            return InspectionLimits(float(seconds), min(most, MAX_DOCUMENT_BYTES))
    raise BadRequestError(reason="invalid inspection limits")


def parse_command(request: Mapping[str, object]) -> tuple[str, ...]:
    """Return what is ordered; pure.

    Raises:
        BadRequestError: If it is no order of the service.
    """
    words = request.get("command")
    if isinstance(words, list) and words and all(isinstance(word, str) for word in words):
        known, options = words[0] in ALLOWED_COMMANDS, ALLOWED_OPTIONS
        if words[0] == OWN:
            known = (
                len(words) == 3
                and words[1] in [*DirectoryAction]
                and bool(VERSION_PATTERN.fullmatch(words[2]))
            )
        if words[0] in PROBES:
            known = len(words) == 1
        if "inspect" in request:
            known = REQUIRED_INSPECTION_OPTIONS.get(words[0], frozenset({""})) <= set(words)
            options = ALLOWED_INSPECTION_OPTIONS
        ours = all(word in options for word in words if word.startswith("-"))
        if known and ours and not any("\0" in word for word in words):
            return tuple(words)
    raise BadRequestError(reason="job not allowed")


def is_bound_to_requester(request: Mapping[str, object]) -> bool:
    """Return whether nobody needs what comes of an order once who gave it has gone; pure.

    So it is with what only looks. A process that looked on for nobody would take a place at the
    socket from who has work.
    """
    return "inspect" in request or request.get("command") in [[word] for word in READ_ONLY_PROBES]


def _execute_request(config: Path, request: Mapping[str, object]) -> dict[str, object]:
    words, limits = parse_command(request), parse_limits(request)
    if words[0] == OWN or os.environ.get(RENEWS):
        directory = os.environ.get(STARTED_BY)
        if not directory or words[0] not in RENEWING | {OWN} or limits is not None:
            raise BadRequestError(reason="job not allowed")
        if words[0] == OWN:
            create_action_handler(
                Path(directory), words[2], lambda: datetime.now(UTC), lambda: None
            )(DirectoryAction(words[1]))
            return {}
    if limits is not None:
        return _run_inspection(words, config, limits)
    return _run_probe(words[0], config) if words[0] in PROBES else _run_command(words, config)


class _InspectionTimeoutError(BaseException):
    """The time of an inspection is over; no part of it may take that for a failure of its own."""


def _run_inspection(
    command: Sequence[str], config: Path, limits: InspectionLimits
) -> dict[str, object]:
    """Run a command that only reads, within its limits."""

    def over(_number: int, _frame: FrameType | None) -> None:
        raise _InspectionTimeoutError

    with suppress(OSError):  # a unit may forbid even that
        os.nice(NICENESS)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE_ADJ), "ascii")
    signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, limits.timeout_s)
    try:
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
    """Give up what this work does not need."""
    from ncen_updater.agent.adapters.rights import drop_server_file_access
    from ncen_updater.agent.config.validation_cache import load_noted

    try:
        config = load_noted(config_path)  # the service may not keep it
    except UpdaterError:
        return  # the command says so
    drop_server_file_access(config)


def _run_probe(word: str, config: Path) -> dict[str, object]:
    from ncen_updater.agent.adapters.application.availability_probe import probe_availability
    from ncen_updater.agent.config.essential_settings import load_essential_settings
    from ncen_updater.agent.self_update.agent_update import run_self_check
    from ncen_updater.agent.service.assessment import assess_site

    looks: Mapping[str, Callable[[Path], dict[str, object]]] = {
        "assess": assess_site,
        "availability": lambda path: probe_availability(load_essential_settings(path)).to_json(),
        "in-reach": run_self_check,
    }
    try:
        document = looks[word](config)
    except UpdaterError as error:
        logger.warning("%s: %s", word, error, extra={"code": error.code})
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
        logger.warning("a command wrote what is no JSON: %s", error)
        return {}
    return data if isinstance(data, dict) else {}


def main() -> int:
    """Do what the service asks for; return the exit status."""
    block_unused_imports()
    config = Path(sys.argv[1])
    # Not bound: where the service died, the work goes on to its end, which the next service finds
    # in the journal.
    alive = SystemdNotifier().ping_watchdog
    return serve_request(
        lambda order, _: _execute_request(config, order),
        ends_with_caller=is_bound_to_requester,
        alive=alive,
    )


if __name__ == "__main__":
    sys.exit(main())
