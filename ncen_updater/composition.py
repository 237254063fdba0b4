"""Puts a site together from its configuration. The only place that knows every implementation."""

from __future__ import annotations

from pathlib import Path

from packaging.version import Version

from ncen_updater.application.factory import make_application
from ncen_updater.config.model import AgentConfig
from ncen_updater.databases.factory import make_engine
from ncen_updater.feed.source import ReleaseSource
from ncen_updater.slots.store import SlotStore
from ncen_updater.trust.child import ChildSource
from ncen_updater.upgrade.context import Clock, Site

__all__ = ["agent_version", "build_site"]


def agent_version() -> Version:
    """Version of this agent."""
    from importlib.metadata import version

    return Version(version("ncen-updater"))


def build_site(
    config: AgentConfig,
    config_path: Path,
    *,
    source: ReleaseSource | None = None,
    clock: Clock | None = None,
) -> Site:
    """Return the site that a configuration describes. Opens nothing and connects to nothing.

    Args:
        config: The validated configuration.
        config_path: Its file, which the process that talks to the network reads again.
        source: Where releases come from; a process of its own by default.
        clock: Time; the machine's by default.
    """
    paths = config.paths
    current = paths.resolve(paths.current)
    return Site(
        config=config,
        engine=make_engine(config.databases),
        slots=SlotStore(paths.resolve(paths.slots), current),
        application=make_application(config.application, current),
        source=source or ChildSource(config, config_path),
        state=paths.resolve(paths.state),
        agent_version=agent_version(),
        clock=clock or Clock(),
    )
