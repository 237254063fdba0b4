"""tufup's client comes without tufup's publisher, and leaves tufup whole for others."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from types import ModuleType

import pytest

from ncen_updater.agent.adapters.feed_reader import worker as reader
from ncen_updater.agent.cli import worker as applying

ALONE = """
import sys
from ncen_updater.feed.tuf_client import TrustClient
heavy = {"tufup.repo", "setuptools", "distutils"} & sys.modules.keys()
assert not heavy, heavy
import tufup
from tufup.client import Client
assert tufup.__version__ and tufup.main and "tufup.repo" in sys.modules
assert issubclass(TrustClient, Client)
"""
AFTER = """
import tufup
from ncen_updater.feed.tuf_client import TrustClient
import sys
assert sys.modules["tufup"] is tufup
assert issubclass(TrustClient, tufup.client.Client) and tufup.main
"""


def _run(code: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr


def test_client_imports_no_publisher_code() -> None:
    _run(ALONE)


def test_imported_tufup_is_used_unchanged() -> None:
    _run("import tufup.client\n" + AFTER)


@pytest.mark.parametrize("worker", [reader, applying], ids=lambda module: module.__name__)
def test_reader_imports_no_cloud_client(
    worker: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where one is installed, it would take as long as the rest of a check."""
    assert find_spec("boto3") is not None, "here it would be found"
    monkeypatch.delitem(sys.modules, "boto3", raising=False)
    monkeypatch.setattr(sys, "argv", ["reader", "agent.toml"])
    monkeypatch.setattr(worker, "serve_request", lambda _work, **_: 0)
    assert worker.main() == 0
    assert sys.modules.pop("boto3") is None
    _run(
        "from ncen_updater.feed import block_unused_imports\n"
        "block_unused_imports()\n"
        "from ncen_updater.feed.tuf_client import TrustClient\n"
        "import sys\n"
        "assert 'tuf' in sys.modules and 'botocore' not in sys.modules"
    )
