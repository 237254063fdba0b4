"""The disk of the machine trial loses what was not flushed, and nothing else."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from benchmarks.machine.disk import BLOCK, SECTOR, Disk, Image, Loss, Recording, Write, survivors
from benchmarks.machine.nbd import NbdServer

A, B, C = (bytes([letter]) * BLOCK for letter in b"abc")
PENDING = (Write(0, A + B), Write(2 * BLOCK, C))


def base(tmp_path: Path, blocks: int = 8) -> Path:
    path = tmp_path / "base"
    path.write_bytes(bytes(blocks * BLOCK))
    return path


def written(writes: list[Write]) -> set[tuple[int, bytes]]:
    """Sectors that are on the medium, by their number."""
    return {
        ((write.offset + at) // SECTOR, write.data[at : at + SECTOR])
        for write in writes
        for at in range(0, len(write.data), SECTOR)
    }


@pytest.mark.parametrize("loss", Loss)
@pytest.mark.parametrize("seed", range(5))
def test_surviving_writes_are_a_subset_of_the_pending_ones(loss: Loss, seed: int) -> None:
    left = survivors(PENDING, loss, Random(seed))
    assert written(left) <= written(list(PENDING))
    assert left == survivors(PENDING, loss, Random(seed))


def test_all_or_no_writes_survive() -> None:
    assert survivors(PENDING, Loss.DROP, Random(1)) == []
    assert survivors(PENDING, Loss.KEEP, Random(1)) == list(PENDING)


@pytest.mark.parametrize(("loss", "unit"), [(Loss.SUBSET, BLOCK), (Loss.TEAR, SECTOR)])
def test_each_sector_survives_completely_or_not_at_all(loss: Loss, unit: int) -> None:
    sizes, numbers = set(), set()
    for seed in range(20):
        left = survivors(PENDING, loss, Random(seed))
        sizes |= {len(write.data) for write in left}
        numbers.add(len(left))
    assert sizes == {unit}
    assert len(numbers) > 1


def test_only_the_last_write_of_a_prefix_is_partial() -> None:
    for seed in range(20):
        *whole, torn = survivors(PENDING, Loss.PREFIX, Random(seed))
        assert whole == list(PENDING[: len(whole)])
        assert torn.offset == PENDING[len(whole)].offset
        assert PENDING[len(whole)].data.startswith(torn.data)
        assert len(torn.data) < len(PENDING[len(whole)].data)


def test_image_reads_its_writes_and_leaves_its_base_unchanged(tmp_path: Path) -> None:
    image = Image(base(tmp_path))
    image.write(BLOCK + 100, b"x" * 5000)
    other = image.fork()
    other.write(0, A)
    assert image.read(BLOCK + 99, 5002) == b"\0" + b"x" * 5000 + b"\0"
    assert image.read(0, 4) == bytes(4)
    assert other.read(BLOCK - 1, 2) == b"a\0"
    assert image.base.read_bytes() == bytes(8 * BLOCK)
    image.save(tmp_path / "saved")
    assert (tmp_path / "saved").read_bytes() == image.read(0, 8 * BLOCK)


def test_power_cut_loses_unflushed_writes(tmp_path: Path) -> None:
    begin = Image(base(tmp_path))
    disk = Disk(begin, Recording(tmp_path / "recording"))
    disk.write(0, A)
    disk.flush()
    disk.write(0, B)
    disk.write(BLOCK, C)
    entries = disk.stop()
    assert disk.write(0, C) is False
    assert disk.flush() is False
    assert disk.read(0, 1) is None

    image, pending = disk.recording.cut(begin, entries, Loss.DROP, Random(1))
    assert image.read(0, 2 * BLOCK) == A + bytes(BLOCK)
    assert pending.size == 2 * BLOCK
    image, _ = disk.recording.cut(begin, entries, Loss.KEEP, Random(1))
    assert image.read(0, 2 * BLOCK) == B + C
    # Before the flush was answered, not even the first write is promised.
    image, pending = disk.recording.cut(begin, 1, Loss.DROP, Random(1))
    assert image.read(0, BLOCK) == bytes(BLOCK)
    assert pending.size == BLOCK
    assert begin.read(0, BLOCK) == bytes(BLOCK)
    disk.recording.close()


def test_recording_is_readable(tmp_path: Path) -> None:
    first = Recording(tmp_path / "recording")
    first.add_write(BLOCK, A)
    first.add_flush()
    first.close()
    again = Recording(tmp_path / "recording")
    assert list(again.writes(0, 2)) == [Write(BLOCK, A), None]
    assert again.when(1) <= again.when(2) <= time.time()
    again.close()


@contextlib.contextmanager
def mounted(file: Path, place: Path) -> Iterator[None]:
    subprocess.run(["mount", "-o", "loop", str(file), str(place)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_ext4_keeps_synchronised_data_and_loses_the_rest(tmp_path: Path) -> None:
    """The whole way: a file system, a loop device, FUSE, NBD; and a cut."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a file system")
    for program in ("nbdfuse", "mkfs.ext4", "fusermount3"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    if not Path("/dev/fuse").exists() or not Path("/dev/loop-control").exists():
        pytest.skip("there is no FUSE or no loop device here")
    image, fuse, place = tmp_path / "base", tmp_path / "fuse", tmp_path / "mounted"
    fuse.mkdir()
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(64 << 20)
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    begin = Image(image)
    disk = Disk(begin, Recording(tmp_path / "recording"))
    server = NbdServer(disk, tmp_path / "nbd")
    client = subprocess.Popen(["nbdfuse", str(fuse), f"nbd+unix:///?socket={tmp_path}/nbd"])
    try:
        while not (fuse / "nbd").exists():
            assert client.poll() is None
            time.sleep(0.05)
        with mounted(fuse / "nbd", place):
            kept = place / "kept"
            kept.write_bytes(A)
            with kept.open("rb") as file:
                os.fsync(file.fileno())
            (place / "lost").write_bytes(B)
            entries = disk.stop()
    finally:
        subprocess.run(["fusermount3", "-u", str(fuse)], check=False)
        client.wait(30)
        server.close()
    left, _ = disk.recording.cut(begin, entries, Loss.DROP, Random(1))
    disk.recording.close()
    left.save(tmp_path / "left")
    with mounted(tmp_path / "left", place):
        assert (place / "kept").read_bytes() == A
        assert not (place / "lost").exists()
