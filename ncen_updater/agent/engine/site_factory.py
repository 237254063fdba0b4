"""Factory of a site and its application; the only module that imports all adapters."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.version import Version

from ncen_updater.agent.adapters.application.maintenance import MaintenanceNote
from ncen_updater.agent.adapters.feed_reader.worker_source import WorkerReleaseSource
from ncen_updater.agent.config.agent_config import AgentConfig, ApplicationSettings
from ncen_updater.agent.engine.site import Site, SystemClock
from ncen_updater.agent.model.change import Change, ChangeKind
from ncen_updater.agent.model.event_names import JOURNAL_FILE
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.slots.store import SlotStore
from ncen_updater.feed.tuf_source import TufReleaseSource

if TYPE_CHECKING:
    from ncen_updater.agent.adapters.application.base import Application
    from ncen_updater.agent.adapters.databases.base import DatabaseEngine
    from ncen_updater.agent.storage.overlay.layer import LocalOverlay


MAINTENANCE_REASONS = {
    ChangeKind.UPGRADE: "The application is being upgraded.",
    ChangeKind.ROLLBACK: "The application is being rolled back to an earlier release.",
}


def read_agent_version() -> Version:
    """Return the version of this agent."""
    from importlib.metadata import version

    return Version(version("ncen-updater"))


def make_maintenance_note(change: Change | None) -> MaintenanceNote:
    """Make the note that the maintenance page shows about a change; pure."""
    if change is None:
        return MaintenanceNote()
    return MaintenanceNote(MAINTENANCE_REASONS[change.kind], change.id, change.to_version)


def build_site(
    config: AgentConfig,
    config_path: Path,
    *,
    source: TufReleaseSource | None = None,
    clock: SystemClock | None = None,
) -> Site:
    """Return the site that a configuration describes. Opens no file and no connection.

    Args:
        config: The validated configuration.
        config_path: Its file; the network worker process reads it again.
        source: Source of releases; by default one that uses a worker process.
        clock: Clocks; those of the machine by default.
    """
    paths = config.paths
    current = paths.resolve(paths.current)
    state = paths.resolve(paths.state)

    def make_note() -> MaintenanceNote:
        with Journal.open(state / JOURNAL_FILE, read_only=True) as journal:
            return make_maintenance_note(journal.find_open_change())

    def make_databases() -> DatabaseEngine:
        from ncen_updater.agent.adapters.databases.engines import make_engine

        return make_engine(config.databases, paths.root, state, config.application.user)

    slots = SlotStore(paths.resolve(paths.slots), current)
    return Site(
        config=config,
        make_database_engine=make_databases,
        slots=slots,
        application=make_application(config.application, current, make_note=make_note),
        release_source=source or WorkerReleaseSource(config, config_path),
        state_directory=state,
        agent_version=read_agent_version(),
        clock=clock or SystemClock(),
        overlay=_build_overlay(config, slots),
    )


def _build_overlay(config: AgentConfig, slots: SlotStore) -> LocalOverlay | None:
    if config.overlay is None:
        return None
    # Format readers are imported only if the site has a local overlay.
    from ncen_updater.agent.storage.overlay.layer import LocalOverlay

    paths, settings = config.paths, config.overlay
    return LocalOverlay(paths.resolve(settings.directory), paths.resolve(settings.merged), slots)


def make_application(
    settings: ApplicationSettings,
    current: Path,
    *,
    make_note: Callable[[], MaintenanceNote] = MaintenanceNote,
) -> Application:
    """Return the application of the site.

    Args:
        settings: The table ``[application]``.
        current: The link to the slot in use.
        make_note: Called whenever the maintenance page is switched on; returns its reason, change
            and version.

    Raises:
        HEALTH_SETTINGS_WRONG: If the URL of the health check cannot be used.
    """
    if settings.adapter == "systemd":
        from ncen_updater.agent.adapters.application.systemd import SystemdApplication

        return SystemdApplication(settings, current, make_note=make_note)
    from ncen_updater.agent.adapters.application.command import CommandApplication

    return CommandApplication(settings, current, make_note=make_note)
