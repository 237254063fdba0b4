"""``plan``, ``rehearse`` and ``dossier``: effects of an upgrade, before its approval."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import click

from ncen_updater.agent.cli.common import agent_command, retry_option
from ncen_updater.agent.cli.session import AgentSession
from ncen_updater.agent.reports.command_results import (
    JsonDocument,
    OutputLine,
    format_step_lines,
)
from ncen_updater.common.cli.usage import parse_version
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import ExitCode


@agent_command
@click.argument("version", required=False)
@click.option("--sql", is_flag=True, help=N_("Print only the SQL statements, in order"))
@click.option("--steps", is_flag=True, help=N_("List every step of the upgrade"))
@retry_option
@click.option(
    "--prepared",
    is_flag=True,
    hidden=True,
)
def plan(
    session: AgentSession,
    version: str | None,
    sql: bool,
    steps: bool,
    retry: bool,
    prepared: bool,
) -> ExitCode:
    session.wraps_lines = not sql  # users copy the SQL from the screen
    target = parse_version(version)
    if prepared:
        local = session.get_local_site()
        return session.show_result(local.prepare_plan(target, retry=retry, sql=sql, prepared=True))
    answer = session.get_client().prepare_plan(target, retry=retry, sql=sql)
    if sql:
        return session.show_result(answer)
    more: list[OutputLine] = []
    if steps:
        more += ["", *format_step_lines(answer.document, session.language), ""]
    if not session.runs_for_service:
        more += _list_next_commands(answer.document, steps=steps)
    return session.show_result(replace(answer, lines=[*answer.lines, *more]))


def _list_next_commands(document: JsonDocument, *, steps: bool) -> Iterator[LazyText]:
    """Yield the commands that follow a plan; nothing without one."""
    made = document.get("plan")
    if not made:
        return
    version = {"version": made["hops"][-1]["to"]}
    if not steps:
        yield LazyText(N_("To list the steps, run: ncen-updater plan {version} --steps"), version)
    if not (made["blocked"] or document["rehearsed"]):
        yield LazyText(N_("To rehearse it, run: ncen-updater rehearse {version}"), version)


@agent_command
@click.argument("version", required=False)
@click.option(
    "--output",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help=N_("Output file (default: standard output)"),
)
@click.option("--prepared", is_flag=True, hidden=True)
def dossier(
    session: AgentSession, version: str | None, output: Path | None, prepared: bool
) -> ExitCode:
    from ncen_updater.common import atomic_files as durable
    from ncen_updater.common.errors import UpdaterError
    from ncen_updater.common.messages import DOSSIER_UNWRITTEN

    target = parse_version(version)
    if prepared:
        found = session.get_local_site().build_dossier(target, prepared=True)
    else:
        found = session.get_client().build_dossier(target)
    if found.error is not None:
        raise found.error
    html = str(found.document["html"])
    if output is not None:
        try:
            durable.write_file(output, html.encode(), 0o640)
        except OSError as error:
            raise UpdaterError(DOSSIER_UNWRITTEN, path=output, reason=error.strerror) from error
        session.add_line(LazyText(N_("Written: {path}"), {"path": output}))
    else:
        session.wraps_lines = False  # HTML is not wrapped
        session.add_line(html.rstrip("\n"))
    session.write_output(
        {
            **found.document,
            "output": str(output) if output else None,
            "html": None if output else html,
        }
    )
    return ExitCode.OK


@agent_command
@click.argument("version", required=False)
@retry_option
def rehearse(session: AgentSession, version: str | None, retry: bool) -> ExitCode:
    target = parse_version(version)
    return session.show_result(session.get_client().rehearse(target, retry=retry))
