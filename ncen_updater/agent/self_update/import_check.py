"""Import all modules that the service and its worker processes need: the test of a new slot.

The agent that builds the slot runs it as ``python -m ncen_updater.agent.self_update.import_check``.
"""

from __future__ import annotations

import importlib
import sys

from ncen_updater.agent.adapters.databases.engines import list_engine_modules

CHECKED_MODULES = (
    "ncen_updater.agent.engine.site_factory",
    "ncen_updater.agent.service.serve",
    "ncen_updater.agent.cli.worker",
    "ncen_updater.agent.service.assessment",
    "ncen_updater.agent.self_update.agent_update",
    "ncen_updater.agent.adapters.feed_reader.worker",
    "ncen_updater.agent.service.notifications.send_worker",
    "ncen_updater.feed.tuf_client",
    "ncen_updater.feed.http_fetcher",
    "ncen_updater.agent.engine.operations",
    "ncen_updater.agent.engine.rehearsal.rehearser",
    *list_engine_modules(),
    "ncen_updater.agent.adapters.databases.migrations.runner",
    "ncen_updater.formats.archive",
    "ncen_updater.formats.delta.apply",
    "ncen_updater.formats.delta.single_frame",
)


def main() -> int:
    """Import all modules, and the database engines with their libraries."""
    for name in CHECKED_MODULES:
        importlib.import_module(name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
