"""The protocol between our processes, with real ones, and faults of worker and caller."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ncen_updater.agent.service.apply_runner import WORK_VARIABLES
from ncen_updater.common import workers
from ncen_updater.common.errors import InsufficientSpaceError, UpdaterError
from ncen_updater.common.i18n import LazyText
from ncen_updater.common.messages import ROLE_EXPIRED
from ncen_updater.common.progress import Amount, ProgressUpdate
from ncen_updater.common.workers import (
    INHERITED_VARIABLES,
    ProgressWriter,
    Worker,
    WorkerError,
    WorkerLimits,
    WorkerTimeoutError,
    WorkerUnavailableError,
    call_worker,
    describe_missing_answer,
    extract_final_output,
)
from ncen_updater.feed.errors import RoleExpiredError
from tests.support.activation import ACTIVATOR, activated
from tests.support.forks import DEADLINE_S

#: Long enough for a slow machine to start a process, short enough to be waited for.
SILENCE = WorkerLimits(silence_timeout_s=4)
SERVE = """
import os, signal, sys, time
from ncen_updater.common import workers
from ncen_updater.common.errors import InsufficientSpaceError, UpdaterError
from ncen_updater.common.i18n import LazyText
from ncen_updater.common.progress import Amount
from ncen_updater.common.messages import ROLE_EXPIRED
def handler(order, progress):
{body}
sys.exit(workers.serve_request(handler))
"""
SAY = "import json, os, sys, time\ndef say(**line): print(json.dumps(line), flush=True)\n"


class Listener:
    """Records reported progress."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, Amount | None]] = []

    def report(self, text: LazyText, amount: Amount | None = None) -> None:
        """Record it."""
        self.heard.append((text.render(), amount))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Call a worker that runs some code in place of a module."""

    def run(code: str, order: dict[str, object] | None = None, **options: Any) -> dict[str, object]:
        words = [sys.executable, "-I", "-c", code]
        monkeypatch.setattr(Worker, "build_command", lambda _self: words)
        asked = {k: options.pop(k) for k in ("progress", "files", "ending") if k in options}
        return call_worker(Worker("code", **options), order or {"act": "x"}, **asked)

    return run


def serving(body: str) -> str:
    """Return code of a worker by :func:`serve` with this handler."""
    return SERVE.format(body=textwrap.indent(textwrap.dedent(body), "    "))


def speaking_worker(body: str) -> str:
    """Return code of a worker that writes lines of its own."""
    return SAY + textwrap.dedent(body)


# ---- what arrives --------------------------------------------------------------------------------


def test_worker_receives_an_order_and_returns_progress_and_result(run: Any) -> None:
    listener = Listener()
    body = """
    progress.report(LazyText("copying {name}", {"name": "cases"}), Amount(3, 9))
    print("a library prints")
    return {"order": order, "stdin": sys.stdin.read()}
    """
    order = {"act": "copy", "more": "x" * 500_000}  # more than a connection holds
    result = run(serving(body), order, progress=listener)
    assert result == {"order": order, "stdin": ""}
    assert listener.heard == [("copying cases", Amount(3, 9))]


def test_expected_error_keeps_its_class(run: Any) -> None:
    figures = "needed_bytes=2, free_bytes=1, missing_bytes=1"
    body = f'raise InsufficientSpaceError(path="/x", {figures}, detail="why")'
    with pytest.raises(InsufficientSpaceError) as caught:
        run(serving(body), expected_errors=(InsufficientSpaceError,))
    assert caught.value.title_text.render().startswith(
        "Not enough disk space in /x: 1 B free, 2 B required"
    )
    assert caught.value.detail == "why"


def test_error_of_another_room_is_refused(run: Any) -> None:
    class OwnError(UpdaterError):
        code = "NU-0000"

    body = 'raise InsufficientSpaceError(path="/x", needed_bytes=2, free_bytes=1, missing_bytes=1)'
    with pytest.raises(WorkerError, match="unexpected error NU-3101: Not enough disk space"):
        run(serving(body), expected_errors=(OwnError,))


def test_unknown_lines_are_ignored(run: Any) -> None:
    body = """say(template="", values={}); say(weather="fine"); say(done=1); say(done=True, x=2)"""
    listener = Listener()
    assert run(speaking_worker(body), progress=listener) == {"x": 2}
    assert listener.heard == []


def test_worker_is_asked_to_end_once(run: Any) -> None:
    body = """
    sys.stdin.readline()
    say(done=True, asked=sys.stdin.readline())
    """
    assert json.loads(str(run(speaking_worker(body), ending=lambda: True)["asked"])) == {
        "act": "end"
    }


def test_exchange_ends_at_its_first_result(tmp_path: Path) -> None:
    """As where systemd starts a worker again on its connection: the next waits for a request."""
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        first = threading.Event()
        held: list[socket.socket] = []

        def work() -> None:
            held.append(listener.accept()[0])
            held[0].recv(1000)
            held[0].sendall(b'{"done": true, "x": 1}\n{"done": tr')
            first.wait(DEADLINE_S)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            assert call_worker(Worker("none", socket=path, ends_with_caller=False), {}) == {"x": 1}
        finally:
            first.set()
            thread.join()
            held[0].close()


def test_caller_reports_progress_while_waiting_for_the_end(run: Any) -> None:
    looks: list[int] = []
    body = """
    sys.stdin.readline()
    sys.stdin.readline()
    for _ in range(3): say(template="undoing"); time.sleep(0.3)
    say(done=True)
    """

    def ending() -> bool:
        looks.append(1)
        return True

    run(speaking_worker(body), ending=ending, ends_with_caller=False)
    assert len(looks) > 2


def test_silent_worker_is_ended(run: Any, tmp_path: Path) -> None:
    """Its running work would block the next one."""
    note = tmp_path / "pid"
    body = f"open({str(note)!r}, 'w').write(str(os.getpid())); time.sleep(1000)"
    with pytest.raises(WorkerTimeoutError):
        run(speaking_worker(body), ends_with_caller=False, limits=SILENCE)
    with pytest.raises(ProcessLookupError):
        os.kill(int(note.read_text()), 0)


@pytest.mark.parametrize("by", ["who asks", "itself"])
def test_worker_that_ignores_the_request_is_ended(
    run: Any, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    """As in a long query; a unit cannot be ended by its caller, so it ends itself."""
    monkeypatch.setattr(workers, "EXIT_GRACE_S", 0.0 if by == "who asks" else 60.0)
    body = """
    workers.LAST_S = {last}
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    progress.report(LazyText("deaf"))
    time.sleep(1000)
    """
    listener = Listener()
    ending = lambda: bool(listener.heard)  # noqa: E731
    code = serving(body.format(last=1000 if by == "who asks" else 0))
    with pytest.raises(WorkerError) as ended:
        run(code, progress=listener, ending=ending, limits=WorkerLimits(total_timeout_s=100))
    assert ("no response in time" in str(ended.value.detail)) is (by == "who asks")
    assert ended.value.status == (None if by == "who asks" else -signal.SIGKILL)


# ---- a worker that does not answer ---------------------------------------------------------------

FAILING = {
    "nothing": "",
    "no JSON": "print('hello')",
    "a partial line": "sys.stdout.write('{\"done\": tr')",
    "a list": "print('[]')",
    "nested": "print('[' * 100000)",
    "not UTF-8": "sys.stdout.buffer.write(b'\\xff\\n')",
    "a sentence that is none": "say(template=3); say(done=True)",
    "an error that is none": "say(error=3)",
    "done, and failed": "say(done=True); sys.exit(1)",
    "killed at once": "os.kill(os.getpid(), 9)",
    "killed with the order": "sys.stdin.readline(); os.kill(os.getpid(), 9)",
    "killed with progress": "say(template='a'); os.kill(os.getpid(), 9)",
    "killed with the result": "say(done=True); os.kill(os.getpid(), 9)",
    "closes, and stays silent": "os.close(0); os.close(1); time.sleep(1000)",
}


@pytest.mark.parametrize("name", FAILING)
def test_arbitrary_worker_output_is_a_worker_error(
    run: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ncen_updater.common.workers.EXIT_GRACE_S", 0.1)
    limits = WorkerLimits(silence_timeout_s=4, max_line_bytes=100_000, max_stream_bytes=1_000_000)
    with pytest.raises(WorkerError):
        run(
            speaking_worker(FAILING[name]), limits=limits, order={"act": "x", "more": "x" * 300_000}
        )


ENDLESS = {
    "an endless line": "[sys.stdout.write('x' * 100000) for _ in range(10**6)]",
    "an endless stream": "while True: say(template='a', values={})",
    "an endless stderr": "while True: sys.stderr.write('x' * 100000)",
}


@pytest.mark.parametrize("name", ENDLESS)
def test_endless_worker_output_is_limited(run: Any, name: str) -> None:
    limits = WorkerLimits(max_line_bytes=100_000, max_stream_bytes=1_000_000)
    with pytest.raises(WorkerError, match=r"line too long|output too large"):
        run(speaking_worker(ENDLESS[name]), limits=limits)


SILENT = {
    "says nothing": ("", "time.sleep(1000)"),
    "sends bytes slowly": ("", "while not time.sleep(0.1): os.write(1, b' ')"),
    "a child of it": ("os.fork()", "time.sleep(1000)"),
    "after progress": ("say(template='a')", "time.sleep(1000)"),
    "after the result": ("say(done=True)", "time.sleep(1000)"),
}


@pytest.mark.parametrize("name", SILENT)
def test_silent_worker_is_killed_with_its_group(
    run: Any, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "group"
    before, after = SILENT[name]
    note = f"open({str(tmp_path / 'note')!r} + str(os.getpid()), 'w')"
    code = (
        f"{before}\nwith {note} as file: file.write(str(os.getpgrp()))\n"
        f"os.rename(file.name, {str(place)!r})\n{after}"
    )
    began: list[float] = []
    clock = time.monotonic

    def hurrying() -> float:
        """Return a clock that runs a thousand times as fast once the worker is ready."""
        now = clock()
        if not began and place.exists():
            began.append(now)
        return now if not began else began[0] + 1000 * (now - began[0])

    monkeypatch.setattr("ncen_updater.common.workers.SLICE_S", 0.05)
    monkeypatch.setattr("ncen_updater.common.workers.time", SimpleNamespace(monotonic=hurrying))
    words = "no response in time" if name == "after the result" else "no output for"
    with pytest.raises(WorkerTimeoutError, match=words):
        run(speaking_worker(code), limits=SILENCE)
    assert gone(int(place.read_text()))


def test_worker_may_write_more_stderr_than_a_pipe_holds(run: Any) -> None:
    body = """
    for number in range(4000):
        print("a warning of a library", number, "x" * 100, file=sys.stderr)
    return {"x": 1}
    """
    assert run(serving(body)) == {"x": 1}


def test_end_of_worker_output_is_the_reason_of_its_failure(run: Any) -> None:
    body = "sys.stderr.write('x' * 300_000)\nsys.exit('the reason')"
    with pytest.raises(WorkerError, match="the reason"):
        run(speaking_worker(body))


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import os; os.kill(os.getpid(), 9)", "killed before its response"),
        ("raise SystemExit(3)", "without a response (status 3)"),
    ],
)
def test_silent_failed_worker_is_described_by_its_exit(run: Any, code: str, words: str) -> None:
    """Seen: "exit code None" of a killed worker that systemd had started; in French, too."""
    with pytest.raises(WorkerError, match=re.escape(words)) as ended:
        run(code)
    why = LazyText("{why}", {"why": ended.value.detail}).render("fr")
    assert why.startswith("processus auxiliaire")


def test_exit_of_a_worker_behind_a_socket_is_unknown() -> None:
    assert describe_missing_answer(None) == describe_missing_answer(-9)


def test_suspended_caller_reads_pending_output_before_judging(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-Z, a suspended machine, a blocked terminal: the worker is alive."""
    told, answered = tmp_path / "told", tmp_path / "answered"
    os.mkfifo(told)
    os.mkfifo(answered)
    late = 0.0
    clock = time.monotonic
    monkeypatch.setattr(
        "ncen_updater.common.workers.time", SimpleNamespace(monotonic=lambda: clock() + late)
    )

    class Stopped(Listener):
        def report(self, text: LazyText, amount: Amount | None = None) -> None:
            nonlocal late
            told.write_text("go on")
            answered.read_text()
            late = 1000.0

    body = f"""
    say(template="a")
    open({str(told)!r}).read()
    say(done=True, x=1)
    open({str(answered)!r}, "w").write("said")
    """
    assert run(speaking_worker(body), progress=Stopped(), limits=SILENCE) == {"x": 1}


