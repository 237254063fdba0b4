"""Who is at the other end of a connection within this machine, as the kernel knows it.

Every user of a machine can connect to a port of its loopback. The kernel lists to whom each of
these sockets belongs: ``/proc/net/tcp``, proc(5). What comes through SSH belongs to the person who
logged in, for its process became that person.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address
from pathlib import Path

__all__ = ["allowed_users", "owner_of", "tells_owners"]

#: A socket of IPv6 may reach one of IPv4, too.
TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_MAPPED = "0000000000000000FFFF0000"


def tells_owners() -> bool:
    """Whether the kernel says whose a connection is."""
    return TABLES[0].is_file()


def allowed_users(environment: Mapping[str, str]) -> frozenset[int]:
    """Return the numbers of those whose connections are taken: who started the console.

    Behind ``sudo`` that is root, and who typed it: their SSH connects as them.
    """
    me = os.geteuid()
    behind = environment.get("SUDO_UID", "")
    return frozenset({me, int(behind)} if me == 0 and behind.isdecimal() else {me})


def owner_of(near: tuple[str, int], far: tuple[str, int]) -> int | None:
    """Return the number of the user who connected; None where nobody holds that end any more.

    Args:
        near: Address and port of our end.
        far: Of the other one.
    """
    wanted = (_written(*far), _written(*near))
    for table in TABLES:
        try:
            content = table.read_text("ascii")
        except OSError:
            continue
        for ours, theirs, user, inode in _rows(content):
            # An end without an inode was let go of, and is listed as root's.
            if (ours, theirs) == wanted and inode:
                return user
    return None


def _rows(content: str) -> Iterator[tuple[str, str, int, int]]:
    for line in content.splitlines()[1:]:
        cells = line.split()
        if len(cells) > 9:
            yield (
                cells[1].removeprefix(_MAPPED),
                cells[2].removeprefix(_MAPPED),
                int(cells[7]),
                int(cells[9]),
            )


def _written(address: str, port: int) -> str:
    """An address as the table has it: four bytes in the machine's own order, and a port."""
    number = int.from_bytes(IPv4Address(address).packed, sys.byteorder)
    return f"{number:08X}:{port:04X}"
