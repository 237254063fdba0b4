"""Tests of the apt repository of script/repository, by apt itself in its own root."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ncen_updater.publisher.distribute.feed_upload import (
    IMMUTABLE_CACHE_CONTROL,
    DirectoryStorage,
    get_cache_control,
    open_storage,
)
from tests.support.object_store import object_store

ROOT = Path(__file__).resolve().parents[2]
NEEDED = ("apt-get", "apt-ftparchive", "dpkg-deb", "gpg", "xz")
MISSING = [program for program in NEEDED if shutil.which(program) is None]
DAY = 86400
ADDRESS = "https://packages.example.org"
SIGNATURES = {"InRelease", "Release.gpg"}
CONTROL = """\
Package: {package}
Version: {version}
Architecture: amd64
Maintainer: nobody <nobody@example.org>
Description: {text}
"""
CONFIGURATION = """\
Dir "{root}";
Dir::Bin::Methods "/usr/lib/apt/methods";
Dir::State::status "{root}/status";
APT::Architecture "amd64";
APT::Architectures {{ "amd64"; }};
APT::Sandbox::User "";
APT::Update::Error-Mode "any";
APT::Install-Recommends "false";
"""

pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")


@dataclass(frozen=True)
class Signer:
    """A key in a directory of gpg's own."""

    home: str
    fingerprint: str

    def publish(self, place: Path, *packages: Path, age_days: int = 0) -> None:
        """Make or renew the repository."""
        ended = self.try_publish(place, *packages, age_days=age_days)
        assert ended.returncode == 0, ended.stderr

    def try_publish(
        self, place: Path, *packages: Path, age_days: int = 0
    ) -> subprocess.CompletedProcess[str]:
        epoch = int(time.time()) // DAY * DAY - age_days * DAY
        variables = {**os.environ, "GNUPGHOME": self.home, "SOURCE_DATE_EPOCH": str(epoch)}
        return subprocess.run(
            [ROOT / "script/repository", place, self.fingerprint, *packages],
            env=variables, capture_output=True, text=True, check=False,
        )  # fmt: skip


@dataclass(frozen=True)
class Machine:
    """A root with apt's directories, and nothing installed."""

    root: Path

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        variables = {**os.environ, "APT_CONFIG": str(self.root / "apt.conf"), "LC_ALL": "C"}
        (self.root / "downloads").mkdir(exist_ok=True)
        return subprocess.run(
            ["apt-get", "--quiet", *words], env=variables, cwd=self.root / "downloads",
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip

    def serve(self, place: Path | str) -> None:
        """Let it look at another place."""
        file = self.root / "etc/apt/sources.list.d/ncen-updater.sources"
        address = f"file:{place}" if isinstance(place, Path) else place
        text = re.sub("^URIs: .*$", f"URIs: {address}", file.read_text("utf-8"), flags=re.M)
        file.write_text(text, "utf-8")

    def updates(self) -> bool:
        """Whether apt takes the indexes."""
        return self.run("update").returncode == 0

    def download(self, package: str = "ncen-updater") -> bytes | None:
        """Return the package that apt takes; None where it takes none."""
        if self.run("download", package).returncode:
            return None
        [found] = (self.root / "downloads").glob(f"{package}_*.deb")
        return found.read_bytes()

    def exchange_suite(self, old: str, new: str) -> None:
        """As an administrator does with every file of sources, before the upgrade of Debian."""
        file = self.root / "etc/apt/sources.list.d/ncen-updater.sources"
        text = file.read_text("utf-8")
        assert f"Suites: {old}\n" in text
        file.write_text(text.replace(f"Suites: {old}\n", f"Suites: {new}\n"), "utf-8")


def make_signer() -> Iterator[Signer]:
    # Its sockets have short names.
    with tempfile.TemporaryDirectory(prefix="nu-gpg-") as home:
        gpg = ["gpg", "--homedir", home, "--batch", "--quiet"]
        new = ("--passphrase", "", "--quick-generate-key", "packages", "ed25519", "sign")
        subprocess.run([*gpg, *new, "never"], check=True, capture_output=True)
        listed = subprocess.check_output([*gpg, "--list-keys", "--with-colons"], text=True)
        found = re.search(r"^fpr:+([0-9A-F]{40}):$", listed, re.MULTILINE)
        assert found
        try:
            yield Signer(home, found[1])
        finally:
            subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=False)


