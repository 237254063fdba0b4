"""Starts that fail for a reason outside of a confirmed agent are not counted against it.

A configuration with a mistake ends every agent at once: to go back to an older one would change
nothing, and would leave a good agent remembered as bad. A new agent is not excused: the one before
it could read the same configuration.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path

from ncen_updater.agent.config.errors import ConfigError
from ncen_updater.agent.engine.errors import Busy, LockUnusable
from ncen_updater.agent.self_update.agent_selection import AgentSelection, SequenceFile, steady
from ncen_updater.common.errors import UpdaterError

__all__ = ["STARTED_BY", "excused"]

logger = logging.getLogger(__name__)

#: Variable with which the failsafe says where it lies.
STARTED_BY = "NCEN_FAILSAFE_DIRECTORY"


@contextlib.contextmanager
def excused(environment: Mapping[str, str]) -> Iterator[None]:
    """Take back the count of this start, if the block ends for such a reason.

    Args:
        environment: Where the failsafe said that it started this process.
    """
    try:
        yield
    except (ConfigError, Busy, LockUnusable):
        directory = environment.get(STARTED_BY)
        if directory:
            _take_back(SequenceFile(Path(directory)))
        raise


def _take_back(file: SequenceFile) -> None:
    own = version("ncen-updater")

    def change(before: AgentSelection | None) -> AgentSelection:
        return steady(before, own) if before is not None else AgentSelection(own)

    try:
        if file.load() is not None:
            file.update(change)
    except UpdaterError as error:
        logger.warning("this start stays counted: %s", error)
