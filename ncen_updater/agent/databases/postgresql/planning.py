"""How each database will be copied: names, object ids and methods. All pure."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from ncen_updater.agent.databases.base import ChangeRef, CopyPlan
from ncen_updater.agent.databases.postgresql.naming import next_name, prev_name
from ncen_updater.agent.databases.postgresql.quoting import identifier

# Above what servers hand out in years, so that a retry does not meet a number in use.
FIRST_OID = 3_000_000_000
LAST_OID = 4_200_000_000
# Measured: WAL_LOG wins below 0.2 to 0.5 GB, where the two checkpoints of FILE_COPY cost more.
FILE_COPY_FROM_BYTES = 300_000_000


@dataclass(frozen=True)
class DatabaseCopy:
    """One database of a plan.

    Attributes:
        oid: Object id of the target; 0 where the server cannot be told (14).
        method: ``clone``, ``file-copy``, ``wal-log`` or ``template`` (14).
    """

    name: str
    source: str
    target: str
    oid: int
    method: str
    size_bytes: int


def choose_method(major: int, size_bytes: int, wanted: str, *, clone: bool = False) -> str:
    """Return how a database of a size is copied.

    Args:
        major: Version of the server.
        size_bytes: Bytes on the disk.
        wanted: The setting ``copy_method``.
        clone: Whether the copy can share its blocks with the original.
    """
    if major < 15:
        return "template"
    if wanted != "auto":
        return wanted
    if clone:  # takes as long for every size
        return "clone"
    return "file-copy" if size_bytes >= FILE_COPY_FROM_BYTES else "wal-log"


def choose_oid(change_id: str, name: str, taken: Collection[int]) -> int:
    """Return a free object id that depends on the change alone, so that it can be foretold."""
    digest = hashlib.sha256(f"{change_id}/{name}".encode()).digest()
    oid = FIRST_OID + int.from_bytes(digest[:8], "big") % (LAST_OID - FIRST_OID)
    while oid in taken:
        oid += 1
    return oid


def make_plan(
    change: ChangeRef,
    names: Mapping[str, str],
    sizes: Mapping[str, int],
    taken: Collection[int],
    major: int,
    *,
    wanted: str,
    clone: Collection[str] = (),
) -> CopyPlan:
    """Return the plan of a change.

    Args:
        change: The change.
        names: Logical to physical names.
        sizes: Bytes of each source, by logical name.
        taken: Object ids in use, in the catalogue and on the disk.
        major: Version of the server.
        wanted: The setting ``copy_method``.
        clone: Logical names whose copies can share blocks with their originals.
    """
    busy = set(taken)
    data: dict[str, Mapping[str, object]] = {}
    for name, physical in names.items():
        oid = 0 if major < 15 else choose_oid(change.id, name, busy)
        busy.add(oid)
        data[name] = {
            "source": prev_name(physical, change.source) if change.source else physical,
            "target": next_name(physical, change.id),
            "oid": oid,
            "method": choose_method(major, sizes[name], wanted, clone=name in clone),
            "size_bytes": sizes[name],
        }
    return CopyPlan(data)


def copies(plan: CopyPlan) -> tuple[DatabaseCopy, ...]:
    """Return the plan's databases as objects, in its order."""
    return tuple(
        DatabaseCopy(
            name=name,
            source=str(item["source"]),
            target=str(item["target"]),
            oid=int(str(item["oid"])),
            method=str(item["method"]),
            size_bytes=int(str(item["size_bytes"])),
        )
        for name, item in plan.data.items()
    )


def create_statement(copy: DatabaseCopy, owner: str) -> str:
    """Return the CREATE DATABASE of a copy: closed from its first moment.

    Encoding, locale and tablespace are the template's by default.
    """
    parts = [
        f"CREATE DATABASE {identifier(copy.target)} WITH TEMPLATE {identifier(copy.source)}",
        f"OWNER {identifier(owner)} ALLOW_CONNECTIONS false",
    ]
    if copy.oid:
        parts.append(f"OID {copy.oid}")
    if copy.method in ("clone", "file-copy", "wal-log"):
        strategy = "file-copy" if copy.method == "clone" else copy.method
        parts.append(f"STRATEGY {strategy.replace('-', '_')}")
    return " ".join(parts)
