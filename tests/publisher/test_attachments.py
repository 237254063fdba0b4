"""Tests of SBOM and provenance: reproducible, and checked before signing."""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import Signer

from ncen_updater.common.json_records import encode_canonical_json
from ncen_updater.common.messages import (
    BUILDER_KEY_MISSING,
    PROVENANCE_INVALID,
    PUBLISHER_TARGET_MISSING,
    REVIEW_FILES_MISSING,
    SBOM_INVALID,
    UNKNOWN_RELEASE,
)
from ncen_updater.formats.manifest import load_manifest
from ncen_updater.formats.release_document import TargetRef
from ncen_updater.publisher.build import attachments
from ncen_updater.publisher.build.attachments import (
    AttachmentBuilder,
    BuildSource,
    check_published_attachments,
    check_sbom,
)
from ncen_updater.publisher.build.release_build import build_release
from ncen_updater.publisher.cli.main import run
from ncen_updater.publisher.errors import BuildError
from ncen_updater.publisher.feed.feed_directory import FeedDirectory
from ncen_updater.publisher.new.trial import FeedKeys, create_feed, publish_draft
from ncen_updater.publisher.signing import release_comparison
from ncen_updater.publisher.signing.draft import draft_releases
from ncen_updater.publisher.signing.keys import create_key, open_signer
from ncen_updater.publisher.signing.release_comparison import compare_releases
from ncen_updater.publisher.signing.signing_event import SigningEvent
from tests.publisher.releases import NOW, PASSPHRASE, clock, ring, write_release, write_sbom
from tests.support.errors import refused

SOURCE = BuildSource(
    "https://build.example.org/ncen", "git+https://git.example.org/ncen", "ab" * 20
)
SBOM, PROVENANCE = "sbom/ncen/3.3.0.cdx.json", "provenance/ncen/3.3.0.intoto.json"


def signer(place: Path, name: str) -> Signer:
    pair = create_key(place, name, PASSPHRASE)
    return open_signer(pair.private, lambda _: PASSPHRASE)


@pytest.fixture
def builder(tmp_path: Path) -> Signer:
    return signer(tmp_path / "builder", "builder")


@pytest.fixture
def release(tmp_path: Path) -> Path:
    return write_release(tmp_path / "release")


@pytest.fixture
def sbom(tmp_path: Path) -> Path:
    return write_sbom(tmp_path / "handed.json")


def test_sbom_of_a_package_lists_the_installed_libraries(tmp_path: Path) -> None:
    for name, number in (("Some_Pkg", "1.2"), ("other", "2.0")):
        place = tmp_path / "lib" / f"{name}-{number}.dist-info"
        place.mkdir(parents=True)
        (place / "METADATA").write_text(f"Name: {name}\nVersion: {number}\n\nName: not this\n")
    script = runpy.run_path(str(Path(__file__).resolve().parents[2] / "script/sbom"))
    packages = script["list_packages"](tmp_path / "lib")
    assert packages == [("other", "2.0"), ("some-pkg", "1.2")]
    content = script["make_sbom"]("ncen", "3.3.0", packages, 0)
    assert content == script["make_sbom"]("ncen", "3.3.0", packages, 0)
    manifest = load_manifest(write_release(tmp_path / "release") / "manifest.toml")
    assert check_sbom(content, SBOM, manifest) == 2


def test_attachments_are_reproducible(
    release: Path, sbom: Path, builder: Signer, tmp_path: Path
) -> None:
    maker = AttachmentBuilder(sbom, SOURCE, builder)
    for place in ("one", "two"):
        build_release(release, tmp_path / place, attachments=maker)
    for name in (SBOM, PROVENANCE, "releases/ncen/3.3.0.json"):
        one, two = (tmp_path / place / "targets" / name for place in ("one", "two"))
        assert one.read_bytes() == two.read_bytes(), name
    assert (tmp_path / "one/targets" / SBOM).read_bytes() == sbom.read_bytes()
    # Built again without attachments, the old ones do not stay behind.
    build_release(release, tmp_path / "one")
    assert not (tmp_path / "one/targets" / SBOM).exists()
    assert not (tmp_path / "one/targets" / PROVENANCE).exists()


@pytest.fixture
def keys(tmp_path: Path) -> FeedKeys:
    return ring(tmp_path)


@pytest.fixture
def feed(tmp_path: Path, keys: FeedKeys) -> Path:
    create_feed(tmp_path / "feed", keys, clock)
    return tmp_path / "feed"


