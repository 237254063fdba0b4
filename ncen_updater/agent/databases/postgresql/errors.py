"""Errors of the PostgreSQL adapter. Codes 4101-4119, 4020, 4025-4029; its findings from 4120."""

from __future__ import annotations

from ncen_updater.agent.databases.errors import DatabaseError
from ncen_updater.common.messages import DUMP_FAILED


class DumpFailed(DatabaseError):
    """pg_dump or pg_restore failed."""

    message = DUMP_FAILED
