from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from packaging.version import Version

from ncen_updater.errors import UpdaterError
from ncen_updater.progress import Silent
from ncen_updater.release.tree import EntryType, Tree, TreeEntry
from ncen_updater.slots.compare import Difference, DifferenceKind
from ncen_updater.slots.errors import (
    CurrentAstray,
    RecordUnusable,
    SlotDiffers,
    SlotError,
    SlotInUse,
    SlotMissing,
    SlotNoSpace,
    SlotNotWritten,
)
from ncen_updater.slots.store import SlotStore
from tests.slots.making import document_for, make_release, write_application

OLD, NEW = Version("3.2.4"), Version("3.3.0")


@pytest.fixture
def store(tmp_path: Path) -> SlotStore:
    return SlotStore(tmp_path / "slots", tmp_path / "current")


def copier(source: Path) -> Callable[[Path], None]:
    def fill(place: Path) -> None:
        shutil.copytree(source, place, symlinks=True, dirs_exist_ok=True)

    return fill


def build(store: SlotStore, tmp_path: Path, version: Version) -> Path:
    source = tmp_path / f"source-{version}"
    document, tree = make_release(source, str(version))
    store.assemble(document, tree, copier(source), Silent())
    return store.path(version)


def again(store: SlotStore, tmp_path: Path, version: Version) -> None:
    store.assemble(
        store.document(version),
        store.tree(version),
        copier(tmp_path / f"source-{version}"),
        Silent(),
    )


def test_a_built_slot_is_whole_read_only_and_recorded(store: SlotStore, tmp_path: Path) -> None:
    assert store.versions() == ()
    assert store.current() is None
    place = build(store, tmp_path, NEW)
    assert store.versions() == (NEW,)
    assert store.verify(NEW) == ()
    assert store.document(NEW).manifest.version == "3.3.0"
    assert store.built(NEW, store.tree(NEW).digest())
    assert not store.built(NEW, "0" * 64)
    assert not store.built(OLD, "0" * 64)
    assert (place / "app" / "run").stat().st_mode & 0o777 == 0o555
    assert (place / "VERSION").stat().st_mode & 0o777 == 0o444
    assert not store.leftovers()


def test_versions_are_sorted_as_versions_and_only_whole_slots_count(
    store: SlotStore, tmp_path: Path
) -> None:
    for text in ("3.10.0", "3.9.0"):
        build(store, tmp_path, Version(text))
    (store.directory / "3.3.0.partial").mkdir()
    (store.directory / "03.1.0").mkdir()
    (store.directory / "4.0").mkdir()  # no record
    assert [str(v) for v in store.versions()] == ["3.9.0", "3.10.0"]
    assert [p.name for p in store.leftovers()] == ["3.3.0.partial"]
    store.clean()
    assert not store.leftovers()


def test_building_twice_changes_nothing(store: SlotStore, tmp_path: Path) -> None:
    place = build(store, tmp_path, NEW)
    before = place.stat().st_ino
    again(store, tmp_path, NEW)
    assert place.stat().st_ino == before


def test_a_leftover_of_an_interrupted_build_is_not_taken_over(
    store: SlotStore, tmp_path: Path
) -> None:
    (store.directory / "3.3.0.partial" / "evil").mkdir(parents=True)
    build(store, tmp_path, NEW)
    assert store.verify(NEW) == ()
    assert not store.leftovers()


def test_a_damaged_slot_is_built_anew_unless_in_use(store: SlotStore, tmp_path: Path) -> None:
    place = build(store, tmp_path, NEW)
    (place / "VERSION").chmod(0o644)
    (place / "VERSION").write_text("3.3.1")
    store.switch(NEW)
    with pytest.raises(SlotInUse):
        again(store, tmp_path, NEW)
    build(store, tmp_path, OLD)
    store.switch(OLD)
    again(store, tmp_path, NEW)
    assert store.verify(NEW) == ()
    assert not store.leftovers()


def test_another_release_in_the_place_is_refused(store: SlotStore, tmp_path: Path) -> None:
    build(store, tmp_path, NEW)
    other = tmp_path / "other"
    other.mkdir()
    write_application(other, "else")
    tree = Tree(entries=(TreeEntry(path="x", type=EntryType.DIRECTORY, mode=0o755),))
    with pytest.raises(SlotDiffers):
        store.assemble(document_for("3.3.0", tree), tree, copier(other), Silent())
    assert store.verify(NEW) == ()


