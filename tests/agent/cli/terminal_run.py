"""Runs the program on a pseudo-terminal, as a person would."""

from __future__ import annotations

import os
import pty
import select
import signal
from collections.abc import Mapping, Sequence

#: Seconds without a word after which a program waits for an answer that the test does not give.
SILENCE_S = 120.0


def run_on_terminal(
    command: Sequence[str], environment: Mapping[str, str], answers: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """Run to the end; give each answer once, when its words have appeared.

    Returns:
        The exit code and everything that was shown.

    Raises:
        AssertionError: If nothing was shown for SILENCE_S; the program is ended.
    """
    process, terminal = pty.fork()
    if process == 0:
        os.execvpe(command[0], list(command), dict(environment))
    shown, waiting = b"", dict(answers or {})
    while True:
        if not select.select([terminal], [], [], SILENCE_S)[0]:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            raise AssertionError(f"no answer was given to: {shown.decode('utf-8', 'replace')}")
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # Linux says so when the other end is closed
            break
        if not piece:
            break
        shown += piece
        for words, answer in list(waiting.items()):
            if words.encode() in shown:
                os.write(terminal, f"{answer}\n".encode())
                del waiting[words]
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), shown.decode("utf-8", "replace")
