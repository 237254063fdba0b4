"""A bundle at a site without a network: from the import to the releases ready on the disk."""

from __future__ import annotations

import zipfile
from pathlib import Path

from ncen_updater.progress import Silent
from tests.bundle.conftest import OfflineSite, Publication


def test_a_bundle_brings_the_path_and_needs_no_network(bundle: Path, site: OfflineSite) -> None:
    record = site.take(bundle)
    assert record.releases == ("3.3.0", "3.4.0")
    assert record.reaches == "3.4.0"
    view = site.refresh()
    assert [offer.version for offer in view.offers] == ["3.2.0", "3.3.0", "3.4.0"]
    source = site.source()
    for offer in view.offers[1:]:
        assert source.fetch(offer, Silent()).archive.is_file()
    assert not list(site.state.glob("import.*"))


def test_any_unzip_program_opens_it(bundle: Path) -> None:
    with zipfile.ZipFile(bundle) as archive:
        assert archive.testzip() is None
        assert "index.json" in archive.namelist()


def test_the_same_feed_gives_the_same_bytes(
    bundle: Path, shared: Publication, tmp_path: Path
) -> None:
    shared.export(tmp_path / "again.ncen")
    assert (tmp_path / "again.ncen").read_bytes() == bundle.read_bytes()
