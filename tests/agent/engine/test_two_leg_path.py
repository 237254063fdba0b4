"""Tests of a path of two changes, of which the second fails."""

from __future__ import annotations

from pathlib import Path

from demo.site import DemoSite, SiteOptions, version_of
from ncen_updater.agent.engine.operations import Operations
from ncen_updater.agent.model.change import StepName, StepPhase
from ncen_updater.common.messages import LATER_HOP_FAILED
from ncen_updater.common.progress import SilentProgress
from tests.support.errors import refused
from tests.support.sites import TrialFeed, connect, serve, site_in_process


def test_failed_second_leg_names_the_remaining_version(tmp_path: Path) -> None:
    feed = TrialFeed(tmp_path)
    feed.publish(("3.2.4", "3.3.10", "3.4.0"))
    seen: list[StepName] = []

    def strike(step: StepName, phase: StepPhase) -> None:
        if phase is StepPhase.BEFORE_EFFECT:
            seen.append(step)
            if seen.count(StepName.SWITCH) == 2 and step is StepName.SWITCH:
                raise RuntimeError("a fault")

    with serve(feed.directory) as url:
        options = SiteOptions(feed_urls=(url,), cases=20, icomm=False, soak_s=0.1)
        with DemoSite(tmp_path / "site", None, options) as demo:
            connect(demo, feed)
            demo.start_app()
            with refused(LATER_HOP_FAILED) as caught:
                Operations(site_in_process(demo), SilentProgress(), checkpoint=strike).upgrade()
            assert version_of(demo).whole == "3.3.10"
    said = str(caught.value)
    assert "(upgrade to 3.4.0, switching the release)" in said
    assert "vers 3.4.0, activation de la version)" in caught.value.title_text.render("fr")
    assert "3.3.10 stays installed" in said
    assert "a fault" in said
    assert caught.value.exit_code == 11
