"""Record of a setup on the disk, from which a setup is resumed or undone.

``record.json`` lists every step and its state: ``begun`` is written, with the previous state of
the machine, before the step runs, ``done`` after it. An interrupted setup is in phase ``doing`` or
``undoing`` and resumes there: a step that is ``begun`` runs, or is undone, again. Every step is
idempotent.
"""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from subprocess import SubprocessError
from typing import Any

from ncen_updater.agent.engine.lock import hold_change_lock
from ncen_updater.agent.model.errors import SiteBusyError
from ncen_updater.agent.model.event_names import CHANGE_LOCK_FILE, JOURNAL_FILE
from ncen_updater.agent.setup.adoption_step import AdoptStep, require_unused
from ncen_updater.agent.setup.machine import Machine
from ncen_updater.agent.setup.proof_steps import PageStep, TrialCopyStep
from ncen_updater.agent.setup.steps import (
    RECORD_DIRECTORY,
    FileStep,
    SetupStep,
    find_missing,
    load_step,
    remove_directories,
    require_directory,
)
from ncen_updater.agent.setup.unit_files import RestartStep
from ncen_updater.common import atomic_files as durable
from ncen_updater.common.bounded_io import parse_json, read_file
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import LazyText, join_texts
from ncen_updater.common.json_records import decode_text, encode_text
from ncen_updater.common.messages import (
    SETUP_IN_USE,
    SETUP_RECORD_DAMAGED,
    SETUP_RECORD_NEWER,
    SETUP_STEP_FAILED,
    SETUP_UNDO_FAILED,
    SETUP_UNDONE_UNHEALTHY,
    ErrorMessage,
)
from ncen_updater.common.progress import Amount, ProgressListener

# Importing these modules registers their steps, which a record may name.
__all__ = ["AdoptStep", "PageStep", "RestartStep", "SetupPhase", "SetupRecord", "TrialCopyStep"]

RECORD_NAME, LOCK_NAME = "record.json", "lock"
SCHEMA = 1
MAX_RECORD_BYTES = 50_000_000
FAILURES = (UpdaterError, OSError, LookupError, ValueError, SubprocessError, sqlite3.Error)


class SetupPhase(StrEnum):
    """Phase of a setup."""

    NONE = "none"
    DOING = "doing"
    DONE = "done"
    UNDOING = "undoing"


