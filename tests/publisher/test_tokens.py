"""Tests of keys on tokens, with SoftHSM as a real PKCS#11 driver.

The token's own state is read back with pkcs11-tool, so that "the PIN was tried once" is a fact.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import HSMSigner

from ncen_updater.common.messages import TOKEN_LOCKED, TOKEN_UNUSABLE, WRONG_PIN, ErrorMessage
from ncen_updater.publisher.distribute.publishing import Publisher
from ncen_updater.publisher.feed.feed_directory import FeedDirectory
from ncen_updater.publisher.new.trial import FeedKeys
from ncen_updater.publisher.signing.ceremony import Ceremony, RoleHolders
from ncen_updater.publisher.signing.draft import draft_initial_roles
from ncen_updater.publisher.signing.keys import get_key_owner, load_public_key
from ncen_updater.publisher.signing.signing_event import SigningEvent
from ncen_updater.publisher.signing.tokens import (
    PKCS11_MODULES,
    TokenKey,
    find_module,
    read_public_key,
)
from tests.publisher.releases import NOW, clock
from tests.support.errors import refused

DRIVER = next((p for p in PKCS11_MODULES if "softhsm" in p and Path(p).is_file()), None)
MISSING = [word for word in ("softhsm2-util", "pkcs11-tool") if shutil.which(word) is None] + (
    [] if DRIVER else ["libsofthsm2.so"]
)
pytestmark = pytest.mark.skipif(
    bool(MISSING), reason=f"not installed (Debian: softhsm2, opensc): {', '.join(MISSING)}"
)

PIN, OTHER_PIN = "123456", "654321"


class Tokens:
    """A set of software tokens of our own."""

    def __init__(self, work: Path) -> None:
        self.work = work
        (work / "tokens").mkdir(parents=True)
        conf = work / "softhsm2.conf"
        conf.write_text(f"directories.tokendir = {work}/tokens\nobjectstore.backend = file\n")
        self.environment = {**os.environ, "SOFTHSM2_CONF": str(conf)}
        self.pin = work / "pin"
        self.pin.write_text(f"{PIN}\n")
        self.pin.chmod(0o600)

    def tool(self, *words: str) -> str:
        done = subprocess.run(
            words, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def add(self, label: str) -> None:
        self.tool(
            "softhsm2-util", "--init-token", "--free", "--label", label,
            "--so-pin", "4321", "--pin", PIN,
        )  # fmt: skip

    def add_key(self, label: str, number: int, kind: str = "EC:prime256v1") -> None:
        self.tool(
            "pkcs11-tool", "--module", str(DRIVER), "--token-label", label, "--login",
            "--pin", PIN, "--keypairgen", "--key-type", kind, "--id", f"{number:02x}",
            "--label", "officer", "--usage-sign",
        )  # fmt: skip

    def run(self, *words: object, secret: str | None = None) -> tuple[int, Any]:
        """Run the program in a process of its own: a driver is loaded once a process."""
        command = (
            "import sys; from ncen_updater.publisher.cli.main import run;"
            "sys.exit(run(sys.argv[1:]))"
        )
        read = None
        if secret is not None:
            read, write = os.pipe()
            os.write(write, secret.encode())
            os.close(write)
            words = (*words, "--passphrase-file", f"/dev/fd/{read}")
        done = subprocess.run(
            [sys.executable, "-c", command, *map(str, words), "--module", str(DRIVER), "--json"],
            env=self.environment, capture_output=True, text=True, check=False,
            pass_fds=[read] if read is not None else [],
        )  # fmt: skip
        if read is not None:
            os.close(read)
        return done.returncode, json.loads(done.stdout)


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    made = Tokens(tmp_path / "hsm")
    made.add("wco-a")
    made.add_key("wco-a", 2)
    return made


def _event(place: Path, keys: FeedKeys, public: Path) -> SigningEvent:
    """The ceremony of a feed with one signer on a token and two with files."""
    officers = (load_public_key(public), *(s.public_key for s in keys.signers[:2]))
    roles = {n: RoleHolders(officers, 2, 365) for n in ("root", "targets", "ncen")}
    for role, signers in keys.online.items():
        roles[role] = RoleHolders((signers[0].public_key,), 1, 7)
    draft = draft_initial_roles(Ceremony(roles), NOW)
    return SigningEvent.create(place, draft.title, draft.roles, None)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a root of one's own, what was signed is listed where one is."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def test_token_and_file_keys_reach_the_threshold(
    tokens: Tokens, tmp_path: Path, keys: FeedKeys
) -> None:
    tokens.add("wco-b")  # a second token is plugged in; the label chooses
    tokens.add_key("wco-b", 2, "EC:secp384r1")
    code, made = tokens.run("keys", "import-token", "wco-a", "dia", "--directory", tmp_path / "k")
    assert code == 0
    public = Path(made["public"])
    assert get_key_owner(load_public_key(public)) == "dia"
    event = _event(tmp_path / "event", keys, public)
    sign = ("sign", event.directory, "--token", "wco-a", "--digest", event.digest[:32], "--yes")
    code, said = tokens.run(*sign, "--passphrase-file", tokens.pin)
    assert code == 0, said
    assert len(said["files"]) == 3
    event = SigningEvent.load(event.directory)
    event.sign_drafts(keys.signers[0], event.digest)
    Publisher(FeedDirectory(tmp_path / "own"), clock).publish_event(event, [], keys.online)
    assert FeedDirectory(tmp_path / "own").read_state().root.signed.version == 1


def test_wrong_pin_is_tried_once(tokens: Tokens, tmp_path: Path, keys: FeedKeys) -> None:
    """Three drafts wait for a signature; the wrong PIN still reaches the token only once."""
    _, made = tokens.run("keys", "import-token", "wco-a", "dia", "--directory", tmp_path / "k")
    event = _event(tmp_path / "event", keys, Path(made["public"]))
    sign = ("sign", event.directory, "--token", "wco-a", "--digest", event.digest, "--yes")
    code, said = tokens.run(*sign, secret=f"{OTHER_PIN}\n")
    assert (code, said["error"]["code"]) == (2, "NU-7044")
    assert not list((event.directory / "sig").iterdir())
    assert OTHER_PIN not in json.dumps(said)
    slots = tokens.tool("pkcs11-tool", "--module", str(DRIVER), "--list-token-slots")
    assert "user PIN count low" in slots
    assert "final user PIN try" not in slots
    assert tokens.run(*sign, secret=f"{PIN}\n")[0] == 0


@pytest.mark.parametrize(
    ("label", "number", "kind"),
    [("nobody", 2, None), ("wco-a", 3, None), ("wco-a", 4, "rsa:2048"), ("wco-a", 2, "twice")],
)
def test_unusable_token_is_refused(
    tokens: Tokens, tmp_path: Path, label: str, number: int, kind: str | None
) -> None:
    if kind == "twice":
        tokens.add("wco-a")
    elif kind:
        tokens.add_key("wco-a", number, kind)
    code, said = tokens.run(
        "keys", "import-token", label, "dia", "--key-id", number, "--directory", tmp_path / "k"
    )
    assert (code, said["error"]["code"]) == (1, "NU-7043")
    assert not (tmp_path / "k").exists()


@pytest.mark.parametrize(
    ("said", "message", "told"),
    [
        ("Found 0 cryptographic tokens matching filter {'label': 'x'}", TOKEN_UNUSABLE, "no token"),
        ("Found 2 cryptographic tokens matching filter {'label': 'x'}", TOKEN_UNUSABLE, "several"),
        ("could not find ecdsa key for 2", TOKEN_UNUSABLE, "no ECDSA key with this id"),
        ("found more than one ecdsa key for 2", TOKEN_UNUSABLE, "several ECDSA keys"),
        ("found key on secp521r1, should be on one of []", TOKEN_UNUSABLE, "unsupported curve"),
        ("CKR_DEVICE_ERROR (0x00000030)", TOKEN_UNUSABLE, "CKR_DEVICE_ERROR"),
        ("CKR_PIN_INCORRECT (0x000000A0)", WRONG_PIN, None),
        ("CKR_PIN_LOCKED (0x000000A4)", TOKEN_LOCKED, None),
    ],
)
def test_driver_errors_are_described(
    monkeypatch: pytest.MonkeyPatch, said: str, message: ErrorMessage, told: str | None
) -> None:
    def refuse(*_: object) -> None:
        raise ValueError(said)

    assert DRIVER is not None
    monkeypatch.setattr(HSMSigner, "import_", refuse)
    with refused(message) as caught:
        read_public_key(TokenKey("wco-a", 2, Path(DRIVER)))
    detail = caught.value.detail
    assert (detail is None) if told is None else (told in (detail or ""))
    assert "Found" not in str(caught.value)


def test_pin_is_not_requested_for_a_foreign_key(
    tokens: Tokens, tmp_path: Path, keys: FeedKeys
) -> None:
    _, made = tokens.run("keys", "import-token", "wco-a", "dia", "--directory", tmp_path / "k")
    event = _event(tmp_path / "event", keys, Path(made["public"]))
    tokens.add_key("wco-a", 9)
    sign = (
        "sign",
        event.directory,
        "--token",
        "wco-a",
        "--key-id",
        9,
        "--digest",
        event.digest,
        "--yes",
    )
    code, said = tokens.run(*sign, secret=f"{OTHER_PIN}\n")
    assert (code, said["error"]["code"]) == (1, "NU-7043")
    slots = tokens.tool("pkcs11-tool", "--module", str(DRIVER), "--list-token-slots")
    assert "user PIN count low" not in slots


def test_only_system_drivers_are_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert DRIVER is not None
    own = tmp_path / "evil.so"
    shutil.copy(DRIVER, own)
    link = tmp_path / "link.so"
    link.symlink_to(DRIVER)
    for path in (own, Path("softhsm2.so"), Path("/usr/lib/nothing.so"), Path("/usr/lib")):
        with refused(TOKEN_UNUSABLE):
            find_module(path)
    assert find_module(link) == Path(DRIVER).resolve()
    monkeypatch.setenv("NCEN_PKCS11_MODULE", str(own))
    with refused(TOKEN_UNUSABLE):
        find_module(None)
    monkeypatch.delenv("NCEN_PKCS11_MODULE")
    with refused(TOKEN_UNUSABLE):
        find_module(None, candidates=())
