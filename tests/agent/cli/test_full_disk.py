"""A disk that really fills up while a release is fetched, through the real program."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.agent.cli.live import PROGRAM, live_site

# Root may mount in a mount namespace alone; others get a user namespace with it, where allowed.
UNSHARE = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
MOUNT = 'mount -t tmpfs -o size=4k,mode=0700 tmpfs "$1" && shift && exec "$@"'


def test_exit_code_8_and_nothing_changed(tmp_path: Path) -> None:
    if shutil.which("unshare") is None:
        pytest.skip("there is no 'unshare' to mount a small disk with")
    place = tmp_path / "trial"
    place.mkdir()
    tried = subprocess.run(
        [*UNSHARE, "sh", "-c", MOUNT, "sh", str(place), "true"], capture_output=True, check=False
    )
    if tried.returncode:
        pytest.skip(f"no disk can be mounted here: {tried.stderr.decode()}")
    with live_site(tmp_path, ("3.2.4", "3.3.0"), soak_s=0.1) as site:
        assert site.run("adopt", "3.2.4").returncode == 0
        before = site.facts()
        downloads = site.demo.state / "downloads"
        assert downloads.is_dir()
        done = subprocess.run(
            [*UNSHARE, "sh", "-c", MOUNT, "sh", str(downloads), *PROGRAM, "upgrade", "--yes"],
            env=site.environment(), capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode, "NU-3101" in done.stderr) == (8, True), done.stderr
        assert "Everything is as it was" in done.stderr
        assert site.facts() == before
        assert site.run("upgrade", "--yes").returncode == 0
