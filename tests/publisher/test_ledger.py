"""Tests of the signing ledger: no second content of one version is signed."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from ncen_updater.common.messages import LEDGER_BROKEN, OTHER_DRAFT_SIGNED
from ncen_updater.publisher.cli.main import run
from ncen_updater.publisher.feed.feed_directory import FeedDirectory
from ncen_updater.publisher.new.trial import FeedKeys, create_feed
from ncen_updater.publisher.signing.draft import draft_renewal
from ncen_updater.publisher.signing.signing_event import SigningEvent
from ncen_updater.publisher.signing.signing_ledger import SigningLedger
from tests.publisher.releases import NOW, PASSPHRASE, clock
from tests.support.errors import refused


def renewal(feed: Path, place: Path, roles: list[str], minutes: int) -> SigningEvent:
    """Drafts of the same versions, each a little later than the one before: other digests."""
    state = FeedDirectory(feed).read_state()
    draft = draft_renewal(state, roles, NOW + timedelta(minutes=minutes))
    return SigningEvent.create(place, draft.title, draft.roles, state)


def test_second_draft_of_one_version_is_refused(feed: Path, tmp_path: Path) -> None:
    ledger = SigningLedger(tmp_path / "amina.signed.jsonl")
    first = renewal(feed, tmp_path / "a", ["ncen"], 0)
    both = renewal(feed, tmp_path / "b", ["ncen", "targets"], 1)
    ledger.refuse_second_draft(first, ["ncen"])
    ledger.record_signing(first, ["ncen"], NOW)
    assert ledger.path.stat().st_mode & 0o777 == 0o600
    ledger.refuse_second_draft(first, ["ncen"])  # the same once more
    ledger.refuse_second_draft(both, ["targets"])
    with refused(OTHER_DRAFT_SIGNED, match=r"ncen version 3.*, \d{4}-\d\d-\d\d \d\d:\d\d"):
        ledger.refuse_second_draft(both, ["targets", "ncen"])
    before = ledger.path.read_bytes()
    ledger.record_signing(first, ["ncen"], NOW + timedelta(days=1))
    assert ledger.path.read_bytes() == before
    # With the explicit option, both are known from then on.
    ledger.record_signing(both, ["ncen"], NOW)
    assert len(ledger.path.read_text().splitlines()) == 2
    ledger.refuse_second_draft(both, ["ncen"])


def test_ledger_is_separate_for_each_feed(
    feed: Path, tmp_path: Path, made: tuple[Path, FeedKeys]
) -> None:
    ledger = SigningLedger(tmp_path / "amina.signed.jsonl")
    ledger.record_signing(renewal(feed, tmp_path / "a", ["targets"], 0), ["targets"], NOW)
    create_feed(tmp_path / "other", made[1], clock, ("ncen",))
    ledger.refuse_second_draft(
        renewal(tmp_path / "other", tmp_path / "b", ["targets"], 1), ["targets"]
    )


@pytest.mark.parametrize("content", [b"{", b"[]\n", b"\xff", b'{"role": "ncen"}\n'])
def test_damaged_ledger_is_an_error(feed: Path, tmp_path: Path, content: bytes) -> None:
    ledger = SigningLedger(tmp_path / "amina.signed.jsonl")
    ledger.path.write_bytes(content)
    event = renewal(feed, tmp_path / "a", ["ncen"], 0)
    with refused(LEDGER_BROKEN):
        ledger.refuse_second_draft(event, ["ncen"])
    with refused(LEDGER_BROKEN):
        ledger.record_signing(event, ["ncen"], NOW)
    assert ledger.path.read_bytes() == content


@dataclass
class LedgerSigner:
    place: Path
    feed: Path

    def sign(self, event: SigningEvent, *more: str) -> int:
        secret = self.place / "secret"
        secret.write_text(PASSPHRASE)
        secret.chmod(0o600)
        return run(["sign", str(event.directory), "--key", str(self.place / "keys/amina.pem"),
                    "--digest", event.digest, "--yes", "--passphrase-file", str(secret),
                    "--root", str(self.feed / "metadata/1.root.json"), *more])  # fmt: skip


def test_ledger_is_used_by_commands(
    feed: Path, keys: FeedKeys, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    officer = LedgerSigner(tmp_path, feed)
    first = renewal(feed, tmp_path / "a", ["ncen"], 0)
    second = renewal(feed, tmp_path / "b", ["ncen"], 1)
    assert officer.sign(first) == 0
    assert (tmp_path / "keys/amina.signed.jsonl").exists()
    assert officer.sign(second) == 6
    said = capsys.readouterr().err
    assert "NU-7033" in said
    assert not list((second.directory / "sig").iterdir())
    assert officer.sign(second, "--second-draft") == 0
    assert list((second.directory / "sig").iterdir())
    # Anyone who has several machines, or a token, names the file.
    elsewhere = tmp_path / "elsewhere"
    shutil.rmtree(first.directory / "sig")
    assert officer.sign(first, "--ledger", str(elsewhere)) == 0
    assert elsewhere.exists()
