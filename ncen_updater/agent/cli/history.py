"""``history``: what was done here, as its journal has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from ncen_updater.agent.cli.common import agent_session
from ncen_updater.agent.cli.event_words import event_line
from ncen_updater.agent.cli.session import AgentSession
from ncen_updater.agent.model.names import IMPORTED
from ncen_updater.agent.reports.change_lines import change_lines
from ncen_updater.common.cli.characters import clean
from ncen_updater.common.cli.lazy import Command
from ncen_updater.common.cli.render import format_duration, table
from ncen_updater.common.i18n import N_, Text
from ncen_updater.common.messages import SOAK_FAILED, ExitCode

Document = Mapping[str, Any]

#: What a bundle may have brought, as its event has it.
IMPORTED_KINDS = ("releases", "agents")


@click.command("history", cls=Command, help=N_("What was done here; with an id, one change whole."))
@click.argument("change", required=False)
@click.option(
    "--limit", type=click.IntRange(1, 10_000), default=50, help=N_("At most this many changes.")
)
@click.option("--events", is_flag=True, help=N_("With an id: every step and event as well."))
@click.pass_context
def history(context: click.Context, change: str | None, limit: int, events: bool) -> ExitCode:
    session = agent_session(context)
    found = session.client().history(change, limit)
    if change is None:
        _list(session, found)
    else:
        _one(session, found, events=events)
    session.finish(found)
    return ExitCode.OK


def _texts(value: object) -> str:
    return clean(", ".join(map(str, value))) if isinstance(value, list) else "-"


def _show_rehearsal(session: AgentSession, failed: Document) -> None:
    error = clean(str(failed["error"] or "")).split("\n", 1)[0]
    code = failed["code"] or "-"
    values = {"at": session.when(failed["at"]), "version": failed["version"]}
    if error:
        told = error if code in error else f"{code}: {error}"
        text = N_("{at}: the rehearsal of {version} failed: {error}")
        session.show(Text(text, {**values, "error": told}))
    else:
        text = N_("{at}: the rehearsal of {version} failed ({code})")
        session.show(Text(text, {**values, "code": code}))


def _show_import(session: AgentSession, event: Document) -> None:
    brought = [one for kind in IMPORTED_KINDS for one in event.get(kind) or ()]
    values = {
        "at": session.when(event["at"]),
        "by": event.get("by"),
        "code": event.get("code"),
        "file": clean(str(event.get("file") or "-")),
        "releases": _texts(brought) or "-",
    }
    line = (
        N_("{at}: imported {releases} from {file}, by {by}")
        if event["kind"] == IMPORTED
        else N_("{at}: refused to import {file} ({code}), by {by}")
    )
    session.show(Text(line, values))


def _show_accepted(session: AgentSession, taken: Document) -> None:
    values = {
        "at": session.when(taken["at"]),
        "version": taken["version"],
        "by": _texts(taken["by"]),
        "reasons": clean("; ".join(map(str, taken["reasons"]))) or "-",
    }
    words = N_(
        "{at}: the databases as they are were taken as those of {version}, by {by}: {reasons}"
    )
    session.show(Text(words, values))


def _code(change: Document) -> str | None:
    """What a change failed with; of one that came to its end, what its release turned bad by."""
    code: str | None = change["error_code"]
    return code or (SOAK_FAILED.code if change["turned_bad"] else None)


def _list(session: AgentSession, found: Document) -> None:
    rows = [
        [
            session.text(heading)
            for heading in (
                N_("change"), N_("what"), N_("from"), N_("to"), N_("came to"), N_("stop"),
                N_("code"), N_("begun"),
            )
        ]
    ]  # fmt: skip
    for change in found["changes"]:
        stop = change["stop_s"]
        rows.append(
            [
                change["id"],
                session.text(change["kind"]),
                change["from"],
                change["to"],
                session.text(change["state"]),
                "-" if stop is None else format_duration(stop),
                _code(change) or "-",
                session.when(change["created_at"]),
            ]
        )
    if found["changes"]:
        for line in table(rows, session.language):
            session.show(line)
        failed = next((one for one in found["changes"] if _code(one)), None)
        if failed is not None:
            text = N_("What failed, and what became of it: 'ncen-updater history {id}'")
            session.show(Text(text, {"id": failed["id"]}))
    else:
        session.show(Text(N_("No change was ever begun here.")))
    for failed in found["failed_rehearsals"]:
        _show_rehearsal(session, failed)
    for event in found["imports"]:
        _show_import(session, event)
    for taken in found["accepted"]:
        _show_accepted(session, taken)


def _one(session: AgentSession, report: Document, *, events: bool) -> None:
    for line in change_lines(report, session.language, session.zone):
        session.show(line)
    if not events:
        text = N_("Every step and event: 'ncen-updater history {id} --events'")
        session.show(Text(text, {"id": report["id"]}))
        return
    rows = [
        [
            f"  {session.text(record['name'])}",
            session.text(record["state"]),
            "-" if record["seconds"] is None else format_duration(record["seconds"]),
        ]
        for record in report["steps"]
    ]
    for shown in table(rows, session.language):
        session.show(shown)
    for event in report["events"]:
        told = event_line(event["at"], event["kind"], event["data"], session.language, session.zone)
        session.show(f"  {told}")
