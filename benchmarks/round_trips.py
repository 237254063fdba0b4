"""Count database messages and disk writes of each step of an upgrade and of its rollback.

Sessions, messages and synchronous writes do not depend on the load of a machine, so one turn is
enough. A stand-in site on PostgreSQL is upgraded and rolled back with all steps in this process.
Statements that travel together are one message and count once; BEGIN, COMMIT and ROLLBACK TO are
counted as messages only. Milliseconds are only indicative; ``benchmarks.downtime`` measures them.
"""

from __future__ import annotations

import argparse
import contextlib
import sqlite3
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any
from unittest import mock

import psycopg
from packaging.version import Version

from benchmarks.report import finish, print_line
from benchmarks.sites import server, trial_site
from demo.databases import PostgresPlace
from ncen_updater.agent.engine.operations import Operations
from ncen_updater.agent.model.change import DOWNTIME_STEPS, StepName, StepPhase
from ncen_updater.agent.storage.journal import journal_file
from ncen_updater.common.progress import SilentProgress
from tests.support.sites import site_in_process

OLD, NEW = "3.2.4", "3.3.0"
AIMS = {"sessions": 14, "statements": 220, "synchronous_writes": 12}
SHOWN = (*AIMS, "messages", "ms")


class Counts:
    """Counts by step; everything before the end of a step belongs to it."""

    def __init__(self) -> None:
        self.by_step: dict[str, Counter[str]] = defaultdict(Counter)
        self._open: Counter[str] = Counter()
        self._began = time.monotonic()
        self.texts: dict[str, list[str]] = defaultdict(list)
        self._texts: list[str] = []

    def add(self, what: str, text: str = "") -> None:
        """Count one."""
        self._open[what] += 1
        if text:
            self._texts.append(text)

    def end_step(self, step: StepName, phase: StepPhase) -> None:
        """Assign the counts since the previous step to a step that ended."""
        if phase is StepPhase.AFTER_RECORD:
            now = time.monotonic()
            self._open["ms"] = round((now - self._began) * 1000)
            self.by_step[step] += self._open
            self.texts[step] += self._texts
            self._open, self._began, self._texts = Counter(), now, []


@contextlib.contextmanager
def counting(counts: Counts) -> Iterator[None]:
    """Count sessions and messages of libpq, and commits of the journal, during a block."""
    connect: Any = psycopg.Connection.connect.__func__  # type: ignore[attr-defined]
    execute: Any = psycopg.Cursor.execute
    start = journal_file._connect

    def counted_connect(*arguments: object, **options: object) -> object:
        counts.add("sessions", f"-- session {arguments[1]}")
        return connect(*arguments, **options)

    def counted_execute(
        cursor: object, query: object, *arguments: object, **options: object
    ) -> object:
        text = query.decode() if isinstance(query, bytes) else str(query)
        counts.add("messages", text)
        if not text.startswith("ROLLBACK TO"):
            counts.add("statements")
        return execute(cursor, query, *arguments, **options)

    def traced(*arguments: object) -> sqlite3.Connection:
        connection = start(*arguments)  # type: ignore[arg-type]
        connection.set_trace_callback(
            lambda text: counts.add("synchronous_writes") if text == "COMMIT" else None
        )
        return connection

    transaction: Any = psycopg.Connection.transaction

    def counted_transaction(*arguments: object, **options: object) -> object:
        counts.add("messages", "BEGIN")
        counts.add("messages", "COMMIT")
        return transaction(*arguments, **options)

    with (
        mock.patch.object(psycopg.Connection, "connect", classmethod(counted_connect)),
        mock.patch.object(psycopg.Cursor, "execute", counted_execute),
        mock.patch.object(psycopg.Connection, "transaction", counted_transaction),
        mock.patch.object(journal_file, "_connect", traced),
    ):
        yield


def show(title: str, counts: Counts) -> dict[str, dict[str, int]]:
    """Print a table and return it."""
    print_line(title)
    total: Counter[str] = Counter()
    for step, found in counts.by_step.items():
        print_line(f"  {step:18} " + ", ".join(f"{found[name]:4} {name}" for name in SHOWN))
        if step in DOWNTIME_STEPS:
            total += found
    print_line("  in the downtime    " + ", ".join(f"{total[name]:4} {name}" for name in SHOWN))
    return {
        **{step: dict(found) for step, found in counts.by_step.items()},
        "downtime": dict(total),
    }


def measure(
    size: float, postgresql: int | None = None, *, texts: bool = False
) -> dict[str, dict[str, dict[str, int]]]:
    """Upgrade a site and roll it back; return the counts by operation and step.

    Args:
        size: Bytes of content.
        postgresql: Major version of the server.
        texts: Whether each message is printed.
    """
    results = {}
    with server(postgresql) as (running, binaries):
        place = PostgresPlace(str(running.host), prefix="bench_", programs=binaries.directory)
        with trial_site(place, int(size), [NEW], health_timeout_s=20.0) as trial:
            site = site_in_process(trial.site)
            for title in ("upgrade", "rollback"):
                counts = Counts()
                operations = Operations(site, SilentProgress(), checkpoint=counts.end_step)
                with counting(counts):
                    if title == "upgrade":
                        operations.upgrade(Version(NEW))
                    else:
                        operations.rollback()
                results[title] = show(title, counts)
                for step, found in counts.texts.items() if texts else ():
                    for text in found:
                        print_line(f"{title} {step}: {' '.join(text.split())[:150]}")
    return results


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gb", type=float, default=0.003)
    parser.add_argument("--postgresql", type=int, default=17, help="major version of the server")
    parser.add_argument("--texts", action="store_true", help="print each statement")
    chosen = parser.parse_args(arguments)
    results = measure(chosen.gb * 1e9, chosen.postgresql, texts=chosen.texts)
    finish("round trips", {**results, "aims": AIMS})


if __name__ == "__main__":
    main()