@pytest.fixture(scope="module")
def signer() -> Iterator[Signer]:
    yield from make_signer()


@pytest.fixture(scope="module")
def foreign_signer() -> Iterator[Signer]:
    yield from make_signer()


def make_package(place: Path, version: str, text: str = "a package") -> Path:
    """A package with nothing but its control file."""
    tree = place / f"tree-{version}-{text}"
    (tree / "DEBIAN").mkdir(parents=True)
    control = CONTROL.format(package="ncen-updater", version=version, text=text)
    (tree / "DEBIAN/control").write_text(control, "utf-8")
    file = place / f"ncen-updater_{version}_amd64.deb"
    words = ["dpkg-deb", "--root-owner-group", "--build", str(tree), str(file)]
    subprocess.run(words, check=True, capture_output=True)
    return file


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, signer: Signer) -> Path:
    """Version 0.1.0 for two Debian releases, with the keyring packages."""
    work = tmp_path_factory.mktemp("made")
    keys, keyrings = work / "keys.pgp", work / "keyrings"
    words = ["gpg", "--homedir", signer.home, "--output", str(keys), "--export", signer.fingerprint]
    subprocess.run(words, check=True)
    words = [str(ROOT / "script/archive-keyring"), ADDRESS, str(keys), str(keyrings)]
    subprocess.run(words, check=True, capture_output=True)
    packages = [make_package(work, f"0.1.0~deb{number}") for number in (12, 13)]
    signer.publish(work / "web/packages", *packages, *sorted(keyrings.iterdir()))
    return work / "web"


@pytest.fixture
def repository(made: Path, tmp_path: Path) -> Path:
    """A copy of it, as served from ``ADDRESS``."""
    subprocess.run(["cp", "-a", made, tmp_path / "web"], check=True)
    return tmp_path / "web/packages"


def set_up(repository: Path, root: Path, suite: str = "trixie") -> Machine:
    """Install the keyring package, as its first line in the guide does."""
    keyring = repository / f"ncen-updater-archive-keyring-{suite}.deb"
    subprocess.run(["dpkg-deb", "--extract", keyring, root], check=True)
    sources = root / "etc/apt/sources.list.d/ncen-updater.sources"
    text = sources.read_text("utf-8")
    assert "Signed-By: /usr/share/keyrings/" in text
    text = text.replace("/usr/share", f"{root}/usr/share").replace(ADDRESS, f"file:{repository}")
    sources.write_text(text, "utf-8")
    for directory in ("preferences.d", "apt.conf.d", "trusted.gpg.d"):
        (root / "etc/apt" / directory).mkdir()
    for directory in ("var/lib/apt/lists/partial", "var/cache/apt/archives/partial"):
        (root / directory).mkdir(parents=True)
    (root / "status").touch()
    (root / "apt.conf").write_text(CONFIGURATION.format(root=root), "utf-8")
    return Machine(root)


@pytest.fixture
def machine(repository: Path, tmp_path: Path) -> Machine:
    return set_up(repository, tmp_path / "machine")


def test_apt_installs_from_the_repository(machine: Machine, repository: Path) -> None:
    ended = machine.run("update")
    assert ended.returncode == 0, ended.stderr
    assert "W:" not in ended.stderr
    original = repository / "pool/trixie/ncen-updater_0.1.0~deb13_amd64.deb"
    assert machine.download() == original.read_bytes()
    planned = machine.run("install", "--yes", "--print-uris", "ncen-updater")
    assert planned.returncode == 0, planned.stderr
    assert "ncen-updater_0.1.0~deb13_amd64.deb" in planned.stdout


