"""``watch``: follow what the service does, until that has ended. Ctrl-C ends the looking only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeGuard

import click

from ncen_updater.agent.cli.common import agent_session
from ncen_updater.agent.cli.event_words import event_line
from ncen_updater.agent.cli.hold import show_beginning
from ncen_updater.agent.cli.session import AgentSession
from ncen_updater.agent.cli.site_client import came_to, require_service, tell
from ncen_updater.agent.cli.status import show_last_change
from ncen_updater.agent.policy.deeds import deed_words
from ncen_updater.agent.reports.answers import Answer, Document
from ncen_updater.agent.service.client import Client, StreamEvent
from ncen_updater.common.cli.errors import NOTHING_CHANGED
from ncen_updater.common.cli.lazy import Command
from ncen_updater.common.cli.terminal import Heartbeat
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, Text
from ncen_updater.common.messages import NO_SUCH_THING, ORDER_UNKNOWN, ExitCode
from ncen_updater.common.reasons import reason


@click.command("watch", cls=Command, help=N_("Follow what the service does."))
@click.argument("order", required=False, type=click.IntRange(min=1))
@click.option("--on", "goes_on", is_flag=True, help=N_("Go on when it has ended, until Ctrl-C."))
@click.option("--events", is_flag=True, help=N_("Write the events of the journal as well."))
@click.pass_context
def watch(context: click.Context, order: int | None, goes_on: bool, events: bool) -> ExitCode:
    session = agent_session(context)
    client = require_service(session)
    seen, before = 0, None if session.as_json else _newest(client)
    order, work = _followed(client, order), list[str]()
    try:
        with session.progress() as progress:
            if not session.as_json:
                _said_before(client, progress)
            for event in _events(client, order, goes_on=goes_on):
                seen += 1
                if event.kind == "service" and event.data["running"] is not None:
                    work = list(event.data["running"]["words"])
                if event.kind == "service" and not session.as_json:
                    tell(progress, event.data)
                elif events or session.as_json:
                    _write(session, event)
    except KeyboardInterrupt:
        return ExitCode.OK
    given = client.get(f"/v1/orders/{order}") if order is not None else None
    if not session.as_json:
        if seen or given is not None:
            _show_end(session, client, before, given, work)
        else:
            session.show(Text(N_("The service does nothing just now.")))
            _show_next(session, client)
        session.finish({})
    return _came_to(given).code if _has_ended(given) else ExitCode.OK


def _has_ended(order: Document | None) -> TypeGuard[Document]:
    """Whether it was carried out; who looked away with Ctrl-C or ``--on`` may not know."""
    return order is not None and order["ended_at"] is not None and order["result"] is not None


def _came_to(order: Document) -> Answer:
    return came_to(order["id"], order["result"])


def _said_before(client: Client, progress: Heartbeat) -> None:
    """Show what the command at work had said before somebody looked."""
    for one in client.get("/v1/status")["service"]["said"]:
        progress.past(Text(str(one["tell"]), one["values"]), float(one["seconds"]))


def _show_next(session: AgentSession, client: Client) -> None:
    """Say of what is next when that begins: who looks too early is to know when to come back."""
    outlook = client.get("/v1/outlook")
    if outlook["target"] is not None:
        session.show(Text(N_("Next is the upgrade to {version}."), {"version": outlook["target"]}))
        show_beginning(session, outlook["begins"])


#: What works on a change; whatever else does has a result of its own.
_CHANGES = frozenset({"upgrade", "rollback", "resume", "confirm"})


def _show_end(
    session: AgentSession, client: Client, before: Document | None, order: Document | None,
    work: Sequence[str],
) -> None:  # fmt: skip
    """Show what the work came to.

    Args:
        session: This run.
        client: The service.
        before: The newest change, as it was when somebody began to look.
        order: The order that was followed.
        work: The command that the service ran last.
    """
    now = _newest(client)
    if order is not None:
        work = [order["kind"]]
    if now is not None and now != before and (not work or work[0] in _CHANGES):
        show_last_change(session, now)
    elif _has_ended(order):
        answer = _came_to(order)
        for line in answer.words:
            session.show(line)
        if answer.error is not None:
            session.show(answer.error.what_text)
    elif work and work[0] == "rehearse":
        _show_rehearsal(session, client)
    elif work and work[0] == "plan":
        _show_prepared(session, client, work)


def _show_rehearsal(session: AgentSession, client: Client) -> None:
    from ncen_updater.agent.model.notification_kind import NewsKind
    from ncen_updater.agent.service.notifications.words import TITLES

    found = next(iter(client.get("/v1/rehearsals?limit=1")["rehearsals"]), None)
    kinds = {"passed": NewsKind.REHEARSED, "failed": NewsKind.REHEARSAL_FAILED}
    kind = kinds.get(found["state"]) if found is not None else None
    if found is None or kind is None:
        return
    session.show(Text(TITLES[kind], {"version": found["to"]}))
    code = found["error_code"]
    why = reason(str(code)) if code else None
    if why is not None:
        session.show(Text(N_("  {code}: {meaning}"), {"code": code, "meaning": why[0]}))
    elif code:
        session.show(Text(N_("  it ended with {code}"), {"code": code}))


def _show_prepared(session: AgentSession, client: Client, work: Sequence[str]) -> None:
    outlook = client.get("/v1/outlook")
    if outlook["prepared"] and outlook["target"] in work[1:2]:
        session.show(Text(N_("Release {version} is prepared here."), {"version": work[1]}))
        return
    # The service may not have looked at it yet.
    text = N_("Ended: {what}. 'ncen-updater status' says what comes next.")
    session.show(Text(text, {"what": deed_words(work[0])}))


def _followed(client: Client, order: int | None) -> int | None:
    """The order that is followed: the one that is named, or the oldest that has not ended.

    Raises:
        OrderUnknown: If there is none of that number.
    """
    if order is not None:
        try:
            client.get(f"/v1/orders/{order}")
        except UpdaterError as error:
            if error.code != NO_SUCH_THING.code:
                raise
            raise UpdaterError(ORDER_UNKNOWN, order=order, state=NOTHING_CHANGED) from error
        return order
    waiting = [row for row in client.get("/v1/orders")["orders"] if row["ended_at"] is None]
    return min((row["id"] for row in waiting), default=None)


def _newest(client: Client) -> Document | None:
    """The change that was begun last."""
    return next(iter(client.get("/v1/history?limit=1")["changes"]), None)


def _events(client: Client, order: int | None, *, goes_on: bool) -> Iterator[StreamEvent]:
    """Yield what happens until what is done now, or an order, has ended."""
    if order is not None:
        given = client.get(f"/v1/orders/{order}")
        ended, after = given["ended_at"] is not None, given["event"]
    else:
        ended, after = client.get("/v1/status")["service"]["running"] is None, None
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
