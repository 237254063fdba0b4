"""Starts that fail for a reason outside of a confirmed agent are not counted against it.

A configuration with a mistake ends every agent at once: to go back to an older one would change
nothing, and would leave a good agent remembered as bad. A new agent is not excused: the one before
it could read the same configuration.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from ncen_updater.agent.config.errors import ConfigError
from ncen_updater.agent.config.service import ServiceSettings
from ncen_updater.agent.engine.errors import Busy, LockUnusable
from ncen_updater.agent.self_update.agent_selection import STARTED_BY, SequenceFile
from ncen_updater.agent.self_update.directory_writer import OwnAction, own_doer
from ncen_updater.common.errors import UpdaterError

logger = logging.getLogger(__name__)


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
            _take_back(Path(directory))
        raise


def _take_back(directory: Path) -> None:
    # The configuration may be what is wrong: it is asked where it is by default.
    socket = Path("/") / ServiceSettings.model_fields["renew_socket"].default
    own = version("ncen-updater")
    do = own_doer(directory, socket, own, lambda: datetime.now(UTC), lambda: None)
    try:
        if SequenceFile(directory).load() is not None:
            do(OwnAction.STEADY)
    except UpdaterError as error:
        logger.warning("this start stays counted: %s", error)
