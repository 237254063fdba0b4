"""Tests of keys: encrypted, bound to their ids, opened by their passphrase only."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from ncen_updater.common.cli.render import encode_as_words, group_digest, parse_digest
from ncen_updater.common.json_records import compute_sha256
from ncen_updater.common.messages import (
    BAD_CEREMONY,
    BAD_KEY_FILE,
    FILE_EXISTS,
    KEY_NAME,
    KEY_READABLE,
    PASSPHRASE_SHORT,
    WRONG_PASSPHRASE,
    ExitCode,
)
from ncen_updater.publisher.cli.main import run
from ncen_updater.publisher.signing import keys as key_files
from ncen_updater.publisher.signing.ceremony import load_ceremony
from ncen_updater.publisher.signing.keys import (
    compute_fingerprint,
    create_key,
    get_key_owner,
    list_key_owners,
    load_public_key,
    open_signer,
)
from tests.publisher.releases import PASSPHRASE
from tests.support.errors import refused

REAL_COST = key_files.SCRYPT_COST


def test_key_signs_and_verifies(tmp_path: Path) -> None:
    pair = create_key(tmp_path / "k", "amina", PASSPHRASE)
    assert pair.private.stat().st_mode & 0o777 == 0o600
    assert b"ENCRYPTED PRIVATE KEY" in pair.private.read_bytes()
    signer = open_signer(pair.private, lambda _: PASSPHRASE)
    key = load_public_key(pair.public)
    key.verify_signature(signer.sign(b"data"), b"data")
    assert (get_key_owner(key), key.keyid) == ("amina", pair.keyid)
    with refused(WRONG_PASSPHRASE) as wrong:
        open_signer(pair.private, lambda _: "not the one")
    assert wrong.value.exit_code is ExitCode.USAGE, "as docs/reference/commands.md says; it was 6"


def test_invalid_keys_are_refused(tmp_path: Path) -> None:
    one = create_key(tmp_path, "one", PASSPHRASE)
    two = create_key(tmp_path, "two", PASSPHRASE)
    with refused(FILE_EXISTS, match="already"):
        create_key(tmp_path, "one", PASSPHRASE)
    with refused(PASSPHRASE_SHORT, match="13 of 14 characters"):
        create_key(tmp_path, "three", "thirteen char")
    with refused(BAD_KEY_FILE) as caught:
        open_signer(one.public, lambda _: PASSPHRASE)
    assert caught.value.detail == "this is the public key; give one.pem"
    with refused(KEY_NAME):
        create_key(tmp_path, "../three", PASSPHRASE)
    one.private.write_bytes(two.private.read_bytes())
    with refused(BAD_KEY_FILE):
        open_signer(one.private, lambda _: PASSPHRASE)
    document = json.loads(two.public.read_text())
    document["key"]["x-ncen-keyowner"] = "someone else"
    two.public.write_text(json.dumps(document))
    with refused(BAD_KEY_FILE):
        load_public_key(two.public)
    for content in ("[]", "[" * 15_000, " " * 20_001):  # seen: the second was an unexpected error
        two.public.write_text(content)
        with refused(BAD_KEY_FILE):
            load_public_key(two.public)


@pytest.mark.parametrize(
    "text",
    ["", "roles = 1", "[roles.root]\nkeys = []\nthreshold = 0", "\0", "a = " + "[" * 5000],
)
def test_invalid_ceremony_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "ceremony.toml"
    path.write_text(text)
    with refused(BAD_CEREMONY):
        load_ceremony(path)


def test_number_in_quotes_is_refused_in_a_ceremony(tmp_path: Path) -> None:
    path = tmp_path / "ceremony.toml"
    path.write_text('[roles.root]\nkeys = ["a.pub"]\nthreshold = 1\nexpiry_days = "7"\n')
    with refused(BAD_CEREMONY, match="expiry_days"):
        load_ceremony(path)


@pytest.mark.parametrize("mode", [0o640, 0o644, 0o604, 0o700])
def test_key_readable_by_others_is_refused(tmp_path: Path, mode: int) -> None:
    pair = create_key(tmp_path, "amina", PASSPHRASE)
    pair.private.chmod(mode)
    with refused(KEY_READABLE, match=f"{mode:04o}"):
        open_signer(pair.private, lambda _: PASSPHRASE)
    pair.private.chmod(0o400)
    open_signer(pair.private, lambda _: PASSPHRASE)


def test_passphrase_attempt_costs_128_mebibytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As standard tools read the file, not our own code."""
    monkeypatch.setattr(key_files, "SCRYPT_COST", REAL_COST)
    pair = create_key(tmp_path, "amina", PASSPHRASE)
    said = subprocess.run(
        ["openssl", "asn1parse", "-in", pair.private], capture_output=True, text=True, check=True
    ).stdout
    assert ":scrypt" in said
    numbers = [line.rpartition(":")[2] for line in said.splitlines() if "INTEGER" in line]
    assert [int(number, 16) for number in numbers] == [131072, 8, 1, 32]
    open_signer(pair.private, lambda _: PASSPHRASE)


def test_earlier_key_file_format_is_readable(tmp_path: Path) -> None:
    """What the version before wrote: PBES2 with PBKDF2."""
    pair = create_key(tmp_path, "amina", PASSPHRASE)
    opened = load_pem_private_key(pair.private.read_bytes(), PASSPHRASE.encode())
    before = opened.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(PASSPHRASE.encode())
    )
    pair.private.write_bytes(before)
    signer = open_signer(pair.private, lambda _: PASSPHRASE)
    load_public_key(pair.public).verify_signature(signer.sign(b"data"), b"data")


def test_generated_passphrase_is_shown_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["keys", "new", "amina", "--directory", str(tmp_path), "--generate"]) == 0
    said = capsys.readouterr()
    secret = said.err.strip().rpartition(": ")[2]
    assert len(secret.split()) == 6
    assert secret not in said.out
    # Its name does not show its purpose: the destination of each public file is printed.
    assert "into the ceremony (ceremony.toml)" in said.out
    assert "that of a builder goes to the drafter and each signer" in said.out
    open_signer(tmp_path / "amina.pem", lambda _: secret)
    mark = group_digest(compute_fingerprint(load_public_key(tmp_path / "amina.pub.json")))
    assert mark in said.out
    assert run(["keys", "show", str(tmp_path / "amina.pub.json")]) == 0
    assert mark in capsys.readouterr().out
    assert run(["keys", "show"]) == 2


@pytest.mark.parametrize("text", ["", "0000", "babad babad", "7f00 0001 dead beef"])
def test_digest_words_round_trip(text: str) -> None:
    digest = compute_sha256(text.encode())
    words = encode_as_words(digest)
    assert len(words.split()) == 8
    assert parse_digest(words) == parse_digest(words.upper().replace(" ", "-")) == digest[:32]
    assert parse_digest(group_digest(digest)) == digest
    assert parse_digest("lusab babad") == "7f000001", "as everybody else writes these words"


def test_two_keys_of_one_owner_are_distinguished(tmp_path: Path) -> None:
    keys = []
    for place, name in (("a", "chidi"), ("b", "chidi"), ("a", "amina")):
        (tmp_path / place).mkdir(exist_ok=True)
        keys.append(load_public_key(create_key(tmp_path / place, name, PASSPHRASE).public))
    told = [f"chidi ({compute_fingerprint(key)[:8]}...)" for key in keys[:2]]
    assert list_key_owners(keys) == ("amina", *sorted(told))
    assert list_key_owners(keys[1:]) == ("amina", "chidi")
