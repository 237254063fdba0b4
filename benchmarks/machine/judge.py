"""Verdict on a machine after a power cut, from outside: the agent is not asked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.debian.container import Container, wait_for
from benchmarks.machine.box import Box
from benchmarks.machine.site import DOOR, run_query
from demo.databases import DATABASES, PostgresPlace

NAMES = PostgresPlace("").names
#: References of the records that existed before the trial; they are shorter.
OLD = r"^MU-\d{4}-\d{7}$"
COLUMNS = """
SELECT table_name, column_name, data_type FROM information_schema.columns
WHERE table_schema = 'public' ORDER BY 1, 2"""
ENTERED = {
    "seizures": "SELECT case_ref, summary FROM cases",
    "suspects": "SELECT case_ref, person_ref FROM case_links WHERE person_ref = 'P-' || case_ref",
    "companies": "SELECT case_ref, company_ref FROM case_links"
    " WHERE company_ref = 'C-' || case_ref",
}
#: Limit of a hang; durations are reported, and not judged.
LET_IN_S = 900.0
#: After a later return of users, ask the machine for the reason; reported, not judged.
SLOW_S = 45.0


@dataclass(frozen=True)
class Acknowledged:
    """A case whose saving was acknowledged to a user."""

    reference: str
    summary: str
    at: float


@dataclass(frozen=True)
class Facts:
    """Facts about a machine.

    Attributes:
        code: Version of the slot that ``current`` selects.
        marks: Version reported by each database.
        schemas: Digest of the columns of each database.
        old: Digest of the cases that existed before all trials.
        reported: Version reported by the application.
    """

    code: str
    marks: Mapping[str, str]
    schemas: Mapping[str, str]
    old: str
    reported: str | None


def acknowledged(log: Path, until: float) -> list[Acknowledged]:
    """Return the cases that were acknowledged until a point in time."""
    found = []
    for line in log.read_bytes().split(b"\n")[:-1]:
        entry = json.loads(line)
        if "case_ref" in entry and entry["answered"] <= until:
            found.append(
                Acknowledged(entry["case_ref"], entry["summary"], float(entry["answered"]))
            )
    return found


def measure_user_return(box: Box, patience_s: float = LET_IN_S) -> float | None:
    """Return the seconds until the first case was saved; None after the time limit."""

    def look() -> float | None:
        lines = box.log.read_bytes().split(b"\n")[:-1] if box.log.exists() else []
        for line in lines:
            entry = json.loads(line)
            if "case_ref" in entry:
                return round(float(entry["answered"]) - box.began, 1)
        return None

    return wait_for(look, patience_s)


def waited_for(box: Box, seconds: float) -> str:
    """Return the units that delayed a slow boot, from systemd-analyze; empty after a fast boot."""
    if seconds <= SLOW_S:
        return ""
    words = ["systemd-analyze", "critical-chain", "--no-pager", "ncen.service"]
    chain = [line.strip(" └─│├") for line in box.container.run(*words).stdout.splitlines()]
    return ", ".join(line for line in chain if "+" in line) or "nothing of its units"


def facts(container: Container, current: Path = Path("/opt/ncen/current")) -> Facts:
    """Read the facts about a machine."""
    marks, schemas = {}, {}
    for name, physical in NAMES.items():
        marks[name] = run_query(container, physical, "SELECT release FROM ncen_release")[0][0]
        schemas[name] = _digest(run_query(container, physical, COLUMNS))
    cases = "SELECT case_ref, opened_at, officer, summary FROM cases"
    old = f"{cases} WHERE case_ref ~ '{OLD}' ORDER BY 1"
    release = json.loads(container.must("cat", f"{current}/app/release.json"))
    health = container.run("curl", "-s", "http://127.0.0.1:8080/healthz").stdout
    try:
        reported = str(json.loads(health)["version"])
    except (ValueError, KeyError):
        reported = None
    digest = _digest(run_query(container, NAMES["seizures"], old))
    return Facts(str(release["version"]), marks, schemas, digest, reported)


def compare_facts(found: Facts, known: Mapping[str, Facts]) -> list[str]:
    """Return the faults of a machine. Pure.

    Args:
        found: Its facts.
        known: The facts of each version, without an interruption.
    """
    wrong = []
    versions = {found.code, *found.marks.values(), found.reported}
    if len(versions) > 1:
        wrong.append(f"not one version: {found.code}, {dict(found.marks)}, {found.reported}")
    sound = known.get(found.code)
    if sound is None:
        return [*wrong, f"a version that never was: {found.code}"]
    for name, digest in found.schemas.items():
        if digest != sound.schemas[name]:
            wrong.append(f"the schema of {name} is not that of {found.code}")
    if found.old != sound.old:
        wrong.append("older cases are changed")
    return wrong


def find_faults(
    box: Box, known: Mapping[str, Facts], entered: Sequence[Acknowledged], *, agent: bool = True
) -> tuple[Facts, list[str]]:
    """Judge a machine that is up, and whose users can work.

    Args:
        box: The machine.
        known: As for :func:`compare_facts`.
        entered: The records that must exist.
        agent: Whether the agent must be running.
    """
    container = box.container
    if agent:
        # Nothing may begin during the checks, and a running operation must end first.
        container.run("ncen-updater", "hold", "--reason", "the trial looks")
        rest = wait_for(lambda: _at_rest(container), LET_IN_S)
        if rest is None:
            now = container.run("ncen-updater", "status").stdout
            return facts(container), [f"the agent does not come to rest: {now}"]
    found = facts(container)
    wrong = [
        *compare_facts(found, known),
        *lost_records(container, entered),
        *_left_over(container),
    ]
    for unit in ("ncen.service", *(["ncen-updater.service"] if agent else [])):
        state = container.run("systemctl", "is-active", unit).stdout.strip()
        if state != "active":
            wrong.append(f"{unit} is {state}")
    failed = container.run("systemctl", "--failed", "--plain", "--no-legend").stdout.strip()
    if failed:
        wrong.append(f"failed units: {failed}")
    if agent:
        verified = container.run("ncen-updater", "verify")
        if verified.returncode:
            wrong.append(f"verify: {verified.stdout}{verified.stderr}")
    return found, wrong


def lost_records(container: Container, entered: Sequence[Acknowledged]) -> list[str]:
    """List the acknowledged records that are missing or changed."""
    wrong = []
    for name in DATABASES:
        there = {row[0]: row[1] for row in run_query(container, NAMES[name], ENTERED[name])}
        lost = [case.reference for case in entered if case.reference not in there]
        if lost:
            wrong.append(f"{len(lost)} acknowledged records are not in {name}: {lost[:3]}")
        if name == "seizures":
            other = [c for c in entered if there.get(c.reference, c.summary) != c.summary]
            if other:
                wrong.append(f"{len(other)} acknowledged records are changed")
    return wrong


def _left_over(container: Container) -> list[str]:
    wrong = []
    if container.run("test", "-e", DOOR).returncode == 0:
        wrong.append("the maintenance file is left")
    copies = run_query(
        container, "postgres", "SELECT datname FROM pg_database WHERE datname ~ '__next_'"
    )
    if copies:
        wrong.append(f"copies are left: {copies}")
    partial = container.run("find", "/opt/ncen/slots", "-maxdepth", "1", "-name", "*.partial")
    if partial.stdout.strip():
        wrong.append(f"parts of slots are left: {partial.stdout.split()}")
    return wrong


def status(container: Container) -> dict[str, Any]:
    """Return the document of ``status --json``; empty if it cannot be read."""
    try:
        found = json.loads(container.run("ncen-updater", "status", "--json").stdout)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _at_rest(container: Container) -> bool | None:
    said = status(container)
    journal, service = said.get("journal"), said.get("service")
    if not isinstance(journal, dict) or not isinstance(service, dict):
        return None
    busy = journal["open_change"] or journal["lock_holder"] or service["running"]
    return None if busy else True


def _digest(rows: list[list[str]]) -> str:
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()