def test_files_that_are_not_the_releases_are_refused_and_removed(
    store: SlotStore, tmp_path: Path
) -> None:
    document, tree = make_release(tmp_path / "source", "3.3.0")
    (tmp_path / "source" / "app" / "main.py").write_text("print('3.3.1')\n")
    with pytest.raises(SlotDiffers, match=r"app/main\.py: content"):
        store.assemble(document, tree, copier(tmp_path / "source"), Silent())
    assert store.versions() == ()
    assert store.leftovers() == ()


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, SlotNoSpace),
        (errno.EDQUOT, SlotNoSpace),
        (errno.EIO, SlotNotWritten),
        (errno.EROFS, SlotNotWritten),
    ],
)
def test_a_disk_that_refuses_is_named_and_leaves_nothing(
    store: SlotStore, tmp_path: Path, number: int, kind: type[SlotNotWritten]
) -> None:
    document, tree = make_release(tmp_path / "source", "3.3.0")

    def fill(place: Path) -> None:
        (place / "half").write_text("x")
        raise OSError(number, os.strerror(number))

    with pytest.raises(SlotNotWritten) as caught:
        store.assemble(document, tree, fill, Silent())
    assert type(caught.value) is kind
    assert store.leftovers() == ()
    assert store.versions() == ()


def _truncate(path: Path) -> None:
    path.chmod(0o644)
    path.write_text("")
    path.chmod(0o444)


def _flip(path: Path) -> None:
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    path.chmod(0o444)


def _to_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/passwd")


def _to_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _retarget(path: Path) -> None:
    path.unlink()
    path.symlink_to("run")


