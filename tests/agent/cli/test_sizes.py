"""Sizes that people read are in units of their language."""

from __future__ import annotations

from ncen_updater.agent.answers import bundle_answer
from ncen_updater.agent.diagnostics.support_bundle.bundle import Bundle
from ncen_updater.agent.diagnostics.support_bundle.parts import BundlePart
from ncen_updater.common.i18n import Text


def test_the_parts_of_a_bundle_in_french() -> None:
    bundle = Bundle(parts=(BundlePart("site.json", "x" * 1500),), leaks=(), unread={})
    line = bundle_answer(bundle, (), None).words[0]
    assert isinstance(line, Text), "a size in a bare string has the unit of English"
    assert line.render("fr") == "  site.json: 1,5 ko"
