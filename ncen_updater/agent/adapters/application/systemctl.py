"""The one place that runs ``systemctl``: asked again while the service manager starts itself again.

A package of systemd has it do so (``systemctl daemon-reexec``), and every question fails meanwhile,
which says nothing of any unit. What is asked here may be asked twice: states, and orders of which
the second finds the first.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence

from ncen_updater.agent.adapters.application.process import CommandResult, run_command

#: What it says of its connection; of a unit it says none of these.
AWAY = re.compile(
    "Failed to connect to|not connected|Connection (re|is closed|terminated)|disconnected"
)
PATIENCE_S, AGAIN_S = 10.0, 0.2


def is_manager_away(ended: CommandResult) -> bool:
    """Whether an answer is none of the service manager, which nobody reached. Pure."""
    return bool(ended.status) and AWAY.search(ended.output) is not None


def run_systemctl(
    argv: Sequence[str],
    environment: Mapping[str, str],
    timeout_s: float,
    *,
    clock: Callable[[], float] = time.monotonic,
    wait: Callable[[float], object] = time.sleep,
) -> CommandResult:
    """Run it, or another program; again for ten seconds at most where the manager was not reached.

    Args:
        argv: ``systemctl`` and its arguments.
        environment: All variables.
        timeout_s: Seconds after which it is ended; the repeats are within them.
        clock: Monotonic seconds.
        wait: Waits so many seconds.

    Raises:
        OSError: If it cannot be started.
    """
    until = clock() + min(PATIENCE_S, timeout_s)
    left = timeout_s
    while True:
        began = clock()
        ended = run_command(argv, environment, left)
        left -= clock() - began + AGAIN_S
        if not is_manager_away(ended) or clock() + AGAIN_S > until or left <= 0:
            return ended
        wait(AGAIN_S)
