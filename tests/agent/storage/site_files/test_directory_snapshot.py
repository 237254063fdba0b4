"""Tests of snapshots of one directory of site files, on real files."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ncen_updater.agent.storage.site_files.directory_index import (
    SnapshotMethod,
    choose_snapshot_method,
    decode_index,
    encode_index,
    get_snapshot_directory,
    list_leftovers,
    survey_directory,
)
from ncen_updater.agent.storage.site_files.directory_snapshot import (
    DirectorySnapshot,
    RestoreResult,
    UnsafeSnapshotDirectoryError,
)
from ncen_updater.common.messages import (
    INDEX_UNUSABLE,
    SITE_FILES_NOT_RESTORED,
    SITE_FILES_NOT_SAVED,
)
from tests.support.errors import refused
from tests.support.rotation import in_turns

ROOT = Path(__file__).parents[4]
METHODS = (SnapshotMethod.LINK, SnapshotMethod.COPY)
Picture = tuple[str, int, int, int, int, bytes | str | None]


def picture(directory: Path) -> dict[str, Picture]:
    """Everything that is to be as before: kind, mode, owner, time and content of each entry."""
    found = {}
    for path in (directory, *directory.rglob("*")):
        look = path.lstat()
        content: bytes | str | None = None
        if path.is_symlink():
            content = str(path.readlink())
        elif path.is_file():
            content = path.read_bytes()
        found[str(path.relative_to(directory))] = (
            stat.filemode(look.st_mode), look.st_uid, look.st_gid, look.st_mtime_ns, 0, content,
        )  # fmt: skip
    return found


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    directory = tmp_path / "srv" / "photos"
    (directory / "lent" / "deep").mkdir(parents=True)
    for number in range(20):
        (directory / f"{number}.jpg").write_bytes(bytes([number]) * (number + 1))
    (directory / "lent" / "deep" / "a.jpg").write_bytes(b"deep")
    (directory / "lent" / "b\udcff.jpg").write_bytes(b"name of no encoding")
    (directory / "empty").mkdir()
    (directory / "link").symlink_to("0.jpg")
    (directory / "19.jpg").chmod(0o440)
    (directory / "lent").chmod(0o2750)
    for path in (directory, *directory.rglob("*")):
        os.utime(path, ns=(10**18, 10**18 + len(path.name)), follow_symlinks=False)
    return directory


def by_year(photos: Path) -> None:
    """Arrange the pictures as a release does at its first start."""
    for path in list(photos.glob("*.jpg")):
        year = photos / str(2000 + int(path.stem) % 3)
        year.mkdir(exist_ok=True)
        path.rename(year / path.name)


def wipe(photos: Path) -> None:
    for path in list(photos.iterdir()):
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def replace(photos: Path) -> None:
    (photos / "new").write_bytes(b"another")
    (photos / "new").rename(photos / "3.jpg")


def rights(photos: Path) -> None:
    (photos / "4.jpg").chmod(0o600)
    (photos / "lent").chmod(0o700)
    photos.chmod(0o711)
    if os.geteuid() == 0:
        os.chown(photos / "5.jpg", 65534, 65534)
        os.chown(photos / "lent", 65534, 65534)


def kinds(photos: Path) -> None:
    (photos / "6.jpg").unlink()
    (photos / "6.jpg").mkdir()
    (photos / "6.jpg" / "thumb").write_bytes(b"t")
    shutil.rmtree(photos / "lent")
    (photos / "lent").symlink_to("/etc")
    (photos / "link").unlink()
    (photos / "link").symlink_to("/etc/passwd")


def whole(photos: Path) -> None:
    photos.rename(photos.with_name("old-photos"))
    photos.symlink_to("old-photos")


WAYS: dict[str, Callable[[Path], None]] = {
    "by year": by_year, "wipe": wipe, "replace": replace, "rights": rights, "kinds": kinds,
    "whole": whole,
}  # fmt: skip


def take_snapshot(
    photos: Path, method: SnapshotMethod, change: str = "abcdefgh"
) -> DirectorySnapshot:
    directory = DirectorySnapshot(photos, change, method)
    directory.prepare()
    directory.complete()
    return directory


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("way", WAYS)
def test_changes_by_a_release_are_reverted(photos: Path, method: SnapshotMethod, way: str) -> None:
    before = picture(photos)
    directory = take_snapshot(photos, method)
    assert picture(photos) == before
    WAYS[way](photos)
    assert picture(photos) != before or photos.is_symlink()
    found = directory.restore(required=True)
    assert not photos.is_symlink()
    assert picture(photos) == before
    assert not found.overwritten
    assert not found.lost
    if way in ("by year", "wipe", "rights"):  # what was only moved is not left twice
        assert found.quarantined == 0
    assert directory.list_missing() == ()
    assert directory.restore(required=True) == RestoreResult()
    directory.discard()
    assert picture(photos) == before
    assert not directory.is_complete()


def test_shared_directory_is_restored_without_the_right_to_set_its_group(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As under RestrictSUIDSGID: no chmod may name these bits, and directories inherit them."""
    photos.chmod(0o2775)
    (photos / "lent").chmod(0o2775)
    (photos / "lent" / "deep").chmod(0o2770)
    before = picture(photos)
    directory = take_snapshot(photos, SnapshotMethod.LINK)
    wipe(photos)
    fchmod = os.fchmod

    def refused(descriptor: int, mode: int) -> None:
        if mode & 0o6000:
            raise PermissionError(1, "Operation not permitted")
        fchmod(descriptor, mode)

    monkeypatch.setattr(os, "fchmod", refused)
    directory.restore(required=True)
    assert picture(photos) == before