def test_heartbeats_extend_the_wait_within_the_total_limit(run: Any) -> None:
    body = "while not time.sleep(0.1): say(template='', values={})"
    with pytest.raises(WorkerTimeoutError, match="no result after 6 s"):
        run(speaking_worker(body), limits=WorkerLimits(silence_timeout_s=4, total_timeout_s=6))


def test_worker_sends_heartbeats(run: Any) -> None:
    body = "workers.BEAT_S; time.sleep(6); return {}"
    code = serving(body).replace("def handler", "workers.BEAT_S = 0.5\ndef handler")
    assert run(code, limits=SILENCE) == {}


def test_unstartable_worker_is_reported(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Worker, "build_command", lambda _self: ["/nowhere"])
    with pytest.raises(WorkerUnavailableError):
        call_worker(Worker("x"), {})


def gone(group: int) -> bool:
    """Whether a process group has ended, or soon will."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        if all(_zombie(pid) for pid in _members(group)):
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)  # between two looks


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return ["Z", "0", "0"]


def _members(group: int) -> list[int]:
    numbers = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    return [pid for pid in numbers if _stat(pid)[2] == str(group)]


def _zombie(pid: int) -> bool:
    return _stat(pid)[0] == "Z"


# ---- what a child gets ---------------------------------------------------------------------------


@pytest.fixture
def planted(tmp_path: Path) -> Iterator[Path]:
    """A hostile directory: its modules would run in place of ours."""
    mark = f"open({str(tmp_path / 'ran')!r}, 'a').write(__name__)\n"
    place = tmp_path / "stick"
    (place / "ncen_updater").mkdir(parents=True)
    for name in ("json.py", "socket.py", "sitecustomize.py", "ncen_updater/__init__.py"):
        (place / name).write_text(mark)
    yield place
    assert not (tmp_path / "ran").exists()


WORKERS = (
    "ncen_updater.agent.adapters.feed_reader.worker",
    "ncen_updater.agent.service.notifications.send_worker",
    "ncen_updater.agent.cli.worker",
)


@pytest.mark.parametrize("module", WORKERS)
def test_directory_and_environment_add_no_modules(
    planted: Path, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(planted)
    monkeypatch.setenv("PYTHONPATH", str(planted))
    monkeypatch.setenv("PYTHONHOME", str(planted))
    for keeps in (INHERITED_VARIABLES, WORK_VARIABLES):
        with pytest.raises(WorkerError):  # there is no such configuration, or no such order
            call_worker(
                Worker(module, ("/nowhere/agent.toml",), inherited_variables=keeps),
                {"act": "refresh"},
            )


def test_no_child_is_started_from_the_current_directory() -> None:
    package = Path(__file__).parents[2] / "ncen_updater"
    found = [
        f"{path.relative_to(package)}: {line.strip()}"
        for path in package.rglob("*.py")
        for line in path.read_text("utf-8").splitlines()
        if "sys.executable" in line and '"-' in line and '"-I"' not in line
    ]
    assert found == []


def test_child_inherits_only_listed_variables_and_files(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PGPASSWORD", "LD_X", "PYTHONPATH", "https_proxy"):
        monkeypatch.setenv(name, "secret")
    body = """
    open_here = {n: os.readlink(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd")
                 if os.path.exists(f"/proc/self/fd/{n}")}
    return {"variables": sorted(os.environ), "cwd": os.getcwd(), "open": open_here,
            "leads": os.getpid() == os.getsid(0)}
    """
    passed, held = tmp_path / "passed", tmp_path / "held"
    passed.touch()
    held.touch()
    with passed.open() as file, held.open() as secret:
        os.set_inheritable(secret.fileno(), True)
        found = run(serving(body), files=(file.fileno(),))
        number = str(file.fileno())
    assert set(found["variables"]) <= {*INHERITED_VARIABLES, "LC_CTYPE"}
    assert (found["cwd"], found["leads"]) == ("/", True)
    assert found["open"].pop(number) == str(passed)
    assert not [place for place in found["open"].values() if str(tmp_path) in place]


# ---- who asks goes away --------------------------------------------------------------------------

ASKER = """
import os, sys
from ncen_updater.common.workers import Worker, call_worker
Worker.build_command = lambda self: [sys.executable, "-I", "-c", {code!r}]
call_worker(Worker("code"), {{"act": "x"}})
"""


@pytest.mark.parametrize("instant", ["before the order", "running"])
def test_child_ends_with_its_parent(tmp_path: Path, instant: str) -> None:
    place = tmp_path / "group"
    os.mkfifo(place)
    tell = f"open({str(place)!r}, 'w').write(str(os.getpgrp()))"
    code = serving(f"{tell}; time.sleep(1000)" if instant == "running" else "time.sleep(1000)")
    if instant != "running":
        code = f"import os; {tell}\n{code}"
    with subprocess.Popen([sys.executable, "-c", ASKER.format(code=code)]) as parent:
        group = int(place.read_text())
        parent.kill()
    assert gone(group)


@pytest.mark.skipif(ACTIVATOR is None, reason="systemd-socket-activate is not installed")
def test_worker_behind_a_unit_behaves_equally(tmp_path: Path) -> None:
    code = serving('progress.report(LazyText("a"), Amount(1, 2))\nreturn {"x": order["x"]}')
    path, listener = tmp_path / "socket", Listener()
    with activated(path, [sys.executable, "-c", code], tmp_path / "log"):
        assert call_worker(Worker("none", socket=path), {"x": 3}, listener) == {"x": 3}
    assert listener.heard == [("a", Amount(1, 2))]
    with pytest.raises(WorkerUnavailableError):
        call_worker(Worker("none", socket=tmp_path / "another"), {})


def test_caller_that_reads_nothing_does_not_block_the_worker() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        teller = ProgressWriter(theirs.fileno())
        for number in range(20_000):
            teller.report(LazyText(f"sentence {number}"))
        ours.setblocking(False)
        heard = b""
        while piece := _piece(ours):
            heard += piece
        teller.report(LazyText("again"))
        heard += ours.recv(100_000)
        lines = [ProgressUpdate.from_json(json.loads(line)) for line in heard.splitlines()]
        assert all(lines) and len(lines) > 20
        assert lines[-1] == ProgressUpdate("again")
        ours.close()
        teller.report(LazyText("nobody reads"))


def _piece(side: socket.socket) -> bytes:
    try:
        return side.recv(100_000)
    except BlockingIOError:
        return b""


def test_progress_is_limited_to_two_updates_per_second() -> None:
    ours, theirs = socket.socketpair()
    now = [10.0]
    with ours, theirs:
        teller = ProgressWriter(theirs.fileno(), lambda: now[0])
        for done in range(100):
            teller.report(LazyText("a"), Amount(done, 100))
        now[0] += 0.5
        teller.report(LazyText("a"), Amount(100, 100))
        teller.report(LazyText("x {v1}", {f"v{number}": "é" * 5000 for number in range(40)}))
        lines = ours.recv(100_000).splitlines()
    told = [ProgressUpdate.from_json(json.loads(line)) for line in lines]
    assert [t and (t.template, t.amount and t.amount.done) for t in told] == [
        ("a", 0), ("a", 100), ("x {v1}", None),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "line", ["x", [], {}, {"template": 3, "values": {}}, {"template": "x", "values": 3}]
)
def test_invalid_progress_is_ignored(line: object) -> None:
    assert ProgressUpdate.from_json(line) is None


def test_signals_reach_no_other_process() -> None:
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


TRACE = """Traceback (most recent call last):
  File "/x/worker.py", line 58, in <module>
    sys.exit(main())
             ^^^^^^
ValueError: it is none
of mine
"""


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (TRACE, "ValueError: it is none\nof mine"),
        (TRACE[60:], "ValueError: it is none\nof mine"),
        ("the reason", "the reason"),
        ("a\n  b\nc", "a\n  b\nc"),
        ("", ""),
    ],
)
def test_only_the_error_of_a_traceback_is_reported(said: str, told: str) -> None:
    assert extract_final_output(said) == told


@pytest.mark.parametrize(
    "body",
    [
        "raise OSError(28, 'No space left on device', '/var/x')",
        "try:\n    raise OSError(28, 'No space left on device', '/var/x')\n"
        "except OSError as error:\n    raise ValueError from error",
    ],
)
def test_full_disk_is_reported_as_such(run: Any, body: str) -> None:
    with pytest.raises(InsufficientSpaceError) as caught:
        run(serving(body), expected_errors=(InsufficientSpaceError,))
    assert caught.value.code == "NU-3110" and caught.value.values["path"] == "/var/x"
    assert caught.value.exit_code == 8


def test_state_of_a_received_error_has_its_values() -> None:
    """Seen: "Local time: {now}." of an error that crossed."""
    data = {"code": ROLE_EXPIRED.code, "values": {"role": "ncen", "since": "a", "now": "12:24"}}
    error = workers.decode_error(data, [RoleExpiredError])
    assert isinstance(error, UpdaterError) and error.state is not None
    assert "12:24" in error.state.render("en")
