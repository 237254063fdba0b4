"""Words of a command line as what they stand for."""

from __future__ import annotations

from packaging.version import InvalidVersion, Version

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import LocalizedFigure
from ncen_updater.common.messages import BAD_VERSION


def parse_version(text: str | None) -> Version | None:
    """Read a version that a person typed.

    Raises:
        BAD_VERSION: If it is none.
    """
    if text is None:
        return None
    try:
        return Version(text)
    except InvalidVersion as error:
        raise UpdaterError(BAD_VERSION, text=LocalizedFigure(text)) from error
