"""Tests of an application's reported version against its release: tables."""

from __future__ import annotations

import pytest

from ncen_updater.formats.errors import ManifestError
from ncen_updater.formats.manifest import parse_manifest
from ncen_updater.formats.reported_version import get_reported_version, matches_reported_version


@pytest.mark.parametrize(
    ("said", "reported", "same"),
    [
        ("3.3.1", "3.3.1", True),
        ("v3.3.1", "3.3.1", True),
        ("3.3.1.0", "3.3.1", True),
        (" 3.3.1\n", "3.3.1", True),
        ("3.3.1", "3.3.1+42", False),
        ("3.3.1+42", "3.3.1", False),
        ("3.3.1+43", "3.3.1+42", False),
        ("3.3.1.post1", "3.3.1", False),
        ("3.3.2", "3.3.1", False),
        ("spring", "spring", True),
        ("Spring", "spring", False),
        ("", "3.3.1", False),
        (3, "3", False),
        (True, "1", False),
        (None, "3.3.1", False),
        (["3.3.1"], "3.3.1", False),
    ],
)
def test_reported_version_is_compared(said: object, reported: str, same: bool) -> None:
    assert matches_reported_version(said, reported) is same


@pytest.mark.parametrize("nothing", [None, "", 7, ["3.3.1"]])
def test_unset_reported_version_is_the_release_version(nothing: object) -> None:
    assert get_reported_version("3.3.1", nothing) == "3.3.1"


def manifest(**more: object) -> dict[str, object]:
    return {"schema": 1, "product": "ncen", "version": "3.3.1+42", **more}


def test_manifest_has_a_reported_version() -> None:
    assert parse_manifest(manifest(), "x").reported == "3.3.1+42"
    assert parse_manifest(manifest(reports="3.3.1"), "x").reported == "3.3.1"


@pytest.mark.parametrize("wrong", ["", "3.3.1 ", "3 3", "x" * 101, "\u00e9", "a\nb"])
def test_invalid_reported_version_is_refused(wrong: str) -> None:
    with pytest.raises(ManifestError, match="reports"):
        parse_manifest(manifest(reports=wrong), "x")
