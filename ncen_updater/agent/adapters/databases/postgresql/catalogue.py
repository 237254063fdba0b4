"""Databases of a server: catalogue rows, attributes, directories, disks, names and markers."""

from __future__ import annotations

import logging
import os
import re
import shutil
import socket
import stat
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psycopg

from ncen_updater.agent.adapters.databases.base import (
    CandidateDatabase,
    ChangeRef,
    DatabaseMarker,
    DatabaseRef,
    DatabaseRole,
    PreviousDatabase,
)
from ncen_updater.agent.adapters.databases.postgresql.connection import (
    Connection,
    Server,
    execute_all,
    fetch_rows,
    format_setting_value,
    quote_identifier,
)
from ncen_updater.agent.model.errors import DatabaseError, DatabaseUnreachableError
from ncen_updater.common.atomic_files import fsync_directory
from ncen_updater.common.disk_space import get_free_bytes
from ncen_updater.common.messages import ATTRIBUTES_DIFFER, DATABASE_SET_INCOMPLETE

logger = logging.getLogger(__name__)


INVALID_CONNECTION_LIMIT = -2  # the server's mark of an interrupted DROP DATABASE


@dataclass(frozen=True)
class DatabaseRow:
    """One row of pg_database.

    Attributes:
        oid: Object id.
        name: Name of the database.
        owner: Role of the owner.
        allow_connections: Whether sessions are allowed at all.
        connection_limit: Connection limit, -1 for none.
        is_template: Whether it is a template.
        comment: The stored comment, with the agent's marker.
    """

    oid: int
    name: str
    owner: str
    allow_connections: bool
    connection_limit: int
    is_template: bool
    comment: str | None

    @property
    def is_valid(self) -> bool:
        """Return False if a DROP was interrupted."""
        return self.connection_limit != INVALID_CONNECTION_LIMIT


def require_database(found: Mapping[str, DatabaseRow], name: str) -> DatabaseRow:
    """Return the row of a database that must exist.

    Raises:
        DatabaseUnreachableError: It is missing, or a DROP of it was interrupted: then it can still
            be renamed, but never opened.
    """
    row = found.get(name)
    if row is None or not row.is_valid:
        raise DatabaseUnreachableError(DATABASE_SET_INCOMPLETE, database=name)
    return row


def read_server_major(connection: Connection) -> int:
    """Return the major version of the server."""
    return connection.info.server_version // 10_000


def read_databases(connection: Connection) -> Mapping[str, DatabaseRow]:
    """Return all databases of the server by name."""
    found = fetch_rows(
        connection,
        "SELECT d.oid::int8, d.datname, pg_get_userbyid(d.datdba), d.datallowconn, d.datconnlimit,"
        " d.datistemplate, shobj_description(d.oid, 'pg_database') FROM pg_database d",
    )
    return {row[1]: DatabaseRow(*row) for row in found}


# ---- attributes of a database --------------------------------------------------------------------

# A template copy loses the owner, the grants (PUBLIC gets CONNECT back, a security hole), the
# settings of ALTER DATABASE and ALTER ROLE IN DATABASE, and the template flag. They are read from
# the old database, written to the new one, read again and compared, all in the transaction of the
# cut-over, which sets the connection limit and the comment itself.


@dataclass(frozen=True, order=True)
class DatabaseGrant:
    """One privilege; an empty grantee is PUBLIC."""

    grantee: str
    privilege: str
    grantable: bool


@dataclass(frozen=True, order=True)
class DatabaseSetting:
    """One setting of a database; with ``role``, of this role in the database."""

    role: str
    name: str
    value: str


@dataclass(frozen=True)
class DatabaseAttributes:
    """Attributes of a database; grants and settings in the order of the catalogue."""

    owner: str
    template: bool
    grants: tuple[DatabaseGrant, ...]
    settings: tuple[DatabaseSetting, ...]


def read_attributes(connection: Connection, database: str) -> DatabaseAttributes:
    """Read the attributes of one database, with default privileges written out."""
    return read_all_attributes(connection, [database])[database]


