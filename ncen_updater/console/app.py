"""The WSGI application: authenticate a request, refuse it, or dispatch it to its page or form."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, tzinfo
from functools import cache
from http import HTTPStatus
from importlib.resources import files
from typing import Any

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.http_server import Route, find_routes, get_http_status
from ncen_updater.common.i18n import DEFAULT_LANGUAGE, N_, LazyText, match_language
from ncen_updater.common.messages import (
    CONSOLE_FORM,
    CONSOLE_LINK_EXPIRED,
    CONSOLE_NO_PAGE,
    CONSOLE_TOO_MUCH,
)
from ncen_updater.common.unix_http import ServiceUnresponsiveError
from ncen_updater.console.authentication import AuthBackend
from ncen_updater.console.page_request import PageContent, PageRequest
from ncen_updater.console.pages import approve, history, live, sharing, support, upgrade
from ncen_updater.console.pages import form_actions as acts
from ncen_updater.console.pages import status as status_page
from ncen_updater.console.password_login import SessionEndedError
from ncen_updater.console.rendering import FileResponse, render_response
from ncen_updater.console.service_client import ServiceRefusedError, build_error_document
from ncen_updater.console.sessions import (
    BrowserSession,
    BrowserSessions,
    FormOutcome,
    limit_requests,
)
from ncen_updater.console.web_request import (
    COOKIE_PREFIX,
    PAGE_POLICY,
    WebRequest,
    build_security_headers,
    build_session_cookie,
    parse_request,
    read_form,
    require_same_origin,
)

logger = logging.getLogger(__name__)

NOTHING_CHANGED = LazyText(N_("Nothing was changed."))
OUTCOME_UNKNOWN = LazyText(
    N_("Unknown whether the service accepted the request. Reload this page once it responds.")
)
#: State for the error page of a GET request, which cannot have changed anything.
NO_STATE = LazyText("-")
#: Refresh interval of a page that could not reach the service.
RETRY_S = 5
#: How long a second submission of a form waits for the outcome of the first one.
OUTCOME_TIMEOUT_S = 50.0
#: Path of the logout form of a password session.
LOGOUT_PATH = "/leave"
STATIC_FILES = {
    "/console.css": "text/css; charset=utf-8",
    "/live.js": "text/javascript; charset=utf-8",
    "/report.js": "text/javascript; charset=utf-8",
}


@dataclass(frozen=True)
class _Response:
    status: int
    content: bytes
    kind: str = "text/html; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()
    policy: str = PAGE_POLICY
    framed: bool = False


class ConsoleApplication:
    """Serve the browsers of one user (link login) or of all users (password login).

    Args:
        auth_backend: The login method.
        zone: Time zone of displayed times; None for the time zone that the service reports.
        language: Language of pages without a session.
        routes: Pages and forms of another kind of console; by default those of a site.
    """

    def __init__(
        self,
        auth_backend: AuthBackend,
        zone: tzinfo | None = None,
        language: str = DEFAULT_LANGUAGE,
        routes: Sequence[PageRoute | FormRoute] | None = None,
    ) -> None:
        self._routes = ROUTES if routes is None else (*routes, LANGUAGE_ROUTE)
        self._auth_backend, self._zone, self._language = auth_backend, zone, language
        self._sessions = BrowserSessions(auth_backend.max_sessions, auth_backend.idle_s)
        self._cookie = COOKIE_PREFIX + secrets.token_hex(4)

    def close(self) -> None:
        """End all sessions and close the authentication backend."""
        self._sessions.end_all()
        self._auth_backend.close()

    def __call__(
        self, environ: Mapping[str, Any], start_response: Callable[..., object]
    ) -> Iterable[bytes]:
        """Handle one request."""
        language, head = self._language, environ.get("REQUEST_METHOD") == "HEAD"
        try:
            request = parse_request(environ, self._cookie, self._auth_backend.origin.hosts)
            language = match_language(*request.languages) or language
            reply = self._dispatch(environ, request, language)
        except UpdaterError as error:
            reply = self._respond_logged_out(error, language)
        except Exception as error:
            logger.exception("a page failed")
            reply = self._respond_logged_out(UpdaterError(detail=type(error).__name__), language)
        headers = [("Content-Type", reply.kind), *reply.headers]
        headers += build_security_headers(reply.policy, framed=reply.framed)
        if reply.status != HTTPStatus.NO_CONTENT:  # RFC 9110, 8.6
            headers.append(("Content-Length", str(len(reply.content))))
        start_response(f"{reply.status} {HTTPStatus(reply.status).phrase}", headers)
        return [b"" if head else reply.content]

    # ---- login and dispatch ----------------------------------------------------------------------

    def _dispatch(
        self, environ: Mapping[str, Any], request: WebRequest, language: str
    ) -> _Response:
        is_login = request.path == self._auth_backend.login_path
        # A HEAD request must not use up a link that can be used once.
        method = "GET" if request.method == "HEAD" and not is_login else request.method
        request = replace(request, method=method)
        if method not in ("GET", "POST"):
            raise UpdaterError(CONSOLE_NO_PAGE, path=request.path[:100])
        require_same_origin(request, self._auth_backend.origin.scheme)
        if method == "GET" and request.path in STATIC_FILES:
            return _Response(200, _read_static_file(request.path[1:]), STATIC_FILES[request.path])
        if request.path == "/favicon.ico":  # browsers request an icon; answer without an error page
            return _Response(204, b"", "image/x-icon")
        if is_login:
            return self._log_in(environ, request, language)
        session = (
            self._sessions.find_session(request.session_secret) if request.session_secret else None
        )
        if session is None:
            raise UpdaterError(self._auth_backend.logged_out_message)
        try:
            with limit_requests(session.user_context.requests):
                return self._dispatch_in_session(environ, request, session)
        except SessionEndedError:
            self._sessions.end_session(request.session_secret)
            raise

    def _dispatch_in_session(
        self, environ: Mapping[str, Any], request: WebRequest, session: BrowserSession
    ) -> _Response:
        """Handle a request of a logged-in user."""
        method = request.method
        if (method, request.path) == ("POST", LOGOUT_PATH) and self._auth_backend.uses_form:
            return self._log_out(environ, request, session)
        there = find_routes(request.path, self._routes)
        if method not in there:
            problem = UpdaterError(CONSOLE_NO_PAGE, path=request.path[:100])
            document = build_error_document(problem, NO_STATE, session.language)
            shown = PageContent("outside", {"error": document}, "refused", 404)
            return self._respond_content(shown, session, request.path)
        route, names = there[method]
        zone = self._find_zone(session)
        asking = PageRequest(session, zone, names, request.query, origin=request.address)
        if isinstance(route, PageRoute):
            return self._respond_page(route, asking, request.path)
        return self._handle_form(route, asking, environ, request)

    def _find_zone(self, session: BrowserSession) -> tzinfo | None:
        """Return the site's time zone: as configured at the start, or as the service reports it."""
        service = session.user_context.service
        if self._zone is None and service.get_last_status() is None:
            with contextlib.suppress(
                UpdaterError, ServiceRefusedError
            ):  # the page requests the status as well, and shows the error
                service.get_status(session.language)
        known = service.get_last_status()
        return self._zone or (known.zone if known else None)

    def _log_in(self, environ: Mapping[str, Any], request: WebRequest, language: str) -> _Response:
        """Log a browser in if its link or password is valid.

        The response is a page that leads on, not a redirect: the next request then comes from our
        own page, so that every browser sends the SameSite cookie wherever the link was clicked.
        """
        if self._auth_backend.uses_form:
            if request.method == "GET":
                return self._respond_login_page(language, 200)
            try:
                inside = self._auth_backend.authenticate(read_form(environ), request.address)
            except UpdaterError as error:
                return self._respond_login_page(language, get_http_status(error), error)
        elif request.method != "GET":
            raise UpdaterError(CONSOLE_LINK_EXPIRED)
        else:
            inside = self._auth_backend.authenticate(request.query, request.address)
        secret = self._sessions.start_session(language, inside)
        content = self._render(PageContent("entered", refresh_s=0), language)
        return _Response(200, content, headers=(build_session_cookie(self._cookie, secret),))

    def _respond_login_page(
        self, language: str, status: int, error: UpdaterError | None = None
    ) -> _Response:
        """Return the login page, with an error if there is one."""
        document = (
            build_error_document(error, NOTHING_CHANGED, language) if error is not None else None
        )
        shown = PageContent("login", {"error": document}, "refused" if error else "ready", status)
        return _Response(status, self._render(shown, language))

    def _log_out(
        self, environ: Mapping[str, Any], request: WebRequest, session: BrowserSession
    ) -> _Response:
        """End the session of a user who logs out."""
        if not session.form_tokens.is_valid(LOGOUT_PATH, read_form(environ).get("token", "")):
            error = UpdaterError(CONSOLE_FORM, reason="does not belong to this session")
            return self._respond_error(error, NOTHING_CHANGED, session)
        self._sessions.end_session(request.session_secret)
        gone = (
            ("Location", self._auth_backend.login_path),
            build_session_cookie(self._cookie, "", expire=True),
        )
        return _Response(303, b"", headers=gone)

    # ---- pages -----------------------------------------------------------------------------------

    def _respond_page(self, route: PageRoute, asking: PageRequest, address: str) -> _Response:
        try:
            shown = route.build_page(asking)
            if isinstance(shown, FileResponse):
                return _Response(
                    200,
                    shown.content,
                    shown.content_type,
                    shown.headers,
                    shown.content_security_policy,
                    framed=shown.allows_framing,
                )
            if shown is None:
                raise UpdaterError(CONSOLE_NO_PAGE, path=address[:100])
        except ServiceRefusedError as refused:
            return self._respond_refused(refused.status, refused.error, asking.session, address)
        except SessionEndedError:
            raise
        except UpdaterError as error:
            return self._respond_error(error, NO_STATE, asking.session, address)
        return self._respond_content(shown, asking.session, address, asking.get_notice())

    def _handle_form(
        self, route: FormRoute, asking: PageRequest, environ: Mapping[str, Any], request: WebRequest
    ) -> _Response:
        """Run a form's action once and redirect the browser to the page of the outcome."""
        session, form = asking.session, read_form(environ)
        token = form.get("token", "")
        if not session.form_tokens.is_valid(request.path, token):
            error = UpdaterError(CONSOLE_FORM, reason="does not belong to this session")
            return self._respond_error(error, NOTHING_CHANGED, session)
        try:
            outcome, mine = session.form_tokens.start_form(token)
        except OverflowError:
            return self._respond_error(UpdaterError(CONSOLE_TOO_MUCH), NOTHING_CHANGED, session)
        if mine:
            try:
                self._run_form_action(route, replace(asking, form=form), outcome)
            finally:
                outcome.ended.set()
        elif not outcome.ended.wait(OUTCOME_TIMEOUT_S):
            return self._respond_error(
                ServiceUnresponsiveError(reason="timeout"), OUTCOME_UNKNOWN, session
            )
        if outcome.refused is not None:
            return self._respond_refused(*outcome.refused, session, acts.read_back_path(form))
        place, _, part = outcome.address.partition("#")
        mark = "&" if "?" in place else "?"
        address = f"{place}{mark}done={token}" + (f"#{part}" if part else "")
        return _Response(303, b"", headers=(("Location", address),))

    def _run_form_action(self, route: FormRoute, asking: PageRequest, outcome: FormOutcome) -> None:
        language = asking.language
        try:
            outcome.address, outcome.notice = route.act(asking)
        except ServiceRefusedError as refused:
            outcome.refused = refused.status, refused.error
        except ServiceUnresponsiveError as away:
            outcome.refused = 503, build_error_document(away, OUTCOME_UNKNOWN, language)
        except SessionEndedError as gone:
            outcome.refused = 401, build_error_document(gone, NOTHING_CHANGED, language)
            raise
        except UpdaterError as error:
            outcome.refused = 409, build_error_document(error, NOTHING_CHANGED, language)
        except BaseException:
            outcome.refused = 500, build_error_document(UpdaterError(), OUTCOME_UNKNOWN, language)
            raise

    # ---- errors ----------------------------------------------------------------------------------

    def _respond_refused(
        self, status: int, error: Mapping[str, str], session: BrowserSession, address: str = "/"
    ) -> _Response:
        shown = PageContent("refused", {"error": error}, "refused", status)
        return self._respond_content(shown, session, address)

    def _respond_error(
        self, error: UpdaterError, state: LazyText, session: BrowserSession, address: str = "/"
    ) -> _Response:
        document = build_error_document(error, state, session.language)
        if not isinstance(error, ServiceUnresponsiveError):
            return self._respond_refused(get_http_status(error), document, session, address)
        shown = PageContent("broken", {"error": document}, "broken", 503, refresh_s=RETRY_S)
        return self._respond_content(shown, session, address)

    def _respond_logged_out(self, error: UpdaterError, language: str) -> _Response:
        """Return an error page to a browser without a session, or the login page."""
        if error.message is self._auth_backend.logged_out_message and self._auth_backend.uses_form:
            return self._respond_login_page(language, 401, error)
        document = build_error_document(error, NOTHING_CHANGED, language)
        status = get_http_status(error)
        shown = PageContent("outside", {"error": document}, "refused", status)
        return _Response(status, self._render(shown, language))

    # ---- responses -------------------------------------------------------------------------------

    def _respond_content(
        self,
        shown: PageContent,
        session: BrowserSession,
        address: str,
        notice: LazyText | None = None,
    ) -> _Response:
        service = session.user_context.service
        known = service.get_last_status()
        values = {"known_at": known.at.isoformat() if known else None, **shown.values}
        content = self._render(
            replace(shown, values=values), session.language, token=session.form_tokens.create_token,
            site=known.status if known else None, address=address, notice=notice,
            requires_password=service.requires_password, now=service.now(),
            zone=self._zone or (known.zone if known else None),
        )  # fmt: skip
        return _Response(shown.status, content, headers=_build_refresh_header(shown))

    def _render(self, shown: PageContent, language: str, **more: Any) -> bytes:  # noqa: ANN401
        more = {"now": datetime.now(UTC), "zone": self._zone, **more}
        return render_response(
            shown, language, styles=_compute_static_digest(),
            ends_with_terminal=self._auth_backend.ends_with_terminal,
            navigable=self._routes is ROUTES, **more,
        )  # fmt: skip


