"""The copy of a copy: what a rehearsal times in place of the copy of the live set."""

from __future__ import annotations

from pathlib import Path

from ncen_updater.agent.databases.base import CopyPlan
from ncen_updater.agent.databases.sqlite.copying import copy_files, give
from ncen_updater.agent.databases.sqlite.layout import Layout
from ncen_updater.common.i18n import N_, Text
from ncen_updater.common.progress import Progress


def copy_set(layout: Layout, source: Path, target: Path, progress: Progress) -> CopyPlan:
    """Copy the files of a set as those of a fenced live set are copied.

    Raises:
        CopyFailed: If a file cannot be copied, or the copy is not whole.
    """
    partial = layout.partial(target)
    layout.remove_set(partial)
    layout.remove_set(target)

    def told(name: str, count: int) -> None:
        del count
        progress.tell(Text(N_("copying {database}"), {"database": name}))

    copy_files(layout, source, partial, told)
    give(layout, source, partial)
    layout.rename(partial, target)
    return CopyPlan({name: {"from": source.name, "to": target.name} for name in layout.names})
