"""All checks, in the order in which they are reported."""

from __future__ import annotations

from ncen_updater.agent.preflight.agent_version import check_agent_version
from ncen_updater.agent.preflight.base import Check
from ncen_updater.agent.preflight.blockers import check_blockers
from ncen_updater.agent.preflight.clock import check_clock
from ncen_updater.agent.preflight.commands import check_commands
from ncen_updater.agent.preflight.current_slot import check_current_slot
from ncen_updater.agent.preflight.database_names import check_database_names
from ncen_updater.agent.preflight.database_version import check_database_version
from ncen_updater.agent.preflight.directories import check_directories
from ncen_updater.agent.preflight.door import check_door
from ncen_updater.agent.preflight.files import check_files
from ncen_updater.agent.preflight.health import check_health
from ncen_updater.agent.preflight.leftovers import check_leftovers
from ncen_updater.agent.preflight.migrations import check_migrations
from ncen_updater.agent.preflight.open_change import check_open_change
from ncen_updater.agent.preflight.path import check_path
from ncen_updater.agent.preflight.reboot import check_reboot
from ncen_updater.agent.preflight.reference_data import check_reference_data
from ncen_updater.agent.preflight.restore_proved import check_restore_proved
from ncen_updater.agent.preflight.space import check_space

__all__ = ["ALL_CHECKS"]

ALL_CHECKS: tuple[Check, ...] = (
    check_open_change,
    check_door,
    check_path,
    check_agent_version,
    check_clock,
    check_directories,
    check_space,
    check_files,
    check_commands,
    check_health,
    check_current_slot,
    check_database_names,
    check_database_version,
    check_blockers,
    check_restore_proved,
    check_migrations,
    check_reference_data,
    check_leftovers,
    check_reboot,
)
