"""Findings about the server: what blocks a change, interrupted copies, quarantined databases."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
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
    has_tables,
)
from ncen_updater.agent.adapters.databases.postgresql.copies import list_copies
from ncen_updater.agent.adapters.databases.postgresql.survey import ServerSurvey, SessionGroup
from ncen_updater.common.findings import Finding, Severity
from ncen_updater.common.i18n import N_, LazyText

OLDEST_MAJOR, NEWEST_MAJOR = 14, 18
MARGIN_BYTES = 256 * 1024 * 1024
MARGIN_SHARE = 0.2


@dataclass(frozen=True)
class FindingTemplate:
    """Template of one kind of finding; the texts have placeholders."""

    code: str
    severity: Severity
    what: str
    remedy: str

    def make_finding(self, severity: Severity | None = None, **values: object) -> Finding:
        """Return a finding of this kind; the values fill both texts and become its figures."""
        return Finding(
            self.code,
            severity or self.severity,
            LazyText(self.what, values),
            LazyText(self.remedy, values),
            values,
        )


OPEN_SESSIONS = FindingTemplate(
    "NU-4120",
    Severity.WARNING,
    N_("Open sessions in {database}: {count} ({applications})"),
    N_("Stop these programs before the upgrade."),
)
PREPARED_TRANSACTIONS = FindingTemplate(
    "NU-4121",
    Severity.CRITICAL,
    N_("Open prepared transactions in {database}: {count} ({transactions})"),
    N_("Run COMMIT PREPARED or ROLLBACK PREPARED for each."),
)
REPLICATION_SLOTS = FindingTemplate(
    "NU-4122",
    Severity.CRITICAL,
    N_("Logical replication slots in {database} cannot be copied: {objects}"),
    N_(
        "Drop each slot with pg_drop_replication_slot; after the upgrade create it again"
        " and resynchronize its subscriber."
    ),
)
SUBSCRIPTIONS = FindingTemplate(
    "NU-4123",
    Severity.CRITICAL,
    N_("Subscriptions in {database} cannot be copied: {objects}"),
    N_(
        "Drop the subscriptions and create them again after the upgrade. To keep the"
        " remote slot: ALTER SUBSCRIPTION ... DISABLE; ALTER SUBSCRIPTION ... SET"
        " (slot_name = NONE); DROP SUBSCRIPTION ...; later CREATE SUBSCRIPTION ... WITH"
        " (create_slot = false, copy_data = false)."
    ),
)
NO_SPACE = FindingTemplate(
    "NU-4124",
    Severity.CRITICAL,
    N_("Not enough disk space in {path}: {free_bytes} free, {needed_bytes} required"),
    N_("Free at least {missing_bytes} in {path}."),
)
SPACE_UNKNOWN = FindingTemplate(
    "NU-4125",
    Severity.WARNING,
    N_("Free disk space of the database server unknown ({needed_bytes} required)"),
    N_("Check it with the database administrator."),
)
SPACE_HIDDEN = replace(
    SPACE_UNKNOWN, remedy=N_('Run as superuser: GRANT pg_read_all_settings TO "{role}";')
)
NO_CREATEDB = FindingTemplate(
    "NU-4126",
    Severity.CRITICAL,
    N_("Database role lacks CREATEDB"),
    N_('Run as superuser: ALTER ROLE "{role}" CREATEDB;'),
)
NOT_MEMBER = FindingTemplate(
    "NU-4127",
    Severity.CRITICAL,
    N_("Database role is not a member of {owner}"),
    N_(
        'Run as superuser: GRANT "{owner}" TO "{role}"; (PostgreSQL 16 or later: WITH INHERIT'
        " TRUE, SET TRUE)"
    ),
)
NO_SIGNAL = FindingTemplate(
    "NU-4128",
    Severity.WARNING,
    N_("Database role can terminate only sessions of {owner}"),
    N_('Run as superuser: GRANT pg_signal_backend TO "{role}";'),
)
COLLATION_VERSION_MISMATCH = FindingTemplate(
    "NU-4129",
    Severity.CRITICAL,
    N_("Collation version mismatch in {database}: {stored} recorded, {actual} installed"),
    N_(
        'Run in {database}: REINDEX DATABASE; ALTER DATABASE "{database}" REFRESH COLLATION'
        " VERSION;"
    ),
)
NAME_TOO_LONG = FindingTemplate(
    "NU-4130",
    Severity.CRITICAL,
    N_("Database name too long: {database} ({length} of 63 bytes with suffixes)"),
    N_("Rename the database to at most 48 bytes."),
)
INVALID_DATABASE = FindingTemplate(
    "NU-4131",
    Severity.CRITICAL,
    N_("Invalid database {database}: interrupted DROP DATABASE"),
    N_('If unused, run: DROP DATABASE "{database}"; otherwise restore it from a backup.'),
)
LEFTOVER_COPY = FindingTemplate(
    "NU-4132",
    Severity.CRITICAL,
    N_("Database {database} already exists from an interrupted attempt"),
    N_("Run: sudo ncen-updater resume"),
)
UNSUPPORTED_VERSION = FindingTemplate(
    "NU-4133",
    Severity.CRITICAL,
    N_("Unsupported PostgreSQL version: {version} (supported: 14 to 18)"),
    N_("Upgrade the server or ncen-updater."),
)
MISSING_DATABASE = FindingTemplate(
    "NU-4134",
    Severity.CRITICAL,
    N_("Database {database} not found on the server"),
    N_("Correct its name in [databases.names], or restore it."),
)
SETTING_NOT_ALLOWED = FindingTemplate(
    "NU-4135",
    Severity.CRITICAL,
    N_("Cannot copy setting {setting} of {database} {role}: permission denied"),
    N_("Remove the setting, or grant the right to set it (GRANT SET ON PARAMETER, CREATEROLE with"
       " ADMIN on the role)."),
)  # fmt: skip
NO_OWNER = FindingTemplate(
    "NU-4136",
    Severity.CRITICAL,
    N_("Role {owner} not found on the server"),
    N_("Correct 'owner' in [databases.postgresql]."),
)
STATISTICS_HIDDEN = FindingTemplate(
    "NU-4150",
    Severity.CRITICAL,
    N_("Database role cannot see sessions of other roles"),
    N_('Run as superuser: GRANT pg_read_all_stats TO "{role}";'),
)
SUPERUSER_SESSIONS = FindingTemplate(
    "NU-4151",
    Severity.CRITICAL,
    N_("Open superuser sessions of {whose} in {database}: {count} ({applications})"),
    N_("Stop these programs before the upgrade, or let them use an ordinary role. For the"
        " application itself, add {whose} to application_roles."),
)  # fmt: skip
OTHER_ROLE_SESSIONS = FindingTemplate(
    "NU-4152",
    Severity.CRITICAL,
    N_("Open sessions of role {whose} in {database}: {count} ({applications}); cannot be"
        " terminated"),
    N_('Run as superuser: GRANT pg_signal_backend TO "{role}";'),
)  # fmt: skip
UNKNOWN_ROLE_SESSIONS = FindingTemplate(
    "NU-4153",
    Severity.CRITICAL,
    N_("Open sessions of undeclared role {whose} in {database}: {count} ({applications})"),
    N_("Set application_roles in [databases.postgresql] to all login roles of the application"
        " ({owner}, {whose} if it is one)."),
)  # fmt: skip
PREVIOUS_ALTERED = FindingTemplate(
    "NU-4154",
    Severity.WARNING,
    N_("Previous database {database} was opened or modified"),
    N_("Ask the database administrator whether these changes may return with a rollback."),
)  # fmt: skip
ORPHAN_DIRECTORY = FindingTemplate(
    "NU-4138",
    Severity.WARNING,
    N_("Interrupted copy of {database} left directory base/{oid} on the server"),
    N_("Run sudo ncen-updater resume. If the directory remains, remove it: no database uses it."),
)
ORPHAN_POSSIBLE = FindingTemplate(
    "NU-4139",
    Severity.WARNING,
    N_("Interrupted copy of {database} may have left directory base/{oid}"),
    N_(
        "In the data directory and its tablespaces, remove directory {oid} if pg_database"
        " does not list it."
    ),
)
UNOWNED_DIRECTORY = FindingTemplate(
    "NU-4141",
    Severity.WARNING,
    N_("Directory {oid} of the server belongs to no database"),
    N_(
        "It only uses disk space. Ask the database administrator to remove it while no"
        " database is being created."
    ),
)
UNOWNED_POSSIBLE = FindingTemplate(
    "NU-4142",
    Severity.WARNING,
    N_("Interrupted copy may have left a directory on the server"),
    N_(
        "Compare the directories below base and the tablespaces with the oids in"
        " pg_database, and remove those not listed."
    ),
)
QUARANTINED_DATABASES = FindingTemplate(
    "NU-4155",
    Severity.WARNING,
    N_("Databases with unmerged records retained from change {change}: {path} ({rows})"),
    N_("Review them with ALTER DATABASE ... ALLOW_CONNECTIONS true and enter missing records"
        " again, then run: sudo ncen-updater prune --retained {change}"),
)  # fmt: skip


def compute_margin(total: int) -> int:
    """Return the bytes to be free besides the copies: a migration may rewrite a large table."""
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
        survey: The facts of the server.
        change: The change.
        names: Logical to physical names.
        application_stopped: Whether the application is stopped.
        other_bytes: Returns the bytes that the change needs besides the copies on the file system
            of a path.
        role: The agent's role, for the remedies.
        owner: The application's role, for the remedies.
        application_roles: Roles as which the application logs in, if configured.
    """
    found: list[Finding] = []
    if not OLDEST_MAJOR <= survey.major <= NEWEST_MAJOR:
        found.append(UNSUPPORTED_VERSION.make_finding(version=survey.version))
    found += _find_name_blockers(survey, change, names)
    found += _find_rights_blockers(survey, role, owner)
    if application_stopped:
        found += _make_session_findings(survey.sessions, Severity.CRITICAL)
    else:
        found += _find_session_blockers(survey.sessions, role, owner, application_roles)
    found += _find_content_blockers(survey, change)
    found += _find_space_blockers(survey, change, role, other_bytes)
    return tuple(found)


