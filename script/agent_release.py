"""Make the release directory of the agent from its wheel, the lock file and the locked wheels.

``script/agent-release`` runs it with the new directory, the wheels, and the lock file.

The result is an ordinary release for ``lint``, ``build`` and ``draft``::

    manifest.toml
    requirements.txt    the lock file and the agent's own wheel, each with its digests
    wheels/             every wheel that a site may need; sites use no package index

A wheel whose digest is not in the lock file is refused.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from ncen_updater.common import atomic_files as durable
from ncen_updater.formats.target_names import AGENT_PRODUCT, REQUIREMENTS, WHEELS
from ncen_updater.formats.tree import hash_file

#: Python versions of the servers; a requirement needed by none of them needs no wheel.
PYTHON_VERSIONS = ("3.11", "3.12", "3.13")

MANIFEST = Path(__file__).with_name("agent-manifest.toml")


@dataclass(frozen=True)
class LockedRequirement:
    """One requirement of the lock file.

    Attributes:
        name: Normalized name.
        version: The pinned version.
        digests: SHA-256 of each allowed file.
        is_needed: Whether any server needs it.
    """

    name: str
    version: str
    digests: frozenset[str]
    is_needed: bool


def parse_lock(text: str) -> Mapping[str, LockedRequirement]:
    """Parse a lock file with digests. Pure.

    Raises:
        ValueError: If a line is not a pinned requirement with digests.
    """
    found: dict[str, LockedRequirement] = {}
    for words in _join_lines(text):
        head, *hashes = words.split(" --hash=")
        try:
            requirement = Requirement(head)
        except InvalidRequirement as error:
            raise ValueError(f"not a requirement: {head[:100]}") from error
        pins = list(requirement.specifier)
        digests = frozenset(h.strip().removeprefix("sha256:") for h in hashes)
        if len(pins) != 1 or pins[0].operator != "==" or not digests:
            raise ValueError(f"not pinned with digests: {head[:100]}")
        name = canonicalize_name(requirement.name)
        found[name] = LockedRequirement(name, pins[0].version, digests, _is_needed(requirement))
    return found


def _join_lines(text: str) -> Iterator[str]:
    plain = (line for line in text.splitlines() if not line.lstrip().startswith("#"))
    for statement in "\n".join(plain).replace("\\\n", " ").splitlines():
        if statement.strip():
            yield " ".join(statement.split())


def _is_needed(requirement: Requirement) -> bool:
    if requirement.marker is None:
        return True
    linux = {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"}
    environments: list[dict[str, str]] = [
        {**linux, "python_version": python, "python_full_version": f"{python}.0"}
        for python in PYTHON_VERSIONS
    ]
    return any(requirement.marker.evaluate({**e}) for e in environments)


def make_agent_release(wheels: Path, lock: Path, place: Path) -> None:
    """Make the release directory.

    Args:
        wheels: Directory with the agent's own wheel and the locked wheels.
        lock: The lock file.
        place: The release directory to create.

    Raises:
        ValueError: If the directory exists, a wheel is not in the lock file, or a locked wheel is
            missing.
    """
    if place.exists():
        raise ValueError(f"{place} already exists")
    own, others = _match_wheels_with_lock(wheels, parse_lock(lock.read_text("utf-8")))
    version = str(parse_wheel_filename(own.name)[1])
    partial = place.with_name(f"{place.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    durable.make_directory(partial / WHEELS)
    for wheel in (own, *others):
        shutil.copyfile(wheel, partial / WHEELS / wheel.name)
    line = f"{AGENT_PRODUCT}=={version} --hash=sha256:{hash_file(own)}\n"
    _write(partial / REQUIREMENTS, lock.read_text("utf-8") + line)
    manifest = MANIFEST.read_text("utf-8")
    _write(partial / "manifest.toml", manifest.format(product=AGENT_PRODUCT, version=version))
    durable.rename_entry(partial, place)


def _match_wheels_with_lock(
    wheels: Path, locked: Mapping[str, LockedRequirement]
) -> tuple[Path, tuple[Path, ...]]:
    """Return the agent's own wheel and the others, after comparing those with the lock file."""
    own, others, seen = [], [], set()
    for wheel in sorted(wheels.glob("*.whl")):
        try:
            name, version, _, _ = parse_wheel_filename(wheel.name)
        except InvalidWheelFilename as error:
            raise ValueError(f"not the name of a wheel: {wheel.name}") from error
        if name == AGENT_PRODUCT:
            own.append(wheel)
            continue
        pin = locked.get(name)
        if pin is None or str(version) != pin.version or hash_file(wheel) not in pin.digests:
            raise ValueError(f"{wheel.name} is not in the lock file")
        seen.add(name)
        others.append(wheel)
    missing = sorted(pin.name for pin in locked.values() if pin.is_needed and pin.name not in seen)
    if missing:
        raise ValueError(f"no wheel of {', '.join(missing)}")
    if len(own) != 1:
        raise ValueError(f"{len(own)} wheels of {AGENT_PRODUCT}, expected one")
    return own[0], tuple(others)


def _write(path: Path, text: str) -> None:
    durable.write_file(path, text.encode())
    path.chmod(0o644)


if __name__ == "__main__":
    target, wheel_directory, lock_file = map(Path, sys.argv[1:])
    make_agent_release(wheel_directory, lock_file, target)
