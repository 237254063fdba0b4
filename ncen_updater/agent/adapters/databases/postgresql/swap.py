"""The cut-over and the way back: one transaction for the whole set, decided from the catalogue."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import psycopg

from ncen_updater.agent.adapters.databases.base import ChangeRef, Live, Marker
from ncen_updater.agent.adapters.databases.postgresql import reading
from ncen_updater.agent.adapters.databases.postgresql.blockers import Counts, write_set_aside
from ncen_updater.agent.adapters.databases.postgresql.catalogue import (
    DatabaseRow,
    carry_over,
    committed_comment,
    is_committed,
    is_copy_of,
    kept_name,
    lent_comment,
    live_comment,
    next_name,
    original_comment,
    parse_marker,
    prev_name,
    read_attributes,
    read_databases,
    require,
    returned_comment,
    settled_comment,
)
from ncen_updater.agent.adapters.databases.postgresql.connect_grants import (
    admit_only,
    take_grants,
    unbar,
)
from ncen_updater.agent.adapters.databases.postgresql.connection import (
    Connection,
    Server,
    identifier,
    literal,
    run,
    translated,
)
from ncen_updater.agent.adapters.databases.postgresql.control import (
    Control,
    FenceRecord,
    SwapEvent,
    SwapRecord,
    altered,
    expect,
    forget,
    is_recorded,
    opened,
    read_fences,
    read_moment,
    read_record,
    read_standing,
    settled,
)
from ncen_updater.agent.adapters.databases.postgresql.evidence import is_later
from ncen_updater.agent.adapters.databases.postgresql.fence import (
    Fencing,
    end_sessions,
    restore_statement,
    set_fences,
)
from ncen_updater.agent.adapters.databases.postgresql.sessions import (
    Sessions,
    mark_strangers,
    prepare_visits,
)
from ncen_updater.agent.adapters.databases.side_by_side import side_by_side
from ncen_updater.agent.model.errors import DatabaseError, DatabaseUnreachable, FenceFailed
from ncen_updater.common.database_words import said
from ncen_updater.common.i18n import Text
from ncen_updater.common.messages import (
    CUT_OVER_FAILED,
    DATABASE_OPENED,
    OFFICERS_WERE_IN,
    WAY_BACK_MISSING,
)

logger = logging.getLogger(__name__)

ATTEMPTS = 5
# So long are rows counted while officers wait; what is not counted by then is kept.
COUNT_S = 60.0
OPEN = FenceRecord(allow=True, limit=-1)
#: What is said of the renames themselves, and not of the commit.
SWAPS = (SwapEvent.OVER, SwapEvent.BACK)
_RETRIED = (psycopg.errors.ObjectInUse, psycopg.errors.LockNotAvailable)


class Swap:
    """Renames, attributes, comments and the control row, together or not at all.

    Args:
        server: The server.
        control: The control database.
        fencing: To keep sessions out.
        sessions: Opens live databases to count in them.
        names: Logical to physical names.
    """

    def __init__(
        self,
        server: Server,
        control: Control,
        fencing: Fencing,
        sessions: Sessions,
        names: Mapping[str, str],
    ) -> None:
        self._server = server
        self._control = control
        self._fencing = fencing
        self._names = names
        self._sessions = sessions

    def state(self, change: ChangeRef) -> SwapRecord | None:
        """Return the last row of the control database about the change's swap."""
        with settled(self._server) as connection:
            return read_record(connection, change.id, SWAPS)

    def cut_over(self, change: ChangeRef) -> None:
        """See :meth:`DatabaseEngine.cut_over`."""
        record = self.state(change)
        if record is not None and record.event is SwapEvent.OVER:
            return
        if change.as_is:
            # Whoever got in since wrote into what stays live.
            self._fencing.fence(change)
            self._commit(change, SwapEvent.OVER, self._over_as_is)
            return
        with self._server.facts() as connection:
            _require_earlier(read_databases(connection), self._names.values(), change)
        # Not closed again: whoever got in since the copy may have entered what the copy has not.
        if not self._fencing.stands(change):
            names = ", ".join(self._names.values())
            raise DatabaseError(
                CUT_OVER_FAILED,
                detail=Text("opened or replaced since they were copied: {names}", {"names": names}),
            )
        self._commit(change, SwapEvent.OVER, self._over)

    def before_commit(self, change: ChangeRef) -> None:
        """See :meth:`DatabaseEngine.before_commit`: what was live before is still as it was."""
        with settled(self._server) as connection:
            found = altered(connection, self._previous(change))
        if found:  # people know them by the names that they had
            names = [live for live in self._names.values() if prev_name(live, change.id) in found]
            raise DatabaseError(DATABASE_OPENED, database=", ".join(names))

    def keep_written(self, change_id: str) -> bool:
        """Set aside previous databases that somebody opened; whether it was so.

        What was entered there since the cut-over is nowhere else.
        """
        previous = [prev_name(live, change_id) for live in self._names.values()]
        with self._server.facts() as connection:
            existing = read_databases(connection)
            # One that is not there was dropped by ourselves, before a crash.
            if not {*altered(connection, previous)} & {*existing}:
                return False
            for name in sorted({*previous} & {*existing}):
                run(connection, f"ALTER DATABASE {identifier(name)} ALLOW_CONNECTIONS false")
            end_sessions(connection, previous, self._server.limits.terminate_s)
        with self._control.transaction(lock_s=self._server.limits.lock_s) as connection:
            existing = read_databases(connection)
            written = altered(connection, previous)
            for live in sorted(self._names.values()):
                name = prev_name(live, change_id)
                if name in existing and existing[name].valid:
                    _rename(connection, name, kept_name(live, change_id))
            forget(connection, previous)
            write_set_aside(connection, change_id, dict.fromkeys(written))
        return True

    def _previous(self, change: ChangeRef) -> list[str]:
        return [prev_name(live, change.id) for live in self._names.values()]

    def record_commit(self, change: ChangeRef) -> None:
        """See :meth:`DatabaseEngine.record_commit`: a row and the comments, in one transaction."""
        self._control.ensure()
        with (
            translated(", ".join(self._names.values())),
            self._control.transaction(lock_s=self._server.limits.lock_s) as connection,
        ):
            record = read_record(connection, change.id, SWAPS)
            found = read_databases(connection)
            rows = [require(found, live) for live in sorted(self._names.values())]
            marks = [parse_marker(row.comment) for row in rows]
            # Without a row the control database was lost: the comments were written with it.
            said = all(mark is not None and mark.change == change.id for mark in marks)
            if not (said if record is None else record.event is SwapEvent.OVER):
                raise DatabaseError(
                    CUT_OVER_FAILED, detail=Text("{id} is not cut over", {"id": change.id})
                )
            self._admit_all(connection, change, found, known=record is not None)
            for row in rows:
                _comment(connection, row.name, committed_comment(settled_comment(row.comment)))
            if not is_recorded(connection, change.id):
                self._control.write(connection, change, SwapEvent.COMMITTED)

    def _admit_all(
        self,
        connection: Connection,
        change: ChangeRef,
        found: Mapping[str, DatabaseRow],
        *,
        known: bool,
    ) -> None:
        """Let everybody connect again who could before the cut-over."""
        if known or all(is_committed(found[n].comment, change.id) for n in self._names.values()):
            unbar(connection, self._names.values())
            return
        # What was granted was lost with the control database; what was live before has it, too.
        for live in sorted(self._names.values()):
            previous = prev_name(live, change.id)
            if previous in found:
                grants = read_attributes(connection, previous).grants
                carry_over(
                    connection, replace(read_attributes(connection, live), grants=grants), live
                )

    def cut_back(self, change: ChangeRef) -> None:
        """See :meth:`DatabaseEngine.cut_back`."""
        record = self.state(change)
        if record is None or record.event is SwapEvent.BACK:
            return
        self._fencing.fence(change)
        if change.as_is:
            self._commit(change, SwapEvent.BACK, self._back_as_is)
            return
        self._commit(change, SwapEvent.BACK, functools.partial(self._back, self._younger(change)))

    def _younger(self, change: ChangeRef) -> Counts:
        """Count by database and table what was written since the cut-over; None where unknown.

        The application's own writes at its start are among it: a row does not say who wrote it.
        """
        with self._control.transaction() as connection:
            prepare_visits(connection)
            moment = read_moment(connection, change.id)
        until = time.monotonic() + COUNT_S
        with self._sessions.at_work.begun():
            # To enter a closed database takes longer than most are counted.
            found = side_by_side(
                {
                    live: functools.partial(self._count, name, live, moment, until)
                    for name, live in sorted(self._names.items(), key=lambda item: item[1])
                },
                halt=self._sessions.at_work.end,
            )
        return {live: tables for live, tables in found.items() if tables is None or tables}

    def _count(
        self, name: str, live: str, moment: int | None, until: float
    ) -> dict[str, int] | None:
        left = until - time.monotonic()
        if left <= 0:
            return None
        try:
            with self._sessions.counting(Live(name), statement_s=left, fenced=True) as connection:
                # Who slipped in with us may write once all is counted; who left did it before.
                with self._server.facts() as outside:
                    mark_strangers(outside, [live])
                return reading.younger_by_table(connection, moment, until)
        except DatabaseError as error:
            # A table that we may not read, a copy that is damaged, or one that is too large to
            # be read while officers wait must not keep the site from going back: it is kept.
            # Of a server that is gone the way back itself will hear.
            logger.warning("%s: rows cannot be counted: %s", live, said(error))
            return None

    # ---- inside the transaction ------------------------------------------------------------------

    def _over(self, connection: Connection, change: ChangeRef) -> None:
        found = read_databases(connection)
        _require_earlier(found, self._names.values(), change)
        fences = read_fences(connection)
        for _name, live in sorted(self._names.items()):
            candidate, previous = next_name(live, change.id), prev_name(live, change.id)
            row = require(found, live)
            if not _is_ours(require(found, candidate), change):
                raise DatabaseError(
                    CUT_OVER_FAILED,
                    detail=Text(
                        "{candidate} is not the copy that was made", {"candidate": candidate}
                    ),
                )
            if previous in found:
                raise DatabaseError(
                    CUT_OVER_FAILED,
                    detail=Text("{previous} exists already", {"previous": previous}),
                )
            if row.allow or live not in fences:
                raise DatabaseError(
                    CUT_OVER_FAILED,
                    detail=Text(
                        "{live} was opened or replaced since it was copied", {"live": live}
                    ),
                )
            fence = fences[live]
            # What a change took that was torn before its commit, and whose agent did not come back.
            unbar(connection, [live])
            attributes = read_attributes(connection, live)
            comment = live_comment(found[live].comment, change)
            # Frozen with the limit it had, so that going back finds it as it was.
            frozen = FenceRecord(allow=False, limit=fence.limit)
            run(connection, restore_statement(live, frozen))
            _rename(connection, live, previous)
            _rename(connection, candidate, live)
            carry_over(connection, attributes, live)
            run(connection, restore_statement(live, fence))
            admit_only(connection, change, live, self._server.settings.admitted)
            _comment(connection, live, comment)
        self._require_untouched(connection)
        expect(connection, change, self._previous(change))

    def _require_untouched(self, connection: Connection) -> None:
        """Refuse where somebody opened what was closed; after this transaction altered it.

        Raises:
            DatabaseOpened: With the names.
        """
        found = opened(self._server, connection, self._names.values())
        if found:
            raise DatabaseError(DATABASE_OPENED, database=", ".join(found))

    def _over_as_is(self, connection: Connection, change: ChangeRef) -> None:
        """Give the live databases to another release: the marker, behind the one of before."""
        found = read_databases(connection)
        _require_earlier(found, self._names.values(), change)
        fences = read_fences(connection)
        unbar(connection, self._names.values())
        for _name, live in sorted(self._names.items()):
            row = require(found, live)
            if row.allow or live not in fences:
                raise DatabaseError(
                    CUT_OVER_FAILED,
                    detail=Text(
                        "{live} was opened or replaced since it was closed", {"live": live}
                    ),
                )
            run(connection, restore_statement(live, fences[live]))
            admit_only(connection, change, live, self._server.settings.admitted)
            _comment(connection, live, lent_comment(row.comment, change))
        self._require_untouched(connection)

    def _back_as_is(self, connection: Connection, change: ChangeRef) -> None:
        """Take the marker away again; what the release wrote meanwhile stays where it is."""
        found = read_databases(connection)
        _require_uncommitted(connection, found, self._names.values(), change)
        unbar(connection, self._names.values())
        for _name, live in sorted(self._names.items()):
            comment = require(found, live).comment
            mark = parse_marker(comment)
            # One that somebody's own comment replaced is healed from what the control row says.
            if mark is not None and mark.change == change.id:
                _comment(connection, live, returned_comment(comment))
        expect(connection, change, self._names.values())

    def _back(self, counts: Counts, connection: Connection, change: ChangeRef) -> None:
        found = read_databases(connection)
        _require_uncommitted(connection, found, self._names.values(), change)
        record = read_record(connection, change.id, SWAPS)
        fences = dict(read_fences(connection))
        if record is not None and record.event is SwapEvent.OVER:
            fences.update(record.fences)
        for live in sorted(self._names.values()):
            require(found, live)
            closed = FenceRecord(allow=False, limit=fences.get(live, OPEN).limit)
            run(connection, restore_statement(live, closed))
        # What somebody wrote who is not the change must not be dropped with its copies.
        entered = dict.fromkeys(opened(self._server, connection, self._names.values()))
        counts = {**entered, **counts}
        name_of = kept_name if counts else next_name
        for live in self._names.values():  # goes with the set; what was live has its own
            take_grants(connection, live)
        for _name, live in sorted(self._names.items()):
            candidate, previous = name_of(live, change.id), prev_name(live, change.id)
            kept = found.get(previous)
            if kept is None or not kept.valid:
                raise DatabaseError(WAY_BACK_MISSING, database=live)
            if candidate in found:
                raise DatabaseError(
                    CUT_OVER_FAILED,
                    detail=Text("{candidate} exists already", {"candidate": candidate}),
                )
            fence = fences.get(live, OPEN)
            _rename(connection, live, candidate)
            _rename(connection, previous, live)
            run(connection, restore_statement(live, FenceRecord(allow=False, limit=fence.limit)))
            _comment(connection, live, original_comment(kept.comment))
            set_fences(connection, change, {live: fence})
        forget(connection, self._previous(change))
        expect(connection, change, self._names.values())
        if counts:
            write_set_aside(connection, change.id, counts)

    # ---- what people did by hand -----------------------------------------------------------------

    def mark_again(self, standing: Marker) -> tuple[str, ...]:
        """Write the marker into comments that lost it; return the names of these databases."""
        change = ChangeRef(standing.change, standing.generation, standing.release)
        with (
            translated(", ".join(self._names.values())),
            self._control.transaction(lock_s=self._server.limits.lock_s) as connection,
        ):
            if read_standing(connection, self._names.values()) != standing:
                return ()  # another agent was faster, and its marker is newer
            found = read_databases(connection)
            lost = [
                live
                for live in sorted(self._names.values())
                if parse_marker(require(found, live).comment) != standing
            ]
            for live in lost:
                comment = live_comment(found[live].comment, change)
                over = is_recorded(connection, change.id)
                _comment(connection, live, committed_comment(comment) if over else comment)
            return tuple(lost)

    def reopen(self) -> None:
        """Let sessions in whatever change had barred them, as they were let in before."""
        with (
            translated(", ".join(self._names.values())),
            self._control.transaction(lock_s=self._server.limits.lock_s) as connection,
        ):
            unbar(connection, self._names.values())
            self._fencing.open(connection)

    def take_as(self, change: ChangeRef, closes: ChangeRef | None) -> None:
        """Say of the live databases, as they are, that a change brought them and is committed.

        Args:
            change: That change.
            closes: One that had begun with the databases and never came to its end.
        """
        names = sorted(self._names.values())
        with (
            translated(", ".join(names)),
            self._control.transaction(lock_s=self._server.limits.lock_s) as connection,
        ):
            found = read_databases(connection)
            for live in names:
                comment = live_comment(require(found, live).comment, change)
                _comment(connection, live, committed_comment(comment))
            opened = {live: FenceRecord(found[live].allow, found[live].limit) for live in names}
            if closes is not None and read_record(connection, closes.id, SWAPS) is not None:
                self._control.write(connection, closes, SwapEvent.BACK, opened)
            self._control.write(connection, change, SwapEvent.OVER, opened)
            self._control.write(connection, change, SwapEvent.COMMITTED, opened)

    # ---- around it -------------------------------------------------------------------------------

    def _commit(
        self,
        change: ChangeRef,
        event: SwapEvent,
        act: Callable[[Connection, ChangeRef], None],
    ) -> None:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                self._end_all(change)
                with self._control.transaction(lock_s=self._server.limits.lock_s) as connection:
                    begin = time.monotonic()
                    record = read_record(connection, change.id, SWAPS)
                    if record is not None and record.event is event:
                        return
                    act(connection, change)
                    self._control.write(connection, change, event)
                    if event is SwapEvent.OVER:
                        run(
                            connection,
                            "DELETE FROM public.fences WHERE database = ANY(%s)",
                            [list(self._names.values())],
                        )
                        forget(connection, self._names.values())
            except (*_RETRIED, FenceFailed) as error:
                if attempt == ATTEMPTS:
                    raise DatabaseError(CUT_OVER_FAILED, detail=said(error)) from error
                logger.warning("cut-over, attempt %d: %s", attempt, said(error))
            except (psycopg.OperationalError, DatabaseUnreachable) as error:
                # The answer to COMMIT may have been lost: only the server knows.
                logger.warning("the server went away in the cut-over: %s", said(error))
                if self._came_true(change, event):
                    return
                raise DatabaseUnreachable(CUT_OVER_FAILED, detail=said(error)) from error
            except psycopg.Error as error:
                raise DatabaseError(CUT_OVER_FAILED, detail=said(error)) from error
            else:
                seconds = time.monotonic() - begin
                logger.info("databases renamed", extra={"event": event, "seconds": seconds})
                return

    def _end_all(self, change: ChangeRef) -> None:
        databases = [
            name
            for live in self._names.values()
            for name in (live, next_name(live, change.id), prev_name(live, change.id))
        ]
        with self._server.facts() as connection:
            end_sessions(connection, databases, self._server.limits.terminate_s)

    def _came_true(self, change: ChangeRef, event: SwapEvent) -> bool:
        deadline = time.monotonic() + self._server.limits.recover_s
        while True:
            try:
                record = self.state(change)
            except DatabaseError:  # not up yet, or just going down
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
            else:
                return record is not None and record.event is event


