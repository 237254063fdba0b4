"""Downtime of the guide's four applications, compared with the procedure in their own documents.

The applications of ``docs/examples`` (Django; Alembic with a worker and a scheduler; Java with
Tomcat; a container image) run in turn on a PostgreSQL server with default settings. By hand: stop,
``pg_dump -Fc``, install (for an image: copy and load), migrate and start, until the application
reports that it is healthy. An administrator may also install into a separate directory before the
stop, so there are two ratios. The agent upgrades in two modes: with database copies, and with
migrations before the stop (``expand``), which the older version of each application tolerates. The
records are counted before and after.

Rows contain realistic words, because a dump compresses uniform rows to almost nothing.
``dump_ratio`` is the compression ratio of ``pg_dump -Fc``.

Runs as an unprivileged user: as root, the agent would run migrators as another user.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import psycopg
from psycopg import sql

from benchmarks.report import compile_as_installed, finish, median, print_line
from demo.embedded_postgres import EmbeddedPostgres
from tests.examples.building import CONTAINER, EXAMPLES, OLD, Example, interpreter, release
from tests.examples.desk import HOST, Desk, at_loopback
from tests.support.trees import remove_tree

AIMS = {"50 MB": 0.8, "1000 MB": 0.5}
#: Table, and SQL that fills one row of about 200 bytes.
ROWS = {
    "django": ("seizures_seizure", "what, entered", "words, now()"),
    "alembic": ("permits", "holder, issued", "words, 1"),
    "tomcat": ("vessels", "name", "words"),
    "container": ("parcels", "contents", "words"),
}
ROW_BYTES = 190
TEXTS, TEXT_CHARACTERS = 20_000, 128  # more than the window of a compressor
#: Modes: with copies, or with migrations before the downtime.
WAYS = {"copies": False, "expand": True}


def _texts() -> list[str]:
    """Return texts of invented words with the word frequencies of a language."""
    chance = random.Random(26)
    syllables = [a + b for a in "bcdfglmnprstv" for b in ("a", "e", "i", "o", "u", "an", "er")]
    words = ["".join(chance.choices(syllables, k=chance.randint(1, 4))) for _ in range(3_000)]
    often = [1 / place for place in range(1, len(words) + 1)]
    return [" ".join(chance.choices(words, often, k=40))[:TEXT_CHARACTERS] for _ in range(TEXTS)]


def _fill(desk: Desk, megabytes: int) -> int:
    """Insert rows by SQL; return their number."""
    table, columns, values = ROWS[desk.example.name]
    count = megabytes * 1_000_000 // ROW_BYTES
    with _database(desk) as session:
        session.execute("CREATE TEMPORARY TABLE texts (number integer, words text)")
        with session.cursor().copy("COPY texts FROM STDIN") as copy:
            for row in enumerate(_texts()):
                copy.write_row(row)
        words = (
            f"INSERT INTO {{}} ({columns}) SELECT {values} FROM generate_series(1, %s) i"
            " JOIN texts ON number = i %% %s ORDER BY i"
        )
        session.execute(sql.SQL(words).format(sql.Identifier(table)), (count, TEXTS))
        session.execute("ANALYZE")
        session.execute("CHECKPOINT")
    return _count(desk)


def _count(desk: Desk) -> int:
    table = sql.Identifier(ROWS[desk.example.name][0])
    with _database(desk) as session:
        for (count,) in session.execute(sql.SQL("SELECT count(*) FROM {}").format(table)):
            return int(str(count))
    raise LookupError(desk.example.name)


def _database(desk: Desk) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(desk.server.conninfo(desk.example.product), autocommit=True)


@contextlib.contextmanager
def _at_work(
    example: Example, server: EmbeddedPostgres, place: Path, old: Path, megabytes: int
) -> Iterator[tuple[Desk, int]]:
    """Provide a running site of the older release, and its number of records."""
    tools = place / "tools"
    tools.mkdir(parents=True)
    (tools / "python3").symlink_to(interpreter())
    desk = Desk(example, server, place / "site", tools)
    try:
        desk.install(old)
        yield desk, _fill(desk, megabytes)
    finally:
        desk.drop()


def _by_agent(desk: Desk, releases: tuple[Path, Path], place: Path) -> float:
    """Upgrade with the agent; return the downtime that the journal records, in seconds."""
    with desk.followed(releases, place):
        desk.agent("adopt", OLD)
        desk.agent("check")
        desk.agent("upgrade", desk.example.release, "--yes")
        (change,) = json.loads(desk.agent("history", "--json"))["changes"]
    return float(change["downtime_s"])


def _by_hand(desk: Desk, new: Path, place: Path) -> tuple[float, float, int]:
    """Upgrade by hand; return seconds of downtime and installation, and bytes of the dump."""
    product = desk.example.product
    install_s = _timed(lambda: _install(desk, new, place / "new"))
    begin = time.monotonic()
    desk.control("stop")
    subprocess.run(
        [desk.server.binaries.program("pg_dump"), "-h", HOST, "-p", str(desk.server.port),
         "-U", desk.server.user, "-Fc", "-f", place / "dump", product],
        check=True,
    )  # fmt: skip
    desk.migrate(new, product)
    desk.control("start", new)
    downtime_s = time.monotonic() - begin
    assert desk.version() == "2.0"
    return downtime_s, install_s, (place / "dump").stat().st_size


def _install(desk: Desk, new: Path, place: Path) -> None:
    """Install as in the application's own documents: pip with a warm cache, or copy and load."""
    requirements = desk.example.sources / "requirements.txt"
    if requirements.exists():
        words = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
                 "--target", str(place), "--require-hashes", "--only-binary", ":all:",
                 "-r", str(requirements)]  # fmt: skip
        subprocess.run(words, check=True)
    else:
        shutil.copytree(new, place)
        if desk.example is CONTAINER:
            desk.program(new, "bin/parcels", "load")