def test_next_debian_release_is_another_suite(repository: Path, tmp_path: Path) -> None:
    """The package of the next Debian release is newer, so that its upgrade takes it."""
    machine = set_up(repository, tmp_path / "old", "bookworm")
    assert machine.updates()
    assert machine.download()
    (machine.root / "status").write_text(
        CONTROL.format(package="ncen-updater", version="0.1.0~deb12", text="x").replace(
            "Version", "Status: install ok installed\nVersion"
        ),
        "utf-8",
    )
    machine.exchange_suite("bookworm", "trixie")
    assert machine.updates()
    planned = machine.run("dist-upgrade", "--simulate")
    assert "ncen-updater [0.1.0~deb12] (0.1.0~deb13" in planned.stdout
    # dpkg does not ask about a file that was changed to what the next package brings.
    for suite in ("bookworm", "trixie"):
        place = tmp_path / suite
        keyring = repository / f"ncen-updater-archive-keyring-{suite}.deb"
        subprocess.run(["dpkg-deb", "--extract", keyring, place], check=True)
    name = "etc/apt/sources.list.d/ncen-updater.sources"
    old, new = ((tmp_path / suite / name).read_text() for suite in ("bookworm", "trixie"))
    assert old.replace("bookworm", "trixie") == new


def test_changed_package_is_refused(machine: Machine, repository: Path) -> None:
    assert machine.updates()
    file = repository / "pool/trixie/ncen-updater_0.1.0~deb13_amd64.deb"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert machine.download() is None


def test_changed_index_is_refused(machine: Machine, repository: Path) -> None:
    index = repository / "dists/trixie/main/binary-amd64"
    for file in (index / "by-hash/SHA256").iterdir():  # each is a link to its other name
        content = bytearray(file.read_bytes())
        content[-2] ^= 1
        file.write_bytes(content)
    assert not machine.updates()
    assert machine.download() is None


@pytest.mark.parametrize("name", sorted(SIGNATURES))
def test_changed_release_file_is_refused(machine: Machine, repository: Path, name: str) -> None:
    """Also where only one of the two signed forms is served."""
    suite = repository / "dists/trixie"
    [other] = SIGNATURES - {name}
    (suite / other).unlink()
    assert machine.updates()
    changed = suite / ("Release" if name == "Release.gpg" else name)
    changed.write_text(changed.read_text("utf-8").replace("Codename: ", "Codename: x"), "utf-8")
    shutil.rmtree(machine.root / "var/lib/apt/lists")
    assert not machine.updates()


def test_foreign_key_is_refused(
    machine: Machine, repository: Path, foreign_signer: Signer, tmp_path: Path
) -> None:
    assert machine.updates()
    foreign_signer.publish(repository, make_package(tmp_path, "0.2.0~deb13"))
    assert not machine.updates()


def test_unsigned_repository_is_refused(machine: Machine, repository: Path) -> None:
    for name in SIGNATURES:
        (repository / "dists/trixie" / name).unlink()
    assert not machine.updates()


def test_expired_repository_is_refused(machine: Machine, repository: Path, signer: Signer) -> None:
    signer.publish(repository, age_days=179)
    assert machine.updates()
    signer.publish(repository, age_days=181)
    assert not machine.updates()
    signer.publish(repository)
    assert machine.updates()


def test_older_repository_does_not_replace_a_newer_one(
    machine: Machine, repository: Path, signer: Signer, tmp_path: Path
) -> None:
    signer.publish(repository, make_package(tmp_path, "0.2.0~deb13"))
    assert machine.updates()
    signer.publish(repository, age_days=1)  # the same packages, a day earlier
    assert "0.2.0~deb13" in machine.run("install", "--yes", "--print-uris", "ncen-updater").stdout


def test_later_package_keeps_the_earlier_one(
    machine: Machine, repository: Path, signer: Signer, tmp_path: Path
) -> None:
    served = repository / "dists/trixie/main/binary-amd64/Packages.xz"
    before = served.read_bytes()
    generation = repository.readlink()
    signer.publish(repository, make_package(tmp_path, "0.2.0~deb13"))
    assert repository.readlink() != generation
    assert not (repository.parent / generation).exists()
    # A client with the previous Release file still finds its index, by its digest.
    assert before in {file.read_bytes() for file in served.parent.glob("by-hash/SHA256/*")}
    assert machine.updates()
    for version in ("0.1.0~deb13", "0.2.0~deb13"):
        assert machine.run("download", f"ncen-updater={version}").returncode == 0


