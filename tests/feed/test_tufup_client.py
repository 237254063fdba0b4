"""tufup's client comes without tufup's publisher, and leaves tufup whole for others."""

from __future__ import annotations

import atexit
import gc
import os
import subprocess
import sys
from importlib.util import find_spec
from types import ModuleType

import pytest

from ncen_updater.agent.adapters.feed_reader import worker as reader
from ncen_updater.agent.cli import worker as applying
from ncen_updater.feed import UNUSED_MODULES

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
    assert (ended.returncode, ended.stderr) == (0, "")


def test_client_imports_no_publisher_code() -> None:
    _run(ALONE)


def test_imported_tufup_is_used_unchanged() -> None:
    _run("import tufup.client\n" + AFTER)


@pytest.mark.parametrize("worker", [reader, applying], ids=lambda module: module.__name__)
def test_reader_spares_work_that_it_does_not_need(
    worker: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a cloud client is installed, it would take as long as the rest of a check."""
    assert all(map(find_spec, UNUSED_MODULES)), "here they would be found"
    found = {name: None for name in sys.modules if name not in UNUSED_MODULES}
    monkeypatch.setattr(sys, "modules", found)
    monkeypatch.setattr(os, "environ", {})
    ends: list[object] = []
    monkeypatch.setattr(gc, "set_threshold", ends.append)
    monkeypatch.setattr(atexit, "register", ends.append)
    monkeypatch.setattr(sys, "argv", ["reader", "agent.toml"])
    monkeypatch.setattr(worker, "serve_request", lambda _work, **_: 0)
    assert worker.main() == 0
    assert all(found[name] is None for name in UNUSED_MODULES)
    assert os.environ == {"PYDANTIC_DISABLE_PLUGINS": "__all__"}
    assert ends == [100_000, gc.freeze]


def test_client_needs_no_optional_module() -> None:
    _run(
        "from ncen_updater.feed import UNUSED_MODULES, prepare_process\n"
        "prepare_process()\n"
        "import ncen_updater.feed.http_fetcher, ncen_updater.feed.tuf_client, sys\n"
        "assert 'tuf' in sys.modules and not any(map(sys.modules.get, UNUSED_MODULES))"
    )
