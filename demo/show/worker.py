"""Upgrade in a process that stops at one moment and waits to be killed.

``python -m demo.show.worker CONFIG VERSION``: stops after the cut-over of the databases, before
the journal records it, and announces this on standard output.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from packaging.version import Version

from ncen_updater.agent.config.loader import load_config
from ncen_updater.agent.engine.operations import Operations
from ncen_updater.agent.engine.site_factory import build_site
from ncen_updater.agent.model.change import StepName, StepPhase
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.progress import SilentProgress

REACHED = "reached"


def wait_here(step: StepName, phase: StepPhase) -> None:
    """Announce the moment and wait; ignore all other phases."""
    if (step, phase) == (StepName.CUT_OVER, StepPhase.AFTER_EFFECT):
        sys.stdout.write(f"{REACHED}\n")
        sys.stdout.flush()
        while True:
            signal.pause()


def main(argv: Sequence[str]) -> int:
    """Upgrade until that moment."""
    config_path = Path(argv[0])
    site = build_site(load_config(config_path), config_path)
    try:
        Operations(site, SilentProgress(), checkpoint=wait_here).upgrade(Version(argv[1]))
    except UpdaterError as error:
        sys.stdout.write(f"{error}\n")
        return int(error.exit_code)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
