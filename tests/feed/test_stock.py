"""tufup's client comes without tufup's publisher, and leaves tufup whole for others."""

from __future__ import annotations

import subprocess
import sys

ALONE = """
import sys
from ncen_updater.feed.client import TrustClient
heavy = {"tufup.repo", "setuptools", "distutils"} & sys.modules.keys()
assert not heavy, heavy
import tufup
from tufup.client import Client
assert tufup.__version__ and tufup.main and "tufup.repo" in sys.modules
assert issubclass(TrustClient, Client)
"""
AFTER = """
import tufup
from ncen_updater.feed.client import TrustClient
import sys
assert sys.modules["tufup"] is tufup
assert issubclass(TrustClient, tufup.client.Client) and tufup.main
"""


def _run(code: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr


def test_the_client_comes_without_the_publisher() -> None:
    _run(ALONE)


def test_tufup_that_is_there_is_used_as_it_is() -> None:
    _run("import tufup.client\n" + AFTER)
