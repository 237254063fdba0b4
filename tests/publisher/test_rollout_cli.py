"""Tests of waves, halts, channels and countries as signers type them."""

from __future__ import annotations

from pathlib import Path

import pytest

from ncen_updater.publisher.signing.value_format import format_signed_time
from tests.publisher.releases import write_release, write_sbom
from tests.publisher.test_cli import SignerCli, signer

__all__ = ["signer"]


@pytest.fixture
def at_work(signer: SignerCli) -> SignerCli:
    """A signer of a feed with one release, drafted with its first wave."""
    work = signer.work
    signer.json("init", work / "ceremony.toml", "--event", work / "e1")
    signer.sign_and_publish(work / "e1")
    signer.json("build", write_release(work / "r"), "--staging", work / "s")
    shown = signer.json(
        "draft", "--feed", work / "feed", "--staging", work / "s", "--event", work / "e2",
        "--wave", "2026-12-01T08:00:00Z=10",
    )  # fmt: skip
    texts = [change["text"] for change in shown["changes"]]
    opens = format_signed_time("2026-12-01T08:00:00Z")
    assert f"ncen 3.3.0: waves: 10 % from {opens}" in texts
    signer.sign_and_publish(work / "e2", "--staging", work / "s")
    return signer


def drafted(signer: SignerCli, place: Path, *arguments: object) -> str:
    code, out, err = signer.run(*arguments, "--feed", signer.work / "feed", "--event", place)
    assert code == 0, err
    return out


def test_every_command_drafts_an_event(at_work: SignerCli) -> None:
    work = at_work.work
    first = "2026-12-01T08:00:00Z=10"
    out = drafted(at_work, work / "a", "wave", "3.3.0", "--add", "2026-12-03T08:00:00Z=100:SN,MU")
    assert f"100 % in MU, SN from {format_signed_time('2026-12-03T08:00:00Z')}" in out
    assert f"10 % from {format_signed_time('2026-12-01T08:00:00Z')}" in out
    out = drafted(at_work, work / "b", "halt", "3.3.0", "--reason", "prints blank permits")
    assert "HALTED: ncen 3.3.0: prints blank permits" in out
    at_work.sign_and_publish(work / "b")
    assert "halt ends" in drafted(at_work, work / "c", "resume-wave", "3.3.0")
    out = drafted(at_work, work / "d", "wave", "3.3.0", "--at-once")
    assert "all sites at once" in out
    assert "channel 'preview'" in drafted(at_work, work / "e", "channel", "3.3.0", "preview")
    assert "countries: MU, SN" in drafted(at_work, work / "f", "audience", "3.3.0", "SN", "MU")
    french = drafted(at_work, work / "g", "--lang", "fr", "wave", "3.3.0", first)
    assert "digest" in french or "empreinte" in french.lower()


def test_status_gives_the_time_of_each_wave(at_work: SignerCli) -> None:
    feed = at_work.work / "feed"
    (release,) = at_work.json("status", feed)["releases"]
    assert release["waves"] == [{"opens": "2026-12-01T08:00:00Z", "percent": 10, "countries": []}]
    opens = format_signed_time("2026-12-01T08:00:00Z")
    assert f"ncen 3.3.0: 10 % from {opens}" in at_work.run("status", feed)[1]


def test_old_releases_retire(at_work: SignerCli) -> None:
    work = at_work.work
    at_work.json("build", write_release(work / "r2", "3.4.0"), "--staging", work / "s")
    drafted(at_work, work / "e3", "draft", "--staging", work / "s")
    at_work.sign_and_publish(work / "e3", "--staging", work / "s")
    out = drafted(at_work, work / "e4", "retire", "3.4.0")
    assert "Retires 1 release of ncen: sites can no longer install it." in out
    assert "retired: 3.3.0" in out
    at_work.sign_and_publish(work / "e4")
    status = at_work.json("status", work / "feed")
    assert [release["version"] for release in status["releases"]] == ["3.4.0"]
    again = ("retire", "3.4.0", "--feed", work / "feed", "--event", work / "e5")
    code, out, err = at_work.run(*again)
    assert (code, out, "no release older than 3.4.0 can retire" in err) == (2, "", True)


