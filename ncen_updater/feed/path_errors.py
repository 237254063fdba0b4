"""Errors of the choice of a release. Codes 2201 to 2219."""

from __future__ import annotations

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import PATH_ERROR


class PathError(UpdaterError):
    """A release that was asked for by name and may not be installed here."""

    message = PATH_ERROR
    family = range(2201, 2220)
