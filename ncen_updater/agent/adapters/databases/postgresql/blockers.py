"""What stands in the way of a change: a table of findings and the pure rules that choose them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, TypeVar

from ncen_updater.agent.adapters.databases.base import ChangeRef, CopyPlan
from ncen_updater.agent.adapters.databases.postgresql.catalogue import (
    MAX_NAME_BYTES,
    DatabaseRow,
    candidate_name,
    find_data_directory,
    parse_quarantine_name,
    previous_name,
    read_databases,
)
from ncen_updater.agent.adapters.databases.postgresql.connection import (
    APPLICATION_NAME,
    Connection,
    Server,
    execute,
    fetch_rows,
)
from ncen_updater.agent.adapters.databases.postgresql.copying import list_copies
from ncen_updater.agent.adapters.databases.postgresql.survey import ServerSurvey, SessionGroup
from ncen_updater.common.findings import Finding, Severity
from ncen_updater.common.i18n import N_, LazyText

OLDEST_MAJOR, NEWEST_MAJOR = 14, 18
MARGIN_BYTES = 256 * 1024 * 1024
MARGIN_SHARE = 0.2


@dataclass(frozen=True)
class FindingTemplate:
    """One sort of finding; the texts are templates."""

    code: str
    severity: Severity
    what: str
    remedy: str

    def make_finding(self, severity: Severity | None = None, **values: object) -> Finding:
        """Return a finding of this kind; the values fill both texts and are its figures."""
        return Finding(
            self.code,
            severity or self.severity,
            LazyText(self.what, values),
            LazyText(self.remedy, values),
            values,
        )


OPEN_SESSIONS = FindingTemplate(
    "NU-4120",
    Severity.ADVISORY,
    N_("{count} sessions are open in {database}: {applications}."),
    N_("Stop these programs for the time of the change; what stays will be ended."),
)
PREPARED_TRANSACTIONS = FindingTemplate(
    "NU-4121",
    Severity.STRICT,
    N_("{count} prepared transactions are open in {database}: {transactions}."),
    N_("End each of them: COMMIT PREPARED or ROLLBACK PREPARED with its name."),
)
REPLICATION_SLOTS = FindingTemplate(
    "NU-4122",
    Severity.STRICT,
    N_("{database} has logical replication slots that a copy does not carry: {objects}."),
    N_(
        "Drop each slot for the upgrade with pg_drop_replication_slot; create it again"
        " afterwards, and let its subscriber copy its tables again."
    ),
)
SUBSCRIPTIONS = FindingTemplate(
    "NU-4123",
    Severity.STRICT,
    N_("{database} has subscriptions that a copy does not carry: {objects}."),
    N_(
        "Drop the subscriptions for the change and make them anew afterwards. To keep the other"
        " side's slot: ALTER SUBSCRIPTION ... DISABLE; ALTER SUBSCRIPTION ... SET (slot_name"
        " = NONE); DROP SUBSCRIPTION ...; and later CREATE SUBSCRIPTION ... WITH (create_slot"
        " = false, copy_data = false)."
    ),
)
NO_SPACE = FindingTemplate(
    "NU-4124",
    Severity.STRICT,
    N_(
        "This change needs {needed_bytes} on the disk of {place}, copies included;"
        " {free_bytes} are free there."
    ),
    N_(
        "Free at least {missing_bytes} there, or enlarge that disk. 'ncen-updater collect' removes"
        " databases of earlier upgrades that are past their time."
    ),
)
SPACE_UNKNOWN = FindingTemplate(
    "NU-4125",
    Severity.ADVISORY,
    N_("The free space of the server cannot be seen from here; {needed_bytes} are needed."),
    N_("Ask the database administrator for the free space. Where the server is on this machine: let"
       " the agent reach it by its socket, and GRANT pg_read_all_settings TO {role};"),
)  # fmt: skip
NO_CREATEDB = FindingTemplate(
    "NU-4126",
    Severity.STRICT,
    N_("The agent's role may not make databases."),
    N_("Run as a superuser: ALTER ROLE {role} CREATEDB;"),
)
NOT_MEMBER = FindingTemplate(
    "NU-4127",
    Severity.STRICT,
    N_("The agent's role cannot act as {owner}."),
    N_("Run as a superuser: GRANT {owner} TO {role}; (from 16 on: WITH INHERIT TRUE, SET TRUE)"),
)
NO_SIGNAL = FindingTemplate(
    "NU-4128",
    Severity.ADVISORY,
    N_("The agent's role may end the sessions of {owner} only, not those of other roles."),
    N_("Run as a superuser: GRANT pg_signal_backend TO {role};"),
)
COLLATION_VERSION_MISMATCH = FindingTemplate(
    "NU-4129",
    Severity.STRICT,
    N_("{database} was sorted by version {stored} of the system's rules, now it is {actual}: the"
       " server refuses to copy it."),
    N_("Run in {database}: REINDEX DATABASE; ALTER DATABASE {database} REFRESH COLLATION VERSION;"),
)  # fmt: skip
NAME_TOO_LONG = FindingTemplate(
    "NU-4130",
    Severity.STRICT,
    N_("The name {database} leaves no room for the names of its copies ({length} of 63 bytes)."),
    N_("Rename the database to at most 48 bytes."),
)
INVALID_DATABASE = FindingTemplate(
    "NU-4131",
    Severity.STRICT,
    N_("{database} is what an interrupted DROP DATABASE left; it cannot be used."),
    N_("If nobody needs it: DROP DATABASE {database}. If it is live: restore it from a backup."),
)
LEFTOVER_COPY = FindingTemplate(
    "NU-4132",
    Severity.STRICT,
    N_("{database} exists already, from an earlier attempt of this change."),
    N_("Run ncen-updater resume, which removes it."),
)
UNSUPPORTED_VERSION = FindingTemplate(
    "NU-4133",
    Severity.STRICT,
    N_("The server is PostgreSQL {version}; this agent knows 14 to 18."),
    N_("Upgrade the server, or the agent."),
)
MISSING_DATABASE = FindingTemplate(
    "NU-4134",
    Severity.STRICT,
    N_("There is no database {database} on the server."),
    N_("Correct the name in [databases.names], or restore the database."),
)
SETTING_NOT_ALLOWED = FindingTemplate(
    "NU-4135",
    Severity.STRICT,
    N_("The agent's role may not carry over the setting {setting} of {database} {role}."),
    N_("Remove the setting, or grant the right to set it (GRANT SET ON PARAMETER, CREATEROLE with"
       " ADMIN on the role)."),
)  # fmt: skip
NO_OWNER = FindingTemplate(
    "NU-4136",
    Severity.STRICT,
    N_("There is no role {owner} on the server, as which migrations would run."),
    N_('Correct "owner" in [databases.postgresql].'),
)
STATISTICS_HIDDEN = FindingTemplate(
    "NU-4150",
    Severity.STRICT,
    N_("The server does not show the agent's role what the sessions of other roles do."),
    N_("Run as a superuser: GRANT pg_read_all_stats TO {role};"),
)
SUPERUSER_SESSIONS = FindingTemplate(
    "NU-4151",
    Severity.STRICT,
    N_("{count} sessions of the superuser {whose} are open in {database}: {applications}. "
       "The agent may not end them."),
    N_("Let these programs end before the change begins, or let them connect in a role that is no"
       " superuser. If they are the application's own, add {whose} to application_roles."),
)  # fmt: skip
OTHER_ROLE_SESSIONS = FindingTemplate(
    "NU-4152",
    Severity.STRICT,
    N_("{count} sessions of the role {whose} are open in {database}: {applications}. "
       "The agent may not end them."),
    N_("Run as a superuser: GRANT pg_signal_backend TO {role};"),
)  # fmt: skip
UNKNOWN_ROLE_SESSIONS = FindingTemplate(
    "NU-4153",
    Severity.STRICT,
    N_("{count} sessions of the role {whose} are open in {database}: {applications}. Between"
       " cut-over and commit only the application's roles may connect, and the agent cannot know"
       " whether {whose} is one of them."),
    N_("Write application_roles into [databases.postgresql]: all roles in which the application"
       " logs in ({owner}, or {whose} as well)."),
)  # fmt: skip
PREVIOUS_ALTERED = FindingTemplate(
    "NU-4154",
    Severity.ADVISORY,
    N_("{database} was kept as it had been; somebody opened or altered it since."),
    N_("What was entered there comes back with it. Ask the database administrators whether that is"
       " wanted."),
)  # fmt: skip


def compute_margin(total: int) -> int:
    """Return the bytes kept free beside the copies: a migration may write each table once more."""
    return max(MARGIN_BYTES, int(total * MARGIN_SHARE))


def find_blockers(
    survey: ServerSurvey,
    change: ChangeRef,
    names: Mapping[str, str],
    *,
    application_stopped: bool,
    other_bytes: Callable[[Path], int] = lambda _: 0,
    role: str = "ncen_updater",
    owner: str = "ncen",
    application_roles: Sequence[str] = (),
) -> tuple[Finding, ...]:
    """Return the findings, most fundamental first.

    Args:
        survey: What was seen.
        change: The change.
        names: Logical to physical names.
        application_stopped: Whether the application is stopped.
        other_bytes: Bytes that the change needs beside the copies on the disk of a path.
        role: The agent's role, for the remedies.
        owner: The application's role, for the remedies.
        application_roles: As which it logs in, where the operator said so.
    """
    found: list[Finding] = []
    if not OLDEST_MAJOR <= survey.major <= NEWEST_MAJOR:
        found.append(UNSUPPORTED_VERSION.make_finding(version=survey.version))
    found += _find_name_blockers(survey, change, names)
    found += _find_rights_blockers(survey, role, owner)
    if application_stopped:
        found += _make_session_findings(survey.sessions, Severity.STRICT)
    else:
        found += _find_session_blockers(survey.sessions, role, owner, application_roles)
    found += _find_content_blockers(survey, change)
    found += _find_space_blockers(survey, change, role, other_bytes)
    return tuple(found)


def _find_name_blockers(
    seen: ServerSurvey, change: ChangeRef, names: Mapping[str, str]
) -> list[Finding]:
    found: list[Finding] = []
    for physical in names.values():
        copies = (candidate_name(physical, change.id), previous_name(physical, change.id))
        length = max(len(name.encode()) for name in copies)
        if length > MAX_NAME_BYTES:
            found.append(NAME_TOO_LONG.make_finding(database=physical, length=length))
        retained = change.source
        wanted = [physical] + ([previous_name(physical, retained)] if retained else [])
        for name in wanted:
            row: DatabaseRow | None = seen.databases.get(name)
            if row is None:
                found.append(MISSING_DATABASE.make_finding(database=name))
            elif not row.is_valid:
                found.append(INVALID_DATABASE.make_finding(database=name))
        found += [
            LEFTOVER_COPY.make_finding(database=name) for name in copies if name in seen.databases
        ]
    return found


def _find_rights_blockers(seen: ServerSurvey, role: str, owner: str) -> list[Finding]:
    rights = seen.rights
    found: list[Finding] = []
    if not rights.createdb:
        found.append(NO_CREATEDB.make_finding(role=role))
    if not rights.owner_exists:
        found.append(NO_OWNER.make_finding(owner=owner))
    found += [NOT_MEMBER.make_finding(owner=name, role=role) for name in rights.lacking]
    if not rights.stats:
        found.append(STATISTICS_HIDDEN.make_finding(role=role))
    if not rights.signal:
        found.append(NO_SIGNAL.make_finding(owner=owner, role=role))
    found += [
        SETTING_NOT_ALLOWED.make_finding(database=database, role=name, setting=setting)
        for database, name, setting in rights.unset
    ]
    return found


def _find_session_blockers(
    sessions: Sequence[SessionGroup], role: str, owner: str, application_roles: Sequence[str]
) -> list[Finding]:
    """Judge sessions while the application runs; its own end when it is stopped.

    Those of another look of this agent, or of its rehearsal, end by themselves.
    """
    foreign_sessions = [
        seen
        for seen in sessions
        if seen.role not in (application_roles or (owner,))
        and not (seen.role == role and seen.program.startswith(APPLICATION_NAME))
    ]
    found: list[Finding] = []
    by_role: dict[tuple[str, str], list[SessionGroup]] = {}
    for seen in foreign_sessions:
        by_role.setdefault((seen.database, seen.role), []).append(seen)
    ended: list[SessionGroup] = []
    for (database, whose), group in by_role.items():
        kinds = []
        if not group[0].endable:
            kinds.append(SUPERUSER_SESSIONS if group[0].superuser else OTHER_ROLE_SESSIONS)
        # A superuser gets in whatever is granted, and we ourselves are no application.
        if not application_roles and not group[0].superuser and whose != role:
            kinds.append(UNKNOWN_ROLE_SESSIONS)
        if not kinds:
            ended += group
        found += [
            kind.make_finding(
                database=database,
                whose=whose,
                role=role,
                owner=owner,
                count=sum(seen.number for seen in group),
                applications=_format_programs(group),
            )
            for kind in kinds
        ]
    return found + _make_session_findings(ended, Severity.ADVISORY)


def _make_session_findings(sessions: Sequence[SessionGroup], severity: Severity) -> list[Finding]:
    return [
        OPEN_SESSIONS.make_finding(
            severity,
            database=database,
            count=sum(seen.number for seen in group),
            applications=_format_programs(group),
        )
        for database, group in _group_by_database(sessions).items()
    ]


def _format_programs(group: Sequence[SessionGroup]) -> str:
    return ", ".join(f"{seen.program} ({seen.number}, {seen.role})" for seen in group)


def _find_content_blockers(seen: ServerSurvey, change: ChangeRef) -> list[Finding]:
    found: list[Finding] = [
        PREVIOUS_ALTERED.make_finding(database=name) for name in seen.kept_altered
    ]
    for database, prepared in _group_by_database(seen.prepared).items():
        gids = ", ".join(gid for _database, gid in prepared)
        found.append(
            PREPARED_TRANSACTIONS.make_finding(
                database=database, count=len(prepared), transactions=gids
            )
        )
    left_behind = ((REPLICATION_SLOTS, seen.slots), (SUBSCRIPTIONS, seen.subscriptions))
    for kind, pairs in () if change.as_is else left_behind:
        for database, objects in _group_by_database(pairs).items():
            words = ", ".join(name for _database, name in objects)
            found.append(kind.make_finding(database=database, objects=words))
    for database, stored, actual in seen.collations:
        found.append(
            COLLATION_VERSION_MISMATCH.make_finding(database=database, stored=stored, actual=actual)
        )
    return found


def _find_space_blockers(
    seen: ServerSurvey, change: ChangeRef, role: str, other_bytes: Callable[[Path], int]
) -> list[Finding]:
    if change.as_is:
        return []
    found: list[Finding] = []
    for disk in seen.disks:
        needed = _compute_bytes_needed(seen, disk.names, log=disk.log)
        needed += other_bytes(Path(disk.place))
        if disk.free < needed:
            found.append(
                NO_SPACE.make_finding(
                    place=disk.place,
                    needed_bytes=needed,
                    free_bytes=disk.free,
                    missing_bytes=needed - disk.free,
                )
            )
    visible = {name for disk in seen.disks for name in disk.names}
    unseen = [name for name in seen.sizes if name not in visible]
    if unseen:
        log = not any(disk.log for disk in seen.disks)
        needed = _compute_bytes_needed(seen, unseen, log=log)
        found.append(SPACE_UNKNOWN.make_finding(needed_bytes=needed, role=role))
    return found


def _compute_bytes_needed(seen: ServerSurvey, names: Iterable[str], *, log: bool) -> int:
    """Return the bytes that are needed where these databases are, or the log is."""
    sizes = {name: seen.sizes[name] for name in names if name in seen.sizes}
    total = sum(sizes.values())
    room = compute_margin(total) if sizes else 0
    # WAL_LOG writes all of a copy to the log as well.
    logged = sum(size for name, size in seen.sizes.items() if seen.methods.get(name) == "wal-log")
    return total + room + (logged if log else 0)


Row = TypeVar("Row", bound=tuple[object, ...])


def _group_by_database(rows: Sequence[Row]) -> dict[object, list[Row]]:
    """Group rows by their first field, the database."""
    groups: dict[object, list[Row]] = {}
    for row in rows:
        groups.setdefault(row[0], []).append(row)
    return groups


# ---- what an interrupted copy left ---------------------------------------------------------------

ORPHAN_DIRECTORY = FindingTemplate(
    "NU-4138",
    Severity.ADVISORY,
    N_("An interrupted copy of {database} left the directory base/{oid} in the server."),
    N_("Run 'ncen-updater resume'. If it stays, remove it: no database has this number."),
)
ORPHAN_POSSIBLE = FindingTemplate(
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
UNOWNED_DIRECTORY = FindingTemplate(
    "NU-4141",
    Severity.ADVISORY,
    N_("The directory {oid} of the server belongs to no database: an interrupted copy left it."),
    N_(
        "It only takes up room. PostgreSQL 14 chooses these numbers itself, so the agent does not "
        "remove it: let the database administrator do so, while no database is being made."
    ),
)
UNOWNED_POSSIBLE = FindingTemplate(
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
    with server.open_control_session() as connection:
        taken = {row.oid for row in read_databases(connection).values()}
        directory = find_data_directory(server, connection)
    if any(not copy.oid for copy in list_copies(plan)):  # 14
        if directory is None:
            yield UNOWNED_POSSIBLE.make_finding()
            return
        for oid in sorted(directory.list_oids() - taken):
            yield UNOWNED_DIRECTORY.make_finding(oid=oid)
    for copy in list_copies(plan):
        if not copy.oid or copy.oid in taken:
            continue
        if directory is None:
            yield ORPHAN_POSSIBLE.make_finding(database=copy.source, oid=copy.oid)
        elif directory.list_directories(copy.oid):
            yield ORPHAN_DIRECTORY.make_finding(database=copy.source, oid=copy.oid)


# ---- databases that are kept ---------------------------------------------------------------------

# Databases that nothing needs any more, but that hold rows that may be somebody's: kept, told.
#
# What was live until a change went back, and what was kept at a commit and was opened since.
#
# Nothing drops it but a person's word (collect --kept).

# Physical name, table, rows; None where they could not be counted.
QuarantinedRows: TypeAlias = Mapping[str, Mapping[str, int] | None]

QUARANTINED_DATABASES = FindingTemplate(
    "NU-4155",
    Severity.ADVISORY,
    N_("Databases from the change {change} are kept as {path}: rows may be in them that somebody"
       " entered and that are not in the live ones ({rows})."),
    N_("Let the database administrator look (ALTER DATABASE ... ALLOW_CONNECTIONS true) and have"
       " what is missing entered again. When nobody needs it any more: 'ncen-updater collect --kept"
       " {change}'."),
)  # fmt: skip
_SET_ASIDE = (
    "CREATE TABLE IF NOT EXISTS public.set_aside ("
    " change text PRIMARY KEY, counts jsonb NOT NULL, at timestamptz NOT NULL DEFAULT now())"
)


def write_quarantined(connection: Connection, change_id: str, counts: QuarantinedRows) -> None:
    """Keep what was counted, in the transaction that renames the set."""
    execute(connection, _SET_ASIDE)
    execute(
        connection,
        "INSERT INTO public.set_aside (change, counts) VALUES (%s, %s)"
        " ON CONFLICT (change) DO UPDATE SET counts = excluded.counts",
        [change_id, json.dumps(counts)],
    )


def list_quarantined(connection: Connection, names: Mapping[str, str]) -> tuple[Finding, ...]:
    """Return the sets by what is there: a lost control database costs no more than the figures.

    Args:
        connection: A session of :meth:`Server.open_control_session`.
        names: Logical to physical names.
    """
    found: dict[str, list[str]] = {}
    for datname in read_databases(connection):
        parsed = parse_quarantine_name(datname, names)
        if parsed is not None:
            found.setdefault(parsed[0], []).append(datname)
    counts: dict[str, QuarantinedRows] = {}
    if found and not fetch_rows(connection, "SELECT to_regclass('public.set_aside') IS NULL")[0][0]:
        counts = dict(fetch_rows(connection, "SELECT change, counts FROM public.set_aside"))
    return tuple(
        QUARANTINED_DATABASES.make_finding(
            change=change,
            path=", ".join(sorted(databases)),
            rows=_row_words(counts.get(change, {})),
        )
        for change, databases in sorted(found.items())
    )


def _row_words(counts: QuarantinedRows) -> LazyText | str:
    known = [
        f"{database}: " + ", ".join(f"{table} {number}" for table, number in sorted(tables.items()))
        for database, tables in sorted(counts.items())
        if tables
    ]
    if not known:
        return LazyText(N_("it cannot be told how many"))
    return "; ".join([*known, *(["..."] if None in counts.values() else [])])


def delete_quarantined(connection: Connection, change_id: str) -> None:
    """Remove the figures of a set that is gone."""
    if not fetch_rows(connection, "SELECT to_regclass('public.set_aside') IS NULL")[0][0]:
        execute(connection, "DELETE FROM public.set_aside WHERE change = %s", [change_id])
