"""Tests that the status of a site and of a bundle is in the language of the run."""

from __future__ import annotations

import dataclasses

from ncen_updater.agent.cli.state_text import format_site_state
from ncen_updater.agent.model.errors import JournalPermissionError
from ncen_updater.agent.reports.command_results import format_support_bundle
from ncen_updater.agent.reports.diagnostics.support_bundle.bundle import SupportBundle
from ncen_updater.agent.reports.diagnostics.support_bundle.contents import OMITTED
from ncen_updater.agent.reports.diagnostics.support_bundle.leaks import BundlePart
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import LazyText
from ncen_updater.common.messages import DATABASE_UNREACHABLE
from tests.agent.cli.test_rendering import SITE


def test_bundle_parts_are_in_french() -> None:
    bundle = SupportBundle(parts=(BundlePart("site.json", "x" * 1500),), leaks=(), unread={})
    line = format_support_bundle(bundle, (), None).lines[0]
    assert isinstance(line, LazyText), "a size in a bare string has the unit of English"
    assert line.render("fr") == "  site.json : 1,5 ko"


def test_omitted_bundle_parts_are_reported_in_french() -> None:
    bundle = SupportBundle(
        parts=(BundlePart("log.txt", None, OMITTED),), leaks=(), unread={"cases": "too large"}
    )
    lines = [
        line.render("fr") if isinstance(line, LazyText) else line
        for line in format_support_bundle(bundle, (), None).lines
    ]
    assert "omis à la demande" in lines[0] and "trop volumineux" in lines[1]


def test_unreadable_journal_is_reported_in_french() -> None:
    said = format_site_state(
        dataclasses.replace(SITE, journal=JournalPermissionError(path="/x")), None
    )
    assert "Pour les changements en cours, exécutez : ncen-updater status" in [
        text.render("fr") for text in said
    ]


def test_unavailable_facts_are_reported_in_french() -> None:
    error = UpdaterError(DATABASE_UNREACHABLE, database="main", detail="Connection refused")
    said = format_site_state(dataclasses.replace(SITE, observed_state=error), None)[-1].render("fr")
    assert "NU-4002" in said and "Connexion impossible" in said
