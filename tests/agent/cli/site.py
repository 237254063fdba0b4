"""A site on the disk for trials of the command line: configuration, link, journal; no release."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ncen_updater.agent.model.change import (
    Change,
    ChangeKind,
    ChangeState,
    DatabaseMode,
    StepName,
    StepState,
)
from ncen_updater.agent.storage.journal.journal import Journal
from tests.support.forks import run_agent

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
CHANGE = Change(
    id="abcdefgh", kind=ChangeKind.UPGRADE, mode=DatabaseMode.MIGRATE, state=ChangeState.RUNNING,
    product="ncen", from_version="3.2.4", to_version="3.3.0", generation=1,
    created_at=AT,
)  # fmt: skip
CONFIG = """schema = 1
[site]
id = "ke-1"
country = "KE"
[paths]
root = "{root}"
state = "state"
slots = "slots"
current = "current"
trusted_root = "root.json"
[feed]
urls = ["http://127.0.0.1:9/"]
[databases]
engine = "sqlite"
names = {{ cases = "cases" }}
[databases.sqlite]
directory = "db"
[application]
adapter = "command"
start = ["true"]
stop = ["true"]
status = ["sh", "-c", "exit 3"]
health_url = "http://127.0.0.1:9"
maintenance_file = "door"
"""


@dataclass(frozen=True)
class TrialSite:
    """Places of a site."""

    root: Path

    @property
    def config(self) -> Path:
        return self.root / "agent.toml"

    @property
    def state(self) -> Path:
        return self.root / "state"

    @property
    def journal(self) -> Path:
        return self.state / "journal.sqlite"

    def environment(self, **more: str) -> dict[str, str]:
        kept = {
            key: value
            for key, value in os.environ.items()
            if key in ("PATH", "HOME") or key.startswith("COVERAGE_")
        }
        return {**kept, "NCEN_CONFIG_FILE": str(self.config), "LANG": "C.UTF-8", **more}

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the real program with no terminal."""
        return run_agent(*arguments, environment=self.environment(**environment))

    def use(self, version: str) -> None:
        """Have the link choose another release."""
        (self.root / "current").unlink()
        (self.root / "current").symlink_to(f"slots/{version}")

    def open_change(self, *done: StepName) -> None:
        """Begin a change and record steps as done."""
        with Journal.open(self.journal) as journal:
            journal.begin_change(CHANGE)
            for name in done:
                journal.record_step(CHANGE.id, name, StepState.INTENDED)
                journal.record_step(CHANGE.id, name, StepState.DONE)


def make_site(root: Path) -> TrialSite:
    """Make a site that runs 3.2.4 and has an empty journal."""
    site = TrialSite(root)
    for name in ("state", "slots/3.2.4", "db/live"):
        (root / name).mkdir(parents=True)
    (root / "current").symlink_to("slots/3.2.4")
    site.config.write_text(CONFIG.format(root=root))
    Journal.create(site.journal).close()
    return site
