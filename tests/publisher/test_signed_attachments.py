"""Tests of reading a release before signing: its document and its attachments."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tuf.api.metadata import TargetFile  # type: ignore[attr-defined]

from ncen_updater.common.json_records import (
    STATEMENT_TYPES,
    compute_sha256,
    encode_canonical_json,
)
from ncen_updater.common.messages import PUBLISHER_TARGET_MISSING, UNSOUND_DRAFT
from ncen_updater.formats.release_document import TargetRef
from ncen_updater.formats.rollout import ReleaseHalt
from ncen_updater.publisher.build.attachments import (
    BUILD_TYPE,
    AttachmentBuilder,
    BuildSource,
    make_provenance,
)
from ncen_updater.publisher.build.release_build import build_release
from ncen_updater.publisher.cli.main import run
from ncen_updater.publisher.feed.feed_directory import FeedDirectory
from ncen_updater.publisher.new.trial import create_feed, publish_draft
from ncen_updater.publisher.signing.draft import Draft, draft_releases
from ncen_updater.publisher.signing.event_files import REVIEW_DIRECTORY
from ncen_updater.publisher.signing.keys import create_key, load_public_key, open_signer
from ncen_updater.publisher.signing.signing_event import SigningEvent
from tests.publisher.feeds import make_halt, make_halt_end
from tests.publisher.releases import PASSPHRASE, ring, write_release, write_sbom
from tests.support.errors import refused

NOW = datetime.now(UTC).replace(microsecond=0)
SOURCE = BuildSource(
    "https://build.example.org/ncen", "git+https://git.example.org/ncen", "ab" * 20
)
DOCUMENT = "releases/ncen/3.3.0.json"
SBOM, PROVENANCE = "sbom/ncen/3.3.0.cdx.json", "provenance/ncen/3.3.0.intoto.json"


@dataclass
class Desk:
    """A release that is drafted, and a signer who is to sign it."""

    place: Path
    capsys: pytest.CaptureFixture[str]

    @property
    def targets(self) -> Path:
        return self.place / "staging/targets"

    def draft(self) -> Draft:
        key = load_public_key(self.place / "builder/builder.pub.json")
        return draft_releases(
            FeedDirectory(self.place / "feed").read_state(), self.place / "staging", NOW, (), key
        )

    def event(self, draft: Draft) -> SigningEvent:
        state = FeedDirectory(self.place / "feed").read_state()
        return SigningEvent.create(
            self.place / "event", draft.title, draft.roles, state, draft.review_files
        )

    def sign(self, event: SigningEvent, *more: object, builder: str = "builder") -> str:
        """Sign as a signer does; return the code of the error, or nothing."""
        (self.place / "secret").write_text(PASSPHRASE)
        (self.place / "secret").chmod(0o600)
        words = ["sign", event.directory, "--key", self.place / "keys/amina.pem",
                 "--digest", event.digest, "--yes",
                 "--root", self.place / "feed/metadata/1.root.json",
                 "--passphrase-file", self.place / "secret", "--json", *more]  # fmt: skip
        if builder:
            words += ["--builder-key", self.place / f"builder/{builder}.pub.json"]
        code = run([str(word) for word in words])
        said = json.loads(self.capsys.readouterr().out)
        signed = any((event.directory / "sig").iterdir())
        assert (code == 0) == signed == ("error" not in said), said
        return str(said["error"]["code"]) if code else ""


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    create_feed(tmp_path / "feed", ring(tmp_path), lambda: NOW, plain_tufup=("ncen",))
    for name in ("builder", "stranger"):
        create_key(tmp_path / "builder", name, PASSPHRASE)
    signer = open_signer(tmp_path / "builder/builder.pem", lambda _: PASSPHRASE)
    release = write_release(tmp_path / "release")
    build_release(
        release,
        tmp_path / "staging",
        attachments=AttachmentBuilder(write_sbom(tmp_path / "sbom.json"), SOURCE, signer),
    )
    return Desk(tmp_path, capsys)


def test_consistent_attachments_are_signed_without_the_files(desk: Desk) -> None:
    event = desk.event(desk.draft())
    assert len(list((event.directory / REVIEW_DIRECTORY).iterdir())) == 4
    assert desk.sign(event, builder="") == "NU-7072"
    assert desk.sign(event, builder="stranger") == "NU-7071"
    assert desk.sign(event) == ""


def test_show_reports_unverified_files(desk: Desk) -> None:
    event = desk.event(desk.draft())
    root = str(desk.place / "feed/metadata/1.root.json")
    show = ["show", str(event.directory), "--root", root]
    assert run(show) == 0
    said = " ".join(desk.capsys.readouterr().out.split())
    assert "ncen 3.3.0: description matches the metadata SBOM: 2 components" in said
    assert "WARNING: provenance not verified" in said
    assert run([*show, "--builder-key", str(desk.place / "builder/builder.pub.json")]) == 0
    said = " ".join(desk.capsys.readouterr().out.split())
    assert "was not compared" not in said
    assert f"Built by {SOURCE.builder} from {SOURCE.uri}" in said


def altered(event: SigningEvent, name: str) -> None:
    path = (
        event.directory
        / REVIEW_DIRECTORY
        / event.drafts["ncen"].signed.targets[name].hashes["sha256"]
    )
    path.write_bytes(path.read_bytes()[:-1] + b" ")


def linked(event: SigningEvent, name: str) -> None:
    path = (
        event.directory
        / REVIEW_DIRECTORY
        / event.drafts["ncen"].signed.targets[name].hashes["sha256"]
    )
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def away(event: SigningEvent, name: str) -> None:
    digest = event.drafts["ncen"].signed.targets[name].hashes["sha256"]
    (event.directory / REVIEW_DIRECTORY / digest).unlink()


@pytest.mark.parametrize("name", [DOCUMENT, SBOM, PROVENANCE])
@pytest.mark.parametrize("act", [altered, linked, away])
def test_attachments_altered_in_transit_are_refused(
    act: Callable[[SigningEvent, str], None], name: str, desk: Desk
) -> None:
    event = desk.event(desk.draft())
    act(event, name)
    assert desk.sign(event) == "NU-7073"
    # With the files at hand, what the event carries is not needed.
    assert desk.sign(event, "--staging", desk.place / "staging") == ""


def test_files_changed_between_show_and_sign_are_refused(desk: Desk) -> None:
    event = desk.event(desk.draft())
    archive = desk.targets / "ncen-3.3.0.tar.gz"
    archive.write_bytes(archive.read_bytes()[:-1] + b"?")
    assert desk.sign(event, "--staging", desk.place / "staging") == "NU-7014"


def replaced(desk: Desk, draft: Draft, name: str, content: bytes) -> Draft:
    """A drafter whose metadata and document name another attachment."""
    targets = draft.roles["ncen"].signed.targets
    document = json.loads((desk.targets / DOCUMENT).read_bytes())
    named = document["sbom" if name == SBOM else "provenance"]
    named |= {"length": len(content), "sha256": compute_sha256(content)}
    for path, data in ((name, content), (DOCUMENT, encode_canonical_json(document))):
        (desk.targets / path).write_bytes(data)
        new = TargetFile(len(data), {"sha256": compute_sha256(data)}, path)
        new.unrecognized_fields = targets[path].unrecognized_fields
        targets[path] = new
    files = {targets[path].hashes["sha256"]: desk.targets / path
              for path in (DOCUMENT, SBOM, PROVENANCE)}  # fmt: skip
    return Draft(draft.title, draft.roles, files)


def test_attachments_of_another_release_are_refused(desk: Desk) -> None:
    """The metadata names them, every digest is right, and they describe another release."""
    other = json.loads((desk.targets / SBOM).read_bytes())
    other["metadata"]["component"]["version"] = "3.2.9"
    event = desk.event(replaced(desk, desk.draft(), SBOM, encode_canonical_json(other)))
    assert desk.sign(event) == "NU-7070"


def test_provenance_of_other_bytes_is_refused(desk: Desk) -> None:
    signer = open_signer(desk.place / "builder/builder.pem", lambda _: PASSPHRASE)
    name = "ncen-3.3.0.tar.gz"
    subject = TargetRef(target=name, length=1, sha256=compute_sha256(b"other"))
    content = make_provenance("ncen", "3.3.0", (subject,), SOURCE, 0, signer)
    event = desk.event(replaced(desk, desk.draft(), PROVENANCE, content))
    assert desk.sign(event) == "NU-7071"


def test_contradictory_document_is_not_signed(desk: Desk) -> None:
    draft = desk.draft()
    draft.roles["ncen"].signed.targets[DOCUMENT].custom["ncen"]["upgrade_from"] = ">=0"
    assert desk.sign(desk.event(draft)) == "NU-7015"


def test_file_changed_while_drafting_is_detected(desk: Desk) -> None:
    draft = desk.draft()
    (desk.targets / SBOM).write_text("{}")
    with refused(PUBLISHER_TARGET_MISSING):
        desk.event(draft)
    assert not (desk.place / "event/event.json").exists()


def test_other_archive_for_plain_clients_is_refused(desk: Desk) -> None:
    """Plain tufup clients read the top alone; it may not name another archive."""
    draft = desk.draft()
    target = draft.roles["targets"].signed.targets["ncen-3.3.0.tar.gz"]
    target.hashes["sha256"] = compute_sha256(b"another")
    with refused(UNSOUND_DRAFT, match="differs from the file"):
        desk.event(draft)


@pytest.mark.parametrize("role", ["ncen", "targets"])
@pytest.mark.parametrize("more", [(), ("--staging",)])
def test_unreferenced_file_is_refused(desk: Desk, role: str, more: tuple[str, ...]) -> None:
    """A client that knows no documents, as plain tufup, would install it."""
    draft = desk.draft()
    stray = TargetFile(1, {"sha256": compute_sha256(b"x")}, "ncen-9.9.9.tar.gz")
    draft.roles[role].signed.targets[stray.path] = stray
    event = desk.event(draft)
    assert desk.sign(event, *more, *([desk.place / "staging"] if more else [])) == "NU-7015"


def test_resumed_release_is_signed_again(desk: Desk) -> None:
    keys = ring(desk.place)
    feed, staging = desk.place / "feed", desk.place / "staging"
    publish_draft(feed, desk.draft(), keys, lambda: NOW, [staging])
    halted = make_halt(
        FeedDirectory(feed).read_state(), "ncen", "3.3.0", ReleaseHalt(reason="a reason"), NOW
    )
    publish_draft(feed, halted, keys, lambda: NOW)
    assert not FeedDirectory(feed).read_state().targets.signed.targets
    resumed = make_halt_end(FeedDirectory(feed).read_state(), "ncen", "3.3.0", NOW)
    assert resumed.roles["targets"].signed.targets
    assert desk.sign(desk.event(resumed), builder="") == ""


def test_statement_types_are_defined_once() -> None:
    root = Path(__file__).resolve().parents[2]
    page = (root / "docs/reference/release-format.md").read_text("utf-8")
    for kind in ("build/v1", "debian/v1"):
        assert f"| `{STATEMENT_TYPES}/{kind}` |" in page
    assert f"{STATEMENT_TYPES}/build/v1" == BUILD_TYPE
    files = [*(root / "ncen_updater").rglob("*.py"), root / "script/provenance"]
    named = [path.name for path in files if STATEMENT_TYPES in path.read_text("utf-8")]
    assert named == ["json_records.py"]