TAMPERINGS: dict[str, tuple[str, Callable[[Path], object], DifferenceKind, bool]] = {
    # what is done to which path, how it is called, whether a quick look sees it
    "deleted": ("app/main.py", Path.unlink, DifferenceKind.MISSING, True),
    "emptied": ("app/main.py", _truncate, DifferenceKind.CONTENT, True),
    "same size": ("app/main.py", _flip, DifferenceKind.CONTENT, False),
    "writable": ("app/main.py", lambda p: p.chmod(0o644), DifferenceKind.MODE, True),
    "setuid": ("app/run", lambda p: p.chmod(0o4555), DifferenceKind.MODE, True),
    "link for file": ("VERSION", _to_link, DifferenceKind.TYPE, True),
    "pipe for file": ("VERSION", _to_fifo, DifferenceKind.TYPE, True),
    "link elsewhere": ("app/latest", _retarget, DifferenceKind.TARGET, True),
    "extra": ("app/new", lambda p: p.write_text("x"), DifferenceKind.EXTRA, True),
    "directory mode": ("empty", lambda p: p.chmod(0o777), DifferenceKind.MODE, True),
    "no directory": ("empty", Path.rmdir, DifferenceKind.MISSING, True),
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_every_tampering_is_seen(store: SlotStore, tmp_path: Path, name: str) -> None:
    path, tamper, kind, seen_quickly = TAMPERINGS[name]
    place = build(store, tmp_path, NEW)
    tamper(place / path)
    assert [(d.path, d.kind) for d in store.verify(NEW)] == [(path, kind)]
    quick = store.verify(NEW, full=False)
    assert [(d.path, d.kind) for d in quick] == ([(path, kind)] if seen_quickly else [])


def test_a_missing_slot_cannot_be_verified(store: SlotStore) -> None:
    with pytest.raises(SlotMissing):
        store.verify(NEW)


@pytest.mark.parametrize("content", [b"", b"{}", b'{"entries":[', b"\xff\xfe", None])
@pytest.mark.parametrize("name", ["release.json", "tree.json"])
def test_a_damaged_record_is_an_error_and_never_an_empty_one(
    store: SlotStore, tmp_path: Path, name: str, content: bytes | None
) -> None:
    build(store, tmp_path, NEW)
    record = store.directory / ".records" / "3.3.0" / name
    record.write_bytes(content) if content is not None else record.unlink()
    for ask in (store.verify, store.tree):
        with pytest.raises(RecordUnusable):
            ask(NEW)


@pytest.mark.parametrize(
    ("old", "new"),
    [(b"\n", b"\n "), (b'"mode":493', b'"mode":492'), (b"]", b"]]"), (b"VERSION", b"VERSIoN")],
)
def test_an_edited_tree_is_refused(
    store: SlotStore, tmp_path: Path, old: bytes, new: bytes
) -> None:
    build(store, tmp_path, NEW)
    record = store.directory / ".records" / "3.3.0" / "tree.json"
    record.write_bytes(record.read_bytes().replace(old, new))
    with pytest.raises(RecordUnusable):
        store.verify(NEW)
    with pytest.raises(RecordUnusable):
        store.tree(NEW)


def test_a_record_of_another_version_is_refused(store: SlotStore, tmp_path: Path) -> None:
    build(store, tmp_path, NEW)
    shutil.copytree(store.directory / ".records" / "3.3.0", store.directory / ".records" / "3.2.4")
    with pytest.raises(RecordUnusable):
        store.document(OLD)


@pytest.mark.parametrize("block", [1, 7, 64, 1 << 16])
def test_entries_come_out_whole_wherever_the_blocks_end(
    store: SlotStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    build(store, tmp_path, NEW)
    monkeypatch.setattr("ncen_updater.slots.records.BLOCK", block)
    assert tuple(store._records.entries(NEW)) == store.tree(NEW).entries


def test_switch_is_a_link_in_one_step(store: SlotStore, tmp_path: Path) -> None:
    build(store, tmp_path, OLD)
    build(store, tmp_path, NEW)
    for version in (OLD, OLD, NEW, OLD):
        store.switch(version)
        assert store.current() == version
        assert (store.link / "VERSION").read_text() == str(version)
    assert store.link.readlink() == Path("slots/3.2.4")
    assert [p.name for p in tmp_path.iterdir() if "partial" in p.name] == []


def test_switch_to_what_is_not_there_changes_nothing(store: SlotStore, tmp_path: Path) -> None:
    build(store, tmp_path, OLD)
    store.switch(OLD)
    with pytest.raises(SlotMissing):
        store.switch(NEW)
    assert store.current() == OLD


def test_switch_to_a_directory_without_a_record_is_refused(
    store: SlotStore, tmp_path: Path
) -> None:
    place = build(store, tmp_path, OLD)
    shutil.copytree(place, store.path(NEW), symlinks=True)
    with pytest.raises(SlotMissing):
        store.switch(NEW)


def test_a_link_far_from_the_slots_is_absolute(tmp_path: Path) -> None:
    store = SlotStore(tmp_path / "deep" / "slots", tmp_path / "current")
    build(store, tmp_path, OLD)
    store.switch(OLD)
    assert store.link.readlink() == tmp_path / "deep" / "slots" / "3.2.4"
    assert store.current() == OLD


def test_slots_behind_a_link_are_the_same_slots(tmp_path: Path) -> None:
    (tmp_path / "disk2").mkdir()
    (tmp_path / "slots").symlink_to("disk2")
    store = SlotStore(tmp_path / "slots", tmp_path / "current")
    build(store, tmp_path, OLD)
    (tmp_path / "current").symlink_to(tmp_path / "disk2" / "3.2.4")
    assert store.current() == OLD


@pytest.mark.parametrize(
    "target",
    ["/etc", "slots", "slots/../3.2.4", "slots/3.2.4/app", "slots/03.2.4", "slots/.records", "."],
)
def test_a_link_that_leads_elsewhere_is_an_error(
    store: SlotStore, tmp_path: Path, target: str
) -> None:
    build(store, tmp_path, OLD)
    store.link.symlink_to(target)
    with pytest.raises(CurrentAstray):
        store.current()


@pytest.mark.parametrize("make", [Path.mkdir, Path.touch])
def test_something_in_place_of_the_link_is_an_error(
    store: SlotStore, tmp_path: Path, make: Callable[[Path], None]
) -> None:
    build(store, tmp_path, OLD)
    make(store.link)
    for act in (store.current, lambda: store.switch(OLD)):
        with pytest.raises(CurrentAstray):
            act()


def test_a_link_to_a_slot_that_has_gone_still_names_it(store: SlotStore) -> None:
    store.link.symlink_to("slots/3.2.4")
    assert store.current() == OLD


def test_remove_takes_slot_and_record(store: SlotStore, tmp_path: Path) -> None:
    build(store, tmp_path, OLD)
    build(store, tmp_path, NEW)
    store.switch(NEW)
    with pytest.raises(SlotInUse):
        store.remove(NEW)
    for _ in range(2):
        store.remove(OLD)
        assert store.versions() == (NEW,)
        assert not (store.directory / ".records" / "3.2.4").exists()
    assert store.verify(NEW) == ()


def test_remove_goes_on_where_it_was_interrupted(store: SlotStore, tmp_path: Path) -> None:
    place = build(store, tmp_path, OLD)
    place.rename(store.directory / "3.2.4.removing")
    assert store.versions() == ()
    store.remove(OLD)
    assert not store.leftovers()
    assert not (store.directory / ".records" / "3.2.4").exists()


def test_adopt_takes_an_existing_directory(store: SlotStore, tmp_path: Path) -> None:
    document, tree = make_release(store.path(OLD), "3.2.4")
    assert store.versions() == ()
    for _ in range(2):
        store.adopt(OLD, document, tree)
        assert store.versions() == (OLD,)
        assert store.verify(OLD) == ()


def test_adopt_refuses_other_files_another_version_and_nothing(
    store: SlotStore, tmp_path: Path
) -> None:
    document, tree = make_release(store.path(OLD), "3.2.4")
    with pytest.raises(SlotDiffers):
        store.adopt(NEW, document, tree)
    (store.path(OLD) / "local.conf").write_text("x")
    with pytest.raises(SlotDiffers, match=r"local\.conf: extra"):
        store.adopt(OLD, document, tree)
    assert store.versions() == ()
    shutil.rmtree(store.path(OLD))
    with pytest.raises(SlotMissing):
        store.adopt(OLD, document, tree)


def test_slots_that_are_not_a_directory_are_an_error(store: SlotStore) -> None:
    store.directory.write_text("x")
    with pytest.raises(SlotError):
        store.versions()


def test_the_link_can_be_read_without_pydantic(store: SlotStore, tmp_path: Path) -> None:
    build(store, tmp_path, OLD)
    store.switch(OLD)
    program = (
        "import sys, pathlib; from ncen_updater.slots.link import current_version as c; "
        "print(c(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])), 'pydantic' in sys.modules)"
    )
    out = subprocess.run(
        [sys.executable, "-c", program, str(store.directory), str(store.link)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert out == "3.2.4 False\n"


KILLED = """
import os, signal, sys
from pathlib import Path
import ncen_updater.durable as durable, shutil
from ncen_updater.progress import Silent
from ncen_updater.slots import store as module
from tests.slots.test_store import copier
from tests.slots.making import make_release
root, stop_at = Path(sys.argv[1]), int(sys.argv[2])
count = 0
def counting(owner, name):
    real = getattr(owner, name)
    def wrapped(*args, **kwargs):
        global count
        for _ in range(2):
            count += 1
            if count == stop_at:
                os.kill(os.getpid(), signal.SIGKILL)
            if _ == 0:
                result = real(*args, **kwargs)
        return result
    setattr(owner, name, wrapped)
for owner, name in ((durable, "write"), (durable, "rename"), (durable, "symlink"),
                    (durable, "remove"), (durable, "make_directory"), (module, "_seal"),
                    (module, "_delete"), (shutil, "rmtree"), (module, "point_to")):
    counting(owner, name)
store = module.SlotStore(root / "slots", root / "current")
from tests.slots.test_store import scenario
scenario(store, root)
print(count)
"""


def scenario(store: SlotStore, root: Path) -> None:
    """Build the new release, go to it, and remove the old one."""
    source = root / "source-3.3.0"
    from ncen_updater.release.tree import scan

    tree = scan(source)
    store.assemble(document_for("3.3.0", tree), tree, copier(source), Silent())
    store.switch(NEW)
    store.remove(OLD)


def test_a_kill_at_any_instant_leaves_whole_slots_and_a_way_on(tmp_path: Path) -> None:
    instant = 0
    while True:
        instant += 1
        root = tmp_path / str(instant)
        root.mkdir()
        store = SlotStore(root / "slots", root / "current")
        build(store, root, OLD)
        store.switch(OLD)
        make_release(root / "source-3.3.0", "3.3.0")
        ended = subprocess.run(
            [sys.executable, "-c", KILLED, str(root), str(instant)],
            capture_output=True,
            text=True,
            check=False,
        )
        current = store.current()
        assert current is not None
        assert store.verify(current) == ()
        for version in store.versions():
            assert store.verify(version) == ()
        scenario(store, root)
        assert store.versions() == (NEW,)
        assert store.current() == NEW
        assert store.leftovers() == ()
        assert [p.name for p in (store.directory / ".records").iterdir()] == ["3.3.0"]
        if ended.returncode == 0:
            break
        assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert instant > 15


def test_difference_reads_as_a_line() -> None:
    assert str(Difference("a/b", DifferenceKind.EXTRA)) == "a/b: extra"


def test_a_slot_is_built_from_a_real_archive(store: SlotStore, tmp_path: Path) -> None:
    source = tmp_path / "source"
    document, tree = make_release(source, "3.3.0")
    archive = tmp_path / "ncen-3.3.0.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for entry in tree.entries:
            tar.add(source / entry.path, entry.path, recursive=False)
    for _ in range(2):
        store.build(document, tree, archive, Silent())
        assert store.verify(NEW) == ()
    other = tmp_path / "other.tar.gz"
    other.write_bytes(archive.read_bytes()[:-20])
    store.remove(NEW)
    with pytest.raises(UpdaterError):
        store.build(document, tree, other, Silent())
    assert store.versions() == ()
    assert store.leftovers() == ()
