"""Checks of the JSON document of the next upgrade before it is approved or started. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, tzinfo
from typing import Any

from ncen_updater.agent.engine.change_guards import make_open_change_error
from ncen_updater.common.cli.render import format_time
from ncen_updater.common.cli.usage import NOTHING_CHANGED
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import LazyText, join_texts
from ncen_updater.common.messages import (
    APPROVAL_MISSING,
    NOT_REHEARSED,
    REHEARSAL_OUTDATED,
    SOAK_NOT_FINISHED,
)


def require_no_pending_change(
    change: Mapping[str, Any] | None,
    zone: tzinfo | None,
    *,
    served: bool,
    state: LazyText | None = None,
) -> None:
    """Refuse while a change is open, since its outcome must be known first. Pure.

    Args:
        change: The open change as JSON, as ``build_open_change`` of the service returns it; None if
            none is open.
        zone: Time zone of the site.
        served: Whether the service is at work on it.
        state: Text on the state of the site, for the error.

    Raises:
        SOAK_NOT_FINISHED: If the change is in its soak period.
        SiteBusyError, OPEN_CHANGE: If it is in another state.
    """
    if change is None:
        return
    until = change["soak_ends_at"]
    if until is None:
        error = make_open_change_error(
            change["id"], change["kind"], change["to"], change["state"], served=served
        )
        error.state = state
        raise error
    at = format_time(datetime.fromisoformat(str(until)), zone)
    raise UpdaterError(SOAK_NOT_FINISHED, version=change["to"], until=at, state=state)


def require_approvable(next_upgrade: Mapping[str, Any]) -> None:
    """Refuse an upgrade that cannot be approved yet. Pure.

    Raises:
        NOT_REHEARSED, REHEARSAL_OUTDATED: If there is no valid rehearsal.
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
    """Refuse an upgrade that lacks approvals. Pure.

    Raises:
        NOT_REHEARSED, REHEARSAL_OUTDATED: If there is no valid rehearsal, or the approvals are
            void.
        APPROVAL_MISSING: If approvals are missing.
    """
    require_approvable(next_upgrade)
    if next_upgrade["missing"] and next_upgrade["void_reasons"]:
        raise _make_outdated_error(next_upgrade)
    if next_upgrade["missing"]:
        raise UpdaterError(
            APPROVAL_MISSING, version=next_upgrade["target"], missing=next_upgrade["missing"],
            needed=next_upgrade["required_approvals"], state=NOTHING_CHANGED,
        )  # fmt: skip
