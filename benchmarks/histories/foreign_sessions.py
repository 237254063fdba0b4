"""Other sessions in the databases: users, local programs and a database administrator.

Every record whose commit was acknowledged is added to the ledger, and must exist after the trial.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import random
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.histories.administrator import Administrator
from benchmarks.histories.judge import Record
from demo.databases import DATABASES, PostgresPlace, SqlitePlace

if TYPE_CHECKING:
    import psycopg

    from benchmarks.histories.stage import Stage

SQL = {
    "seizures": "INSERT INTO cases (case_ref, opened_at, office_code, officer, status, summary)"
    " VALUES (%s, '2026-01-01T00:00:00+00:00', 'PORT1', 'stranger', 'open', '0')",
    "suspects": "INSERT INTO persons (person_ref, family_name, workflow_state)"
    " VALUES (%s, 'Stranger', 'new')",
    "companies": "INSERT INTO companies (company_ref, name, country)"
    " VALUES (%s, 'Stranger & Co', 'ZZ')",
}
TABLES = {
    "seizures": "seizures.cases",
    "suspects": "suspects.persons",
    "companies": "companies.companies",
}
EDIT = "UPDATE cases SET summary = %s WHERE case_ref = %s"
NOBODY = 65534
PAUSE_S = 0.12


@dataclass(frozen=True)
class Kind:
    """Kind of foreign session.

    Attributes:
        engine: Database engine to which it applies.
        before: Whether it is connected before the operation begins, so that a refusal may name it.
        excuses: Whether it does something that must or may revert a change.
        holds: Whether its presence alone reverts the change.
        comes: Whether it connects from time to time, so that a refusal may name it as well.
        instants: When it acts: ``stop`` between fence and cut-over, ``new`` between cut-over and
            commit, ``whole`` at any instant; ``quiet`` once or twice from *stop* to the commit,
            ``once`` the same at any instant; empty for no instant.
        weight: Relative frequency.
    """

    engine: str
    before: bool = False
    excuses: bool = False
    holds: bool = False
    comes: bool = False
    instants: str = ""
    weight: float = 1.0


KINDS = {
    "": Kind("both", weight=9),
    "importer short": Kind("postgresql", comes=True, weight=2),
    "importer idle": Kind("postgresql", before=True, weight=2),
    "importer idle, writes": Kind("postgresql", before=True, instants="whole", weight=2),
    "importer in a transaction": Kind("postgresql", before=True),
    "reporter in a transaction": Kind("postgresql", before=True),
    "DBA idle": Kind("postgresql", before=True),
    "DBA idle, writes": Kind("postgresql", before=True, instants="whole"),
    "DBA opens, writes, closes": Kind("postgresql", excuses=True, instants="stop", weight=2),
    "DBA writes after the cut-over": Kind("postgresql", excuses=True, instants="new", weight=2),
    "importer writes after the cut-over": Kind("postgresql", instants="new", weight=2),
    "DBA sets a comment before": Kind("postgresql", weight=0.7),
    "DBA sets a comment": Kind("postgresql", excuses=True, instants="whole"),
    "DBA sits in a copy": Kind("postgresql", excuses=True, instants="stop", weight=0.7),
    "administrator renames": Kind("both", excuses=True, instants="once", weight=2),
    "administrator drops and restores": Kind("both", excuses=True, instants="quiet", weight=2),
    "administrator revokes CONNECT": Kind("postgresql", excuses=True, instants="once"),
    "administrator revokes LOGIN": Kind("postgresql", excuses=True, instants="once"),
    "administrator opens": Kind("both", excuses=True, instants="quiet", weight=1.5),
    "administrator closes": Kind("postgresql", excuses=True, instants="once"),
    "program short": Kind("sqlite", excuses=True, weight=2),
    # While the application runs, it is unknown which process has a file open. So these are detected
    # after it has stopped, and the change reverts.
    "program idle": Kind("sqlite", before=True, holds=True, weight=2),
    "program idle, writes": Kind("sqlite", before=True, holds=True, instants="whole", weight=2),
    "program unseen": Kind("sqlite", before=True, weight=1),
    "program unseen, writes": Kind("sqlite", before=True, excuses=True, instants="stop", weight=3),
    "DBA opens files, writes": Kind("sqlite", excuses=True, instants="stop", weight=3),
    "program writes after the cut-over": Kind("sqlite", excuses=True, instants="new", weight=3),
}
_STOP = ("fence", "final-preflight", "copy", "migrate")
_NEW = ("cut-over", "switch", "start", "health")
_PHASES = ("before-effect", "after-effect", "after-record")
WHOLE = tuple(
    itertools.product(
        (
            "build-slot",
            "preflight",
            "maintenance-on",
            "stop",
            *_STOP,
            *_NEW,
            "commit",
            "maintenance-off",
        ),
        _PHASES,
    )
)
STOP = (
    *(item for item in itertools.product(_STOP, _PHASES) if item != ("fence", "before-effect")),
    ("cut-over", "before-effect"),
)
NEW = (
    *(item for item in itertools.product(_NEW, _PHASES) if item != ("cut-over", "before-effect")),
    ("commit", "before-effect"),
)


#: Users enter nothing at these instants, so a dropped database loses nothing.
QUIET = (("stop", "after-effect"), ("stop", "after-record"), *STOP, *NEW)
ONCE = (*WHOLE, ("maintenance-off", "after-record"), ("soak", "before-effect"))
BACKWARDS = tuple(
    itertools.product(
        ("health", "start", "switch", "cut-over", "migrate", "copy", "fence", "stop"),
        ("before-undo", "after-undo", "after-undo-record"),
    )
)


def instants_of(kind: str, chance: random.Random, *, fails: bool = False) -> list[tuple[str, str]]:
    """Choose the instants at which a foreign session acts.

    Args:
        kind: A name of :data:`KINDS`.
        chance: Makes the choices.
        fails: Whether the operation reverts, so that instants of the revert are included.
    """
    wish = KINDS[kind].instants
    if wish in ("once", "quiet"):
        forwards = ONCE if wish == "once" else QUIET
        line = (*forwards, *(BACKWARDS if fails else ()))
        first = chance.randrange(len(line))
        if fails and chance.random() < 0.4:
            first = chance.randrange(len(forwards), len(line))
        rest = [item for item in line[first + 1 :] if item != line[first]]
        later = [chance.choice(rest)] if rest and chance.random() < 0.3 else []
        return [line[first], *later]
    if wish == "stop":
        return [chance.choice(STOP)]
    if wish == "new":
        return [chance.choice(NEW)]
    return sorted(chance.sample(WHOLE, 3)) if wish else []


class Ledger:
    """Every record whose commit was acknowledged, in that order."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, str], Record] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def key(self) -> str:
        """Return a unique key."""
        with self._lock:
            return f"HX-{next(self._numbers):07d}"

    def add(self, record: Record) -> None:
        """Add a record; a later edit replaces an earlier one."""
        with self._lock:
            self.records[record.place, record.key] = record

    def forget(self, records: tuple[Record, ...]) -> None:
        """Remove records that were lost by consent or are in retained databases."""
        with self._lock:
            for record in records:
                self.records.pop((record.place, record.key), None)

    def clear(self) -> None:
        """Remove all records."""
        with self._lock:
            self.records.clear()

    def all(self) -> list[Record]:
        """Return all current records."""
        with self._lock:
            return list(self.records.values())


