"""Protocol between our processes: one request, progress messages, and a result or an error.

A worker is a module of this package. It runs as a child process, or systemd starts it for a
connection to a socket (``Accept=yes``). In both cases its stdin and stdout are *one connection, and
one connection is one request*. So neither side needs rights over the other: the caller may be
without a network, the worker without the databases. Each line is a JSON object:

========  ==========================================================================================
request   The first line of the caller; a further line asks the worker to end.
progress  ``{"template", "values", "amount"}``; an empty template is a heartbeat.
result    ``{"done": true, ...}``: the other members are the result.
error     ``{"error": {"code", "title", "values", "detail"}}``
========  ==========================================================================================

Other lines are ignored, so that a newer worker may send more. Everything is bounded, because a
worker may be compromised: each line, all lines, the time without a line, the total time. An error
is sent with its code, values and detail. The receiver uses its own class, exit code and text for
the code, and accepts only codes that the caller expects. The reasons
are in docs/decisions/0018-privilege-separation.md.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ncen_updater.common.bounded_io import parse_json
from ncen_updater.common.disk_space import find_disk_full_error
from ncen_updater.common.errors import DETAIL, UpdaterError
from ncen_updater.common.i18n import PLACEHOLDER, LazyText
from ncen_updater.common.messages import find_message
from ncen_updater.common.progress import (
    CALLER_PROGRESS,
    Amount,
    ProgressListener,
    ProgressUpdate,
)
from ncen_updater.common.unix_http import connect_unix_socket

logger = logging.getLogger(__name__)

#: Lines of a Python traceback, whose beginning may have been cut off.
TRACEBACK_LINE = re.compile(r'\s+File "|\s+[\^~]+$')
#: Environment variables that a child gets. Proxies come from the configuration; PG* variables and
#: Python's module paths must not be inherited.
INHERITED_VARIABLES = (
    "PATH", "LANG", "LC_ALL", "TZ", "HOME", "NCEN_LOCALE_DIR", "COVERAGE_PROCESS_START",
)  # fmt: skip
MAX_REQUEST_BYTES = 10_000_000
MAX_TAIL, MAX_VALUE, MAX_DETAIL, MAX_DEPTH = 2000, 200, 20_000, 4
READ_BLOCK_BYTES = 65_536
CONNECT_S, SLICE_S = 10.0, 1.0
#: Minimum seconds between two figures of one text, and between two heartbeats.
REPEAT_S, BEAT_S = 0.5, 10.0
END_REQUEST = b'{"act": "end"}\n'
#: Maximum seconds until a worker ends after its result or after an end request. It may be waiting
#: for something that never answers, and the caller has other work.
EXIT_GRACE_S = 30.0


class WorkerError(Exception):
    """A worker that ended without a response, or sent an invalid one.

    Args:
        detail: The reason, if known.
        status: Exit status of a child process; negative for a signal.
    """

    def __init__(self, detail: str | LazyText, status: int | None = None) -> None:
        super().__init__(detail)
        self.detail, self.status = detail, status


class WorkerUnavailableError(WorkerError):
    """A worker whose socket has no listener, or whose process cannot be started."""


class WorkerTimeoutError(WorkerError):
    """A worker that sent nothing for too long, or took too long."""


#: An error class with its subclasses and code range, or a range of code numbers.
ExpectedErrors = type[UpdaterError] | range


@dataclass(frozen=True)
class WorkerLimits:
    """Limits of a worker's output and time; None means no limit.

    Attributes:
        silence_timeout_s: Maximum seconds without a line; a heartbeat is a line.
        total_timeout_s: Maximum seconds of the request.
        max_line_bytes: Maximum bytes of a line.
        max_stream_bytes: Maximum bytes of all lines.
        max_file_bytes: Maximum size of a file that a child writes (RLIMIT_FSIZE).
    """

    silence_timeout_s: float | None = None
    total_timeout_s: float | None = None
    max_line_bytes: int = 1_000_000
    max_stream_bytes: int = 256_000_000
    max_file_bytes: int | None = None


@dataclass(frozen=True)
class Worker:
    """A worker that handles a request.

    Attributes:
        module: Module to run as a child process.
        arguments: Its arguments.
        socket: Socket of a systemd unit; no child process is started then.
        limits: Limits of output and time.
        expected_errors: Errors that it may report: classes with their subclasses and code
            ranges, or ranges of code numbers.
        ends_with_caller: Whether the worker ends when its caller ends.
        inherited_variables: Environment variables that a child gets.
        stderr: Destination of a child's stderr: inherited (True), discarded (False), or the detail
            of an error (None).
        owner: User and group id of a child.
    """

    module: str
    arguments: Sequence[str] = ()
    socket: Path | None = None
    limits: WorkerLimits = WorkerLimits()
    expected_errors: tuple[ExpectedErrors, ...] = ()
    ends_with_caller: bool = True
    inherited_variables: Sequence[str] = INHERITED_VARIABLES
    stderr: bool | None = None
    owner: tuple[int, int] | None = None

    def build_command(self) -> list[str]:
        """Return the command line of a child, isolated from directory and environment."""
        return [sys.executable, "-I", "-m", self.module, *self.arguments]

    def build_environment(self) -> dict[str, str]:
        """Return the environment variables of a child."""
        return {k: os.environ[k] for k in self.inherited_variables if k in os.environ}


# ---- caller --------------------------------------------------------------------------------------


def call_worker(
    worker: Worker,
    order: Mapping[str, object],
    progress: ProgressListener | None = None,
    *,
    files: Sequence[int] = (),
    ending: Callable[[], bool] | None = None,
) -> dict[str, object]:
    """Send a request to a worker, and wait for its result.

    Args:
        worker: The worker.
        order: The request.
        progress: Receives the worker's progress.
        files: Open descriptors that a child inherits with the same numbers.
        ending: Called about once a second; when it returns True, the worker is asked to end. An
            exception of it is raised, and kills a worker that ends with its caller.

    Returns:
        The result.

    Raises:
        WorkerError, WorkerUnavailableError, WorkerTimeoutError: If there is no result.
        UpdaterError: The error that the worker reports, if it is an expected one.
    """
    line = json.dumps(order).encode() + b"\n"
    child = None
    with contextlib.ExitStack() as stack:
        try:
            if worker.socket is None:
                connection, child = stack.enter_context(_start_child(worker, files))
            else:  # closing the connection ends the worker
                connection = stack.enter_context(connect_unix_socket(worker.socket, CONNECT_S))
        except OSError as error:
            raise WorkerUnavailableError(error.strerror or str(error)) from error
        asking = _WorkerCall(worker, connection, progress, child)
        try:
            return asking.run(line, ending)
        except WorkerTimeoutError:
            asking.give_up()
            raise


@contextlib.contextmanager
def _start_child(
    worker: Worker, files: Sequence[int]
) -> Iterator[tuple[socket.socket, subprocess.Popen[bytes]]]:
    ours, theirs = socket.socketpair()
    # Only the parent's end is non-blocking; a child must not get errors when it writes to stderr.
    value, stderr = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(value, False)
    streams = {True: None, False: subprocess.DEVNULL, None: stderr}
    with ours, os.fdopen(value, "rb", buffering=0) as output_stream:
        with theirs, os.fdopen(stderr, "wb"):
            child = subprocess.Popen(
                worker.build_command(),
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=streams[worker.stderr],
                cwd="/",
                env=worker.build_environment(),
                pass_fds=files,
                # Own session: a terminal's signal reaches the child only through us; the group can
                # be killed.
                start_new_session=True,
                user=worker.owner and worker.owner[0],
                group=worker.owner and worker.owner[1],
                extra_groups=worker.owner and [],
            )
        child.stderr = output_stream
        try:
            _set_resource_limits(child, worker.limits)
            yield ours, child
        finally:
            if worker.ends_with_caller:
                _kill_child(child)


def _set_resource_limits(child: subprocess.Popen[bytes], limits: WorkerLimits) -> None:
    """Set resource limits of a child before it gets its request."""
    if limits.max_file_bytes is None:
        return
    try:
        resource.prlimit(
            child.pid, resource.RLIMIT_FSIZE, (limits.max_file_bytes, limits.max_file_bytes)
        )
    except ProcessLookupError:
        return  # it has already ended, which the caller notices
    except PermissionError as error:
        # The unit lacks the right because the child has another user; the other limits still apply.
        logger.warning("cannot limit the file size of a process: %s", error)


def _kill_child(child: subprocess.Popen[bytes]) -> None:
    """Kill a child and its process group before it is reaped, while its PID is still valid."""
    if child.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


class _WorkerCall:
    """A request in progress."""

    def __init__(
        self,
        worker: Worker,
        connection: socket.socket,
        progress: ProgressListener | None,
        child: subprocess.Popen[bytes] | None,
    ) -> None:
        self._worker, self._limits, self._connection = worker, worker.limits, connection
        self._child, self._stderr, self._tail = child, child and child.stderr, b""
        self._progress = progress
        self._began = self._heard = time.monotonic()
        self._result: dict[str, object] | None = None
        self._error: Exception | None = None
        self._line, self._taken = bytearray(), 0

    def run(self, order: bytes, ending: Callable[[], bool] | None) -> dict[str, object]:
        """Send the request, read up to the first result, and return it.

        Further data is ignored, for example of another worker that was started on this connection.
        """
        self._send_line(order)
        end_requested_at: float | None = None
        while self._read_answer():
            # Also called after the end request: the call tells others that the caller is alive.
            if ending is not None and ending() and end_requested_at is None:
                self._send_line(END_REQUEST)
                end_requested_at = time.monotonic()
            if (
                end_requested_at is not None
                and self._worker.ends_with_caller
                and time.monotonic() - end_requested_at > EXIT_GRACE_S
            ):
                raise WorkerTimeoutError("no response in time")
        if self._line and self._result is None and self._error is None:
            self._handle_line(bytes(self._line))
        status = self._get_exit_status(self._child) if self._child is not None else None
        if self._error is not None:
            raise self._error
        if self._result is None or (status and self._worker.ends_with_caller):
            output = self._tail.decode("utf-8", "backslashreplace")
            # Logged for --verbose only; the operator sees the reason, not the traceback.
            logger.debug("a worker exited without a result: %s", output)
            raise WorkerError(
                extract_final_output(output) or describe_missing_answer(status), status
            )
        return self._result

    def give_up(self) -> None:
        """End an overdue worker, even if it may outlive its caller: the next would wait for it."""
        if self._child is not None:
            _kill_child(self._child)
        else:
            with contextlib.suppress(WorkerTimeoutError):
                self._send_line(END_REQUEST)

    def _send_line(self, line: bytes) -> None:
        limits = self._limits
        self._connection.settimeout(
            EXIT_GRACE_S
            if line == END_REQUEST
            else limits.silence_timeout_s or limits.total_timeout_s
        )
        try:
            self._connection.sendall(line)
        except TimeoutError as error:
            raise WorkerTimeoutError("request not accepted in time") from error
        except OSError:  # the worker has ended; its earlier output is still read
            return

    def _read_answer(self) -> bool:
        """Read available data, or wait a little; return False at the end or after a result."""
        here = self._connection.fileno()
        # First without waiting: this process may have been suspended; data that arrived counts.
        if not self._wait_until_readable(here, 0) and not self._wait_until_readable(
            here, self._get_remaining_s()
        ):
            return True
        try:
            piece = self._connection.recv(READ_BLOCK_BYTES)
        except ConnectionError:
            return False
        self._count_bytes(piece)
        self._line += piece
        if b"\n" in piece:
            *lines, self._line = self._line.split(b"\n")
            for line in lines:
                self._handle_line(bytes(line))
                if self._result is not None or self._error is not None:
                    return False
        if len(self._line) > self._limits.max_line_bytes:
            raise WorkerError("line too long")
        return bool(piece)

    def _wait_until_readable(self, descriptor: int, wait_s: float) -> bool:
        """Wait for data; return whether there is any. Meanwhile read a child's stderr.

        A child would block on a full stderr. Its last lines may explain a failure.
        """
        others = [self._stderr.fileno()] if self._stderr else []
        ready = select.select([descriptor, *others], [], [], wait_s)[0]
        if set(others) & set(ready):
            self._read_stderr()
        return descriptor in ready

    def _read_stderr(self) -> bool:
        """Read available stderr; return False if there is none."""
        piece = self._stderr.read(READ_BLOCK_BYTES) if self._stderr else None
        if piece == b"":
            self._stderr = None
        self._count_bytes(piece or b"")
        self._tail = (self._tail + (piece or b""))[-MAX_TAIL:]
        return bool(piece)

    def _count_bytes(self, piece: bytes) -> None:
        self._taken += len(piece)
        if self._taken > self._limits.max_stream_bytes:
            raise WorkerError("output too large")

    def _get_remaining_s(self) -> float:
        """Return the seconds until the worker is overdue, or until the next check.

        Raises:
            WorkerTimeoutError: If it is overdue.
        """
        now, limits = time.monotonic(), self._limits
        left = SLICE_S
        for since, most, reason in (
            (self._began, limits.total_timeout_s, "no result after"),
            (self._heard, limits.silence_timeout_s, "no output for"),
        ):
            if most is not None and now - since > most:
                raise WorkerTimeoutError(f"{reason} {most:.0f} s")
            left = left if most is None else min(left, since + most - now)
        return max(0.001, left)

    def _handle_line(self, line: bytes) -> None:
        if len(line) > self._limits.max_line_bytes:
            raise WorkerError("line too long")
        try:
            message = parse_json(line)
        except ValueError as error:
            raise WorkerError(f"invalid JSON: {error}"[:500]) from error
        if not isinstance(message, dict):
            raise WorkerError("invalid response")
        self._heard = time.monotonic()
        if "error" in message:
            self._error = self._error or decode_error(
                message["error"], self._worker.expected_errors
            )
        elif message.get("done") is True:
            self._result = {key: value for key, value in message.items() if key != "done"}
        elif "template" in message:
            progress = ProgressUpdate.from_json(message)
            if progress is None:
                raise WorkerError("invalid response")
            if progress.template and self._progress is not None:
                self._progress.report(progress.text, progress.amount)

    def _get_exit_status(self, child: subprocess.Popen[bytes]) -> int:
        """Return the exit status of a child that ends, and kill the rest of its process group."""
        ended, until = os.pidfd_open(child.pid), time.monotonic() + EXIT_GRACE_S
        try:
            while not self._wait_until_readable(ended, max(0.0, until - time.monotonic())):
                if time.monotonic() > until:
                    raise WorkerTimeoutError("no response in time")
        finally:
            os.close(ended)
        if self._worker.ends_with_caller:
            _kill_child(child)
        status = child.wait()
        while self._read_stderr():
            pass
        return status


def extract_final_output(reported: str) -> str:
    """Return the last output of a worker; of a traceback only the error. Pure."""
    lines = reported.rstrip().splitlines()
    ends = [n for n, line in enumerate(lines) if line.startswith((" ", "\t"))]
    traced = any(TRACEBACK_LINE.match(line) for line in lines)
    return "\n".join(lines[ends[-1] + 1 :]) if traced and ends else reported


def describe_missing_answer(status: int | None) -> LazyText:
    """Describe why a worker without output gave no response. Pure.

    Args:
        status: Its exit status, negative for a signal; None if it is unknown.
    """
    if status is None or status < 0:
        return LazyText("worker process killed before its response")
    return LazyText("worker process ended without a response (status {status})", {"status": status})


# ---- errors --------------------------------------------------------------------------------------


def encode_error(error: UpdaterError) -> dict[str, object]:
    """Encode an error for the caller; our texts are sent as template and values."""
    failure = error.detail_text
    return {
        "code": error.code,
        "title": str(error.title_text),
        "values": {key: encode_value(value) for key, value in error.values.items()},
        "detail": error.detail
        if failure is None or failure.template == DETAIL
        else encode_value(failure),
    }


def encode_value(value: object) -> object:
    """Encode a value for another process; a translatable text as its template and values."""
    if isinstance(value, LazyText):
        values = {key: encode_value(one) for key, one in value.values.items()}
        return {"text": value.template, "values": values}
    return _to_plain_value(value)


def decode_value(value: object, depth: int = 0) -> object:
    """Decode a value from a worker within limits; too long a text becomes its template."""
    if isinstance(value, dict) and isinstance(value.get("text"), str) and depth < MAX_DEPTH:
        values = value.get("values")
        known = values if isinstance(values, dict) else {}
        reported = {str(key): decode_value(one, depth + 1) for key, one in known.items()}
        text = LazyText(_make_printable(value["text"]), reported)
        return text if _rendered_length(text) <= MAX_DETAIL else text.template[:MAX_VALUE]
    plain = _to_plain_value(value)
    return _make_printable(plain[:MAX_DETAIL]) if isinstance(plain, str) else plain


def _rendered_length(text: LazyText) -> int:
    lengths = {
        name: _rendered_length(value) if isinstance(value, LazyText) else len(str(value))
        for name, value in text.values.items()
    }
    return len(text.template) + sum(
        lengths.get(name, 0) for name in PLACEHOLDER.findall(text.template)
    )


def _to_plain_value(value: object) -> object:
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def decode_error(data: object, expects: Sequence[ExpectedErrors]) -> Exception:
    """Rebuild the error that a worker reports, with this side's message for its code."""
    code = data.get("code") if isinstance(data, dict) else None
    values = data.get("values") if isinstance(data, dict) else None
    if not isinstance(data, dict) or not isinstance(code, str) or not isinstance(values, dict):
        return WorkerError("invalid response")
    message, kind = find_message(code), _find_error_class(code, expects)
    if message is None or kind is None:
        return WorkerError(_make_printable(f"unexpected error {code}: {data.get('title')}")[:500])
    # A class with its own constructor would need arguments that are not sent.
    error_class = kind if kind.__init__ is UpdaterError.__init__ else UpdaterError
    detail = decode_value(data.get("detail"))
    if detail is not None and not isinstance(detail, LazyText):
        detail = str(detail)
    error = error_class(message, detail=detail)
    error.values = {str(key): decode_value(value) for key, value in values.items()}
    if error.state is not None:
        error.state = LazyText(error.state.template, error.values)
    return error


