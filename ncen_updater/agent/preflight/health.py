"""Is the application well now?"""

from __future__ import annotations

from ncen_updater.agent.application.base import Application, Expectation
from ncen_updater.agent.application.errors import ApplicationError
from ncen_updater.agent.preflight.base import Context, advisory, check
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.findings import Finding, Severity
from ncen_updater.common.i18n import N_
from ncen_updater.common.messages import HEALTH_REFUSED

__all__ = ["check_health", "parts_missing"]


@check(100)
def check_health(context: Context) -> tuple[Finding, ...]:
    """NU-6309 where the application does not run, NU-6310 where it is not well, NU-6332 for parts.

    All are advisory but NU-5090 to NU-5092, and NU-5094 where what is sent along is refused: who
    cannot ask could not tell a good release from a bad one, and would find that out once officers
    are out.

    An upgrade may be just what a broken application needs; but whoever begins should know that it
    was broken before.
    """
    if not context.application.running():
        return (
            *_token_trouble(context.application),
            advisory(
                6309,
                N_("The application does not run now."),
                N_("Find out why before you upgrade, or go on if you know."),
            ),
        )
    missing = (*_token_trouble(context.application), *parts_missing(context.application))
    running = context.store.current()
    if running is None or context.application.token_problem() is not None:
        return missing
    health = context.application.health(Expectation(context.store.reported(running)))
    if health:
        return missing
    if health.refused:
        problems = "; ".join(health.problems)
        return (*missing, _strict(ApplicationError(HEALTH_REFUSED, problems=problems)))
    return (
        *missing,
        advisory(
            6310,
            N_("The application is not well now: {problems}"),
            N_("Find out why before you upgrade, or go on if you know."),
            problems="; ".join(health.problems),
        ),
    )


def _token_trouble(application: Application) -> tuple[Finding, ...]:
    """Say why the application cannot be asked with its token, where that is so."""
    problem = application.token_problem()
    return () if problem is None else (_strict(problem),)


def _strict(problem: UpdaterError) -> Finding:
    what, remedy = problem.what_text, problem.remedy_text
    figures = {name: str(value) for name, value in problem.values.items()}
    return Finding(problem.code, Severity.STRICT, what, remedy, figures)


def parts_missing(application: Application) -> tuple[Finding, ...]:
    """NU-6332 for each further part of the application that does not run."""
    return tuple(
        advisory(
            6332,
            N_("The part '{part}' of the application does not run, or falls over and over again."),
            N_("Start it, or find out why it stopped, before you upgrade."),
            part=part,
        )
        for part in application.missing(opened=True)
    )