def test_attachments_are_verified_from_build_to_audit(
    release: Path, sbom: Path, builder: Signer, feed: Path, keys: FeedKeys, tmp_path: Path
) -> None:
    staging = tmp_path / "staging"
    build_release(release, staging, attachments=AttachmentBuilder(sbom, SOURCE, builder))
    with refused(BUILDER_KEY_MISSING):
        draft_releases(FeedDirectory(feed).read_state(), staging, NOW)
    with refused(PROVENANCE_INVALID):
        draft_releases(
            FeedDirectory(feed).read_state(), staging, NOW, builder=keys.signers[0].public_key
        )
    draft = draft_releases(
        FeedDirectory(feed).read_state(), staging, NOW, builder=builder.public_key
    )
    assert {SBOM, PROVENANCE} <= draft.roles["ncen"].signed.targets.keys()
    publish_draft(feed, draft, keys, clock, [staging])
    document, checked = check_published_attachments(
        FeedDirectory(feed), "ncen", "3.3.0", builder.public_key
    )
    assert document.sbom is not None
    assert checked.component_count == 2
    assert checked.provenance is not None
    assert checked.provenance["runDetails"]["builder"]["id"] == SOURCE.builder
    with refused(UNKNOWN_RELEASE):
        check_published_attachments(FeedDirectory(feed), "ncen", "3.4.0", builder.public_key)
    served = next((feed / "targets/sbom").rglob("*.cdx.json"))
    served.write_bytes(served.read_bytes()[:-1] + b" ")
    with refused(PUBLISHER_TARGET_MISSING):
        check_published_attachments(FeedDirectory(feed), "ncen", "3.3.0", builder.public_key)


