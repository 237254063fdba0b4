"""The programs that are put into a release which has a migrator of its own."""

from __future__ import annotations

from importlib import resources


def migrate_program() -> bytes:
    """What runs the application's own migrator on the databases that the agent names."""
    found = resources.files("ncen_updater.publisher.new") / "templates" / "migrate.py"
    return found.read_bytes()