def _find_name_blockers(
    survey: ServerSurvey, change: ChangeRef, names: Mapping[str, str]
) -> list[Finding]:
    found: list[Finding] = []
    for physical in names.values():
        copies = (candidate_name(physical, change.id), previous_name(physical, change.id))
        length = max(len(name.encode()) for name in copies)
        if length > MAX_NAME_BYTES:
            found.append(NAME_TOO_LONG.make_finding(database=physical, length=length))
        source = change.retained_from
        needed = [physical] + ([previous_name(physical, source)] if source else [])
        for name in needed:
            row: DatabaseRow | None = survey.databases.get(name)
            if row is None:
                found.append(MISSING_DATABASE.make_finding(database=name))
            elif not row.is_valid:
                found.append(INVALID_DATABASE.make_finding(database=name))
        found += [
            LEFTOVER_COPY.make_finding(database=name) for name in copies if name in survey.databases
        ]
    return found


def _find_rights_blockers(survey: ServerSurvey, role: str, owner: str) -> list[Finding]:
    rights = survey.rights
    found: list[Finding] = []
    if not rights.createdb:
        found.append(NO_CREATEDB.make_finding(role=role))
    if not rights.owner_exists:
        found.append(NO_OWNER.make_finding(owner=owner))
    found += [NOT_MEMBER.make_finding(owner=name, role=role) for name in rights.missing_owner_roles]
    if not rights.can_read_stats:
        found.append(STATISTICS_HIDDEN.make_finding(role=role))
    if not rights.can_signal:
        found.append(NO_SIGNAL.make_finding(owner=owner, role=role))
    found += [
        SETTING_NOT_ALLOWED.make_finding(database=database, role=name, setting=setting)
        for database, name, setting in rights.settings_not_allowed
    ]
    return found


