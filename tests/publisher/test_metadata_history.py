"""Tests of two contents of one metadata version: between places, and in a history."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ncen_updater.common.messages import HISTORY_BROKEN
from ncen_updater.publisher.distribute.metadata_history import (
    MetadataHistory,
    ObservedMetadata,
    find_equivocations,
    find_outdated,
)
from ncen_updater.publisher.feed.feed_directory import FeedDirectory
from ncen_updater.publisher.new.trial import FeedKeys, publish_draft
from ncen_updater.publisher.signing.draft import draft_renewal
from tests.publisher.test_monitor import Public, _now, public
from tests.support.errors import refused
from tests.support.http_server import serving

__all__ = ["public"]

NOW = datetime(2026, 11, 26, 7, tzinfo=UTC)
A, B, C = "a" * 64, "b" * 64, "c" * 64


@pytest.mark.parametrize(
    ("shown", "numbers"),
    [
        ([], []),
        ([("ncen", 3, A, "x"), ("ncen", 3, A, "y")], []),
        ([("ncen", 3, A, "x"), ("ncen", 4, B, "y"), ("root", 3, B, "y")], []),
        ([("ncen", 3, A, "x"), ("ncen", 3, B, "y")], [3]),
        ([("ncen", 3, A, "x"), ("ncen", 3, B, "y"), ("ncen", 3, B, "z")], [3]),
        ([("ncen", 3, A, "x"), ("ncen", 3, B, "y"), ("ncen", 3, C, "z")], [3, 3]),
    ],
)
def test_two_contents_of_one_version_are_found(
    shown: list[tuple[str, int, str, str]], numbers: list[int]
) -> None:
    found = list(find_equivocations(ObservedMetadata(*one) for one in shown))
    assert [finding.figures["version"] for finding in found] == numbers
    for finding in found:
        assert finding.title.render("en") and finding.remedy.render("fr")


def test_outdated_place_is_found() -> None:
    found = find_outdated(
        [[ObservedMetadata("ncen", 3, A, "x")], [ObservedMetadata("ncen", 2, B, "y")]]
    )
    assert [(f.figures["place"], f.figures["newest"]) for f in found] == [("y", 3)]
    assert not list(
        find_outdated(
            [[ObservedMetadata("ncen", 3, A, "x")], [ObservedMetadata("ncen", 3, A, "y")]]
        )
    )
    assert not list(
        find_outdated(
            [[ObservedMetadata("ncen", 3, A, "x")]], [ObservedMetadata("ncen", 2, B, "before")]
        )
    )


def test_place_returning_to_an_older_version_is_found() -> None:
    """The only place there is, and an older timestamp: it hides an emergency halt."""
    before = [ObservedMetadata("timestamp", version, A, "shown.jsonl: x") for version in (1, 3, 2)]
    (found,) = find_outdated([[ObservedMetadata("timestamp", 2, A, "x")]], before)
    assert (found.code, found.figures["place"], found.figures["newest"]) == ("NU-7206", "x", 3)


def test_history_only_grows(tmp_path: Path) -> None:
    history = MetadataHistory(tmp_path / "history.jsonl")
    first = ObservedMetadata("ncen", 1, A, "https://a/")
    assert history.read_observed() == ()
    assert history.append_new([first, ObservedMetadata("root", 1, B, "https://a/")], NOW) == 2
    before = history.path.read_bytes()
    assert history.append_new([first], NOW) == 0
    assert history.path.read_bytes() == before
    assert history.append_new([ObservedMetadata("ncen", 1, C, "https://b/")], NOW) == 1
    assert history.path.read_bytes().startswith(before)
    assert [one.source for one in history.read_observed()][2] == "history.jsonl: https://b/"


def test_altered_history_is_detected(tmp_path: Path) -> None:
    history = MetadataHistory(tmp_path / "history.jsonl")
    history.append_new([ObservedMetadata("ncen", n, A, "x") for n in range(1, 6)], NOW)
    lines = history.path.read_bytes().splitlines(keepends=True)
    spoilt = [
        b"".join(lines[:2] + lines[3:]),
        b"".join([lines[0], lines[2], lines[1], *lines[3:]]),
        b"".join(lines).replace(b'"version":3', b'"version":9'),
        b"".join([*lines[:3], lines[2], *lines[3:]]),
        b"".join(lines)[:-1],
        b"[]\n",
        b"\xff\n",
        b"[" * 100_000 + b"\n",
    ]
    for content in spoilt:
        history.path.write_bytes(content)
        for act in (
            history.read_observed,
            lambda: history.append_new([ObservedMetadata("x", 1, B, "x")], NOW),
        ):
            with refused(HISTORY_BROKEN):
                act()
        assert history.path.read_bytes() == content
    history.path.unlink()
    history.path.mkdir()
    with refused(HISTORY_BROKEN):
        history.read_observed()


def fork(public: Public, keys: FeedKeys, place: Path) -> None:
    """Two contents of one version: the public feed, and another one, also signed."""
    shutil.copytree(public.feed, place)
    for feed, later in ((public.feed, 0), (place, 1)):
        when = _now() + timedelta(seconds=later)
        drafted = draft_renewal(FeedDirectory(feed).read_state(), ["ncen"], when)
        publish_draft(feed, drafted, keys, lambda when=when: when)  # type: ignore[misc]


def test_two_places_with_different_metadata_are_found(public: Public, tmp_path: Path) -> None:
    public.make()
    shutil.copytree(public.feed, tmp_path / "same")
    with serving(tmp_path / "same") as same:
        code, said, strict = public.look("--also", same.url)
        assert (code, strict) == (0, set()), said
    fork(public, public.keys, tmp_path / "other")
    with serving(tmp_path / "other") as other:
        assert public.look()[0] == 0, "by itself each is a good feed"
        code, said, strict = public.look("--also", other.url)
    assert (code, strict) == (1, {"NU-7205"})
    [found] = [f for f in said["findings"] if f["figures"].get("role") == "ncen"]
    assert found["figures"]["first"] == public.server.url
    assert found["figures"]["second"] == other.url
    roles = {f["figures"]["role"] for f in said["findings"] if f["code"] == "NU-7205"}
    assert "root" not in roles


def test_contradiction_with_foreign_observations_is_found(public: Public, tmp_path: Path) -> None:
    """The other content is shown only to others; they publish their observations."""
    public.make()
    fork(public, public.keys, tmp_path / "other")
    ours, theirs = tmp_path / "ours.jsonl", tmp_path / "theirs.jsonl"
    code, said, _ = public.look("--history", ours)
    assert (code, said["added"]) == (0, len(said["metadata"]))
    assert public.look("--history", ours)[1]["added"] == 0
    with serving(tmp_path / "other") as other:
        seen = tuple(
            ObservedMetadata(**{**one, "source": other.url})
            for one in json.loads(json.dumps(_lists_of(public, other.url)))
        )
        MetadataHistory(theirs).append_new(seen, NOW)
    before = theirs.read_bytes()
    code, said, strict = public.look("--history", ours, "--compare", theirs)
    assert (code, strict) == (1, {"NU-7205"})
    assert "theirs.jsonl" in json.dumps(said["findings"])
    assert theirs.read_bytes() == before


def _lists_of(public: Public, url: str) -> list[dict[str, object]]:
    lists: list[dict[str, object]] = public.look("--also", url)[1]["metadata"]
    return [one for one in lists if one["source"] == url]


def test_outdated_or_unreachable_place_is_reported(public: Public, tmp_path: Path) -> None:
    public.make()
    shutil.copytree(public.feed, tmp_path / "old")
    publish_draft(
        public.feed,
        draft_renewal(FeedDirectory(public.feed).read_state(), ["ncen"], _now()),
        public.keys,
        _now,
    )
    with serving(tmp_path / "old") as old:
        code, said, strict = public.look("--also", old.url)
        assert (code, strict) == (0, set())
        late = {f["figures"]["role"] for f in said["findings"] if f["code"] == "NU-7206"}
        assert late >= {"ncen"}
    code, _, strict = public.look("--also", "http://127.0.0.1:1/")
    assert (code, strict) == (7, {"NU-7208"})  # no answer: nothing was found wrong


def test_only_place_going_back_is_detected_by_the_history(public: Public, tmp_path: Path) -> None:
    """What a feed showed before is known to who keeps a history."""
    public.make()
    shutil.copytree(public.feed, tmp_path / "old")
    publish_draft(
        public.feed,
        draft_renewal(FeedDirectory(public.feed).read_state(), ["ncen"], _now()),
        public.keys,
        _now,
    )
    kept = tmp_path / "shown.jsonl"
    before = public.look("--history", kept)[1]["findings"]
    assert "NU-7206" not in {finding["code"] for finding in before}
    shutil.rmtree(public.feed / "metadata")
    shutil.copytree(tmp_path / "old" / "metadata", public.feed / "metadata")
    code, said, strict = public.look("--history", kept)
    assert (code, strict) == (0, set())
    late = {f["figures"]["role"] for f in said["findings"] if f["code"] == "NU-7206"}
    assert late >= {"ncen", "timestamp"}


def test_damaged_history_stops_before_any_request(
    public: Public, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    public.make()
    broken = tmp_path / "broken.jsonl"
    broken.write_text("{}\n")
    from ncen_updater.publisher.cli.main import run

    words = ["monitor", public.server.url, "--root", str(public.root), "--compare", str(broken)]
    assert run([*words, "--json"]) == 6
    assert json.loads(capsys.readouterr().out)["error"]["code"] == HISTORY_BROKEN.code
    assert public.server.requests == []
