"""Tests of standard streams that are closed or full: the exit code is right."""

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
#: Begins every code.
NU = "NU-"


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
        ("nonsense", f"2>{TAKES_NOTHING}", 2, ""),
        ("nonsense", "2>&-", 2, ""),
        ("nonsense", ">&- 2>&- <&-", 2, ""),
        ("status", "2>&-", 0, ""),
        ("status", "<&-", 0, ""),
    ],
)
def test_closed_or_full_streams_give_the_right_exit_code(
    site: TrialSite, words: str, redirections: str, exit_code: int, said: str
) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", f'"$@" {words} {redirections}', "sh", *PROGRAM],
        env=site.environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == exit_code
    assert said in done.stderr
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr


@pytest.mark.parametrize(
    ("words", "exit_code"),
    [("--help", 0), ("upgrade --help", 0), ("status", 0), ("doctor", 3), ("nonsense", 2)],
)
def test_closed_pipe_ends_the_command_quietly(site: TrialSite, words: str, exit_code: int) -> None:
    """As with ``| true``: the result is reported, and nothing else."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [*PROGRAM, *words.split()], env=site.environment(), stdout=writer, check=False,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    os.close(writer)
    assert done.returncode == exit_code
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr
    assert (NU in done.stderr) is (exit_code == 2)


@pytest.mark.parametrize("mask", [0o777, 0o077, 0o022])
def test_written_file_is_readable_by_its_owner_whatever_the_umask(
    tmp_path: Path, mask: int
) -> None:
    before = os.umask(mask)
    try:
        atomic_files.write_file(tmp_path / "a", b"x", 0o640)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600 | (0o640 & ~mask)
