"""Standard streams that are closed or full: the exit code is right, and nothing breaks."""

from __future__ import annotations

import subprocess

import pytest

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
        ("nonsense --json", f">{TAKES_NOTHING}", 2, ""),
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
