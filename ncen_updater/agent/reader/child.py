"""The feed, read by a process of its own: a child, or one that systemd starts.

The part that talks to the network gets no variable and no connection of the part that reaches the
databases, no descriptor but those of the bundle that it is to read, and its libraries never share
memory with it. What it leaves on the disk is
hashed again here before it is used.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import IO, cast

from ncen_updater.agent.config.model import AgentConfig
from ncen_updater.agent.reader.connecting import feed_of
from ncen_updater.agent.reader.unit import asked
from ncen_updater.common import atomic_files as durable
from ncen_updater.common.bounded_io import parse_json
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import Text
from ncen_updater.common.progress import Progress
from ncen_updater.feed.errors import LocalStoreFailed, ReaderFailed
from ncen_updater.feed.release_source import FeedView, FetchedPack, FetchedRelease, ReleaseSource
from ncen_updater.formats.bundle.parts import open_file
from ncen_updater.formats.document import DeltaRef, Offer

__all__ = ["ChildSource", "error_from_json", "error_to_json"]

# Proxies come from the configuration, never from the environment; PG* must not leak.
KEPT_VARIABLES = ("PATH", "LANG", "LC_ALL", "TZ", "HOME", "PYTHONPATH", "COVERAGE_PROCESS_START")
# Where errors of this package may be defined; nothing else is imported by a name from outside.
MODULE = re.compile(r"ncen_updater(\.[a-z_]+)*\.errors")
MAX_LINE = 1_000_000
# What talks to the network; the rest reads a medium of the person who types the command.
NETWORK_ACTS = ("refresh", "fetch")


def error_to_json(error: UpdaterError) -> dict[str, object]:
    """Write an error so that another process can raise it again."""
    kind = type(error)
    values = {key: _carried(value) for key, value in error.values.items()}
    return {
        "module": kind.__module__,
        "name": kind.__qualname__,
        "detail": error.detail,
        "values": values,
    }


def _carried(value: object) -> object:
    """A sentence travels as its template: it is translated where it is shown."""
    if isinstance(value, Text):
        return {"text": value.template, "values": {k: _plain(v) for k, v in value.values.items()}}
    return _plain(value)


def _received(value: object) -> object:
    if isinstance(value, dict) and isinstance(value.get("text"), str):
        values = value.get("values")
        return Text(value["text"], values if isinstance(values, dict) else {})
    return _plain(value)


def _plain(value: object) -> object:
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def error_from_json(data: object) -> UpdaterError:
    """Read an error of another process of ours.

    Only error classes of this package are accepted; anything else is an error of the process.
    """
    if not isinstance(data, dict):
        return ReaderFailed(detail="it reported an error that cannot be understood")
    kind = _error_class(data.get("module"), data.get("name"))
    values, detail = data.get("values"), data.get("detail")
    if kind is None or not isinstance(values, dict):
        return ReaderFailed(detail="it reported an error that cannot be understood")
    # Some classes have a constructor of their own, which the values went through already.
    error = kind.__new__(kind)
    UpdaterError.__init__(error)
    error.values = {str(key): _received(value) for key, value in values.items()}
    error.detail = _printable(str(detail)) if detail is not None else None
    return error


def _error_class(module: object, name: object) -> type[UpdaterError] | None:
    if not (isinstance(module, str) and isinstance(name, str) and MODULE.fullmatch(module)):
        return None
    try:
        kind = getattr(importlib.import_module(module), name, None)
    except (ImportError, ValueError):
        return None
    return kind if isinstance(kind, type) and issubclass(kind, UpdaterError) else None


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


class ChildSource(ReleaseSource):
    """A source that asks another process for everything that needs the network.

    It is a child, or one that systemd starts, as ``service.runner`` says. A child of root works as
    the user to whom the directory of lists and downloads belongs.

    Args:
        config: The configuration.
        config_path: Its file; the child reads it again.
        product: Whose releases; those of the site's product by default.
    """

    def __init__(self, config: AgentConfig, config_path: Path, product: str | None = None) -> None:
        self._config_path = config_path
        self._product = product or config.site.product
        paths, service = config.paths, config.service
        self._received = paths.received_directory
        self._unit = paths.resolve(service.fetch_socket) if service.runner == "systemd" else None
        # Used for what lies on the disk; never opens a connection.
        self._local = feed_of(
            self._product,
            config.feed,
            state=paths.received_directory,
            trusted_root=paths.resolve(paths.trusted_root),
            proved=True,
        )

    def now(self) -> datetime:
        """The system clock, but never earlier than what officers signed."""
        return self._local.now()

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

    def fetch_smallest(
        self, offer: Offer, have: Collection[str], progress: Progress
    ) -> FetchedRelease | FetchedPack:
        """Download in the child, then hash here what it left."""
        self._run({"act": "fetch", "version": offer.version, "have": sorted(have)}, progress)
        fetched = self._local.fetched_smallest(offer, have)
        if fetched is None:
            raise ReaderFailed(detail=f"release {offer.version} was not left whole")
        return fetched

    def fetched_smallest(
        self, offer: Offer, have: Collection[str]
    ) -> FetchedRelease | FetchedPack | None:
        """A release or a pack that lies whole on the disk, hashed again."""
        return self._local.fetched_smallest(offer, have)

    def refuse_pack(self, offer: Offer, pack: DeltaRef, error: UpdaterError) -> None:
        """Remember that a pack did not give the release."""
        self._local.refuse_pack(offer, pack, error)

    def refused_packs(self, offer: Offer) -> Mapping[str, str]:
        """Every pack of a release that failed here."""
        return self._local.refused_packs(offer)

    def discard(self, offer: Offer) -> None:
        """Delete what was downloaded of a release."""
        self._local.discard(offer)

    def ask(
        self, order: Mapping[str, object], progress: Progress | None = None
    ) -> Mapping[str, object]:
        """Let the child do something else that needs the network or reads a medium.

        Args:
            order: What, with ``act`` and the act's own values. Its ``files`` are opened here: the
                person who names them may read more than the child.
            progress: Told what the child tells.

        Returns:
            What the child reported; empty if it only did what it was told.

        Raises:
            BundleUnreadable: If one of the files cannot be opened.
        """
        files = [Path(str(file)) for file in cast("list[object]", order.get("files", []))]
        with contextlib.ExitStack() as stack:
            descriptors = []
            for file in files:
                descriptors.append(open_file(file))
                stack.callback(os.close, descriptors[-1])
            return self._run({**order, "descriptors": descriptors}, progress, descriptors)

    def give(self, directory: Path) -> None:
        """Make a directory that is missing, for the child to write to.

        Raises:
            LocalStoreFailed: If it cannot be made.
        """
        if directory.exists():
            return
        user, group = self._user()
        try:
            with durable.readable_by_all():
                durable.make_directory(directory)
            if user is not None and group is not None:
                os.chown(directory, user, group)
        except OSError as error:
            raise LocalStoreFailed(detail=str(error)) from error

    def _run(
        self,
        order: Mapping[str, object],
        progress: Progress | None,
        descriptors: Sequence[int] = (),
    ) -> Mapping[str, object]:
        line = json.dumps({"product": self._product, **order}).encode() + b"\n"
        if self._unit is not None and order["act"] in NETWORK_ACTS:
            with asked(self._unit, line) as answer:
                done, report = _listen(answer, progress)
            if not done:
                raise ReaderFailed(detail="see 'journalctl --unit ncen-updater-fetch@*'")
            return report
        environment = {k: os.environ[k] for k in KEPT_VARIABLES if k in os.environ}
        # Files and not pipes: neither can the child stop by what we do not read, nor we by what it
        # does not read.
        with tempfile.TemporaryFile() as stdin, tempfile.TemporaryFile() as stderr:
            stdin.write(line)
            stdin.seek(0)
            with self._child(environment, stdin, stderr, descriptors) as child:
                try:
                    return _talk(child, stderr, progress)
                except BaseException:
                    child.kill()
                    raise

    def _child(
        self,
        environment: Mapping[str, str],
        stdin: IO[bytes],
        stderr: IO[bytes],
        descriptors: Sequence[int],
    ) -> subprocess.Popen[bytes]:
        user, group = self._user()
        return subprocess.Popen(
            [sys.executable, "-m", "ncen_updater.agent.reader.worker", str(self._config_path)],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=environment,
            pass_fds=descriptors,
            start_new_session=True,
            user=user,
            group=group,
            extra_groups=None if user is None else [],
        )

    def _user(self) -> tuple[int | None, int | None]:
        """Whose rights the child has: the owner's of the directory, where we may choose."""
        try:
            owner = self._received.stat()
        except FileNotFoundError:
            return None, None
        except OSError as error:
            raise LocalStoreFailed(detail=str(error)) from error
        if os.geteuid() != 0 or owner.st_uid == 0:
            return None, None
        return owner.st_uid, owner.st_gid