def read_all_attributes(
    connection: Connection, databases: Iterable[str]
) -> dict[str, DatabaseAttributes]:
    """Read the attributes of databases, in one query, since users wait for the cut-over."""
    found = fetch_rows(
        connection,
        "SELECT d.datname, pg_get_userbyid(d.datdba), d.datistemplate,"
        " (SELECT json_agg(json_build_array(grantee, privilege, grantable) ORDER BY n) FROM (SELECT"
        "   CASE WHEN a.grantee = 0 THEN '' ELSE pg_get_userbyid(a.grantee) END AS grantee, min(n)"
        "   AS n, a.privilege_type AS privilege, bool_or(a.is_grantable) AS grantable"
        "   FROM aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) WITH ORDINALITY"
        "   a(grantor, grantee, privilege_type, is_grantable, n) GROUP BY 1, 3) g),"
        " (SELECT json_agg(json_build_array(CASE WHEN setrole = 0 THEN ''"
        "   ELSE pg_get_userbyid(setrole) END, c) ORDER BY setrole, n) FROM pg_db_role_setting,"
        "   unnest(setconfig) WITH ORDINALITY u(c, n) WHERE setdatabase = d.oid)"
        " FROM pg_database d WHERE d.datname = ANY(%s)",
        [list(databases)],
    )
    return {
        name: DatabaseAttributes(
            owner,
            template,
            tuple(DatabaseGrant(*grant) for grant in grants or ()),
            tuple(DatabaseSetting(role, *config.split("=", 1)) for role, config in settings or ()),
        )
        for name, owner, template, grants, settings in found
    }


def build_statements(
    target: str, expected: DatabaseAttributes, current: DatabaseAttributes
) -> list[str]:
    """Return the statements that change the attributes from ``current`` to ``expected``."""
    name = quote_identifier(target)
    result: list[str] = []
    if current.owner != expected.owner:
        result.append(f"ALTER DATABASE {name} OWNER TO {quote_identifier(expected.owner)}")
    if current.template != expected.template:
        flag = "true" if expected.template else "false"
        result.append(f"ALTER DATABASE {name} IS_TEMPLATE {flag}")
    for grantee in sorted({g.grantee for g in (*current.grants, *expected.grants)}):
        result.append(f"REVOKE ALL ON DATABASE {name} FROM {_format_grantee(grantee)}")
    for grant in expected.grants:
        option = " WITH GRANT OPTION" if grant.grantable and grant.grantee != expected.owner else ""
        result.append(
            f"GRANT {grant.privilege} ON DATABASE {name} TO "
            f"{_format_grantee(grant.grantee)}{option}"
        )
    unwanted = {(s.role, s.name) for s in current.settings}
    unwanted -= {(s.role, s.name) for s in expected.settings}
    for role, setting in sorted(unwanted):
        result.append(f"{_format_alter_target(role, name)} RESET {_quote_setting(setting)}")
    for item in expected.settings:
        if item not in current.settings:
            value = format_setting_value(item.name, item.value)
            result.append(
                f"{_format_alter_target(item.role, name)} SET {_quote_setting(item.name)} TO "
                f"{value}"
            )
    return result


def apply_attributes(connection: Connection, expected: DatabaseAttributes, target: str) -> None:
    """Set the attributes of a database and verify them; see :func:`apply_all_attributes`."""
    apply_all_attributes(connection, {target: expected})


def apply_all_attributes(
    connection: Connection,
    expected: Mapping[str, DatabaseAttributes],
    present: Mapping[str, DatabaseAttributes] | None = None,
) -> None:
    """Set the attributes of databases and verify them.

    Args:
        connection: In a transaction.
        expected: The attributes by physical name, in the order in which they are set.
        present: The present ones, if they are known.

    Raises:
        ATTRIBUTES_DIFFER: If they differ; the transaction must not be committed.
    """
    before = read_all_attributes(connection, expected) if present is None else present
    statements = [
        statement
        for target, wanted in expected.items()
        if _normalize_attributes(before[target]) != _normalize_attributes(wanted)
        for statement in build_statements(target, wanted, before[target])
    ]
    execute_all(connection, statements)
    result = read_all_attributes(connection, expected) if statements else before
    for target, wanted in expected.items():
        if _normalize_attributes(result[target]) != _normalize_attributes(wanted):
            raise DatabaseError(
                ATTRIBUTES_DIFFER,
                database=target,
                detail=f"wanted {wanted}, got {result[target]}",
            )


