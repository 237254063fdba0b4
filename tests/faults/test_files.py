"""Photographs: a release that moves them and is unhealthy, undone; and the rollback after it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from packaging.version import Version

from demo.site import DemoSite, SiteOptions, version_of
from ncen_updater.agent.engine.operations import Operations
from ncen_updater.agent.engine.prune import find_interrupted_drops, find_prunable, prune
from ncen_updater.agent.engine.site import Site
from ncen_updater.agent.model.change import StepName, StepPhase
from ncen_updater.agent.model.errors import ChangeFailedError
from ncen_updater.agent.model.event_names import JOURNAL_FILE
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.site_files.directory_index import get_snapshot_directory
from ncen_updater.common.messages import PREFLIGHT_BLOCKED
from ncen_updater.common.progress import SilentProgress
from tests.faults.full import prepared
from tests.faults.test_scenarios import Killed, kill, operations
from tests.faults.trial import NEW, OLD, BrokenPromiseError, Trial, more_pictures, pictures
from tests.support.errors import refused
from tests.support.sites import TrialFeed, connect, serve, site_in_process

MOVES, ONE_WAY = "3.3.11", "3.3.9"


@pytest.fixture(scope="module")
def laid_out(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[DemoSite, TrialFeed]]:
    directory = tmp_path_factory.mktemp("files")
    feed = TrialFeed(directory)
    feed.publish([OLD, MOVES])
    with serve(feed.directory) as url:
        options = SiteOptions(
            feed_urls=(url,), cases=20, icomm=False, soak_s=0.2, soak_interval_s=0.1,
            health_timeout_s=2.0,
        )  # fmt: skip
        with DemoSite(directory / "site", None, options) as demo:
            connect(demo, feed)
            more_pictures(demo.photos)
            demo.start_app()
            yield demo, feed


@pytest.fixture
def demo(laid_out: tuple[DemoSite, TrialFeed]) -> DemoSite:
    return laid_out[0]


@pytest.fixture
def site(demo: DemoSite) -> Site:
    return site_in_process(demo)


def events(site: Site, kind: str) -> list[dict[str, object]]:
    with Journal.open(site.state_directory / JOURNAL_FILE, read_only=True) as journal:
        return [dict(event.data) for event in journal.list_events() if event.kind == kind]


def test_moved_pictures_of_an_unhealthy_release_are_restored(demo: DemoSite, site: Site) -> None:
    before = pictures(demo.photos)
    assert len(list(demo.photos.glob("*.*"))) == 20
    with pytest.raises(ChangeFailedError, match="health"):
        Operations(site, SilentProgress()).upgrade(Version(MOVES), retry=True)
    assert version_of(demo).whole == OLD
    assert pictures(demo.photos) == before
    assert events(site, "files-restored")[-1]["restored"] == 20
    assert list(get_snapshot_directory(demo.photos).iterdir()) == []


def test_undeclared_pictures_are_lost_from_view(demo: DemoSite, site: Site) -> None:
    """What the guide says of a site without ``[[files]]`` is so; and the test above sees it."""
    before = pictures(demo.photos)
    bare = site.config.model_copy(update={"files": ()})
    unnamed = replace(site, config=bare)
    saved = demo.root / "saved-photos"
    shutil.copytree(demo.photos, saved)
    with pytest.raises(ChangeFailedError, match="health"):
        Operations(unnamed, SilentProgress()).upgrade(Version(MOVES), retry=True)
    assert list(demo.photos.glob("*.*")) == []
    shutil.rmtree(demo.photos)
    saved.rename(demo.photos)
    assert pictures(demo.photos).keys() == before.keys()


@pytest.mark.parametrize("how", ["a link", "a link above", "a place of others"])
def test_unpreservable_pictures_block_before_the_downtime(
    demo: DemoSite, site: Site, how: str
) -> None:
    linked = demo.photos if how == "a link" else demo.overlay
    real, place = linked.with_name("real"), get_snapshot_directory(demo.photos)
    if how == "a place of others":
        place.rmdir() if place.exists() else None
        place.mkdir(mode=0o755)
    else:
        linked.rename(real)
        linked.symlink_to(real)
    try:
        with refused(PREFLIGHT_BLOCKED) as caught:
            Operations(site, SilentProgress()).upgrade(Version(MOVES), retry=True)
    finally:
        if how == "a place of others":
            place.rmdir()
        else:
            linked.unlink()
            real.rename(linked)
    assert "NU-6328" in caught.value.values["findings"]  # type: ignore[operator]
    assert not demo.maintenance_file.exists()
    with Journal.open(site.state_directory / JOURNAL_FILE, read_only=True) as journal:
        assert journal.find_open_change() is None


# ---- a good release that moves them ------------------------------------------------------------


@pytest.fixture(scope="module")
def module_trial() -> Iterator[Trial]:
    with prepared("sqlite") as trial:
        yield trial


@pytest.fixture
def trial(module_trial: Trial) -> Trial:
    module_trial.reset()
    return module_trial


def top(directory: Path) -> set[str]:
    return {path.name for path in directory.glob("*.*")}


def test_rollback_restores_picture_paths_and_keeps_new_pictures(
    trial: Trial,
) -> None:
    photos = trial.demo.photos
    names = top(photos)
    operations(trial).upgrade()
    assert top(photos) == set()
    deleted = next(photos.rglob("*.*"))
    deleted.unlink()  # a user
    later = photos / "2019" / "later.jpg"
    later.parent.mkdir(exist_ok=True)
    later.write_bytes(b"entered since")
    operations(trial).rollback()
    assert top(photos) == names - {deleted.name}
    assert later.read_bytes() == b"entered since"
    given = events(site_in_process(trial.demo), "previous-paths-restored")
    assert (given[-1]["paths_restored"], given[-1]["paths_missing"]) == (19, 1)


def test_failed_rollback_reverts_the_restored_paths(trial: Trial) -> None:
    photos = trial.demo.photos
    operations(trial).upgrade()
    upgraded = pictures(photos)

    def look_and_fail() -> None:
        assert len(top(photos)) == 20
        raise RuntimeError("a fault")

    with pytest.raises(ChangeFailedError):
        operations(trial, {(StepName.HEALTH, StepPhase.BEFORE_EFFECT): look_and_fail}).rollback()
    assert trial.judge() == NEW
    assert pictures(photos) == upgraded


def test_unpreservable_directory_does_not_block_a_rollback(trial: Trial) -> None:
    photos = trial.demo.photos
    operations(trial).upgrade()
    real = photos.with_name("real-photos")
    photos.rename(real)
    photos.symlink_to(real)
    try:
        operations(trial).rollback()
        assert version_of(trial.demo).whole == OLD
        assert events(site_in_process(trial.demo), "files-not-saved")[-1]["name"] == "photographs"
    finally:
        photos.unlink()
        real.rename(photos)


def test_snapshot_is_pruned_with_the_previous_databases(trial: Trial) -> None:
    operations(trial).upgrade()
    place = get_snapshot_directory(trial.demo.photos)
    (change,) = place.iterdir()
    config = site_in_process(trial.demo).config
    keep = config.retention.model_copy(update={"previous_days": 0.0})
    site = site_in_process(trial.demo)
    site = replace(site, config=config.model_copy(update={"retention": keep}))
    with Journal.open(site.state_directory / JOURNAL_FILE) as journal:
        prune(site, journal, find_prunable(site, journal), SilentProgress())
        assert not change.exists()
        # A collection that was interrupted after it dropped the databases goes on.
        (change / "tree").mkdir(parents=True)
        assert find_interrupted_drops(site, journal) == {change.name}
        prune(site, journal, find_prunable(site, journal), SilentProgress())
        assert not change.exists()
        assert find_interrupted_drops(site, journal) == set()


def test_pictures_added_before_the_downtime_survive_a_revert(trial: Trial) -> None:
    new = trial.demo.photos / "between.jpg"
    saved: dict[str, object] = {}

    def add_picture() -> None:
        new.write_bytes(b"while the trees were made")
        os.utime(new, ns=(10**18, 10**18))
        saved.update(pictures(trial.demo.photos))

    instants = {
        (StepName.MAINTENANCE_ON, StepPhase.BEFORE_EFFECT): add_picture,
        (StepName.HEALTH, StepPhase.BEFORE_EFFECT): kill,
    }
    with pytest.raises(Killed):
        operations(trial, instants).upgrade()
    operations(trial).resume(by_operator=True)
    assert pictures(trial.demo.photos) == saved


def test_judge_detects_changed_pictures(trial: Trial) -> None:
    picture = next(trial.demo.photos.glob("*.*"))
    picture.rename(picture.with_name("elsewhere.jpg"))
    with pytest.raises(BrokenPromiseError, match="pictures"):
        trial.judge()


def test_judge_detects_leftover_snapshots(trial: Trial) -> None:
    (get_snapshot_directory(trial.demo.photos) / "of-nobody").mkdir(parents=True)
    with pytest.raises(BrokenPromiseError, match="kept pictures"):
        trial.judge()
