"""One trial: a new agent of some kind is selected on a working site, and processes are killed."""

from __future__ import annotations

import contextlib
import os
import random
import shlex
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.selfupdate.agents import FILLER, JOURNAL, Kind
from benchmarks.selfupdate.supervisor import Supervisor, python_words
from ncen_updater.agent import failsafe
from ncen_updater.agent.failsafe import CONFIRMED
from ncen_updater.agent.self_update.agent_directory import read_failsafe
from ncen_updater.agent.storage.agent_selection import AgentSelection, AgentSelectionFile
from ncen_updater.agent.storage.journal.journal import Journal

OLD, NEW = "1.0", "2.0"
TRIAL_S = 150.0
#: Seconds for which an agent must keep working before it counts.
STAYS_S = 1.0
DISK = "size=2m,mode=0700"
PACKAGE = Path(__file__).resolve().parents[2]
CHOOSE = f"""
import sys
from pathlib import Path
from ncen_updater.agent.storage.agent_selection import AgentSelectionFile, begin_trial
AgentSelectionFile(Path(sys.argv[1])).update(lambda before: begin_trial(before, {NEW!r}))
"""


@dataclass(frozen=True)
class Outcome:
    """Result of a trial.

    Attributes:
        agent: The agent that works in the end; None for none.
        starts: Number of starts.
        kills: Number of processes killed from outside.
        problem: The broken promise; empty for none.
    """

    kind: Kind
    agent: str | None
    starts: int
    kills: int
    problem: str


class Site:
    """Two slots, the failsafe and a journal below a directory."""

    def __init__(self, directory: Path, kind: Kind) -> None:
        self.directory, self.kind = directory, kind
        self.agent = directory / "agent"
        self.agent.mkdir()
        (self.agent / "failsafe.py").write_bytes(read_failsafe())
        self._slot(OLD, Kind.GOOD)
        self._slot(NEW, kind)
        self.file = AgentSelectionFile(self.agent)
        self.file.update(lambda _: AgentSelection(OLD))
        Journal.create(directory / JOURNAL).close()

    def _slot(self, version: str, kind: Kind) -> None:
        place = self.agent / version / "bin"
        place.mkdir(parents=True)
        (place / "python").symlink_to(sys.executable)
        words = [sys.executable, "-m", "benchmarks.selfupdate.agents", kind.value, version]
        line = " ".join(shlex.quote(word) for word in (*words, str(self.directory)))
        shell = "/no/such/shell" if kind is Kind.NO_PROGRAM else "/bin/sh"
        (place / "ncen-updater").write_text(f"#!{shell}\nexec {line}\n")
        (place / "ncen-updater").chmod(0o755)

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment variables of an agent."""
        return {"PATH": os.environ.get("PATH", os.defpath), "PYTHONPATH": str(PACKAGE)}

    def choose_new(self, chance: random.Random) -> int:
        """Select the new agent in a process that may be killed meanwhile; return the kills."""
        kills = 0
        while True:
            process = subprocess.Popen(
                [sys.executable, "-c", CHOOSE, str(self.agent)], env=self.environment
            )
            if kills < 3 and chance.random() < 0.3:
                try:
                    process.wait(chance.uniform(0.05, 0.6))
                except subprocess.TimeoutExpired:
                    process.send_signal(signal.SIGKILL)
                    kills += 1
            process.wait()
            found = failsafe.read_selection(self.agent)
            if found is not None and found.current == NEW:
                return kills

    def settled(self) -> str | None:
        """Return the selected agent once it is confirmed, with no start attempts counted."""
        found = failsafe.read_selection(self.agent)
        good = found is not None and found.state == CONFIRMED and found.attempts == 0
        return found.current if good and found is not None else None


def run_trial(directory: Path, kind: Kind, seed: int, kills: int, patience_s: float) -> Outcome:
    """Run one trial.

    Args:
        directory: An empty directory; on a small disk for the kind that fills it.
        kind: Kind of the new agent.
        seed: Seed of all random choices.
        kills: Number of processes to kill at random instants.
        patience_s: Time limit of the supervisor between two watchdog messages.
    """
    chance = random.Random(seed)
    site = Site(directory, kind)
    done = site.choose_new(chance)
    with Supervisor(
        python_words(site.agent / "failsafe.py"), directory.parent, site.environment, patience_s
    ) as supervisor:
        for _ in range(kills):
            supervisor.run(lambda: False, chance.uniform(0.0, 2.5))
            supervisor.kill()
            done += 1
        problem = _problem(site, supervisor)
        said = supervisor.said.removeprefix("agent ") if supervisor.ready else None
        return Outcome(kind, said or None, supervisor.starts, done, problem)


def _problem(site: Site, supervisor: Supervisor) -> str:
    """Wait until an agent works; return what is wrong."""

    def works() -> bool:
        return supervisor.ready and supervisor.said == f"agent {site.settled()}"

    if site.kind is Kind.FILLS:
        # On a full disk the old agent cannot record that it runs; that it runs is enough.
        runs = f"agent {OLD}"
        if not supervisor.run(lambda: supervisor.ready and supervisor.said == runs, TRIAL_S):
            return f"agent {OLD} does not run on the full disk ({supervisor.said or 'silence'})"
        (site.directory / FILLER).unlink(missing_ok=True)
    end = time.monotonic() + TRIAL_S
    while True:
        if not supervisor.run(works, end - time.monotonic()):
            return f"no agent works in the end; {failsafe.read_selection(site.agent)}"
        if not supervisor.run(lambda: not works(), STAYS_S):
            break
    settled = site.settled()
    if settled == NEW and site.kind is not Kind.GOOD:
        return f"the agent that {site.kind} is left in place"
    if settled == NEW and (site.agent / "current").resolve().name != NEW:
        return "the link does not follow"
    return _journal_problem(site.directory / JOURNAL)


def _journal_problem(path: Path) -> str:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        verdict = connection.execute("PRAGMA integrity_check").fetchone()[0]
    return "" if verdict == "ok" else f"the journal: {verdict}"
