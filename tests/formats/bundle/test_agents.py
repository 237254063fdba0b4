"""Tests of agents in bundles, for sites without a network."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from packaging.version import Version

from demo.release_flow import publish_release
from ncen_updater.common.messages import (
    BUNDLE_ALTERED,
    BUNDLE_INCOMPLETE,
    BUNDLE_NOT_SIGNED,
    NOTHING_IMPORTED,
    NOTHING_TO_EXPORT,
    ErrorMessage,
)
from ncen_updater.common.progress import SilentProgress
from ncen_updater.feed.import_store import read_import_record
from ncen_updater.publisher.distribute.bundle_export import ExportRequest
from tests.formats.bundle.conftest import ORDER, OfflineSite, Publication, make_publication
from tests.formats.bundle.forging import edited, members, well_formed
from tests.publisher.releases import write_release
from tests.support.errors import refused

AGENT = "ncen-updater"


def publish(
    publication: Publication, version: str, product: str, *more: str, packs: bool = False
) -> None:
    """Publish a release with other lines at the head of its manifest."""
    place = write_release(publication.sources / f"{product}-{version}", version, product)
    text = (place / "manifest.toml").read_text()
    head = "\n".join(more)
    if "upgrade_from" in head:
        text = text.replace('upgrade_from = ">=3.2"\n', "")
    (place / "manifest.toml").write_text(text.replace("[notes.en]", f"{head}\n[notes.en]", 1))
    if packs:  # worth one
        (place / "data").write_bytes(random.Random(product).randbytes(20_000))
    publish_release(
        publication.directory, [place], publication.keys, publication.clock, packs=packs
    )


@pytest.fixture(scope="module")
def stocked(tmp_path_factory: pytest.TempPathFactory) -> Publication:
    """A feed with agents, and a release that needs the newest of them."""
    made = make_publication(tmp_path_factory.mktemp("stocked"))
    for version in ("0.2.0", "0.3.0"):
        publish(made, version, AGENT, 'upgrade_from = ">=0.1"')
    publish(made, "3.5.0", "ncen", 'agent = ">=0.3"')
    return made


@pytest.fixture
def ours(stocked: Publication, site: OfflineSite) -> OfflineSite:
    return replace(site, root=stocked.root)


@pytest.fixture(scope="module")
def both(stocked: Publication, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("both") / "ke.ncen"
    done = stocked.export(output, replace(ORDER, with_agent=True))
    assert done.agents == ("0.3.0",)
    return output


def agents_of(site: OfflineSite) -> OfflineSite:
    """The same disk, for the agent's own releases."""
    return replace(site, product=AGENT)


def test_one_medium_contains_the_release_and_its_required_agent(
    both: Path, ours: OfflineSite
) -> None:
    record = ours.take(both)
    assert record.releases == ("3.3.0", "3.5.0")
    assert (record.agents, record.reachable_agent) == (("0.3.0",), "0.3.0")
    assert record.reachable_release == "3.5.0"  # with the agent that came along
    view = agents_of(ours).refresh()
    assert [offer.version for offer in view.offers] == ["0.2.0", "0.3.0"]
    source = agents_of(ours).source()
    assert source.download_release(view.offers[1], SilentProgress()).archive.is_file()
    assert source.find_downloaded_release(view.offers[0]) is None
    assert read_import_record(ours.state) == record


def test_release_is_not_exported_without_its_required_agent(
    stocked: Publication, order: Callable[..., ExportRequest], tmp_path: Path
) -> None:
    done = stocked.export(tmp_path / "old.ncen", order())
    assert done.releases.keys() == {"3.3.0", "3.4.0"}
    assert done.agents == ()


def test_bundle_may_contain_agents_only(
    stocked: Publication, ours: OfflineSite, order: Callable[..., ExportRequest], tmp_path: Path
) -> None:
    stocked.export(tmp_path / "a.ncen", order(product=AGENT, origin=Version("0.1.0")))
    record = ours.take(tmp_path / "a.ncen")
    assert (record.releases, record.reachable_release, record.reachable_agent) == (
        (),
        None,
        "0.3.0",
    )
    assert agents_of(ours).refresh().offers[-1].version == "0.3.0"


def test_later_bundle_without_agents_keeps_imported_agents(
    both: Path, bundle_of_today: Path, ours: OfflineSite
) -> None:
    ours.take(both)
    assert ours.take(bundle_of_today).agents == ()
    offer = agents_of(ours).refresh().offers[-1]
    assert agents_of(ours).source().find_downloaded_release(offer) is not None