def _find_error_class(code: str, expects: Sequence[ExpectedErrors]) -> type[UpdaterError] | None:
    """Return the class for an error code; None if the caller does not expect the code."""
    kinds = [one for one in expects if not isinstance(one, range)]
    known = _index_error_classes(kinds)
    exact = known.get(code)
    number = int(code[3:]) if re.fullmatch(r"NU-\d{4}", code, re.ASCII) else -1
    if exact is not None:
        return exact
    if any(number in one for one in expects if isinstance(one, range)):
        return UpdaterError
    return next((kind for kind in (*kinds, *known.values()) if number in kind.code_range), None)


def _index_error_classes(kinds: Sequence[type[UpdaterError]]) -> dict[str, type[UpdaterError]]:
    """Return the classes and their subclasses by error code."""
    found: dict[str, type[UpdaterError]] = {}
    for kind in kinds:
        found |= {kind.message.code: kind} if "message" in vars(kind) else {}
        found |= _index_error_classes(kind.__subclasses__())
    return found


def _make_printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


# ---- worker --------------------------------------------------------------------------------------

RequestHandler = Callable[[Mapping[str, object], ProgressListener], Mapping[str, object]]


class ProgressWriter:
    """Writes protocol lines; lines that the caller does not read are lost, and the work continues.

    Args:
        descriptor: Descriptor of the connection.
        monotonic: The clock.
    """

    def __init__(self, descriptor: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._descriptor, self._clock = descriptor, monotonic
        # Re-entrant: a signal handler that raises may run between any two lines of the holder.
        self._lock = threading.RLock()
        self._last, self._last_at = ("", ""), -REPEAT_S

    def report(self, text: LazyText, amount: Amount | None = None) -> None:
        """Send a new text at once, figures of the same text at most twice a second."""
        values = {key: str(value)[:MAX_VALUE] for key, value in text.values.items()}
        value, now = (text.template, str(values)), self._clock()
        if value == self._last and now - self._last_at < REPEAT_S:
            return
        self._last, self._last_at = value, now
        line = ProgressUpdate(text.template, values, amount).to_json_line()
        if len(line) > select.PIPE_BUF:
            line = ProgressUpdate(text.template[:500], {}, amount).to_json_line()
        self._write_line(line)

    def send_heartbeat(self) -> None:
        """Send a heartbeat."""
        self._write_line(ProgressUpdate("").to_json_line())

    def _write_line(self, line: bytes) -> None:
        # A full buffer or a caller that has gone must not end the work.
        with self._lock, contextlib.suppress(OSError), _open_connection(self._descriptor) as other:
            sent = other.send(line, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            # the kernel accepts so short a line completely or not at all
            other.sendall(line[sent:])

    def send_result(self, message: Mapping[str, object]) -> None:
        """Send the last line.

        Raises:
            OSError: If the caller has gone.
        """
        with self._lock, os.fdopen(self._descriptor, "wb", closefd=False) as stream:
            stream.write(json.dumps(message).encode() + b"\n")


def serve_request(
    handler: RequestHandler,
    *,
    ends_with_caller: bool | Callable[[Mapping[str, object]], bool] = True,
    alive: Callable[[], object] = lambda: None,
) -> int:
    """Handle the request on stdin, answer on stdout, and return the exit status.

    Both streams are then used for the protocol only: stdin and stdout of the work are redirected.

    Args:
        handler: Handles the request, which is empty if it is invalid; returns the result.
        ends_with_caller: Whether the work ends with the caller, or a function that decides it by
            the request. If so, SIGTERM is sent to this process when the caller has gone. An end
            request always sends SIGTERM.
        alive: Called with each heartbeat, for example to notify systemd's watchdog.
    """
    given, answers = os.dup(0), os.dup(1)
    os.set_blocking(given, True)
    with Path(os.devnull).open("rb") as nowhere:
        os.dup2(nowhere.fileno(), 0)
    os.dup2(2, 1)
    writer = ProgressWriter(answers)
    CALLER_PROGRESS[:] = [writer]
    order = _read_request(given)
    if order is None:
        return 1
    over = threading.Event()
    ends = ends_with_caller(order) if callable(ends_with_caller) else ends_with_caller
    _start_thread(lambda: _watch_caller(given, over, bound=ends))
    _start_thread(lambda: _send_heartbeats(writer, over, alive))
    status, message = 0, {}
    try:
        message = {**handler(order, writer), "done": True}
    except UpdaterError as error:
        status, message = 1, {"error": encode_error(error)}
    except Exception as error:
        full = find_disk_full_error(error)
        if full is None:
            raise
        status, message = 1, {"error": encode_error(full)}
    over.set()
    try:
        writer.send_result(message)
    except OSError as error:
        sys.stderr.write(f"the caller has gone; the result is lost: {error}\n")
    return status


def _read_request(descriptor: int) -> dict[str, object] | None:
    """Read the request; return None if the caller has gone, an empty one if it is invalid."""
    # Unbuffered: data after this line is for _watch_caller.
    with os.fdopen(descriptor, "rb", buffering=0, closefd=False) as stream:
        try:
            line = stream.readline(MAX_REQUEST_BYTES)
        except OSError:
            line = b""
    if not line.endswith(b"\n"):
        return None
    try:
        order = parse_json(line)
    except ValueError:
        return {}
    return order if isinstance(order, dict) else {}


def _watch_caller(descriptor: int, over: threading.Event, *, bound: bool) -> None:
    """Send SIGTERM to this process after an end request, or when the caller has gone."""
    try:
        piece = os.read(descriptor, READ_BLOCK_BYTES)
    except OSError:
        piece = b""
    if (piece or bound) and not over.is_set():
        os.kill(os.getpid(), signal.SIGTERM)
        # Only the unit can end itself; a long query may block SIGTERM, so SIGKILL follows.
        if bound and not over.wait(EXIT_GRACE_S):
            os.kill(os.getpid(), signal.SIGKILL)


def _send_heartbeats(
    writer: ProgressWriter, over: threading.Event, alive: Callable[[], object]
) -> None:
    while not over.wait(BEAT_S):
        writer.send_heartbeat()
        alive()


def _start_thread(work: Callable[[], None]) -> None:
    threading.Thread(target=work, daemon=True).start()


def _open_connection(descriptor: int) -> socket.socket:
    """Return the socket of a descriptor; closing the socket leaves the descriptor open."""
    return socket.socket(fileno=os.dup(descriptor))