class SetupRecord:
    """The record of one setup.

    Args:
        machine: The machine.
        state: The agent's state directory.
    """

    def __init__(self, machine: Machine, state: Path) -> None:
        self._machine = machine
        self._state = state
        self.directory = state / RECORD_DIRECTORY
        self._file = self.directory / RECORD_NAME
        self._data: dict[str, Any] = {"steps": [], "missing": [], "by_hand": [], "config": None}
        self._missing: list[str] = []
        require_directory(state)
        self._load()

    # ---- storage ---------------------------------------------------------------------------------

    def _load(self) -> None:
        try:
            data = parse_json(read_file(self._file, MAX_RECORD_BYTES))
            if data["schema"] > SCHEMA:
                raise UpdaterError(SETUP_RECORD_NEWER, path=self._file)
            _check_entries(data)
            self.phase = SetupPhase(data["phase"])
            self.steps = tuple(load_step(item["step"]) for item in data["steps"])
        except FileNotFoundError:
            self.phase, self.steps = SetupPhase.NONE, ()
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UpdaterError(SETUP_RECORD_DAMAGED, path=self._file, detail=str(error)) from error
        else:
            self._data = data

    def _save(self) -> None:
        self._data["phase"] = self.phase
        durable.write_file(self._file, json.dumps(self._data, indent=1).encode(), 0o600)

    def _begin(
        self, steps: Sequence[SetupStep], by_hand: Sequence[LazyText], config: Path | None
    ) -> None:
        """Write the plan to the disk before the first step."""
        self.steps, self.phase = tuple(steps), SetupPhase.DOING
        entries = [{"step": step.to_record(), "state": None, "before": None} for step in steps]
        self._data = {
            "schema": SCHEMA, "config": None if config is None else str(config), "steps": entries,
            "missing": self._missing, "by_hand": [encode_text(line) for line in by_hand],
        }  # fmt: skip
        self._save()

    def _mark(self, number: int, state: str | None) -> None:
        self._data["steps"][number]["state"] = state
        self._save()

    @property
    def by_hand(self) -> tuple[LazyText, ...]:
        """Return the tasks that the operator has to do."""
        return tuple(decode_text(line, "by_hand") for line in self._data["by_hand"])

    @property
    def config(self) -> Path | None:
        """Return the path of the configuration; None without a record."""
        return None if self._data["config"] is None else Path(self._data["config"])

    def list_steps(self, *, done: bool) -> tuple[SetupStep, ...]:
        """Return the steps that began, or those that are not done."""
        states = [entry["state"] for entry in self._data["steps"]]
        pairs = zip(self.steps, states, strict=True)
        return tuple(step for step, state in pairs if (state if done else state != "done"))

    @contextlib.contextmanager
    def _hold(self) -> Iterator[None]:
        """Hold the setup lock inside the block and load the record."""
        self._missing = find_missing(self._state)
        durable.make_directory(self._state, exactly=bool(self._missing))
        durable.make_directory(self.directory, 0o700)
        with hold_change_lock(self.directory / LOCK_NAME, "setup"):
            self._load()
            yield

    @contextlib.contextmanager
    def _hold_changes(self) -> Iterator[None]:
        """Hold the change lock inside the block; refuse if the site was upgraded.

        Otherwise the installation from before the setup would run on databases that an upgrade has
        migrated.
        """
        if not (self._state / JOURNAL_FILE).exists():
            yield
            return
        with hold_change_lock(self._state / CHANGE_LOCK_FILE, "setup"):
            require_unused(self._state)
            yield

    # ---- apply -----------------------------------------------------------------------------------

    def apply(
        self,
        progress: ProgressListener,
        steps: Sequence[SetupStep] = (),
        by_hand: Sequence[LazyText] = (),
        config: Path | None = None,
    ) -> None:
        """Run the remaining steps; undo all of them if one fails.

        Args:
            progress: Receives the title of each step.
            steps: The plan, if no record exists yet.
            by_hand: Tasks of the operator in this plan.
            config: Path of the configuration.

        Raises:
            SETUP_STEP_FAILED: If a step failed; all steps were undone.
            SETUP_UNDO_FAILED: If this undo failed.
            SETUP_IN_USE: If the site was upgraded before or meanwhile; nothing is undone.
            SiteBusyError: If another setup runs, or one ran since the plan was built.
        """
        with self._hold():
            if steps and self.phase is not SetupPhase.NONE:
                raise SiteBusyError(holder="setup")
            if steps:
                with self._hold_changes():
                    self._begin(steps, by_hand, config)
            for number, step in enumerate(self.steps):
                entry = self._data["steps"][number]
                if entry["state"] == "done":
                    continue
                progress.report(step.title, Amount(number, len(self.steps)))
                try:
                    if entry["state"] is None:
                        entry["before"] = before = step.capture(self._machine)
                        self._keep_file(number, step, before)
                        self._mark(number, "begun")
                    adopts = isinstance(step, AdoptStep)  # takes the change lock itself
                    with contextlib.nullcontext() if adopts else self._hold_changes():
                        step.do(self._machine, entry["before"])
                except FAILURES as error:
                    with self._hold_changes():
                        sick = self._undo(progress)
                    raise _build_failure(SETUP_STEP_FAILED, step, error, sick) from error
                self._mark(number, "done")
            self.phase = SetupPhase.DONE
            self._save()

    def _keep_file(self, number: int, step: SetupStep, before: dict[str, Any]) -> None:
        """Save a file as it was before the step, so that the operator can restore it by hand."""
        if isinstance(step, FileStep) and "content" in before:
            backup = self.directory / f"{number:02}-{Path(step.path).name}.before"
            durable.write_file(backup, base64.b64decode(before["content"]), 0o600)

    # ---- undo ------------------------------------------------------------------------------------

    def undo(self, progress: ProgressListener) -> None:
        """Undo all steps and remove the record.

        Raises:
            SETUP_IN_USE: If the site was adopted by hand or upgraded since; nothing is undone.
            SETUP_FILE_CHANGED: If a file was changed since; nothing is undone.
            SETUP_UNDO_FAILED: If a step could not be undone; the next undo resumes there.
            SETUP_UNDONE_UNHEALTHY: If all steps were undone, but the application is unhealthy.
            SiteBusyError: If another setup runs.
        """
        with self._hold(), self._hold_changes():
            journal = self._state / JOURNAL_FILE
            adopts = (isinstance(step, AdoptStep) for step in self.list_steps(done=True))
            if journal.exists() and not any(adopts):  # adopted by hand since
                raise UpdaterError(SETUP_IN_USE, path=journal)
            if self.phase is not SetupPhase.UNDOING:
                for step, entry in zip(self.steps, self._data["steps"], strict=True):
                    if entry["state"]:
                        step.check_undo(self._machine, entry["before"])
            if sick := self._undo(progress):
                raise sick

    def _undo(self, progress: ProgressListener) -> UpdaterError | None:
        """Undo all steps; return the error of an application that is unhealthy afterwards."""
        sick: UpdaterError | None = None
        self.phase = SetupPhase.UNDOING
        self._save()
        for number in reversed(range(len(self.steps))):
            entry, step = self._data["steps"][number], self.steps[number]
            if not entry["state"]:
                continue
            progress.report(step.title, Amount(number, len(self.steps)))
            try:
                step.undo(self._machine, entry["before"])
            except FAILURES as error:
                if not (
                    isinstance(error, UpdaterError) and error.message is SETUP_UNDONE_UNHEALTHY
                ):
                    raise _build_failure(SETUP_UNDO_FAILED, step, error) from error
                sick = error
            self._mark(number, None)
        self._remove()
        return sick

    def _remove(self) -> None:
        """Remove the record first, so that no undo is pending, and the lock file last."""
        for path in self.directory.iterdir():
            if path.name not in (RECORD_NAME, LOCK_NAME):
                path.unlink()
        durable.remove_file(self._file)
        self.clear()
        remove_directories(self._data["missing"])
        self.phase, self.steps = SetupPhase.NONE, ()

    def clear(self) -> None:
        """Finish the removal of the directory if it was interrupted."""
        if self.directory.is_dir() and not self._file.exists():
            shutil.rmtree(self.directory)
            durable.fsync_directory(self._state)


