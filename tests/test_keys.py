"""Tests of ``keys/``: the ceremony is possible as documented, and no private key is stored."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from ncen_updater.publisher.cli.main import run
from ncen_updater.publisher.signing.keys import create_key

ROOT = Path(__file__).parents[1]
KEYS = ROOT / "keys"
#: PEM of every kind (PKCS#8 plain or encrypted, PKCS#1, SEC1, OpenSSH, OpenPGP), PuTTY, age.
PRIVATE = re.compile(
    rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY|PuTTY-User-Key-File-[0-9]|AGE-SECRET-KEY-1[A-Z0-9]"
)
#: What is in keys/, and nothing else.
PUBLIC = re.compile(
    r"README(\.fr)?\.md|ceremony\.toml|allowed_signers|"
    r"public/(README\.md|[^/]+\.pub\.json|[^/]+\.pub|[0-9]+\.root\.json)"
)
PASSPHRASE = "correct horse battery"


def private_keys(paths: Iterable[Path]) -> Iterator[Path]:
    """Files that hold a private key, encrypted or not."""
    for path in paths:
        if path.is_file() and PRIVATE.search(path.read_bytes()):
            yield path


def tracked(root: Path) -> list[Path]:
    """Files that are or would be committed; all of them where this is no checkout."""
    git = shutil.which("git") or "false"
    listed = subprocess.run(
        [git, "-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        check=False,
    )
    if listed.returncode:
        places = (root / name for name in ("docs", "keys", "ncen_updater", "packaging", "tests"))
        return [path for place in places for path in place.rglob("*")]
    return [root / name for name in listed.stdout.decode().split("\0") if name]


def test_no_private_key_is_in_the_repository() -> None:
    assert list(private_keys(tracked(ROOT))) == []
    # Nor one that .gitignore hides: it is copied with the directory all the same.
    assert list(private_keys(KEYS.rglob("*"))) == []


def test_keys_contains_only_public_files() -> None:
    names = [str(path.relative_to(KEYS)) for path in KEYS.rglob("*") if path.is_file()]
    assert [name for name in names if not PUBLIC.fullmatch(name)] == []


def test_private_keys_of_every_kind_are_found(tmp_path: Path) -> None:
    made = [create_key(tmp_path, "officer", PASSPHRASE).private]
    plain = Ed25519PrivateKey.generate()
    for name, form in (("pkcs8", PrivateFormat.PKCS8), ("openssh", PrivateFormat.OpenSSH)):
        path = tmp_path / name
        path.write_bytes(b"# a note\n" + plain.private_bytes(Encoding.PEM, form, NoEncryption()))
        made.append(path)
    for kind in ("ed25519", "ecdsa") if shutil.which("ssh-keygen") else ():
        path = tmp_path / f"id_{kind}"
        words = ["ssh-keygen", "-q", "-t", kind, "-N", PASSPHRASE, "-f", path]
        subprocess.run(words, check=True)
        made.append(path)
    assert sorted(private_keys(tmp_path.rglob("*"))) == sorted(made), "and no public half"


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
@pytest.mark.parametrize(
    "name",
    ["keys/amina.pem", "keys/amina.key", "keys/packages", "keys/public/packages", "amina.pem",
     "docs/id_ed25519", "id_rsa"],
)  # fmt: skip
def test_git_ignores_private_keys(tmp_path: Path, name: str) -> None:
    shutil.copy(ROOT / ".gitignore", tmp_path)
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    for path in ("keys/public/amina.pub.json", "keys/public/packages.pub", name):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    kept = {str(path.relative_to(tmp_path)) for path in tracked(tmp_path)}
    assert kept == {".gitignore", "keys/public/amina.pub.json", "keys/public/packages.pub"}


def test_documented_ceremony_is_possible(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ceremony = Path(shutil.copy(KEYS / "ceremony.toml", tmp_path))
    roles = tomllib.loads(ceremony.read_text("utf-8"))["roles"]
    for name in {key for role in roles.values() for key in role["keys"]}:
        place = tmp_path / name
        assert place.parent == tmp_path / "public"
        create_key(place.parent, place.name.removesuffix(".pub.json"), PASSPHRASE)
    assert run(["init", str(ceremony), "--event", str(tmp_path / "event"), "--json"]) == 0
    signatures = json.loads(capsys.readouterr().out)["signatures"]
    assert {row["role"]: row["threshold"] for row in signatures} == {
        "root": 3,
        "targets": 2,
        "ncen": 2,
        "ncen-updater": 2,
    }
    for name in ("root", "targets", "ncen", "ncen-updater"):
        role = roles[name]
        spare = len(role["keys"]) - role["threshold"]
        assert role["threshold"] >= 2, f"{name}: a stolen key is enough"
        assert spare >= 2, f"{name}: it does not survive a lost key and a stolen one"


def test_missing_keys_are_documented() -> None:
    """The day a key comes, these texts have to go."""
    lines = (KEYS / "allowed_signers").read_text("utf-8").splitlines()
    signers = [line for line in lines if line.strip() and not line.startswith("#")]
    halves = [path for path in (KEYS / "public").iterdir() if path.name != "README.md"]
    said = "there is no key here yet" in (KEYS / "README.md").read_text("utf-8")
    assert said == (not signers and not halves)
    assert all(line.startswith('ncen-updater-packages namespaces="file" ') for line in signers)