def _is_ours(row: DatabaseRow, change: ChangeRef) -> bool:
    """Whether the change made it: as a copy, or as what was live until the way back."""
    mark = parse_marker(row.comment)
    return is_copy_of(row.comment, change.id) or (mark is not None and mark.change == change.id)


def _require_earlier(
    found: Mapping[str, DatabaseRow], live: Iterable[str], change: ChangeRef
) -> None:
    """Refuse where another change came first: its records are not in our copies."""
    marks = [parse_marker(found[name].comment) for name in live if name in found]
    others = [mark.change for mark in marks if mark is not None and is_later(mark, change)]
    if others:
        raise DatabaseError(
            CUT_OVER_FAILED,
            detail=Text("the change {others} was cut over meanwhile", {"others": others[0]}),
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
        is_recorded(connection, change.id)
        or any(is_committed(comment, change.id) for comment in comments)
        or any(mark is not None and is_later(mark, change) for mark in marks)
    ):
        raise DatabaseError(OFFICERS_WERE_IN, change=change.id)


def _rename(connection: Connection, old: str, new: str) -> None:
    run(connection, f"ALTER DATABASE {identifier(old)} RENAME TO {identifier(new)}")


def _comment(connection: Connection, name: str, comment: str | None) -> None:
    text = "NULL" if comment is None else literal(comment)
    run(connection, f"COMMENT ON DATABASE {identifier(name)} IS {text}")
