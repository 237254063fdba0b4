"""Tests of building, adopting and removing slots."""

from __future__ import annotations

import errno
import os
import shutil
import tarfile
from pathlib import Path

import pytest
from packaging.version import Version

from ncen_updater.agent.model.errors import SlotModifiedError
from ncen_updater.agent.storage.slots.store import SlotStore
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import (
    SLOT_ERROR,
    SLOT_IN_USE,
    SLOT_MISSING,
    SLOT_NO_SPACE,
    SLOT_NOT_WRITTEN,
    ErrorMessage,
)
from ncen_updater.common.progress import SilentProgress
from ncen_updater.formats.tree import EntryType, Tree, TreeEntry
from tests.agent.storage.slots.factories import (
    NEW,
    OLD,
    assemble,
    build,
    copier,
    document_for,
    make_release,
    write_application,
)
from tests.support.errors import refused


def again(store: SlotStore, tmp_path: Path, version: Version) -> None:
    assemble(
        store,
        store.read_document(version),
        store.read_tree(version),
        copier(tmp_path / f"source-{version}"),
    )


def test_built_slot_is_complete_read_only_and_recorded(store: SlotStore, tmp_path: Path) -> None:
    assert store.list_versions() == ()
    assert store.read_current() is None
    place = build(store, tmp_path, NEW)
    assert store.list_versions() == (NEW,)
    assert store.verify_slot(NEW) == ()
    assert store.read_document(NEW).manifest.version == "3.3.0"
    assert store.is_built(NEW, store.read_tree(NEW).compute_digest())
    assert not store.is_built(NEW, "0" * 64)
    assert not store.is_built(OLD, "0" * 64)
    assert (place / "app" / "run").stat().st_mode & 0o777 == 0o555
    assert (place / "VERSION").stat().st_mode & 0o777 == 0o444
    assert not store.list_leftovers()


def test_application_reads_its_slot_whatever_the_umask(tmp_path: Path) -> None:
    """The units that change the site create private files."""
    place = tmp_path / "opt" / "releases"
    store = SlotStore(place, tmp_path / "srv" / "current")
    before = os.umask(0o077)
    try:
        slot = build(store, tmp_path, NEW)
        store.switch_current(NEW)
    finally:
        os.umask(before)
    record = place / ".records" / str(NEW)
    for path in (slot, place, place.parent, tmp_path / "srv", record, record.parent):
        assert path.stat().st_mode & 0o005 == 0o005, path
    # Seen: 'status' of a viewer could not read the version that the application reports.
    for path in record.iterdir():
        assert path.stat().st_mode & 0o004, path


def test_versions_are_sorted_and_only_complete_slots_count(
    store: SlotStore, tmp_path: Path
) -> None:
    for text in ("3.10.0", "3.9.0"):
        build(store, tmp_path, Version(text))
    (store.slots_directory / "3.3.0.partial").mkdir()
    (store.slots_directory / "03.1.0").mkdir()
    (store.slots_directory / "4.0").mkdir()  # no record
    assert [str(v) for v in store.list_versions()] == ["3.9.0", "3.10.0"]
    assert [p.name for p in store.list_leftovers()] == ["3.3.0.partial"]
    store.remove_leftovers()
    assert not store.list_leftovers()


def test_building_twice_changes_nothing(store: SlotStore, tmp_path: Path) -> None:
    place = build(store, tmp_path, NEW)
    before = place.stat().st_ino
    again(store, tmp_path, NEW)
    assert place.stat().st_ino == before


def test_leftover_of_an_interrupted_build_is_replaced(store: SlotStore, tmp_path: Path) -> None:
    (store.slots_directory / "3.3.0.partial" / "evil").mkdir(parents=True)
    build(store, tmp_path, NEW)
    assert store.verify_slot(NEW) == ()
    assert not store.list_leftovers()


def test_damaged_slot_is_rebuilt_unless_in_use(store: SlotStore, tmp_path: Path) -> None:
    place = build(store, tmp_path, NEW)
    (place / "VERSION").chmod(0o644)
    (place / "VERSION").write_text("3.3.1")
    store.switch_current(NEW)
    with refused(SLOT_IN_USE):
        again(store, tmp_path, NEW)
    build(store, tmp_path, OLD)
    store.switch_current(OLD)
    again(store, tmp_path, NEW)
    assert store.verify_slot(NEW) == ()
    assert not store.list_leftovers()