def _timed(work: Callable[[], None]) -> float:
    begin = time.monotonic()
    work()
    return time.monotonic() - begin


def _lines(path: Path) -> int:
    """Count the lines that are neither blank nor comments."""
    lines = path.read_text("utf-8").splitlines()
    return sum(bool(line.strip()) and not line.lstrip().startswith("#") for line in lines)


def _measure(
    example: Example, server: EmbeddedPostgres, place: Path, megabytes: int, turns: int
) -> dict[str, object]:
    seconds: dict[str, list[float]] = {**{way: [] for way in WAYS}, "hand": [], "install": []}
    built = {
        way: tuple(
            release(replace(example, expands=expands), version, place / way, whole=True)
            for version in (OLD, example.release)
        )
        for way, expands in WAYS.items()
    }
    for turn in range(turns):
        there = place / str(turn)
        for way, (old, new) in built.items():
            with _at_work(example, server, there / way, old, megabytes) as (desk, count):
                seconds[way].append(_by_agent(desk, (old, new), there / way))
                assert (desk.version(), _count(desk)) == ("2.0", count)
        with _at_work(example, server, there / "hand", old, megabytes) as (desk, count):
            with _database(desk) as session:
                found = session.execute("SELECT pg_database_size(current_database())").fetchone()
            downtime_s, install_s, dump = _by_hand(desk, new, there)
            seconds["hand"].append(downtime_s)
            seconds["install"].append(install_s)
            assert _count(desk) == count
        print_line(f"  {example.name}, turn {turn + 1}: "
            + ", ".join(f"{name} {all_s[-1]:.2f}" for name, all_s in seconds.items()))  # fmt: skip
        remove_tree(there)
    middle = {name: median(all_s) for name, all_s in seconds.items()}
    whole = middle["hand"] + middle["install"]
    return {
        "records": count,
        "seconds": middle,
        "dump_ratio": round(dump / int(str(found[0])), 2) if found else None,
        "ratio_install_outside": {w: round(middle[w] / middle["hand"], 2) for w in WAYS},
        "ratio_install_inside": {w: round(middle[w] / whole, 2) for w in WAYS},
        "all_s": {name: [round(s, 2) for s in all_s] for name, all_s in seconds.items()},
        "lines": {
            "manifest": _lines(new / "manifest.toml"),
            "of_them_by_hand": _lines(example.sources / "checks.toml"),
            "settings": _lines(example.sources / "agent.toml"),
            "control": _lines(example.control),
        },
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="0,50,1000", help="MB of records, with commas")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--only", default="", help="names of examples, with commas")
    chosen = parser.parse_args(arguments)
    if os.geteuid() == 0:
        raise SystemExit("root runs no migrator as itself: .ci/as-user COMMAND")
    compile_as_installed()
    results: dict[str, object] = {}
    wanted = [e for e in EXAMPLES if not chosen.only or e.name in chosen.only.split(",")]
    for megabytes in map(int, chosen.sizes.split(",")):
        for example in wanted:
            with (
                tempfile.TemporaryDirectory(prefix="nu-bench-") as directory,
                at_loopback(()) as server,
            ):
                found = _measure(example, server, Path(directory), megabytes, chosen.turns)
            results[f"{example.name}, {megabytes} MB"] = found
            print_line(json.dumps(found))
    finish("applications", {"turns": chosen.turns, "results": results, "aims": AIMS})


if __name__ == "__main__":
    main()
