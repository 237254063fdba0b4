"""A real change on the machine, recorded write by write, and the instants of its power cuts."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

from benchmarks.debian.container import Container, wait_for
from benchmarks.machine.box import Box
from benchmarks.machine.disk import Image, Recording
from benchmarks.machine.judge import LET_IN_S, Facts, facts, measure_user_return, status
from benchmarks.machine.line import Outside
from benchmarks.machine.site import START, TARGET, Secretariat

#: A change and its step, as a row of the journal's events contains them.
INTENT = re.compile(rb'([0-9a-z]{8})step-intended\{"step": "([a-z-]+)"\}')


@dataclass(frozen=True)
class Recorded:
    """A recorded run, in a directory.

    Attributes:
        directory: Contains ``begin.img``, ``recording``, ``officers.jsonl`` and ``known.json``.
        known: Facts of an undamaged machine by version.
    """

    directory: Path
    known: Mapping[str, Facts]

    @classmethod
    def load(cls, directory: Path) -> Recorded:
        """Read a recorded run."""
        said = json.loads((directory / "known.json").read_text("utf-8"))
        return cls(directory, {version: Facts(**fields) for version, fields in said.items()})

    @property
    def begin(self) -> Image:
        """Return the disk at the beginning."""
        return Image(self.directory / "begin.img")

    def recording(self) -> Recording:
        """Return every write and flush."""
        return Recording(self.directory / "recording")


def _keep(box: Box, begin: Path, directory: Path, known: Mapping[str, Facts]) -> None:
    """Move a run into a directory, with its last disk as ``end.img``."""
    directory.mkdir(parents=True)
    box.disk.stop()
    (directory / "begin.img").symlink_to(begin.resolve())
    text = json.dumps({version: asdict(found) for version, found in known.items()})
    (directory / "known.json").write_text(text, "utf-8")
    shutil.copyfile(box.log, directory / "officers.jsonl")
    box.recording.close()
    shutil.copyfile(box.recording.path, directory / "recording")
    box.disk.kept().save(directory / "end.img")


def _must(found: object, what: str) -> None:
    if not found:
        raise RuntimeError(what)


def await_rehearsal(container: Container) -> None:
    """Let the service find and rehearse the newer release."""
    _must(wait_for(lambda: is_service_running(container), LET_IN_S), "the service does not run")
    container.run("ncen-updater", "check")
    _must(wait_for(lambda: _waits(container), LET_IN_S), "the release is not rehearsed")


def approve(container: Container) -> None:
    """Let the service find and rehearse the newer release, and approve it."""
    await_rehearsal(container)
    words = ["runuser", "-u", "amina", "--", "ncen-updater", "approve", TARGET, "--yes"]
    container.must(*words)


def is_service_running(container: Container) -> bool | None:
    """Return whether the service runs."""
    active = container.run("systemctl", "is-active", "ncen-updater").stdout.strip() == "active"
    return True if active else None


def _over(container: Container, version: str) -> bool | None:
    said = status(container)
    if not said:
        return None
    open_change = said["journal"]["open_change"]
    return True if said["running"]["version"] == version and not open_change else None


def record_upgrade(site: Path, sent: Secretariat, work: Path, directory: Path) -> None:
    """Record an upgrade by the service: rehearsal, approval, downtime, soak, prune."""
    outside = Outside(sent.feed_with(TARGET))
    box = Box(Image(site), sent.directory, work)
    try:
        box.start()
        box.start_users()
        outside.connect(box)
        _must(measure_user_return(box), "users cannot work")
        container = box.container
        known = {START: facts(container)}
        approve(container)
        _must(wait_for(lambda: _over(container, TARGET), LET_IN_S), "the upgrade does not end")
        time.sleep(3)
        known[TARGET] = facts(container)
        _keep(box, site, directory, known)
    finally:
        box.close()
        outside.close()


def record_rollback(upgraded: Recorded, sent: Secretariat, work: Path, directory: Path) -> None:
    """Record a rollback from the newer release, with cases that users entered meanwhile."""
    outside = Outside(sent.feed_with(TARGET))
    begin = upgraded.directory / "end.img"
    box = Box(Image(begin), sent.directory, work)
    try:
        box.start()
        box.start_users()
        outside.connect(box)
        _must(measure_user_return(box), "users cannot work")
        container = box.container
        _must(wait_for(lambda: is_service_running(container), LET_IN_S), "the service does not run")
        back = ["ncen-updater", "rollback", "--yes"]
        container.must(*back)
        _must(wait_for(lambda: _over(container, START), LET_IN_S), "the rollback does not end")
        time.sleep(3)
        known = {**upgraded.known, START: facts(container)}
        _keep(box, begin, directory, known)
    finally:
        box.close()
        outside.close()


def _waits(container: Container) -> bool | None:
    return True if "approval" in str(status(container).get("service", {}).get("reason")) else None


def find_step_ranges(recording: Recording) -> dict[str, range]:
    """Return the entries of a recording that belong to each step of its last change.

    The source is the journal on the disk: a step begins with the first entry that contains its
    intent.
    """
    begins: dict[str, dict[str, int]] = {}
    for number, write in enumerate(recording.writes(0, len(recording))):
        for found in INTENT.finditer(write.data if write else b""):
            begins.setdefault(found[1].decode(), {}).setdefault(found[2].decode(), number)
    change = max(begins.values(), key=lambda steps: min(steps.values()))
    order = sorted(change.items(), key=lambda item: item[1])
    ends = [begin for _, begin in order] + [len(recording)]
    return {step: range(begin, end) for (step, begin), end in zip(order, ends[1:], strict=True)}


def choose_instants(
    found: Mapping[str, range], each: Mapping[str, int], chance: Random
) -> list[tuple[str, int]]:
    """Choose instants of power cuts: a number in each step, without repetition. Pure."""
    chosen = []
    for step, entries in found.items():
        # A cut happens just after an entry was acknowledged.
        places = range(entries.start + 1, entries.stop + 1)
        number = min(each.get(step, 0), len(places))
        chosen += [(step, at) for at in sorted(chance.sample(places, number))]
    return chosen
