"""Errors of telling people. Codes 9601 to 9649. None of them changes anything of the site."""

from __future__ import annotations

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import NOTIFY_ERROR


class NotifyError(UpdaterError):
    """A message could not be delivered."""

    message = NOTIFY_ERROR
    family = range(9601, 9650)
