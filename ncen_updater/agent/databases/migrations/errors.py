"""Errors of migration files and checks. Codes 4200 to 4219."""

from __future__ import annotations

from ncen_updater.agent.databases.errors import DatabaseError
from ncen_updater.common.messages import MIGRATION_FILE_BAD

__all__ = ["MigrationFileBad"]


class MigrationFileBad(DatabaseError):
    """A migration file that is missing, altered, too large, or not plain UTF-8 text."""

    message = MIGRATION_FILE_BAD
