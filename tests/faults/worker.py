"""The agent under trial: the real operations, with a checkpoint that strikes.

``python -m tests.faults.worker CONFIG OPERATION STRIKES [TARGET]``. Exit status as the program's.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from pathlib import Path

from packaging.version import Version

from ncen_updater.agent.adapters.feed_reader.feed_factory import make_release_source
from ncen_updater.agent.config.loader import load_config
from ncen_updater.agent.engine.operations import Operations
from ncen_updater.agent.engine.site_factory import build_site
from ncen_updater.agent.model.change import StepName, StepPhase
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.progress import SilentProgress
from tests.faults.cells import Fault, Strike, decode
from tests.faults.landlock import forbid_writing


class InjectedFaultError(Exception):
    """An unexpected fault."""


class Striker:
    """Strikes in order, each once."""

    def __init__(self, strikes: tuple[Strike, ...]) -> None:
        self._left = list(strikes)

    def __call__(self, step: StepName, phase: StepPhase) -> None:
        if not self._left or (self._left[0].step, self._left[0].phase) != (step, phase):
            return
        strike = self._left.pop(0)
        print(f"strike {strike.fault} {step} {phase}", flush=True)
        match strike.fault:
            case Fault.EXCEPTION:
                raise InjectedFaultError(f"{step} {phase}")
            case Fault.SIGKILL:
                os.kill(os.getpid(), signal.SIGKILL)
            case Fault.DISK_FULL:
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
            case Fault.READ_ONLY:
                forbid_writing()
            case Fault.HANG:
                while True:
                    signal.pause()


def main(argv: list[str]) -> int:
    """Run one operation."""
    config_path, operation, strikes = Path(argv[0]), argv[1], decode(argv[2])
    config = load_config(config_path)
    paths = config.paths
    # In this process: a second interpreter a trial would only cost time here.
    source = make_release_source(
        config.site.product,
        config.feed,
        state=paths.resolve(paths.state),
        trusted_root=paths.resolve(paths.trusted_root),
    )
    site = build_site(config, config_path, source=source)
    operations = Operations(site, SilentProgress(), checkpoint=Striker(strikes))
    try:
        if operation == "upgrade":
            operations.upgrade(Version(argv[3]) if len(argv) > 3 else None, retry=True)
        elif operation == "rollback":
            operations.rollback()
        else:
            operations.resume(by_operator=operation == "resume", at_boot=operation == "resume-boot")
    except UpdaterError as error:
        print(f"error {error}", flush=True)
        return int(error.exit_code)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
