"""From the site's configuration to its database engine; the adapter is imported when it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ncen_updater.agent.adapters.databases.engines import ENGINES, get_engine_descriptor
from ncen_updater.agent.model.errors import DatabaseError

if TYPE_CHECKING:
    from pathlib import Path

    from ncen_updater.agent.adapters.databases.base import DatabaseEngine
    from ncen_updater.agent.config.agent_config import DatabaseSettings


def make_engine(
    settings: DatabaseSettings,
    root: Path | None = None,
    state_directory: Path | None = None,
    user: str | None = None,
) -> DatabaseEngine:
    """Return the adapter for the engine that the site uses. Connects to nothing.

    Args:
        settings: The table ``[databases]`` of the agent's configuration.
        root: Directory that relative paths are below; absolute ones stay as they are.
        state_directory: The agent's own directory, where nobody else writes.
        user: The system's user that the application runs as.

    Raises:
        DatabaseError: The engine's own table is missing, which the configuration's model refuses.
    """
    if settings.engine not in ENGINES or getattr(settings, settings.engine, None) is None:
        raise DatabaseError(database=settings.engine, detail="unsupported database engine")
    return get_engine_descriptor(settings.engine).make_engine(settings, root, state_directory, user)
