"""Addresses of HTTP, and the status that tells of an error: for both servers. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from ncen_updater.common import messages as m
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import ErrorMessage, ExitCode

#: What stands in braces in an address.
PATH_PATTERNS: Mapping[str, str] = {
    "id": r"[a-z2-7]{8}",
    "number": r"[1-9][0-9]{0,17}",
    "binding": r"[0-9a-f]{64}",
    "role": "read|operate|approve",
}


@dataclass(frozen=True)
class Route:
    """One thing that can be asked of a server.

    Attributes:
        method: Of HTTP.
        path_template: With its parts in braces.
    """

    method: str
    path_template: str

    def match_path(self, path: str) -> dict[str, str] | None:
        """Return the parts of an address that fits, None if it does not."""
        pattern = re.sub(
            r"\\{([a-z]+)\\}",
            lambda p: f"(?P<{p[1]}>{PATH_PATTERNS[p[1]]})",
            re.escape(self.path_template),
        )
        found = re.fullmatch(pattern, path)
        return found.groupdict() if found else None


AnyRoute = TypeVar("AnyRoute", bound=Route)


def find_routes(
    path: str, routes: Iterable[AnyRoute]
) -> Mapping[str, tuple[AnyRoute, dict[str, str]]]:
    """Return by method what is at an address, and the parts of that."""
    found = ((route, route.match_path(path)) for route in routes)
    return {route.method: (route, names) for route, names in found if names is not None}


#: Status for an error, and for an exit code where the error itself does not say more.
_STATUS: Mapping[ErrorMessage, int] = {
    m.API_PATH_UNKNOWN: 404,
    m.METHOD_NOT_ALLOWED: 405,
    m.TOO_LARGE: 413,
    m.NOT_ALLOWED: 403,
    m.DATA_LOSS_NEEDS_APPROVER: 403,
    m.APPROVER_IS_SHARED_ACCOUNT: 403,
    m.NOTHING_TO_APPROVE: 409,
    m.NOTHING_TO_CONFIRM: 409,
    m.TOO_MANY_ACTIONS: 429,
    m.TOO_MANY_JOBS: 429,
    m.TOO_MANY_INSPECTIONS: 429,
    m.INSPECTION_RUNNING: 503,
    m.TOO_MANY_STREAMS: 503,
    m.TOO_MANY_CONNECTIONS: 503,
    m.CONSOLE_NO_SESSION: 401,
    m.CONSOLE_NOT_LOGGED_IN: 401,
    m.CONSOLE_PASSWORD: 401,
    m.CONSOLE_EXPIRED: 400,
    m.CONSOLE_SECOND_SECRET: 400,
    m.CONSOLE_LOGIN_THROTTLED: 429,
    m.CONSOLE_NO_LOGIN: 503,
    m.CONSOLE_LINK_EXPIRED: 403,
    m.CONSOLE_CROSS_SITE: 403,
    m.CONSOLE_NO_PAGE: 404,
    m.CONSOLE_TOO_MUCH: 429,
    m.CONSOLE_BUSY: 503,
}
_BY_EXIT_CODE: Mapping[ExitCode, int] = {
    ExitCode.USAGE: 400,
    ExitCode.BLOCKED: 409,
    ExitCode.APPROVAL_MISSING: 409,
    ExitCode.OUTSIDE_WINDOW_OR_HELD: 409,
    ExitCode.BUSY: 409,
    ExitCode.REHEARSAL_STALE: 409,
    ExitCode.FEED_STALE: 409,
    ExitCode.SPACE: 507,
    ExitCode.INTERVENTION_NEEDED: 503,
}
#: What is wrong with the configuration is no mistake of the caller.
_CONFIGURATION = frozenset(f"NU-{number}" for number in range(1001, 1100))


def status_of(error: UpdaterError) -> int:
    """Return the status of HTTP that tells of an error."""
    if error.code in _CONFIGURATION:
        return 409
    return _STATUS.get(error.message) or _BY_EXIT_CODE.get(error.exit_code, 500)
