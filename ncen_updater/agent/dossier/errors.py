"""Errors of the dossier. Codes 9201 to 9209."""

from __future__ import annotations

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_

__all__ = ["DossierUnwritten"]


class DossierUnwritten(UpdaterError):
    """A place that does not take the page."""

    code = "NU-9201"
    what = N_("The dossier could not be written to {path}: {reason}")
    remedy = N_("Name a file in a directory that exists and has room, with --output.")
