"""Tests of an import killed before each disk change: old or new metadata, complete."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from ncen_updater.common.messages import METADATA_LOCKED
from ncen_updater.feed import import_store
from ncen_updater.feed.import_store import lock_metadata, read_import_record
from tests.formats.bundle.conftest import OfflineSite, Publication
from tests.support.errors import refused
from tests.support.kill_points import changes_of, instants, killed_at
from tests.support.rotation import in_turns


@pytest.fixture
def bundles(publication: Publication, tmp_path: Path) -> tuple[Path, Path]:
    """An older and a newer one."""
    older = publication.export(tmp_path / "older.ncen").file
    publication.at += timedelta(days=1)
    publication.publish("3.5.0")
    return older, publication.export(tmp_path / "newer.ncen").file


@in_turns("share")
@pytest.mark.parametrize("share", range(3))
def test_kill_before_each_disk_change_leaves_old_or_new_metadata(
    bundles: tuple[Path, Path],
    publication: Publication,
    site: OfflineSite,
    tmp_path: Path,
    share: int,
) -> None:
    older, newer = bundles
    begun = replace(site, state=tmp_path / "begun", root=publication.root, at=publication.at)
    begun.take(older)
    whole = replace(begun, state=tmp_path / "whole")
    shutil.copytree(begun.state, whole.state)
    whole.take(newer)
    counted = replace(begun, state=tmp_path / "counted")
    shutil.copytree(begun.state, counted.state)
    last = changes_of(lambda: counted.take(newer))
    seen = set()
    # Up to the rename only a copy is worked on; what follows is tried change by change.
    for number in instants(last, close=60, stride=4)[share::3]:
        trial = replace(begun, state=tmp_path / f"trial-{number}")
        shutil.copytree(begun.state, trial.state)
        assert killed_at(number, lambda trial=trial: trial.take(newer))  # type: ignore[misc]
        versions = [offer.version for offer in trial.refresh().offers]
        record = read_import_record(trial.state)
        assert record is not None
        assert versions[-1] == record.reachable_release, f"killed at {number}"
        source = trial.source()
        for offer in trial.refresh().offers:
            if offer.version in record.releases:
                assert source.find_downloaded_release(offer) is not None, (
                    f"killed at {number}: {offer.version}"
                )
        assert not list(trial.state.glob("import.*")), f"killed at {number}"
        seen.add(versions[-1])
        trial.take(newer)
        assert trial.contents() == whole.contents(), f"killed at {number}"
        shutil.rmtree(trial.state)
    assert seen == {"3.4.0", "3.5.0"}


def test_feed_check_does_not_wait_for_an_import(
    bundle: Path, site: OfflineSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_store, "LOCK_WAIT_S", 0.0)
    site.take(bundle)
    with lock_metadata(site.state, exclusive=True), refused(METADATA_LOCKED):
        site.refresh()
    with lock_metadata(site.state, exclusive=False):
        site.refresh()
        with refused(METADATA_LOCKED):
            site.take(bundle)


def test_import_waits_for_a_feed_check(
    bundle: Path, site: OfflineSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen: NU-2321 where the service looked at the feed in that moment."""
    with ExitStack() as reader:
        reader.enter_context(lock_metadata(site.state, exclusive=False))
        monkeypatch.setattr(import_store, "sleep", lambda _: reader.close())
        assert site.take(bundle).releases
