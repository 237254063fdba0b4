"""Tests of the container example without an agent: its image, its stop, its leftovers."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.examples.building import CONTAINER, OLD, release
from tests.support.podman import environment_in, forget, podman_settings
from tests.support.processes import with_variable

STOPPED = 3
LIMIT_S = 60
SECRET = "postgresql://parcels:of-nobody@127.0.0.1:1/parcels"


class Site:
    """Adjacent slots, and the settings of the site's commands."""

    def __init__(self, root: Path) -> None:
        self.slots, self.run, self.store = root / "slots", root / "run", root / "images"
        self.slots.mkdir()
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.environment = environment_in(root, podman_settings()) | {
            "RUN": str(self.run), "STORE": str(self.store), "PROGRAM": "parcels",
            "PORT": str(port), "PARCELS_DB": SECRET,
        }  # fmt: skip

    def control(self, act: str, slot: str = OLD, **rest: str) -> int:
        """Exit status of one of the three commands."""
        environment = self.environment | {"NCEN_CURRENT": str(self.slots / slot)} | rest
        words = [str(CONTAINER.sources / "control"), "web", act]
        return subprocess.run(words, env=environment, timeout=LIMIT_S, check=False,
                              stdout=subprocess.DEVNULL).returncode  # fmt: skip

    def processes(self) -> dict[str, int]:
        """By what they are, those of the container and of what looks after it."""
        found = {}
        for pid, words in with_variable(f"NCEN_CONTAINER={self.run}/web"):
            assert SECRET not in " ".join(words)
            found[words[1] if words[0] == "/bin/sh" else Path(words[0]).name] = pid
        return found

    def podman(self, *words: str) -> str:
        """One command on the store of this start of the machine."""
        (store,) = self.store.iterdir()
        places = ["--root", str(store), "--runroot", str(self.run / "containers"),
                  "--tmpdir", str(self.run / "libpod")]  # fmt: skip
        environment = self.environment | {
            "XDG_RUNTIME_DIR": str(self.run),
            "CONTAINERS_CONF": str(self.run / "containers.conf"),
        }
        return subprocess.run(["podman", *places, *words], env=environment, text=True, check=True,
                              stdout=subprocess.PIPE, timeout=LIMIT_S).stdout  # fmt: skip

    def images(self) -> set[str]:
        """Digests of what is in the store."""
        said = self.podman("images", "--quiet", "--no-trunc")
        return {line.removeprefix("sha256:") for line in said.split()}

    def image_of(self, slot: str) -> str:
        """What a release says that it runs."""
        return (self.slots / slot / "image.id").read_text().strip()


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("releases")
    for version in (OLD, CONTAINER.release):
        release(CONTAINER, version, place).rename(place / version)
    return place


@pytest.fixture
def site(tmp_path: Path, releases: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    for version in (OLD, CONTAINER.release):
        shutil.copytree(releases / version, made.slots / version)
    try:
        yield made
    finally:
        made.control("stop", PATIENCE="1")
        forget(tmp_path)


def test_next_image_shares_the_program_layer(releases: Path) -> None:
    """Which no site is sent again; the image's name is that of a file in both."""
    layers = []
    for version in (OLD, CONTAINER.release):
        blobs = releases / version / "image/blobs/sha256"
        assert (blobs / (releases / version / "image.id").read_text().strip()).is_file()
        layers.append({path.name: path.stat().st_size for path in blobs.iterdir()})
    shared = layers[0].keys() & layers[1].keys()
    assert sum(layers[1][name] for name in layers[1].keys() - shared) < 20_000
    assert sum(layers[1][name] for name in shared) > 1_000_000


def test_container_starts_once_stops_and_leaves_nothing(site: Site) -> None:
    assert site.control("status") == STOPPED
    assert site.control("start") == 0
    held = site.processes()
    assert held.keys() == {"conmon", "/app/web", "httpd"}
    assert site.control("status") == 0
    (store,) = site.store.iterdir()
    assert store.stat().st_mode & 0o777 == 0o700, "what podman notes of a container"
    assert site.control("start") == 0
    assert site.processes() == held, "after two starts"
    root = [
        line.split() for line in Path(f"/proc/{held['httpd']}/mountinfo").read_text().splitlines()
    ]
    assert [words[5].split(",")[0] for words in root if words[4] == "/"] == ["ro"]
    assert site.control("stop") == 0
    assert (site.processes(), site.control("status")) == ({}, STOPPED)
    assert site.control("stop") == 0


@pytest.mark.parametrize("whom", ["conmon", "/app/web"])
def test_container_with_outdated_podman_state_is_stopped_and_restarted(
    site: Site, whom: str
) -> None:
    """As after SIGKILL: podman believes that it runs, or its monitor is gone."""
    assert site.control("start") == 0
    held = site.processes()
    os.kill(held[whom], signal.SIGKILL)
    if whom == "conmon":
        assert site.control("status") == 0, "it runs, whoever looks after it"
    assert site.control("stop") == 0
    assert (site.processes(), site.control("status")) == ({}, STOPPED)
    assert site.control("start") == 0
    assert site.processes().keys() >= {"conmon", "/app/web"}


def test_unresponsive_container_is_killed(site: Site) -> None:
    """Its first process is held, so that no word reaches it."""
    assert site.control("start") == 0
    os.kill(site.processes()["/app/web"], signal.SIGSTOP)
    os.kill(site.processes()["conmon"], signal.SIGSTOP)
    assert site.control("stop", PATIENCE="2") == 0
    assert site.processes() == {}


def test_only_the_image_of_the_release_runs(site: Site) -> None:
    """A layer with one changed byte; an unknown digest."""
    layer = max((site.slots / OLD / "image/blobs/sha256").iterdir(), key=lambda f: f.stat().st_size)
    content = bytearray(layer.read_bytes())
    content[5_000_000] ^= 1
    layer.write_bytes(content)
    assert site.control("start") != 0
    (site.slots / CONTAINER.release / "image.id").write_text("0" * 64)
    assert site.control("start", CONTAINER.release) != 0
    assert (site.processes(), site.control("status")) == ({}, STOPPED)


def test_store_below_a_slot_is_refused(site: Site) -> None:
    """As with a setting that was not filled in."""
    assert site.control("start", STORE="images") != 0
    assert not (site.slots / OLD / "images").exists()


def test_store_contains_the_images_of_existing_slots(site: Site) -> None:
    """Running images are kept; leftovers of an earlier boot are not."""
    old, new = (site.image_of(version) for version in (OLD, CONTAINER.release))
    before = site.store / "another-start-of-the-machine"
    (before / "overlay/work").mkdir(parents=True)
    (before / "overlay/work").chmod(0)
    assert site.control("start") == 0
    assert site.images() == {old}
    shutil.rmtree(site.slots / OLD)
    migrator = [str(site.slots / CONTAINER.release / "bin/parcels"), "migrate"]
    told = {"NCEN_DB_PARCELS_URL": "postgresql://parcels@127.0.0.1:1/nowhere"}
    ended = subprocess.run(migrator, env=site.environment | told, check=False, timeout=LIMIT_S)
    assert ended.returncode not in (0, 125), "podman itself failed"
    assert site.images() == {old, new}, "the image of what runs was taken away"
    assert site.control("stop") == 0
    site.podman("rmi", new)
    assert site.control("start", CONTAINER.release) == 0
    assert site.images() == {new}
