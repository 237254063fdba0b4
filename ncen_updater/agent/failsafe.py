#!/usr/bin/python3
"""Start the agent from the selected slot; return to the previous slot if a new agent fails.

The unit of the service runs it with the system's Python::

    /usr/bin/python3 -I /opt/ncen-updater/failsafe.py serve

It is in the directory of the slots and imports only the standard library, so that a broken agent
cannot break it. The option ``--check`` prints which agent would be started; ``resume`` is for the
boot (rule 8). If the service may not write to the directory, the unit first runs ``--count`` with
more privileges; the service then executes the slot of the link ``current``.

Rules for ``sequence.json`` in the same directory (its fields are declared again here, on purpose):

1. Each start is counted on disk before it happens. The agent resets the count: a new agent when it
    confirms itself, a confirmed agent after it has run for a while. A second start in the same boot
    shows that the previous start ended early. After a reboot it is unknown whether the agent or the
    machine ended, so that the last start before the reboot is not counted.
2. A new agent (``on-trial``) that was started twice without confirming itself is given up: the
    previous agent is selected and the new one is marked bad, in one write.
3. A ``confirmed`` agent is given up only if it ended early five times in a row and another agent
    exists. The agent itself undoes the count of a start that failed for another reason (an invalid
    configuration).
4. A slot that cannot be executed is skipped; root also skips a slot that another user may write.
5. If the file is missing or damaged, the slot of the link ``current`` is started and must confirm
    itself like a new one.
6. If a start cannot be counted (a full disk), the previous agent is started instead of a new one.
7. If no slot can be started, the failsafe logs this and exits with status 1.
8. The application waits for ``resume``, so a confirmed agent runs it, and an agent on trial only if
    the confirmed agent fails. Nothing is counted or selected: a confirmed agent started the open
    change.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import signal
import stat
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

STATE_FILE, CURRENT_LINK, LOCK_FILE = "sequence.json", "current", "sequence.lock"
#: Suffix of a slot that is incomplete.
PARTIAL_SUFFIX = ".partial"
#: Prefix of the copy of a slot that a package makes while it replaces the slot.
COPY_PREFIX = ".kept-"
ON_TRIAL, CONFIRMED = "on-trial", "confirmed"
#: Limits: starts of a new agent, consecutive early exits of a confirmed agent.
MAX_TRIAL_STARTS, MAX_EARLY_EXITS = 2, 5
#: Exit statuses of an agent that failed without reporting a cause (1 is a Python traceback).
UNEXPLAINED_EXIT_CODES = frozenset({1, 2, 126, 127})
MAX_STATE_BYTES = 100_000
#: Variable with the directory of the selection, for an agent that cannot read its configuration.
DIRECTORY_VARIABLE = "NCEN_FAILSAFE_DIRECTORY"
#: Remedy where no slot can be started.
NO_SLOT = "no slot can be started: run sudo apt install --reinstall ncen-updater"
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
LOCK_TIMEOUT_S = 10.0
SLOT_NAME_PATTERN = re.compile(r"[0-9][0-9A-Za-z.+!]{0,63}")


@dataclass(frozen=True)
class SlotSelection:
    """Content of ``sequence.json``.

    Attributes:
        current: The selected version.
        previous: The version selected before; None without one.
        state: ``on-trial`` or ``confirmed``.
        attempts: Counted starts.
        failed: Versions that were given up at this site: number of failures and time of the last
            one.
        boot: Boot ID of the last start; None if it does not matter.
    """

    current: str
    previous: str | None = None
    state: str = CONFIRMED
    attempts: int = 0
    failed: Mapping[str, Any] = field(default_factory=dict)
    boot: str | None = None


@dataclass(frozen=True)
class StartDecision:
    """Decision which slot to start.

    Attributes:
        version: The version to start; None if no slot can be started.
        selection: The selection to write before the start.
        reason: Log message; empty for an ordinary start.
    """

    version: str | None
    selection: SlotSelection | None
    reason: str = ""


def find_newest(versions: Sequence[str]) -> str | None:
    """Return the highest version; None without one."""
    return max(
        versions, key=lambda v: [int(part) for part in re.findall(r"[0-9]+", v)], default=None
    )


def decide_start(
    state: SlotSelection | None,
    link: str | None,
    usable: Sequence[str],
    now: str,
    boot: str | None = None,
) -> StartDecision:
    """Decide which slot to start. Pure.

    Args:
        state: Content of the file; None if it is missing or damaged.
        link: Version of the link ``current``.
        usable: Slots that can be started.
        now: The time, recorded with a failed version.
        boot: Boot ID of the machine; None if unknown.
    """
    if state is None:
        return _decide_without_state(link, usable, boot)
    known = None not in (boot, state.boot)
    proven = max(0, state.attempts - 1) if known and state.boot != boot else state.attempts
    state = replace(state, attempts=proven, boot=boot)
    is_usable = state.current in usable
    limit = MAX_TRIAL_STARTS if state.state == ON_TRIAL else MAX_EARLY_EXITS
    if is_usable and state.attempts < limit:
        return StartDecision(state.current, replace(state, attempts=state.attempts + 1))
    other = _find_fallback(state, usable)
    if other is None and is_usable:
        reason = f"agent {state.current} does not keep running, and there is no other agent"
        return StartDecision(state.current, replace(state, attempts=state.attempts + 1), reason)
    reason = (
        f"agent {state.current} was started {state.attempts} times and did not keep running"
        if is_usable
        else f"the slot of agent {state.current} is missing or cannot be started"
    )
    if other is None:
        return StartDecision(None, None, f"{reason}, and there is no other agent")
    failed = dict(state.failed)
    if (
        is_usable or state.state == ON_TRIAL
    ):  # a lost slot does not indicate a defect of its release
        failures = failed[state.current]["failures"] if state.current in failed else 0
        failed[state.current] = {"failures": failures + 1, "at": now}
    return StartDecision(
        other,
        SlotSelection(other, None, CONFIRMED, 1, failed, boot),
        f"{reason}: returning to agent {other}",
    )


def _decide_without_state(
    link: str | None, usable: Sequence[str], boot: str | None
) -> StartDecision:
    start = _find_linked(link, usable)
    if start is None:
        return StartDecision(None, None, f"{STATE_FILE} cannot be read, and no slot can be started")
    other = find_newest([version for version in usable if version != start])
    reason = (
        f"{STATE_FILE} is missing or damaged: agent {start} is started and has to confirm itself"
    )
    return StartDecision(start, SlotSelection(start, other, ON_TRIAL, 1, boot=boot), reason)


def _find_linked(link: str | None, usable: Sequence[str]) -> str | None:
    return link if link in usable else find_newest(usable)


def _find_fallback(state: SlotSelection, usable: Sequence[str]) -> str | None:
    """Return the fallback version: the previous one, else the newest that is not marked bad."""
    if state.previous in usable and state.previous != state.current:
        return state.previous
    return find_newest([v for v in usable if v != state.current and v not in state.failed])


def order_for_resume(
    state: SlotSelection | None, link: str | None, usable: Sequence[str]
) -> list[str]:
    """Return the versions that may resume a change, a confirmed agent first. Pure.

    Args:
        state: Content of the file; None if it is missing or damaged.
        link: Version of the link ``current``.
        usable: Slots that can be started.
    """
    if state is None:
        candidates = [link, find_newest([version for version in usable if version != link])]
    elif state.state == ON_TRIAL:
        candidates = [_find_fallback(state, usable), state.current]
    else:
        candidates = [state.current, _find_fallback(state, usable)]
    return [version for version in candidates if version is not None and version in usable]


# ---- disk access ---------------------------------------------------------------------------------


def read_selection(directory: Path) -> SlotSelection | None:
    """Return the content of the file; None if it is missing or invalid."""
    try:
        with (directory / STATE_FILE).open("rb") as stream:
            data = json.loads(stream.read(MAX_STATE_BYTES))
        state = SlotSelection(
            data["current"], data["previous"], data["state"], data["attempts"], data["failed"],
            data.get("boot"),
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    fits = (
        is_version(state.current)
        and (state.previous is None or is_version(state.previous))
        and state.state in (ON_TRIAL, CONFIRMED)
        and type(state.attempts) is int
        and state.attempts >= 0
        and type(state.boot) in (str, type(None))
        and isinstance(state.failed, dict)
        and all(is_version(version) and _is_row(row) for version, row in state.failed.items())
    )
    return state if fits else None


def _is_row(row: object) -> bool:
    if not isinstance(row, dict) or type(row.get("failures")) is not int:
        return False
    try:
        datetime.fromisoformat(row["at"])
    except (KeyError, TypeError, ValueError):
        return False
    return True


def is_version(value: object) -> bool:
    """Return whether a value is a valid slot name."""
    return isinstance(value, str) and SLOT_NAME_PATTERN.fullmatch(value) is not None


def write_selection(directory: Path, state: SlotSelection) -> None:
    """Replace the file atomically and durably.

    Raises:
        OSError: If it cannot be written; the file is unchanged.
    """
    data = {
        "schema": 1,
        "current": state.current,
        "previous": state.previous,
        "state": state.state,
        "attempts": state.attempts,
        "failed": dict(state.failed),
        "boot": state.boot,
    }
    partial = directory / f".{STATE_FILE}.failsafe"
    with partial.open("wb") as stream:
        os.fchmod(stream.fileno(), 0o644)  # other users read it with their configuration
        stream.write(json.dumps(data, indent=1, sort_keys=True).encode())
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(directory / STATE_FILE)
    sync_directory(directory)


def switch_link(directory: Path, version: str) -> None:
    """Point the link ``current`` to a slot atomically, unless it does already.

    Raises:
        OSError: If the link cannot be replaced.
    """
    link, target = directory / CURRENT_LINK, slot(directory, version).name
    if link.is_symlink() and str(link.readlink()) == target:
        return
    partial = directory / f".{CURRENT_LINK}.failsafe"
    partial.unlink(missing_ok=True)
    partial.symlink_to(target)
    partial.replace(directory / CURRENT_LINK)
    sync_directory(directory)


def sync_directory(directory: Path) -> None:
    """Flush a directory's entries to the disk."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_link(directory: Path) -> str | None:
    """Return the version of the link ``current``."""
    try:
        name = (directory / CURRENT_LINK).readlink().name.removeprefix(COPY_PREFIX)
    except OSError:
        return None
    return name if is_version(name) else None


