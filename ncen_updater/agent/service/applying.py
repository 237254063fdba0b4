"""The process that works on the site for the service: one command of the agent, or one look.

The service lets people in at its socket and cannot reach the databases; this process can, and is
not on the network. So that the one is no way to the other, only the commands of :data:`COMMANDS`
are run here, with the options of :data:`OPTIONS`, on the configuration that the unit names.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from ncen_updater.agent.service.errors import BadRequest
from ncen_updater.common.bounded_io import parse_json
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.landlock import keep_from
from ncen_updater.common.workers import serve
from ncen_updater.feed.unneeded import leave_out

__all__ = ["COMMANDS", "LOOKS", "OPTIONS", "main", "words_of_order"]

logger = logging.getLogger(__name__)

#: What the service and those whom it lets in may have done.
COMMANDS = frozenset(
    {
        "check",
        "collect",
        "confirm",
        "plan",
        "rehearse",
        "resume",
        "rollback",
        "self-update",
        "upgrade",
    }
)
#: What may write to the agent's own code.
RENEWING = frozenset({"self-update"})
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
#: Looks at the site that are no commands.
LOOKS = frozenset({"assess", "in-reach"})
MAX_DOCUMENT_BYTES = 16_000_000


def words_of_order(order: Mapping[str, object]) -> tuple[str, ...]:
    """Return what is ordered; pure.

    Raises:
        BadRequest: If it is no order of the service.
    """
    words = order.get("words")
    if isinstance(words, list) and words and all(isinstance(word, str) for word in words):
        known = words[0] in COMMANDS or (words[0] in LOOKS and len(words) == 1)
        ours = all(word in OPTIONS for word in words if word.startswith("-"))
        if known and ours and not any("\0" in word for word in words):
            return tuple(words)
    raise BadRequest(reason="no order of the service")


def _apply(config: Path, order: Mapping[str, object]) -> dict[str, object]:
    words = words_of_order(order)
    return _look(words[0], config) if words[0] in LOOKS else _command(words, config)


def _command(words: Sequence[str], config: Path) -> dict[str, object]:
    from ncen_updater.agent.cli.main import run

    if words[0] not in RENEWING:
        _leave_own_code(config)
    before = ["--config", str(config), "--alone", "--json", "--words", "--quiet"]
    os.environ["NO_COLOR"] = "1"
    with tempfile.TemporaryFile() as output:
        os.dup2(output.fileno(), 1)
        code = run([*before, *words])
        return {"exit_code": code, "document": _document(output)}


def _leave_own_code(config: Path) -> None:
    """Give up the right to write to the agent's own directory, which no other work needs."""
    from ncen_updater.agent.config.loader import load_config

    try:
        paths = load_config(config).paths
    except UpdaterError:
        return  # the command says so
    keep_from(paths.resolve(paths.agent))


def _look(word: str, config: Path) -> dict[str, object]:
    from ncen_updater.agent.self_update.reach import reach
    from ncen_updater.agent.service.assess import assess_site

    try:
        document = assess_site(config) if word == "assess" else reach(config)
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
    # in the journal. No signs of life: nobody ends an upgrade because it is silent.
    return serve(lambda order, _: _apply(config, order), bound=False, beats=False)


if __name__ == "__main__":
    sys.exit(main())
