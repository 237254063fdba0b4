"""Stand-in sites of a given size, with a feed, for the benchmarks."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.report import print_line
from demo.databases import DATABASES, PostgresPlace, SiteDatabases, SqlitePlace
from demo.embedded_postgres import EmbeddedPostgres, PostgresBinaries, find_binaries
from demo.release_flow import publish_release
from demo.releases import assemble, declare
from demo.site import DemoSite, SiteOptions
from tests.support.sites import TrialFeed, as_code_only, connect, serve

PHOTO_BYTES = 60_000
# Bytes of a generated case with its related rows and indexes, on PostgreSQL.
CASE_BYTES = 2_800
RECORDS_SHARE = 1 / 3  # the rest is photos, which are generated faster


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Trial:
    """A running site and its size.

    Attributes:
        content_bytes: Requested size, in addition to three empty databases.
        database_bytes: Actual size of the databases.
    """

    site: DemoSite
    feed: TrialFeed
    content_bytes: int
    database_bytes: int


@contextlib.contextmanager
def server(
    major: int | None = None, parent: Path | None = None
) -> Iterator[tuple[EmbeddedPostgres, PostgresBinaries]]:
    """Run a PostgreSQL server with its default settings, fsync included, below ``parent``."""
    found = [b for b in find_binaries() if major is None or b.major == major]
    if not found:
        raise SystemExit(f"no PostgreSQL {major or ''} found: script/bootstrap demo")
    binaries = found[-1]
    with (
        tempfile.TemporaryDirectory(prefix="nu-bench-pg-", dir=parent) as directory,
        EmbeddedPostgres(binaries, Path(directory)) as running,
    ):
        yield running, binaries


@contextlib.contextmanager
def trial_site(
    place: PostgresPlace | None,
    content_bytes: int,
    versions: Sequence[str],
    *,
    records: float = RECORDS_SHARE,
    health_timeout_s: float = 10.0,
    change: Callable[[Path], None] = lambda _: None,
    by_code: bool = False,
    declares: bool = True,
) -> Iterator[Trial]:
    """Lay out a site of 3.2.4 with databases of a given size, and a feed; start the application.

    Args:
        place: Location of the databases; SQLite by default.
        content_bytes: Bytes of records and photos, in addition to three empty databases.
        versions: Releases in the feed.
        records: Share of records; the rest is photos.
        health_timeout_s: Maximum time until the application is healthy.
        change: May add files to the source of each release before it is built.
        by_code: Whether the first of them is 3.2.4 with another number: only the code changes.
        declares: Whether both declare this.
    """
    cases = int(content_bytes * records / CASE_BYTES)
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nu-bench-")))
        feed = TrialFeed(directory)
        named = ["3.2.4", *versions[1:]] if by_code else versions
        sources = [
            assemble(name, directory / "sources" / version)
            for name, version in zip(named, versions, strict=True)
        ]
        if by_code:
            as_code_only(sources[0], versions[0])
            if declares:
                declare(sources[0], 1)
        for source in sources:
            change(source)
        publish_release(feed.directory, sources, feed.keys, _now)
        url = stack.enter_context(serve(feed.directory))
        options = SiteOptions(
            feed_urls=(url,), cases=cases, soak_s=0.0, health_timeout_s=health_timeout_s,
            schema_number=1 if by_code and declares else None,
        )  # fmt: skip
        site = stack.enter_context(DemoSite(directory / "site", place, options))
        connect(site, feed)
        empty = place_size(site.databases, cases)
        _add_photos(site.databases, max(0, content_bytes - empty))
        size = place_size(site.databases, 0)
        print_line(f"{site.databases.kind}: {size / 1e6:.0f} MB, {cases} cases")
        if isinstance(site.databases, PostgresPlace):
            checkpoint(site.databases)
        site.start_app()
        yield Trial(site, feed, content_bytes, size)


def checkpoint(place: PostgresPlace) -> None:
    """Run a checkpoint, so that earlier dirty pages do not affect the measurement."""
    import psycopg

    with psycopg.connect(
        place.conninfo("postgres", place.superuser), autocommit=True
    ) as connection:
        connection.execute("CHECKPOINT")


def place_size(place: SiteDatabases, cases: int) -> int:
    """Return the bytes of all databases; with ``cases``, estimate those of the records only."""
    if cases:
        return cases * CASE_BYTES
    if isinstance(place, SqlitePlace):
        return sum(Path(place.address(name)).stat().st_size for name in DATABASES)
    import psycopg

    total = 0
    with psycopg.connect(place.conninfo("postgres", place.superuser)) as connection:
        for physical in place.names.values():
            row = connection.execute("SELECT pg_database_size(%s)", (physical,)).fetchone()
            total += int(row[0]) if row else 0
    return total


def _add_photos(place: SiteDatabases, size: int) -> None:
    """Add a table of random bytes, a third to each database."""
    count = size // len(DATABASES) // PHOTO_BYTES
    for name in DATABASES:
        if isinstance(place, PostgresPlace):
            _photos_postgres(place, name, count)
        else:
            _photos_sqlite(place, name, count)


def _photos_postgres(place: PostgresPlace, name: str, count: int) -> None:
    import psycopg

    with psycopg.connect(place.address(name), autocommit=True) as connection:
        with connection.transaction():
            connection.execute(
                "CREATE TABLE photo_files (id bigint PRIMARY KEY, content bytea NOT NULL)"
            )
            cursor = connection.cursor()
            with cursor.copy("COPY photo_files FROM STDIN (FORMAT BINARY)") as copy:
                copy.set_types(["int8", "bytea"])
                for number in range(count):
                    copy.write_row((number, os.urandom(PHOTO_BYTES)))
        connection.execute("ANALYZE")


def _photos_sqlite(place: SqlitePlace, name: str, count: int) -> None:
    connection = sqlite3.connect(place.address(name))
    with contextlib.closing(connection), connection:
        connection.execute(
            "CREATE TABLE photo_files (id integer PRIMARY KEY, content blob NOT NULL)"
        )
        connection.executemany(
            "INSERT INTO photo_files VALUES (?, ?)",
            ((number, os.urandom(PHOTO_BYTES)) for number in range(count)),
        )