def test_other_release_at_the_path_is_refused(store: SlotStore, tmp_path: Path) -> None:
    build(store, tmp_path, NEW)
    other = tmp_path / "other"
    other.mkdir()
    write_application(other, "else")
    tree = Tree(entries=(TreeEntry(path="x", type=EntryType.DIRECTORY, mode=0o755),))
    with pytest.raises(SlotModifiedError):
        assemble(store, document_for("3.3.0", tree), tree, copier(other))
    assert store.verify_slot(NEW) == ()


def test_foreign_files_are_refused_and_removed(store: SlotStore, tmp_path: Path) -> None:
    document, tree = make_release(tmp_path / "source", "3.3.0")
    (tmp_path / "source" / "app" / "main.py").write_text("print('3.3.1')\n")
    with pytest.raises(SlotModifiedError, match=r"app/main\.py: content"):
        assemble(store, document, tree, copier(tmp_path / "source"))
    assert store.list_versions() == ()
    assert store.list_leftovers() == ()


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, SLOT_NO_SPACE),
        (errno.EDQUOT, SLOT_NO_SPACE),
        (errno.EIO, SLOT_NOT_WRITTEN),
        (errno.EROFS, SLOT_NOT_WRITTEN),
    ],
)
def test_refusing_disk_is_named_and_leaves_nothing(
    store: SlotStore, tmp_path: Path, number: int, said: ErrorMessage
) -> None:
    document, tree = make_release(tmp_path / "source", "3.3.0")

    def fill(place: Path) -> None:
        (place / "half").write_text("x")
        raise OSError(number, os.strerror(number))

    with refused(said):
        assemble(store, document, tree, fill)
    assert store.list_leftovers() == ()
    assert store.list_versions() == ()


def test_remove_deletes_slot_and_record(store: SlotStore, tmp_path: Path) -> None:
    build(store, tmp_path, OLD)
    build(store, tmp_path, NEW)
    store.switch_current(NEW)
    with refused(SLOT_IN_USE):
        store.remove_slot(NEW)
    for _ in range(2):
        store.remove_slot(OLD)
        assert store.list_versions() == (NEW,)
        assert not (store.slots_directory / ".records" / "3.2.4").exists()
    assert store.verify_slot(NEW) == ()


def test_interrupted_removal_is_resumed(store: SlotStore, tmp_path: Path) -> None:
    place = build(store, tmp_path, OLD)
    place.rename(store.slots_directory / "3.2.4.removing")
    assert store.list_versions() == ()
    store.remove_slot(OLD)
    assert not store.list_leftovers()
    assert not (store.slots_directory / ".records" / "3.2.4").exists()


def test_adopt_records_an_existing_directory(store: SlotStore, tmp_path: Path) -> None:
    document, tree = make_release(store.get_slot_directory(OLD), "3.2.4")
    assert store.list_versions() == ()
    for _ in range(2):
        store.adopt_directory(OLD, document, tree)
        assert store.list_versions() == (OLD,)
        assert store.verify_slot(OLD) == ()


def test_adopt_refuses_altered_files_other_versions_and_missing_directories(
    store: SlotStore, tmp_path: Path
) -> None:
    document, tree = make_release(store.get_slot_directory(OLD), "3.2.4")
    with pytest.raises(SlotModifiedError):
        store.adopt_directory(NEW, document, tree)
    (store.get_slot_directory(OLD) / "local.conf").write_text("x")
    with pytest.raises(SlotModifiedError, match=r"local\.conf: extra"):
        store.adopt_directory(OLD, document, tree)
    assert store.list_versions() == ()
    shutil.rmtree(store.get_slot_directory(OLD))
    with refused(SLOT_MISSING):
        store.adopt_directory(OLD, document, tree)


def test_slots_path_that_is_no_directory_is_an_error(store: SlotStore) -> None:
    store.slots_directory.write_text("x")
    with refused(SLOT_ERROR):
        store.list_versions()


def test_slot_is_built_from_a_real_archive(store: SlotStore, tmp_path: Path) -> None:
    source = tmp_path / "source"
    document, tree = make_release(source, "3.3.0")
    archive = tmp_path / "ncen-3.3.0.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for entry in tree.entries:
            tar.add(source / entry.path, entry.path, recursive=False)
    for _ in range(2):
        store.build_slot(document, tree, archive, SilentProgress())
        assert store.verify_slot(NEW) == ()
    other = tmp_path / "other.tar.gz"
    other.write_bytes(archive.read_bytes()[:-20])
    store.remove_slot(NEW)
    with pytest.raises(UpdaterError):
        store.build_slot(document, tree, other, SilentProgress())
    assert store.list_versions() == ()
    assert store.list_leftovers() == ()
