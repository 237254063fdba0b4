"""What the answers are made of: the site's places, the journal, the service's notes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ncen_updater.agent.config.essential_settings import EssentialSettings
from ncen_updater.agent.model.event_names import JOURNAL_FILE
from ncen_updater.agent.policy.availability import Availability
from ncen_updater.agent.service.inspecting import InspectionQueue
from ncen_updater.agent.service.snapshot import SnapshotStore
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.service_state import Assessment, ServiceState, ServiceStateFile


@dataclass(frozen=True)
class ApiContext:
    """Everything that requests may use.

    Attributes:
        config_path: The configuration file.
        essential_settings: What it says of places.
        state_file: The service's notes.
        snapshots: What goes on just now.
        wake: Tells the service that there is something to do.
        now: The wall clock.
        inspections: Have the site looked at.
        agent_directory: Where the slots of the agent are.
        read_availability: Asks whether users can work; the process itself without.
    """

    config_path: Path
    essential_settings: EssentialSettings
    state_file: ServiceStateFile
    snapshots: SnapshotStore
    wake: Callable[[], None]
    now: Callable[[], datetime]
    inspections: InspectionQueue
    agent_directory: Path
    read_availability: Callable[[], Availability] | None = None

    @property
    def journal_path(self) -> Path:
        """Where the journal is."""
        return self.essential_settings.state / JOURNAL_FILE

    def open_journal(self) -> Journal:
        """Open the journal to look; a context manager.

        Raises:
            UpdaterError: If it is missing or unreadable.
        """
        return Journal.open(self.journal_path, read_only=True)

    def open_journal_for_writing(self) -> Journal:
        """Open the journal to write; a context manager; errors as in :meth:`open_journal`."""
        return Journal.open(self.journal_path)

    def load_service_state(self) -> ServiceState:
        """Load what the service knew at its last check."""
        return self.state_file.load()

    def load_assessment(self) -> Assessment | None:
        """Load the service's last assessment of the next release."""
        return self.load_service_state().assessment