@pytest.mark.parametrize(
    "arguments",
    [
        ("retire", "9.9.9"),
        ("wave", "3.3.0"),
        ("wave", "3.3.0", "--at-once", "2026-12-01T08:00:00Z=10"),
        ("wave", "3.3.0", "2026-12-01=10"),
        ("wave", "3.3.0", "2026-12-01T08:00:00Z=0"),
        ("wave", "3.3.0", "2026-12-01T08:00:00Z"),
        ("wave", "3.3.0", "2026-12-01T08:00:00Z=10:Senegal"),
        ("halt", "3.3.0"),
        ("halt", "3.3.0", "--reason", ""),
        ("channel", "3.3.0", "beta"),
        ("audience", "3.3.0"),
        ("audience", "3.3.0", "Senegal"),
        ("audience", "3.3.0", "XX"),
        ("wave", "3.3.0", "2026-12-01T08:00:00Z=10:MU,XX"),
        ("withdraw", "3.3.0", "--reason", "loses cases"),
        ("withdraw", "3.3.0", "--reason", "loses cases", "--advice", " "),
        ("audience", "3.3.0", "SN", "--all"),
        ("audience", "3.3.0", "--all"),
        ("resume-wave", "3.3.0"),
        ("halt", "9.9.9", "--reason", "x"),
    ],
)
def test_usage_mistakes_draft_nothing(arguments: tuple[str, ...], at_work: SignerCli) -> None:
    place = at_work.work / "bad"
    code, out, err = at_work.run(
        *arguments, "--feed", at_work.work / "feed", "--event", place
    )  # fmt: skip
    assert (code, out) == (2, ""), err
    assert not place.exists()


def test_attachment_and_copy_options_work(signer: SignerCli) -> None:
    work, feed = signer.work, signer.work / "feed"
    signer.json("init", work / "ceremony.toml", "--event", work / "e1")
    signer.sign_and_publish(work / "e1")
    signer.json("keys", "new", "builder", "--directory", work / "keys", *signer.pass_file)
    statement = ("--provenance", work / "keys/builder.pem", *signer.pass_file)
    sbom = ("--sbom", write_sbom(work / "sbom.json"))
    build = ("build", write_release(work / "r"), "--staging", work / "s", *sbom)
    assert signer.run(*build, *statement)[0] == 2
    where = ("--builder", "https://build.example.org", "--source", "git+https://git.example.org/x")
    built = signer.json(*build, *statement, *where, "--commit", "4f2a")
    names = {target["target"] for target in built["targets"]}
    assert {"sbom/ncen/3.3.0.cdx.json", "provenance/ncen/3.3.0.intoto.json"} <= names
    draft = ("draft", "--feed", feed, "--staging", work / "s", "--event", work / "e2")
    code, _, err = signer.run(*draft)
    assert (code, "NU-7072" in err) == (2, True)
    public = ("--builder-key", work / "keys/builder.pub.json")
    signer.json(*draft, *public)
    signer.sign_and_publish(work / "e2", "--staging", work / "s")
    code, out, _ = signer.run("inspect", feed, "3.3.0", *public)
    assert code == 0
    assert "Built by https://build.example.org from git+https://git.example.org/x" in out
    assert signer.json("inspect", feed, "3.3.0", *public)["components"] == 2
    assert signer.run("inspect", feed, "3.3.0")[0] == 2
    copied = signer.json("upload", feed, work / "copy")
    assert copied["written"][-1] == "metadata/timestamp.json"
    assert (work / "copy/metadata/timestamp.json").exists()
    code, _, err = signer.run("upload", feed, "ftp://example.org/feed")
    assert (code, "NU-7060" in err) == (2, True)
