"""``history``: past changes and other events of this site."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from ncen_updater.agent.cli.common import agent_command
from ncen_updater.agent.cli.event_text import format_event
from ncen_updater.agent.cli.session import AgentSession
from ncen_updater.agent.cli.status import STEP_STATES
from ncen_updater.agent.model.event_names import IMPORTED
from ncen_updater.agent.reports.change_lines import format_change, get_change_state
from ncen_updater.common.cli.characters import strip_control_characters
from ncen_updater.common.cli.lazy import IntegerRange
from ncen_updater.common.cli.render import format_duration, format_table
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.labels import get_step_label, translate_step_label
from ncen_updater.common.messages import ExitCode

Document = Mapping[str, Any]

#: Fields of an import event with the imported versions.
IMPORTED_KINDS = ("releases", "agents")


@agent_command
@click.argument("change", required=False)
@click.option(
    "--limit",
    type=IntegerRange(1, 10_000),
    default=50,
    metavar="N",
    help=N_("Maximum number of changes"),
)
@click.option("--events", is_flag=True, help=N_("With CHANGE: include steps and events"))
def history(session: AgentSession, change: str | None, limit: int, events: bool) -> ExitCode:
    found = session.get_record_reader().read_history(change, limit)
    if change is None:
        _show_changes(session, found)
    else:
        _show_change(session, found, events=events)
    session.write_output(found)
    return ExitCode.OK


def _join_texts(value: object) -> str:
    return strip_control_characters(", ".join(map(str, value))) if isinstance(value, list) else "-"


def _show_rehearsal(session: AgentSession, failed: Document) -> None:
    words = "{name}: {text}" if failed["error"] else "{name}"
    error = strip_control_characters(str(failed["error"])).split("\n", 1)[0]
    values = {
        "at": session.when(failed["at"]),
        "version": failed["version"],
        "error": LazyText(words, {"name": failed["code"] or "-", "text": error}),
    }
    session.add_line(LazyText(N_("{at}: rehearsal of {version} failed: {error}"), values))


def _show_import(session: AgentSession, event: Document) -> None:
    imported = [one for kind in IMPORTED_KINDS for one in event.get(kind) or ()]
    values = {
        "at": session.when(event["at"]),
        "by": event.get("by"),
        "code": event.get("code"),
        "file": strip_control_characters(str(event.get("file") or "-")),
        "releases": _join_texts(imported) or "-",
    }
    line = (
        N_("{at}: {releases} imported from {file} by {by}")
        if event["kind"] == IMPORTED
        else N_("{at}: import of {file} by {by} rejected ({code})")
    )
    session.add_line(LazyText(line, values))


def _show_adopted(session: AgentSession, event: Document) -> None:
    values = {
        "at": session.when(event["at"]),
        "version": event["version"],
        "by": _join_texts(event["by"]),
        "reasons": strip_control_characters("; ".join(map(str, event["reasons"]))) or "-",
    }
    words = N_("{at}: databases adopted as {version} by {by}: {reasons}")
    session.add_line(LazyText(words, values))


def _show_changes(session: AgentSession, found: Document) -> None:
    rows = [
        [
            session.translate(heading)
            for heading in (
                N_("change"), N_("type"), N_("from"), N_("to"), N_("result"), N_("downtime"),
                N_("code"), N_("started"),
            )
        ]
    ]  # fmt: skip
    for change in found["changes"]:
        downtime = change["downtime_s"]
        rows.append(
            [
                change["id"],
                session.translate(change["kind"]),
                change["from"],
                change["to"],
                session.translate(get_change_state(change)),
                "-" if downtime is None else format_duration(downtime),
                change["error_code"] or "-",
                session.when(change["created_at"]),
            ]
        )
    if found["changes"]:
        for line in format_table(rows, session.language):
            session.add_line(line)
        failed = next((one for one in found["changes"] if one["error_code"]), None)
        if failed is not None:
            text = N_("For the last failure, run: ncen-updater history {id}")
            session.add_line(LazyText(text, {"id": failed["id"]}))
    else:
        session.add_line(LazyText(N_("No upgrades yet.")))
    for failed in found["failed_rehearsals"]:
        _show_rehearsal(session, failed)
    for event in found["imports"]:
        _show_import(session, event)
    for event in found["adopted_restores"]:
        _show_adopted(session, event)


def _show_change(session: AgentSession, report: Document, *, events: bool) -> None:
    for line in format_change(report, session.language, session.zone):
        session.add_line(line)
    if not events:
        text = N_("For all steps and events, run: ncen-updater history {id} --events")
        session.add_line(LazyText(text, {"id": report["id"]}))
        return
    rows = [
        [
            f"  {translate_step_label(record['name'], report['kind'], session.language)}",
            session.translate(STEP_STATES.get(record["state"], record["state"])),
            "-" if record["seconds"] is None else format_duration(record["seconds"]),
        ]
        for record in report["steps"]
    ]
    for shown in format_table(rows, session.language):
        session.add_line(shown)
    for event in report["events"]:
        data = dict(event["data"] or {})
        if "step" in data:  # rollbacks have their own labels
            data["step"] = get_step_label(str(data["step"]), report["kind"])
        reported = format_event(event["at"], event["kind"], data, session.language, session.zone)
        session.add_line(f"  {reported}")
