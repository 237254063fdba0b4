"""Tests of reproducible builds, and of refused releases."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from backports import zstd

from ncen_updater.formats.tree import parse_tree
from ncen_updater.publisher.build.release_build import build_release
from ncen_updater.publisher.errors import BuildError
from tests.publisher.releases import write_release


def digests(staging: Path) -> dict[str, str]:
    root = staging / "targets"
    return {
        p.relative_to(root).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(root.rglob("*"))
        if p.is_file()
    }


def build_in_process(release: Path, staging: Path, cwd: Path, umask: int, **env: str) -> None:
    code = (
        "import os, sys; from pathlib import Path; os.umask(int(sys.argv[3]));"
        "from ncen_updater.publisher.build.release_build import build_release;"
        "build_release(Path(sys.argv[1]), Path(sys.argv[2]))"
    )
    root = str(Path(__file__).parents[2])
    subprocess.run(
        [sys.executable, "-c", code, str(release), str(staging), str(umask)],
        cwd=cwd,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": root, **env},
        check=True,
    )


def test_build_is_reproducible_under_other_settings(tmp_path: Path) -> None:
    one = write_release(tmp_path / "one")
    two = tmp_path / "elsewhere" / "two"
    shutil.copytree(one, two, symlinks=True)
    for number, path in enumerate(sorted(two.rglob("*"))):
        if not path.is_symlink():
            os.utime(path, (10_000 + number, 20_000 + number))
    (two / "Zahl é.txt").chmod(0o600)
    (two / "empty").chmod(0o700)
    build_in_process(one, tmp_path / "s1", tmp_path, 0o022, TZ="UTC", LC_ALL="C.UTF-8")
    build_in_process(two, tmp_path / "s2", two, 0o077, TZ="Asia/Tokyo", LC_ALL="C", HOME="/")
    assert digests(tmp_path / "s1") == digests(tmp_path / "s2")
    assert len(digests(tmp_path / "s1")) == 3


def test_archive_and_tree_agree(tmp_path: Path) -> None:
    built = build_release(write_release(tmp_path / "r"), tmp_path / "s")
    targets = tmp_path / "s" / "targets"
    packed = (targets / "trees/ncen/3.3.0.json.zst").read_bytes()
    tree = parse_tree(zstd.decompress(packed), "tree")
    assert tree.compute_digest() == built.document.tree_digest
    entries = {entry.path: entry for entry in tree.entries}
    assert "manifest.toml" not in entries
    with tarfile.open(targets / "ncen-3.3.0.tar.gz") as tar:
        members = tar.getmembers()
        assert [m.name for m in members] == [entry.path for entry in tree.entries]
        for member in members:
            entry = entries[member.name]
            assert (member.uid, member.gid, member.uname, member.mtime) == (0, 0, "", 315532800)
            assert member.mode == entry.mode
            if member.isreg():
                stream = tar.extractfile(member)
                assert stream is not None
                assert hashlib.sha256(stream.read()).hexdigest() == entry.sha256
    assert {m.name: oct(m.mode) for m in members if m.isreg()} == {
        "Zahl é.txt": "0o644",
        "bin/app": "0o755",
    }


def test_missing_migration_file_is_refused(tmp_path: Path) -> None:
    extra = (
        '[[databases]]\nname = "cases"\n[[databases.migrations]]\nid = "001"\n'
        'up = "migrations/{engine}/001.up.sql"\nirreversible = "nothing to go back to"\n'
    )
    release = write_release(tmp_path / "r", extra=extra)
    with pytest.raises(BuildError, match="001"):
        build_release(release, tmp_path / "s")
    (release / "migrations/postgresql").mkdir(parents=True)
    (release / "migrations/postgresql/001.up.sql").write_text("SELECT 1")
    built = build_release(release, tmp_path / "s")
    assert list(built.document.migrations) == ["migrations/postgresql/001.up.sql"]


@pytest.mark.parametrize("kind", ["fifo", "outward link", "absolute link", "undecodable name"])
def test_forbidden_content_is_refused(tmp_path: Path, kind: str) -> None:
    release = write_release(tmp_path / "r")
    if kind == "fifo":
        os.mkfifo(release / "pipe")
    elif kind == "undecodable name":
        (Path(os.fsdecode(os.fsencode(release) + b"/\xff"))).write_text("x")
    else:
        (release / "bad").symlink_to("../../etc" if kind == "outward link" else "/etc")
    with pytest.raises(BuildError):
        build_release(release, tmp_path / "s")
    assert not list((tmp_path / "s").rglob("*.tar.gz"))


def test_memory_is_independent_of_the_tree_size(tmp_path: Path) -> None:
    """A file of 300 MB is packed in a process that may not have as much memory."""
    release = write_release(tmp_path / "r")
    with (release / "large").open("wb") as stream:
        stream.truncate(300_000_000)
    code = (
        "import sys, resource; from pathlib import Path;"
        "from ncen_updater.publisher.build.release_build import build_release;"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
        "build_release(Path(sys.argv[1]), Path(sys.argv[2]));"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(release), str(tmp_path / "s")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) < 60_000  # KiB
