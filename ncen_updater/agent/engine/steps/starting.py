"""Whether what was started is well; and where it is not, whether its release is to blame.

A release is called bad by what its own process says or does. So an application that is dead, or
answers as another version, or not at all, is stopped and started once more: somebody may have
started another one, or killed this one. The table of :func:`blamed` tells what two starts mean.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from enum import StrEnum
from functools import partial

from ncen_updater.agent.adapters.application.base import Expectation, Health, ProbeResult
from ncen_updater.agent.adapters.application.waiting import wait_until_healthy
from ncen_updater.agent.engine.site import Site
from ncen_updater.agent.engine.steps.outage import full_place
from ncen_updater.agent.model.errors import ApplicationError, CommandFailed, StopFailed, Unhealthy
from ncen_updater.common.errors import SpaceShort
from ncen_updater.common.messages import (
    ANOTHER_ANSWERS,
    COMMAND_SAYS_ANOTHER,
    DISK_FULL,
    HEALTH_REFUSED,
    NEVER_ANSWERED,
)
from ncen_updater.formats.document import ReleaseDocument
from ncen_updater.formats.reported import says

logger = logging.getLogger(__name__)

# An application that does not run is not waited for; but not every look asks whether it runs, which
# is a command and takes time from what starts.
DEAD_LOOK_S = 0.5
LOOK_S = 0.5


class Sign(StrEnum):
    """What an application that is not healthy shows."""

    UNWELL = "unwell"  # it answers as the right version, and something else is wrong
    OTHER = "other"  # something answers, as another version or as none
    SILENT = "silent"  # it runs, and nothing answers
    DEAD = "dead"  # it does not run, or a part of it does not


def sign_of(
    health: Health, version: str, version_field: str, *, runs: bool, told_apart: bool = True
) -> Sign:
    """Return what a bad look shows; pure.

    Args:
        health: The look.
        version: What the release reports.
        version_field: Where.
        runs: Whether anything of ours runs.
        told_apart: Whether no other release of this change reports the same; else who answers with
            it may be either.
    """
    if health.missing or not (runs or health.answered):
        return Sign.DEAD
    if told_apart and says(health.reported.get(version_field), version):
        return Sign.UNWELL
    return Sign.OTHER if health.answered else Sign.SILENT


def blamed(first: Sign, second: Sign | None, *, stranger: bool) -> bool:
    """Whether a release is to blame; pure.

    Args:
        first: What its first start showed.
        second: What the second one showed; None where there was none.
        stranger: Whether something answered between the two, while all of ours was stopped.
    """
    if Sign.UNWELL in (first, second):
        return True  # nobody else answers as this version
    if second is None or Sign.SILENT in (first, second):
        return False  # no verdict by anybody
    if first is second is Sign.DEAD:
        return True  # it ended by itself each time
    # Twice something wrong was said; by the release, if nobody else was there to say it.
    return first is second is Sign.OTHER and not stranger


def require_well(
    site: Site, document: ReleaseDocument, *, told_apart: bool = True, judged: bool = True
) -> float:
    """Wait until what was started is healthy as this release; start it once more where that helps.

    Args:
        site: The site.
        document: The release.
        told_apart: Whether no other release of this change reports the same.
        judged: Whether going on depends on what it says. On the way back, and once officers may
            come in, one that runs and only refuses what the site sends along is taken as there.

    Returns:
        Seconds that the last start took.

    Raises:
        Unhealthy: By the fault of the release.
        HealthRefused: If it refuses what the site sends along when it asks, by nobody's.
        NeverAnswered: By nobody's, as far as can be told.
        AnotherAnswers: Because something else has its address.
        ApplicationError: If it cannot be stopped or started.
        DatabaseError: If the databases cannot be reached, so that no release could be well.
        SpaceShort: If a disk is full, so that none could, either.
    """
    wait = partial(_wait, site, document, told_apart=told_apart, patient=not judged)
    began = site.clock.monotonic()
    seconds, health, first = wait()
    if first is None:
        return seconds
    # Databases that are gone or closed make any release unwell, and are told as such.
    site.engine.require_live()
    if health.refused and not health.missing and site.application.running():
        if judged:
            raise ApplicationError(HEALTH_REFUSED, problems=_problems(health))
        logger.warning("the application runs, and nobody can ask how it is: %s", _problems(health))
        return seconds
    if first is Sign.UNWELL:
        require_judgeable(site, _problems(health))
        raise _unhealthy(document, health, site.clock.monotonic() - began)
    before = _problems(health)
    logger.warning("the application is not well and is started once more: %s", before)
    site.application.stop()
    stranger = require_nobody_answers(site, document)
    site.application.start()
    seconds, health, second = wait()
    if second is None:
        return seconds
    require_judgeable(site, _problems(health))
    if blamed(first, second, stranger=stranger):
        raise _unhealthy(document, health, site.clock.monotonic() - began)
    raise ApplicationError(
        NEVER_ANSWERED,
        product=document.manifest.product,
        version=document.manifest.version,
        first=before,
        second=_problems(health),
    )


def require_judgeable(site: Site, problems: str) -> None:
    """Refuse to judge what does not run as it should while no release could.

    Raises:
        DatabaseError: If a live database is missing or closed, or shut to the application's roles.
        SpaceShort: With the place.
    """
    site.engine.require_live(entered=True)
    full = full_place(site)
    if full is not None:
        logger.warning("%s is full, and nothing is judged by this: %s", full, problems)
        raise SpaceShort(DISK_FULL, path=full)


def require_nobody_answers(site: Site, document: ReleaseDocument) -> bool:
    """Ask the address of the health while all of ours is stopped.

    Returns:
        Whether something answers all the same, such as a proxy that has nobody behind it.

    Raises:
        AnotherAnswers: If it tells a version.
        CommandSaysAnother: If the site's command tells one for it.
    """
    settings = site.config.application
    # Without further requests: where nobody listens, each might take its whole time.
    health = site.application.health(Expectation(document.manifest.reported))
    version = health.reported.get(settings.version_field)
    # Somebody may have started ours again meanwhile: then it is stopped by whoever comes next.
    if version is not None and not site.application.running():
        url, command = settings.health_url, settings.version_command
        if command:
            raise ApplicationError(
                COMMAND_SAYS_ANOTHER, version=version, url=url, command=command[0]
            )
        raise ApplicationError(ANOTHER_ANSWERS, version=version, url=url)
    return health.answered


def start_rest(site: Site) -> str | None:
    """Start the parts that wait until officers are in; return why one does not start."""
    application = site.application
    try:
        try:
            application.start_rest()
        except CommandFailed as error:
            logger.warning("the start failed and is tried once more: %s", error)
            application.start_rest()
    except ApplicationError as error:
        logger.warning("a part of the application does not start: %s", error)
        return str(error)
    return None


def stop_if_it_can(site: Site) -> None:
    """Stop what runs, and wait for one that is slow. What runs on is for its health to judge."""
    try:
        site.application.stop()
    except StopFailed as error:
        logger.warning("it does not stop in time: %s", error)
        patience = 0.0 if error.values["refused"] else site.config.application.health_timeout_s
        deadline = site.clock.monotonic() + patience
        while site.application.running() and site.clock.monotonic() < deadline:
            site.clock.wait(LOOK_S)


def _expectation(document: ReleaseDocument) -> Expectation:
    return Expectation(document.manifest.reported, document.manifest.health)


def _wait(
    site: Site, document: ReleaseDocument, *, told_apart: bool, patient: bool
) -> tuple[float, Health, Sign | None]:
    """Wait for health; returns the seconds, the last look, and what was wrong if anything was."""
    expectation = _expectation(document)
    clock = site.clock.monotonic
    asked = clock()

    def dead(health: Health) -> bool:
        nonlocal asked
        if health.answered or clock() - asked < DEAD_LOOK_S:
            return False
        asked = clock()
        # What waits in the queue of the system is on its way, such as behind our own unit that
        # resumes: that one ends at once, since this is at work already.
        return site.application.why_down() is not None

    waited = wait_until_healthy(
        partial(site.application.health, expectation),
        timeout_s=site.config.application.health_timeout_s,
        clock=clock,
        wait=site.clock.wait,
        hopeless=dead,
        patient=patient,
    )
    if waited:
        return waited.seconds, waited.health, None
    health = waited.health
    if waited.same is not None:
        words = f"the same at {waited.same.looks} looks in {waited.seconds:.0f} s"
        health = replace(health, results=(*health.results, ProbeResult("answer", words)))
    if not health.answered and (why := site.application.why_down()):
        health = replace(health, results=(*health.results, ProbeResult("unit", why)))
    sign = sign_of(
        health,
        document.manifest.reported,
        site.config.application.version_field,
        runs=health.answered or site.application.running(),
        told_apart=told_apart,
    )
    return waited.seconds, health, sign


def _unhealthy(document: ReleaseDocument, health: Health, seconds: float) -> Unhealthy:
    return Unhealthy(
        product=document.manifest.product,
        version=document.manifest.version,
        seconds=round(seconds),
        problems=_problems(health),
    )


def _problems(health: Health) -> str:
    return "; ".join(health.problems)
