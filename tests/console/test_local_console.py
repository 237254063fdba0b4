"""The process: it shows links, ends with its terminal, and the command becomes it."""

from __future__ import annotations

import os
import pty
import pwd
import signal
import socket as sockets
import subprocess
import sys
from pathlib import Path

import pytest

from ncen_updater.console.local_console import TerminalOutput
from tests.agent.service.api.conftest import Counter
from tests.console.support import Guest, console
from tests.support.forks import DEADLINE_S


def test_login_links_are_given_to_a_program(socket: Path) -> None:
    with console(socket) as found:
        assert found.valid_s == 60
        assert found.link.startswith(f"http://127.0.0.1:{found.port}/enter?key=")
        one, two = found.enter(), found.enter("fr")
        assert one.get("/").status == two.get("/").status == 200
        assert one.cookie != two.cookie


@pytest.mark.parametrize("how", ["end", signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_console_ends_on_request_or_signal(socket: Path, how: object) -> None:
    with console(socket) as found:
        process = found.process
        if isinstance(how, signal.Signals):
            process.send_signal(how)
        else:
            assert process.stdin is not None
            process.stdin.close()
        assert process.wait(DEADLINE_S) == 0
        with pytest.raises(OSError):
            Guest(found.port).get("/")


def test_occupied_port_is_reported(socket: Path) -> None:
    with sockets.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-I", "-m", "ncen_updater.console.local_console",
             "--socket", str(socket),
             "--port", port],
            capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert "NU-9706" in done.stderr and port in done.stderr


def test_console_ends_with_its_terminal(counter: Counter, socket: Path) -> None:
    """As a person has it: a link and the way to it, and the end of the terminal ends it."""
    del socket
    program = [sys.executable, "-m", "ncen_updater.agent.cli.main", "--config",
               str(counter.site.config), "--lang", "fr", "console"]  # fmt: skip
    number, terminal = pty.fork()
    if number == 0:
        os.execve(
            program[0],
            program,
            {**os.environ, **dict.fromkeys(("LOGNAME", "USER"), "amina"), "LANG": "C.UTF-8"},
        )
    said = b""
    while b" -L " not in said or b"Entr" not in said.partition(b" -L ")[2]:
        said += os.read(terminal, 4096)
    text = said.decode()
    assert "http://127.0.0.1:" in text and "amina@" in text
    assert "Ouvrez ce lien" in text
    os.close(terminal)
    assert os.waitpid(number, 0)[1] == 0


def test_ssh_hint_names_the_user_without_environment_variables(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("SUDO_USER", "LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    TerminalOutput("en", as_json=False).show_ssh_hint(8765)
    who = pwd.getpwuid(os.getuid()).pw_name
    assert (
        f"ssh -N -o ExitOnForwardFailure=yes -L 127.0.0.1:8765:127.0.0.1:8765 {who}@"
        in capsys.readouterr().out
    )
    monkeypatch.setenv("SUDO_USER", "amina")
    TerminalOutput("en", as_json=False).show_ssh_hint(8765)
    assert " amina@" in capsys.readouterr().out
