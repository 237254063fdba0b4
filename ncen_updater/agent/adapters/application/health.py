"""Health checks of the application from outside its process, with uncached requests.

Requests, with their headers and the token, go only to the configured address, without proxy or
redirect. Connecting has the limit for each address; from then on one deadline covers everything, so
an application that sends a byte a second counts as one that does not answer.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlsplit

from ncen_updater.agent.adapters.application.health_request import (
    DEFAULT_AUTHORIZATION_SCHEME,
    RequestCredentials,
    describe_refusal,
    describe_status,
    load_request_credentials,
    parse_version_output,
)
from ncen_updater.agent.adapters.application.health_result import (
    HealthExpectation,
    HealthResult,
    ProbeResult,
)
from ncen_updater.agent.adapters.application.process import (
    CommandResult,
    build_minimal_environment,
    run_command,
)
from ncen_updater.agent.config.agent_config import ApplicationSettings
from ncen_updater.agent.model.errors import ApplicationError
from ncen_updater.common.i18n import N_, LazyText, join_texts
from ncen_updater.common.messages import HEALTH_SETTINGS_WRONG
from ncen_updater.formats.reported_version import extract_version, matches_reported_version

MAX_BODY_BYTES = 1_000_000
MAIN_ENDPOINT = "health"
NO_ANSWER_IN_TIME = N_("no response within {timeout} seconds")
REQUEST_HEADERS = {
    "Accept": "application/json, */*;q=0.5",
    "Cache-Control": "no-cache, no-store",
    "Pragma": "no-cache",
    "Connection": "close",
    "User-Agent": "ncen-updater",
}


@dataclass(frozen=True)
class _HttpAnswer:
    status: int
    body: bytes
    refusal: LazyText | None = None


class _NoAnswerError(Exception):
    """A request without a usable answer.

    Args:
        template: Template of the problem.
        values: Its values.
    """

    def __init__(self, template: str, **values: object) -> None:
        self.problem = LazyText(template, values)
        super().__init__(str(self.problem))


def _execute_command(argv: Sequence[str], timeout_s: float) -> CommandResult:
    return run_command(argv, build_minimal_environment(), timeout_s)


class HealthProber:
    """Health check of the application.

    Args:
        settings: Address, fields and deadlines.
        run: Runs the site's version command within a number of seconds.

    Raises:
        HEALTH_SETTINGS_WRONG: If the address cannot be used.
    """

    def __init__(
        self,
        settings: ApplicationSettings,
        run: Callable[[Sequence[str], float], CommandResult] = _execute_command,
    ) -> None:
        self._settings = settings
        self._run = run
        url = settings.health_url
        try:
            parts = urlsplit(url)
            self._port = parts.port
        except ValueError as error:
            raise ApplicationError(HEALTH_SETTINGS_WRONG, url=url, reason=str(error)) from error
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ApplicationError(HEALTH_SETTINGS_WRONG, url=url, reason="no host in the URL")
        if parts.query or parts.fragment or parts.username:
            raise ApplicationError(HEALTH_SETTINGS_WRONG, url=url, reason="not a plain base URL")
        self._host = parts.hostname
        self._tls = parts.scheme == "https"
        self._base = parts.path.rstrip("/")

    def check_health(self, expectation: HealthExpectation) -> HealthResult:
        """Query the main end point and every probe; never raises for an unhealthy application."""
        reported: dict[str, object] = {}
        answers: list[_HttpAnswer] = []
        check_main = partial(self._check_main_endpoint, expectation.version, reported, answers)
        results = [self._time_request(MAIN_ENDPOINT, check_main)]
        for probe in expectation.probes:
            check = partial(self._check_probe, probe.path, probe.status, probe.expect)
            results.append(self._time_request(probe.name, check))
        refused = any(answer.refusal for answer in answers) or not self._are_credentials_usable()
        status = answers[0].status if answers else None
        return HealthResult(
            tuple(results),
            reported,
            answered=bool(answers),
            credentials_refused=refused,
            status=status,
        )

    def _are_credentials_usable(self) -> bool:
        try:
            self.load_credentials()
        except ApplicationError:
            return False
        return True

    def load_credentials(self) -> RequestCredentials:
        """Return the headers for a request, read now.

        Raises:
            ApplicationError: If the configured token cannot be used.
        """
        settings = self._settings
        scheme = settings.health_token_scheme or DEFAULT_AUTHORIZATION_SCHEME
        return load_request_credentials(settings.health_headers, settings.health_token_file, scheme)

    def request_status(self, path: str) -> int | LazyText:
        """Send one request; return the HTTP status, or why there was no answer."""
        try:
            return self._send_request(path).status
        except _NoAnswerError as error:
            return error.problem

    def _time_request(self, name: str, check: Callable[[], LazyText | None]) -> ProbeResult:
        try:
            return ProbeResult(name, check())
        except _NoAnswerError as error:
            return ProbeResult(name, error.problem)

    def _check_main_endpoint(
        self, version: str, reported: dict[str, object], answers: list[_HttpAnswer]
    ) -> LazyText | None:
        settings = self._settings
        answer = self._send_request(settings.health_path)
        answers.append(answer)
        problems = [] if answer.status == 200 else [describe_status(answer.status)]
        if problems and settings.version_command:
            # A body without the version adds nothing.
            return answer.refusal or problems[0]
        try:
            fields = self._parse_fields(answer.body)
        except _NoAnswerError as error:
            return answer.refusal or join_texts([*problems, error.problem])
        reported.update(fields)
        if answer.refusal:
            return answer.refusal
        for name in filter(None, (settings.version_field, settings.schema_field)):
            if not matches_reported_version(fields.get(name), version):
                problems += _describe_differences(fields, {name: version})
        if settings.write_probe_field:
            problems += _describe_differences(fields, {settings.write_probe_field: True})
        return join_texts(problems) if problems else None

    def _check_probe(self, path: str, status: int, expect: Mapping[str, object]) -> LazyText | None:
        answer = self._send_request(path)
        if answer.status != status:
            template = N_("HTTP status {status}, expected {expected}")
            values = {"status": answer.status, "expected": status}
            return answer.refusal or LazyText(template, values)
        differs = _describe_differences(_parse_json_object(answer.body), expect) if expect else []
        return join_texts(differs) if differs else None

    def _send_request(self, path: str) -> _HttpAnswer:
        timeout = self._settings.probe_timeout_s
        try:
            credentials = self.load_credentials()
        except ApplicationError as error:
            raise _NoAnswerError(N_("not queried: {reason}"), reason=error.title_text) from error
        kind = http.client.HTTPSConnection if self._tls else http.client.HTTPConnection
        connection = kind(self._host, self._port, timeout=timeout)
        late = threading.Event()
        # The connection drops its socket once the response announces that it will be closed.
        sockets: list[socket.socket] = []

        def shut_down() -> None:
            late.set()
            for item in sockets:
                with contextlib.suppress(OSError):
                    item.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(timeout, shut_down)
        timer.daemon = True
        timer.start()
        try:
            connection.connect()
            sockets.append(connection.sock)
            if late.is_set():
                raise TimeoutError
            connection.request(
                "GET", f"{self._base}{path}", headers={**REQUEST_HEADERS, **credentials.headers}
            )
            with connection.getresponse() as response:
                body = response.read(MAX_BODY_BYTES + 1)
                answer = _HttpAnswer(response.status, body)
        except (OSError, http.client.HTTPException, ValueError) as error:
            if late.is_set() or isinstance(error, TimeoutError):
                raise _NoAnswerError(NO_ANSWER_IN_TIME, timeout=f"{timeout:g}") from error
            text = getattr(error, "strerror", None) or str(error)
            reason = credentials.mask_text(text) or type(error).__name__
            cause = None if credentials.token else error
            raise _NoAnswerError(N_("no response: {reason}"), reason=reason) from cause
        finally:
            timer.cancel()
            connection.close()
        if late.is_set():
            raise _NoAnswerError(NO_ANSWER_IN_TIME, timeout=f"{timeout:g}")
        if len(body) > MAX_BODY_BYTES:
            raise _NoAnswerError(N_("response larger than {max_bytes}"), max_bytes=MAX_BODY_BYTES)
        return _HttpAnswer(
            answer.status, credentials.mask(body), describe_refusal(answer.status, credentials)
        )

    def _parse_fields(self, body: bytes) -> dict[str, object]:
        settings = self._settings
        if settings.version_command:
            return {settings.version_field: self._run_version_command(settings.version_command)}
        if not settings.version_pattern:
            return _parse_json_object(body)
        reported = extract_version(body, settings.version_pattern)
        if reported is None:
            raise _NoAnswerError(N_("no version in the response"))
        return {settings.version_field: reported}

    def _run_version_command(self, argv: Sequence[str]) -> str:
        """Run the site's version command and return the running version it reports."""
        try:
            ended = self._run(argv, self._settings.probe_timeout_s)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise _NoAnswerError(
                N_("'{command}' failed: {reason}"), command=argv[0], reason=reason
            ) from error
        reported = parse_version_output(ended.status, ended.output, self._settings.version_pattern)
        # The error names only the program, since its arguments may be confidential.
        if ended.status is None:
            raise _NoAnswerError(N_("'{command}' timed out"), command=argv[0])
        if reported is None:
            raise _NoAnswerError(
                N_("'{command}' printed no version (exit code {status})"),
                command=argv[0],
                status=ended.status,
            )
        return reported


def _parse_json_object(body: bytes) -> dict[str, object]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _NoAnswerError(N_("the response is not JSON")) from error
    if not isinstance(value, dict):
        raise _NoAnswerError(N_("the response is not a JSON object"))
    return value


def _describe_differences(
    fields: Mapping[str, object], wanted: Mapping[str, object]
) -> list[LazyText]:
    problems = []
    for name, value in wanted.items():
        if name not in fields:
            problems.append(LazyText(N_("field '{name}' missing"), {"name": name}))
        # In JSON, true is not 1.
        elif fields[name] != value or isinstance(fields[name], bool) != isinstance(value, bool):
            values = {"name": name, "value": _shorten_value(fields[name])}
            values["expected"] = _shorten_value(value)
            template = N_("'{name}' is {value}, expected {expected}")
            problems.append(LazyText(template, values))
    return problems


def _shorten_value(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False).encode("utf-8", "replace").decode()
    return text if len(text) <= 100 else f"{text[:100]}..."
