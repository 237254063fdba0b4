"""Releases beside the path that a person may name: ``check`` tells of them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from packaging.version import Version

from ncen_updater.agent.answers import other_releases


def offer(version: str) -> Any:
    return SimpleNamespace(version=version, release_version=Version(version))


@pytest.mark.parametrize(
    ("hops", "rejected", "others"),
    [
        (["3.4.0"], [], ("3.3.0", "3.10.0")),
        (["3.3.0", "3.4.0"], ["3.10.0"], ()),
        ([], ["3.3.0", "3.4.0", "3.10.0"], ()),
    ],
)
def test_what_else_can_be_named(
    hops: list[str], rejected: list[str], others: tuple[str, ...]
) -> None:
    offers = [offer(version) for version in ("3.2.0", "3.2.4", "3.10.0", "3.3.0", "3.4.0")]
    path: Any = SimpleNamespace(
        hops=[offer(version) for version in hops],
        rejected=[SimpleNamespace(offer=offer(version)) for version in rejected],
    )
    assert other_releases(path, offers, Version("3.2.4")) == others
    assert other_releases(path, offers, None) == ()
