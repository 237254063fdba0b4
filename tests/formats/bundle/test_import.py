"""Tests of a bundle at an offline site: from the import to downloaded releases."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from packaging.version import Version

from ncen_updater.common.messages import (
    BUNDLE_DOES_NOT_FIT,
    FEED_UNREACHABLE,
    NOTHING_IMPORTED,
    OLD_FILE_ALTERED,
    PACK_UNUSABLE,
)
from ncen_updater.common.progress import SilentProgress
from ncen_updater.feed.errors import NotImportedError, UnverifiedDownloadError
from ncen_updater.feed.offers import DownloadedPack
from ncen_updater.feed.trust_state import TrustStateStore
from ncen_updater.feed.tuf_source import TufReleaseSource
from ncen_updater.formats.delta.pack_plan import DeltaError
from ncen_updater.publisher.distribute.bundle_export import ExportRequest
from ncen_updater.publisher.feed.feed_directory import FeedDirectory
from ncen_updater.publisher.new.trial import publish_draft
from ncen_updater.publisher.signing.draft import draft_renewal
from tests.formats.bundle.conftest import OfflineSite, Publication
from tests.support.errors import refused
from tests.support.http_server import serving

NOBODY = "http://127.0.0.1:9/"


def test_bundle_contains_the_path_and_needs_no_network(bundle: Path, site: OfflineSite) -> None:
    record = site.take(bundle)
    assert record.releases == ("3.3.0", "3.4.0")
    assert record.reachable_release == "3.4.0"
    view = site.refresh()
    assert [offer.version for offer in view.offers] == ["3.2.0", "3.3.0", "3.4.0"]
    source = site.source()
    for offer in view.offers[1:]:
        assert source.download_release(offer, SilentProgress()).archive.is_file()
    assert not list(site.state.glob("import.*"))


@pytest.mark.parametrize("content", [None, b"", b"{}"], ids=["missing", "empty", "damaged"])
def test_lost_root_is_rebuilt_from_the_stored_chain(
    publication: Publication, site: OfflineSite, tmp_path: Path, content: bytes | None
) -> None:
    for _ in range(2):
        draft = draft_renewal(
            FeedDirectory(publication.directory).read_state(), ["root"], publication.at
        )
        publish_draft(publication.directory, draft, publication.keys, publication.clock)
    publication.export(tmp_path / "new.ncen")
    site.root = publication.root
    site.take(tmp_path / "new.ncen")
    root = site.state / "metadata/root.json"
    newest = root.read_bytes()
    if content is None:
        root.unlink()
    else:
        root.write_bytes(content)
    assert site.refresh().offers
    assert root.read_bytes() == newest


def test_bundle_is_an_ordinary_zip_file(bundle: Path) -> None:
    with zipfile.ZipFile(bundle) as archive:
        assert archive.testzip() is None
        assert "index.json" in archive.namelist()


def test_export_is_reproducible(bundle: Path, shared: Publication, tmp_path: Path) -> None:
    shared.export(tmp_path / "again.ncen")
    assert (tmp_path / "again.ncen").read_bytes() == bundle.read_bytes()


def test_leftovers_of_a_killed_export_are_removed(shared: Publication, tmp_path: Path) -> None:
    """Gigabytes each time, under hidden names; files of other users stay."""
    for name in (".ke.ncen.partial-a1b2c3", ".ke-of-mine"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "ke.ncen").write_bytes(b"half")
    shared.export(tmp_path / "ke.ncen")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".ke-of-mine", "ke.ncen"]


def test_delta_pack_from_the_installed_release_is_used(
    publication: Publication, site: OfflineSite, order: Callable[..., ExportRequest], tmp_path: Path
) -> None:
    publication.publish("3.5.0", data_of="3.4.0", packs=True)
    late = order(origin=Version("3.4.0"))
    small = publication.export(tmp_path / "small.ncen", late)
    large = publication.export(tmp_path / "large.ncen", replace(late, archives=True))
    assert (small.releases, large.releases) == ({"3.5.0": "delta"}, {"3.5.0": "archive"})
    assert small.bytes < large.bytes - 15_000
    ours = replace(site, root=publication.root, current="3.4.0")
    assert ours.take(small.file).reachable_release == "3.5.0"
    source, offer = ours.source(), ours.refresh().offers[-1]
    document = json.loads((ours.state / "downloads/ncen/3.5.0/release.json").read_bytes())
    tree = next(r["from_tree"] for r in document["deltas"] if r["from_version"] == "3.4.0")
    pack = source.find_smallest_download(offer, [tree])
    assert isinstance(pack, DownloadedPack)
    other = replace(ours, state=tmp_path / "other", current="3.3.0")
    with refused(BUNDLE_DOES_NOT_FIT):
        other.take(small.file)
    assert other.take(large.file).reachable_release == "3.5.0"
    # The reason for needing the archive is reported.
    with pytest.raises(NotImportedError, match=r"3\.5\.0"):
        source.download_release(offer, SilentProgress())
    # A pack that failed, because a file of the slot was altered: told, and forgiven with the next
    # import, or the medium would be worth nothing once the file was put right.
    source.mark_pack_bad(offer, pack.ref, DeltaError(OLD_FILE_ALTERED, path="lib/cases.py"))
    for _ in range(2):
        with refused(PACK_UNUSABLE, match="NU-3157"):
            ours.source().download_smallest(offer, [tree], SilentProgress())
    ours.take(small.file)
    assert isinstance(
        ours.source().download_smallest(offer, [tree], SilentProgress()), DownloadedPack
    )


def test_unreachable_feed_keeps_the_imported_metadata(bundle: Path, site: OfflineSite) -> None:
    cut_off = replace(site, urls=(NOBODY,))
    with refused(FEED_UNREACHABLE):
        cut_off.refresh()
    cut_off.take(bundle)
    view = replace(cut_off, at=site.at + timedelta(days=30)).refresh()
    assert view.offers[-1].version == "3.4.0"
    assert view.checked_at == site.at  # it is no fresher than the import


def test_newer_downloaded_metadata_ends_the_grace_of_imported_metadata(
    publication: Publication, site: OfflineSite, tmp_path: Path
) -> None:
    bundle = publication.export(tmp_path / "ke.ncen").file
    ours = replace(site, root=publication.root, urls=(NOBODY,))
    ours.take(bundle)
    publication.at += timedelta(days=1)
    publication.publish("3.5.0")
    with serving(publication.directory) as server:
        online = replace(ours, urls=(server.url,), at=publication.at)
        assert online.refresh().offers[-1].version == "3.5.0"
    with refused(FEED_UNREACHABLE):
        replace(ours, at=publication.at).refresh()


def test_site_without_feed_and_import_has_no_metadata(site: OfflineSite) -> None:
    with refused(NOTHING_IMPORTED):
        site.refresh()


def test_import_before_adoption_keeps_everything(
    shared: Publication, site: OfflineSite, order: Callable[..., ExportRequest], tmp_path: Path
) -> None:
    shared.export(tmp_path / "whole.ncen", order(with_origin=True))
    new = replace(site, current=None)
    record = new.take(tmp_path / "whole.ncen")
    assert record.releases == ("3.2.0", "3.3.0", "3.4.0")
    assert record.reachable_release is None
    assert (
        new.source().download_release(new.refresh().offers[0], SilentProgress()).archive.is_file()
    )


def test_imported_metadata_is_verified_from_the_installed_root(
    publication: Publication, site: OfflineSite, tmp_path: Path
) -> None:
    """Who uses an imported release begins at the installed root, as with one that was fetched."""
    for number in range(2):
        state = FeedDirectory(publication.directory).read_state()
        draft = draft_renewal(state, ["root"], publication.at)
        publish_draft(publication.directory, draft, publication.keys, publication.clock)
        ours = replace(site, root=publication.root, at=publication.at)
        ours.take(publication.export(tmp_path / f"{number}.ncen").file)
        kept = sorted(path.name for path in (site.state / "metadata/root_history").iterdir())
        assert kept == [f"{later}.root.json" for later in range(2, number + 3)]
    user = TufReleaseSource(
        "ncen",
        state=site.state,
        trusted_root=publication.root,
        make_fetcher=ours.source,  # type: ignore[arg-type]  # never called
        trust_state=TrustStateStore(tmp_path / "memory"),
    )
    view = user.load_last_view()
    assert view is not None
    assert user.find_downloaded_release(view.offers[-1]) is not None
    (site.state / "metadata/root_history/2.root.json").write_bytes(b"{}")
    assert user.find_downloaded_release(view.offers[-1]) is not None, (
        "the keys of the first root sign still"
    )
    (site.state / "metadata/ncen.json").write_bytes(b"{}")
    with pytest.raises(UnverifiedDownloadError):
        user.find_downloaded_release(view.offers[-1])
