"""Tests of a disk that fills up during a download, through the real program."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.agent.cli.live import PROGRAM, live_site
from tests.agent.storage.journal.test_reserve import fill

# Root may mount in a mount namespace alone; others get a user namespace with it, where allowed.
UNSHARE = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
MOUNT = 'mount -t tmpfs -o size=4k,mode=0700 tmpfs "$1" && shift && exec "$@"'


def test_full_disk_exits_with_8_and_changes_nothing(tmp_path: Path) -> None:
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
        assert "reverted; no data loss" in done.stderr
        assert site.facts() == before
        assert site.run("upgrade", "--yes").returncode == 0


@contextmanager
def small_disk_at(place: Path) -> Iterator[None]:
    """Put a small file system of its own where a directory is, with what is in it."""
    kept = place.with_name("kept")
    place.rename(kept)
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=12m,mode=0755", "tmpfs", str(place)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr}")
    try:
        shutil.copytree(kept, place, dirs_exist_ok=True, symlinks=True)
        yield
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_full_agent_disk_stops_writers_but_not_readers(tmp_path: Path) -> None:
    """Typed words and exit code 8 for what has to write; who only reads still answers."""
    with live_site(tmp_path, ("3.2.4", "3.3.0"), soak_s=0.1) as site:
        assert site.run("adopt", "3.2.4").returncode == 0
        before = site.facts()
        with small_disk_at(site.demo.state):
            assert site.run("check").returncode == 0
            fill(site.demo.state)
            for arguments in FULL:
                done = site.run(*arguments)
                said = done.stdout + done.stderr
                assert "Traceback" not in said and "NU-1000" not in said, said
                assert done.returncode == 8, (arguments, said)
                assert "disk" in said or "space" in said, said
                assert "resume" not in said.partition("What to do:")[2]
                assert "--verbose" not in said, said
            for arguments in (["status"], ["history"], ["plan", "--help"]):
                done = site.run(*arguments)
                assert (done.returncode, done.stderr) == (0, ""), done.stderr
            doctor = site.run("doctor")
            assert "Traceback" not in doctor.stdout + doctor.stderr
            assert (doctor.returncode, "NU-6127" in doctor.stdout) == (3, True), doctor.stdout
        assert site.facts() == before


FULL: tuple[list[str], ...] = (
    ["check"], ["plan"], ["upgrade", "--yes"], ["hold", "--reason", "the fair"], ["rehearse"],
)  # fmt: skip
