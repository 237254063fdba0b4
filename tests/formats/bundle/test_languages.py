"""Signed languages on a medium and in a national mirror."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from packaging.version import Version

from demo.release_flow import publish_language, publish_release
from ncen_updater.common.messages import LANGUAGE_NOT_SIGNED, LANGUAGE_WITHDRAWN
from ncen_updater.common.progress import Silent
from ncen_updater.feed.errors import NotProved, TargetMissing, TrustError
from ncen_updater.feed.offers import load_view
from ncen_updater.feed.proved import ProvedMemory
from ncen_updater.feed.tuf_source import TufReleaseSource
from ncen_updater.formats.bundle.errors import BundleAltered, NotImported
from ncen_updater.formats.document import Withdrawal
from ncen_updater.formats.language import LanguageOffer
from ncen_updater.publisher.build.languages import Sent
from ncen_updater.publisher.distribute.export_choice import ExportOrder
from ncen_updater.publisher.feed.feed import Feed
from ncen_updater.publisher.new.trial import publish_draft
from ncen_updater.publisher.signing.language_drafts import draft_language_withdrawal
from tests.formats.bundle.conftest import OfflineSite, Publication
from tests.formats.bundle.test_mirror import Home
from tests.publisher.test_lint_carried import carrying
from tests.support.errors import refused


@pytest.fixture
def spoken(publication: Publication) -> Publication:
    """A feed whose newest release has two languages, made after it."""
    release = carrying(publication.sources / "spoken", "3.5.0")
    publish_release(publication.directory, [release], publication.keys, publication.clock)
    for language in ("sr", "sw"):
        path = publication.sources / f"{language}.json"
        path.write_text(json.dumps({"title": f"{language} title"}), "utf-8")
        publish_language(
            publication.directory, "ncen", "3.5.0", language, [Sent(path)], publication.keys,
            publication.clock,
        )  # fmt: skip
    return publication


def withdrawn(publication: Publication) -> None:
    gone = Withdrawal(reason="wrong terms", advice="drop it")
    state = Feed(publication.directory).state()
    draft = draft_language_withdrawal(state, "ncen", "3.5.0", "sr", gone, publication.clock())
    publish_draft(publication.directory, draft, publication.keys, publication.clock)


def offer_of(site: OfflineSite, language: str) -> LanguageOffer:
    view = site.refresh()
    return next(o for o in view.languages if o.language == language)


def test_a_bundle_brings_a_language_and_no_release(
    spoken: Publication, tmp_path: Path, order: Callable[..., ExportOrder]
) -> None:
    site = OfflineSite(tmp_path / "state", spoken.root, current="3.5.0")
    output = tmp_path / "sr.ncen"
    done = spoken.export(output, order(origin=Version("3.5.0"), languages=("sr",)))
    assert (done.releases, done.languages) == ({}, ("languages/ncen/3.5.0.sr.1.json",))
    record = site.take(output)
    assert (record.releases, record.languages) == ((), ("3.5.0 sr (1)",))
    document = site.source().fetch_language(offer_of(site, "sr"), Silent())
    assert document.files[0].texts[0].text == ("sr title",)
    with refused(NotImported):  # it is in the list, and was not on the medium
        site.source().fetch_language(offer_of(site, "sw"), Silent())
    # What was changed since is not believed.
    place = site.state / "downloads/ncen/3.5.0/language.sr.1.json"
    place.write_bytes(place.read_bytes().replace(b"title", b"other"))
    with refused(NotImported):
        site.source().fetch_language(offer_of(site, "sr"), Silent())


def test_a_bundle_with_releases_brings_their_languages_where_it_is_asked_for(
    spoken: Publication, tmp_path: Path, order: Callable[..., ExportOrder]
) -> None:
    site = OfflineSite(tmp_path / "state", spoken.root)
    spoken.export(tmp_path / "all.ncen", order(languages=("sw", "sr")))
    record = site.take(tmp_path / "all.ncen")
    assert record.reaches == "3.5.0"
    assert record.languages == ("3.5.0 sr (1)", "3.5.0 sw (1)")
    assert spoken.export(tmp_path / "plain.ncen").languages == ()
    with refused(LANGUAGE_NOT_SIGNED, match="'pt_BR'"):
        spoken.export(tmp_path / "none.ncen", order(languages=("pt_BR",)))


def test_a_bundle_that_was_bent_brings_nothing(
    spoken: Publication, tmp_path: Path, order: Callable[..., ExportOrder]
) -> None:
    site = OfflineSite(tmp_path / "state", spoken.root, current="3.5.0")
    spoken.export(tmp_path / "sr.ncen", order(origin=Version("3.5.0"), languages=("sr",)))
    content = (tmp_path / "sr.ncen").read_bytes()
    (tmp_path / "bent.ncen").write_bytes(content.replace(b"sr title", b"sr other"))
    with refused(BundleAltered):
        site.take(tmp_path / "bent.ncen")
    assert not (site.state / "downloads").exists()


def test_a_language_that_was_taken_back_is_not_fetched(
    spoken: Publication, tmp_path: Path, order: Callable[..., ExportOrder]
) -> None:
    site = OfflineSite(tmp_path / "state", spoken.root, current="3.5.0")
    before = order(origin=Version("3.5.0"), languages=("sr",))
    spoken.export(tmp_path / "before.ncen", before)
    site.take(tmp_path / "before.ncen")
    held = offer_of(site, "sr")
    withdrawn(spoken)
    spoken.export(tmp_path / "after.ncen", order(origin=Version("3.5.0"), languages=("sw",)))
    assert site.take(tmp_path / "after.ncen").languages == ("3.5.0 sw (1)",)
    with refused(LANGUAGE_WITHDRAWN, match="wrong terms"):
        site.source().fetch_language(held, Silent())
    with refused(LANGUAGE_NOT_SIGNED):
        spoken.export(tmp_path / "again.ncen", before)


def test_the_kept_list_tells_its_languages(
    spoken: Publication, tmp_path: Path, order: Callable[..., ExportOrder]
) -> None:
    site = OfflineSite(tmp_path / "state", spoken.root, current="3.5.0")
    spoken.export(tmp_path / "sr.ncen", order(origin=Version("3.5.0"), languages=("sr",)))
    site.take(tmp_path / "sr.ncen")
    path = site.state / "feed/ncen.json"
    view = load_view(path)
    assert view is not None
    assert [o.language for o in view.languages] == ["sr", "sw"]
    data = json.loads(path.read_bytes())
    del data["languages"]  # as an agent of before wrote it
    path.write_text(json.dumps(data))
    view = load_view(path)
    assert view is not None
    assert view.languages == ()
    path.write_text(json.dumps({**data, "languages": 3}))
    with pytest.raises(TrustError):
        load_view(path)


def test_a_mirror_holds_the_languages_of_its_releases(spoken: Publication, tmp_path: Path) -> None:
    withdrawn(spoken)
    home = Home(tmp_path, spoken)
    home.from_feed()
    there = {
        path.name.partition(".")[2] for path in (home.served / "targets/languages/ncen").iterdir()
    }
    assert there == {"3.5.0.sw.1.json"}


def test_what_no_list_names_is_not_fetched(spoken: Publication, tmp_path: Path) -> None:
    site = OfflineSite(tmp_path / "state", spoken.root, current="3.5.0")
    spoken.export(tmp_path / "x.ncen")
    site.take(tmp_path / "x.ncen")
    offer = offer_of(site, "sr").model_copy(update={"revision": 2})
    with refused(TargetMissing):
        site.source().fetch_language(offer, Silent())


def test_what_the_reader_left_is_proved_by_who_uses_it(
    spoken: Publication, tmp_path: Path, order: Callable[..., ExportOrder]
) -> None:
    """From the installed root on; the process that read the medium is not believed."""
    site = OfflineSite(tmp_path / "state", spoken.root, current="3.5.0")
    spoken.export(tmp_path / "sr.ncen", order(origin=Version("3.5.0"), languages=("sr",)))
    site.take(tmp_path / "sr.ncen")
    offer = offer_of(site, "sr")
    (tmp_path / "own").mkdir()
    proving = TufReleaseSource(
        "ncen", state=site.state, trusted_root=site.root, make_fetcher=pytest.fail, now=site.now,
        offline=True, grace=site.grace, memory=ProvedMemory(tmp_path / "own"),
    )  # fmt: skip
    found = proving.fetched_language(offer)
    assert found is not None
    assert found.offer() == offer
    for other in ({"revision": 2}, {"translated": 3}, {"version": "3.4.0"}):
        with refused(NotProved):
            proving.fetched_language(offer.model_copy(update=other))
    with refused(NotProved):
        gone = Withdrawal(reason="wrong terms")
        proving.fetched_language(offer.model_copy(update={"withdrawn": gone}))
    place = site.state / "downloads/ncen/3.5.0/language.sr.1.json"
    content = place.read_bytes()
    for bent in (content.replace(b"sr title", b"sr other"), content + b" ", content[:-1]):
        place.write_bytes(bent)
        assert proving.fetched_language(offer) is None
    place.unlink()
    assert proving.fetched_language(offer) is None
    place.mkdir()
    assert proving.fetched_language(offer) is None
