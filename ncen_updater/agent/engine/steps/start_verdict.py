"""Verdict on the start of an application, and on whether its release is to blame.

A release is marked bad only for what its own process reports or does. So an application that is
dead, answers as another version, or not at all, is stopped and started once more: somebody may have
started another one, or killed this one. The table of :func:`is_release_to_blame` gives the verdict
on two starts.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from enum import StrEnum
from functools import partial

from ncen_updater.agent.adapters.application.base import (
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

# An application that does not run is not waited for; but not every look asks whether it runs, which
# is a command and takes time from what starts.
PROCESS_CHECK_S = 0.5
STOP_POLL_S = 0.5


class StartFailure(StrEnum):
    """What an application that is not healthy shows."""

    UNHEALTHY = "unwell"  # it answers as the right version, and something else is wrong
    WRONG_VERSION = "other"  # something answers, as another version or as none
    NO_ANSWER = "silent"  # it runs, and nothing answers
    NOT_RUNNING = "dead"  # it does not run, or a part of it does not


def classify_failure(
    health: HealthResult,
    version: str,
    version_field: str,
    *,
    runs: bool,
    distinguishable: bool = True,
) -> StartFailure:
    """Return what a bad look shows; pure.

    Args:
        health: The look.
        version: What the release reports.
        version_field: Where.
        runs: Whether anything of ours runs.
        distinguishable: Whether no other release of this change reports the same; else who answers
            with it may be either.
    """
    if health.missing_parts or not (runs or health.answered):
        return StartFailure.NOT_RUNNING
    if distinguishable and matches_reported_version(health.reported.get(version_field), version):
        return StartFailure.UNHEALTHY
    return StartFailure.WRONG_VERSION if health.answered else StartFailure.NO_ANSWER


def is_release_to_blame(
    first: StartFailure, second: StartFailure | None, *, other_answered: bool
) -> bool:
    """Tell whether a release is to blame; pure.

    Args:
        first: What its first start showed.
        second: What the second one showed; None where there was none.
        other_answered: Whether something answered between the two, while all of ours was stopped.
    """
    if StartFailure.UNHEALTHY in (first, second):
        return True  # nobody else answers as this version
    if second is None or StartFailure.NO_ANSWER in (first, second):
        return False  # no verdict by anybody
    if first is second is StartFailure.NOT_RUNNING:
        return True  # it ended by itself each time
    # Twice something wrong was said; by the release, if nobody else was there to say it.
    return first is second is StartFailure.WRONG_VERSION and not other_answered


def require_healthy(
    site: Site, document: ReleaseDocument, *, distinguishable: bool = True, strict: bool = True
) -> float:
    """Wait until what was started is healthy as this release; start it once more where that helps.

    Args:
        site: The site.
        document: The release.
        distinguishable: Whether no other release of this change reports the same.
        strict: Whether going on depends on what it says. During a rollback, and once users may
            come in, one that runs and only refuses what the site sends along is taken as there.

    Returns:
        Seconds that the last start took.

    Raises:
        ApplicationUnhealthyError: By the fault of the release.
        HEALTH_ACCESS_DENIED: If it refuses what the site sends along when it asks, by nobody's.
        HEALTH_UNDECIDED: By nobody's, as far as can be told.
        STOPPED_BUT_ANSWERS: Because something else has its address.
        ApplicationError: If it cannot be stopped or started.
        DatabaseError: If the databases cannot be reached, so that no release could be well.
        InsufficientSpaceError: If a disk is full, so that none could, either.
    """
    wait = partial(_wait_for_health, site, document, distinct=distinguishable, patient=not strict)
    began = site.clock.monotonic()
    seconds, health, first = wait()
    if first is None:
        return seconds
    # Databases that are gone or closed make any release unwell, and are told as such.
    site.database_engine.require_live()
    if health.credentials_refused and not health.missing_parts and site.application.is_running():
        if strict:
            raise ApplicationError(HEALTH_ACCESS_DENIED, problems=health.problem)
        logger.warning("the application runs, and nobody can ask how it is: %s", health.problem)
        return seconds
    if first is StartFailure.UNHEALTHY:
        require_judgeable(site, health.problem)
        raise _make_unhealthy_error(document, health, site.clock.monotonic() - began)
    before = health.problem
    logger.warning("the application is not well and is started once more: %s", before)
    site.application.stop()
    foreign_session = require_address_free(site, document)
    site.application.start()
    seconds, health, second = wait()
    if second is None:
        return seconds
    require_judgeable(site, health.problem)
    if is_release_to_blame(first, second, other_answered=foreign_session):
        raise _make_unhealthy_error(document, health, site.clock.monotonic() - began)
    raise ApplicationError(
        HEALTH_UNDECIDED,
        product=document.manifest.product,
        version=document.manifest.version,
        first=before,
        second=health.problem,
    )


def require_judgeable(site: Site, problems: object) -> None:
    """Refuse to judge what does not run as it should while no release could.

    Raises:
        DatabaseError: If a live database is missing or closed, or shut to the application's roles.
        InsufficientSpaceError: With the place.
    """
    site.database_engine.require_live(entered=True)
    full = find_full_disk(site)
    if full is not None:
        logger.warning("%s is full, and nothing is judged by this: %s", full, problems)
        raise InsufficientSpaceError(DISK_FULL, path=full)


def require_address_free(site: Site, document: ReleaseDocument) -> bool:
    """Ask the address of the health while all of ours is stopped.

    Returns:
        Whether something answers all the same, such as a proxy that has nobody behind it.

    Raises:
        STOPPED_BUT_ANSWERS: If it tells a version.
        STOPPED_BUT_REPORTS_VERSION: If the site's command tells one for it.
    """
    settings = site.config.application
    # Without further requests: where nobody listens, each might take its whole time.
    health = site.application.check_health(HealthExpectation(document.manifest.reported))
    version = health.reported.get(settings.version_field)
    # Somebody may have started ours again meanwhile: then the next step stops it.
    if version is not None and not site.application.is_running():
        url, command = settings.health_url, settings.version_command
        if command:
            raise ApplicationError(
                STOPPED_BUT_REPORTS_VERSION, version=version, url=url, command=command[0]
            )
        raise ApplicationError(STOPPED_BUT_ANSWERS, version=version, url=url)
    return health.answered


def start_remaining_parts(site: Site) -> LazyText | None:
    """Start the parts that wait until users are in; return why one does not start."""
    application = site.application
    try:
        try:
            application.start_deferred_parts()
        except CommandError as error:
            logger.warning("the start failed and is tried once more: %s", error)
            application.start_deferred_parts()
    except ApplicationError as error:
        logger.warning("a part of the application does not start: %s", error)
        return error.full_text
    return None


def try_stop(site: Site) -> None:
    """Stop what runs, and wait for one that is slow. What runs on is for its health to judge."""
    try:
        site.application.stop()
    except StopError as error:
        logger.warning("it does not stop in time: %s", error)
        patience = 0.0 if error.values["refused"] else site.config.application.health_timeout_s
        deadline = site.clock.monotonic() + patience
        while site.application.is_running() and site.clock.monotonic() < deadline:
            site.clock.wait(STOP_POLL_S)


def _make_expectation(document: ReleaseDocument) -> HealthExpectation:
    return HealthExpectation(document.manifest.reported, document.manifest.health)


def _wait_for_health(
    site: Site, document: ReleaseDocument, *, distinct: bool, patient: bool
) -> tuple[float, HealthResult, StartFailure | None]:
    """Wait for health; returns the seconds, the last look, and what was wrong if anything was."""
    expectation = _make_expectation(document)
    clock = site.clock.monotonic
    asked = clock()

    def dead(health: HealthResult) -> bool:
        nonlocal asked
        if health.answered or clock() - asked < PROCESS_CHECK_S:
            return False
        asked = clock()
        # What waits in the queue of the system is on its way, such as behind our own unit that
        # resumes: that one ends at once, since this is at work already.
        return site.application.why_down() is not None

    waited = wait_until_healthy(
        partial(site.application.check_health, expectation),
        timeout_s=site.config.application.health_timeout_s,
        clock=clock,
        wait=site.clock.wait,
        is_hopeless=dead,
        patient=patient,
    )
    if waited:
        return waited.seconds, waited.health, None
    health = waited.health
    if waited.same is not None:
        words = N_("the same at {looks} checks in {seconds} s")
        same = LazyText(words, {"looks": waited.same.looks, "seconds": f"{waited.seconds:.0f}"})
        health = replace(health, results=(*health.results, ProbeResult("answer", same)))
    if not health.answered and (why := site.application.why_down()):
        health = replace(health, results=(*health.results, ProbeResult("process", why)))
    sign = classify_failure(
        health,
        document.manifest.reported,
        site.config.application.version_field,
        runs=health.answered or site.application.is_running(),
        distinguishable=distinct,
    )
    return waited.seconds, health, sign


def _make_unhealthy_error(
    document: ReleaseDocument, health: HealthResult, seconds: float
) -> ApplicationUnhealthyError:
    return ApplicationUnhealthyError(
        product=document.manifest.product,
        version=document.manifest.version,
        seconds=round(seconds),
        problems=health.problem,
    )
