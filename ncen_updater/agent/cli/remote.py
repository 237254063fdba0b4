"""Where the service runs, commands ask it; where it does not, they work alone. Decided here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ncen_updater.agent.cli.session import AgentSession
from ncen_updater.agent.config.paths import service_socket
from ncen_updater.agent.service.errors import NoService, OrderTorn, ServiceSilent, refusal
from ncen_updater.common.errors import ExitCode
from ncen_updater.common.i18n import N_, Text
from ncen_updater.common.progress import Told

if TYPE_CHECKING:
    from ncen_updater.agent.service.client import Client, StreamEvent
    from ncen_updater.common.cli.terminal import Heartbeat

__all__ = ["carry_out", "follow", "order", "require_service", "service_for", "show_moment"]

Document = Mapping[str, Any]


def service_for(session: AgentSession) -> Client | None:
    """Return the service of the site, None where a command has to work alone.

    It does so where it is told to, where nothing listens, and where the service may not be spoken
    with: then the rights on the files decide, as without a service.
    """
    if session.alone:
        return None
    path = service_socket(session.config)
    try:
        if not path.is_socket():
            return None
    except OSError:  # a directory that may not be entered
        return None
    from ncen_updater.agent.service.client import Client

    client = Client(path, session.language)
    return client if client.reachable() else None


def require_service(session: AgentSession) -> Client:
    """Return the service of the site.

    Raises:
        NoService: If none answers.
    """
    client = None if session.alone else service_for(session)
    if client is None:
        raise NoService(path=service_socket(session.config))
    return client


def carry_out(session: AgentSession, client: Client, kind: str, **data: object) -> ExitCode:
    """Give an order, follow it to its end, and show what it came to."""
    code, document = order(session, client, kind, **data)
    show_document(session, code, document)
    return code


def show_document(session: AgentSession, code: ExitCode, document: Document) -> None:
    """Show what a command came to that somebody else carried out.

    Raises:
        UpdaterError: The error that it ended with, if it did.
    """
    for line in document.get("words", ()):
        session.show(str(line))
    error = document.get("error")
    if isinstance(error, dict):
        raise refusal({**error, "exit_code": int(code)})
    session.finish({key: value for key, value in document.items() if key != "words"})


def order(
    session: AgentSession, client: Client, kind: str, **data: object
) -> tuple[ExitCode, Document]:
    """Give an order and follow it; return its exit code and its document.

    Raises:
        UpdaterError: If it is refused, or the service goes away for good.
    """
    wanted = {key: value for key, value in data.items() if value not in (None, False)}
    given = client.call(
        "POST", "/v1/orders", {"kind": kind, "language": session.language, **wanted}
    )
    return follow(session, client, given)


def follow(session: AgentSession, client: Client, given: Document) -> tuple[ExitCode, Document]:
    """Show the progress of an order until it has ended.

    Ctrl-C ends the looking only.

    Raises:
        OrderTorn: If the service was killed meanwhile.
        ServiceSilent: If it does not come back.
    """
    number = given["id"]
    try:
        with session.progress() as progress:
            if given.get("ended_at") is None:
                for event in client.stream(given["event"]):
                    if event.kind == "order-ended" and event.data["data"].get("order") == number:
                        break
                    tell(progress, event)
    except KeyboardInterrupt:
        text = N_("The service goes on with order {order}; 'ncen-updater watch' follows it.")
        session.say(Text(text, {"order": number}))
        return ExitCode.OK, {"order": number, "ended": False}
    result = client.get(f"/v1/orders/{number}")["result"]
    if not isinstance(result, dict) or result.get("exit_code") is None:
        raise OrderTorn(order=number)
    document = result.get("document")
    if not isinstance(document, dict) or not document:
        raise ServiceSilent(reason=f"order {number} ended with {result['exit_code']}")
    try:
        return ExitCode(result["exit_code"]), document
    except ValueError:
        return ExitCode.ERROR, document


def tell(progress: Heartbeat, event: StreamEvent) -> None:
    """Show what the service does at this moment."""
    if event.kind != "service":
        return
    for what, done, total in _sentences(event.data):
        progress.tell(what, done, total)


def _sentences(moment: Document) -> Iterator[tuple[Text, int | None, int | None]]:
    running = moment.get("running")
    if running is None:
        if moment.get("why"):
            yield Text(N_("the service: {why}"), {"why": moment["why"]}), None, None
        return
    told = Told.from_json(running.get("progress"))
    if told is None:
        words = {"words": " ".join(running["words"])}
        yield Text(N_("the service carries out '{words}'"), words), None, None
    else:
        yield told.text, told.done, told.total


def show_moment(session: AgentSession, moment: Document) -> None:
    """Show what the service does just now, as part of the data."""
    for what, done, total in _sentences(moment):
        figures = {"what": what, "done": f"{done:,}" if done is not None else None,
                   "total": f"{total:,}" if total else None}  # fmt: skip
        known = done is not None and total
        session.show(Text(N_("Now: {what}, {done} of {total}") if known else N_("Now: {what}"),
                          figures))  # fmt: skip
