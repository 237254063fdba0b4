"""Tests of the overlay layer: merged, built, selected, and pruned; whatever it contains."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version

from ncen_updater.agent.engine.preflight.files import judge_overlay
from ncen_updater.agent.storage.overlay.layer import LocalOverlay
from ncen_updater.agent.storage.overlay.report_text import describe_overlay
from ncen_updater.agent.storage.overlay.three_way_merge import KeyOutcome, TextOrigin
from ncen_updater.agent.storage.slots.records import SlotRecords
from ncen_updater.agent.storage.slots.store import SlotStore
from ncen_updater.common.atomic_files import is_partial_file
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.findings import Severity
from ncen_updater.formats.tree import scan_tree
from tests.agent.storage.overlay.factories import TEXTS
from tests.agent.storage.slots.factories import document_for
from tests.support.kill_points import killed_at
from tests.support.trees import remove_tree

OLD, NEW = Version("3.2.4"), Version("3.3.0")
SETTINGS: dict[str, Any] = {
    "kind": "settings", "format": "ini", "release_path": "app/s.ini", "site_path": "s.ini",
    "rules": [{"key": "net.port", "type": "integer"}], "required": ["net.host"],
}  # fmt: skip


class Place:
    """A directory with two releases and a country's own files."""

    def __init__(self, root: Path) -> None:
        self.own = root / "country"
        self.own.mkdir()
        self.slots = root / "slots"
        self.layer = LocalOverlay(
            self.own, root / "merged", SlotStore(self.slots, root / "current")
        )

    def ship(self, version: Version, carried: list[dict[str, Any]], files: dict[str, str]) -> None:
        """Lay out one release."""
        slot = self.slots / str(version)
        for path, content in files.items():
            (slot / path).parent.mkdir(parents=True, exist_ok=True)
            (slot / path).write_text(content, "utf-8")
        tree = scan_tree(slot)
        document = document_for(str(version), tree, overlays=carried)
        SlotRecords(self.slots).write(version, document, tree)

    def write(self, path: str, content: str | bytes) -> Path:
        """Write one of the country's files."""
        place = self.own / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content if isinstance(content, bytes) else content.encode())
        return place

    def merged(self, path: str) -> Any:
        """What the application reads."""
        return json.loads((self.layer.merged_directory / "current" / path).read_text("utf-8"))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(tmp_path)
    ship = {"app/i18n/en.json": '{"a": "A", "b": "B"}', "app/i18n/fr.json": '{"a": "fr-A"}'}
    made.ship(OLD, [TEXTS, SETTINGS], {**ship, "app/s.ini": "[net]\nhost=h\nport=1\n"})
    ship = {
        "app/i18n/en.json": '{"a": "A", "b": "B {x}", "c": "C"}',
        "app/i18n/fr.json": '{"a": "fr-A"}',
    }
    made.ship(NEW, [TEXTS, SETTINGS], {**ship, "app/s.ini": "[net]\nhost=h\nport=2\n"})
    return made


def test_two_release_languages_and_one_local_language_are_merged(place: Place) -> None:
    place.write("i18n/fr.json", '{"a": "mine"}')
    place.write("i18n/sw.json", '{"a": "sw-A", "b": "sw-B"}')
    place.layer.switch_current(place.layer.build_merged(None, OLD))
    assert place.layer.is_built_for(OLD)
    assert place.merged("app/i18n/en.json") == {"a": "A", "b": "B"}
    assert place.merged("app/i18n/fr.json") == {"a": "mine"}
    assert place.merged("app/i18n/sw.json") == {"a": "sw-A", "b": "sw-B"}
    place.layer.switch_current(place.layer.build_merged(OLD, NEW))
    assert place.layer.is_built_for(NEW)
    assert place.merged("app/i18n/sw.json") == {"a": "sw-A"}  # {x} would be missing
    report = {f.language: f for f in place.layer.make_report(OLD, NEW).files}
    swahili = report["sw"].coverage
    assert swahili is not None
    assert (swahili.translated, swahili.total, swahili.percent_before) == (1, 3, 100)
    assert [t.missing_placeholders for t in report["sw"].select(KeyOutcome.REJECTED)] == [("{x}",)]
    said = [words.render("en") for words in describe_overlay(place.layer.make_report(OLD, NEW))]
    assert "sw: 33 % translated (1 of 3), previously 100 %" in said
    assert "  unusable; the text of the release is shown: 1" in said


