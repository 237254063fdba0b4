"""Comparison of the version that an application reports with its release.

A release may have a build number that the application knows nothing of (``reports`` of its
manifest); then two releases report the same, and an answer alone does not tell which of them runs.
Stands on the standard library and ``packaging`` alone, for ``ncen-updater status``.
"""

from __future__ import annotations

import re

from packaging.version import InvalidVersion, Version

#: So much of an answer that is no JSON is looked through for a version.
MAX_SEARCHED_BYTES = 65_536


def get_reported_version(version: str, reports: object) -> str:
    """Return what the application of a release reports.

    Args:
        version: The release's.
        reports: Of its manifest, as it was read; nothing where it reports the version.
    """
    return reports if isinstance(reports, str) and reports else version


def matches_reported_version(answer: object, reported: str) -> bool:
    """Tell whether an application that said this is one that reports that.

    Another spelling of one version (``v1.1``, ``1.1.0``) is no other version; another build is.
    """
    if not isinstance(answer, str):
        return False
    answer = answer.strip()
    try:
        return answer == reported or Version(answer) == Version(reported)
    except InvalidVersion:
        return False


def extract_version(body: bytes, pattern: str) -> str | None:
    """Find what an answer that is plain text, or a page, says of the version.

    Args:
        body: The answer; its beginning counts, :data:`MAX_SEARCHED_BYTES` of it.
        pattern: A regular expression with one group, as the configuration has it.

    Returns:
        What stands in the group where the pattern is found first, without spaces around it; None
        where it is not found, or nothing stands there.
    """
    found = re.search(pattern, body[:MAX_SEARCHED_BYTES].decode("utf-8", "replace"))
    return (found[1] or "").strip()[:100] or None if found else None
