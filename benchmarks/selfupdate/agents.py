"""A minimal agent: the real trial of a new agent around a service that does nothing.

Started by a slot's program: ``python -m benchmarks.selfupdate.agents KIND VERSION DIRECTORY``.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from ncen_updater.agent.model.event_names import AGENT_CONFIRMED
from ncen_updater.agent.self_update.agent_directory import DirectoryAction, create_action_handler
from ncen_updater.agent.self_update.trial import AgentTrial
from ncen_updater.agent.service.systemd_notify import SystemdNotifier
from ncen_updater.agent.storage.agent_selection import AgentSelectionFile, TrialState
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common.errors import UpdaterError

#: Instead of the minute that a real agent must run.
CONFIRM_S = 0.3
TICK_S = 0.05
JOURNAL, FILLER = "journal.sqlite", "filler"


class Kind(StrEnum):
    """Fault of a new agent."""

    GOOD = "good"
    EXITS = "exits at once"
    HANGS_EARLY = "hangs before it is ready"
    HANGS_LATE = "gives no more signs of life"
    CRASHES = "crashes before it may confirm"
    NO_JOURNAL = "cannot read the journal"
    FILLS = "fills the disk"
    FAILS_LATER = "confirms, and fails ever after"
    NO_PROGRAM = "cannot be executed"


def main() -> int:
    """Run the agent."""
    kind, version, directory = Kind(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    file = AgentSelectionFile(directory / "agent")
    notifier = SystemdNotifier()
    confirmed = False
    if kind is Kind.EXITS:
        return 3
    if kind is Kind.HANGS_EARLY:
        _hang()
    if kind is Kind.FILLS:
        _fill(directory / FILLER)
    if kind is Kind.FAILS_LATER:
        found = file.load()
        if found is not None and found.state is TrialState.CONFIRMED:
            return 3

    def in_reach() -> bool:
        if kind is Kind.NO_JOURNAL:
            return False
        with Journal.open(directory / JOURNAL, read_only=True) as journal:
            journal.list_changes()
        return True

    def note() -> None:
        with Journal.open(directory / JOURNAL) as journal:
            journal.record_event(AGENT_CONFIRMED, version=version)

    changes = create_action_handler(
        directory / "agent", version, lambda: datetime.now(UTC), notifier.ping_watchdog
    )

    def do(action: DirectoryAction) -> None:
        nonlocal confirmed
        if action is DirectoryAction.CLEAN_UP:
            confirmed = True
        else:
            changes(action)

    probation = AgentTrial(
        file,
        version,
        CONFIRM_S,
        check_reachability=in_reach,
        record_confirmation=note,
        run_action=do,
        monotonic=time.monotonic,
    )
    began = time.monotonic()
    notifier.notify_ready()
    if kind is Kind.HANGS_LATE:
        _hang()
    while True:
        if kind is Kind.CRASHES and time.monotonic() - began > CONFIRM_S / 2:
            os.kill(os.getpid(), signal.SIGSEGV)
        try:
            if probation.run_after_step().should_exit:
                return 0
        except UpdaterError as error:
            sys.stderr.write(f"{error}\n")
            return int(error.exit_code)
        if kind is Kind.FAILS_LATER and confirmed:
            return 3
        notifier.ping_watchdog()
        notifier.notify_status(f"agent {version}")
        time.sleep(TICK_S)


def _hang() -> None:
    while True:
        time.sleep(1000)


def _fill(path: Path) -> None:
    block = b"x" * 4096
    with contextlib.suppress(OSError), path.open("ab", buffering=0) as stream:
        while True:
            stream.write(block)


if __name__ == "__main__":
    sys.exit(main())
