"""Cut-over and its revert: one transaction for all databases, decided from the catalogue."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import psycopg

from ncen_updater.agent.adapters.databases.base import (
    ChangeEvidence,
    ChangeRef,
    DatabaseMarker,
    DatabaseRole,
    LiveDatabase,
)
from ncen_updater.agent.adapters.databases.parallel import run_in_parallel
from ncen_updater.agent.adapters.databases.postgresql import inspection
from ncen_updater.agent.adapters.databases.postgresql.blockers import (
    QuarantinedRows,
    write_quarantined,
)
from ncen_updater.agent.adapters.databases.postgresql.catalogue import (
    DatabaseRow,
    add_marker,
    append_marker,
    apply_all_attributes,
    apply_attributes,
    candidate_name,
    is_committed,
    is_copy_of,
    keep_last_marker,
    mark_committed,
    parse_marker,
    parse_name,
    previous_name,
    quarantine_name,
    read_all_attributes,
    read_attributes,
    read_databases,
    remove_copy_mark,
    remove_last_marker,
    require_database,
)
from ncen_updater.agent.adapters.databases.postgresql.connect_grants import (
    restore_connect,
    restrict_connect,
    take_saved_grants,
)
from ncen_updater.agent.adapters.databases.postgresql.connection import (
    Connection,
    Server,
    execute,
    execute_all,
    quote_identifier,
    quote_literal,
    translate_errors,
)
from ncen_updater.agent.adapters.databases.postgresql.control_database import (
    ControlDatabase,
    CutOverEvent,
    CutOverRecord,
    FenceState,
    find_opened,
    find_opened_in_transaction,
    forget_versions,
    is_commit_recorded,
    open_settled_session,
    read_cut_over_transaction,
    read_fences,
    read_last_event,
    read_recorded_marker,
    record_versions,
)
from ncen_updater.agent.adapters.databases.postgresql.fence import (
    DatabaseFence,
    build_reopen_statement,
    terminate_sessions,
    write_fences,
)
from ncen_updater.agent.adapters.databases.postgresql.sessions import (
    DatabaseSessions,
    flag_foreign_sessions,
)
from ncen_updater.agent.model.errors import DatabaseError, DatabaseUnreachableError, FenceError
from ncen_updater.common.error_sanitizer import sanitize_error
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import (
    ALREADY_COMMITTED,
    CUT_OVER_FAILED,
    DATABASE_UNKNOWN,
    FENCE_BROKEN,
    MARKERS_DISAGREE,
    PREVIOUS_DATABASE_MISSING,
)

logger = logging.getLogger(__name__)

ATTEMPTS = 5
# Time limit for counting rows in the downtime; uncounted databases go into quarantine.
COUNT_TIMEOUT_S = 60.0
UNFENCED = FenceState(allow_connections=True, connection_limit=-1)
#: Events of the renames, without the commit.
SWAPS = (CutOverEvent.CUT_OVER, CutOverEvent.REVERTED)
_RETRIED_ERRORS = (psycopg.errors.ObjectInUse, psycopg.errors.LockNotAvailable)


class CutOver:
    """Cut-over: renames, attributes, comments and the control row, all together or not at all.

    Args:
        server: The server.
        control: The control database.
        fencing: Closes the databases.
        sessions: Opens live databases to count rows.
        names: Logical to physical names.
    """

    def __init__(
        self,
        server: Server,
        control: ControlDatabase,
        fencing: DatabaseFence,
        sessions: DatabaseSessions,
        names: Mapping[str, str],
    ) -> None:
        self._server = server
        self._control = control
        self._fencing = fencing
        self._names = names
        self._sessions = sessions

    def read_last_event(self, change: ChangeRef) -> CutOverRecord | None:
        """Return the last row of the control database about the cut-over of a change."""
        with open_settled_session(self._server) as connection:
            return read_last_event(connection, change.id, SWAPS)

    def cut_over(self, change: ChangeRef) -> None:
        """See :meth:`DatabaseEngine.cut_over`."""
        record = self.read_last_event(change)
        if record is not None and record.event is CutOverEvent.CUT_OVER:
            return
        if change.no_copy:
            # A session that got in meanwhile wrote into databases that stay live, so fence again.
            self._fencing.fence(change)
            self._run_transaction(change, CutOverEvent.CUT_OVER, self._cut_over_without_copy)
            return
        with self._server.open_control_session() as connection:
            _require_no_later_change(read_databases(connection), self._names.values(), change)
        # Do not fence again: a session that got in since the copy may have written rows that it
        # lacks.
        if not self._fencing.is_in_force(change):
            names = ", ".join(self._names.values())
            raise DatabaseError(
                CUT_OVER_FAILED,
                detail=LazyText("opened or replaced since the copy: {names}", {"names": names}),
            )
        self._run_transaction(change, CutOverEvent.CUT_OVER, self._cut_over_copies)

    def check_before_commit(self, change: ChangeRef) -> None:
        """See :meth:`DatabaseEngine.check_before_commit`.

        Verifies that nobody opened the previous databases.
        """
        with open_settled_session(self._server) as connection:
            found = find_opened(connection, self._previous_names(change))
        if found:  # report them by their live names, which administrators know
            names = [
                live for live in self._names.values() if previous_name(live, change.id) in found
            ]
            raise DatabaseError(FENCE_BROKEN, database=", ".join(names))

    def quarantine_written(self, change_id: str) -> bool:
        """Put a change's previous databases into quarantine if somebody opened one of them.

        Rows entered there since the cut-over exist nowhere else.

        Returns:
            Whether they were put into quarantine.
        """
        previous = [previous_name(live, change_id) for live in self._names.values()]
        with self._server.open_control_session() as connection:
            existing = read_databases(connection)
            # A database that is missing was dropped by the agent before a crash.
            if not {*find_opened(connection, previous)} & {*existing}:
                return False
            for name in sorted({*previous} & {*existing}):
                execute(
                    connection, f"ALTER DATABASE {quote_identifier(name)} ALLOW_CONNECTIONS false"
                )
            terminate_sessions(connection, previous, self._server.timeouts.terminate_s)
        with self._control.transaction(lock_s=self._server.timeouts.lock_s) as connection:
            existing = read_databases(connection)
            written = find_opened(connection, previous)
            for live in sorted(self._names.values()):
                name = previous_name(live, change_id)
                if name in existing and existing[name].is_valid:
                    execute(
                        connection, build_rename_statement(name, quarantine_name(live, change_id))
                    )
            forget_versions(connection, previous)
            write_quarantined(connection, change_id, dict.fromkeys(written))
        return True

    def _previous_names(self, change: ChangeRef) -> list[str]:
        return [previous_name(live, change.id) for live in self._names.values()]

    def record_commit(self, change: ChangeRef) -> None:
        """See :meth:`DatabaseEngine.record_commit`: a row and the comments, in one transaction."""
        self._control.create_if_missing()
        with (
            translate_errors(", ".join(self._names.values())),
            self._control.transaction(lock_s=self._server.timeouts.lock_s) as connection,
        ):
            record = read_last_event(connection, change.id)
            found = read_databases(connection)
            rows = [require_database(found, live) for live in sorted(self._names.values())]
            marks = [parse_marker(row.comment) for row in rows]
            # Without a row the control database was lost: the comments are written in the same
            # transaction.
            all_marked = all(mark is not None and mark.change == change.id for mark in marks)
            if not (all_marked if record is None else record.event is not CutOverEvent.REVERTED):
                raise DatabaseError(
                    CUT_OVER_FAILED, detail=LazyText("{id} is not cut over", {"id": change.id})
                )
            self._restore_connect(connection, change, found, known=record is not None)
            execute_all(
                connection,
                (
                    build_comment_statement(row.name, mark_committed(keep_last_marker(row.comment)))
                    for row in rows
                ),
            )
            if record is None or record.event is not CutOverEvent.COMMITTED:
                self._control.write_event(connection, change, CutOverEvent.COMMITTED)

    def _restore_connect(
        self,
        connection: Connection,
        change: ChangeRef,
        found: Mapping[str, DatabaseRow],
        *,
        known: bool,
    ) -> None:
        """Restore the connect grants from before the cut-over."""
        if known or all(is_committed(found[n].comment, change.id) for n in self._names.values()):
            restore_connect(connection, self._names.values())
            return
        # The stored grants were lost with the control database; the previous databases have them,
        # too.
        for live in sorted(self._names.values()):
            previous = previous_name(live, change.id)
            if previous in found:
                grants = read_attributes(connection, previous).grants
                apply_attributes(
                    connection, replace(read_attributes(connection, live), grants=grants), live
                )

    def revert_cut_over(self, change: ChangeRef) -> None:
        """See :meth:`DatabaseEngine.revert_cut_over`."""
        record = self.read_last_event(change)
        if record is None or record.event is CutOverEvent.REVERTED:
            return
        self._control.create_if_missing()
        self._fencing.fence(change)
        if change.no_copy:
            self._run_transaction(change, CutOverEvent.REVERTED, self._revert_without_copy)
            return
        self._run_transaction(
            change,
            CutOverEvent.REVERTED,
            functools.partial(self._revert_copies, self._count_rows_since(change)),
        )

    def _count_rows_since(self, change: ChangeRef) -> QuarantinedRows:
        """Count rows written since the cut-over, by database and table; None if unknown.

        This includes the application's own writes at its start: a row does not record who wrote it.
        """
        with self._server.open_control_session() as connection:
            moment = read_cut_over_transaction(connection, change.id)
        until = time.monotonic() + COUNT_TIMEOUT_S
        with self._sessions.active.track():
            # In parallel: entering a closed database takes longer than most counts.
            found = run_in_parallel(
                {
                    live: functools.partial(self._try_count, name, live, moment, until)
                    for name, live in sorted(self._names.items(), key=lambda item: item[1])
                },
                cancel=self._sessions.active.terminate_all,
            )
        return {live: tables for live, tables in found.items() if tables is None or tables}

    def _try_count(
        self, name: str, live: str, moment: int | None, until: float
    ) -> dict[str, int] | None:
        left = until - time.monotonic()
        if left <= 0:
            return None
        try:
            with self._sessions.open_count_session(
                LiveDatabase(name), statement_s=left, fenced=True
            ) as connection:
                # Record foreign sessions before counting: one that stays may write later, one that
                # left wrote before.
                with self._server.open_control_session() as outside:
                    flag_foreign_sessions(outside, [live])
                return inspection.count_newer_rows(connection, moment, until)
        except DatabaseError as error:
            # An unreadable table, a damaged copy, or one too large to count in the downtime must
            # not block the revert: the database then goes into quarantine. A lost server is
            # reported by the revert itself.
            logger.warning("%s: rows cannot be counted: %s", live, sanitize_error(error))
            return None

    # ---- contents of the transaction -------------------------------------------------------------

    def _cut_over_copies(self, connection: Connection, change: ChangeRef) -> None:
        found = read_databases(connection)
        _require_no_later_change(found, self._names.values(), change)
        fences = read_fences(connection)
        names = sorted(self._names.values())
        # Restore grants revoked by a change that was interrupted before its commit and whose agent
        # did not come back.
        restore_connect(connection, names)
        attributes = read_all_attributes(connection, names)
        statements: list[str] = []
        for live in names:
            candidate, previous = candidate_name(live, change.id), previous_name(live, change.id)
            row = require_database(found, live)
            if not _belongs_to_change(require_database(found, candidate), change):
                raise DatabaseError(
                    CUT_OVER_FAILED,
                    detail=LazyText(
                        "{candidate} is not the original copy", {"candidate": candidate}
                    ),
                )
            if previous in found:
                raise DatabaseError(
                    CUT_OVER_FAILED,
                    detail=LazyText("{path} already exists", {"path": previous}),
                )
            if row.allow_connections or live not in fences:
                raise DatabaseError(
                    CUT_OVER_FAILED,
                    detail=LazyText("{live} was opened or replaced since the copy", {"live": live}),
                )
            fence = fences[live]
            comment = add_marker(row.comment, change)
            # Frozen with its original connection limit, for a later rollback.
            frozen = FenceState(allow_connections=False, connection_limit=fence.connection_limit)
            statements += (
                build_reopen_statement(live, frozen),
                build_rename_statement(live, previous),
                build_rename_statement(candidate, live),
                build_reopen_statement(live, fence),
                build_comment_statement(live, comment),
            )
        execute_all(connection, statements)
        apply_all_attributes(connection, {live: attributes[live] for live in names})
        restrict_connect(connection, change, names, self._server.settings.connect_roles)
        self._require_unopened(connection)
        record_versions(connection, change, self._previous_names(change))

    def _require_unopened(self, connection: Connection) -> None:
        """Refuse if somebody opened a closed database; called after this transaction altered it.

        Raises:
            FENCE_BROKEN: With the names.
        """
        found = find_opened_in_transaction(self._server, connection, self._names.values())
        if found:
            raise DatabaseError(FENCE_BROKEN, database=", ".join(found))

    def _cut_over_without_copy(self, connection: Connection, change: ChangeRef) -> None:
        """Assign the live databases to another release: append its marker to the present one."""
        found = read_databases(connection)
        _require_no_later_change(found, self._names.values(), change)
        fences = read_fences(connection)
        restore_connect(connection, self._names.values())
        for _name, live in sorted(self._names.items()):
            row = require_database(found, live)
            if row.allow_connections or live not in fences:
                raise DatabaseError(
                    CUT_OVER_FAILED,
                    detail=LazyText(
                        "{live} was opened or replaced since it was closed", {"live": live}
                    ),
                )
            execute(connection, build_reopen_statement(live, fences[live]))
            execute(connection, build_comment_statement(live, append_marker(row.comment, change)))
        restrict_connect(
            connection, change, self._names.values(), self._server.settings.connect_roles
        )
        self._require_unopened(connection)

    def _revert_without_copy(self, connection: Connection, change: ChangeRef) -> None:
        """Remove the marker again; rows that the release wrote meanwhile stay."""
        found = read_databases(connection)
        _require_uncommitted(connection, found, self._names.values(), change)
        restore_connect(connection, self._names.values())
        for _name, live in sorted(self._names.items()):
            comment = require_database(found, live).comment
            mark = parse_marker(comment)
            # A marker replaced by somebody's comment is repaired later from the control row.
            if mark is not None and mark.change == change.id:
                execute(connection, build_comment_statement(live, remove_last_marker(comment)))
        record_versions(connection, change, self._names.values())

    def _revert_copies(
        self, counts: QuarantinedRows, connection: Connection, change: ChangeRef
    ) -> None:
        found = read_databases(connection)
        _require_uncommitted(connection, found, self._names.values(), change)
        record = read_last_event(connection, change.id, SWAPS)
        fences = dict(read_fences(connection))
        if record is not None and record.event is CutOverEvent.CUT_OVER:
            fences.update(record.fences)
        for live in sorted(self._names.values()):
            require_database(found, live)
            closed = FenceState(
                allow_connections=False,
                connection_limit=fences.get(live, UNFENCED).connection_limit,
            )
            execute(connection, build_reopen_statement(live, closed))
        # Rows of foreign sessions must not be dropped with the copies.
        entered = dict.fromkeys(
            find_opened_in_transaction(self._server, connection, self._names.values())
        )
        counts = {**entered, **counts}
        name_of = quarantine_name if counts else candidate_name
        # Discard the stored grants: the previous databases have their own.
        take_saved_grants(connection, self._names.values())
        for _name, live in sorted(self._names.items()):
            candidate, previous = name_of(live, change.id), previous_name(live, change.id)
            previous_row = found.get(previous)
            if previous_row is None or not previous_row.is_valid:
                raise DatabaseError(PREVIOUS_DATABASE_MISSING, database=live)
            if candidate in found:
                raise DatabaseError(
                    CUT_OVER_FAILED,
                    detail=LazyText("{path} already exists", {"path": candidate}),
                )
            fence = fences.get(live, UNFENCED)
            closed = FenceState(allow_connections=False, connection_limit=fence.connection_limit)
            execute_all(
                connection,
                (
                    build_rename_statement(live, candidate),
                    build_rename_statement(previous, live),
                    build_reopen_statement(live, closed),
                    build_comment_statement(live, remove_copy_mark(previous_row.comment)),
                ),
            )
            write_fences(connection, change, {live: fence})
        forget_versions(connection, self._previous_names(change))
        record_versions(connection, change, self._names.values())
        if counts:
            write_quarantined(connection, change.id, counts)

    # ---- databases changed by hand ---------------------------------------------------------------

    def rewrite_marker(self, marker: DatabaseMarker) -> tuple[str, ...]:
        """Write the marker into comments that lost it; return the names of these databases."""
        change = ChangeRef(marker.change, marker.generation, marker.release)
        with (
            translate_errors(", ".join(self._names.values())),
            self._control.transaction(lock_s=self._server.timeouts.lock_s) as connection,
        ):
            if read_recorded_marker(connection, self._names.values()) != marker:
                return ()  # another agent was faster, and its marker is newer
            found = read_databases(connection)
            lost = [
                live
                for live in sorted(self._names.values())
                if parse_marker(require_database(found, live).comment) != marker
            ]
            for live in lost:
                comment = add_marker(found[live].comment, change)
                if is_commit_recorded(connection, change.id):
                    comment = mark_committed(comment) or comment
                execute(connection, build_comment_statement(live, comment))
            return tuple(lost)

    def reopen_databases(self) -> None:
        """Restore the connect grants that any change had revoked, and open fenced databases."""
        with (
            translate_errors(", ".join(self._names.values())),
            self._control.transaction(lock_s=self._server.timeouts.lock_s) as connection,
        ):
            restore_connect(connection, self._names.values())
            self._fencing.open(connection)

    def adopt_restored(self, change: ChangeRef, closed_change: ChangeRef | None) -> None:
        """Record that a change installed the live databases as they are, and is committed.

        Args:
            change: The change.
            closed_change: An unfinished change; records of its cut-over are closed as reverted.
        """
        names = sorted(self._names.values())
        with (
            translate_errors(", ".join(names)),
            self._control.transaction(lock_s=self._server.timeouts.lock_s) as connection,
        ):
            found = read_databases(connection)
            for live in names:
                comment = add_marker(require_database(found, live).comment, change)
                execute(connection, build_comment_statement(live, mark_committed(comment)))
            opened = {
                live: FenceState(found[live].allow_connections, found[live].connection_limit)
                for live in names
            }
            if (
                closed_change is not None
                and read_last_event(connection, closed_change.id, SWAPS) is not None
            ):
                self._control.write_event(connection, closed_change, CutOverEvent.REVERTED, opened)
            self._control.write_event(connection, change, CutOverEvent.CUT_OVER, opened)
            self._control.write_event(connection, change, CutOverEvent.COMMITTED, opened)

    # ---- running the transaction -----------------------------------------------------------------

    def _run_transaction(
        self,
        change: ChangeRef,
        event: CutOverEvent,
        write: Callable[[Connection, ChangeRef], None],
    ) -> None:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                self._terminate_all_sessions(change)
                with self._control.transaction(lock_s=self._server.timeouts.lock_s) as connection:
                    begin = time.monotonic()
                    record = read_last_event(connection, change.id, SWAPS)
                    if record is not None and record.event is event:
                        return
                    write(connection, change)
                    self._control.write_event(connection, change, event)
                    if event is CutOverEvent.CUT_OVER:
                        execute(
                            connection,
                            "DELETE FROM public.fences WHERE database = ANY(%s)",
                            [list(self._names.values())],
                        )
                        forget_versions(connection, self._names.values())
            except (*_RETRIED_ERRORS, FenceError) as error:
                if attempt == ATTEMPTS:
                    raise DatabaseError(CUT_OVER_FAILED, detail=sanitize_error(error)) from error
                logger.warning("cut-over, attempt %d: %s", attempt, sanitize_error(error))
            except (psycopg.OperationalError, DatabaseUnreachableError) as error:
                # The answer to COMMIT may have been lost: only the server knows the outcome.
                logger.warning(
                    "lost the connection to the server in the cut-over: %s", sanitize_error(error)
                )
                if self._did_commit(change, event):
                    return
                raise DatabaseUnreachableError(
                    CUT_OVER_FAILED, detail=sanitize_error(error)
                ) from error
            except psycopg.Error as error:
                raise DatabaseError(CUT_OVER_FAILED, detail=sanitize_error(error)) from error
            else:
                seconds = time.monotonic() - begin
                logger.info("databases renamed", extra={"event": event, "seconds": seconds})
                return

    def _terminate_all_sessions(self, change: ChangeRef) -> None:
        databases = [
            name
            for live in self._names.values()
            for name in (live, candidate_name(live, change.id), previous_name(live, change.id))
        ]
        with self._server.open_control_session() as connection:
            terminate_sessions(connection, databases, self._server.timeouts.terminate_s)

    def _did_commit(self, change: ChangeRef, event: CutOverEvent) -> bool:
        deadline = time.monotonic() + self._server.timeouts.recovery_s
        while True:
            try:
                record = self.read_last_event(change)
            except DatabaseError:  # still down, or just going down
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
            else:
                return record is not None and record.event is event


def _belongs_to_change(row: DatabaseRow, change: ChangeRef) -> bool:
    """Tell whether the change made the database: as a copy, or as the live one until its revert."""
    mark = parse_marker(row.comment)
    return is_copy_of(row.comment, change.id) or (mark is not None and mark.change == change.id)


def _require_no_later_change(
    found: Mapping[str, DatabaseRow], live: Iterable[str], change: ChangeRef
) -> None:
    """Refuse if another change was cut over meanwhile: the copies lack its records."""
    marks = [parse_marker(found[name].comment) for name in live if name in found]
    others = [mark.change for mark in marks if mark is not None and is_later(mark, change)]
    if others:
        raise DatabaseError(
            CUT_OVER_FAILED,
            detail=LazyText("change {others} was cut over meanwhile", {"others": others[0]}),
        )


def _require_uncommitted(
    connection: Connection,
    found: Mapping[str, DatabaseRow],
    live: Iterable[str],
    change: ChangeRef,
) -> None:
    comments = [found[name].comment for name in live if name in found]
    marks = [parse_marker(comment) for comment in comments]
    if (
        is_commit_recorded(connection, change.id)
        or any(is_committed(comment, change.id) for comment in comments)
        or any(mark is not None and is_later(mark, change) for mark in marks)
    ):
        raise DatabaseError(ALREADY_COMMITTED, change=change.id)


def build_rename_statement(old: str, new: str) -> str:
    """Return the statement that renames a database."""
    return f"ALTER DATABASE {quote_identifier(old)} RENAME TO {quote_identifier(new)}"


def build_comment_statement(name: str, comment: str | None) -> str:
    """Return the statement that replaces the comment of a database."""
    text = "NULL" if comment is None else quote_literal(comment)
    return f"COMMENT ON DATABASE {quote_identifier(name)} IS {text}"


def describe_live_set(
    names: Mapping[str, str], found: Mapping[str, DatabaseRow], fences: Mapping[str, FenceState]
) -> ChangeEvidence:
    """Return the state of the live databases alone; see :func:`decide_evidence`.

    Only the catalogue decides whether a database is closed: a recorded fence may be outdated.
    """
    live = names.values()
    present = {name: found[name] for name in live if name in found and found[name].is_valid}
    closed = tuple(name for name, row in present.items() if not row.allow_connections)
    return ChangeEvidence(
        is_cut_over=False,
        fenced=bool(closed),
        missing=tuple(name for name in live if name not in present),
        closed=closed,
        fenced_by=tuple(sorted({fences[name].change for name in live if name in fences})),
    )


def decide_evidence(
    change: ChangeRef,
    names: Mapping[str, str],
    databases: Mapping[str, DatabaseRow],
    record: CutOverRecord | None,
) -> ChangeEvidence:
    """Return the state of a change in the databases.

    Args:
        change: The change.
        names: Logical to physical names.
        databases: All databases of the server.
        record: The last event of the change in the control database.
    """
    live = [databases[physical] for physical in names.values() if physical in databases]
    comments = [row.comment for row in live]
    marks = [parse_marker(comment) for comment in comments]
    if record is not None:
        swapped = record.event is not CutOverEvent.REVERTED
    else:
        # The control database is missing: the comments were written in the same transaction.
        swapped = bool(marks) and all(mark and mark.change == change.id for mark in marks)
    return replace(
        describe_live_set(names, databases, {}),
        is_cut_over=swapped,
        candidates=tuple(n for n, p in names.items() if candidate_name(p, change.id) in databases),
        previous=tuple(n for n, p in names.items() if previous_name(p, change.id) in databases),
        # One of the two records is enough: losing the other must not lead to a revert of users'
        # records.
        committed=(record is not None and record.event is CutOverEvent.COMMITTED)
        or any(is_committed(comment, change.id) for comment in comments),
        superseded=any(mark is not None and is_later(mark, change) for mark in marks),
    )


def is_later(mark: DatabaseMarker, change: ChangeRef) -> bool:
    """Tell whether a marker belongs to a later change."""
    return mark.change != change.id and mark.generation >= change.generation


def reconcile_markers(
    names: Mapping[str, str],
    found: Mapping[str, DatabaseRow],
    recorded: DatabaseMarker | None = None,
    read_state: Callable[[str], DatabaseMarker | None] = lambda _name: None,
) -> DatabaseMarker | None:
    """Return the common marker of all live databases; None if they were never cut over.

    A comment is easily lost: any other comment replaces it, and a plain backup does not restore it.
    So if a comment differs, the marker in the control database counts, provided that the state
    inside that database agrees.

    Args:
        names: Logical to physical names.
        found: All databases of the server.
        recorded: The marker in the control database.
        read_state: Reads the state inside a database, by logical name; called if comments differ.

    Raises:
        MARKERS_DISAGREE: If a database is missing or differs.
    """
    marks: dict[str, DatabaseMarker | None] = {}
    for name, physical in names.items():
        row = found.get(physical)
        if not any(database in found for database in names.values()):
            raise DatabaseError(DATABASE_UNKNOWN, database=physical)
        if row is None or not row.is_valid:
            raise DatabaseError(
                MARKERS_DISAGREE,
                reason=LazyText(N_("database {database} not found"), {"database": name}),
            )
        marks[name] = parse_marker(row.comment)
    first = next(iter(marks.values()))
    if set(marks.values()) == {first} and (first is not None or recorded is None):
        return first
    if recorded is not None:
        states = {name: read_state(name) for name in names}
        if all(recorded in (marks[name], states[name]) for name in names):
            return recorded
        # Recreated under the old names, and never cut over since.
        if not any(marks.values()) and not any(
            mark and mark.generation for mark in states.values()
        ):
            return None
    text = "; ".join(f"{name}: {mark or '-'}" for name, mark in marks.items())
    raise DatabaseError(MARKERS_DISAGREE, reason=text)


def list_leftovers(
    names: Mapping[str, str], found: Mapping[str, DatabaseRow]
) -> tuple[tuple[str, DatabaseRole, str], ...]:
    """Return every candidate and previous database.

    Args:
        names: Logical to physical names.
        found: All databases of the server.
    """
    parsed = (parse_name(datname, names) for datname in found)
    return tuple(sorted({item for item in parsed if item is not None}))