def test_signer_compares_files_with_the_draft(
    release: Path,
    sbom: Path,
    builder: Signer,
    feed: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    staging = tmp_path / "staging"
    build_release(release, staging, attachments=AttachmentBuilder(sbom, SOURCE, builder))
    state = FeedDirectory(feed).read_state()
    draft = draft_releases(state, staging, NOW, builder=builder.public_key)
    event = SigningEvent.create(tmp_path / "event", draft.title, draft.roles, state)
    argv = ["show", str(event.directory), "--staging", str(staging)]
    assert run([*argv, "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "NU-7072"
    argv += ["--builder-key", str(tmp_path / "builder/builder.pub.json")]
    assert run(argv) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "ncen 3.3.0: 5 files match the event" in said
    assert f"SBOM: 2 components Built by {SOURCE.builder} from" in said
    assert run([*argv, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)["releases"]
    assert [(item["version"], item["attachments"]["component_count"]) for item in shown] == [
        ("3.3.0", 2)
    ]
    archive = staging / "targets/ncen-3.3.0.tar.gz"
    archive.write_bytes(archive.read_bytes()[:-1] + b"?")
    assert run([*argv, "--json"]) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert "ncen-3.3.0.tar.gz" in error["title"]


def test_attachment_over_the_limit_of_an_event_is_not_read(
    release: Path, sbom: Path, feed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A drafter could keep a signer waiting with terabytes of a sparse file."""
    staging = tmp_path / "staging"
    build_release(release, staging, attachments=AttachmentBuilder(sbom))
    state = FeedDirectory(feed).read_state()
    draft = draft_releases(state, staging, NOW)
    event = SigningEvent.create(
        tmp_path / "event", draft.title, draft.roles, state, draft.review_files
    )
    assert [one.version for one in compare_releases(event, None, None)] == ["3.3.0"]
    sbom = staging / "targets" / SBOM
    monkeypatch.setattr(release_comparison, "MAX_REVIEW_FILE_BYTES", sbom.stat().st_size - 1)
    with refused(REVIEW_FILES_MISSING):
        compare_releases(event, None, None)


def test_document_contradicting_the_metadata_is_refused(
    release: Path, feed: Path, tmp_path: Path
) -> None:
    """Sites would refuse it; a signer learns of it before signing."""
    staging = tmp_path / "staging"
    build_release(release, staging)
    state = FeedDirectory(feed).read_state()
    draft = draft_releases(state, staging, NOW)
    offer = draft.roles["ncen"].signed.targets["releases/ncen/3.3.0.json"].custom["ncen"]
    offer["upgrade_from"] = ">=0"
    event = SigningEvent.create(tmp_path / "event", draft.title, draft.roles, state)
    with pytest.raises(BuildError, match="offered release"):
        compare_releases(event, staging, None)


def test_unreferenced_attachment_is_refused(release: Path, feed: Path, tmp_path: Path) -> None:
    build_release(release, tmp_path / "s")
    stray = tmp_path / "s/targets" / SBOM
    stray.parent.mkdir(parents=True)
    stray.write_text("{}")
    with pytest.raises(BuildError):
        draft_releases(FeedDirectory(feed).read_state(), tmp_path / "s", NOW)


Change = Callable[[dict[str, Any]], None]


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s["metadata"]["component"].update(version="3.3.1"),
        lambda s: s["metadata"].pop("component"),
        lambda s: s.update(specVersion="1.2"),
        lambda s: s.update(specVersion=["1.6"]),
        lambda s: s.update(components="none"),
        lambda s: s.update(unknown=1),
        lambda s: s.pop("bomFormat"),
        lambda s: s.update(metadata="x"),
    ],
)
def test_invalid_sboms_are_refused(change: Change, release: Path, tmp_path: Path) -> None:
    handed = write_sbom(tmp_path / "handed.json")
    document = json.loads(handed.read_bytes())
    build_release(release, tmp_path / "t", attachments=AttachmentBuilder(handed))
    change(document)
    handed.write_text(json.dumps(document))
    with refused(SBOM_INVALID):
        build_release(release, tmp_path / "t", attachments=AttachmentBuilder(handed))


def test_unreadable_target_is_not_called_an_sbom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attachments, "MAX_SBOM_BYTES", 3)
    (tmp_path / "document").write_bytes(b"{   }")
    ref = TargetRef(target="document", length=5, sha256="0" * 64)
    with refused(PUBLISHER_TARGET_MISSING):
        attachments._read_pinned(ref, {"document": tmp_path / "document"})


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"\xff{", b"{" * 100_000, b'{"specVersion": 1e999}']
)
def test_non_sbom_files_are_refused(content: bytes, release: Path, tmp_path: Path) -> None:
    handed = tmp_path / "handed.json"
    handed.write_bytes(content)
    for path in (handed, tmp_path / "nowhere"):
        with refused(SBOM_INVALID):
            build_release(release, tmp_path / "t", attachments=AttachmentBuilder(path))


@pytest.mark.parametrize(
    "change",
    [
        lambda e: e.update(payload=e["payload"][:-8]),
        lambda e: e.update(payloadType="text/plain"),
        lambda e: e.update(signatures=[]),
        lambda e: e["signatures"][0].update(sig="AAAA"),
        lambda e: e["signatures"][0].update(sig=3),
        lambda e: e.pop("payload"),
        lambda e: e.update(signatures=None),
    ],
)
def test_invalid_provenance_is_refused(
    change: Change, release: Path, builder: Signer, feed: Path, tmp_path: Path
) -> None:
    staging = tmp_path / "s"
    build_release(release, staging, attachments=AttachmentBuilder(None, SOURCE, builder))
    path = staging / "targets" / PROVENANCE
    envelope = json.loads(path.read_bytes())
    change(envelope)
    _replace(staging, path, encode_canonical_json(envelope))
    with refused(PROVENANCE_INVALID):
        draft_releases(FeedDirectory(feed).read_state(), staging, NOW, builder=builder.public_key)


def test_provenance_of_another_archive_is_refused(
    release: Path, builder: Signer, feed: Path, tmp_path: Path
) -> None:
    """The builder signed it, but over other bytes than those that are about to be published."""
    staging, other = tmp_path / "s", tmp_path / "o"
    maker = AttachmentBuilder(None, SOURCE, builder)
    build_release(release, staging, attachments=maker)
    (release / "bin/app").write_text("#!/bin/sh\necho stolen\n")
    build_release(release, other, attachments=maker)
    content = (other / "targets" / PROVENANCE).read_bytes()
    _replace(staging, staging / "targets" / PROVENANCE, content)
    with refused(PROVENANCE_INVALID) as caught:
        draft_releases(FeedDirectory(feed).read_state(), staging, NOW, builder=builder.public_key)
    assert "ncen-3.3.0.tar.gz" in str(caught.value)


def _replace(staging: Path, path: Path, content: bytes) -> None:
    """Put another statement in place, and let the release document name it."""
    from ncen_updater.common.json_records import compute_sha256

    path.write_bytes(content)
    name = staging / "targets/releases/ncen/3.3.0.json"
    document = json.loads(name.read_bytes())
    document["provenance"] |= {"length": len(content), "sha256": compute_sha256(content)}
    name.write_bytes(encode_canonical_json(document))