def _normalize_attributes(attributes: DatabaseAttributes) -> tuple[object, ...]:
    """Return the attributes without their order, which may change if there are several grantors."""
    return attributes.owner, attributes.template, {*attributes.grants}, {*attributes.settings}


def _format_grantee(name: str) -> str:
    return quote_identifier(name) if name else "PUBLIC"


def _format_alter_target(role: str, database: str) -> str:
    if role:
        return f"ALTER ROLE {quote_identifier(role)} IN DATABASE {database}"
    return f"ALTER DATABASE {database}"


def _quote_setting(name: str) -> str:
    return ".".join(quote_identifier(part) for part in name.split("."))


# ---- the data directory --------------------------------------------------------------------------

# A server killed in CREATE DATABASE leaves a directory without a row in pg_database. Only its
# object id tells it from a live database. So the id is chosen and journaled beforehand, and only
# directories with a journaled id are ever removed.


@dataclass(frozen=True)
class DataDirectory:
    """Data directory of the server on this machine, which the agent can read and change.

    Attributes:
        database_directories: Directories that hold one directory for each database: ``base`` and
            those of tablespaces.
        wal_directory: Directory of the write-ahead log.
    """

    database_directories: tuple[Path, ...]
    wal_directory: Path

    def list_directories(self, oid: int) -> tuple[Path, ...]:
        """Return the directories of a database."""
        return tuple(p / str(oid) for p in self.database_directories if (p / str(oid)).is_dir())

    def list_oids(self) -> set[int]:
        """Return the object id of every directory, with or without a database."""
        return {
            int(d.name)
            for place in self.database_directories
            for d in place.glob("[0-9]*")
            if d.is_dir()
        }

    def measure_size(self, oid: int) -> int:
        """Return the bytes that a database has on the disk so far."""
        total = 0
        for directory in self.list_directories(oid):
            with os.scandir(directory) as entries:
                for entry in entries:
                    try:
                        total += entry.stat(follow_symlinks=False).st_size
                    except FileNotFoundError:  # temporary files come and go
                        continue
        return total

    def remove_orphan(self, oid: int) -> bool:
        """Remove the directories of an object id without a database; return whether there were any.

        The caller has verified that pg_database has no such row and that no session creates one.
        """
        found = self.list_directories(oid)
        for directory in found:
            logger.warning("removing %s of an interrupted copy", directory)
            shutil.rmtree(directory)
            fsync_directory(directory.parent)
        return bool(found)


def find_data_directory(server: Server, connection: Connection) -> DataDirectory | None:
    """Return the server's data directory; None if the agent cannot read and change it.

    A server connected by TCP may be another machine. The setting is visible only to superusers and
    members of pg_read_all_settings, and the directory belongs to the server's own account. The
    start time of the server, not the path, verifies that it is this server's directory.
    """
    if not server.settings.host.startswith("/"):
        return None
    try:
        shown, started, oid = fetch_rows(
            connection,
            "SELECT current_setting('data_directory'),"
            " extract(epoch FROM pg_postmaster_start_time())::float8,"
            " (SELECT oid::int8 FROM pg_database WHERE datname = current_database())",
        )[0]
    except psycopg.errors.InsufficientPrivilege:
        return None
    data = Path(shown)
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
        same_server = abs(int(lines[2]) - started) < 60
        next((data / "base" / str(oid)).iterdir())
    except (OSError, ValueError, IndexError, StopIteration):
        return None
    if not same_server or not os.access(data / "base", os.W_OK):
        return None
    directories = [data / "base"]
    for tablespace in sorted((data / "pg_tblspc").glob("*")):
        directories += sorted(tablespace.glob(f"PG_{read_server_major(connection)}_*"))
    return DataDirectory(tuple(directories), data / "pg_wal")


# ---- file systems of the server ------------------------------------------------------------------

# The agent needs only to reach a directory to measure its free space; it need not read it. It must
# know that the directory is the server's: over a local socket the kernel reports the listening
# process, and the directory must belong to that account.

_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid


@dataclass(frozen=True)
class ServerDisk:
    """One file system of the server.

    Attributes:
        directory: A directory of the server on it.
        free_bytes: Writable bytes.
        names: Logical names of the databases whose copies are written there.
        has_wal: Whether the write-ahead log is there.
    """

    directory: str
    free_bytes: int
    names: tuple[str, ...] = ()
    has_wal: bool = False


