"""Tests of the report of an import, with every value in its place."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ncen_updater.agent.reports.command_results import format_import
from ncen_updater.common.i18n import LazyText
from ncen_updater.feed.import_store import ImportRecord

AT = datetime(2026, 11, 30, tzinfo=UTC)


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize("language", ["en", "fr"])
def test_every_placeholder_of_an_import_line_is_filled(dry_run: bool, language: str) -> None:
    """Seen: "Run: ncen-updater plan {reaches}"."""
    record = ImportRecord(AT, AT, 3, "ncen", ("3.3.0",), "3.3.0", "ke.bundle", ("0.2.0",), "0.2.0")
    lines = [
        line.render(language) if isinstance(line, LazyText) else line
        for line in format_import(record, dry_run=dry_run).lines
    ]
    assert not any("{" in line for line in lines), lines
    assert any("3.3.0" in line for line in lines)
