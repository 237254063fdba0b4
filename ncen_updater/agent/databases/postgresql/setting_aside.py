"""Databases that nothing needs any more, but that hold rows that may be somebody's: kept, told.

What was live until a change went back, and what was kept at a commit and was opened since.

Nothing drops it but a person's word (``collect --kept``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TypeAlias

from ncen_updater.agent.databases.postgresql.blockers import BlockerKind
from ncen_updater.agent.databases.postgresql.catalogue import read_databases
from ncen_updater.agent.databases.postgresql.connection import Connection, rows, run
from ncen_updater.agent.databases.postgresql.naming import parse_kept
from ncen_updater.common.findings import Finding, Severity
from ncen_updater.common.i18n import N_, Text

# Physical name, table, rows; None where they could not be counted.
Counts: TypeAlias = Mapping[str, Mapping[str, int] | None]

KEPT = BlockerKind(
    "NU-4155",
    Severity.ADVISORY,
    N_("Databases from the change {change} are kept as {path}: rows may be in them that somebody"
       " entered and that are not in the live ones ({rows})."),
    N_("Let the database administrator look (ALTER DATABASE ... ALLOW_CONNECTIONS true) and have"
       " what is missing entered again. When nobody needs it any more: 'ncen-updater collect --kept"
       " {change}'."),
)  # fmt: skip
_TABLE = (
    "CREATE TABLE IF NOT EXISTS public.set_aside ("
    " change text PRIMARY KEY, counts jsonb NOT NULL, at timestamptz NOT NULL DEFAULT now())"
)


def write_set_aside(connection: Connection, change_id: str, counts: Counts) -> None:
    """Keep what was counted, in the transaction that renames the set."""
    run(connection, _TABLE)
    run(
        connection,
        "INSERT INTO public.set_aside (change, counts) VALUES (%s, %s)"
        " ON CONFLICT (change) DO UPDATE SET counts = excluded.counts",
        [change_id, json.dumps(counts)],
    )


def read_set_aside(connection: Connection, names: Mapping[str, str]) -> tuple[Finding, ...]:
    """Return the sets by what is there: a lost control database costs no more than the figures.

    Args:
        connection: A session of :meth:`Server.facts`.
        names: Logical to physical names.
    """
    found: dict[str, list[str]] = {}
    for datname in read_databases(connection):
        parsed = parse_kept(datname, names)
        if parsed is not None:
            found.setdefault(parsed[0], []).append(datname)
    counts: dict[str, Counts] = {}
    if found and not rows(connection, "SELECT to_regclass('public.set_aside') IS NULL")[0][0]:
        counts = dict(rows(connection, "SELECT change, counts FROM public.set_aside"))
    return tuple(
        KEPT.found(
            change=change, path=", ".join(sorted(databases)), rows=_words(counts.get(change, {}))
        )
        for change, databases in sorted(found.items())
    )


def _words(counts: Counts) -> Text | str:
    known = [
        f"{database}: " + ", ".join(f"{table} {number}" for table, number in sorted(tables.items()))
        for database, tables in sorted(counts.items())
        if tables
    ]
    if not known:
        return Text(N_("it cannot be told how many"))
    return "; ".join([*known, *(["..."] if None in counts.values() else [])])


def forget_set_aside(connection: Connection, change_id: str) -> None:
    """Remove the figures of a set that is gone."""
    if not rows(connection, "SELECT to_regclass('public.set_aside') IS NULL")[0][0]:
        run(connection, "DELETE FROM public.set_aside WHERE change = %s", [change_id])