def _find_session_blockers(
    sessions: Sequence[SessionGroup], role: str, owner: str, application_roles: Sequence[str]
) -> list[Finding]:
    """Judge foreign sessions while the application runs; its own sessions end when it is stopped.

    The agent's own sessions, of another inspection or of a rehearsal, end on their own.
    """
    foreign_sessions = [
        session
        for session in sessions
        if session.role not in (application_roles or (owner,))
        and not (session.role == role and session.program.startswith(APPLICATION_NAME))
    ]
    found: list[Finding] = []
    by_role: dict[tuple[str, str], list[SessionGroup]] = {}
    for session in foreign_sessions:
        by_role.setdefault((session.database, session.role), []).append(session)
    ended: list[SessionGroup] = []
    for (database, whose), group in by_role.items():
        kinds = []
        if not group[0].can_terminate:
            kinds.append(SUPERUSER_SESSIONS if group[0].superuser else OTHER_ROLE_SESSIONS)
        # A superuser can connect whatever is granted, and the agent's role is not the
        # application's.
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
                count=sum(session.number for session in group),
                applications=_format_programs(group),
            )
            for kind in kinds
        ]
    return found + _make_session_findings(ended, Severity.WARNING)


def _make_session_findings(sessions: Sequence[SessionGroup], severity: Severity) -> list[Finding]:
    return [
        OPEN_SESSIONS.make_finding(
            severity,
            database=database,
            count=sum(session.number for session in group),
            applications=_format_programs(group),
        )
        for database, group in _group_by_database(sessions).items()
    ]


