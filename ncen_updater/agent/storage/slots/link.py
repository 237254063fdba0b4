"""The link ``current`` to the release in use, and the version string that a release reports.

``status`` imports this module: no third-party imports but ``packaging``, and no models of the
release format.
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

from packaging.version import InvalidVersion, Version

from ncen_updater.common import atomic_files as durable
from ncen_updater.common.bounded_io import read_file
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import CURRENT_LINK_INVALID, SLOT_ERROR
from ncen_updater.formats.reported_version import get_reported_version
from ncen_updater.formats.target_names import MAX_DOCUMENT_BYTES

logger = logging.getLogger(__name__)

#: Directory below that of the slots, with the records of each slot.
RECORDS_DIRECTORY = ".records"
DOCUMENT_FILE = "release.json"


def parse_slot_name(name: str) -> Version | None:
    """Return the version in a directory's name; None if it is not the name of a slot.

    Only the normal form is accepted: otherwise one version could have two slots.
    """
    try:
        version = Version(name)
    except InvalidVersion:
        return None
    return version if str(version) == name else None


def read_current_version(slots: Path, current: Path) -> Version | None:
    """Return the version that ``current`` selects; None if there is no link yet.

    The slot itself is not checked; a link to a missing slot still names its version.

    Args:
        slots: The directory of the slots.
        current: The link.

    Raises:
        CURRENT_LINK_INVALID: If it is not a link, or its target is not the path of a slot.
        SLOT_ERROR: If it cannot be read.
    """
    try:
        if not current.is_symlink():
            if current.exists():
                raise UpdaterError(
                    CURRENT_LINK_INVALID, current=current, target=current, slots=slots
                )
            return None
        target = current.readlink()
        slot = Path(os.path.normpath(current.parent / target))
        is_slot = slot.parent == slots or slot.parent.resolve() == slots.resolve()
    except OSError as error:
        raise UpdaterError(SLOT_ERROR, path=current, detail=str(error)) from error
    version = parse_slot_name(slot.name)
    if version is None or not is_slot:
        raise UpdaterError(CURRENT_LINK_INVALID, current=current, target=target, slots=slots)
    return version


def switch_current(slots: Path, current: Path, version: Version) -> None:
    """Point ``current`` to a version, in one step that survives a power cut.

    The target is relative if link and slots have the same parent, so that a whole site can be
    moved.
    """
    slot = slots / str(version)
    target = Path(slots.name, str(version)) if slots.parent == current.parent else slot
    logger.info("current -> %s", target)
    durable.replace_symlink(target, current)


def read_reported_version(slots: Path, version: Version) -> str:
    """Return the version string that a release reports.

    This is the version itself if the record declares no other string, or cannot be read.

    Args:
        slots: The directory of the slots.
        version: Version of the slot.
    """
    try:
        record = read_file(
            slots / RECORDS_DIRECTORY / str(version) / DOCUMENT_FILE, MAX_DOCUMENT_BYTES
        )
        reports = json.loads(record)["manifest"].get("reports")
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
        reports = None
    return get_reported_version(str(version), reports)
