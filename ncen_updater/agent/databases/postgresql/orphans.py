"""What an interrupted copy may have left where the agent cannot see it. Reads only."""

from __future__ import annotations

from collections.abc import Iterator

from ncen_updater.agent.databases.base import CopyPlan
from ncen_updater.agent.databases.postgresql.blockers import BlockerKind
from ncen_updater.agent.databases.postgresql.catalogue import read_databases
from ncen_updater.agent.databases.postgresql.connection import Server
from ncen_updater.agent.databases.postgresql.datadir import find_data_directory
from ncen_updater.agent.databases.postgresql.planning import copies
from ncen_updater.common.findings import Finding, Severity
from ncen_updater.common.i18n import N_

LEFT = BlockerKind(
    "NU-4138",
    Severity.ADVISORY,
    N_("An interrupted copy of {database} left the directory base/{oid} in the server."),
    N_("Run 'ncen-updater resume'. If it stays, remove it: no database has this number."),
)
UNSEEN = BlockerKind(
    "NU-4139",
    Severity.ADVISORY,
    N_(
        "An interrupted copy of {database} may have left the directory base/{oid} in the server, "
        "where the agent cannot look."
    ),
    N_(
        "Let the database administrator look below the data directory and its tablespaces. "
        "If a directory {oid} is there and pg_database has no such oid, remove it: "
        "it only takes up room."
    ),
)
NUMBER_UNKNOWN = BlockerKind(
    "NU-4141",
    Severity.ADVISORY,
    N_("The directory {oid} of the server belongs to no database: an interrupted copy left it."),
    N_(
        "It only takes up room. PostgreSQL 14 chooses these numbers itself, so the agent does not "
        "remove it: let the database administrator do so, while no database is being made."
    ),
)
NUMBER_UNSEEN = BlockerKind(
    "NU-4142",
    Severity.ADVISORY,
    N_("An interrupted copy may have left a directory in the server, where the agent cannot look."),
    N_(
        "It would only take up room. Let the database administrator compare the directories below "
        "base and the tablespaces with the object ids in pg_database."
    ),
)


def find_orphans(server: Server, plan: CopyPlan) -> Iterator[Finding]:
    """Yield a finding for each directory that is, or may be, left of a copy that was torn.

    Args:
        server: The server.
        plan: Copies of which at least one was not finished.
    """
    with server.facts() as connection:
        taken = {row.oid for row in read_databases(connection).values()}
        directory = find_data_directory(server, connection)
    if any(not copy.oid for copy in copies(plan)):  # 14
        if directory is None:
            yield NUMBER_UNSEEN.found()
            return
        for oid in sorted(directory.numbers() - taken):
            yield NUMBER_UNKNOWN.found(oid=oid)
    for copy in copies(plan):
        if not copy.oid or copy.oid in taken:
            continue
        if directory is None:
            yield UNSEEN.found(database=copy.source, oid=copy.oid)
        elif directory.directories(copy.oid):
            yield LEFT.found(database=copy.source, oid=copy.oid)
