"""A socket at which passwords are looked at by the real helper, one process for each connection."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ncen_updater.login.helper import PAM_SERVICE_NAME

ROOT = Path(__file__).resolve().parents[2]
AMINA, MARIE, GROUP = "nu-login-amina", "nu-login-marie", "nu-login-approvers"
SECRETS = {AMINA: "correct horse $1", MARIE: "pässword of Marie"}
#: As the package has them, without the wait after what was wrong: that is the system's own.
RULES = "auth required pam_unix.so nodelay\naccount required pam_unix.so\n"


def opened(service: Path) -> None:
    """Let people reach the socket of the service, as members of its group do."""
    service.chmod(0o666)
    service.parent.chmod(0o755)


@dataclass
class LoginSocket:
    """Where the console asks, what was started for it, and what is to be let go of."""

    path: Path
    log: Path
    closing: contextlib.ExitStack
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)


@contextmanager
def login_socket(
    directory: Path, service: Path, console: int | None = None, rules: str = RULES
) -> Iterator[LoginSocket]:
    """Start the helper for each connection, as the socket of the package does.

    Args:
        directory: For what it keeps.
        service: The socket of the service.
        console: Number of the console's user; who runs the trial by default.
        rules: Of PAM.
    """
    (directory / "pam.d").mkdir()
    (directory / "pam.d" / PAM_SERVICE_NAME).write_text(rules)
    closing = contextlib.ExitStack()
    found = LoginSocket(directory / "login.sock", directory / "login.log", closing)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(found.path))
    found.path.chmod(0o666)
    listener.listen()
    words = [
        sys.executable, "-m", "tests.login.helper_process",
        str(os.getuid() if console is None else console), str(service), str(directory / "tries"),
        str(directory / "pam.d"),
    ]  # fmt: skip

    def accept() -> None:
        with found.log.open("ab") as log, contextlib.suppress(OSError):
            while True:
                line, _ = listener.accept()
                with line:
                    found.processes.append(
                        subprocess.Popen(
                            words, stdin=line.fileno(), stdout=subprocess.DEVNULL, stderr=log,
                            cwd=ROOT,
                        )
                    )  # fmt: skip

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        closing.close()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
        for process in found.processes:
            process.kill()
            process.wait()