def read_disks(
    server: Server, connection: Connection, oids: Mapping[str, int]
) -> tuple[ServerDisk, ...]:
    """Return the visible file systems; none if the server is on another machine.

    Args:
        server: The server.
        connection: A session.
        oids: Object id of each database to copy, by logical name. A copy is written to the
            tablespace of its source.
    """
    if not server.settings.host.startswith("/"):
        return ()
    data, log = _find_data_and_wal(server, connection)
    directories = dict(_iter_directories(connection, oids, data))
    if log is not None:
        directories[None] = log
    by_device: dict[int, list[tuple[str | None, Path]]] = {}
    server_uid = _find_server_uid(connection)
    for name, directory in directories.items():
        device = _find_device(directory, server_uid)
        if device is not None:
            by_device.setdefault(device, []).append((name, directory))
    return tuple(
        ServerDisk(
            str(found[0][1]),
            get_free_bytes(found[0][1]),
            tuple(sorted(name for name, _ in found if name is not None)),
            any(name is None for name, _ in found),
        )
        for found in by_device.values()
    )


def find_database_directories(
    server: Server, connection: Connection, oids: Mapping[str, int]
) -> dict[str, Path]:
    """Return the directories of databases, as far as visible; by logical name.

    Args:
        server: The server.
        connection: A session.
        oids: As for :func:`read_disks`.
    """
    if not server.settings.host.startswith("/"):
        return {}
    data, _ = _find_data_and_wal(server, connection)
    server_uid = _find_server_uid(connection)
    return {
        name: directory
        for name, directory in _iter_directories(connection, oids, data)
        if name is not None and _find_device(directory, server_uid) is not None
    }


def _find_data_and_wal(server: Server, connection: Connection) -> tuple[Path | None, Path | None]:
    """Return the directories of data and write-ahead log that the server reports."""
    directory = find_data_directory(server, connection)
    if directory is not None:
        return directory.database_directories[0], directory.wal_directory
    try:
        data = Path(fetch_rows(connection, "SELECT current_setting('data_directory')")[0][0])
    except psycopg.errors.InsufficientPrivilege:
        return None, None
    return data, data  # only the server's account could see where a linked log is


def _iter_directories(
    connection: Connection, oids: Mapping[str, int], data: Path | None
) -> Iterator[tuple[str | None, Path]]:
    found = fetch_rows(
        connection,
        "SELECT oid::int8, pg_tablespace_location(dattablespace) FROM pg_database"
        " WHERE oid = ANY(%s::oid[])",
        [list(oids.values())],
    )
    locations: dict[int, str] = dict(found)
    for name, oid in oids.items():
        location = locations.get(oid)
        directory = Path(location) if location else data
        if directory is not None:
            yield name, directory


def _find_device(directory: Path, server_uid: int | None) -> int | None:
    """Return the device of a directory of the server's account, None for any other."""
    try:
        status = directory.stat()
    except OSError:
        return None
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != server_uid:
        return None
    return status.st_dev


def _find_server_uid(connection: Connection) -> int | None:
    """Return the account of the process that listens on the socket."""
    with socket.socket(fileno=os.dup(connection.fileno())) as copy:
        if copy.family != socket.AF_UNIX:
            return None
        value = copy.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(value)[1])


# ---- names and markers ---------------------------------------------------------------------------

MAX_NAME_BYTES = 63  # NAMEDATALEN - 1; the server truncates a longer name with only a notice

_CHANGE = "[a-z2-7]{8}"
_NAME = re.compile(rf"^(?P<physical>.+)__(?P<role>next|prev)_(?P<change>{_CHANGE})$")
_QUARANTINE_NAME = re.compile(rf"^(?P<physical>.+)__kept_(?P<change>{_CHANGE})$")
_MARKER = re.compile(
    r"\n?\[ncen-updater release=(?P<release>\S+) generation=(?P<generation>\d+) "
    r"change=(?P<change>\S+?)(?P<committed> committed)?\]$"
)
_COPY = re.compile(r"\n?\[ncen-updater copy change=(?P<change>\S+)\]$")


def candidate_name(physical: str, change_id: str) -> str:
    """Return the name of the candidate."""
    return f"{physical}__next_{change_id}"


