"""Verdict on the start of an application, and on whether its release is to blame.

A release is marked bad only for the behaviour of its own process. So an application that is not
running, reports another version or does not answer is stopped and started once more: another
release may have been started, or this one killed, from outside. :func:`is_release_to_blame` is the
table that judges two starts.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from enum import StrEnum
from functools import partial

from ncen_updater.agent.adapters.application.health_result import (
    HealthExpectation,
    HealthResult,
    ProbeResult,
)
from ncen_updater.agent.adapters.application.health_watch import wait_until_healthy
from ncen_updater.agent.engine.site import Site
from ncen_updater.agent.engine.steps.outage import find_full_disk
from ncen_updater.agent.model.errors import (
    ApplicationError,
    ApplicationUnhealthyError,
    CommandError,
    StopError,
)
from ncen_updater.common.errors import InsufficientSpaceError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import (
    DISK_FULL,
    HEALTH_ACCESS_DENIED,
    HEALTH_UNDECIDED,
    STOPPED_BUT_ANSWERS,
    STOPPED_BUT_REPORTS_VERSION,
)
from ncen_updater.formats.release_document import ReleaseDocument
from ncen_updater.formats.reported_version import matches_reported_version

logger = logging.getLogger(__name__)

#: Interval of checks whether the application runs at all, while waiting for its health. They are
#: commands that slow the start, so they do not run at every health check.
PROCESS_CHECK_S = 0.5
#: Interval of checks whether a slow application has stopped.
STOP_POLL_S = 0.5


class StartFailure(StrEnum):
    """Kind of failure of an application that is not healthy."""

    UNHEALTHY = "unhealthy"  # reports the right version, but is unhealthy
    WRONG_VERSION = "wrong-version"  # answers with another version or with none
    NO_ANSWER = "no-answer"  # runs, but does not answer
    NOT_RUNNING = "not-running"  # does not run, or a part of it does not


def classify_failure(
    health: HealthResult,
    version: str,
    version_field: str,
    *,
    runs: bool,
    distinguishable: bool = True,
) -> StartFailure:
    """Classify a failed health check; pure.

    Args:
        health: The result of the check.
        version: Version string that the release reports.
        version_field: Field of the answer that holds the version.
        runs: Whether any process of the application runs.
        distinguishable: Whether the two releases of this change report different versions;
            otherwise either may have answered.
    """
    if health.missing_parts or not (runs or health.answered):
        return StartFailure.NOT_RUNNING
    if distinguishable and matches_reported_version(health.reported.get(version_field), version):
        return StartFailure.UNHEALTHY
    return StartFailure.WRONG_VERSION if health.answered else StartFailure.NO_ANSWER


def is_release_to_blame(
    first: StartFailure, second: StartFailure | None, *, other_answered: bool
) -> bool:
    """Tell whether the release is to blame; pure.

    Args:
        first: Failure of the first start.
        second: Failure of the second start; None if there was none.
        other_answered: Whether another program answered between the two, with the application
            stopped.
    """
    if StartFailure.UNHEALTHY in (first, second):
        return True  # only this release reports this version
    if second is None or StartFailure.NO_ANSWER in (first, second):
        return False  # no basis for a verdict
    if first is second is StartFailure.NOT_RUNNING:
        return True  # it ended on its own both times
    # Two wrong answers: the release gave them, if no other program answers at the address.
    return first is second is StartFailure.WRONG_VERSION and not other_answered


def require_healthy(
    site: Site, document: ReleaseDocument, *, distinguishable: bool = True, strict: bool = True
) -> None:
    """Wait until the application is healthy as this release; start it once more if that may help.

    Args:
        site: The site.
        document: The release.
        distinguishable: Whether the two releases of this change report different versions.
        strict: Whether refused credentials are an error. Not during a rollback or after the commit:
            there a running application that only refuses the credentials counts as healthy.

    Raises:
        ApplicationUnhealthyError: The release is to blame.
        HEALTH_ACCESS_DENIED: The application refuses the credentials of the health check; the
            release is not to blame.
        HEALTH_UNDECIDED: The application is unhealthy, and the cause is unknown.
        STOPPED_BUT_ANSWERS, STOPPED_BUT_REPORTS_VERSION: As :func:`require_address_free`.
        ApplicationError: The application cannot be stopped or started.
        DatabaseError: The databases cannot be reached, so no release could be healthy.
        InsufficientSpaceError: A disk is full, so no release could be healthy.
    """
    wait = partial(
        _wait_for_health, site, document, distinguishable=distinguishable, patient=not strict
    )
    started = site.clock.monotonic()
    health, first = wait()
    if first is None:
        return
    # Absent or closed databases make any release unhealthy; report them instead.
    site.database_engine.require_live()
    if health.credentials_refused and not health.missing_parts and site.application.is_running():
        if strict:
            raise ApplicationError(HEALTH_ACCESS_DENIED, problems=health.problem)
        logger.warning("the application runs, but its health cannot be checked: %s", health.problem)
        return
    if first is StartFailure.UNHEALTHY:
        require_judgeable(site, health.problem)
        raise _make_unhealthy_error(document, health, site.clock.monotonic() - started)
    first_problem = health.problem
    logger.warning("the application is not healthy; starting it again: %s", first_problem)
    site.application.stop()
    other_answered = require_address_free(site, document)
    site.application.start()
    health, second = wait()
    if second is None:
        return
    require_judgeable(site, health.problem)
    if is_release_to_blame(first, second, other_answered=other_answered):
        raise _make_unhealthy_error(document, health, site.clock.monotonic() - started)
    raise ApplicationError(
        HEALTH_UNDECIDED,
        product=document.manifest.product,
        version=document.manifest.version,
        first=first_problem,
        second=health.problem,
    )


def require_judgeable(site: Site, problems: object) -> None:
    """Refuse a verdict on the application in conditions in which no release could run.

    Raises:
        DatabaseError: If a live database is missing or closed, or refuses the application's roles.
        InsufficientSpaceError: If a disk is full.
    """
    site.database_engine.require_live(require_login=True)
    full = find_full_disk(site)
    if full is not None:
        logger.warning("%s is full; the release is not judged by this: %s", full, problems)
        raise InsufficientSpaceError(DISK_FULL, path=full)


def require_address_free(site: Site, document: ReleaseDocument) -> bool:
    """Check the address of the health check while the application is stopped.

    Returns:
        Whether something answers without a version, for example a proxy without a backend.

    Raises:
        STOPPED_BUT_ANSWERS: If the answer contains a version.
        STOPPED_BUT_REPORTS_VERSION: If the site's version command reports a version.
    """
    settings = site.config.application
    # Without further requests: if nobody listens, each could take its full time-out.
    health = site.application.check_health(HealthExpectation(document.manifest.reported))
    version = health.reported.get(settings.version_field)
    # If the application was started again meanwhile, the next step stops it.
    if version is not None and not site.application.is_running():
        url, command = settings.health_url, settings.version_command
        if command:
            raise ApplicationError(
                STOPPED_BUT_REPORTS_VERSION, version=version, url=url, command=command[0]
            )
        raise ApplicationError(STOPPED_BUT_ANSWERS, version=version, url=url)
    return health.answered


def start_remaining_parts(site: Site) -> LazyText | None:
    """Start the deferred parts, at most twice; return the error if one does not start."""
    application = site.application
    try:
        try:
            application.start_deferred_parts()
        except CommandError as error:
            logger.warning("the start failed; trying once more: %s", error)
            application.start_deferred_parts()
    except ApplicationError as error:
        logger.warning("a part of the application did not start: %s", error)
        return error.full_text
    return None


def try_stop(site: Site) -> None:
    """Stop the application and wait if it is slow; if it keeps running, its health decides."""
    try:
        site.application.stop()
    except StopError as error:
        logger.warning("the application does not stop in time: %s", error)
        wait_s = 0.0 if error.values["refused"] else site.config.application.health_timeout_s
        deadline = site.clock.monotonic() + wait_s
        while site.application.is_running() and site.clock.monotonic() < deadline:
            site.clock.wait(STOP_POLL_S)


def _make_expectation(document: ReleaseDocument) -> HealthExpectation:
    return HealthExpectation(document.manifest.reported, document.manifest.health)


def _wait_for_health(
    site: Site, document: ReleaseDocument, *, distinguishable: bool, patient: bool
) -> tuple[HealthResult, StartFailure | None]:
    """Wait for health; return the last check, and the kind of failure, if any."""
    expectation = _make_expectation(document)
    clock = site.clock.monotonic
    checked_at = clock()

    def is_hopeless(health: HealthResult) -> bool:
        nonlocal checked_at
        if health.answered or clock() - checked_at < PROCESS_CHECK_S:
            return False
        checked_at = clock()
        # A start that is queued in systemd counts as running, for example one that waits for the
        # agent's own resume unit, which ends at once while this operation runs.
        return site.application.describe_outage() is not None

    waited = wait_until_healthy(
        partial(site.application.check_health, expectation),
        timeout_s=site.config.application.health_timeout_s,
        clock=clock,
        wait=site.clock.wait,
        is_hopeless=is_hopeless,
        patient=patient,
    )
    if waited:
        return waited.health, None
    health = waited.health
    if waited.same is not None:
        template = N_("the same at {checks} checks in {seconds} s")
        values = {"checks": waited.same.checks, "seconds": f"{waited.seconds:.0f}"}
        same = LazyText(template, values)
        health = replace(health, results=(*health.results, ProbeResult("answer", same)))
    if not health.answered and (reason := site.application.describe_outage()):
        health = replace(health, results=(*health.results, ProbeResult("process", reason)))
    failure = classify_failure(
        health,
        document.manifest.reported,
        site.config.application.version_field,
        runs=health.answered or site.application.is_running(),
        distinguishable=distinguishable,
    )
    return health, failure


def _make_unhealthy_error(
    document: ReleaseDocument, health: HealthResult, seconds: float
) -> ApplicationUnhealthyError:
    return ApplicationUnhealthyError(
        product=document.manifest.product,
        version=document.manifest.version,
        seconds=round(seconds),
        problems=health.problem,
    )
