"""Tests of the delta packs of a release, their verification, and what signers read of them."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ncen_updater.common.cli.render import format_bytes
from ncen_updater.common.messages import FEED_BROKEN, UNKNOWN_RELEASE
from ncen_updater.common.progress import SilentProgress
from ncen_updater.formats.delta import cover_finder
from ncen_updater.formats.delta import pack_builder as make
from ncen_updater.formats.delta.pack_plan import DeltaVerificationError
from ncen_updater.formats.manifest import Manifest
from ncen_updater.formats.release_document import Offer, TargetRef, Withdrawal
from ncen_updater.formats.tree import Tree
from ncen_updater.publisher.build.delta_packs import DeltaPackBuilder, choose_base_releases
from ncen_updater.publisher.build.release_build import BuiltRelease, build_release
from ncen_updater.publisher.cli.main import run
from ncen_updater.publisher.errors import BuildError
from ncen_updater.publisher.feed.feed_directory import FeedDirectory
from ncen_updater.publisher.signing.draft import draft_releases
from ncen_updater.publisher.signing.event_diff import describe_event
from ncen_updater.publisher.signing.signing_event import SigningEvent
from tests.support.errors import refused
from tests.support.packs import FIRST, SECOND, THIRD, PackFeed, write_large


@pytest.fixture
def feed(tmp_path: Path) -> PackFeed:
    return PackFeed(tmp_path)


def built(tmp_path: Path, feed: PackFeed, *wanted: str) -> tuple[BuiltRelease, DeltaPackBuilder]:
    maker = DeltaPackBuilder(
        FeedDirectory(feed.directory), SilentProgress(), wanted or None, scratch=tmp_path
    )
    source = tmp_path / "third"
    if not source.exists():
        write_large(source, THIRD)
    return build_release(source, tmp_path / "staging", deltas=maker), maker


def offer(version: str, *, withdrawn: bool = False) -> Offer:
    return Offer(
        product="ncen",
        version=version,
        upgrade_from=">=0",
        archive=TargetRef(target=f"ncen-{version}.tar.gz", length=1, sha256="0" * 64),
        unpacked_bytes=1,
        withdrawn=Withdrawal(reason="wrong") if withdrawn else None,
    )


def manifest(upgrade_from: str) -> Manifest:
    data = {"schema": 1, "product": "ncen", "version": "4.0", "upgrade_from": upgrade_from}
    return Manifest.model_validate(data)


OFFERS = [*(offer(f"3.{n}") for n in range(1, 9)), offer("3.9", withdrawn=True), offer("3.10rc1")]


@pytest.mark.parametrize(
    ("upgrade_from", "wanted", "expected"),
    [
        (">=3", None, ["3.10rc1", "3.8", "3.7", "3.6", "3.5"]),
        (">=3.1,<3.4", None, ["3.3", "3.2", "3.1"]),
        ("<3", None, []),
        ("", None, []),
        (">=3", ["3.2", "3.1", "3.2"], ["3.2", "3.1"]),
    ],
)
def test_newest_five_installable_bases_are_chosen(
    upgrade_from: str, wanted: list[str] | None, expected: list[str]
) -> None:
    assert [
        o.version for o in choose_base_releases(OFFERS, manifest(upgrade_from), wanted)
    ] == expected


@pytest.mark.parametrize("version", ["2.0", "3.9"])
def test_unoffered_base_is_refused(version: str) -> None:
    with refused(UNKNOWN_RELEASE):
        choose_base_releases(OFFERS, manifest(">=3"), [version])


def test_excluded_base_is_refused() -> None:
    with pytest.raises(BuildError):
        choose_base_releases(OFFERS, manifest(">=3.5"), ["3.2"])


def test_each_earlier_release_gets_a_direct_pack(tmp_path: Path, feed: PackFeed) -> None:
    release, maker = built(tmp_path, feed)
    assert [ref.from_version for ref in release.document.deltas] == [SECOND, FIRST]
    assert not maker.skipped
    for ref in release.document.deltas:
        pack = tmp_path / "staging" / "targets" / ref.target
        assert pack.stat().st_size == ref.length < release.document.archive.length / 5
        assert ref.out_bytes == release.document.unpacked_bytes
    assert release.document.to_offer().deltas == {
        ref.from_version: ref.length for ref in release.document.deltas
    }
    assert release.document.to_offer().count_download_bytes(FIRST) < 50_000
    assert (
        release.document.to_offer().count_download_bytes("1.0") == release.document.archive.length
    )
    assert not list(tmp_path.glob("nu-delta-*"))


def test_delta_packs_are_reproducible(tmp_path: Path, feed: PackFeed) -> None:
    first, _ = built(tmp_path, feed)
    again, _ = built(tmp_path, feed)
    assert first.targets == again.targets


def test_unprofitable_pack_is_dropped(tmp_path: Path, feed: PackFeed) -> None:
    source = write_large(tmp_path / "third", THIRD)
    (source / "app" / "data.bin").write_bytes(os.urandom(400_000))
    release, maker = built(tmp_path, feed)
    assert release.document.deltas == ()
    assert [item.from_version for item in maker.skipped] == [SECOND, FIRST]
    sizes = [item.reason.values for item in maker.skipped]
    assert all(int(str(s["pack_bytes"])) > int(str(s["archive_bytes"])) * 0.8 for s in sizes)
    assert not list((tmp_path / "staging" / "targets" / "deltas").rglob("*--*"))


def test_altered_archive_of_the_feed_is_not_a_base(tmp_path: Path, feed: PackFeed) -> None:
    archive = feed.served(f"ncen-{FIRST}.tar.gz")
    archive.write_bytes(archive.read_bytes()[:-1] + b"?")
    with refused(FEED_BROKEN) as caught:
        built(tmp_path, feed)
    assert f"ncen-{FIRST}.tar.gz" in str(caught.value)


def test_signers_see_the_delta_packs(tmp_path: Path, feed: PackFeed) -> None:
    release, _ = built(tmp_path, feed)
    state = FeedDirectory(feed.directory).read_state()
    draft = draft_releases(state, tmp_path / "staging", datetime.now(UTC))
    event = SigningEvent.create(tmp_path / "event", draft.title, draft.roles, state)
    words = "\n".join(line.text.render() for line in describe_event(event))
    for ref in release.document.deltas:
        said = f"added: delta pack from {ref.from_version} to {THIRD}, "
        assert f"{said}{format_bytes(ref.length)}, sha256" in words
    assert f"ncen {THIRD}: delta packs from " in words
    assert "deltas set" not in words
    assert "set to {}" not in words


def test_draft_title_names_only_the_new_release(tmp_path: Path, feed: PackFeed) -> None:
    """A staging directory keeps what was published before; signers are not asked about it."""
    for version in (FIRST, THIRD):
        source = write_large(tmp_path / f"again-{version}", version)
        build_release(source, tmp_path / "both")
    state = FeedDirectory(feed.directory).read_state()
    draft = draft_releases(state, tmp_path / "both", datetime.now(UTC))
    assert draft.title == f"Release of ncen {THIRD}"


def test_unreferenced_pack_is_not_signed(tmp_path: Path, feed: PackFeed) -> None:
    built(tmp_path, feed)
    stray = tmp_path / "staging" / "targets" / "deltas" / "ncen" / f"1.0--{THIRD}"
    stray.write_bytes(b"anything")
    state = FeedDirectory(feed.directory).read_state()
    with pytest.raises(BuildError, match=r"1\.0--"):
        draft_releases(state, tmp_path / "staging", datetime.now(UTC))
    release, _ = built(tmp_path, feed)
    assert not stray.exists()
    pack = tmp_path / "staging" / "targets" / release.document.deltas[0].target
    pack.write_bytes(pack.read_bytes() + b"?")
    with pytest.raises(BuildError, match="digest mismatch"):
        draft_releases(state, tmp_path / "staging", datetime.now(UTC))


def test_document_without_packs_is_readable(tmp_path: Path) -> None:
    """Documents from before packs existed have no such field."""
    release = build_release(write_large(tmp_path / "r", FIRST), tmp_path / "staging")
    data = json.loads(release.document.to_canonical_json())
    del data["deltas"]
    assert type(release.document).model_validate(data) == release.document


def test_skipped_packs_are_reported(
    tmp_path: Path, feed: PackFeed, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_large(tmp_path / "third", THIRD)
    argv = ["build", str(source), "--staging", str(tmp_path / "s")]
    assert run([*argv, "--delta-from", FIRST]) == 2
    capsys.readouterr()
    argv += ["--feed", str(feed.directory)]
    assert run([*argv, "--delta-from", FIRST, "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    packs = [ref["target"] for ref in made["targets"] if ref["target"].startswith("deltas/")]
    assert packs == [f"deltas/ncen/{FIRST}--{THIRD}"]
    assert made["skipped_packs"] == []
    assert run([*argv, "--delta-from", "1.0"]) == 2
    assert "1.0" in capsys.readouterr().err
    (source / "app" / "data.bin").write_bytes(os.urandom(400_000))
    assert run(argv) == 0
    assert f"no delta pack from {FIRST}: " in capsys.readouterr().out


def test_release_without_a_possible_pack_is_built(
    tmp_path: Path,
    feed: PackFeed,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = write_large(tmp_path / "third", THIRD)
    monkeypatch.setattr(cover_finder, "MAGIC", b"another format")
    argv = ["build", str(source), "--staging", str(tmp_path / "s"), "--feed", str(feed.directory)]
    assert run(argv) == 0
    assert f"no delta pack from {FIRST}: Cannot create the delta pack" in capsys.readouterr().out
    assert run([*argv, "--json", "--lang", "fr"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert [item["from_version"] for item in made["skipped_packs"]] == [SECOND, FIRST]
    assert all("hdiffpatch" in item["reason"] for item in made["skipped_packs"])
    assert not [ref for ref in made["targets"] if ref["target"].startswith("deltas/")]


def test_pack_that_fails_verification_stops_the_build(
    tmp_path: Path, feed: PackFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(make, "apply_pack", lambda *_: Tree(entries=()))
    with pytest.raises(DeltaVerificationError):
        built(tmp_path, feed)
