"""Tests of expired metadata, by the real program: 'check' reports it, a rollback needs no feed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import Signer
from tuf.api.metadata import Metadata, Snapshot, Timestamp  # type: ignore[attr-defined]

from demo.site import DemoSite, SiteOptions
from tests.support.forks import DEADLINE_S
from tests.support.sites import TrialFeed, connect, serve


@dataclass
class Trial:
    """A stand-in site on SQLite, upgraded to 3.3.0, and its feed."""

    site: DemoSite
    feed: TrialFeed

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "ncen_updater.agent.cli.main", *arguments],
            env={**os.environ, "NCEN_CONFIG_FILE": str(self.site.config_path), "LANG": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )

    def expire_role(self, role: str) -> None:
        """Let a role expire yesterday, signed well by its signers, and publish that."""
        now = datetime.now(UTC).replace(microsecond=0)
        place = self.feed.directory / "metadata"
        online = self.feed.keys.online
        signers: dict[str, Sequence[Signer]] = dict(online)
        timestamp: Metadata[Timestamp] = Metadata.from_file(str(place / "timestamp.json"))
        version = timestamp.signed.snapshot_meta.version
        snapshot: Metadata[Snapshot] = Metadata.from_file(str(place / f"{version}.snapshot.json"))
        lists: dict[str, Metadata[Any]] = {"timestamp": timestamp, "snapshot": snapshot}
        if role not in lists:
            version = snapshot.signed.meta[f"{role}.json"].version
            lists[role] = Metadata.from_file(str(place / f"{version}.{role}.json"))
            signers[role] = self.feed.keys.signers[: self.feed.keys.threshold]
        lists[role].signed.expires = now - timedelta(days=1)
        for name in (*(set(lists) - {"timestamp", "snapshot"}), "snapshot", "timestamp"):
            changed = lists[name]
            changed.signed.version += 1
            changed.signatures.clear()
            for signer in signers[name]:
                changed.sign(signer, append=True)
            if name == "timestamp":
                changed.to_file(str(place / "timestamp.json"))
                continue
            changed.to_file(str(place / f"{changed.signed.version}.{name}.json"))
            if name == "snapshot":
                meta = timestamp.signed.snapshot_meta
            else:
                meta = snapshot.signed.meta[f"{name}.json"]
            meta.version, meta.hashes, meta.length = changed.signed.version, None, None


@pytest.fixture
def trial(tmp_path: Path) -> Iterator[Trial]:
    feed = TrialFeed(tmp_path)
    feed.publish(["3.3.0"])
    with serve(feed.directory) as url:
        options = SiteOptions(feed_urls=(url,), cases=20, soak_s=0.0)
        with DemoSite(tmp_path / "site", None, options) as site:
            connect(site, feed)
            site.start_app()
            trial = Trial(site, feed)
            done = trial.run("upgrade", "3.3.0", "--yes")
            assert done.returncode == 0, done.stderr
            yield trial


def test_expired_metadata_is_reported_and_blocks_nothing(trial: Trial) -> None:
    for role, code, who in (("ncen", "NU-2023", "(signers)"), ("timestamp", "NU-2007", "")):
        trial.expire_role(role)
        check = trial.run("check")
        assert check.returncode == 14, check.stderr
        assert who in check.stderr and "{" not in check.stderr
        assert code in check.stderr
        assert f"'{role}'" in check.stderr
    for command in (["status"], ["history"], ["verify"], ["rollback", "--yes"], ["verify"]):
        done = trial.run(*command)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
    assert "3.2.4" in trial.run("status").stdout
    assert trial.run("check").returncode == 14
