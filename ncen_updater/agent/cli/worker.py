"""The process that works on the site for the service: one command of the agent, or one look.

The service lets people in at its socket and cannot reach the databases; this process can, and is
not on the network. So that the one is no way to the other, only the commands of :data:`COMMANDS`
are run here, with the options of :data:`OPTIONS`, on the configuration that the unit names.
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

from ncen_updater.agent.self_update.directory_writer import OWN, OwnAction, doer_of
from ncen_updater.agent.service.errors import BadRequest
from ncen_updater.agent.service.runner import RENEWING
from ncen_updater.agent.service.systemd_notify import SystemdNotifier
from ncen_updater.agent.storage.agent_selection import NAME, STARTED_BY
from ncen_updater.common.bounded_io import parse_json
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import ExitCode
from ncen_updater.common.workers import serve
from ncen_updater.feed.left_out_imports import leave_out

logger = logging.getLogger(__name__)

#: What the service and those whom it lets in may have done.
COMMANDS = frozenset(
    {
        "check",
        "collect",
        "confirm",
        "import",
        "plan",
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
OPTIONS = frozenset(
    {
        "--accept-loss",
        "--begin-before",
        "--dry-run",
        "--lang",
        "--order",
        "--retry",
        "--scheduled",
        "--unattended",
        "--undoes",
        "--yes",
    }
)
#: With these options an inspection.
INSPECTION_OPTIONS = frozenset(
    {
        "--accept-loss",
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
INSPECTIONS: Mapping[str, frozenset[str]] = {
    "doctor": frozenset(),
    "dossier": frozenset({"--prepared"}),
    "plan": frozenset({"--prepared"}),
    "rollback": frozenset({"--dry-run"}),
    "support-bundle": frozenset({"--in-document"}),
    "verify": frozenset(),
}
#: Looks at the site that are no commands.
LOOKS = frozenset({"assess", "availability", "in-reach"})
#: Those that leave nothing behind.
TRACELESS = frozenset({"availability", "in-reach"})
MAX_DOCUMENT_BYTES = 16_000_000
#: An inspection lets everything else on the machine go first; and where memory is short it ends
#: before anything else, while work on the site is spared (the unit's OOMScoreAdjust=).
NICE, OOM = 10, 800


@dataclass(frozen=True)
class InspectionLimits:
    """What an inspection may take.

    Attributes:
        seconds: After which it ends.
        most: Bytes that it may find.
    """

    seconds: float
    most: int


def limits_of(order: Mapping[str, object]) -> InspectionLimits | None:
    """Return the limits of an inspection; None for other work. Pure.

    Raises:
        BadRequest: If they are none.
    """
    said = order.get("inspect")
    if said is None:
        return None
    if isinstance(said, dict):
        seconds, most = said.get("seconds"), said.get("most")
        if isinstance(seconds, int | float) and type(most) is int and seconds > 0 and most > 0:
            return InspectionLimits(float(seconds), min(most, MAX_DOCUMENT_BYTES))
    raise BadRequest(reason="no limits of an inspection")


def words_of_order(order: Mapping[str, object]) -> tuple[str, ...]:
    """Return what is ordered; pure.

    Raises:
        BadRequest: If it is no order of the service.
    """
    words = order.get("words")
    if isinstance(words, list) and words and all(isinstance(word, str) for word in words):
        known, options = words[0] in COMMANDS, OPTIONS
        if words[0] == OWN:
            known = len(words) == 3 and words[1] in [*OwnAction] and bool(NAME.fullmatch(words[2]))
        if words[0] in LOOKS:
            known = len(words) == 1
        if "inspect" in order:
            known = INSPECTIONS.get(words[0], frozenset({""})) <= set(words)
            options = INSPECTION_OPTIONS
        ours = all(word in options for word in words if word.startswith("-"))
        if known and ours and not any("\0" in word for word in words):
            return tuple(words)
    raise BadRequest(reason="no order of the service")


def ends_with_asker(order: Mapping[str, object]) -> bool:
    """Return whether nobody needs what comes of an order once who gave it has gone; pure.

    So it is with what only looks. A process that looked on for nobody would take a place at the
    socket from who has work.
    """
    return "inspect" in order or order.get("words") in [[word] for word in TRACELESS]


def _apply(config: Path, order: Mapping[str, object]) -> dict[str, object]:
    words, limits = words_of_order(order), limits_of(order)
    if words[0] == OWN or os.environ.get(RENEWS):
        directory = os.environ.get(STARTED_BY)
        if not directory or words[0] not in RENEWING | {OWN} or limits is not None:
            raise BadRequest(reason="no order of the service")
        if words[0] == OWN:
            doer_of(Path(directory), words[2], lambda: datetime.now(UTC), lambda: None)(
                OwnAction(words[1])
            )
            return {}
    if limits is not None:
        return _inspection(words, config, limits)
    return _look(words[0], config) if words[0] in LOOKS else _command(words, config)


class _OverdueInspection(BaseException):
    """The time of an inspection is over; no part of it may take that for a failure of its own."""


def _inspection(words: Sequence[str], config: Path, limits: InspectionLimits) -> dict[str, object]:
    """Run a command that only reads, within its limits."""

    def over(_number: int, _frame: FrameType | None) -> None:
        raise _OverdueInspection

    with suppress(OSError):  # a unit may forbid even that
        os.nice(NICE)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(OOM), "ascii")
    signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, limits.seconds)
    try:
        result = _command(words, config, limits.most)
    except _OverdueInspection:
        return {"exit_code": int(ExitCode.ERROR), "document": {}, "overdue": True}
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return result


def _command(
    words: Sequence[str], config: Path, most: int = MAX_DOCUMENT_BYTES
) -> dict[str, object]:
    from ncen_updater.agent.cli.main import run

    _leave(config)
    before = ["--config", str(config), "--alone", "--json", "--words", "--quiet"]
    os.environ["NO_COLOR"] = "1"
    with tempfile.TemporaryFile() as output:
        os.dup2(output.fileno(), 1)
        code = run([*before, *words])
        size = output.seek(0, os.SEEK_END)
        if size > most:
            return {"exit_code": code, "document": {}, "too_large": True}
        return {"exit_code": code, "document": _document(output)}


def _leave(config_path: Path) -> None:
    """Give up what this work does not need."""
    from ncen_updater.agent.adapters.rights import leave_server_files
    from ncen_updater.agent.config.noted_check import load_noted

    try:
        config = load_noted(config_path)  # the service may not keep it
    except UpdaterError:
        return  # the command says so
    leave_server_files(config)


def _look(word: str, config: Path) -> dict[str, object]:
    from ncen_updater.agent.adapters.application.availability import look_at
    from ncen_updater.agent.config.paths import load_places
    from ncen_updater.agent.self_update.self_check import reach
    from ncen_updater.agent.service.assess import assess_site

    looks: Mapping[str, Callable[[Path], dict[str, object]]] = {
        "assess": assess_site,
        "availability": lambda path: look_at(load_places(path)).to_json(),
        "in-reach": reach,
    }
    try:
        document = looks[word](config)
    except UpdaterError as error:
        logger.warning("%s: %s", word, error, extra={"code": error.code})
        document = {"error": {"code": error.code, "what": str(error)}}
        return {"exit_code": int(error.exit_code), "document": document}
    return {"exit_code": 0, "document": document}


def _document(output: IO[bytes]) -> Mapping[str, object]:
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
    leave_out()
    config = Path(sys.argv[1])
    # Not bound: where the service died, the work goes on to its end, which the next service finds
    # in the journal.
    alive = SystemdNotifier().alive
    return serve(lambda order, _: _apply(config, order), bound=ends_with_asker, alive=alive)


if __name__ == "__main__":
    sys.exit(main())
