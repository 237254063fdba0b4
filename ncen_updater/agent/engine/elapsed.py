"""The time that has passed at this site, kept in the journal: see ``policy.elapsed``.

Whoever is at work looks at the clocks and writes it down; the service does so with each question to
the feed. What was looked at too seldom is kept longer, never shorter.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import timedelta

from ncen_updater.agent.engine.site import Clock
from ncen_updater.agent.model.errors import JournalUnwritable
from ncen_updater.agent.policy.elapsed import Seen, advance
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.rows import reading
from ncen_updater.common.records import stored_time

logger = logging.getLogger(__name__)


def witness(journal: Journal, clock: Clock) -> None:
    """Write down how much time has passed, and since when each set of databases is kept.

    A journal that takes no record is nothing to fail for: what was not counted is kept longer.

    Args:
        journal: Open for writing.
        clock: The machine's.
    """
    now = _now(journal, clock)
    try:
        with journal.transaction() as connection:
            connection.execute(
                "INSERT INTO elapsed VALUES (1, ?, ?, ?, ?) ON CONFLICT (one) DO UPDATE SET"
                " boot = excluded.boot, monotonic_s = excluded.monotonic_s, wall = excluded.wall,"
                " total_s = excluded.total_s",
                (now.boot, now.monotonic_s, now.wall.isoformat(), now.total_s),
            )
            connection.execute(
                "INSERT INTO kept_since SELECT change, ? FROM previous_sets"
                " WHERE change NOT IN (SELECT change FROM kept_since)",
                (now.total_s,),
            )
    except JournalUnwritable as error:
        logger.warning("the time that has passed was not written down: %s", error)


def kept_for(journal: Journal, clock: Clock) -> Mapping[str, timedelta]:
    """Return for how long each set of previous databases has been kept. Reads only.

    Args:
        journal: The journal.
        clock: The machine's.
    """
    now = _now(journal, clock).total_s
    with reading(journal.path):
        sets = [row["change"] for row in journal.rows("SELECT change FROM previous_sets")]
        rows = journal.rows("SELECT change, total_s FROM kept_since")
        since: dict[str, float] = {row["change"]: row["total_s"] for row in rows}
    return {change: timedelta(seconds=max(0.0, now - since.get(change, now))) for change in sets}


def _now(journal: Journal, clock: Clock) -> Seen:
    last: Seen | None = None
    with reading(journal.path):
        for row in journal.rows("SELECT boot, monotonic_s, wall, total_s FROM elapsed"):
            wall = stored_time(row["wall"])
            last = Seen(row["boot"], row["monotonic_s"], wall, row["total_s"])
    return advance(last, clock.boot(), clock.monotonic(), clock.now())
