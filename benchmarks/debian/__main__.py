"""``python -m benchmarks.debian``: every kind of broken agent, under systemd; see the package."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from random import Random

from benchmarks.debian.agents import BREAKS, make_release
from benchmarks.debian.container import TREE, Container, wait_for
from benchmarks.debian.site import lay_out, running, sequence
from benchmarks.report import finish, print_line
from demo.release_flow import publish_release
from demo.releases import assemble
from ncen_updater.agent.storage.agent_selection import TrialState
from ncen_updater.publisher.new.trial import FeedKeys, create_feed, create_keys

DISK = "1800M"
#: Latest instant of a power cut, in seconds after a check was requested.
CUT_S = 45.0
GOOD = "good"
CUT = "can do nothing but say its version"


def now() -> datetime:
    """Return the current time, for the feed."""
    return datetime.now(UTC)


class Walk:
    """A machine that updates from agent to agent.

    Args:
        container: The machine.
        work: Directory for releases; the feed is below ``pkg``.
        sound: The release from which the others are made.
        keys: Keys of the feed.
    """

    def __init__(self, container: Container, work: Path, sound: Path, keys: FeedKeys) -> None:
        self._container, self._work, self._sound, self._keys = container, work, sound, keys
        self._number = 1
        self.works = ""

    def _publish(self, kind: str) -> str:
        self._number += 1
        version = f"0.{self._number}.0"
        release = make_release(self._sound, self._work / version, version, kind)
        publish_release(self._work / "pkg/feed", [release], self._keys, now)
        shutil.rmtree(release)
        return version

    def cut(self, after_s: float) -> dict[str, object]:
        """Publish a good agent, and cut the power some time after a check was requested."""
        version = self._publish(GOOD)
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(self._container.run, "ncen-updater", "check")
            time.sleep(after_s)
            before = sequence(self._container)
            self._container.cut()
            asked.result()
        self._container.boot()
        at = time.monotonic()
        # It checks again automatically a little later; other callers must work meanwhile.
        ended = wait_for(lambda: self._any(version), 300)
        self.works = running(self._container) or ""
        return {
            "kind": "good, and a power cut",
            "cut_after_s": round(after_s, 1),
            "chosen_then": before.get("current"),
            "settled_s": round(time.monotonic() - at, 1) if ended else None,
            "agent": self.works,
            "application": self._container.run("systemctl", "is-active", "ncen").stdout.strip(),
            "as_it_should": bool(ended),
        }

    def _any(self, version: str) -> bool | None:
        return self._settled(self.works) or self._settled(version)

    def go(self, kind: str) -> dict[str, object]:
        """Publish an agent of a kind, and observe which agent the site ends with."""
        version = self._publish(kind)
        expected = version if kind == GOOD else self.works
        began = time.monotonic()
        self._container.run("ncen-updater", "check")
        chosen = wait_for(lambda: sequence(self._container).get("current") == version or None)
        at = time.monotonic()
        if kind == CUT:  # while it is on trial
            self._container.cut()
            self._container.boot()
        ended = wait_for(lambda: self._settled(expected), 300)
        row: dict[str, object] = {
            "kind": kind,
            "chosen_s": round(at - began, 1) if chosen else None,
            "settled_s": round(time.monotonic() - at, 1) if ended else None,
            "agent": running(self._container),
            "application": self._container.run("systemctl", "is-active", "ncen").stdout.strip(),
            "as_it_should": bool(chosen and ended),
        }
        self._container.run("rm", "-f", "/opt/ncen-updater/filler")
        wait_for(lambda: sequence(self._container).get("current") == expected or None, 60)
        self.works = expected
        return row

    def _settled(self, expected: str) -> bool | None:
        """Return whether an agent runs that can reach the databases."""
        if running(self._container) != expected:
            return None
        if self._container.run("systemctl", "is-active", "ncen").stdout.strip() != "active":
            return None
        found = sequence(self._container)
        full = self._container.run("test", "-e", "/opt/ncen-updater/filler").returncode == 0
        # With a full disk it cannot be recorded; the running agent writes it once there is space.
        confirmed = found.get("state") == TrialState.CONFIRMED
        settled = full or (found.get("current") == expected and confirmed)
        return True if settled else None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tree", type=Path, required=True, help="a Debian tree; not changed")
    parser.add_argument("--package", type=Path, required=True)
    parser.add_argument(
        "--release", type=Path, required=True, help="release from script/agent-release"
    )
    parser.add_argument("--kinds", nargs="*", default=[*BREAKS], choices=[*BREAKS])
    parser.add_argument("--cuts", type=int, default=6, help="power cuts at random instants")
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args(arguments)
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="nu-debian-", dir=chosen.tree.parent) as directory:
        work = Path(directory)
        tree, disk, shared = work / "tree", work / "disk", work / "pkg"
        subprocess.run(["cp", "-a", str(chosen.tree), str(tree)], check=True)
        subprocess.run(["truncate", "-s", DISK, str(disk)], check=True)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(disk)], check=True)
        keys = create_keys(work / "keys", "correct horse battery")
        create_feed(shared / "feed", keys, now)
        source = assemble("3.2.4", work / "3.2.4")
        publish_release(shared / "feed", [source], keys, now)
        work.chmod(0o755)  # the feed server is an unprivileged user
        container = Container(TREE, tree, disk, shared)
        try:
            container.boot()
            lay_out(container, shared, chosen.package)
            walk = Walk(container, work, chosen.release, keys)
            rows = []
            for kind in (GOOD, *chosen.kinds, GOOD):
                rows.append(walk.go(kind))
                print_line(json.dumps(rows[-1]))
            chance = Random(chosen.seed)
            for _ in range(chosen.cuts):
                rows.append(walk.cut(chance.uniform(0, CUT_S)))
                print_line(json.dumps(rows[-1]))
        finally:
            container.close()
    finish(
        "debian",
        {
            "trials": len(rows),
            "without_a_working_agent": sum(not row["as_it_should"] for row in rows),
            "rows": rows,
            "seconds": round(time.monotonic() - begin),
        },
    )
    return 0 if all(row["as_it_should"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
