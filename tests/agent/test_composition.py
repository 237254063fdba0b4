"""Tests of the settings that the parts of a site receive."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from demo.site import DemoSite
from ncen_updater.agent.config.loader import load_config
from ncen_updater.agent.engine.site_factory import build_site
from ncen_updater.agent.model.change import Change, ChangeKind, ChangeState, DatabaseMode
from ncen_updater.agent.model.event_names import JOURNAL_FILE
from ncen_updater.agent.storage.journal.journal import Journal


@pytest.mark.parametrize("kind", ChangeKind)
def test_maintenance_page_names_the_change(tmp_path: Path, kind: ChangeKind) -> None:
    change = Change(
        id="abcdefgh",
        kind=kind,
        mode=DatabaseMode.MIGRATE,
        state=ChangeState.RUNNING,
        product="ncen",
        from_version="3.2.4",
        to_version="3.3.0",
        generation=1,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    with DemoSite(tmp_path) as demo:
        site = build_site(load_config(demo.config_path), demo.config_path)
        with Journal.create(demo.state / JOURNAL_FILE) as journal:
            journal.begin_change(change)
            site.application.enable_maintenance()
        note = json.loads(demo.maintenance_file.read_bytes())
    assert (note["change"], note["version"]) == ("abcdefgh", "3.3.0")
    assert ("earlier" in note["reason"]) == (kind is ChangeKind.ROLLBACK)
