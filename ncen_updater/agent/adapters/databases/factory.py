"""From the site's configuration to its database engine; the adapter is imported when it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ncen_updater.agent.adapters.databases.engines import ENGINES, kind_of
from ncen_updater.agent.model.errors import DatabaseError

if TYPE_CHECKING:
    from pathlib import Path

    from ncen_updater.agent.adapters.databases.base import DatabaseEngine
    from ncen_updater.agent.config.model import DatabaseSettings


def make_engine(
    config: DatabaseSettings,
    root: Path | None = None,
    state: Path | None = None,
    user: str | None = None,
) -> DatabaseEngine:
    """Return the adapter for the engine that the site uses. Connects to nothing.

    Args:
        config: The table ``[databases]`` of the agent's configuration.
        root: Directory that relative paths are below; absolute ones stay as they are.
        state: The agent's own directory, where nobody else writes.
        user: The system's user that the application runs as.

    Raises:
        DatabaseError: The engine's own table is missing, which the configuration's model refuses.
    """
    if config.engine not in ENGINES or getattr(config, config.engine, None) is None:
        raise DatabaseError(database=config.engine, detail="no adapter for this engine")
    return kind_of(config.engine).make(config, root, state, user)
