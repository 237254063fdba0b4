"""Sentences about whether users can work: the same under an error and in ``status``. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import tzinfo

from ncen_updater.agent.policy.availability import Availability, AvailabilityState, HealthAnswer
from ncen_updater.common.cli.characters import strip_control_characters
from ncen_updater.common.cli.render import format_time
from ncen_updater.common.i18n import N_, LazyText

_HEALTH_PROBLEMS = {
    HealthAnswer.HTTP_ERROR: N_("HTTP status {detail}"),
    HealthAnswer.CANNOT_WRITE: N_("cannot write to a database"),
    HealthAnswer.UNREADABLE: N_("invalid response from the health URL"),
    HealthAnswer.DISK_FULL: N_("disk full: {detail}"),
    HealthAnswer.NO_ANSWER: N_("no response from the health URL ({detail})"),
}


def format_health_problem(seen: Availability) -> LazyText:
    """Say what an application that runs does not do well."""
    text = _HEALTH_PROBLEMS.get(seen.answer, "{detail}")
    return LazyText(text, {"detail": strip_control_characters(seen.detail)})


#: What is true of the application; since when may follow.
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
    """Say whether users can work, and since when as far as that is known.

    Args:
        seen: What was seen.
        version: The release that is chosen here.
        zone: Zone of the site; that of the machine by default.
    """
    values: dict[str, object] = {
        "version": version or "-",
        "detail": strip_control_characters(seen.detail),
        "names": ", ".join(map(strip_control_characters, seen.missing_parts)),
        "trouble": format_health_problem(seen),
        "why": strip_control_characters(seen.unknown_because) or "-",
    }
    status = LazyText(_STATES[seen.state], values)
    if seen.since is not None:
        dated = {"status": status, "since": format_time(seen.since, zone)}
        status = LazyText(N_("{status} since {since}"), dated)
    yield status
    works = seen.state is AvailabilityState.AVAILABLE
    if seen.state is AvailabilityState.NOT_RUNNING and seen.stopped_on_request:
        yield LazyText(N_("  Stopped or disabled by an administrator; not started automatically"))
    if works and seen.answer is HealthAnswer.OTHER_VERSION:
        yield LazyText(N_("  Version mismatch: {detail} running, {version} selected"), values)
    if seen.state is AvailabilityState.MAINTENANCE and seen.process_runs is False:
        yield LazyText(N_("  Application stopped"))
    if works and seen.missing_parts:
        yield LazyText(N_("  Components not running: {names}"), values)
