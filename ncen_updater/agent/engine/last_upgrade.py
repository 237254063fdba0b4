"""Which upgrade brought the release in use. Pure, and light: the service asks it, too."""

from __future__ import annotations

from collections.abc import Sequence

from packaging.version import Version

from ncen_updater.agent.model.change import Change, ChangeKind


def find_last_upgrade(changes: Sequence[Change], current: Version) -> Change | None:
    """Return the committed upgrade that brought the release in use, newest first; pure.

    A rollback takes its upgrade out of the count, so that going back twice goes back two releases.
    """
    for change in changes:
        committed = change.is_committed
        if (
            committed
            and change.kind is ChangeKind.UPGRADE
            and Version(change.to_version) == current
        ):
            return change
    return None
