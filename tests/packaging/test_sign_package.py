"""Tests of the package signature: made by script/sign-package, checked as in the guides."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "script" / "sign-package"
GUIDES = ("docs/how-to/install-agent.md", "keys/README.md", "keys/README.fr.md")
CHECK = re.compile(r"^    (ssh-keygen -Y verify .*)\n    (sha256sum --check .*)$", re.MULTILINE)
NAME = "ncen-updater_0.1.0~deb13_amd64.deb"

pytestmark = pytest.mark.skipif(
    shutil.which("ssh-keygen") is None, reason="ssh-keygen (openssh-client) is not installed"
)


@dataclass(frozen=True)
class Keys:
    """A private key, and a file of signers that names it."""

    private: Path
    signers: Path


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return make_keys(tmp_path / "officer")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    made = tmp_path / "dist"
    made.mkdir()
    (made / NAME).write_bytes(b"a package")
    return made


def make_keys(directory: Path) -> Keys:
    """A fresh key, and keys/allowed_signers with its line."""
    directory.mkdir()
    private, signers = directory / "packages", directory / "allowed_signers"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", private], check=True)
    kind, key, *_ = private.with_suffix(".pub").read_text().split()
    line = f'ncen-updater-packages namespaces="file" {kind} {key}\n'
    signers.write_text((ROOT / "keys/allowed_signers").read_text("utf-8") + line)
    return Keys(private, signers)


def script(*words: object) -> subprocess.CompletedProcess[str]:
    command = [str(SCRIPT), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def checked(place: Path, signers: Path) -> bool:
    """Whether a site's operator, who types what the guide says, installs the package."""
    shutil.copy(signers, place / "allowed_signers")
    found = CHECK.search((ROOT / GUIDES[0]).read_text("utf-8"))
    assert found
    lines = [
        subprocess.run(["sh", "-c", line], cwd=place, capture_output=True, text=True, check=False)
        for line in found.groups()
    ]
    good = lines[0].stdout.startswith('Good "file" signature for ncen-updater-packages ')
    assert good == (lines[0].returncode == 0)
    return all(line.returncode == 0 for line in lines)


def test_guides_have_the_same_verification_commands() -> None:
    said = {CHECK.findall((ROOT / guide).read_text("utf-8"))[0] for guide in GUIDES}
    assert len(said) == 1
    guide = (ROOT / GUIDES[0]).read_text("utf-8")
    assert guide.index("ssh-keygen -Y verify") < guide.index("apt install")


def test_signed_package_is_accepted(place: Path, keys: Keys) -> None:
    done = script(place, keys.private, keys.signers)
    assert done.returncode == 0, done.stderr
    assert NAME in done.stdout
    assert checked(place, keys.signers)


def test_bundle_for_signers_is_signed_too(place: Path, keys: Keys) -> None:
    bundle = place / "ncen-publisher-0.1.0-signers-x86_64.tar"
    bundle.write_bytes(b"a bundle")
    (place / "other.tar").touch()
    done = script(place, keys.private, keys.signers)
    assert (bundle.name in done.stdout, "other.tar" in done.stdout) == (True, False)
    bundle.write_bytes(b"another bundle")
    assert not checked(place, keys.signers)
    (place / NAME).unlink()
    assert script(place, keys.private, keys.signers).returncode == 0
    assert checked(place, keys.signers)


def test_signer_is_told_how_to_sign(place: Path, keys: Keys) -> None:
    done = script(place)
    assert done.returncode == 0
    told = re.search(r"^    (ssh-keygen -Y sign .*)$", done.stderr, re.MULTILINE)
    assert told
    line = told[1].replace("KEY", str(keys.private))
    subprocess.run(["sh", "-c", line], cwd=place, check=True, capture_output=True)
    assert checked(place, keys.signers)
    assert script(place).returncode == 0, "the same sums: the signature stays"
    assert checked(place, keys.signers)


def test_altered_package_is_refused(place: Path, keys: Keys) -> None:
    script(place, keys.private, keys.signers)
    (place / NAME).write_bytes(b"another package")
    assert not checked(place, keys.signers)


def test_altered_sums_are_refused(place: Path, keys: Keys) -> None:
    script(place, keys.private, keys.signers)
    (place / NAME).write_bytes(b"another package")
    sums = subprocess.run(["sha256sum", NAME], cwd=place, capture_output=True, check=True).stdout
    (place / "SHA256SUMS").write_bytes(sums)
    assert not checked(place, keys.signers)
    assert (place / "SHA256SUMS.sig").is_file()


def test_unsigned_package_is_refused(place: Path, keys: Keys) -> None:
    script(place, keys.private, keys.signers)
    (place / NAME).rename(place / "ncen-updater_0.2.0~deb13_amd64.deb")
    assert not checked(place, keys.signers)


def test_unknown_signer_is_refused(place: Path, keys: Keys, tmp_path: Path) -> None:
    stranger = make_keys(tmp_path / "stranger")
    assert script(place, stranger.private, stranger.signers).returncode == 0
    assert not checked(place, keys.signers)
    assert not checked(place, ROOT / "keys/allowed_signers"), "no key is there yet"


def test_unaccepted_signature_is_removed(place: Path, keys: Keys, tmp_path: Path) -> None:
    stranger = make_keys(tmp_path / "stranger")
    done = script(place, stranger.private, keys.signers)
    assert done.returncode == 1
    assert "does not name this key" in done.stderr
    assert not (place / "SHA256SUMS.sig").exists()


def test_outdated_signature_is_removed(place: Path, keys: Keys) -> None:
    script(place, keys.private, keys.signers)
    (place / NAME).write_bytes(b"built anew")
    assert script(place).returncode == 0
    assert not (place / "SHA256SUMS.sig").exists()


def test_nothing_is_written_without_a_package(tmp_path: Path) -> None:
    done = script(tmp_path)
    assert done.returncode == 1
    assert list(tmp_path.iterdir()) == []
    assert script().returncode == 2
