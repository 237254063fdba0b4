"""Tests of errors after mistakes in the publisher's commands: by their text."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import NOTHING_TO_DO
from ncen_updater.publisher.cli.main import run
from tests.publisher.releases import PASSPHRASE
from tests.publisher.test_cli import SignerCli, signer

__all__ = ["signer"]


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (["send"], "did you mean 'publish'?"),
        (["release"], "did you mean 'publish'?"),
        (["stop"], "did you mean 'halt'?"),
        (["revoke"], "did you mean 'withdraw'?"),
        (["unpublish"], "did you mean 'withdraw'?"),
        (["staging"], "did you mean 'wave'?"),
        (["publihs"], "did you mean 'publish'?"),
        (["--lang", "fr", "stop"], "Vouliez-vous dire « halt » ?"),
    ],
)
def test_command_is_suggested_by_meaning(
    typed: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(typed) == 2
    assert words in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("name", "secret", "code", "words"),
    [
        ("dana", "short", "NU-7030", "5 of 14 characters"),
        ("amina", PASSPHRASE, "NU-7031", "already exists"),
        ("dana.pem", PASSPHRASE, "NU-7038", "such as amina"),
        ("keys/dana", PASSPHRASE, "NU-7038", "such as amina"),
        ("dana.pub.json", PASSPHRASE, "NU-7038", "such as amina"),
        ("", PASSPHRASE, "NU-7038", "the name of the owner alone"),
    ],
)
def test_failed_key_creation_leaves_nothing(
    signer: SignerCli, name: str, secret: str, code: str, words: str
) -> None:
    place = signer.work / "passphrase"
    place.write_text(f"{secret}\n")
    place.chmod(0o600)
    keys = signer.work / "keys"
    before = sorted(keys.iterdir())
    told = ("--directory", keys, "--passphrase-file", place)
    exit_code, _, err = signer.run("keys", "new", name, *told)
    assert (exit_code, code in err, words in " ".join(err.split())) == (2, True, True), err
    assert sorted(keys.iterdir()) == before


@pytest.mark.parametrize("command", [("keys", "new", "dana"), ("sign",)])
def test_passphrase_is_not_requested_without_a_terminal(
    signer: SignerCli, command: tuple[str, ...]
) -> None:
    """Seen: a warning of Python's, and then "the command was stopped"."""
    words: tuple[object, ...] = command
    if command == ("sign",):
        signer.json("init", signer.work / "ceremony.toml", "--event", signer.work / "e")
        digest = signer.json("show", signer.work / "e")["digest"]
        key = signer.work / "keys/amina.pem"
        words = ("sign", signer.work / "e", "--key", key, "--digest", digest, "--yes")
    done = subprocess.run(
        [sys.executable, "-m", "ncen_updater.publisher.cli.main", *map(str, words)],
        cwd=signer.work, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        start_new_session=True, check=False,
    )  # fmt: skip
    assert (done.returncode, "NU-7039" in done.stderr) == (2, True), done.stderr
    assert "--passphrase-file" in done.stderr
    assert "Warning" not in done.stderr and "characters" not in done.stderr
    assert not (signer.work / "dana.pem").exists()


def test_missing_product_is_resolved_or_named(signer: SignerCli, tmp_path: Path) -> None:
    """With one product besides the agent it is the default; an unknown one is named."""
    signer.json("init", tmp_path / "ceremony.toml", "--event", tmp_path / "e")
    signer.sign_and_publish(tmp_path / "e")
    told = ("--reason", "x", "--feed", tmp_path / "feed", "--event", tmp_path / "halt")
    for product in ((), ("--product", "ncen")):
        exit_code, _, err = signer.run("halt", "9.9.9", *product, *told)
        assert exit_code == 2 and "9.9.9" in err, err
        assert "ceremony" not in err and not (tmp_path / "halt").exists()
    exit_code, _, err = signer.run("halt", "9.9.9", "--product", "ncne", *told)
    assert exit_code != 0 and "ncne" in err, err


def test_missing_option_includes_its_help(signer: SignerCli) -> None:
    """An advice can only be written knowing its readers."""
    told = ("--reason", "x", "--feed", signer.work, "--event", signer.work / "e")
    exit_code, _, err = signer.run("withdraw", "3.3.0", *told)
    assert exit_code == 2
    said = " ".join(err.split())
    assert "Missing option '--advice'. Advice to sites" in said, err


@pytest.mark.parametrize("language", ["en", "fr"])
def test_nothing_to_draft_is_reported_in_a_sentence(language: str) -> None:
    told = UpdaterError(NOTHING_TO_DO, reason="no role given").title_text.render(language)
    assert told.count(".") == 0
