"""Finds the moments at which the demonstration kills a process, without help from the agent.

The database server shows the activity of sessions, the journal the intended steps of the agent.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from demo.embedded_postgres import EmbeddedPostgres
from demo.site import DemoSite
from ncen_updater.agent.model.change import StepName, StepState
from ncen_updater.agent.storage.journal.journal import Journal

if TYPE_CHECKING:
    import psycopg

T = TypeVar("T")

LIMIT_S = 120.0
# A session that writes into a copy has a transaction id.
MIGRATING = r"""
SELECT datname, query FROM pg_stat_activity
WHERE datname LIKE '%\_\_next\_%' AND state = 'active' AND backend_xid IS NOT NULL
AND query ILIKE '%ncen_release%' LIMIT 1"""
# The cut-over transaction has renamed databases and now waits for our lock.
WAITING = r"""
SELECT query FROM pg_stat_activity
WHERE wait_event_type = 'Lock' AND backend_xid IS NOT NULL AND query LIKE 'ALTER DATABASE%RENAME%'
LIMIT 1"""


def wait_for(look: Callable[[], T | None], process: subprocess.Popen[bytes]) -> T | None:
    """Poll until there is a result, the process ended or two minutes passed."""
    deadline = time.monotonic() + LIMIT_S
    while process.poll() is None and time.monotonic() < deadline:
        found = look()
        if found is not None:
            return found
        time.sleep(0.002)
    return None


def step_state(site: DemoSite, name: StepName) -> StepState | None:
    """Return the state of a step of the open change in the journal; None without such a change."""
    with Journal.open(site.state / "journal.sqlite", read_only=True) as journal:
        change = journal.find_open_change()
    return change.get_step_state(name) if change else None


def as_superuser(server: EmbeddedPostgres) -> psycopg.Connection[Any]:
    """Open a superuser session in none of the site's databases."""
    import psycopg

    return psycopg.connect(server.conninfo(), autocommit=True)


def migrating_session(session: psycopg.Connection[Any]) -> tuple[str, str] | None:
    """Return database and statement of a running migration, or None."""
    row = session.execute(MIGRATING.encode()).fetchone()
    return (str(row[0]), str(row[1])) if row else None


def renamed_but_waiting(session: psycopg.Connection[Any]) -> str | None:
    """Return the rename at which the cut-over waits after earlier renames, or None."""
    row = session.execute(WAITING.encode()).fetchone()
    return str(row[0]) if row else None