@pytest.mark.parametrize("method", METHODS)
def test_added_files_are_set_aside_and_never_deleted(photos: Path, method: SnapshotMethod) -> None:
    directory = take_snapshot(photos, method)
    (photos / "thumbs" / "small").mkdir(parents=True)
    (photos / "thumbs" / "small" / "0.jpg").write_bytes(b"thumb")
    replace(photos)
    found = directory.restore(required=True)
    assert (found.quarantined, found.restored) == (2, 1)
    aside = get_snapshot_directory(photos) / "quarantine-abcdefgh"
    assert (aside / "thumbs" / "small" / "0.jpg").read_bytes() == b"thumb"
    assert (aside / "3.jpg").read_bytes() == b"another"
    directory.discard()
    assert list_leftovers(photos) == (("abcdefgh",), ())
    # Twice under one name: neither goes.
    directory.prepare()
    directory.complete()
    (photos / "new").write_bytes(b"a third")
    (photos / "new").rename(photos / "3.jpg")
    directory.restore(required=True)
    assert {path.read_bytes() for path in aside.glob("3.jpg*")} == {b"another", b"a third"}


def test_hard_link_detects_in_place_writes_and_a_copy_reverts_them(photos: Path) -> None:
    before = picture(photos)
    directory = take_snapshot(photos, SnapshotMethod.LINK)
    with (photos / "7.jpg").open("r+b") as stream:
        stream.write(b"watermark")
    assert directory.restore(required=True).overwritten == ("7.jpg",)
    directory.discard()
    assert list_leftovers(photos) == ((), ("abcdefgh",))
    assert (get_snapshot_directory(photos) / "written-abcdefgh").read_text() == "7.jpg\n"
    (photos / "7.jpg").write_bytes(bytes([7]) * 8)
    os.utime(photos / "7.jpg", ns=(10**18, 10**18 + 5))
    assert picture(photos) == before
    directory = take_snapshot(photos, SnapshotMethod.COPY)
    with (photos / "7.jpg").open("r+b") as stream:
        stream.write(b"watermark")
    found = directory.restore(required=True)
    assert (found.overwritten, found.quarantined, found.restored) == ((), 1, 1)
    assert picture(photos) == before


