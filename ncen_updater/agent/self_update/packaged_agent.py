"""Select the agent of a system package; the package runs this after installing its slot."""

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
    """Return the new selection. Pure.

    An agent that has updated itself to a newer version than the package's stays selected.

    Args:
        before: The current selection.
        version: Version of the package's agent.
        slot_exists: Whether the slot of the currently selected version exists.
    """
    if before is not None and slot_exists and Version(before.current) > Version(version):
        return before
    if before is not None and not slot_exists and before.current != version:
        # The slot was removed with the old package, so that there is no previous version to return
        # to.
        return AgentSelection(version, None, failed=before.failed)
    return select_installed(before, version)


def main() -> int:
    """Run with the directory of the slots and the version as arguments."""
    directory, version = Path(sys.argv[1]), sys.argv[2]
    file = AgentSelectionFile(directory)

    def has_slot(name: str) -> bool:
        return (directory / name / "bin/ncen-updater").exists()

    def change(before: AgentSelection | None) -> AgentSelection:
        before = before or _read_selection_from_link(directory / CURRENT_LINK, has_slot)
        return select_packaged_agent(
            before, version, slot_exists=before is not None and has_slot(before.current)
        )

    try:
        _quarantine_if_damaged(file)
        file.update(change)
    except (UpdaterError, OSError) as error:
        sys.stderr.write(f"ncen-updater: {error}\n")
        return 1
    return 0


def _quarantine_if_damaged(file: AgentSelectionFile) -> None:
    """Rename a damaged file, as the failsafe does, since the package would fail on it each time."""
    try:
        file.load()
    except SelectionDamagedError as error:
        sys.stderr.write(f"ncen-updater: {error}\n")
        durable.rename_entry(file.path, file.path.with_name(f"{file.path.name}.damaged"))


def _read_selection_from_link(link: Path, has_slot: Callable[[str], bool]) -> AgentSelection | None:
    """Return the selection according to the link if the file is lost; None without a link."""
    name = link.readlink().name if link.is_symlink() else ""
    return AgentSelection(name) if VERSION_PATTERN.fullmatch(name) and has_slot(name) else None


if __name__ == "__main__":
    sys.exit(main())