def list_usable_slots(directory: Path) -> list[str]:
    """Return the slots whose program and interpreter can be executed."""
    try:
        names = {item.name.removeprefix(COPY_PREFIX) for item in directory.iterdir()}
    except OSError:
        return []
    names = {name for name in names if is_version(name) and not name.endswith(PARTIAL_SUFFIX)}
    return sorted(name for name in names if _is_usable(directory, name))


def _is_usable(directory: Path, name: str) -> bool:
    try:
        programs = get_program_path(directory, name), slot(directory, name) / "bin" / "python"
        executable = all(os.access(part, os.X_OK) and part.is_file() for part in programs)
        return executable and not is_foreign(slot(directory, name))
    except OSError as error:  # a damaged slot must not prevent the start of another
        log_message(f"the slot of agent {name} cannot be read ({error.strerror})")
        return False


def slot(directory: Path, version: str) -> Path:
    """Return the directory of a slot, or of its copy while a package replaces the slot."""
    copy = directory / f"{COPY_PREFIX}{version}"
    return copy if copy.is_dir() else directory / version


def is_foreign(directory: Path) -> bool:
    """Return whether root would execute files that another user may write; log the path.

    Raises:
        OSError: If they cannot be examined.
    """
    pending = [directory] if os.geteuid() == 0 else []
    while pending:
        path = pending.pop()
        try:
            own, target = path.lstat(), path.stat()
            inside = list(path.iterdir()) if stat.S_ISDIR(own.st_mode) else []
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                continue  # a link to nothing, or removed meanwhile
            raise
        if own.st_uid or target.st_uid or target.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            log_message(
                f"users other than root can write to {path}, so {directory} is not started: check"
                f" its contents, then run 'chown -R root:root {directory};"
                f" chmod -R go-w {directory}'"
            )
            return True
        pending += inside
    return False


