"""Tests of reports on the site's own files before an approval, and by doctor afterwards."""

from __future__ import annotations

import errno
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import Mock

import pytest
from pydantic import ValidationError

from demo.releases import assemble
from demo.site import DemoSite, SiteOptions
from ncen_updater.agent.engine.file_snapshots import (
    find_remaining_snapshots,
    must_restore_files,
    prune_snapshots,
    settle_files_by_operator,
)
from ncen_updater.agent.engine.plan import list_planned_files
from ncen_updater.agent.model.change import (
    Change,
    ChangeKind,
    ChangeState,
    DatabaseMode,
    StepName,
    StepState,
)
from ncen_updater.agent.model.change_facts import ChangeFacts, SnapshotPlan
from ncen_updater.agent.model.event_names import JOURNAL_FILE
from ncen_updater.agent.reports.diagnostics.doctor import diagnose
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.site_files.directory_index import (
    SnapshotMethod,
    get_snapshot_directory,
)
from ncen_updater.agent.storage.site_files.directory_snapshot import DirectorySnapshot
from ncen_updater.common.directory_handle import DirectoryHandle
from ncen_updater.common.progress import SilentProgress
from ncen_updater.formats.manifest import Manifest, SiteFileEffect, SiteFilesManifest, load_manifest
from ncen_updater.formats.release_document import parse_leniently


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    source = assemble("3.3.11", tmp_path_factory.mktemp("release") / "source")
    return load_manifest(source / "manifest.toml")


def said(manifest: Manifest, effect: str | None) -> Manifest:
    if effect is None:
        return manifest.model_copy(update={"files": ()})
    table = SiteFilesManifest(
        name="photographs", effect=SiteFileEffect(effect), description="sorts by year"
    )
    return manifest.model_copy(update={"files": (table,)})


@pytest.mark.parametrize(
    ("effect", "covered", "words"),
    [
        (None, True, "does not say whether it changes them"),
        ("nothing", True, "unchanged"),
        ("adds", True, "some added"),
        ("moves", True, "a later rollback restores previous paths"),
        ("rewrites", True, "a later rollback"),
        ("moves", False, "not retained"),
        ("adds", False, "not retained"),
        ("nothing", False, None),
        (None, False, None),
    ],
)
def test_plan_states_the_effect_on_site_files(
    manifest: Manifest, effect: str | None, covered: bool, words: str | None
) -> None:
    own = ["photographs"] if covered else []
    found = list_planned_files(own, said(manifest, effect))
    if words is None:
        assert found == ()
        return
    (files,) = found
    assert words in str(files.text)
    assert ("sorts by year" in str(files.text)) == (effect not in (None, "nothing"))
    assert files.to_json() == {
        "name": "photographs", "effect": effect, "configured": covered,
        "description": "sorts by year" if effect else "",
    }  # fmt: skip


def test_stand_in_declares_its_effect_on_site_files(manifest: Manifest) -> None:
    assert [(item.name, item.effect) for item in manifest.files] == [
        ("photographs", SiteFileEffect.MOVES)
    ]


