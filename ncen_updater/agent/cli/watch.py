"""``watch``: follow what the service does, until that has ended. Ctrl-C ends the looking only."""

from __future__ import annotations

from collections.abc import Iterator

import click

from ncen_updater.agent.answers import Document
from ncen_updater.agent.cli.common import agent_session
from ncen_updater.agent.cli.event_words import event_line
from ncen_updater.agent.cli.hold import show_beginning
from ncen_updater.agent.cli.session import AgentSession
from ncen_updater.agent.cli.status import show_last_change
from ncen_updater.agent.client import require_service, tell
from ncen_updater.agent.service.client import Client, StreamEvent
from ncen_updater.common.cli.lazy import Command
from ncen_updater.common.cli.terminal import Heartbeat
from ncen_updater.common.errors import ExitCode
from ncen_updater.common.i18n import N_, Text

__all__ = ["watch"]


@click.command("watch", cls=Command, help=N_("Follow what the service does."))
@click.argument("order", required=False, type=click.IntRange(min=1))
@click.option("--on", "goes_on", is_flag=True, help=N_("Go on when it has ended, until Ctrl-C."))
@click.option("--events", is_flag=True, help=N_("Write the events of the journal as well."))
@click.pass_context
def watch(context: click.Context, order: int | None, goes_on: bool, events: bool) -> ExitCode:
    session = agent_session(context)
    client = require_service(session)
    seen, before = 0, None if session.as_json else _newest(client)
    try:
        with session.progress() as progress:
            if not session.as_json:
                _said_before(client, progress)
            for event in _events(client, order, goes_on=goes_on):
                seen += 1
                if event.kind == "service" and not session.as_json:
                    tell(progress, event.data)
                elif events or session.as_json:
                    _write(session, event)
    except KeyboardInterrupt:
        return ExitCode.OK
    if not session.as_json:
        if seen:
            _show_end(session, before, _newest(client))
        else:
            session.show(Text(N_("The service does nothing just now.")))
            _show_next(session, client)
        session.finish({})
    return ExitCode.OK


def _said_before(client: Client, progress: Heartbeat) -> None:
    """Show what the command at work had said before somebody looked."""
    # A service of an older agent does not keep it.
    for one in client.get("/v1/status")["service"].get("said") or ():
        progress.past(Text(str(one["tell"]), one["values"]), float(one["seconds"]))


def _show_next(session: AgentSession, client: Client) -> None:
    """Say of what is next when that begins: who looks too early is to know when to come back."""
    outlook = client.get("/v1/outlook")
    if outlook["target"] is not None:
        session.show(Text(N_("Next is the upgrade to {version}."), {"version": outlook["target"]}))
        show_beginning(session, outlook.get("begins"))


def _show_end(session: AgentSession, before: Document | None, now: Document | None) -> None:
    """Show what became of a change meanwhile, as ``upgrade`` does of its own."""
    if now is not None and now != before:
        show_last_change(session, now)


def _newest(client: Client) -> Document | None:
    """The change that was begun last."""
    return next(iter(client.get("/v1/history?limit=1")["changes"]), None)


def _events(client: Client, order: int | None, *, goes_on: bool) -> Iterator[StreamEvent]:
    """Yield what happens until what is done now, or an order, has ended."""
    if order is not None:
        given = client.get(f"/v1/orders/{order}")
        ended, after = given["ended_at"] is not None, given["event"]
    else:
        waiting = [row for row in client.get("/v1/orders")["orders"] if row["ended_at"] is None]
        order = min((row["id"] for row in waiting), default=None)
        ended = order is None and client.get("/v1/status")["service"]["running"] is None
        after = client.get(f"/v1/orders/{order}")["event"] if order is not None else None
    if ended and not goes_on:
        return
    for event in client.stream(after):
        yield event
        over = (
            event.kind == "order-ended" and event.data["data"].get("order") == order
            if order is not None
            else event.kind == "service" and event.data["running"] is None
        )
        if over and not goes_on:
            return


def _write(session: AgentSession, event: StreamEvent) -> None:
    """Write one event as one line."""
    if session.as_json:
        session.write_document({"kind": event.kind, **event.data})
        return
    at = event.data.get("at")
    moment = at if isinstance(at, str) else None
    session.write(
        event_line(moment, event.kind, event.data.get("data"), session.language, session.zone)
    )
