"""Tests of the page of a ceremony: everything in sentences, nothing raw."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from tuf.api.metadata import Metadata

from ncen_updater.common.messages import NOTHING_TO_DO
from ncen_updater.publisher.feed.feed_directory import FeedDirectory
from ncen_updater.publisher.feed.role_policy import POLICY_FIELD
from ncen_updater.publisher.new.trial import FeedKeys
from ncen_updater.publisher.signing.draft import draft_renewal
from ncen_updater.publisher.signing.event_diff import describe_event
from ncen_updater.publisher.signing.signing_event import SigningEvent
from tests.publisher.releases import NOW
from tests.support.errors import refused


def words(place: Path, drafts: Mapping[str, Metadata[Any]], feed: Path | None) -> list[str]:
    state = FeedDirectory(feed).read_state() if feed is not None else None
    event = SigningEvent.create(place, "Words", drafts, state)
    return [line.text.render("en") for line in describe_event(event)]


def test_first_event_is_described_completely(made: tuple[Path, FeedKeys], tmp_path: Path) -> None:
    state = FeedDirectory(made[0] / "feed").read_state()
    roles: dict[str, Metadata[Any]] = {"root": state.root, "targets": state.targets}
    first = {
        role: Metadata(deepcopy(m.signed)) for role, m in (roles | {**state.delegated}).items()
    }
    for metadata in first.values():
        metadata.signed.version = 1
    said = words(tmp_path / "event", first, None)
    raw = [line for line in said if " set to " in line]
    assert raw == []
    assert "products for plain tufup clients: -" in [line.strip() for line in said]
    assert "timestamp: valid for 7 days, renewed in the last 6" in said
    assert "ncen: its file names are exclusive" in said
    assert "root: signature threshold 2 of 3" in said
    assert not [line for line in said if "before:" in line]  # there was nothing


def test_changed_period_is_described(made: tuple[Path, FeedKeys], tmp_path: Path) -> None:
    root = deepcopy(FeedDirectory(made[0] / "feed").read_state().root.signed)
    root.version += 1
    root.unrecognized_fields[POLICY_FIELD]["expiry_days"]["timestamp"] = 30
    root.unrecognized_fields[POLICY_FIELD]["signing_days"]["extra"] = 3
    said = words(tmp_path / "event", {"root": Metadata(root)}, made[0] / "feed")
    assert "timestamp: valid for 30 days, renewed in the last 6 (before: 7, 6)" in said
    assert "extra: valid for - days, renewed in the last 3" in said
    assert not [line for line in said if line.startswith("root: valid for")]


def test_changed_period_is_described_without_signing_periods(
    made: tuple[Path, FeedKeys], tmp_path: Path
) -> None:
    root = deepcopy(FeedDirectory(made[0] / "feed").read_state().root.signed)
    root.version += 1
    policy = root.unrecognized_fields[POLICY_FIELD]
    policy["expiry_days"]["timestamp"] = 3660
    del policy["signing_days"]
    said = words(tmp_path / "event", {"root": Metadata(root)}, made[0] / "feed")
    assert "timestamp: valid for 3660 days, renewed in the last - (before: 7, 6)" in said


def test_values_of_another_type_are_described(made: tuple[Path, FeedKeys], tmp_path: Path) -> None:
    """Python takes 0 and false for equal; the signed bytes differ."""
    state = FeedDirectory(made[0] / "feed").read_state()
    ncen = deepcopy(state.delegated["ncen"].signed)
    ncen.version += 1
    path = next(path for path in ncen.targets if path.startswith("releases/"))
    ncen.targets[path].custom["ncen"]["required"] = 0
    said = words(tmp_path / "event", {"ncen": Metadata(ncen)}, made[0] / "feed")
    assert f"{path}: required set to 0" in said


def test_online_roles_are_not_drafted(made: tuple[Path, FeedKeys]) -> None:
    with refused(NOTHING_TO_DO, match="refresh"):
        draft_renewal(FeedDirectory(made[0] / "feed").read_state(), ["ncen", "snapshot"], NOW)
