"""``plan``: what an upgrade would do here. Fetches the release; changes nothing that runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from packaging.version import Version

from ncen_updater.agent.cli.common import agent_session, path_document, show_path
from ncen_updater.agent.cli.session import AgentSession
from ncen_updater.common.cli.arguments import parse_version
from ncen_updater.common.cli.lazy import Command
from ncen_updater.common.cli.render import finding_document, finding_lines, format_bytes
from ncen_updater.common.errors import ExitCode
from ncen_updater.common.i18n import N_, Text

if TYPE_CHECKING:
    from ncen_updater.agent.engine.plan import Plan
    from ncen_updater.agent.site import Site
    from ncen_updater.feed.upgrade_path import NoPath, UpgradePath

__all__ = ["plan", "plan_document", "plan_for", "show_plan"]


@click.command(
    "plan", cls=Command, help=N_("Say what an upgrade would do here, and change nothing.")
)
@click.argument("version", required=False)
@click.option(
    "--sql", is_flag=True, help=N_("Print every statement that will run, in order, and only that.")
)
@click.option("--retry", is_flag=True, help=N_("Take releases too that failed here before."))
@click.pass_context
def plan(context: click.Context, version: str | None, sql: bool, retry: bool) -> ExitCode:
    session = agent_session(context)
    target = parse_version(version)
    site = session.open_site()
    return run_plan(session, site, target, sql=sql, retry=retry)


def run_plan(
    session: AgentSession, site: Site, target: Version | None, *, sql: bool, retry: bool
) -> ExitCode:
    """Make a plan and show it; the exit code says whether it is blocked."""
    path, made = plan_for(session, site, target, retry=retry)
    current = str(site.slots.current())
    if made is None:
        show_path(session, site.config.site.product, current, path)
        session.finish(path_document(path, session.language, current))
        return ExitCode.OK
    if sql:
        statements = made.sql()
        session.show(statements)
        session.finish({"digest": made.digest, "sql": statements})
        return ExitCode.OK
    show_path(session, site.config.site.product, current, path)
    show_plan(session, made)
    session.finish(plan_document(session, path, made))
    return ExitCode.BLOCKED if made.blocked else ExitCode.OK


def plan_for(
    session: AgentSession, site: Site, target: Version | None, *, retry: bool
) -> tuple[UpgradePath | NoPath, Plan | None]:
    """Choose a path and plan it; no plan where there is nothing to install."""
    from ncen_updater.agent.engine.operations import Operations
    from ncen_updater.agent.engine.plan import make_plan
    from ncen_updater.agent.journal.journal import Journal
    from ncen_updater.agent.journal.names import JOURNAL
    from ncen_updater.agent.rehearsal.store import Rehearsals, RehearsalState
    from ncen_updater.feed.upgrade_path import UpgradePath

    with session.progress() as progress:
        progress.tell(Text(N_("reading the signed list")))
        path = Operations(site, progress).path(target, retry=retry)
        current = site.slots.current()
        if not isinstance(path, UpgradePath) or current is None:
            return path, None
        made = make_plan(site, current, path, progress)
        with Journal.open(site.state / JOURNAL, read_only=True) as journal:
            shown = Rehearsals(journal).last(str(current), path.target.version)
        passed = shown is not None and shown.state is RehearsalState.PASSED
        return path, made.learnt(shown.report if shown is not None and passed else None)


def plan_document(
    session: AgentSession, path: UpgradePath | NoPath, made: Plan
) -> dict[str, object]:
    """Return a plan as JSON has it."""
    origin = str(made.hops[0].origin) if made.hops else None
    findings = [finding_document(finding, session.language) for finding in made.findings]
    return {
        **path_document(path, session.language, origin),
        "plan": made.as_json(),
        "findings": findings,
    }


def show_plan(session: AgentSession, made: Plan) -> None:
    """Show a plan to people."""
    for hop in made.hops:
        session.show()
        session.show(
            Text(
                N_("{origin} -> {version}: strategy {strategy}"),
                {
                    "origin": hop.origin, "version": hop.offer.version,
                    "strategy": made.strategy,
                },
            )
        )  # fmt: skip
        for facts in hop.databases:
            values = {"name": facts.name, "physical": facts.physical,
                      "size": format_bytes(facts.size_bytes)}  # fmt: skip
            session.show(Text(N_("  database {name} ({physical}), {size}"), values))
        if hop.copy and any(item.get("method") == "clone" for item in hop.copy.data.values()):
            session.show(
                Text(
                    N_(
                        "  the copies share their blocks with the originals: made at once, but one "
                        "bad sector harms both; they are no backup"
                    )
                )
            )
        for step in hop.migrations.steps:
            migration = {"database": step.database, "id": step.id}
            session.show(Text(N_("  migration {id} of {database}"), migration))
        session.show(f"  {hop.way_words.render(session.language)}")
        for files in hop.files:
            session.show(files.sentence)
    session.show()
    session.show(Text(N_("Steps (*: officers are out, -: not done by the command upgrade):")))
    for number, line in enumerate(made.steps, 1):
        mark = "*" if line.downtime else "-" if line.note else " "
        session.show(f"  {number:2} {mark} {line.title.render(session.language)}")
    session.show()
    session.show(Text(N_("Digest of the plan: {digest}"), {"digest": made.digest}))
    for text in finding_lines(made.findings, session.language):
        session.show(text)
    if made.blocked:
        session.show(Text(N_("The upgrade cannot begin while something blocks.")))
