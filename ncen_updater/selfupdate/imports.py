"""Imports everything that the service and its children need: a new slot is tried by it.

Run as ``python -m ncen_updater.selfupdate.imports`` by the agent that makes the slot.
"""

from __future__ import annotations

import importlib
import sys

__all__ = ["MODULES", "main"]

MODULES = (
    "ncen_updater.composition",
    "ncen_updater.service.serve",
    "ncen_updater.service.assess",
    "ncen_updater.selfupdate.renewing",
    "ncen_updater.selfupdate.reach",
    "ncen_updater.trust.worker",
    "ncen_updater.trust.client",
    "ncen_updater.trust.fetcher",
    "ncen_updater.upgrade.operations",
    "ncen_updater.upgrade.rehearsing",
    "ncen_updater.databases.postgresql.engine",
    "ncen_updater.databases.sqlite.engine",
    "ncen_updater.databases.migrations.runner",
    "ncen_updater.transfer.archive",
    "ncen_updater.transfer.delta.apply",
)


def main() -> int:
    """Import them all, and the engines of databases with their libraries."""
    for name in MODULES:
        importlib.import_module(name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
