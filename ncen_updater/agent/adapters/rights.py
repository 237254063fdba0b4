"""Permanent loss of the right to read a database server's own files; group ids.

If one process does everything (``service.runner = "process"``), it keeps the right: commands of its
application may need further rights ("sudo"), which cannot be gained afterwards.
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
    """Give up root's right to read the files that a database server keeps for itself.

    The agent does not need them, and free space stays visible. The right is kept if the site lets
    the agent's units write there: then the agent removes remains of interrupted copies, which needs
    read access.
    """
    if config.service.runner == "process":
        return
    for files in (get_engine_descriptor(name).server_directory for name in ENGINES):
        if files is not None:
            directory = config.paths.resolve(Path(files))
            clusters = (directory, *directory.glob("*"), *directory.glob("*/*"))
            if not any(os.access(cluster, os.W_OK) for cluster in clusters):
                deny_reads(directory, _list_needed_paths(config))


def _list_needed_paths(config: AgentConfig) -> list[Path]:
    files = (config.paths.resolve(item.directory) for item in config.files)
    return [*config.list_written_directories(), *files, config.paths.feed_state_directory]


def find_group_id(name: str) -> int | None:
    """Return the gid of a group, None if the group does not exist."""
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None