@pytest.mark.parametrize("method", METHODS)
def test_changes_between_preparation_and_downtime_are_preserved(
    photos: Path, method: SnapshotMethod
) -> None:
    directory = DirectorySnapshot(photos, "abcdefgh", method)
    directory.prepare()
    (photos / "0.jpg").unlink()
    (photos / "1.jpg").write_bytes(b"edited in place")
    (photos / "20.jpg").write_bytes(b"new")
    (photos / "2.jpg").rename(photos / "lent" / "2.jpg")
    shutil.rmtree(photos / "empty")
    (photos / "empty").write_bytes(b"a file now")
    before = picture(photos)
    directory.complete()
    wipe(photos)
    directory.restore(required=True)
    assert picture(photos) == before


@pytest.mark.parametrize("size", [0, 5])
def test_file_rewritten_with_its_old_time_is_copied_again(photos: Path, size: int) -> None:
    fresh = photos / "fresh.jpg"
    fresh.write_bytes(b"1" * size)
    look = fresh.stat()
    directory = DirectorySnapshot(photos, "abcdefgh", SnapshotMethod.COPY)
    directory.prepare()
    fresh.write_bytes(b"2" * size)
    os.utime(fresh, ns=(look.st_atime_ns, look.st_mtime_ns))
    directory.complete()
    fresh.unlink()
    directory.restore(required=True)
    assert fresh.read_bytes() == b"2" * size


def test_recently_written_file_is_checked_again_in_the_downtime(photos: Path) -> None:
    """Written again within one tick of the clock, neither size nor times would tell."""
    (photos / "fresh.jpg").write_bytes(b"1")
    DirectorySnapshot(photos, "abcdefgh", SnapshotMethod.COPY).prepare()
    prepared = decode_index((get_snapshot_directory(photos) / "abcdefgh" / "prepared").read_bytes())
    assert prepared["fresh.jpg"].ctime_ns == 0
    assert prepared["0.jpg"].ctime_ns > 0


def test_incomplete_snapshot_is_not_restored(photos: Path) -> None:
    directory = DirectorySnapshot(photos, "abcdefgh", SnapshotMethod.LINK)
    directory.prepare()
    (photos / "0.jpg").unlink()
    assert not directory.is_complete()
    assert directory.restore() == RestoreResult()
    assert not (photos / "0.jpg").exists()


def test_removed_snapshot_is_reported_and_missing_disk_stops(photos: Path) -> None:
    directory = take_snapshot(photos, SnapshotMethod.LINK)
    shutil.rmtree(get_snapshot_directory(photos))
    assert directory.restore(required=True).lost
    shutil.rmtree(photos)
    with refused(SITE_FILES_NOT_RESTORED):
        directory.restore(required=True)


def test_removed_snapshot_file_is_reported(photos: Path) -> None:
    directory = take_snapshot(photos, SnapshotMethod.LINK)
    (get_snapshot_directory(photos) / "abcdefgh" / "tree" / "8.jpg").unlink()
    wipe(photos)
    found = directory.restore(required=True)
    assert found.lost == ("8.jpg",)
    assert (photos / "9.jpg").exists()
    assert directory.list_missing() == ()


def test_last_name_of_a_file_is_never_removed(photos: Path) -> None:
    """Its snapshot file was removed by another user, and the release had moved it."""
    directory = take_snapshot(photos, SnapshotMethod.LINK)
    (get_snapshot_directory(photos) / "abcdefgh" / "tree" / "8.jpg").unlink()
    (photos / "8.jpg").rename(photos / "moved.jpg")
    found = directory.restore(required=True)
    assert (found.lost, found.quarantined) == (("8.jpg",), 1)
    aside = get_snapshot_directory(photos) / "quarantine-abcdefgh" / "moved.jpg"
    assert aside.read_bytes() == bytes([8]) * 9


def test_damaged_index_is_rejected(photos: Path) -> None:
    directory = take_snapshot(photos, SnapshotMethod.LINK)
    index = get_snapshot_directory(photos) / "abcdefgh" / "index"
    index.write_bytes(index.read_bytes()[:-30])
    with refused(INDEX_UNUSABLE):
        directory.restore(required=True)


