"""Settings of a newer agent, read by an older one that a site returned to.

Strict reading protects from slips of the pen. But an agent that was brought back because the newer
one did not work must not refuse to run for a setting that only the newer one knows: nobody is there
to take it out again. So unknown names are passed over, with a warning, where a newer agent was
chosen on this machine before, and only there.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.version import InvalidVersion, Version

from ncen_updater.agent.model.errors import SelectionDamagedError
from ncen_updater.agent.storage.agent_selection import AgentSelectionFile


def find_newer_agent(directory: Path, own_version: str | None = None) -> str | None:
    """Return the newest agent that was chosen here, if it is newer than this one.

    Args:
        directory: Where the slots of the agent are.
        own_version: The version of this agent.
    """
    try:
        mine = Version(own_version or version("ncen-updater"))
        found = AgentSelectionFile(directory).load()
    except (PackageNotFoundError, InvalidVersion, SelectionDamagedError):
        return None
    if found is None:
        return None
    names = [name for name in (found.current, found.previous, *found.failed) if name is not None]
    newest = max(filter(None, map(_parse_version, names)), default=None)
    return str(newest) if newest is not None and newest > mine else None


def _parse_version(text: str) -> Version | None:
    try:
        return Version(text)
    except InvalidVersion:
        return None
