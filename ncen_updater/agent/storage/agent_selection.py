"""Selection of the agent: ``sequence.json`` beside the slots, and the rules of its changes.

The failsafe reads and writes the same file with code of its own. Decisions here are pure; only
:class:`AgentSelectionFile` accesses the disk. Light imports.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Self, cast

from ncen_updater.agent.model.errors import SelectionDamagedError
from ncen_updater.common import atomic_files as durable
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.json_records import JsonRecord
from ncen_updater.common.messages import SEQUENCE_UNWRITABLE

#: Environment variable in which the failsafe passes its directory.
STARTED_BY = "NCEN_FAILSAFE_DIRECTORY"
SELECTION_FILE, CURRENT_LINK, SELECTION_LOCK = "sequence.json", "current", "sequence.lock"
#: Prefix of a copy that a package keeps while it replaces the slot itself.
COPY_PREFIX = ".kept-"
MAX_FILE_BYTES = 100_000
MAX_FAILED_AGENTS = 100
VERSION_PATTERN = re.compile(r"[0-9][0-9A-Za-z.+!]{0,63}")


class TrialState(StrEnum):
    """Whether the selected agent has confirmed itself."""

    ON_TRIAL = "on-trial"
    CONFIRMED = "confirmed"


_REQUIRED_FIELDS = ("current", "previous", "state", "attempts", "failed")


@dataclass(frozen=True)
class FailedAgent(JsonRecord):
    """An agent that was given up at this site.

    Attributes:
        failures: Number of times.
        at: Last time.
    """

    failures: int
    at: datetime


@dataclass(frozen=True)
class AgentSelection(JsonRecord):
    """Content of the file.

    Attributes:
        current: The selected version.
        previous: The version to revert to.
        state: Whether the selected one has confirmed itself.
        attempts: Counted starts.
        failed: Versions that were given up at this site.
        boot: Boot id of the last start; None if it does not matter.
        schema: Version of the file format.
    """

    current: str
    previous: str | None = None
    state: TrialState = TrialState.CONFIRMED
    attempts: int = 0
    failed: Mapping[str, FailedAgent] = field(default_factory=dict)
    boot: str | None = None
    schema: int = 1

    @classmethod
    def from_json(cls, data: object) -> Self:
        """Parse the content of the file; required fields have no default, as in the failsafe.

        Raises:
            ValueError: If the content is invalid or incomplete.
        """
        selection = super().from_json(data)
        missing = [name for name in _REQUIRED_FIELDS if name not in cast("dict[str, object]", data)]
        if missing:
            raise ValueError(f"no {', '.join(missing)}")
        for name in (selection.current, selection.previous, *selection.failed):
            if name is not None and not VERSION_PATTERN.fullmatch(name):
                raise ValueError(f"no version: {name!r}"[:100])
        if selection.attempts < 0:
            raise ValueError("negative number of starts")
        return selection


def select_installed(before: AgentSelection | None, version: str) -> AgentSelection:
    """Select an agent that an operator installs: the first is confirmed, a further one on trial."""
    if before is None:
        return AgentSelection(version)
    return (
        before
        if before.current == version
        else begin_trial(forget_failure(before, version), version)
    )


def begin_trial(before: AgentSelection, version: str) -> AgentSelection:
    """Select a new agent on trial, with the present one as previous.

    If the present one has not confirmed itself, its own previous agent stays the previous one.
    """
    previous = (
        before.current
        if before.state is TrialState.CONFIRMED
        else before.previous or before.current
    )
    return replace(
        before, current=version, previous=previous, state=TrialState.ON_TRIAL, attempts=0
    )


def confirm_agent(before: AgentSelection, version: str) -> AgentSelection:
    """Confirm the selected agent, if it is this one."""
    return (
        replace(before, state=TrialState.CONFIRMED, attempts=0)
        if before.current == version
        else before
    )


def reset_attempts(before: AgentSelection, version: str) -> AgentSelection:
    """Reset the number of starts, if this confirmed agent has run for a while."""
    confirmed = before.current == version and before.state is TrialState.CONFIRMED
    return replace(before, attempts=0) if confirmed else before


def uncount_start(before: AgentSelection, version: str) -> AgentSelection:
    """Uncount one start of the selected agent, if it is this one: it was stopped on request."""
    if before.current != version:
        return before
    # Clear the boot id: the first start after a reboot must not uncount this start again.
    return replace(before, attempts=max(0, before.attempts - 1), boot=None)


def revert_to_previous(before: AgentSelection, version: str, now: datetime) -> AgentSelection:
    """Select the previous agent again, if it is this one: the failsafe started it unrecorded."""
    if before.state is not TrialState.ON_TRIAL or before.previous != version:
        return before
    earlier = before.failed.get(before.current)
    failed = {
        **before.failed,
        before.current: FailedAgent(earlier.failures + 1 if earlier else 1, now),
    }
    newest = sorted(failed, key=lambda v: failed[v].at)[-MAX_FAILED_AGENTS:]
    return AgentSelection(version, None, TrialState.CONFIRMED, 0, {v: failed[v] for v in newest})


def forget_failure(before: AgentSelection, version: str) -> AgentSelection:
    """Remove a version from those given up, because an operator wants to retry it."""
    return replace(before, failed={v: b for v, b in before.failed.items() if v != version})


class AgentSelectionFile:
    """The file, its lock, and the link that follows the selection.

    Args:
        directory: Directory of the agent's slots.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = directory / SELECTION_FILE

    def load(self) -> AgentSelection | None:
        """Read the file; None if it does not exist, as for an agent that is not installed in slots.

        Raises:
            SelectionDamagedError: If it exists and is invalid.
        """
        try:
            with self.path.open("rb") as stream:
                data = json.loads(stream.read(MAX_FILE_BYTES))
            return AgentSelection.from_json(data)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as error:
            raise SelectionDamagedError(path=self.path, reason=str(error)[:200]) from error

    def update(self, change: Callable[[AgentSelection | None], AgentSelection]) -> AgentSelection:
        """Read, change and write the file under its lock, and update the link.

        Raises:
            SelectionDamagedError: If it is invalid.
            SEQUENCE_UNWRITABLE: If it cannot be written; it is unchanged.
        """
        try:
            durable.make_directory(self.directory)
            with self._hold_lock():
                before = self.load()
                after = change(before)
                if after != before:
                    content = json.dumps(after.to_json(), indent=1, sort_keys=True)
                    # Other users read it with their configuration.
                    durable.write_file(self.path, content.encode(), exactly=True)
                self._update_link(after.current)
                return after
        except OSError as error:
            reason = error.strerror or str(error)
            raise UpdaterError(SEQUENCE_UNWRITABLE, path=self.path, reason=reason) from error

    def _update_link(self, version: str) -> None:
        package_copy = self.directory / f"{COPY_PREFIX}{version}"
        link, target = (
            self.directory / CURRENT_LINK,
            package_copy.name if package_copy.is_dir() else version,
        )
        if not (link.is_symlink() and str(link.readlink()) == target):
            durable.replace_symlink(target, link)

    @contextlib.contextmanager
    def _hold_lock(self) -> Iterator[None]:
        descriptor = os.open(
            self.directory / SELECTION_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640
        )
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)
