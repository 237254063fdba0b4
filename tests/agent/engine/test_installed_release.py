"""Tests of determining the installed release: pure, one row for each case."""

from __future__ import annotations

import dataclasses

import pytest
from packaging.version import Version

from ncen_updater.agent.engine.installed_release import (
    InstalledRelease,
    ReportedVersion,
    SchemaProbe,
    find_mismatch,
)
from ncen_updater.common.i18n import LazyText
from ncen_updater.common.messages import (
    ADOPT_DATABASE_MISMATCH,
    ADOPT_VERSION_MISMATCH,
    APPLICATION_UNWELL,
    VERSION_NOT_REPORTED,
)

URL = "http://127.0.0.1:1/health"
SILENT = ReportedVersion("", URL, LazyText("no response"))
HOLDS = SchemaProbe("main", "0002_country", executable=True)
UNFIT = dataclasses.replace(HOLDS, executable=False, detail="no such column: country")
ROWS = dataclasses.replace(HOLDS, rows=3)
OTHER, DATABASES, UNTOLD = ADOPT_VERSION_MISMATCH, ADOPT_DATABASE_MISMATCH, VERSION_NOT_REPORTED


def older(item: SchemaProbe) -> SchemaProbe:
    """One of a migration that a later one may have outgrown."""
    return dataclasses.replace(item, is_newest_migration=False)


def reported(version: str) -> ReportedVersion:
    return ReportedVersion(version, URL)


#: It tells its release, and users cannot work.
UNWELL = ReportedVersion("1.1.0", URL, LazyText("HTTP status 503"), '{"problems": ["x"]}')


@pytest.mark.parametrize(
    ("said", "asked", "confirmed", "code"),
    [
        (reported("1.1.0"), (HOLDS,), False, None),
        (reported("1.1"), (HOLDS,), False, None),
        (reported("v1.1.0"), (), False, None),
        (reported("1.0.0"), (HOLDS,), False, OTHER),
        (reported("1.0.0"), (HOLDS,), True, OTHER),
        (reported("latest"), (), True, OTHER),
        (reported("1.1.0"), (UNFIT,), False, DATABASES),
        (reported("1.1.0"), (UNFIT,), True, DATABASES),
        (reported("1.1.0"), (ROWS,), False, None),
        (reported("1.1.0"), (older(UNFIT), HOLDS), False, None),
        (reported("1.1.0"), (older(HOLDS), UNFIT), False, DATABASES),
        (UNWELL, (HOLDS,), False, APPLICATION_UNWELL),
        (UNWELL, (HOLDS,), True, None),
        (SILENT, (HOLDS,), False, UNTOLD),
        (SILENT, (), False, UNTOLD),
        (SILENT, (HOLDS,), True, None),
        (SILENT, (), True, None),
        (SILENT, (older(ROWS), HOLDS), True, None),
        (SILENT, (ROWS,), True, DATABASES),
        (SILENT, (UNFIT,), True, DATABASES),
        (SILENT, (UNFIT,), False, DATABASES),
    ],
)
def test_reported_version_is_compared(
    said: ReportedVersion, asked: tuple[SchemaProbe, ...], confirmed: bool, code: object
) -> None:  # fmt: skip
    error = find_mismatch(InstalledRelease(said, asked), Version("1.1.0"), confirmed=confirmed)
    assert (error and error.message) == code


@pytest.mark.parametrize(
    ("said", "version", "code"),
    [("1.1.0", "1.1.0+42", None), ("1.1.0", "1.1.0.post1", None), ("1.1.0+42", "1.1.0+42", OTHER)],
)
def test_unreported_build_number_needs_confirmation(said: str, version: str, code: object) -> None:
    seen = InstalledRelease(reported(said), (HOLDS,), reported="1.1.0")
    error = find_mismatch(seen, Version(version), confirmed=False)
    assert (error and error.message) == code
    told = [str(line) for line in seen.format_lines(Version(version))]
    silent = f"{version} reports the same version; the build is unknown."
    assert (silent in told) is (code is None)


@pytest.mark.parametrize("said", [reported("1.1.0"), SILENT])
def test_ledger_of_another_release_prevails(said: ReportedVersion) -> None:
    seen = InstalledRelease(said, (HOLDS,), ("main", LazyText("0003_x is applied")))
    error = find_mismatch(seen, Version("1.1.0"), confirmed=True)
    assert error is not None and error.message is DATABASES
    assert "0003_x is applied" in str(error)


def test_installed_release_is_described() -> None:
    def lines(seen: InstalledRelease) -> list[str]:
        return [str(line) for line in seen.format_lines(Version("1.1.0"))]

    assert lines(InstalledRelease(reported("1.1.0"), (HOLDS,) * 3)) == [
        "Version reported by the application: 1.1.0",
        "Database checks of 1.1.0 passed: 3 of 3",
    ]
    assert lines(InstalledRelease(SILENT, (HOLDS, UNFIT, ROWS)))[1:] == [
        "Database checks of 1.1.0 passed: 1 of 3",
        "Check '0002_country' of main failed: query failed: no such column: country",
        "Check '0002_country' of main failed: contradicting rows: 3",
    ]
    assert lines(InstalledRelease(reported("1.1.0")))[1:] == [
        "1.1.0 declares no checks of its databases."
    ]
