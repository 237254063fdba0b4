"""What an application says of itself, against its release: one comparison for whoever asks.

A release may have a build number that the application knows nothing of (``reports`` of its
manifest); then two releases report the same, and an answer alone does not tell which of them runs.
Stands on the standard library and ``packaging`` alone, for ``ncen-updater status``.
"""

from __future__ import annotations

from packaging.version import InvalidVersion, Version

__all__ = ["reported_by", "says"]


def reported_by(version: str, reports: object) -> str:
    """Return what the application of a release reports.

    Args:
        version: The release's.
        reports: Of its manifest, as it was read; nothing where it reports the version.
    """
    return reports if isinstance(reports, str) and reports else version


def says(said: object, reported: str) -> bool:
    """Whether an application that said this is one that reports that.

    Another spelling of one version (``v1.1``, ``1.1.0``) is no other version; another build is.
    """
    if not isinstance(said, str):
        return False
    said = said.strip()
    try:
        return said == reported or Version(said) == Version(reported)
    except InvalidVersion:
        return False
