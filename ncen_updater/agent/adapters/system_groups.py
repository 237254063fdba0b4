"""Groups of the operating system."""

from __future__ import annotations

import grp


def find_group_id(name: str) -> int | None:
    """Return the number of a group, None where this machine has none of that name."""
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None
