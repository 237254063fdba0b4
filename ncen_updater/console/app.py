"""From a request to an answer: who may come in, what is refused, which page it is. WSGI."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, tzinfo
from functools import cache
from http import HTTPStatus
from importlib.resources import files
from typing import Any

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.http_routes import find_routes, status_of
from ncen_updater.common.i18n import DEFAULT_LANGUAGE, N_, Text, language_of
from ncen_updater.common.messages import (
    CONSOLE_FORM,
    CONSOLE_KEY,
    CONSOLE_NO_PAGE,
    CONSOLE_TOO_MUCH,
)
from ncen_updater.common.unix_http import ServiceSilent
from ncen_updater.console.asking import Asking, ShownPage
from ncen_updater.console.entrances import Entrance
from ncen_updater.console.headers import PAGE_POLICY, PREFIX, cookie, every_answer
from ncen_updater.console.inside import have_place
from ncen_updater.console.login import LoginGone
from ncen_updater.console.pages.files import File
from ncen_updater.console.rendering import rendered
from ncen_updater.console.requests import WebRequest, read_form, request_of, require_own_page
from ncen_updater.console.routes import ROUTES, FormRoute, PageRoute
from ncen_updater.console.service import ServiceRefusal, told
from ncen_updater.console.sessions import BrowserSession, BrowserSessions, FormOutcome

logger = logging.getLogger(__name__)

UNCHANGED = Text(N_("Nothing was changed."))
UNSURE = Text(
    N_("Whether the service took it is not known; once it answers, this page shows what it did.")
)
#: A page without a service looks for one again so often.
AWAY_S = 5
#: A second form of the same waits so long for what the first one comes to.
OUTCOME_S = 50.0
#: The form by which who came in by a password goes.
LEAVE = "/leave"
STATIC = {"/console.css": "text/css; charset=utf-8", "/live.js": "text/javascript; charset=utf-8"}


@dataclass(frozen=True)
class _Reply:
    status: int
    content: bytes
    kind: str = "text/html; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()
    policy: str = PAGE_POLICY
    framed: bool = False


class ConsoleApplication:
    """Answers browsers: of one person, or of each who came in.

    Args:
        entrance: How people come in.
        zone: Of the times; None for that which the service tells.
        language: Of pages for who has no session.
    """

    def __init__(
        self,
        entrance: Entrance,
        zone: tzinfo | None = None,
        language: str = DEFAULT_LANGUAGE,
    ) -> None:
        self._entrance, self._zone, self._language = entrance, zone, language
        self._sessions = BrowserSessions(entrance.sessions, entrance.idle_s)
        self._cookie = PREFIX + secrets.token_hex(4)

    def end(self) -> None:
        """Let go of every page that waits for something."""
        self._sessions.end_all()
        self._entrance.end()

    def __call__(
        self, environ: Mapping[str, Any], start_response: Callable[..., object]
    ) -> Iterable[bytes]:
        """Answer one request."""
        language, head = self._language, environ.get("REQUEST_METHOD") == "HEAD"
        try:
            request = request_of(environ, self._cookie, self._entrance.place.hosts)
            language = language_of(*request.languages) or language
            reply = self._reply(environ, request, language)
        except UpdaterError as error:
            reply = self._stopped(error, language)
        except Exception as error:
            logger.exception("a page failed")
            reply = self._stopped(UpdaterError(detail=type(error).__name__), language)
        headers = [("Content-Type", reply.kind), *reply.headers]
        headers += every_answer(reply.policy, framed=reply.framed)
        headers.append(("Content-Length", str(len(reply.content))))
        start_response(f"{reply.status} {HTTPStatus(reply.status).phrase}", headers)
        return [b"" if head else reply.content]

    # ---- who comes in ----------------------------------------------------------------------------

    def _reply(self, environ: Mapping[str, Any], request: WebRequest, language: str) -> _Reply:
        method = "GET" if request.method == "HEAD" else request.method
        request = replace(request, method=method)
        if method not in ("GET", "POST"):
            raise UpdaterError(CONSOLE_NO_PAGE, path=request.path[:100])
        require_own_page(request, self._entrance.place.scheme)
        if method == "GET" and request.path in STATIC:
            return _Reply(200, _file(request.path[1:]), STATIC[request.path])
        if request.path == "/favicon.ico":  # browsers ask for one, which needs no page of refusal
            return _Reply(204, b"", "image/x-icon")
        if request.path == self._entrance.address:
            return self._enter(environ, request, language)
        session = self._sessions.find(request.secret) if request.secret else None
        if session is None:
            raise UpdaterError(self._entrance.outside)
        try:
            with have_place(session.inside.requests):
                return self._inside(environ, request, session)
        except LoginGone:
            self._sessions.end(request.secret)
            raise

    def _inside(
        self, environ: Mapping[str, Any], request: WebRequest, session: BrowserSession
    ) -> _Reply:
        """Answer somebody who is in."""
        method = request.method
        if (method, request.path) == ("POST", LEAVE) and self._entrance.form:
            return self._leave(environ, request, session)
        there = find_routes(request.path, ROUTES)
        if method not in there:
            problem = UpdaterError(CONSOLE_NO_PAGE, path=request.path[:100])
            return self._failed(problem, UNCHANGED, session)
        route, names = there[method]
        asking = replace(self._asking(session, request), names=names)
        if isinstance(route, PageRoute):
            return self._page(route, asking, request.path)
        return self._act(route, asking, environ, request)

    def _asking(self, session: BrowserSession, request: WebRequest) -> Asking:
        return Asking(session, self._zone_for(session), query=request.query, origin=request.address)

    def _zone_for(self, session: BrowserSession) -> tzinfo | None:
        """The zone of the site: told at the start, or by the service to who is in."""
        service = session.inside.service
        if self._zone is None and service.known() is None:
            with contextlib.suppress(
                UpdaterError, ServiceRefusal
            ):  # the page asks, too, and says it
                service.status(session.language)
        known = service.known()
        return self._zone or (known.zone if known else None)

    def _enter(self, environ: Mapping[str, Any], request: WebRequest, language: str) -> _Reply:
        """Let a browser in whose link or password is good.

        What follows comes from a page of ours, and so has the cookie in every browser, wherever the
        link was clicked.
        """
        if self._entrance.form:
            if request.method == "GET":
                return self._login(language, 200)
            try:
                inside = self._entrance.come_in(read_form(environ), request.address)
            except UpdaterError as error:
                return self._login(language, status_of(error), error)
        elif request.method != "GET":
            raise UpdaterError(CONSOLE_KEY)
        else:
            inside = self._entrance.come_in(request.query, request.address)
        secret = self._sessions.begin(language, inside)
        content = self._render(ShownPage("entered", again_s=0), language)
        return _Reply(200, content, headers=(cookie(self._cookie, secret),))

    def _login(self, language: str, status: int, error: UpdaterError | None = None) -> _Reply:
        """Ask who it is."""
        document = told(error, UNCHANGED, language) if error is not None else None
        shown = ShownPage("login", {"error": document}, "refused" if error else "ready", status)
        return _Reply(status, self._render(shown, language))

    def _leave(
        self, environ: Mapping[str, Any], request: WebRequest, session: BrowserSession
    ) -> _Reply:
        """End a session, for who goes."""
        if not session.acts.known(LEAVE, read_form(environ).get("token", "")):
            error = UpdaterError(CONSOLE_FORM, reason="it is not of this session")
            return self._failed(error, UNCHANGED, session)
        self._sessions.end(request.secret)
        gone = (("Location", self._entrance.address), cookie(self._cookie, "", ends=True))
        return _Reply(303, b"", headers=gone)

    # ---- pages -----------------------------------------------------------------------------------

    def _page(self, route: PageRoute, asking: Asking, address: str) -> _Reply:
        try:
            shown = route.page(asking)
            if isinstance(shown, File):
                return _Reply(200, shown.content, shown.kind, shown.headers, shown.policy,
                              framed=shown.framed)  # fmt: skip
            if shown is None:
                raise UpdaterError(CONSOLE_NO_PAGE, path=address[:100])
        except ServiceRefusal as refused:
            return self._refused(refused.status, refused.error, asking.session, address)
        except LoginGone:
            raise
        except UpdaterError as error:
            return self._failed(error, UNCHANGED, asking.session, address)
        content = self._of(shown, asking.session, address, asking.said())
        return _Reply(shown.status, content, headers=_again(shown))

    def _act(
        self, route: FormRoute, asking: Asking, environ: Mapping[str, Any], request: WebRequest
    ) -> _Reply:
        """Carry out a form once, and send the browser to where it is seen."""
        session, form = asking.session, read_form(environ)
        token = form.get("token", "")
        if not session.acts.known(request.path, token):
            error = UpdaterError(CONSOLE_FORM, reason="it is not of this session")
            return self._failed(error, UNCHANGED, session)
        try:
            outcome, mine = session.acts.begin(token)
        except OverflowError:
            return self._failed(UpdaterError(CONSOLE_TOO_MUCH), UNCHANGED, session)
        if mine:
            try:
                self._carry_out(route, replace(asking, form=form), outcome)
            finally:
                outcome.ended.set()
        elif not outcome.ended.wait(OUTCOME_S):
            return self._failed(ServiceSilent(reason="it takes long"), UNSURE, session)
        if outcome.refused is not None:
            return self._refused(*outcome.refused, session, form.get("back", "/"))
        place, _, part = outcome.address.partition("#")
        mark = "&" if "?" in place else "?"
        address = f"{place}{mark}done={token}" + (f"#{part}" if part else "")
        return _Reply(303, b"", headers=(("Location", address),))

    def _carry_out(self, route: FormRoute, asking: Asking, outcome: FormOutcome) -> None:
        language = asking.language
        try:
            outcome.address, outcome.said = route.act(asking)
        except ServiceRefusal as refused:
            outcome.refused = refused.status, refused.error
        except ServiceSilent as away:
            outcome.refused = 503, told(away, UNSURE, language)
        except LoginGone as gone:
            outcome.refused = 401, told(gone, UNCHANGED, language)
            raise
        except UpdaterError as error:
            outcome.refused = 409, told(error, UNCHANGED, language)
        except BaseException:
            outcome.refused = 500, told(UpdaterError(), UNSURE, language)
            raise

    # ---- what went wrong -------------------------------------------------------------------------

    def _refused(
        self, status: int, error: Mapping[str, str], session: BrowserSession, address: str = "/"
    ) -> _Reply:
        shown = ShownPage("refused", {"error": error}, "refused", status)
        return _Reply(status, self._of(shown, session, address))

    def _failed(
        self, error: UpdaterError, state: Text, session: BrowserSession, address: str = "/"
    ) -> _Reply:
        document = told(error, state, session.language)
        if isinstance(error, ServiceSilent):
            shown = ShownPage("broken", {"error": document}, "broken", 503, again_s=AWAY_S)
        else:
            status = status_of(error)
            shown = ShownPage("refused", {"error": document}, "refused", status)
        return _Reply(shown.status, self._of(shown, session, address), headers=_again(shown))

    def _stopped(self, error: UpdaterError, language: str) -> _Reply:
        """Answer somebody who is not in."""
        if error.message is self._entrance.outside and self._entrance.form:
            return self._login(language, 401, error)
        document = told(error, UNCHANGED, language)
        status = status_of(error)
        shown = ShownPage("outside", {"error": document}, "refused", status)
        return _Reply(status, self._render(shown, language))

    # ---- bytes -----------------------------------------------------------------------------------

    def _of(
        self, shown: ShownPage, session: BrowserSession, address: str, said: Text | None = None
    ) -> bytes:
        service = session.inside.service
        known = service.known()
        values = {"known_at": known.at.isoformat() if known else None, **shown.values}
        return self._render(
            replace(shown, values=values), session.language, token=session.acts.token,
            site=known.status if known else None, address=address, said=said,
            asks_secret=service.asks_secret, now=service.now(),
            zone=self._zone or (known.zone if known else None),
        )  # fmt: skip

    def _render(self, shown: ShownPage, language: str, **more: Any) -> bytes:  # noqa: ANN401
        more = {"now": datetime.now(UTC), "zone": self._zone, **more}
        return rendered(
            shown, language, styles=_mark(),
            by_terminal=self._entrance.by_terminal, **more,
        )  # fmt: skip


def _again(shown: ShownPage) -> tuple[tuple[str, str], ...]:
    """Have a page loaded once more that is not there yet; one with a script does so by itself."""
    if not shown.again_s or shown.name == "live":
        return ()
    return (("Refresh", str(shown.again_s)),)


@cache
def _file(name: str) -> bytes:
    return files("ncen_updater.console").joinpath("templates", name).read_bytes()


@cache
def _mark() -> str:
    """What tells the files of this version from those of another, which a browser may have."""
    content = b"".join(_file(name[1:]) for name in sorted(STATIC))
    return hashlib.sha256(content).hexdigest()[:12]
