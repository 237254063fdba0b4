"""Errors about configured names that the database server does not know.

A server reports such a name while it answers another request; that is no refusal of the request.
"""

from __future__ import annotations

import re
from pathlib import Path

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import DATABASE_UNKNOWN, ROLE_UNKNOWN

#: Code of what a server refuses.
SERVER_REFUSED_CODE = "NU-4001"
_UNKNOWN = re.compile(
    r'database "(?P<database>[^"]+)" does not exist \(3D000\)'
    r'|role "(?P<role>[^"]+)" does not exist \(42704\)'
)


def find_unknown_database(server_message: str) -> str | None:
    """Return the database that a server says it does not have; None where it says something else.

    Args:
        server_message: What it refused something with.
    """
    found = _UNKNOWN.search(server_message)
    return found["database"] if found is not None else None


def explain_unknown_name(error: BaseException, config: Path) -> UpdaterError | None:
    """Return what is to be told in place of an error, where the server knows no such name."""
    if not isinstance(error, UpdaterError) or error.code != SERVER_REFUSED_CODE:
        return None
    found = _UNKNOWN.search(error.detail or "")
    if found is None:
        return None
    if found["database"] is not None:
        return UpdaterError(DATABASE_UNKNOWN, database=found["database"], detail=error.detail)
    return UpdaterError(ROLE_UNKNOWN, user=_read_database_user(config), detail=error.detail)


def _read_database_user(config: Path) -> str:
    """Return the agent's database role, as written in the configuration."""
    from ncen_updater.agent.config.raw_config import read_raw_config

    databases = read_raw_config(config).data.get("databases")
    if not isinstance(databases, dict):
        return "-"
    server = databases.get(str(databases.get("engine")))
    return str(server.get("user", "-")) if isinstance(server, dict) else "-"