def test_agents_are_exported_as_archives_despite_packs(
    publication: Publication, order: Callable[..., ExportRequest], tmp_path: Path
) -> None:
    for version in ("0.2.0", "0.3.0"):
        publish(publication, version, AGENT, 'upgrade_from = ">=0.1"', packs=True)
    assert any("--0.3.0" in path.name for path in publication.directory.rglob("*--*"))
    done = publication.export(tmp_path / "a.ncen", order(product=AGENT, origin=Version("0.2.0")))
    assert done.releases == {"0.3.0": "archive"}


@pytest.mark.parametrize("forged", [False, True])
def test_later_bundle_without_agents_updates_their_metadata(
    publication: Publication, order: Callable[..., ExportRequest], tmp_path: Path, forged: bool
) -> None:
    """The older one counts no more by then, and what came before could not be chosen any longer."""
    publish(publication, "0.2.0", AGENT, 'upgrade_from = ">=0.1"')
    site = OfflineSite(tmp_path / "offline", publication.root)
    publication.export(tmp_path / "one.ncen", order(with_agent=True))
    site.take(tmp_path / "one.ncen")
    publish(publication, "0.3.0", AGENT, 'upgrade_from = ">=0.1"')
    later = tmp_path / "two.ncen"
    publication.export(later, order())
    if forged:  # then the application's part is taken all the same
        contents = members(later)
        _forged(contents)
        later = well_formed(tmp_path / "forged.ncen", contents)
    assert site.take(later).releases == ("3.3.0", "3.4.0")
    agents = agents_of(site)
    view = agents.source().load_last_view()
    assert view is not None
    assert [offer.version for offer in view.offers] == ["0.2.0", "0.3.0"][: 1 if forged else 2]
    assert agents.source().find_downloaded_release(view.offers[0]) is not None
    if not forged:
        assert agents.refresh().offers == view.offers


@pytest.fixture
def bundle_of_today(
    stocked: Publication, order: Callable[..., ExportRequest], tmp_path: Path
) -> Path:
    stocked.export(tmp_path / "today.ncen", order())
    return tmp_path / "today.ncen"


def test_missing_agents_are_reported(bundle_of_today: Path, ours: OfflineSite) -> None:
    ours.take(bundle_of_today)
    with refused(NOTHING_IMPORTED):
        agents_of(ours).refresh()


def test_sufficient_agent_is_not_exported(
    stocked: Publication, order: Callable[..., ExportRequest], tmp_path: Path
) -> None:
    done = stocked.export(tmp_path / "x.ncen", order(with_agent=True, agent=Version("0.3.0")))
    assert done.agents == ()
    with refused(NOTHING_TO_EXPORT):
        stocked.export(tmp_path / "y.ncen", order(product=AGENT, origin=Version("0.3.0")))


def _named(contents: dict[str, bytes], end: str) -> str:
    [name] = [name for name in contents if name.endswith(end)]
    return name


def _altered(contents: dict[str, bytes]) -> None:
    name = _named(contents, "ncen-updater-0.3.0.tar.gz")
    contents[name] = contents[name][:-1] + b"x"


def _missing(contents: dict[str, bytes]) -> None:
    del contents[_named(contents, "ncen-updater-0.3.0.tar.gz")]


def _forged(contents: dict[str, bytes]) -> None:
    name = _named(contents, ".ncen-updater.json")

    def longer(signed: dict[str, object]) -> None:
        signed["expires"] = "2099-01-01T00:00:00Z"

    contents[name] = edited(contents[name], longer)


@pytest.mark.parametrize(
    ("change", "refusal"),
    [(_altered, BUNDLE_ALTERED), (_missing, BUNDLE_INCOMPLETE), (_forged, BUNDLE_NOT_SIGNED)],
)
def test_altered_agent_rejects_the_whole_bundle(
    both: Path,
    ours: OfflineSite,
    tmp_path: Path,
    change: Callable[[dict[str, bytes]], None],
    refusal: ErrorMessage,
) -> None:
    """The whole bundle is refused, also where the application's part of it is sound."""
    contents = members(both)
    change(contents)
    with refused(refusal):
        ours.take(well_formed(tmp_path / "forged.ncen", contents))
    assert ours.contents() == {}