def test_local_edits_are_merged_in_a_rollback(place: Place) -> None:
    place.write("i18n/sw.json", '{"b": "sw-B {x}"}')
    place.layer.switch_current(place.layer.build_merged(OLD, NEW))
    place.write("i18n/sw.json", '{"b": "sw-B {x}", "a": "since"}')
    place.layer.switch_current(place.layer.build_merged(NEW, OLD))
    assert place.merged("app/i18n/sw.json") == {"a": "since"}
    assert [
        t.name
        for f in place.layer.make_report(NEW, OLD).files
        for t in f.select(KeyOutcome.REJECTED)
    ] == ["b"]
    assert json.loads((place.own / "i18n/sw.json").read_text()) == {"b": "sw-B {x}", "a": "since"}


def test_imported_translation_preserves_other_texts(place: Place) -> None:
    older = Version("3.2.0")
    ship = {"app/i18n/en.json": '{"a": "A", "fax": "Fax"}', "app/s.ini": "[net]\nhost=h\n"}
    place.ship(older, [TEXTS, SETTINGS], ship)
    place.write("i18n/sw.json", '{"fax": "sw-Fax"}')
    place.layer.switch_current(place.layer.build_merged(None, older))
    place.layer.switch_current(place.layer.build_merged(older, NEW))
    place.write("i18n/sw.json", '{"fax": "sw-Fax", "a": "sw-A"}')
    own = place.layer.read_local(place.layer.list_declared(NEW)[0], "sw")
    came = {key: TextOrigin(text.digest, ("A",)) for key, text in own.entries.items() if "a" in key}
    place.layer.switch_current(place.layer.build_merged(None, NEW, {"app/i18n/sw.json": came}))
    place.layer.switch_current(place.layer.build_merged(NEW, older))
    assert place.merged("app/i18n/sw.json") == {"fax": "sw-Fax", "a": "sw-A"}


def test_merge_is_built_once_and_changes_its_name_with_its_content(place: Place) -> None:
    place.write("i18n/sw.json", '{"a": "one"}')
    first = place.layer.build_merged(OLD, NEW)
    assert place.layer.build_merged(OLD, NEW) == first
    place.write("i18n/sw.json", '{"a": "two"}')
    assert place.layer.build_merged(OLD, NEW) != first
    assert not [p for p in place.layer.merged_directory.iterdir() if p.name.endswith(".partial")]


def test_merged_files_have_the_owner_and_mode_of_the_local_files(place: Place) -> None:
    own = place.write("s.ini", "[net]\nport = 5\n")
    own.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(own, 12345, 12346)
    place.layer.switch_current(place.layer.build_merged(OLD, NEW))
    made = (place.layer.merged_directory / "current/app/s.ini").stat()
    assert stat.S_IMODE(made.st_mode) == 0o440
    assert (made.st_uid, made.st_gid) == (own.stat().st_uid, own.stat().st_gid)


def test_application_reads_files_merged_by_the_unit(place: Place) -> None:
    """Seen: with the mask of the units (0077) nobody but root could enter it."""
    place.write("i18n/fr.json", '{"a": "mine"}')
    before = os.umask(0o077)
    try:
        place.layer.switch_current(place.layer.build_merged(None, OLD))
    finally:
        os.umask(before)
    current = place.layer.merged_directory / "current"
    ways = [
        place.layer.merged_directory,
        current,
        *(path for path in current.rglob("*") if path.is_dir()),
    ]
    assert {stat.S_IMODE(path.stat().st_mode) for path in ways} == {0o755}
    assert stat.S_IMODE((current / "app/i18n/en.json").stat().st_mode) == 0o644


def test_restricted_file_is_merged_again(place: Place) -> None:
    own = place.write("s.ini", "[net]\nport = 5\n")
    own.chmod(0o644)
    place.layer.switch_current(place.layer.build_merged(OLD, NEW))
    own.chmod(0o600)
    place.layer.switch_current(place.layer.build_merged(OLD, NEW))
    made = (place.layer.merged_directory / "current/app/s.ini").stat()
    assert stat.S_IMODE(made.st_mode) == 0o400