def _format_programs(group: Sequence[SessionGroup]) -> str:
    return ", ".join(f"{session.program} ({session.number}, {session.role})" for session in group)


def _find_content_blockers(survey: ServerSurvey, change: ChangeRef) -> list[Finding]:
    found: list[Finding] = [
        PREVIOUS_ALTERED.make_finding(database=name) for name in survey.previous_altered
    ]
    for database, prepared in _group_by_database(survey.prepared).items():
        gids = ", ".join(gid for _database, gid in prepared)
        found.append(
            PREPARED_TRANSACTIONS.make_finding(
                database=database, count=len(prepared), transactions=gids
            )
        )
    not_copied = (
        (REPLICATION_SLOTS, survey.replication_slots),
        (SUBSCRIPTIONS, survey.subscriptions),
    )
    for kind, pairs in () if change.no_copy else not_copied:
        for database, objects in _group_by_database(pairs).items():
            names = ", ".join(name for _database, name in objects)
            found.append(kind.make_finding(database=database, objects=names))
    for database, stored, actual in survey.collations:
        found.append(
            COLLATION_VERSION_MISMATCH.make_finding(database=database, stored=stored, actual=actual)
        )
    return found


def _find_space_blockers(
    survey: ServerSurvey, change: ChangeRef, role: str, other_bytes: Callable[[Path], int]
) -> list[Finding]:
    if change.no_copy:
        return []
    found: list[Finding] = []
    for disk in survey.disks:
        needed = _compute_bytes_needed(survey, disk.names, log=disk.has_wal)
        needed += other_bytes(Path(disk.directory))
        if disk.free_bytes < needed:
            found.append(
                NO_SPACE.make_finding(
                    path=disk.directory,
                    needed_bytes=needed,
                    free_bytes=disk.free_bytes,
                    missing_bytes=needed - disk.free_bytes,
                )
            )
    visible = {name for disk in survey.disks for name in disk.names}
    unseen = [name for name in survey.sizes if name not in visible]
    if unseen:
        log = not any(disk.has_wal for disk in survey.disks)
        needed = _compute_bytes_needed(survey, unseen, log=log)
        template = SPACE_HIDDEN if survey.hides_disks else SPACE_UNKNOWN
        found.append(template.make_finding(needed_bytes=needed, role=role))
    return found


