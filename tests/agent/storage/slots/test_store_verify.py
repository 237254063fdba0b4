"""Tests that changes in a slot or its record are detected."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ncen_updater.agent.model.errors import SlotRecordError
from ncen_updater.agent.storage.slots import store as slot_store
from ncen_updater.agent.storage.slots.store import DifferenceKind, SlotDifference, SlotStore
from ncen_updater.common.i18n import LazyText
from ncen_updater.common.messages import SLOT_MISSING
from ncen_updater.common.progress import Amount, Unit
from tests.agent.storage.slots.factories import NEW, OLD, build
from tests.support.errors import refused


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
def test_every_alteration_is_detected(store: SlotStore, tmp_path: Path, name: str) -> None:
    path, tamper, kind, seen_quickly = TAMPERINGS[name]
    place = build(store, tmp_path, NEW)
    tamper(place / path)
    assert [(d.path, d.kind) for d in store.verify_slot(NEW)] == [(path, kind)]
    quick = store.verify_slot(NEW, full=False)
    assert [(d.path, d.kind) for d in quick] == ([(path, kind)] if seen_quickly else [])


def test_progress_of_a_verification_is_in_bytes(
    store: SlotStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slot_store, "PROGRESS_BYTES", 1)
    amounts: list[Amount | None] = []

    class Listener:
        def report(self, text: LazyText, amount: Amount | None = None) -> None:
            amounts.append(amount)

    build(store, tmp_path, NEW)
    store.verify_slot(NEW, Listener())
    assert amounts and {amount and amount.unit for amount in amounts} == {Unit.BYTES}


def test_missing_slot_cannot_be_verified(store: SlotStore) -> None:
    with refused(SLOT_MISSING):
        store.verify_slot(NEW)


@pytest.mark.parametrize("content", [b"", b"{}", b'{"entries":[', b"\xff\xfe", None])
@pytest.mark.parametrize("name", ["release.json", "tree.json"])
def test_damaged_record_is_an_error(
    store: SlotStore, tmp_path: Path, name: str, content: bytes | None
) -> None:
    build(store, tmp_path, NEW)
    record = store.slots_directory / ".records" / "3.3.0" / name
    record.write_bytes(content) if content is not None else record.unlink()
    for ask in (store.verify_slot, store.read_tree):
        with pytest.raises(SlotRecordError):
            ask(NEW)


@pytest.mark.parametrize(
    ("old", "new"),
    [(b"\n", b"\n "), (b'"mode":493', b'"mode":492'), (b"]", b"]]"), (b"VERSION", b"VERSIoN")],
)
def test_edited_tree_is_refused(store: SlotStore, tmp_path: Path, old: bytes, new: bytes) -> None:
    build(store, tmp_path, NEW)
    record = store.slots_directory / ".records" / "3.3.0" / "tree.json"
    record.write_bytes(record.read_bytes().replace(old, new))
    with pytest.raises(SlotRecordError):
        store.verify_slot(NEW)
    with pytest.raises(SlotRecordError):
        store.read_tree(NEW)


def test_record_of_another_version_is_refused(store: SlotStore, tmp_path: Path) -> None:
    build(store, tmp_path, NEW)
    shutil.copytree(
        store.slots_directory / ".records" / "3.3.0", store.slots_directory / ".records" / "3.2.4"
    )
    with pytest.raises(SlotRecordError):
        store.read_document(OLD)


@pytest.mark.parametrize("block", [1, 7, 64, 1 << 16])
def test_entries_are_complete_across_block_boundaries(
    store: SlotStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    build(store, tmp_path, NEW)
    monkeypatch.setattr("ncen_updater.agent.storage.slots.records.READ_BLOCK_BYTES", block)
    assert tuple(store._records.iter_entries(NEW)) == store.read_tree(NEW).entries


def test_difference_is_formatted_as_a_line() -> None:
    assert str(SlotDifference("a/b", DifferenceKind.EXTRA)) == "a/b: extra"
