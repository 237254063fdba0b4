"""Tests of the support bundle after an upgrade, on both engines."""

from __future__ import annotations

import json

from packaging.version import Version

from demo.site import DemoSite
from ncen_updater.agent.engine.operations import Operations
from ncen_updater.agent.engine.site import Site
from ncen_updater.agent.reports.diagnostics.support_bundle.bundle import make_bundle
from ncen_updater.common.progress import SilentProgress
from tests.agent.reports.diagnostics.support_bundle.test_bundle import NOW, commands


def test_agent_data_in_the_databases_is_not_a_record(site: Site, demo: DemoSite) -> None:
    """Seen: the ledger's own change ids, found in changes.json, refused every bundle."""
    Operations(site, SilentProgress()).upgrade(Version("3.3.0"))
    bundle = make_bundle(demo.config_path, SilentProgress(), NOW, run=commands())
    changes = next(part.text for part in bundle.parts if part.name == "changes.json")
    assert [change["state"] for change in json.loads(changes or "")] == ["finished"]
    assert bundle.unread == {}
    assert bundle.leaks == ()
