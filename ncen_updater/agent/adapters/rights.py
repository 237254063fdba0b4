"""Permanent loss of the right to read a server's own files, for work on the site.

Where one process does everything (``service.runner = "process"``), it keeps the right: commands of
its application may need further rights ("sudo"), which cannot be gained afterwards.
"""

from __future__ import annotations

import grp
import os
from pathlib import Path
from typing import TYPE_CHECKING

from ncen_updater.agent.adapters.databases.engines import ENGINES, get_engine_descriptor
from ncen_updater.common.landlock import deny_reads

if TYPE_CHECKING:
    from ncen_updater.agent.config.agent_config import AgentConfig


def drop_server_file_access(config: AgentConfig) -> None:
    """Give up the right to read what a database server keeps for itself: as root one could.

    Nothing of ours does. How much room it has stays to be seen. Not where a site lets its units
    write there: then what an interrupted copy left is found and removed, which takes reading.
    """
    if config.service.runner == "process":
        return
    for files in (get_engine_descriptor(name).server_directory for name in ENGINES):
        if files is not None:
            place = config.paths.resolve(Path(files))
            clusters = (place, *place.glob("*"), *place.glob("*/*"))
            if not any(os.access(one, os.W_OK) for one in clusters):
                deny_reads(place, _list_needed_paths(config))


def _list_needed_paths(config: AgentConfig) -> list[Path]:
    files = (config.paths.resolve(item.directory) for item in config.files)
    return [*config.written_directories(), *files, config.paths.feed_state_directory]


def find_group_id(name: str) -> int | None:
    """Return the number of a group, None where this machine has none of that name."""
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None
