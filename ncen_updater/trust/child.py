"""The feed, read by a process of its own.

The part that talks to the network gets no variable, descriptor or connection of the part that
reaches the databases, and its libraries never share memory with it. What it leaves on the disk is
hashed again here before it is used.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from ncen_updater.config.model import AgentConfig
from ncen_updater.errors import UpdaterError
from ncen_updater.feed.source import FeedView, FetchedRelease, ReleaseSource
from ncen_updater.i18n import Text
from ncen_updater.progress import Progress
from ncen_updater.release.document import Offer
from ncen_updater.trust.errors import ReaderFailed
from ncen_updater.trust.source import TufReleaseSource

__all__ = ["ChildSource", "error_from_json", "error_to_json"]

# Proxies come from the configuration, never from the environment; PG* must not leak.
KEPT_VARIABLES = ("PATH", "LANG", "LC_ALL", "TZ", "HOME", "PYTHONPATH", "COVERAGE_PROCESS_START")


def error_to_json(error: UpdaterError) -> dict[str, object]:
    """Write an error so that another process can raise it again."""
    kind = type(error)
    values = {key: _plain(value) for key, value in error.values.items()}
    return {
        "module": kind.__module__,
        "name": kind.__qualname__,
        "detail": error.detail,
        "values": values,
    }


def _plain(value: object) -> object:
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def error_from_json(data: Mapping[str, object]) -> UpdaterError:
    """Read an error of another process of ours.

    Only error classes of this package are accepted.
    """
    module, name = str(data["module"]), str(data["name"])
    if not module.startswith("ncen_updater."):
        raise ValueError(f"not an error of this program: {module}")
    kind = getattr(importlib.import_module(module), name)
    if not (isinstance(kind, type) and issubclass(kind, UpdaterError)):
        raise TypeError(f"not an error: {module}.{name}")
    values = data["values"]
    detail = data["detail"]
    error = kind(**(values if isinstance(values, dict) else {}))
    error.detail = str(detail) if detail is not None else None
    return error


class ChildSource(ReleaseSource):
    """A source that asks a child process for everything that needs the network.

    Args:
        config: The configuration.
        config_path: Its file; the child reads it again.
    """

    def __init__(self, config: AgentConfig, config_path: Path) -> None:
        self._config_path = config_path
        paths = config.paths
        # Used for what lies on the disk; never opens a connection.
        self._local = TufReleaseSource.from_settings(
            config.site.product,
            config.feed,
            state=paths.resolve(paths.state),
            trusted_root=paths.resolve(paths.trusted_root),
        )

    def refresh(self) -> FeedView:
        """Fetch and verify the list in the child, then read what it left."""
        self._run({"act": "refresh"}, None)
        view = self._local.last_view()
        if view is None:
            raise ReaderFailed(detail="no list was left")
        return view

    def last_view(self) -> FeedView | None:
        """The last verified list, from the disk."""
        return self._local.last_view()

    def fetch(self, offer: Offer, progress: Progress) -> FetchedRelease:
        """Download in the child, then hash here what it left."""
        self._run({"act": "fetch", "version": offer.version}, progress)
        fetched = self._local.fetched(offer)
        if fetched is None:
            raise ReaderFailed(detail=f"release {offer.version} was not left whole")
        return fetched

    def fetched(self, offer: Offer) -> FetchedRelease | None:
        """A release that lies whole on the disk, hashed again."""
        return self._local.fetched(offer)

    def discard(self, offer: Offer) -> None:
        """Delete what was downloaded of a release."""
        self._local.discard(offer)

    def _run(self, order: Mapping[str, object], progress: Progress | None) -> None:
        environment = {k: os.environ[k] for k in KEPT_VARIABLES if k in os.environ}
        with subprocess.Popen(
            [sys.executable, "-m", "ncen_updater.trust.worker", str(self._config_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,
            text=True,
        ) as child:
            try:
                self._talk(child, order, progress)
            except BaseException:
                child.kill()
                raise

    def _talk(
        self,
        child: subprocess.Popen[str],
        order: Mapping[str, object],
        progress: Progress | None,
    ) -> None:
        if child.stdin is None or child.stdout is None or child.stderr is None:
            raise ReaderFailed(detail="no pipes")
        child.stdin.write(json.dumps(order))
        child.stdin.close()
        done = False
        for line in child.stdout:
            message = json.loads(line)
            if "error" in message:
                raise error_from_json(message["error"])
            done = done or bool(message.get("done"))
            if progress and "tell" in message:
                progress.tell(
                    Text(message["tell"], message["values"]), message["at"], message["total"]
                )
        if child.wait() != 0 or not done:
            raise ReaderFailed(detail=child.stderr.read()[-2000:])