def _check_entries(data: dict[str, Any]) -> None:
    """Raise, before anything is undone, if the record lacks data that the undo needs."""
    if data["schema"] != SCHEMA:
        raise ValueError(f"schema {data['schema']!r}")
    for entry in data["steps"]:
        if entry["state"] not in (None, "begun", "done"):
            raise ValueError(f"state {entry['state']!r}")
        if entry["state"] and not isinstance(entry["before"], dict):
            raise TypeError("before")
    for line in data["by_hand"]:
        decode_text(line, "by_hand")
    for name in (*data["missing"], data["config"] or "/"):
        Path(name)


def _build_failure(
    message: ErrorMessage, step: SetupStep, error: Exception, sick: UpdaterError | None = None
) -> UpdaterError:
    """Build an error that names the step; its detail is title, detail and remedy of the cause."""
    parts: list[str | LazyText | None] = [str(error)]
    if isinstance(error, UpdaterError):
        parts = [error.title_text, error.detail_text, error.remedy_text]
    if sick is not None:
        parts += [sick.title_text, sick.detail_text]
    detail = join_texts((part for part in parts if part is not None), "\n")
    cause = error.code if isinstance(error, UpdaterError) else type(error).__name__
    return UpdaterError(message, step=step.title, cause=cause, detail=detail)
