"""Comparison of the version that an application reports with its release.

A release may have a build number that the application does not report (``reports`` in its
manifest). Then two releases report the same version, and the answer alone does not identify the
running one. Imports only the standard library and ``packaging``, for ``ncen-updater status``.
"""

from __future__ import annotations

import re

from packaging.version import InvalidVersion, Version

#: Maximum bytes of a non-JSON answer that are searched for a version.
MAX_SEARCHED_BYTES = 65_536


def get_reported_version(version: str, reports: object) -> str:
    """Return the version that the application of a release reports.

    Args:
        version: The release's version.
        reports: Value of ``reports`` in the manifest; absent if the application reports the
            version.
    """
    return reports if isinstance(reports, str) and reports else version


def matches_reported_version(answer: object, reported: str) -> bool:
    """Return whether an application's answer matches the version that the release reports.

    Another spelling of the same version (``v1.1``, ``1.1.0``) matches; another build does not.
    """
    if not isinstance(answer, str):
        return False
    answer = answer.strip()
    try:
        return answer == reported or Version(answer) == Version(reported)
    except InvalidVersion:
        return False


def extract_version(body: bytes, pattern: str) -> str | None:
    """Return the version in an answer that is plain text or HTML.

    Args:
        body: The answer; only its first :data:`MAX_SEARCHED_BYTES` are searched.
        pattern: Regular expression with one group, from the configuration.

    Returns:
        Content of the group at the first match, stripped; None without a match or if it is empty.
    """
    found = re.search(pattern, body[:MAX_SEARCHED_BYTES].decode("utf-8", "replace"))
    return (found[1] or "").strip()[:100] or None if found else None