def test_symlink_in_place_of_the_snapshot_is_refused(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "way").symlink_to(photos.parent)
    with refused(SITE_FILES_NOT_SAVED):
        DirectorySnapshot(tmp_path / "way" / "photos", "abcdefgh", SnapshotMethod.LINK).prepare()
    with pytest.raises(OSError):
        survey_directory(tmp_path / "way" / "photos")


def test_snapshot_directory_of_another_owner_is_refused(photos: Path, tmp_path: Path) -> None:
    directory = DirectorySnapshot(photos, "abcdefgh", SnapshotMethod.LINK)
    (tmp_path / "theirs").mkdir()
    get_snapshot_directory(photos).symlink_to(tmp_path / "theirs")
    with refused(SITE_FILES_NOT_SAVED):
        directory.prepare()
    get_snapshot_directory(photos).unlink()
    get_snapshot_directory(photos).mkdir(mode=0o755)
    with pytest.raises(UnsafeSnapshotDirectoryError):
        directory.prepare()
    directory.discard()
    with pytest.raises(OSError, match="somebody else's"):
        survey_directory(photos)
    assert list((tmp_path / "theirs").iterdir()) == []


def test_planted_symlinks_are_not_followed(photos: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "a.jpg").write_bytes(b"of nobody's business")
    before = picture(photos)
    directory = take_snapshot(photos, SnapshotMethod.LINK)
    shutil.rmtree(photos / "lent" / "deep")
    (photos / "lent" / "deep").symlink_to(outside)
    directory.restore(required=True)
    assert picture(photos) == before
    assert (outside / "a.jpg").read_bytes() == b"of nobody's business"
    assert not (photos / "lent" / "deep").is_symlink()


def test_special_files_are_ignored(photos: Path) -> None:
    os.mkfifo(photos / "pipe")
    directory = take_snapshot(photos, SnapshotMethod.LINK)
    by_year(photos)
    directory.restore(required=True)
    assert stat.S_ISFIFO((photos / "pipe").stat().st_mode)


# ---- after the commit --------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_rollback_restores_moved_paths_but_no_deleted_files(
    photos: Path, method: SnapshotMethod
) -> None:
    upgrade = take_snapshot(photos, method)
    by_year(photos)
    (photos / "2000" / "0.jpg").unlink()  # a user
    (photos / "2000" / "new.jpg").write_bytes(b"entered since")
    back = take_snapshot(photos, method, "rollback")
    now = picture(photos)
    assert back.restore_old_paths(upgrade, everything=False) == (19, 1)
    assert (photos / "1.jpg").read_bytes() == bytes([1]) * 2
    assert not (photos / "0.jpg").exists()
    assert {k: v for k, v in picture(photos).items() if k in now and k != "."} == {
        k: v for k, v in now.items() if k != "."
    }
    assert back.restore(required=True).quarantined == (0 if method is SnapshotMethod.LINK else 19)
    assert picture(photos) == now


def test_restore_returns_every_previous_file(photos: Path) -> None:
    before = picture(photos)
    upgrade = take_snapshot(photos, SnapshotMethod.LINK)
    wipe(photos)
    (photos / "3.jpg").write_bytes(b"since")
    back = take_snapshot(photos, SnapshotMethod.LINK, "rollback")
    given, gone = back.restore_old_paths(upgrade, everything=True)
    assert (given, gone) == (21, 0)
    assert (photos / "3.jpg").read_bytes() == b"since"
    after = picture(photos)
    assert {k for k in before if k not in after} == {"empty", "link"}
    assert all(after[k] == before[k] for k in after if k not in ("3.jpg", "."))


def test_rollback_without_a_snapshot_restores_nothing(photos: Path) -> None:
    upgrade = take_snapshot(photos, SnapshotMethod.LINK)
    upgrade.discard()
    back = take_snapshot(photos, SnapshotMethod.LINK, "rollback")
    assert back.restore_old_paths(upgrade, everything=True) == (0, 0)