def get_program_path(directory: Path, version: str) -> Path:
    """Return the path of the program in a slot."""
    return slot(directory, version) / "bin" / "ncen-updater"


def read_boot() -> str | None:
    """Return the boot ID of the machine."""
    try:
        return BOOT_ID.read_text("ascii").strip()
    except OSError:
        return None


def log_message(text: str) -> None:
    """Write a message to the service's log."""
    sys.stderr.write(f"failsafe: {text}\n")
    sys.stderr.flush()


def hold_lock(directory: Path) -> int | None:
    """Lock the file against changes by the agent; after ten seconds, continue without the lock.

    Returns:
        The descriptor of the lock file; None if it cannot be opened.
    """
    try:
        descriptor = os.open(directory / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError:
        return None
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            time.sleep(0.05)
        else:
            return descriptor
    log_message("another process holds the lock; continuing without it")
    return descriptor


def record_decision(directory: Path, choice: StartDecision, usable: Sequence[str]) -> str | None:
    """Write the decision; return the version to start, another one if writing fails."""
    state = choice.selection
    if choice.version is None or state is None:
        return None
    version = choice.version
    try:
        if (directory / STATE_FILE).exists() and read_selection(directory) is None:
            (directory / STATE_FILE).replace(directory / f"{STATE_FILE}.damaged")
        write_selection(directory, state)
    except OSError as error:
        log_message(f"the start cannot be counted ({error.strerror})")
        if state.state == ON_TRIAL and state.previous is not None and state.previous in usable:
            log_message(
                f"agent {state.current} is on trial and needs the count: starting agent"
                f" {state.previous}"
            )
            version = state.previous
    try:
        # Also if the selection could not be written: other units start the slot of the link.
        switch_link(directory, version)
    except OSError as error:
        log_message(f"the link {CURRENT_LINK} cannot be changed ({error.strerror}); continuing")
    return version


def count(directory: Path, broken: Collection[str] = ()) -> str | None:
    """Decide and count the start; return the version to start."""
    descriptor = hold_lock(directory)
    usable = [name for name in list_usable_slots(directory) if name not in broken]
    now = datetime.now(UTC).isoformat()
    choice = decide_start(read_selection(directory), read_link(directory), usable, now, read_boot())
    if choice.reason:
        log_message(choice.reason)
    version = record_decision(directory, choice, usable)
    if descriptor is not None:
        os.close(descriptor)
    return version


def start_agent(directory: Path, arguments: Sequence[str]) -> int:
    """Decide, count, and execute the agent. Returns only if no slot can be started."""
    broken: set[str] = set()
    while True:
        if os.access(directory, os.W_OK):
            version = count(directory, broken)
        else:
            usable = [name for name in list_usable_slots(directory) if name not in broken]
            version = _find_linked(read_link(directory), usable)
        if version is None:
            log_message(NO_SLOT)
            return 1
        path = get_program_path(directory, version)
        os.environ[DIRECTORY_VARIABLE] = str(directory)
        try:
            os.execv(path, [str(path), *arguments])  # noqa: S606 - it becomes the agent
        except OSError as error:
            log_message(f"{path} cannot be started ({error.strerror})")
            broken.add(version)


def run_resume(directory: Path, arguments: Sequence[str]) -> int:
    """Let a confirmed agent complete an open change; return the exit status."""
    # On a signal, wait for the agent, which received the signal as well, and try no other version.
    # The child does not inherit the signal handlers.
    received: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: received.append(number))
    status = 1
    versions = order_for_resume(
        read_selection(directory), read_link(directory), list_usable_slots(directory)
    )
    for version in versions:
        path = str(get_program_path(directory, version))
        try:
            child = os.posix_spawn(path, [path, *arguments], os.environ)
        except OSError as error:
            log_message(f"{path} cannot be started ({error.strerror})")
            continue
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if (status >= 0 and status not in UNEXPLAINED_EXIT_CODES) or received:
            break
        log_message(f"agent {version} ended with {status} and may not have completed the change")
    if not versions:
        log_message(NO_SLOT)
    return status if status >= 0 else 128 - status


def print_decision(directory: Path) -> int:
    """Print which version would be started, and why; return the exit status."""
    state, link, usable = (
        read_selection(directory),
        read_link(directory),
        list_usable_slots(directory),
    )
    choice = decide_start(state, link, usable, "-", read_boot())
    sys.stdout.write(json.dumps({"start": choice.version, "reason": choice.reason}) + "\n")
    return 0 if choice.version is not None else 1


def main(arguments: Sequence[str]) -> int:
    """Run the command; the slots are in the directory of this file."""
    directory = Path(__file__).resolve().parent
    if arguments and arguments[0] == "--check":
        return print_decision(directory)
    if arguments and arguments[0] == "--count":
        return 0 if count(directory) is not None else 1
    if arguments and arguments[0] == "resume":
        return run_resume(directory, arguments)
    return start_agent(directory, arguments or ["serve"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