def test_unsuitable_settings_block_without_revealing_values(place: Place) -> None:
    place.write("s.ini", "[net]\nhost =\nport = topsecret\n")
    report = place.layer.make_report(OLD, NEW)
    found = list(judge_overlay(report))
    assert [(f.code, f.severity) for f in found] == [("NU-6350", Severity.CRITICAL)] * 2
    assert all("topsecret" not in str(f.title) + repr(f.figures) for f in found)
    assert report.settings_digest is not None
    place.write("s.ini", "[net]\nport = 7\n")
    assert not list(judge_overlay(place.layer.make_report(OLD, NEW)))
    assert place.layer.make_report(OLD, NEW).settings_digest != report.settings_digest


def test_approval_binds_settings_but_not_texts(place: Place) -> None:
    place.write("i18n/sw.json", '{"a": "one"}')
    assert place.layer.make_report(OLD, NEW).settings_digest is None
    place.write("s.ini", "[net]\nport = 7\n")
    before = place.layer.make_report(OLD, NEW).settings_digest
    place.write("i18n/sw.json", '{"a": "two"}')
    assert place.layer.make_report(OLD, NEW).settings_digest == before


def _link(path: Path) -> None:
    path.symlink_to("/etc/passwd")


def _directory(path: Path) -> None:
    path.mkdir()


