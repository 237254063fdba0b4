"""Chooses the agent that a system's package brought: run by the package once its slot is there."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from packaging.version import Version

from ncen_updater.agent.model.errors import SelectionDamagedError
from ncen_updater.agent.storage.agent_selection import (
    CURRENT_LINK,
    VERSION_PATTERN,
    AgentSelection,
    AgentSelectionFile,
    select_installed,
)
from ncen_updater.common import atomic_files as durable
from ncen_updater.common.errors import UpdaterError


def select_packaged_agent(
    before: AgentSelection | None, version: str, *, slot_exists: bool
) -> AgentSelection:
    """Return what is chosen from now on; pure.

    An agent that renewed itself beyond the package stays.

    Args:
        before: What is chosen now.
        version: The agent of the package.
        slot_exists: Whether the slot of the one that is chosen now is there.
    """
    if before is not None and slot_exists and Version(before.current) > Version(version):
        return before
    if before is not None and not slot_exists and before.current != version:
        # Its slot went with the old package: nothing is left to go back to but what 'previous' says
        return AgentSelection(version, None, failed=before.failed)
    return select_installed(before, version)


def main() -> int:
    """Take the directory of the slots and the version as arguments."""
    directory, version = Path(sys.argv[1]), sys.argv[2]
    file = AgentSelectionFile(directory)

    def there(name: str) -> bool:
        return (directory / name / "bin/ncen-updater").exists()

    def change(before: AgentSelection | None) -> AgentSelection:
        before = before or _read_selection_from_link(directory / CURRENT_LINK, there)
        return select_packaged_agent(
            before, version, slot_exists=before is not None and there(before.current)
        )

    try:
        _quarantine_if_damaged(file)
        file.update(change)
    except (UpdaterError, OSError) as error:
        sys.stderr.write(f"ncen-updater: {error}\n")
        return 1
    return 0


def _quarantine_if_damaged(file: AgentSelectionFile) -> None:
    """As the failsafe does; the package could never be set up otherwise."""
    try:
        file.load()
    except SelectionDamagedError as error:
        sys.stderr.write(f"ncen-updater: {error}\n")
        durable.rename_entry(file.path, file.path.with_name(f"{file.path.name}.damaged"))


def _read_selection_from_link(link: Path, there: Callable[[str], bool]) -> AgentSelection | None:
    """Return the agent that is in use where the file is lost; None where there is none."""
    name = link.readlink().name if link.is_symlink() else ""
    return AgentSelection(name) if VERSION_PATTERN.fullmatch(name) and there(name) else None


if __name__ == "__main__":
    sys.exit(main())