@pytest.mark.parametrize(
    "table",
    [
        {"name": "photographs", "effect": "moves"},
        {"name": "photographs", "effect": "eats", "description": "eats all of them"},
        {"name": "Photo graphs", "effect": "nothing"},
        {"name": "photographs", "effect": "moves", "description": "hides \x1b[2K this line"},
    ],
)
def test_empty_declaration_is_rejected(table: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        SiteFilesManifest.model_validate(table)


def test_older_agent_ignores_unknown_declarations(manifest: Manifest) -> None:
    written = manifest.model_dump(mode="json", by_alias=True, exclude_none=True)
    written["of_a_newer_agent"] = [{"name": "x"}]
    assert parse_leniently(Manifest, written) == manifest
    del written["files"]
    assert parse_leniently(Manifest, written).files == ()


def test_doctor_reports_set_aside_and_written_files(tmp_path: Path) -> None:
    with DemoSite(tmp_path, None, SiteOptions(cases=0)) as demo:
        Journal.create(demo.state / JOURNAL_FILE).close()
        picture = demo.photos / "a.jpg"
        picture.write_bytes(b"as it was")

        def codes() -> set[str]:
            found = diagnose(demo.config_path, SilentProgress())
            return {item.code for item in found if item.code.startswith(("NU-43", "NU-632"))}

        assert codes() == set()
        directory = DirectorySnapshot(demo.photos, "abcdefgh", SnapshotMethod.LINK)
        directory.prepare()
        directory.complete()
        with picture.open("ab") as stream:
            stream.write(b" and more")
        (demo.photos / "thumb.jpg").write_bytes(b"added")
        directory.restore(required=True)
        directory.discard()
        assert codes() == {"NU-4310", "NU-4311"}
        demo.photos.rename(demo.photos.with_name("elsewhere"))
        assert "NU-6328" in codes()


def test_changes_of_older_agents_have_no_snapshots(tmp_path: Path) -> None:
    with Journal.create(tmp_path / JOURNAL_FILE) as journal:
        assert find_remaining_snapshots(journal, {"abcdefgh"}) == set()


CHANGE = Change(
    id="abcdefgh", kind=ChangeKind.UPGRADE, mode=DatabaseMode.MIGRATE, state=ChangeState.RUNNING,
    product="ncen", from_version="3.2.4", to_version="3.3.0", generation=1,
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
)  # fmt: skip


@pytest.mark.parametrize("way", ["link", "of another user"])
def test_inaccessible_snapshot_does_not_block_pruning(tmp_path: Path, way: str) -> None:
    """Their directory was replaced by a symlink, or taken by another user."""
    photos = tmp_path / "srv" / "photos"
    photos.mkdir(parents=True)
    (photos / "a.jpg").write_bytes(b"as it was")
    DirectorySnapshot(photos, CHANGE.id, SnapshotMethod.LINK).prepare()
    fact = SnapshotPlan("photographs", str(photos), "link")
    with Journal.create(tmp_path / JOURNAL_FILE) as journal:
        journal.begin_change(CHANGE, ChangeFacts(snapshots=(fact,)))
        assert find_remaining_snapshots(journal, {CHANGE.id}) == {CHANGE.id}
        if way == "link":
            (tmp_path / "srv").rename(tmp_path / "other")
            (tmp_path / "srv").symlink_to(tmp_path / "other")
        else:
            get_snapshot_directory(photos).chmod(0o755)
        assert find_remaining_snapshots(journal, {CHANGE.id}) == set()
        prune_snapshots(journal, CHANGE.id)
    assert get_snapshot_directory(photos).is_dir()


def test_unremovable_snapshot_is_reported_and_retried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    DirectorySnapshot(photos, CHANGE.id, SnapshotMethod.LINK).prepare()
    fact = SnapshotPlan("photographs", str(photos), "link")
    refused = OSError(errno.EROFS, "Read-only file system")
    with Journal.create(tmp_path / JOURNAL_FILE) as journal:
        journal.begin_change(CHANGE, ChangeFacts(snapshots=(fact,)))
        with monkeypatch.context() as patched:
            patched.setattr(DirectoryHandle, "remove_tree", Mock(side_effect=refused))
            prune_snapshots(journal, CHANGE.id)
        told = [event.data for event in journal.list_events() if event.kind == "files-not-removed"]
        assert [item["code"] for item in told] == ["NU-4301"]
        assert find_remaining_snapshots(journal, {CHANGE.id}) == {CHANGE.id}
        prune_snapshots(journal, CHANGE.id)
        assert find_remaining_snapshots(journal, {CHANGE.id}) == set()


@pytest.mark.parametrize("back", [True, False])
def test_manually_ended_change_leaves_no_snapshot(tmp_path: Path, back: bool) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "a.jpg").write_bytes(b"as it was")
    directory = DirectorySnapshot(photos, CHANGE.id, SnapshotMethod.LINK)
    directory.prepare()
    directory.complete()
    fact = SnapshotPlan("photographs", str(photos), "link")
    with Journal.create(tmp_path / JOURNAL_FILE) as journal:
        journal.begin_change(CHANGE, ChangeFacts(snapshots=(fact,)))
        assert not must_restore_files(journal, journal.read_change(CHANGE.id))
        journal.record_step(CHANGE.id, StepName.START, StepState.INTENDED)
        change = journal.read_change(CHANGE.id)
        assert must_restore_files(journal, change)
        (photos / "a.jpg").rename(photos / "moved.jpg")
        for _ in range(2):  # again after a crash
            settle_files_by_operator(journal, change, SilentProgress(), restore=back)
        assert [path.name for path in photos.iterdir()] == ["a.jpg" if back else "moved.jpg"]
        assert find_remaining_snapshots(journal, {CHANGE.id}) == set()


def test_quarantined_files_are_reported_with_their_number(tmp_path: Path) -> None:
    """Seen: "photographs: {aside} added files moved to ..."."""
    photos = tmp_path / "photos"
    photos.mkdir()
    directory = DirectorySnapshot(photos, CHANGE.id, SnapshotMethod.LINK)
    directory.prepare()
    directory.complete()
    (photos / "added.jpg").write_bytes(b"of the new release")
    fact = SnapshotPlan("photographs", str(photos), "link")
    progress = Mock()
    with Journal.create(tmp_path / JOURNAL_FILE) as journal:
        journal.begin_change(CHANGE, ChangeFacts(snapshots=(fact,)))
        journal.record_step(CHANGE.id, StepName.START, StepState.INTENDED)
        settle_files_by_operator(journal, journal.read_change(CHANGE.id), progress, restore=True)
        (event,) = (one for one in journal.list_events() if one.kind == "files-restored")
    where = get_snapshot_directory(photos)
    assert (event["quarantined"], event["path"]) == (1, str(where))
    assert f"photographs: 1 added file moved to {where}" in [
        str(call.args[0]) for call in progress.report.mock_calls
    ]
