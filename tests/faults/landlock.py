"""Makes the file system read-only for this process and its children, as a failing disk does.

Other processes, the database server above all, go on writing.
"""

from __future__ import annotations

from pathlib import Path

from ncen_updater.common.landlock import restrict_writes


def forbid_writing() -> None:
    """Refuse every opening for writing, making and removing from now on, except below /dev."""
    restrict_writes([Path("/dev")])