def _build_refresh_header(shown: PageContent) -> tuple[tuple[str, str], ...]:
    """Return a Refresh header for a loading page; the live page reloads itself by script."""
    if not shown.refresh_s or shown.template == "live":
        return ()
    return (("Refresh", str(shown.refresh_s)),)


@cache
def _read_static_file(name: str) -> bytes:
    return files("ncen_updater.console").joinpath("templates", name).read_bytes()


@cache
def _compute_static_digest() -> str:
    """Return a digest of the static files, so that browsers reload those of a new version."""
    content = b"".join(_read_static_file(name[1:]) for name in sorted(STATIC_FILES))
    return hashlib.sha256(content).hexdigest()[:12]


@dataclass(frozen=True)
class PageRoute(Route):
    """A path that shows a page.

    Attributes:
        build_page: Builds the page.
    """

    build_page: Callable[[PageRequest], PageContent | FileResponse | None]


@dataclass(frozen=True)
class FormRoute(Route):
    """A path to which a form is posted.

    Attributes:
        act: Performs the action; returns the path of the outcome's page and a notice for it.
    """

    act: Callable[[PageRequest], tuple[str, LazyText | None]]


LANGUAGE_ROUTE = FormRoute("POST", "/language", acts.set_language)
ROUTES: tuple[PageRoute | FormRoute, ...] = (
    PageRoute("GET", "/", status_page.build_page),
    PageRoute("GET", "/upgrade", upgrade.build_page),
    PageRoute("GET", "/approve", approve.build_page),
    FormRoute("POST", "/approve", acts.approve),
    PageRoute("GET", "/dossier", approve.get_dossier_file),
    PageRoute("GET", "/live", live.build_page),
    PageRoute("GET", "/history", history.build_page),
    PageRoute("GET", "/history/{id}", history.build_change_page),
    PageRoute("GET", "/rollback-plan", history.build_rollback_page),
    PageRoute("GET", "/audit-log", history.build_audit_page),
    PageRoute("GET", "/help", support.build_page),
    PageRoute("GET", "/help/bundle", support.get_bundle_file),
    PageRoute("GET", "/settings", support.build_settings_page),
    PageRoute("GET", "/jobs/{number}", live.build_job_page),
    FormRoute("POST", "/job", acts.submit_job),
    FormRoute("POST", "/import", acts.import_bundle),
    PageRoute("GET", "/hold", status_page.build_hold_page),
    FormRoute("POST", "/hold", acts.hold),
    FormRoute("POST", "/unhold", acts.unhold),
    FormRoute("POST", "/withdraw", acts.withdraw_approval),
    FormRoute("POST", "/reject", acts.reject),
    FormRoute("POST", "/schedule", acts.schedule),
    FormRoute("POST", "/unschedule", acts.cancel_schedule),
    PageRoute("GET", "/sharing", sharing.build_page),
    FormRoute("POST", "/sharing", sharing.set_level),
    FormRoute("POST", "/confirm", acts.confirm_release),
    FormRoute("POST", "/rollback", acts.start_rollback),
    FormRoute("POST", "/look", acts.refresh_inspection),
    LANGUAGE_ROUTE,
)