def _compute_bytes_needed(survey: ServerSurvey, names: Iterable[str], *, log: bool) -> int:
    """Return the bytes needed on the file system of these databases, or of the log."""
    sizes = {name: survey.sizes[name] for name in names if name in survey.sizes}
    total = sum(sizes.values())
    margin = compute_margin(total) if sizes else 0
    # WAL_LOG writes the whole copy to the log as well.
    logged = sum(
        size for name, size in survey.sizes.items() if survey.methods.get(name) == "wal-log"
    )
    return total + margin + (logged if log else 0)


Row = TypeVar("Row", bound=tuple[object, ...])


def _group_by_database(rows: Sequence[Row]) -> dict[object, list[Row]]:
    """Group rows by their first field, the database."""
    groups: dict[object, list[Row]] = {}
    for row in rows:
        groups.setdefault(row[0], []).append(row)
    return groups


# ---- remains of interrupted copies ---------------------------------------------------------------


def find_orphans(server: Server, plan: CopyPlan) -> Iterator[Finding]:
    """Yield a finding for each possible remaining directory of an interrupted copy.

    Args:
        server: The server.
        plan: Copies, at least one of which was not completed.
    """
    with server.open_control_session() as connection:
        taken = {row.oid for row in read_databases(connection).values()}
        directory = find_data_directory(server, connection)
    if any(not copy.oid for copy in list_copies(plan)):  # PostgreSQL 14
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


# ---- quarantined databases -----------------------------------------------------------------------

# Databases in quarantine: no longer needed, but they may contain records of foreign sessions. They
# are live databases of a reverted change, and previous databases that somebody opened after the
# commit. Only an operator's command drops them (prune --retained).

# Rows by physical name and table; None if they could not be counted.
QuarantinedRows: TypeAlias = Mapping[str, Mapping[str, int] | None]


def write_quarantined(connection: Connection, change_id: str, counts: QuarantinedRows) -> None:
    """Store the counts, in the transaction that renames the databases."""
    execute(
        connection,
        "INSERT INTO public.set_aside (change, counts) VALUES (%s, %s)"
        " ON CONFLICT (change) DO UPDATE SET counts = excluded.counts",
        [change_id, json.dumps(counts)],
    )


def list_quarantined(connection: Connection, names: Mapping[str, str]) -> tuple[Finding, ...]:
    """List quarantined databases by name; without the control database their counts are unknown.

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
    if found and has_tables(connection, "set_aside"):
        counts = dict(fetch_rows(connection, "SELECT change, counts FROM public.set_aside"))
    return tuple(
        QUARANTINED_DATABASES.make_finding(
            change=change,
            path=", ".join(sorted(databases)),
            rows=_format_counts(counts.get(change, {})),
        )
        for change, databases in sorted(found.items())
    )


def _format_counts(counts: QuarantinedRows) -> LazyText | str:
    known = [
        f"{database}: " + ", ".join(f"{table} {number}" for table, number in sorted(tables.items()))
        for database, tables in sorted(counts.items())
        if tables
    ]
    if not known:
        return LazyText(N_("count unknown"))
    return "; ".join([*known, *(["..."] if None in counts.values() else [])])


def delete_quarantined(connection: Connection, change_id: str) -> None:
    """Delete the counts of databases that were dropped."""
    if has_tables(connection, "set_aside"):
        execute(connection, "DELETE FROM public.set_aside WHERE change = %s", [change_id])
