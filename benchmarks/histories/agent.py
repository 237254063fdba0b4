"""The agent under test: the real command line in a forked process that reports each instant.

A line ``@@ <step> <phase>`` is printed at each test hook of the product. At the instants in
``stops`` the process stops itself, so that a fault or an action happens exactly there. The feed is
read in this process, because a second interpreter for each trial would only cost time here.
"""

from __future__ import annotations

import ctypes
import functools
import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path

from ncen_updater.agent.adapters.feed_reader.feed_factory import make_release_source
from ncen_updater.agent.cli.main import run
from ncen_updater.agent.config.agent_config import AgentConfig
from ncen_updater.agent.engine import change_runner as runner
from ncen_updater.agent.engine import operations
from ncen_updater.agent.engine import site_factory as composition
from ncen_updater.agent.engine.steps import outage
from ncen_updater.agent.model.change import StepName, StepPhase
from ncen_updater.feed.tuf_source import TufReleaseSource

CAP_SYS_PTRACE = 19
PR_CAPBSET_DROP = 24
CAPABILITY_VERSION_3 = 0x20080522


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def drop_ptrace_right() -> None:
    """Drop the right to inspect processes of other users, which the packaged service lacks."""
    libc = ctypes.CDLL(None, use_errno=True)
    header, data = _Header(CAPABILITY_VERSION_3, 0), (_Data * 2)()
    libc.prctl(PR_CAPBSET_DROP, CAP_SYS_PTRACE, 0, 0, 0)
    libc.capget(ctypes.byref(header), data)
    keep = ~(1 << CAP_SYS_PTRACE) & 0xFFFFFFFF
    data[0].effective &= keep
    data[0].permitted &= keep
    if libc.capset(ctypes.byref(header), data) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def _source(config: AgentConfig, _config_path: Path) -> TufReleaseSource:
    paths = config.paths
    return make_release_source(
        config.site.product,
        config.feed,
        state=paths.resolve(paths.state),
        trusted_root=paths.resolve(paths.trusted_root),
    )


def main(argv: Sequence[str]) -> int:
    """Run one command line; the first argument is a JSON object with the options of the trial."""
    wishes = json.loads(argv[0])
    stops = {tuple(item) for item in wishes.get("stops", ())}
    if wishes.get("blind"):
        drop_ptrace_right()

    def tell(step: StepName, phase: StepPhase) -> None:
        os.write(1, f"@@ {step} {phase}\n".encode())
        if (str(step), str(phase)) in stops:
            os.kill(os.getpid(), signal.SIGSTOP)

    # The administrator of these histories is absent for seconds, a real one for hours.
    runner.UNREACHABLE_LIMIT_S = outage.OUTAGE_LIMIT_S = float(wishes.get("patience_s", 20.0))
    watched = functools.partial(operations.Operations, checkpoint=tell)
    operations.Operations = watched  # type: ignore[assignment, misc]
    composition.WorkerReleaseSource = _source  # type: ignore[attr-defined, assignment]
    return run(argv[1:])
