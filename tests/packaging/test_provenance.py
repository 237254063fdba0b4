"""Tests of the provenance of our packages, by the verifying program."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ncen_updater.publisher.signing.keys import create_key

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ("https://build.example.org", "git+https://example.org/ncen-updater")


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """Return a checkout with one commit, and beside it packages and the builder's key."""
    checkout = tmp_path / "checkout"
    (checkout / "script").mkdir(parents=True)
    shutil.copy2(ROOT / "script/provenance", checkout / "script")
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
        subprocess.run(
            ["git", "-c", "user.name=b", "-c", "user.email=b@example.org", *words],
            cwd=checkout, check=True,
        )  # fmt: skip
    dist = tmp_path / "dist"
    dist.mkdir()
    for name in ("a_1~deb13_amd64.deb", "b_1~deb13_amd64.deb", "a_1~deb13_amd64.cdx.json"):
        (dist / name).write_text(name, "utf-8")
    create_key(tmp_path, "builder", "many secret words", cost=16)
    return tmp_path


def run(work: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "checkout/script/provenance", "dist", *words],
        cwd=work, input="many secret words\n", capture_output=True, text=True, check=False,
        env={**os.environ, "LC_ALL": "C"}, start_new_session=True,
    )  # fmt: skip


def test_packages_are_verified_against_their_commit(work: Path) -> None:
    made = run(work, "builder.pem", *SOURCE)
    assert (made.returncode, made.stdout) == (0, "dist/provenance.intoto.json\n"), made.stderr
    head = ["git", "-C", str(work / "checkout"), "rev-parse", "HEAD"]
    commit = subprocess.run(head, check=True, capture_output=True, text=True).stdout.strip()
    verified = run(work, "builder.pub.json")
    assert (verified.returncode, verified.stdout) == (
        0, f"built from {SOURCE[1]}, commit {commit}\n"
    )  # fmt: skip


@pytest.mark.parametrize("other", ["changed", "added", "key"])
def test_foreign_package_or_builder_is_refused(work: Path, other: str) -> None:
    assert run(work, "builder.pem", *SOURCE).returncode == 0
    if other == "key":
        create_key(work, "stranger", "many secret words", cost=16)
        assert run(work, "stranger.pub.json").returncode == 1
        return
    name = "c_1_amd64.deb" if other == "added" else "a_1~deb13_amd64.deb"
    (work / "dist" / name).write_text("other", "utf-8")
    refused = run(work, "builder.pub.json")
    assert (refused.returncode, name in refused.stderr) == (1, True)


def test_uncommitted_content_is_not_signed(work: Path) -> None:
    with (work / "checkout/script/provenance").open("a", encoding="utf-8") as program:
        program.write("\n")
    assert run(work, "builder.pem", *SOURCE).returncode == 1
    assert not (work / "dist/provenance.intoto.json").exists()