def previous_name(physical: str, change_id: str) -> str:
    """Return the name of the previous database."""
    return f"{physical}__prev_{change_id}"


def quarantine_name(physical: str, change_id: str) -> str:
    """Return the name of a database in quarantine; only an operator's command drops it."""
    return f"{physical}__kept_{change_id}"


def parse_quarantine_name(datname: str, names: Mapping[str, str]) -> tuple[str, str] | None:
    """Return (change id, logical name) of a database in quarantine, None for any other."""
    match = _QUARANTINE_NAME.match(datname)
    logical = {physical: name for name, physical in names.items()}
    if match is None or match["physical"] not in logical:
        return None
    return match["change"], logical[match["physical"]]


def physical_name(database: DatabaseRef, physical: str) -> str:
    """Return the name of a database in the server."""
    if isinstance(database, PreviousDatabase):
        return previous_name(physical, database.change.id)
    if isinstance(database, CandidateDatabase):
        return candidate_name(physical, database.change.id)
    return physical


def parse_name(datname: str, names: Mapping[str, str]) -> tuple[str, DatabaseRole, str] | None:
    """Return (change id, role, logical name) of a candidate or previous, None for any other.

    Args:
        datname: A name in the server.
        names: Logical to physical names of this site.
    """
    match = _NAME.match(datname)
    if match is None:
        return None
    role = DatabaseRole.CANDIDATE if match["role"] == "next" else DatabaseRole.PREVIOUS
    for logical, physical in names.items():
        if physical == match["physical"]:
            return match["change"], role, logical
    return None


def parse_marker(comment: str | None) -> DatabaseMarker | None:
    """Return the marker in a comment."""
    match = _MARKER.search(comment or "")
    if match is None:
        return None
    return DatabaseMarker(match["release"], int(match["generation"]), match["change"])


def _strip_markers(comment: str) -> str:
    """Return the part of a comment before all markers."""
    while match := _MARKER.search(comment):
        comment = comment[: match.start()]
    return comment


def add_marker(comment: str | None, change: ChangeRef) -> str:
    """Return the operator's own comment, followed by the change's marker."""
    own = _strip_markers(_COPY.sub("", comment or ""))
    marker = (
        f"[ncen-updater release={change.release} generation={change.generation} change={change.id}]"
    )
    return f"{own}\n{marker}" if own else marker


def append_marker(comment: str | None, change: ChangeRef) -> str:
    """Return a live database's comment with the change's marker appended to its present one.

    The last marker counts. A revert or rollback restores the one before it.
    """
    marker = add_marker(None, change)
    return f"{comment}\n{marker}" if comment else marker


def remove_last_marker(comment: str | None) -> str | None:
    """Return the comment as it was before :func:`append_marker`."""
    return _MARKER.sub("", comment or "") or None


def keep_last_marker(comment: str | None) -> str | None:
    """Return a comment with only the last of its markers."""
    match = _MARKER.search(comment or "")
    if comment is None or match is None:
        return comment
    own = _strip_markers(comment[: match.start()])
    return f"{own}\n{match[0].lstrip()}" if own else match[0].lstrip()


def mark_committed(comment: str | None) -> str | None:
    """Return the comment with its marker set to committed; unchanged if it has none."""
    match = _MARKER.search(comment or "")
    if comment is None or match is None or match["committed"]:
        return comment
    return comment[:-1] + " committed]"


def is_committed(comment: str | None, change_id: str) -> bool:
    """Tell whether the comment marks this change as committed."""
    match = _MARKER.search(comment or "")
    return match is not None and match["change"] == change_id and bool(match["committed"])


def mark_copied(comment: str | None, change_id: str) -> str:
    """Return a comment with the mark of a complete copy appended."""
    own = remove_copy_mark(comment) or ""
    mark = f"[ncen-updater copy change={change_id}]"
    return f"{own}\n{mark}" if own else mark


def is_copy_of(comment: str | None, change_id: str) -> bool:
    """Tell whether the comment marks the database as a complete copy of this change."""
    match = _COPY.search(comment or "")
    return match is not None and match["change"] == change_id


def remove_copy_mark(comment: str | None) -> str | None:
    """Return the comment without the mark of a copy; None if nothing is left."""
    return _COPY.sub("", comment or "") or None
