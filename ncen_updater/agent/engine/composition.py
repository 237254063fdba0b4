"""Puts a site together from its configuration. The only place that knows every implementation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from packaging.version import Version

from ncen_updater.agent.adapters.application.door import DoorNote
from ncen_updater.agent.adapters.application.factory import make_application
from ncen_updater.agent.adapters.databases.factory import make_engine
from ncen_updater.agent.adapters.feed_reader.child import ChildSource
from ncen_updater.agent.config.model import AgentConfig
from ncen_updater.agent.engine.site import Clock, Site
from ncen_updater.agent.model.change import Change, ChangeKind
from ncen_updater.agent.model.names import JOURNAL
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.slots.store import SlotStore
from ncen_updater.feed.tuf_source import TufReleaseSource

if TYPE_CHECKING:
    from ncen_updater.agent.storage.overlay.layer import Layer

REASONS = {
    ChangeKind.UPGRADE: "The application is being upgraded.",
    ChangeKind.ROLLBACK: "The application is going back to an earlier release.",
}


def agent_version() -> Version:
    """Version of this agent."""
    from importlib.metadata import version

    return Version(version("ncen-updater"))


def note_of(change: Change | None) -> DoorNote:
    """What the maintenance page may say of a change; pure."""
    if change is None:
        return DoorNote()
    return DoorNote(REASONS[change.kind], change.id, change.to_version)


def build_site(
    config: AgentConfig,
    config_path: Path,
    *,
    source: TufReleaseSource | None = None,
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
    state = paths.resolve(paths.state)

    def door_note() -> DoorNote:
        with Journal.open(state / JOURNAL, read_only=True) as journal:
            return note_of(journal.open_change())

    engine = make_engine(config.databases, paths.root, state, config.application.user)
    slots = SlotStore(paths.resolve(paths.slots), current)
    return Site(
        config=config,
        engine=engine,
        slots=slots,
        application=make_application(config.application, current, door_note=door_note),
        source=source or ChildSource(config, config_path),
        state=state,
        agent_version=agent_version(),
        clock=clock or Clock(),
        overlay=_overlay(config, slots),
    )


def _overlay(config: AgentConfig, slots: SlotStore) -> Layer | None:
    if config.overlay is None:
        return None
    # Readers of formats are loaded only where a site has texts of its own.
    from ncen_updater.agent.storage.overlay.layer import Layer

    paths, settings = config.paths, config.overlay
    return Layer(paths.resolve(settings.directory), paths.resolve(settings.merged), slots)
