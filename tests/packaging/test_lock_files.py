"""Tests of the lock files: one resolution, so that packages contain the tested versions."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

LOCKS = Path(__file__).resolve().parents[2] / "locks"
PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^]]*\])?==([^ ;\\]+)", re.MULTILINE)


def test_no_package_has_two_versions() -> None:
    versions: defaultdict[str, set[str]] = defaultdict(set)
    for lock in LOCKS.glob("*.txt"):
        pins = PIN.findall(lock.read_text("utf-8"))
        assert pins, lock
        for name, version in pins:
            versions[name.lower()].add(version)
    assert {name: found for name, found in versions.items() if len(found) > 1} == {}