@pytest.mark.parametrize(("version", "text"), [("0.1.0~deb13", "another"), ("0.3.0", "x")])
def test_rejected_package_changes_nothing(
    repository: Path, signer: Signer, tmp_path: Path, version: str, text: str
) -> None:
    """Another build of a published version, and one that names no Debian release."""
    (tmp_path / "other").mkdir()
    generation = repository.readlink()
    package = make_package(tmp_path / "other", version, text)
    assert signer.try_publish(repository, package).returncode == 1
    assert repository.readlink() == generation
    assert {path.name for path in repository.parent.iterdir()} == {
        repository.name, generation.name, f".{repository.name}.lock",
    }  # fmt: skip


def test_two_runs_differ_only_in_their_signatures(tmp_path: Path, signer: Signer) -> None:
    package = make_package(tmp_path, "0.1.0~deb13")
    trees = [tmp_path / "one", tmp_path / "two"]
    for tree in trees:
        signer.publish(tree, package, age_days=1)
    files = [
        {
            str(path.relative_to(tree)): (path.read_bytes(), path.stat().st_mtime)
            for path in tree.rglob("*")
            if path.is_file() and path.name not in SIGNATURES
        }
        for tree in (tree.resolve() for tree in trees)
    ]
    assert len(files[0]) == 6
    assert files[0] == files[1]


def test_private_keys_are_not_added_to_a_keyring(tmp_path: Path, signer: Signer) -> None:
    keys = tmp_path / "keys.pgp"
    gpg = ["gpg", "--homedir", signer.home, "--batch", "--output", str(keys)]
    subprocess.run([*gpg, "--export-secret-keys", signer.fingerprint], check=True)
    words = [str(ROOT / "script/archive-keyring"), "https://example.org", str(keys)]
    words.append(str(tmp_path / "made"))
    assert subprocess.run(words, check=False, capture_output=True).returncode == 1
    assert not (tmp_path / "made").exists()


def test_apt_works_during_an_upload(
    machine: Machine, repository: Path, signer: Signer, tmp_path: Path
) -> None:
    """Also while the indexes of a later publication are written over the earlier ones."""
    upload = runpy.run_path(str(ROOT / "script/upload-repository"))["upload"]
    place = tmp_path / "copy"
    machine.serve(place)
    first = list(upload(repository, DirectoryStorage(place)))
    assert first[-1].endswith("/InRelease")
    assert machine.updates()
    signer.publish(repository, make_package(tmp_path, "0.2.0~deb13"))
    for name in upload(repository, DirectoryStorage(place)):
        if "trixie" in name:
            assert machine.updates(), name
            assert machine.run("download", "ncen-updater=0.1.0~deb13").returncode == 0, name
    assert machine.run("download", "ncen-updater=0.2.0~deb13").returncode == 0
    assert list(upload(repository, DirectoryStorage(place))) == []


def test_apt_installs_from_an_object_store(
    machine: Machine, repository: Path, signer: Signer, tmp_path: Path, monkeypatch: Any
) -> None:
    """The names of our packages have a tilde, which an address may have to escape."""
    upload = runpy.run_path(str(ROOT / "script/upload-repository"))["upload"]
    with object_store(monkeypatch, "packages") as url:
        storage = open_storage("s3://packages/debian", url)
        list(upload(repository, storage))
        machine.serve(f"{url}/packages/debian")
        assert machine.updates()
        assert machine.download() is not None
        package = make_package(tmp_path, "0.2.0~deb13")
        signer.publish(repository, package)
        list(upload(repository, storage))
        assert machine.updates()
        assert machine.run("download", "ncen-updater=0.2.0~deb13").returncode == 0
        assert list(upload(repository, storage)) == []
        (new,) = (machine.root / "downloads").glob("ncen-updater_0.2.0*.deb")
        assert new.read_bytes() == package.read_bytes()


def test_mutable_files_are_revalidated_by_caches(made: Path) -> None:
    root = (made / "packages").resolve()
    names = [str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()]
    lasting = {name for name in names if get_cache_control(name) == IMMUTABLE_CACHE_CONTROL}
    assert {name for name in names if name.startswith("pool/") or "/by-hash/" in name} == lasting
