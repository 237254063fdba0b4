"""Version that the release of a slot reports of itself, by its record. Light: for ``status``."""

from __future__ import annotations

import json
from pathlib import Path

from packaging.version import Version

from ncen_updater.common.bounded_io import read_file
from ncen_updater.formats.reported_version import get_reported_version
from ncen_updater.formats.target_names import MAX_DOCUMENT_BYTES

#: Below the directory of the slots: what was written down of each.
RECORDS_DIRECTORY = ".records"
DOCUMENT_FILE = "release.json"


def read_reported_version(slots: Path, version: Version) -> str:
    """Return it; the version itself where no record says anything else, or it cannot be read.

    Args:
        slots: The directory of the slots.
        version: Of the slot.
    """
    try:
        record = read_file(
            slots / RECORDS_DIRECTORY / str(version) / DOCUMENT_FILE, MAX_DOCUMENT_BYTES
        )
        reports = json.loads(record)["manifest"].get("reports")
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
        reports = None
    return get_reported_version(str(version), reports)
