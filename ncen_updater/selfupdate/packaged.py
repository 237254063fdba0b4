"""Chooses the agent that a system's package brought: run by the package once its slot is there."""

from __future__ import annotations

import sys
from pathlib import Path

from packaging.version import Version

from ncen_updater.selfupdate.sequence import Sequence, SequenceFile, first

__all__ = ["chosen", "main"]


def chosen(before: Sequence | None, version: str, *, present: bool) -> Sequence:
    """Return what is chosen from now on; pure.

    An agent that renewed itself beyond the package stays.

    Args:
        before: What is chosen now.
        version: The agent of the package.
        present: Whether the slot of the one that is chosen now is there.
    """
    if before is not None and present and Version(before.current) > Version(version):
        return before
    if before is not None and not present and before.current != version:
        # Its slot went with the old package: nothing is left to go back to but what 'previous' says
        return Sequence(version, None, bad=before.bad)
    return first(before, version)


def main() -> int:
    """Take the directory of the slots and the version as arguments."""
    directory, version = Path(sys.argv[1]), sys.argv[2]

    def change(before: Sequence | None) -> Sequence:
        present = before is not None and (directory / before.current / "bin/ncen-updater").exists()
        return chosen(before, version, present=present)

    SequenceFile(directory).update(change)
    return 0


if __name__ == "__main__":
    sys.exit(main())
