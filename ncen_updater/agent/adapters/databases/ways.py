"""Which way a rollback takes. Standard library only: commands that only show it load no engine."""

from __future__ import annotations

from enum import StrEnum


class RollbackKind(StrEnum):
    """Which way a rollback takes."""

    KEEPS_RECORDS = "keeps"  # every record stays: by ways down, or because there is nothing to undo
    RESTORES_PREVIOUS = "restores"  # what was kept at the upgrade; later records are lost
    DEPENDS_ON_MIGRATOR = (
        "depends"  # restores, unless the release's program turns out to change nothing
    )
