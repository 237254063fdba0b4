"""``history``: what was done here, from the journal alone."""

from __future__ import annotations

import click

from ncen_updater.cli.commands.common import agent_session
from ncen_updater.cli.errors import NOTHING_CHANGED, UnknownChange
from ncen_updater.cli.lazy import Command
from ncen_updater.cli.render import clean, format_duration, format_time, table
from ncen_updater.cli.session import AgentSession
from ncen_updater.config.paths import load_places
from ncen_updater.errors import ExitCode
from ncen_updater.i18n import N_, Text
from ncen_updater.service.report import change_report, step_seconds
from ncen_updater.upgrade.journal import Journal
from ncen_updater.upgrade.journal_rows import Event
from ncen_updater.upgrade.model import Change
from ncen_updater.upgrade.names import IMPORT_REFUSED, IMPORTED, JOURNAL
from ncen_updater.upgrade.outcome import change_document, stop_seconds

__all__ = ["history"]


@click.command("history", cls=Command, help=N_("What was done here; with an id, one change whole."))
@click.argument("change", required=False)
@click.option(
    "--limit", type=click.IntRange(1, 10_000), default=50, help=N_("At most this many changes.")
)
@click.pass_context
def history(context: click.Context, change: str | None, limit: int) -> ExitCode:
    session = agent_session(context)
    places = load_places(session.config)
    with Journal.open(places.state / JOURNAL, read_only=True) as journal:
        if change is None:
            _list(session, journal, journal.changes(limit), _imports(journal, limit))
        else:
            _one(session, journal, change)
    return ExitCode.OK


def _imports(journal: Journal, limit: int) -> list[Event]:
    """Imports that ended, refused ones too, newest first."""
    ended = [event for event in journal.events() if event.kind in (IMPORTED, IMPORT_REFUSED)]
    return ended[::-1][:limit]


def _texts(value: object) -> str:
    return clean(", ".join(map(str, value))) if isinstance(value, list) else "-"


def _show_import(session: AgentSession, event: Event) -> None:
    values = {
        "at": format_time(event.at),
        "by": event.data.get("by"),
        "code": event.data.get("code"),
        "files": _texts(event.data.get("files")),
        "releases": _texts(event.data.get("releases")),
    }
    line = (
        N_("{at}: imported {releases} from {files}, by {by}")
        if event.kind == IMPORTED
        else N_("{at}: refused to import {files} ({code}), by {by}")
    )
    session.show(Text(line, values))


def _list(
    session: AgentSession, journal: Journal, changes: tuple[Change, ...], imports: list[Event]
) -> None:
    facts = {change.id: journal.facts(change.id) for change in changes}
    rows = [
        [
            session.text(heading)
            for heading in (
                N_("change"), N_("what"), N_("from"), N_("to"), N_("came to"), N_("stop"),
                N_("code"), N_("begun"),
            )
        ]
    ]  # fmt: skip
    for change in changes:
        stop = stop_seconds(change, facts[change.id])
        rows.append(
            [
                change.id,
                session.text(change.kind.value),
                change.from_version,
                change.to_version,
                session.text(change.state.value),
                "-" if stop is None else format_duration(stop),
                change.error_code or "-",
                format_time(change.created_at),
            ]
        )
    if changes:
        for line in table(rows):
            session.show(line)
    else:
        session.show(Text(N_("No change was ever begun here.")))
    for event in imports:
        _show_import(session, event)
    session.finish(
        {
            "changes": [change_document(change, facts[change.id]) for change in changes],
            "imports": [{"at": e.at, "kind": e.kind, **e.data} for e in imports],
        }
    )


def _one(session: AgentSession, journal: Journal, change_id: str) -> None:
    try:
        report = change_report(journal, change_id)
    except KeyError as error:
        raise UnknownChange(change=change_id, state=NOTHING_CHANGED) from error
    change = journal.change(change_id)
    values = {"kind": change.kind, "origin": change.from_version, "id": change.id,
              "version": change.to_version, "state": change.state}  # fmt: skip
    session.show(Text(N_("{kind} {origin} -> {version} (change {id}): {state}"), values))
    for record in sorted(change.steps.values(), key=lambda r: r.started_at):
        seconds = step_seconds(record)
        took = "-" if seconds is None else format_duration(seconds)
        session.show(f"  {record.name.value:16} {record.state.value:9} {took}")
    for event in journal.events(change=change_id):
        words = ", ".join(
            f"{key} {value}" for key, value in event.data.items() if value is not None
        )
        session.show(clean(f"  {format_time(event.at)}  {event.kind}  {words}".rstrip()))
    session.finish(report)
