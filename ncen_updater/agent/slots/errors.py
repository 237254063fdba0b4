"""Errors of the slots room. Codes 3200 to 3299."""

from __future__ import annotations

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import (
    RECORD_UNUSABLE,
    SLOT_DIFFERS,
)


class RecordUnusable(UpdaterError):
    """What the agent wrote down of a slot cannot be used, so the slot cannot be judged."""

    message = RECORD_UNUSABLE


class SlotDiffers(UpdaterError):
    """Files that are not those of the release."""

    message = SLOT_DIFFERS
