"""The adapter that the configuration asks for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ncen_updater.agent.adapters.application.base import Application
from ncen_updater.agent.adapters.application.command import CommandApplication
from ncen_updater.agent.adapters.application.maintenance import MaintenanceNote
from ncen_updater.agent.adapters.application.systemd import SystemdApplication
from ncen_updater.agent.config.agent_config import ApplicationSettings


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
        make_note: Asked for reason, change and version each time the maintenance page is on.

    Raises:
        HEALTH_SETTINGS_WRONG: If the address of the health cannot be used.
    """
    if settings.adapter == "systemd":
        return SystemdApplication(settings, current, make_note=make_note)
    return CommandApplication(settings, current, make_note=make_note)
