"""Standard streams that are closed or full: the exit code is right, and nothing breaks."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from ncen_updater.common import atomic_files
from tests.agent.cli.live import PROGRAM
from tests.agent.cli.site import TrialSite

TAKES_NOTHING = "/dev/full"


@pytest.mark.parametrize(
    ("words", "redirections", "exit_code", "said"),
    [
        ("status", f">{TAKES_NOTHING}", 1, "NU-1109"),
        ("status --json", f">{TAKES_NOTHING}", 1, "NU-1109"),
        ("--help", f">{TAKES_NOTHING}", 1, "NU-1109"),
        ("--version", f">{TAKES_NOTHING}", 1, "NU-1109"),
        ("nonsense --json", f">{TAKES_NOTHING}", 2, "NU-1109"),
        ("status", ">&-", 1, "NU-1109"),
        ("status --json", ">&-", 1, "NU-1109"),
        ("status", ">&- <&-", 1, "NU-1109"),
        ("--help", ">&-", 1, "NU-1109"),
        ("doctor", "2>&-", 3, ""),
        ("doctor", f">{TAKES_NOTHING}", 3, "NU-1109"),
        ("doctor", f"2>{TAKES_NOTHING}", 3, ""),
        ("--help", "| :", 0, ""),
        ("status", "| :", 0, ""),
        ("nonsense", f"2>{TAKES_NOTHING}", 2, ""),
        ("nonsense", "2>&-", 2, ""),
        ("nonsense", ">&- 2>&- <&-", 2, ""),
        ("status", "2>&-", 0, ""),
        ("status", "<&-", 0, ""),
    ],
)
def test_streams(site: TrialSite, words: str, redirections: str, exit_code: int, said: str) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", f'"$@" {words} {redirections}', "sh", *PROGRAM],
        env=site.environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == exit_code
    assert said in done.stderr
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr


@pytest.mark.parametrize("mask", [0o777, 0o077, 0o022])
def test_what_was_written_can_be_read_by_who_wrote_it(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        atomic_files.write_file(tmp_path / "a", b"x", 0o640)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600 | (0o640 & ~mask)
