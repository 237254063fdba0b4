"""Keys stay encrypted, belong to their ids, and open with their passphrase only."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ncen_updater.common.messages import BAD_CEREMONY, BAD_KEY_FILE, WRONG_PASSPHRASE
from ncen_updater.publisher.signing.ceremony import load_ceremony
from ncen_updater.publisher.signing.keys import (
    Algorithm,
    load_public_key,
    new_key,
    open_signer,
    owner_of,
)
from tests.publisher.releases import PASSPHRASE
from tests.support.errors import refused


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_a_key_signs_and_verifies(tmp_path: Path, algorithm: Algorithm) -> None:
    pair = new_key(tmp_path / "k", "amina", PASSPHRASE, algorithm)
    assert pair.private.stat().st_mode & 0o777 == 0o600
    assert b"ENCRYPTED PRIVATE KEY" in pair.private.read_bytes()
    signer = open_signer(pair.private, lambda _: PASSPHRASE)
    key = load_public_key(pair.public)
    key.verify_signature(signer.sign(b"data"), b"data")
    assert (owner_of(key), key.keyid) == ("amina", pair.keyid)
    with refused(WRONG_PASSPHRASE):
        open_signer(pair.private, lambda _: "not the one")


def test_what_is_refused(tmp_path: Path) -> None:
    one = new_key(tmp_path, "one", PASSPHRASE)
    two = new_key(tmp_path, "two", PASSPHRASE)
    with refused(BAD_KEY_FILE, match="NU-7002"):
        new_key(tmp_path, "one", PASSPHRASE)
    with refused(BAD_KEY_FILE):
        new_key(tmp_path, "three", "short")
    with refused(BAD_KEY_FILE):
        new_key(tmp_path, "../three", PASSPHRASE)
    one.private.write_bytes(two.private.read_bytes())
    with refused(BAD_KEY_FILE):
        open_signer(one.private, lambda _: PASSPHRASE)
    document = json.loads(two.public.read_text())
    document["key"]["x-ncen-keyowner"] = "someone else"
    two.public.write_text(json.dumps(document))
    with refused(BAD_KEY_FILE):
        load_public_key(two.public)
    two.public.write_text("[]")
    with refused(BAD_KEY_FILE):
        load_public_key(two.public)


@pytest.mark.parametrize("text", ["", "roles = 1", "[roles.root]\nkeys = []\nthreshold = 0", "\0"])
def test_a_bad_ceremony(tmp_path: Path, text: str) -> None:
    path = tmp_path / "ceremony.toml"
    path.write_text(text)
    with refused(BAD_CEREMONY):
        load_ceremony(path)