def test_non_utf8_names_survive_the_index(photos: Path) -> None:
    from ncen_updater.agent.storage.site_files.directory_index import read_directory
    from ncen_updater.common.directory_handle import DirectoryHandle

    found = read_directory(DirectoryHandle(photos))
    assert decode_index(encode_index(found)) == found
    with pytest.raises(ValueError, match="truncated index"):
        decode_index(b"\n".join(encode_index(found).splitlines()[1:]))


def test_choosing_the_snapshot_method_leaves_no_files(photos: Path) -> None:
    before = picture(photos.parent)
    assert choose_snapshot_method(photos, independent=False) in (
        SnapshotMethod.LINK,
        SnapshotMethod.CLONE,
    )
    assert choose_snapshot_method(photos, independent=True) in (
        SnapshotMethod.COPY,
        SnapshotMethod.CLONE,
    )
    assert survey_directory(photos).files == 22
    assert picture(photos.parent) == before


# ---- killed at every instant -------------------------------------------------------------------

WORKER = """
import os, signal, sys
from pathlib import Path
from ncen_updater.agent.storage.site_files.directory_snapshot import DirectorySnapshot
from ncen_updater.agent.storage.site_files.directory_index import SnapshotMethod

left = int(sys.argv[4])

def struck(name):
    act = getattr(os, name)
    def call(*args, **kwargs):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        result = act(*args, **kwargs)
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return call

for name in ("link", "unlink", "rename", "replace", "mkdir", "rmdir", "symlink", "fsync", "chown",
             "fchmod", "utime"):
    setattr(os, name, struck(name))
directory = DirectorySnapshot(Path(sys.argv[1]), "abcdefgh", SnapshotMethod(sys.argv[2]))
for act in sys.argv[3].split(","):
    getattr(directory, act)()
"""


def killed(photos: Path, method: SnapshotMethod, acts: str, instant: int) -> bool:
    """Run acts in a process that is killed before or after its n-th effect; True if it was."""
    argv = [sys.executable, "-c", WORKER, str(photos), method.value, acts, str(instant)]
    ended = subprocess.run(argv, cwd=ROOT, check=False, capture_output=True, text=True)
    assert ended.returncode in (0, -signal.SIGKILL), ended.stderr
    return ended.returncode != 0


def instants(step: int) -> Iterator[int]:
    yield from range(1, 2000, step)


@in_turns("method")
@pytest.mark.parametrize("method", METHODS)
def test_killed_while_the_snapshot_is_taken(photos: Path, method: SnapshotMethod) -> None:
    before = picture(photos)
    struck = 0
    for instant in instants(7):
        if not killed(photos, method, "prepare,complete", instant):
            break
        struck += 1
        directory = DirectorySnapshot(photos, "abcdefgh", method)
        assert directory.restore() == RestoreResult()
        directory.discard()
        assert picture(photos) == before
    assert struck >= 5


@in_turns("method")
@pytest.mark.parametrize("method", METHODS)
def test_killed_while_the_snapshot_is_restored(photos: Path, method: SnapshotMethod) -> None:
    before = picture(photos)
    struck = 0
    for instant in instants(9):
        directory = take_snapshot(photos, method)
        rights(photos)
        by_year(photos)
        shutil.rmtree(photos / "lent")
        (photos / "lent").symlink_to("/etc")
        (photos / "thumbs").mkdir()
        (photos / "thumbs" / "x").write_bytes(b"x")
        was_killed = killed(photos, method, "restore", instant)
        again = killed(photos, method, "restore", instant)
        directory.restore(required=True)
        assert picture(photos) == before
        aside = get_snapshot_directory(photos) / "quarantine-abcdefgh"
        assert (aside / "thumbs" / "x").read_bytes() == b"x"
        shutil.rmtree(aside)
        directory.discard()
        struck += was_killed
        if not was_killed and not again:
            break
    assert struck >= 8
