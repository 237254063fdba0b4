"""Replace ``feed.guarded_tufup_client`` by tuf's own client, to run tests on tuf 7.

The constructor of tufup's client is incompatible with tuf 7, and the rest of tufup cannot be
imported with it.
"""

from __future__ import annotations

import importlib.util
import signal
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

NAME = "ncen_updater.feed.guarded_tufup_client"
MOST_S = 300
PLACES = (NAME, "tufup", "tufup.client")


class _Finder:
    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        del path, target
        if name not in PLACES:
            return None
        inside = [] if name == "tufup" else None
        return importlib.util.spec_from_file_location(
            name, __file__, submodule_search_locations=inside
        )


def take_the_place() -> None:
    """Make imports of the replaced modules load this file."""
    sys.meta_path.insert(0, _Finder)  # type: ignore[arg-type]


def _late(*_: object) -> None:
    raise TimeoutError(f"not over after {MOST_S} s")


def pytest_runtest_setup() -> None:
    """Limit the time of each test: tuf 7 blocks on the named pipes that some tests create."""
    signal.signal(signal.SIGALRM, _late)
    signal.alarm(MOST_S)


def pytest_runtest_teardown() -> None:
    """Cancel the time limit."""
    signal.alarm(0)


if __name__ == NAME:
    from tuf.ngclient import Updater

    class Client(Updater):
        """tuf's client with the constructor of tufup's."""

        def __init__(
            self,
            app_name: str,
            app_install_dir: Path,
            current_version: str,
            **more: Any,  # noqa: ANN401 - as tuf has it
        ) -> None:
            del app_name, app_install_dir, current_version
            places = {name: str(more.pop(name)) for name in ("metadata_dir", "target_dir")}
            super().__init__(**places, **more, bootstrap=None)

elif __name__ == "tufup.client":
    from ncen_updater.feed.guarded_tufup_client import Client  # noqa: F401 - as tests import them
