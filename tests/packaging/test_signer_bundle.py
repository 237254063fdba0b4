"""The publisher in one file: made of local wheels, checked and installed without a network.

The wheels are those of our own environment, packed again; their digests are in a lock of the test.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EPOCH = "1767225600"
#: What ``keys new`` needs.
PACKAGES = (
    "annotated-types", "cffi", "click", "cryptography", "packaging", "pycparser", "pydantic",
    "pydantic-core", "securesystemslib", "tuf", "typing-extensions", "typing-inspection",
)  # fmt: skip

pytestmark = pytest.mark.skipif(
    subprocess.run([sys.executable, "-c", "import ensurepip"], check=False).returncode != 0,
    reason="ensurepip (python3-venv) is not installed",
)


def pack_again(name: str, place: Path) -> str:
    """Make a wheel of an installed package; returns its line in a lock."""
    found = importlib.metadata.distribution(name)
    tags = (found.read_text("WHEEL") or "").split("Tag: ")[1:]
    stem = f"{found.name.replace('-', '_').lower()}-{found.version}-{tags[-1].split()[0]}"
    wheel = place / f"{stem}.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for file in found.files or ():
            if ".." not in file.parts and "__pycache__" not in file.parts:
                archive.write(str(file.locate()), str(file))
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    return f"{name}=={found.version} --hash=sha256:{digest}\n"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with a lock of these wheels, which lie in ``found``."""
    place = tmp_path_factory.mktemp("checkout")
    for name in ("found", "locks", "script"):
        (place / name).mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "script/signer-bundle", "script/wheel"):
        shutil.copy(ROOT / name, place / name)
    aside = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "ncen_updater", place / "ncen_updater", ignore=aside)
    (place / "locks/build.txt").write_text(pack_again("setuptools", place / "found"))
    lines = [pack_again(name, place / "found") for name in PACKAGES]
    (place / "locks/debian-publisher.txt").write_text("".join(lines))
    return place


def build(source: Path, output: Path) -> Path:
    """Make the bundle for the Python that runs."""
    version = ".".join(map(str, sys.version_info[:2]))
    done = subprocess.run(
        [source / "script/signer-bundle", output, version], check=False, capture_output=True,
        text=True,
        env={
            "PATH": os.environ["PATH"], "SOURCE_DATE_EPOCH": EPOCH, "NCEN_PYTHON": sys.executable,
            "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(source / "found"),
        },
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


@pytest.fixture(scope="module")
def bundle(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(source, tmp_path_factory.mktemp("dist"))


def unpack(bundle: Path, place: Path) -> Path:
    subprocess.run(["tar", "-xf", bundle, "-C", place], check=True)
    (made,) = place.iterdir()
    assert made.name == bundle.stem
    return made


def install(unpacked: Path, place: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [unpacked / "install", place], check=False, capture_output=True, text=True,
        env={"PATH": os.environ["PATH"], "NCEN_PYTHON": sys.executable},
    )  # fmt: skip


def test_one_command_installs_a_publisher_that_works(bundle: Path, tmp_path: Path) -> None:
    place = tmp_path / "publisher"
    (tmp_path / "medium").mkdir()
    done = install(unpack(bundle, tmp_path / "medium"), place)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"Installed: {place}/bin/ncen-publisher\n"
    words = ["keys", "new", "signer1", "--directory", str(tmp_path / "keys"), "--generate"]
    subprocess.run([place / "bin/ncen-publisher", *words], check=True, capture_output=True)
    assert (tmp_path / "keys/signer1.pub.json").is_file()


@pytest.mark.parametrize("file", ["requirements.txt", "wheels/click", "install"])
def test_altered_file_is_refused(bundle: Path, tmp_path: Path, file: str) -> None:
    (tmp_path / "medium").mkdir()
    unpacked = unpack(bundle, tmp_path / "medium")
    (path,) = unpacked.glob(f"{file}*")
    with path.open("a") as stream:
        stream.write("\n")
    done = install(unpacked, tmp_path / "publisher")
    assert done.returncode != 0
    assert path.name in done.stdout
    assert not (tmp_path / "publisher").exists()


def test_wheel_of_other_bytes_is_refused_although_the_sums_fit(
    bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "medium").mkdir()
    unpacked = unpack(bundle, tmp_path / "medium")
    (wheel,) = unpacked.glob("wheels/click*")
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("click/more.py", "")
    (sums := unpacked / "SHA256SUMS").unlink()
    names = [str(path.relative_to(unpacked)) for path in unpacked.rglob("*") if path.is_file()]
    made = subprocess.run(["sha256sum", *names], cwd=unpacked, check=True, capture_output=True)
    sums.write_bytes(made.stdout)
    done = install(unpacked, tmp_path / "publisher")
    assert done.returncode != 0
    assert "DO NOT MATCH THE HASHES" in done.stderr


def test_wheel_that_is_not_in_the_lock_comes_into_no_bundle(source: Path, tmp_path: Path) -> None:
    again = tmp_path / "checkout"
    shutil.copytree(source, again)
    lock = again / "locks/debian-publisher.txt"
    lock.write_text(re.sub(r"[0-9a-f]{64}", "0" * 64, lock.read_text(), count=1))
    with pytest.raises(AssertionError, match=r"(?i)hash"):
        build(again, tmp_path / "dist")
    assert not list(tmp_path.glob("dist/*"))


def test_two_builds_give_the_same_bytes(source: Path, bundle: Path, tmp_path: Path) -> None:
    assert build(source, tmp_path).read_bytes() == bundle.read_bytes()
