"""Whether officers can work, in sentences: the same under an error and in ``status``. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import tzinfo

from ncen_updater.agent.policy.availability import Availability, AvailabilityState, HealthAnswer
from ncen_updater.common.cli.characters import strip_control_characters
from ncen_updater.common.cli.render import format_time
from ncen_updater.common.i18n import N_, LazyText

_HEALTH_PROBLEMS = {
    HealthAnswer.HTTP_ERROR: N_("it answers with status {detail}"),
    HealthAnswer.CANNOT_WRITE: N_("it says that it cannot write to a database"),
    HealthAnswer.UNREADABLE: N_("what it answers at its health address is not understood"),
    HealthAnswer.DISK_FULL: N_("the disk of {detail} is full"),
    HealthAnswer.NO_ANSWER: N_("nobody answers at its health address ({detail})"),
}


def format_health_problem(seen: Availability) -> LazyText:
    """Say what an application that runs does not do well."""
    text = _HEALTH_PROBLEMS.get(seen.answer, "{detail}")
    return LazyText(text, {"detail": strip_control_characters(seen.detail)})


def format_availability(
    seen: Availability, version: str | None, zone: tzinfo | None = None
) -> Iterator[LazyText]:
    """Say whether officers can work, and since when as far as that is known.

    Args:
        seen: What was seen.
        version: The release that is chosen here.
        zone: Zone of the site; that of the machine by default.
    """
    values: dict[str, object] = {
        "version": version or "-",
        "detail": strip_control_characters(seen.detail),
    }
    if seen.since is not None:
        values["since"] = format_time(seen.since, zone)
    match seen.state:
        case AvailabilityState.AVAILABLE if seen.since is not None:
            text = N_("Officers can work; the application has run since {since}.")
            yield LazyText(text, values)
        case AvailabilityState.AVAILABLE:
            yield LazyText(N_("Officers can work: the application answers as it should."), values)
        case AvailabilityState.MAINTENANCE:
            text = N_("Officers see the maintenance page, since {since}.")
            yield LazyText(text if seen.since else N_("Officers see the maintenance page."), values)
        case AvailabilityState.NOT_RUNNING:
            text = N_("Officers cannot work: the application does not run, since {since}.")
            short = N_("Officers cannot work: the application does not run.")
            yield LazyText(text if seen.since else short, values)
            if seen.stopped_on_request:
                yield LazyText(
                    N_("  somebody stopped or disabled it; the agent does not start it.")
                )
        case AvailabilityState.UNHEALTHY:
            values["trouble"] = format_health_problem(seen)
            yield LazyText(
                N_("Officers are let in, but the application does not work: {trouble}."), values
            )
        case AvailabilityState.UNKNOWN:
            values["why"] = strip_control_characters(seen.unknown_because) or "-"
            yield LazyText(N_("Whether officers can work was not found out: {why}"), values)
    if seen.state is AvailabilityState.AVAILABLE and seen.answer is HealthAnswer.OTHER_VERSION:
        text = N_("  but {detail} is said to run, and {version} is chosen here.")
        yield LazyText(text, values)
    if seen.state is AvailabilityState.MAINTENANCE and seen.process_runs is False:
        yield LazyText(N_("  the application behind it does not run."))
    if seen.state is AvailabilityState.AVAILABLE and seen.missing_parts:
        names = {"names": ", ".join(map(strip_control_characters, seen.missing_parts))}
        yield LazyText(N_("  parts of it that do not run: {names}"), names)
