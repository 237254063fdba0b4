"""Sentences on the current state: release, availability, changes. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import tzinfo

from ncen_updater.agent.engine.approvals.approval import describe_consumed_approvals
from ncen_updater.agent.model.change import Change, ChangeState, StepName
from ncen_updater.agent.model.errors import JournalMissingError, JournalPermissionError
from ncen_updater.agent.policy.availability import Availability, AvailabilityState, HealthAnswer
from ncen_updater.agent.reports.status import SiteStatus, get_part_or_none
from ncen_updater.common.cli.characters import strip_control_characters
from ncen_updater.common.cli.render import format_time
from ncen_updater.common.cli.usage import NOTHING_CHANGED
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText

_HEALTH_PROBLEMS = {
    HealthAnswer.HTTP_ERROR: N_("HTTP status {detail}"),
    HealthAnswer.CANNOT_WRITE: N_("cannot write to a database"),
    HealthAnswer.UNREADABLE: N_("invalid response from the health URL"),
    HealthAnswer.DISK_FULL: N_("disk full: {detail}"),
    HealthAnswer.NO_ANSWER: N_("no response from the health URL ({detail})"),
}
#: Parts of the status used by the sentences; the databases only if the site is open.
SITE_STATE_PARTS = frozenset({"current", "availability", "journal", "observed_state"})


def format_site_state(
    status: SiteStatus, before: SiteStatus | None, *, change_named: bool = False
) -> list[LazyText]:
    """Return the sentences on the state of the site.

    Args:
        status: The current status.
        before: The status before the command; None if unknown.
        change_named: Whether the error itself says that the change is not finished.
    """
    lines = [
        _format_application(status),
        _format_databases(status),
        *_format_change(status, before, change_named=change_named),
    ]
    expected = (JournalMissingError, JournalPermissionError, PermissionError)
    for error in [error for error in status.errors if not isinstance(error, expected)][:1]:
        why: object = str(error)
        # without the server's detail, which the error message already shows
        if isinstance(error, UpdaterError):
            why = LazyText(N_("{name}: {text}"), {"name": error.code, "text": error.title_text})
        lines.append(LazyText(N_("State partly unknown: {why}"), {"why": why}))
    return [text for text in lines if text is not None]


def _format_application(status: SiteStatus) -> LazyText:
    values: dict[str, object] = {
        "product": status.paths.product,
        "version": get_part_or_none(status.current),
    }
    if status.current is None:
        missing = LazyText(N_("Not adopted: no release of {product} installed"), values)
        return LazyText("{text}.", {"text": missing})
    if isinstance(status.current, Exception):
        return LazyText(N_("Installed release of {product} unknown."), values)
    seen = get_part_or_none(status.availability)
    if seen is None:
        return LazyText(N_("{product} {version} is installed."), values)
    values |= {
        "trouble": format_health_problem(seen),
        "why": seen.unknown_because or "-",
        "reported": seen.detail,
    }
    if (seen.state, seen.answer) == (AvailabilityState.AVAILABLE, HealthAnswer.OTHER_VERSION):
        words = N_("{product} {version} is selected, but {reported} is running.")
        return LazyText(words, values)
    return LazyText(
        _AVAILABILITY.get((seen.state, seen.process_runs)) or _AVAILABILITY[(seen.state, None)],
        values,
    )


_AVAILABILITY: Mapping[tuple[AvailabilityState, bool | None], str] = {
    (AvailabilityState.AVAILABLE, None): N_("{product} {version} is running."),
    (AvailabilityState.MAINTENANCE, True): N_(
        "{product} {version} is running; maintenance page shown."
    ),
    (AvailabilityState.MAINTENANCE, False): N_(
        "{product} {version} is stopped; maintenance page shown."
    ),
    (AvailabilityState.MAINTENANCE, None): N_(
        "{product} {version} is installed; maintenance page shown."
    ),
    (AvailabilityState.NOT_RUNNING, None): N_("{product} {version} is stopped."),
    (AvailabilityState.UNHEALTHY, None): N_("{product} {version} is unhealthy: {trouble}."),
    (AvailabilityState.UNKNOWN, None): N_(
        "{product} {version} is installed; status unknown ({why})."
    ),
}


def _format_databases(status: SiteStatus) -> LazyText | None:
    databases = get_part_or_none(status.observed_state)
    if databases is None:
        return None
    if databases.database_missing:
        return LazyText(N_("At least one database is missing."))
    return LazyText(
        N_("Databases closed to connections.") if databases.fenced else N_("Databases open.")
    )


def _format_change(
    status: SiteStatus, before: SiteStatus | None, *, change_named: bool
) -> Iterator[LazyText]:
    if isinstance(status.journal, JournalPermissionError):
        yield LazyText(N_("For changes in progress, run: ncen-updater status"))
        return
    if _is_journal_unreadable(status):
        yield LazyText(N_("Cannot read the journal; automatic operations are stopped."))
        return
    change, journal = _find_last_change(status), get_part_or_none(status.journal)
    if (
        before is not None
        and not _is_journal_unreadable(before)
        and _find_last_change(before) == change
    ):
        yield NOTHING_CHANGED if change_named else _format_unchanged(change)
        return
    if change is None or journal is None:
        return
    values = {"kind": change.kind, "change": change.id, "version": change.to_version,
              "origin": change.from_version}  # fmt: skip
    expanded = journal.last_facts.expand_started is not None
    if expanded and change.state is ChangeState.REVERTED:
        yield LazyText(_UNDONE_AFTER_EXPAND, values)
    else:
        untouched = _is_untouched(change) and not expanded
        yield LazyText(_UNTOUCHED if untouched else _CHANGE_STATES[change.state], values)
    if journal.consumed_approvals:
        yield describe_consumed_approvals(journal.consumed_approvals)


def _is_journal_unreadable(status: SiteStatus) -> bool:
    return isinstance(status.journal, Exception) and not isinstance(
        status.journal, JournalMissingError
    )


def _find_last_change(status: SiteStatus) -> Change | None:
    journal = get_part_or_none(status.journal)
    return journal.last_change if journal else None


def _format_unchanged(change: Change | None) -> LazyText:
    if change is None or not change.state.is_open:
        return NOTHING_CHANGED
    return LazyText(
        N_("Nothing was changed. Change {change} to {version} is not finished."),
        {"change": change.id, "version": change.to_version},
    )


def _is_untouched(change: Change) -> bool:
    """Return whether an open change has neither modified nor begun to modify the live databases."""
    return (
        change.state in (ChangeState.RUNNING, ChangeState.REVERTING, ChangeState.STUCK)
        and change.get_step_state(StepName.CUT_OVER) is None
        and change.get_step_state(StepName.COMMIT) is None
    )


_UNTOUCHED = N_(
    "Change {change} ({kind} to {version}) not finished; databases of {origin} unchanged."
)
_UNDONE_AFTER_EXPAND = N_(
    "Change {change} ({kind} to {version}) reverted; additions of its migrations "
    "remain; no data loss."
)
_CHANGE_STATES = {
    ChangeState.RUNNING: N_("Change {change} ({kind} to {version}) not finished."),
    ChangeState.REVERTING: N_("Change {change} ({kind} to {version}) not fully reverted."),
    ChangeState.COMMITTED: N_(
        "Change {change} ({kind} to {version}) committed, in its soak period."
    ),
    ChangeState.FINISHED: N_("Change {change} ({kind} to {version}) completed."),
    ChangeState.REVERTED: N_("Change {change} ({kind} to {version}) reverted; no data loss."),
    ChangeState.STUCK: N_("Manual intervention required: change {change} ({kind} to {version})."),
}


def format_health_problem(seen: Availability) -> LazyText:
    """Return what is wrong with a running application."""
    text = _HEALTH_PROBLEMS.get(seen.answer, "{detail}")
    return LazyText(text, {"detail": _clean_text(seen.detail)})


def _clean_text(text: str | LazyText) -> str | LazyText:
    return text if isinstance(text, LazyText) else strip_control_characters(text)


#: State of the application; its start time may be appended.
_STATES = {
    AvailabilityState.AVAILABLE: N_("Status: running"),
    AvailabilityState.MAINTENANCE: N_("Status: maintenance page shown"),
    AvailabilityState.NOT_RUNNING: N_("Status: stopped; users cannot work"),
    AvailabilityState.UNHEALTHY: N_("Status: failed; the application is unhealthy ({trouble})"),
    AvailabilityState.UNKNOWN: N_("Status: unknown ({why})"),
}


def format_availability(
    seen: Availability, version: str | None, zone: tzinfo | None = None
) -> Iterator[LazyText]:
    """Yield the application's availability, with its start time if known.

    Args:
        seen: The availability.
        version: The installed release.
        zone: Time zone of the site; by default that of the machine.
    """
    values: dict[str, object] = {
        "version": version or "-",
        "detail": _clean_text(seen.detail),
        "names": ", ".join(map(strip_control_characters, seen.missing_parts)),
        "trouble": format_health_problem(seen),
        "why": _clean_text(seen.unknown_because) or "-",
    }
    status = LazyText(_STATES[seen.state], values)
    if seen.since is not None:
        dated = {"status": status, "since": format_time(seen.since, zone)}
        status = LazyText(N_("{status} since {since}"), dated)
    yield status
    available = seen.state is AvailabilityState.AVAILABLE
    if seen.state is AvailabilityState.NOT_RUNNING and seen.stopped_on_request:
        yield LazyText(N_("  Stopped or disabled by an administrator; not started automatically"))
    if available and seen.answer is HealthAnswer.OTHER_VERSION:
        yield LazyText(N_("  Version mismatch: {detail} running, {version} selected"), values)
    if seen.state is AvailabilityState.MAINTENANCE and seen.process_runs is False:
        yield LazyText(N_("  Application stopped"))
    if available and seen.missing_parts:
        yield LazyText(N_("  Parts not running: {names}"), values)
