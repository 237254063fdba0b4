"""Checks of the next upgrade before it is approved or started, by its document. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, tzinfo
from typing import Any

from ncen_updater.common.cli.render import format_time
from ncen_updater.common.cli.usage import NOTHING_CHANGED
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import LazyText, join_texts
from ncen_updater.common.messages import (
    APPROVAL_MISSING,
    NOT_REHEARSED,
    OPEN_CHANGE,
    REHEARSAL_OUTDATED,
    SOAK_NOT_FINISHED,
)


def require_no_pending_change(
    change: Mapping[str, Any] | None, zone: tzinfo | None, *, state: LazyText | None = None
) -> None:
    """Refuse while a change is open: what it comes to is to be seen before a yes. Pure.

    Args:
        change: The open change, as :func:`.report.open_change` has it in JSON; None without.
        zone: Zone of the site.
        state: What is known of the site then.

    Raises:
        SOAK_NOT_FINISHED: If its release is watched.
        OPEN_CHANGE: If there is more to do.
    """
    if change is None:
        return
    until = change["soak_ends_at"]
    if until is None:
        raise UpdaterError(
            OPEN_CHANGE,
            change=change["id"],
            kind=LazyText(change["kind"]),
            version=change["to"],
            state=state,
        )
    at = format_time(datetime.fromisoformat(str(until)), zone)
    raise UpdaterError(SOAK_NOT_FINISHED, version=change["to"], until=at, state=state)


def require_approvable(next_upgrade: Mapping[str, Any]) -> None:
    """Refuse where nothing can be approved by what was seen. Pure.

    Raises:
        NOT_REHEARSED, REHEARSAL_OUTDATED: If there is nothing that holds.
    """
    if next_upgrade["binding"] is not None:
        return
    if next_upgrade["void_reasons"]:
        raise _make_outdated_error(next_upgrade)
    raise UpdaterError(NOT_REHEARSED, version=next_upgrade["target"], state=NOTHING_CHANGED)


def _make_outdated_error(next_upgrade: Mapping[str, Any]) -> UpdaterError:
    reasons = join_texts(next_upgrade["void_reasons"])
    return UpdaterError(
        REHEARSAL_OUTDATED, version=next_upgrade["target"], reasons=reasons, state=NOTHING_CHANGED
    )


def require_approvals(next_upgrade: Mapping[str, Any]) -> None:
    """Refuse where what was seen is not approved by as many as have to. Pure.

    Raises:
        NOT_REHEARSED, REHEARSAL_OUTDATED: If there is nothing that could be, or what people
            approved
            is not what would be done now.
        APPROVAL_MISSING: If it is not.
    """
    require_approvable(next_upgrade)
    if next_upgrade["missing"] and next_upgrade["void_reasons"]:
        raise _make_outdated_error(next_upgrade)
    if next_upgrade["missing"]:
        raise UpdaterError(
            APPROVAL_MISSING, version=next_upgrade["target"], missing=next_upgrade["missing"],
            needed=next_upgrade["required_approvals"], state=NOTHING_CHANGED,
        )  # fmt: skip
