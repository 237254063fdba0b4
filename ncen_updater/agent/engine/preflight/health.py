"""Checks of the application's health before a change."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from ncen_updater.agent.adapters.application.base import Application
from ncen_updater.agent.adapters.application.health_result import HealthExpectation, HealthResult
from ncen_updater.agent.config.agent_config import AgentConfig
from ncen_updater.agent.engine.preflight.base import (
    PreflightContext,
    make_advisory,
    make_blocker,
    register_check,
)
from ncen_updater.agent.model.errors import ApplicationError
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.findings import Finding, Severity
from ncen_updater.common.i18n import N_
from ncen_updater.common.messages import HEALTH_ACCESS_DENIED


@register_check(100)
def check_health(context: PreflightContext) -> tuple[Finding, ...]:
    """Check the application: NU-6309 not running, NU-6310 unhealthy, NU-6332 a part not running.

    These are warnings: an upgrade may be what repairs a broken application, but the operator should
    know about it before.
    """
    if not context.application.is_running():
        return (
            make_advisory(
                6309,
                N_("Application not running"),
                N_("Start the application before the upgrade."),
            ),
        )
    missing = find_missing_parts(context.application)
    health = _check_health(context)
    if health is None or health or health.credentials_refused:
        return missing
    return (*missing, make_unhealthy_finding(health))


def make_unhealthy_finding(health: HealthResult) -> Finding:
    """Return NU-6310: the application is unhealthy."""
    return make_advisory(
        6310,
        N_("Application unhealthy: {problems}"),
        N_("Repair the application before the upgrade."),
        problems=health.problem,
    )


@register_check(101, upgrade_only=True)
def check_health_credentials(context: PreflightContext) -> tuple[Finding, ...]:
    """Check the health credentials: NU-5090 to NU-5092 unusable token, NU-5094 refused.

    NU-6128 if the application runs but its health URL does not respond.

    Without working credentials the agent could not judge the new release, and would notice only in
    the downtime. This does not block a rollback, since the installed release may be what refuses
    them.
    """
    problem = context.application.check_health_token()
    if problem is not None:
        return (make_credentials_finding(problem),)
    health = _check_health(context) if context.application.is_running() else None
    if health is None:
        return ()
    return (*find_refused_credentials(health), *find_unanswered(health, context.config))


def find_unanswered(health: HealthResult, config: AgentConfig) -> tuple[Finding, ...]:
    """Return NU-6128 if the health URL does not respond."""
    settings = config.application
    url = f"{settings.health_url}{settings.health_path}"
    title = N_("Health URL not responding: {url}")
    remedy = N_(
        "Restart the application; if that does not help, correct application.health_url in"
        " agent.toml."
    )
    return () if health.answered else (make_blocker(6128, title, remedy, url=url),)


def find_refused_credentials(health: HealthResult) -> tuple[Finding, ...]:
    """Return NU-5094 if the application refuses the credentials."""
    if not health.credentials_refused:
        return ()
    return (
        make_credentials_finding(ApplicationError(HEALTH_ACCESS_DENIED, problems=health.problem)),
    )


def _check_health(context: PreflightContext) -> HealthResult | None:
    """Check the health of the installed release; None if no release is known."""
    running = context.slots.read_current()
    if running is None:
        return None
    return context.application.check_health(
        HealthExpectation(context.slots.read_reported_version(running))
    )


def make_credentials_finding(problem: UpdaterError) -> Finding:
    """Return a blocking finding on the credentials of the health check."""
    title, remedy = problem.title_text, problem.remedy_text
    figures = {name: str(value) for name, value in problem.values.items()}
    return Finding(problem.code, Severity.CRITICAL, title, remedy, figures)


def find_missing_parts(application: Application) -> tuple[Finding, ...]:
    """Return NU-6332 for each further part of the application that does not run."""
    return tuple(
        make_advisory(
            6332,
            N_("Application part '{part}' not running, or restarting repeatedly"),
            N_("Start the part before the upgrade."),
            part=part,
        )
        for part in application.find_missing_parts(include_deferred=True)
    )


@register_check(20)
def check_maintenance_page(context: PreflightContext) -> tuple[Finding, ...]:
    """Check for a maintenance page of a change that is not in this journal (NU-6336).

    Two agents with separate journals may manage one application by mistake. The second one would
    take the maintenance page of the first for an operator's, and leave it on at the end of its
    change.
    """
    maintenance_file = context.config.application.maintenance_file
    return find_unknown_maintenance(context.application, context.known_changes, maintenance_file)


def find_unknown_maintenance(
    application: Application, changes: Collection[str], maintenance_file: Path
) -> tuple[Finding, ...]:
    """Report a maintenance page that a change unknown to the journal switched on."""
    other = application.read_maintenance_change()
    if not other or other in changes:
        return ()
    return (
        make_blocker(
            6336,
            N_("Maintenance page shown by change {change}, unknown to this journal"),
            N_("If no other ncen-updater is running, run: rm {path}"),
            change=other,
            path=str(maintenance_file),
        ),
    )
