"""``upgrade``: walk the path to a release."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from ncen_updater.agent.cli.common import (
    agent_session,
    path_document,
    result_document,
    show_path,
    show_result,
)
from ncen_updater.agent.cli.hold import parse_until
from ncen_updater.agent.cli.plan import plan_for, run_plan, show_plan
from ncen_updater.agent.cli.remote import carry_out, order, service_for, show_document
from ncen_updater.agent.cli.session import AgentSession
from ncen_updater.common.cli.arguments import parse_version
from ncen_updater.common.cli.errors import NOTHING_CHANGED, NeedsYes
from ncen_updater.common.cli.lazy import Command
from ncen_updater.common.errors import ExitCode
from ncen_updater.common.i18n import N_, Text

if TYPE_CHECKING:
    from packaging.version import Version

    from ncen_updater.agent.service.client import Client

__all__ = ["upgrade"]


@click.command("upgrade", cls=Command, help=N_("Upgrade the application."))
@click.argument("version", required=False)
@click.option("--retry", is_flag=True, help=N_("Try releases again that failed here before."))
@click.option("--yes", is_flag=True, help=N_("Do not ask. Nothing that blocks is passed over."))
@click.option(
    "--scheduled", is_flag=True, help=N_("For the service: only as it was rehearsed and approved.")
)
@click.option(
    "--begin-before",
    metavar="TIME",
    help=N_("Begin nothing that keeps officers out from this time on."),
)
@click.option("--dry-run", is_flag=True, help=N_("Show the plan and change nothing."))
@click.pass_context
def upgrade(
    context: click.Context,
    version: str | None,
    retry: bool,
    yes: bool,
    scheduled: bool,
    begin_before: str | None,
    dry_run: bool,
) -> ExitCode:
    session = agent_session(context)
    target = parse_version(version)
    closes = parse_until(begin_before, datetime.now(UTC))
    service = None if dry_run or scheduled or closes else service_for(session)
    if service is not None:
        return _ordered(session, service, target, retry=retry, yes=yes)
    from ncen_updater.agent.approvals.status import consent_required, require_consent
    from ncen_updater.agent.engine.interruption import Interruption
    from ncen_updater.agent.engine.operations import Operations

    site = session.open_site()
    if dry_run:
        return run_plan(session, site, target, sql=False, retry=retry)
    with session.progress() as progress:
        Operations(site, progress).require_no_hold()
    product = site.config.site.product
    if not yes:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise NeedsYes(state=NOTHING_CHANGED)
        path, made = plan_for(session, site, target, retry=retry)
        show_path(session, product, str(site.slots.current()), path)
        if made is None:
            session.finish(path_document(path, session.language, str(site.slots.current())))
            return ExitCode.OK
        show_plan(session, made)
        target = made.hops[-1].offer.release_version  # what was agreed to, whatever comes meanwhile
        question = Text(N_("Upgrade {product} now?"), {"product": product})
        session.agree(question, yes=False)
    interruption = Interruption()
    with session.progress() as progress, interruption.handled():
        operations = Operations(site, progress, interruption=interruption)
        needed = consent_required(site, scheduled=scheduled)
        agree = None if needed is None else require_consent(site, progress, approvals=needed)
        result = operations.upgrade(target, retry=retry, begin_before=closes, agree=agree)
    if not result.outcomes and result.path is not None:
        show_path(session, product, str(site.slots.current()), result.path)
    show_result(session, result)
    session.finish(result_document(result, session.language))
    return ExitCode.OK


def _ordered(
    session: AgentSession, service: Client, target: Version | None, *, retry: bool, yes: bool
) -> ExitCode:
    """Let the service upgrade, after a person has seen what it would do."""
    version = str(target) if target else None
    if not yes:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise NeedsYes(state=NOTHING_CHANGED)
        code, plan = order(session, service, "prepare", version=version, retry=retry)
        if code != ExitCode.OK or plan.get("available") is not True:
            show_document(session, code, plan)
            return code
        for line in plan.get("words", ()):
            session.show(str(line))
        session.agree(Text(N_("Upgrade now?")), yes=False)
        version = plan["hops"][-1]["version"]  # what was agreed to, whatever comes meanwhile
    return carry_out(session, service, "upgrade", version=version, retry=retry)
