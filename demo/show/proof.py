"""Proof of the promises from the databases, the files and the users' log.

A row is identified by a digest of the columns that 3.2.4 has, even if a later release renames them,
so that a record is recognised before and after an upgrade.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from demo.databases import PostgresPlace, SiteDatabases
from demo.evidence import SiteVersion, case_references, select
from demo.records import COLUMNS
from demo.site import DemoSite, version_of
from demo.traffic import acknowledged
from ncen_updater.common.i18n import N_, LazyText

KnownRows = Mapping[str, Counter[str]]

# Columns of 3.2.4 that a later release renames: the CITES class of offences.
LATER_NAMES = {"cites_class": "cites_class_former"}
OFFICERS_WAIT_S = 60.0


@dataclass(frozen=True)
class Proof:
    """Findings.

    Attributes:
        version: Version of each part of the site.
        old_rows: Number of old rows that were compared.
        entered: Number of records that the application had acknowledged to users.
        broken: Descriptions of the broken promises.
    """

    version: SiteVersion
    old_rows: int
    entered: int
    broken: tuple[LazyText, ...]


def read_rows(place: SiteDatabases) -> KnownRows:
    """Compute the digest of every row, by ``database.table``."""
    found: dict[str, Counter[str]] = {}
    for database, tables in COLUMNS.items():
        for table, names in tables.items():
            there = _columns(place, database, table)
            wanted = [name if name in there else LATER_NAMES.get(name, name) for name in names]
            found[f"{database}.{table}"] = Counter(_digests(place, database, table, wanted))
    return found


def lost_rows(before: KnownRows, after: KnownRows) -> dict[str, int]:
    """Count, by table, the old rows that are missing or changed."""
    lost = {table: (known - after[table]).total() for table, known in before.items()}
    return {table: count for table, count in lost.items() if count}


def prove(site: DemoSite, old: KnownRows, expected: str) -> Proof:
    """Check that all parts of the site have one version and that no record is missing.

    Args:
        site: The site.
        old: Rows that must exist unchanged.
        expected: Expected version.
    """
    broken = []
    # Read the log before the databases, so that each acknowledged record in it must be found.
    entered = acknowledged(site.traffic_log) if site.traffic_log.exists() else ()
    version = version_of(site)
    if version.whole is None:
        broken.append(LazyText(N_("Code and databases do not match: {parts}"), {"parts": version}))
    elif version.whole != expected or version.reported != expected:
        values = {"expected": expected, "found": version.whole, "reported": version.reported}
        broken.append(
            LazyText(N_("expected {expected}; installed {found}, running {reported}"), values)
        )
    for table, count in lost_rows(old, read_rows(site.databases)).items():
        lost: dict[str, object] = {"count": count, "table": table}
        broken.append(
            LazyText(
                N_("{count} old rows of {table} are lost or changed"),
                lost,
            )
        )
    for database, known in case_references(site.databases).items():
        missing = [reference for reference in entered if reference not in known]
        if missing:
            gone: dict[str, object] = {
                "count": len(missing), "database": database, "first": missing[0],
            }  # fmt: skip
            broken.append(
                LazyText(N_("{count} confirmed records are missing from {database}: {first}"), gone)
            )
    total = sum(counter.total() for counter in old.values())
    return Proof(version, total, len(entered), tuple(broken))


def refused_seconds(log: Path, since_wall: float) -> float:
    """Return the seconds since a time in which users were refused, measured by the users."""
    total = 0.0
    for line in log.read_bytes().split(b"\n")[:-1]:
        entry = json.loads(line)
        if "outage_s" in entry and float(entry["to_wall"]) >= since_wall:
            total += float(entry["outage_s"])
    return total


def wait_for_users(site: DemoSite) -> bool:
    """Wait until another record is accepted; return False after a minute without one."""
    begin = time.time()
    deadline = time.monotonic() + OFFICERS_WAIT_S
    while time.monotonic() < deadline:
        if _last_accepted(site.traffic_log) > begin:
            return True
        time.sleep(0.05)
    return False


def directory_digest(directory: Path) -> str:
    """Return the digest of all files in a directory with their names; a missing one is empty."""
    digest = hashlib.sha256()
    for path in sorted(directory.rglob("*")):
        if path.is_file():
            digest.update(f"{path.relative_to(directory)}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _last_accepted(log: Path) -> float:
    if not log.exists():
        return 0.0
    for line in reversed(log.read_bytes().split(b"\n")[:-1]):
        entry = json.loads(line)
        if "case_ref" in entry:
            return float(entry["wall"])
    return 0.0


def _columns(place: SiteDatabases, database: str, table: str) -> set[str]:
    if isinstance(place, PostgresPlace):
        query = (
            "SELECT column_name::text FROM information_schema.columns"  # noqa: S608 - our names
            f" WHERE table_schema = 'public' AND table_name = '{table}'"
        )
    else:
        query = f"SELECT name FROM pragma_table_info('{table}')"  # noqa: S608 - our names
    return {str(name) for (name,) in select(place, database, query)}


def _digests(place: SiteDatabases, database: str, table: str, names: list[str]) -> list[str]:
    columns = ", ".join(names)
    if isinstance(place, PostgresPlace):
        query = f"SELECT md5(ROW({columns})::text) FROM public.{table}"  # noqa: S608 - our names
        return [str(digest) for (digest,) in select(place, database, query)]
    query = f"SELECT {columns} FROM {table}"  # noqa: S608 - our names
    return [
        hashlib.sha256(repr(row).encode()).hexdigest() for row in select(place, database, query)
    ]