WRONG: dict[str, Callable[[Path], object]] = {
    "a link": _link,
    "a pipe": os.mkfifo,
    "directory": _directory,
    "no text": lambda path: path.write_bytes(b"\xff\xfe\x00"),
    "a key twice": lambda path: path.write_text('{"a": "1", "a": "2"}'),
    "zero bytes": lambda path: path.write_bytes(b""),
    "cut short": lambda path: path.write_text('{"a": "1'),
    "nothing nested for ever": lambda path: path.write_text('{"a":' * 100_000),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_unreadable_texts_are_reported_and_do_not_block(
    place: Place, wrong: Callable[[Path], object]
) -> None:
    (place.own / "i18n").mkdir()
    wrong(place.own / "i18n/fr.json")
    place.layer.switch_current(place.layer.build_merged(OLD, NEW))
    assert place.merged("app/i18n/fr.json") == {"a": "fr-A"}
    found = list(judge_overlay(place.layer.make_report(OLD, NEW)))
    assert [(f.code, f.severity) for f in found] == [("NU-6353", Severity.WARNING)]
    assert "i18n/fr.json" in str(found[0].title)


@pytest.mark.parametrize("wrong", [_link, os.mkfifo, _directory], ids=["link", "pipe", "directory"])
def test_unreadable_settings_block(place: Place, wrong: Callable[[Path], object]) -> None:
    wrong(place.own / "s.ini")
    found = list(judge_overlay(place.layer.make_report(OLD, NEW)))
    assert [(f.code, f.severity) for f in found] == [("NU-6351", Severity.CRITICAL)]


def test_symlink_in_the_overlay_is_not_followed(place: Place, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "fr.json").write_text('{"a": "planted"}')
    (place.own / "i18n").symlink_to(elsewhere)
    place.layer.switch_current(place.layer.build_merged(OLD, NEW))
    assert place.merged("app/i18n/fr.json") == {"a": "fr-A"}


def test_undeclared_files_are_listed(place: Place) -> None:
    place.write("i18n/sw.json", "{}")
    place.write("i18n/sw.json.bak", "{}")
    place.write("old/sw.po", "")
    place.write("photos/1.jpg", "")
    assert place.layer.list_undeclared(NEW, [place.own / "photos"]) == (
        "i18n/sw.json.bak",
        "old/sw.po",
    )


def test_kill_while_merging_leaves_old_or_new_texts(place: Place, tmp_path: Path) -> None:
    def merge() -> None:
        place.layer.switch_current(place.layer.build_merged(None, NEW))

    place.write("i18n/fr.json", '{"a": "old"}')
    merge()
    kept = tmp_path / "kept"
    shutil.copytree(place.layer.merged_directory, kept, symlinks=True)
    place.write("i18n/fr.json", '{"a": "new"}')
    read = []
    for instant in range(1, 200):
        shutil.rmtree(place.layer.merged_directory)
        shutil.copytree(kept, place.layer.merged_directory, symlinks=True)
        killed = killed_at(instant, merge)
        read.append(place.merged("app/i18n/fr.json")["a"])
        assert place.layer.is_built_for(NEW)
        merge()
        assert place.merged("app/i18n/fr.json") == {"a": "new"}
        place.layer.prune()
        left = [
            path.name for path in place.layer.merged_directory.rglob("*") if is_partial_file(path)
        ]
        assert left == [], instant
        if not killed:
            break
    assert set(read) == {"old", "new"}
    assert read == sorted(read, key=["old", "new"].index), "and never back"


def test_merged_files_are_removed_with_their_slot(place: Place) -> None:
    first, second = place.layer.build_merged(None, OLD), place.layer.build_merged(OLD, NEW)
    place.layer.switch_current(second)
    (place.layer.merged_directory / "3.3.0.partial").mkdir()
    (place.layer.merged_directory / ".current.partial-1234").symlink_to(second)
    place.layer.prune()
    assert {p.name for p in place.layer.merged_directory.iterdir()} == {first, second, "current"}
    remove_tree(place.slots / "3.2.4")
    place.layer.prune()
    assert {p.name for p in place.layer.merged_directory.iterdir()} == {second, "current"}


def test_kill_while_pruning_leaves_no_incomplete_directory(place: Place, tmp_path: Path) -> None:
    place.write("i18n/fr.json", '{"a": "mine"}')
    place.layer.build_merged(None, OLD)
    kept, slot = tmp_path / "kept", tmp_path / "slot"
    shutil.copytree(place.layer.merged_directory, kept)
    (place.slots / "3.2.4").rename(slot)
    for instant in range(1, 200):
        shutil.rmtree(place.layer.merged_directory)
        shutil.copytree(kept, place.layer.merged_directory)
        killed = killed_at(instant, place.layer.prune)
        slot.rename(place.slots / "3.2.4")  # the release is installed once more
        place.layer.switch_current(place.layer.build_merged(None, OLD))
        (place.slots / "3.2.4").rename(slot)
        assert place.merged("app/i18n/fr.json") == {"a": "mine"}, instant
        assert place.merged("app/i18n/en.json") == {"a": "A", "b": "B"}, instant
        if not killed:
            break
    assert instant > 2


def test_languages_behind_a_link_are_reported_and_not_just_absent(place: Place) -> None:
    place.write("elsewhere/sw.json", '{"a": "sw-A"}')
    (place.own / "i18n").symlink_to("elsewhere")
    report = place.layer.make_report(OLD, NEW)
    (file,) = [file for file in report.files if file.declared.site_path == "i18n/{lang}.json"
               and file.problem is not None and file.language is None]  # fmt: skip
    assert file.problem is not None and "link" in str(file.problem.reason)
    assert [found.code for found in judge_overlay(report)].count("NU-6353") >= 1
    assert not report.blocking_files
    said = [words.render("en") for words in describe_overlay(report)]
    assert any("cannot read i18n/{lang}.json (it is a link" in line for line in said)
    place.layer.switch_current(place.layer.build_merged(OLD, NEW))
    assert place.merged("app/i18n/fr.json") == {"a": "fr-A"}
    assert place.layer.list_undeclared(NEW) == ("elsewhere/sw.json", "i18n")


def test_name_that_is_no_character_is_merged(place: Place) -> None:
    place.write("i18n/fr.json", r'{"a": "mine", "\ud83d": "half of a pair"}')
    place.layer.switch_current(place.layer.build_merged(OLD, NEW))
    assert place.merged("app/i18n/fr.json")["a"] == "mine"
    assert place.layer.build_merged(NEW, NEW) == place.layer.read_current()


def test_damaged_record_of_the_old_release_does_not_block(place: Place) -> None:
    (place.slots / ".records/3.3.0/release.json").write_text("{")
    place.write("i18n/sw.json", '{"a": "mine"}')
    place.layer.switch_current(place.layer.build_merged(NEW, OLD))
    assert place.merged("app/i18n/sw.json") == {"a": "mine"}


def test_unwritable_disk_is_reported_and_nothing_selected(place: Place) -> None:
    place.layer.merged_directory.write_text("in the way")
    with pytest.raises(UpdaterError) as error:
        place.layer.build_merged(OLD, NEW)
    assert error.value.code == "NU-3301"