def _talk(
    child: subprocess.Popen[bytes], stderr: IO[bytes], progress: Progress | None
) -> Mapping[str, object]:
    if child.stdout is None:
        raise ReaderFailed(detail="no pipe")
    done, report = _listen(child.stdout, progress)
    if child.wait() != 0 or not done:
        stderr.seek(max(0, stderr.seek(0, os.SEEK_END) - 2000))
        raise ReaderFailed(detail=stderr.read().decode("utf-8", "backslashreplace"))
    return report


def _listen(answer: IO[bytes], progress: Progress | None) -> tuple[bool, Mapping[str, object]]:
    """Read to the end; return whether the process said that it is done, and what it reported."""
    done = False
    report: Mapping[str, object] = {}
    while line := _line(answer):
        message = _message(line)
        if "error" in message:
            raise error_from_json(message["error"])
        done = done or message.get("done") is True
        if isinstance(message.get("report"), dict):
            report = cast("dict[str, object]", message["report"])
        if progress and "tell" in message:
            progress.tell(*_told(message))
    return done, report


def _line(answer: IO[bytes]) -> bytes:
    try:
        return answer.readline(MAX_LINE)
    except ConnectionError as error:
        raise ReaderFailed(detail=str(error)) from error


def _message(line: bytes) -> dict[str, object]:
    try:
        message = parse_json(line) if len(line) < MAX_LINE else None
    except ValueError as error:
        raise ReaderFailed(detail=f"it said what is no JSON: {error}"[:500]) from error
    if not isinstance(message, dict):
        raise ReaderFailed(detail="it said what cannot be understood")
    return message


def _told(message: Mapping[str, object]) -> tuple[Text, int | None, int | None]:
    template, values = message["tell"], message.get("values", {})
    at, total = message.get("at"), message.get("total")
    if not (
        isinstance(template, str)
        and isinstance(values, dict)
        and isinstance(at, int | None)
        and isinstance(total, int | None)
    ):
        raise ReaderFailed(detail="it told what cannot be understood")
    return Text(template, values), at, total