class UserTraffic:
    """Users who enter cases through the web server, one after the other."""

    def __init__(self, port: int, ledger: Ledger, seed: str) -> None:
        self._port, self._ledger = port, ledger
        self._chance = random.Random(seed)
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self.acknowledged = 0
        self.last_answer = ""
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> UserTraffic:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(20)

    def _work(self) -> None:
        while not self._ended.wait(PAUSE_S):
            self.enter()

    def enter(self, *categories: str) -> bool:
        """Enter one case; return whether it was acknowledged.

        Args:
            categories: Categories to choose from; older releases do not know ``CULT``.
        """
        with self._lock:
            category = self._chance.choice(categories or ("DRUG", "CITES", "OTH", "CULT"))
            fields = {
                "summary": "entered in a history",
                "category": category,
                "family_name": self._chance.choice(("Иванов", "O'Brien", "王", "D'Ávila")),
                "own_script_name": self._chance.choice((None, "გელაშვილი")),
                "company": "Trial & Cie",
                "from": "ZZ",
            }
        began = time.time()
        reference = self._post(fields)
        if reference is None:
            return False
        now = time.time()
        rows = [
            ("seizures.cases", reference),
            ("suspects.persons", f"P-{reference}"),
            ("companies.companies", f"C-{reference}"),
        ]
        if category == "CULT":
            rows.append(("seizures.cultural_objects", reference))
        for place, key in rows:
            self._ledger.add(Record(place, key, "an officer", began, now))
        self.acknowledged += 1
        return True

    def _post(self, fields: dict[str, Any]) -> str | None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        try:
            words = json.dumps(fields)
            connection.request("POST", "/cases", words, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            content = answer.read()
            if answer.status != 201:
                self.last_answer = f"{answer.status} {content[:200]!r}"
                return None
            return str(json.loads(content)["case_ref"])
        except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
            self.last_answer = repr(error)
            return None  # for the user the case was not saved
        finally:
            connection.close()


class ForeignSessions:
    """The foreign session of one trial: connects, acts at its instants, disconnects.

    Args:
        stage: The site.
        ledger: Receives acknowledged records.
        kind: A name of :data:`KINDS`.
        chance: Chooses databases.
    """

    def __init__(self, stage: Stage, ledger: Ledger, kind: str, chance: random.Random) -> None:
        self._stage, self._ledger, self.kind = stage, ledger, kind
        self._database = chance.choice(DATABASES)
        self._chance = chance
        self._stack = contextlib.ExitStack()
        self._held: psycopg.Connection[Any] | None = None
        self._program: subprocess.Popen[str] | None = None
        self._path = ""
        self._inode = 0
        self.accepted = 0
        self.refused = 0
        self.last_error = ""
        self.acted = kind.endswith("short")
        self.names: tuple[str, ...] = ()
        self.administrator = (
            Administrator(stage, kind.removeprefix("administrator "), chance)
            if kind.startswith("administrator ")
            else None
        )

    # ---- connecting and disconnecting ------------------------------------------------------------

    def come(self) -> None:
        """Connect before the operation begins."""
        place = self._stage.place
        if self.administrator is not None:
            return
        if isinstance(place, SqlitePlace):
            self._path = str(Path(place.address(self._database)).resolve())
            self._inode = Path(self._path).stat().st_ino
            if self.kind.startswith("program"):
                self._start_program()
        elif self.kind:
            self._connect_to_server(place)
        if self.kind.endswith("short"):
            self._repeat(self._write_and_leave)

    def _connect_to_server(self, place: PostgresPlace) -> None:
        role = self.kind.split()[0].replace(",", "")
        user = {"DBA": place.superuser}.get(role, role)
        self.names = (user, "dba" if role == "DBA" else user)
        if KINDS[self.kind].before:
            self._held = self._stack.enter_context(self._connect(user))
            self._held.autocommit = not self.kind.endswith("transaction")
            self._held.execute("SELECT release FROM ncen_release").fetchall()
            if self.kind == "importer in a transaction":
                self._pending = (self._ledger.key(), time.time())
                self._held.execute(SQL[self._database].encode(), (self._pending[0],))
        if self.kind == "DBA sets a comment before":
            self._comment(place)

    def go(self) -> None:
        """Close all sessions and end the program."""
        if self.kind == "importer in a transaction" and self._held is not None:
            with self._accepted(*self._pending):
                self._held.commit()
        with contextlib.suppress(Exception):
            self._stack.close()
        self._held = self._program = None

    def at(self, instant: tuple[str, str]) -> None:
        """Act while the agent is stopped; skip what is impossible at this instant."""
        self.acted = True
        if self.administrator is not None:
            self.administrator.act()
            return
        try:
            self._act()
        except (OSError, ValueError) as error:
            self.refused += 1
            self.last_error = repr(error)

    def _act(self) -> None:
        place = self._stage.place
        if isinstance(place, SqlitePlace):
            self._act_on_files(place)
        elif self.kind in ("importer idle, writes", "DBA idle, writes"):
            self._write_held()
        elif self.kind == "DBA opens, writes, closes":
            self._open_and_close(place)
        elif self.kind.endswith("after the cut-over"):
            user = place.superuser if self.kind.startswith("DBA") else self.kind.split()[0]
            self._write_once(user)
        elif self.kind == "DBA sets a comment":
            self._comment(place)
        elif self.kind == "DBA sits in a copy":
            self._sit_in_a_copy()

    # ---- PostgreSQL ----------------------------------------------------------------------------

    def _connect(self, user: str, database: str | None = None) -> psycopg.Connection[Any]:
        import psycopg

        place = self._stage.place
        assert isinstance(place, PostgresPlace)
        name = database or place.names[self._database]
        who = "dba" if user == place.superuser else user
        return psycopg.connect(
            f"{place.conninfo(name, user)} application_name={who}",
            autocommit=True,
            connect_timeout=3,
            options="-c lock_timeout=1000 -c statement_timeout=3000",
        )

    @contextlib.contextmanager
    def _accepted(self, key: str, began: float) -> Iterator[None]:
        """Add a record to the ledger if its commit was acknowledged; count a refusal."""
        import psycopg

        try:
            yield
        except (psycopg.Error, sqlite3.Error, OSError):
            self.refused += 1
            return
        self.accepted += 1
        who = self.kind.split()[0].strip(",")
        self._ledger.add(Record(TABLES[self._database], key, who, began, time.time()))

    def _write_held(self) -> None:
        if self._held is None:
            return
        key, began = self._ledger.key(), time.time()
        with self._accepted(key, began):
            self._held.execute(SQL[self._database].encode(), (key,))

    def _write_once(self, user: str) -> None:
        key, began = self._ledger.key(), time.time()
        with self._accepted(key, began), self._connect(user) as session:
            session.execute(SQL[self._database].encode(), (key,))

    def _write_and_leave(self) -> None:
        """Connect, write, perhaps edit a record, and disconnect."""
        if not isinstance(self._stage.place, PostgresPlace):
            self._write_file(str(Path(self._stage.place.address(self._database))))
            return
        before = self.accepted
        self._write_once(self.kind.split()[0])
        mine = [r for r in self._ledger.all() if r.by == "importer" and r.place == "seizures.cases"]
        if self.accepted == before or not mine:
            return
        record, began = self._chance.choice(mine), time.time()
        with contextlib.suppress(Exception):
            place = self._stage.place
            with self._connect("importer", place.names["seizures"]) as session:
                number = record.value + 1
                found = session.execute(EDIT.encode(), (str(number), record.key)).rowcount
            if found == 1:
                self._ledger.add(
                    Record(record.place, record.key, record.by, began, time.time(), number)
                )

    def _open_and_close(self, place: PostgresPlace) -> None:
        import psycopg

        from benchmarks.histories.picture import superuser

        name = place.names[self._database]
        with contextlib.suppress(psycopg.Error), superuser(place, "postgres") as session:
            row = session.execute(
                "SELECT datallowconn, datconnlimit FROM pg_database WHERE datname = %s", (name,)
            ).fetchone()
            if row is None:
                return
            session.execute(
                f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true CONNECTION LIMIT 60'.encode()
            )
            self._write_once(place.superuser)
            words = f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS {row[0]} CONNECTION LIMIT {row[1]}'
            session.execute(words.encode())

    def _comment(self, place: PostgresPlace) -> None:
        import psycopg

        from benchmarks.histories.picture import superuser

        with contextlib.suppress(psycopg.Error), superuser(place, "postgres") as session:
            name = place.names[self._database]
            session.execute(f"COMMENT ON DATABASE \"{name}\" IS 'checked by the DBA'".encode())

    def _sit_in_a_copy(self) -> None:
        import psycopg

        copies = [name for name, may in self._stage.list_other_databases().items() if may]
        if copies and self._held is None:
            with contextlib.suppress(psycopg.Error):
                self._held = self._stack.enter_context(
                    self._connect("postgres", self._chance.choice(copies))
                )

    # ---- files ---------------------------------------------------------------------------------

    def _start_program(self) -> None:
        argv = [sys.executable, "-m", "benchmarks.histories.program"]
        if "unseen" in self.kind:
            argv.append(str(NOBODY))
            live = Path(self._path).parent  # the site has granted that user these rights
            live.chmod(live.stat().st_mode | 0o007)
            for file in live.iterdir():
                file.chmod(file.stat().st_mode | 0o006)
        self._program = self._stack.enter_context(
            subprocess.Popen(
                argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                cwd=Path(__file__).parents[2],
            )
        )  # fmt: skip
        self.names = (str(self._program.pid),)
        if KINDS[self.kind].before:
            self._order("open", self._path)

    def _order(self, do: str, path: str, key: str = "") -> None:
        if self._program is None or self._program.stdin is None or self._program.stdout is None:
            return
        order = {"do": do, "path": path, "database": self._database, "key": key}
        self._program.stdin.write(json.dumps(order) + "\n")
        self._program.stdin.flush()
        answer = json.loads(self._program.stdout.readline())
        if answer != "done":
            raise sqlite3.OperationalError(answer)

    def _write_file(self, path: str) -> None:
        """Open, write and close a file; use the program if there is one."""
        key, began = self._ledger.key(), time.time()
        with self._accepted(key, began):
            if self._program is not None:
                self._order("open", path)
                try:
                    self._order("write", path, key)
                finally:
                    self._order("close", path)
                return
            address = f"file:{path}?mode=rw"
            session = sqlite3.connect(address, uri=True, timeout=2)
            with contextlib.closing(session), session:
                session.execute(SQL[self._database].replace("%s", "?"), (key,))

    def _act_on_files(self, place: SqlitePlace) -> None:
        if self.kind.endswith("idle, writes") or self.kind == "program unseen, writes":
            key, began = self._ledger.key(), time.time()
            with self._accepted(key, began):
                self._order("write", self._path, key)
        elif self.kind == "DBA opens files, writes":
            for path in place.directory.rglob(f"{self._database}.sqlite"):
                if path.stat().st_ino == self._inode:  # wherever the live file is now
                    self._write_file(str(path))
                    return
        elif self.kind.endswith("after the cut-over"):
            self._write_file(place.address(self._database))

    def _repeat(self, act: Callable[[], None]) -> None:
        ended = threading.Event()

        def work() -> None:
            while not ended.wait(PAUSE_S):
                act()

        thread = threading.Thread(target=work, daemon=True)
        thread.start()

        def end() -> None:
            ended.set()
            thread.join(20)

        self._stack.callback(end)
