"""Tests of an agent update from a real feed into a real slot, and of every refusal."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from packaging.version import Version

from demo.site import DemoSite, SiteOptions
from ncen_updater.agent.config.loader import load_config
from ncen_updater.agent.engine.lock import hold_change_lock
from ncen_updater.agent.engine.site import Site
from ncen_updater.agent.engine.site_factory import build_site, read_agent_version
from ncen_updater.agent.model.change import Change, ChangeKind, ChangeState, DatabaseMode
from ncen_updater.agent.model.errors import AgentSlotError, SiteBusyError
from ncen_updater.agent.model.event_names import AGENT_SELECTED, CHANGE_LOCK_FILE, JOURNAL_FILE
from ncen_updater.agent.self_update.agent_update import (
    AgentUpdateResult,
    check_site,
    create_agent_source,
    find_offered_agent,
    get_agent_directory,
    refresh_agent_metadata,
    update_agent,
)
from ncen_updater.agent.self_update.slots import AgentSlots
from ncen_updater.agent.storage.agent_selection import (
    AgentSelection,
    AgentSelectionFile,
    FailedAgent,
    TrialState,
)
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common import disk_space
from ncen_updater.common.errors import InsufficientSpaceError
from ncen_updater.common.messages import AGENT_NOT_FROM_SLOT, AGENT_ON_TRIAL, OPEN_CHANGE, ExitCode
from ncen_updater.common.progress import SilentProgress
from ncen_updater.feed.offers import FeedView
from ncen_updater.formats.errors import DownloadDamagedError
from tests.agent.cli.live import LiveSite
from tests.agent.self_update.factories import agent_release, agent_wheel
from tests.support.errors import refused
from tests.support.forks import DEADLINE_S
from tests.support.http_server import serving
from tests.support.tuf_repository import Feed

MINE = str(read_agent_version())
NEXT = "0.9.1"
MANIFEST: dict[str, object] = {"upgrade_from": ">=0.1"}


def without_digest(version: str) -> dict[str, bytes]:
    return {**agent_release(version), "requirements.txt": b"ncen-updater==%s" % version.encode()}


@dataclass
class Place:
    demo: DemoSite
    feed: Feed
    site: Site

    @property
    def file(self) -> AgentSelectionFile:
        return AgentSelectionFile(get_agent_directory(self.site))

    @property
    def slots(self) -> AgentSlots:
        return AgentSlots(get_agent_directory(self.site))

    @property
    def sequence(self) -> AgentSelection:
        found = self.file.load()
        assert found is not None
        return found

    def offer(self, version: str, content: dict[str, bytes] | None = None) -> None:
        self.feed.add_release(
            version, product="ncen-updater", content=content or agent_release(version),
            manifest=MANIFEST,
        )  # fmt: skip
        self.feed.publish()

    def renew(self, *, retry: bool = False, target: str | None = None) -> AgentUpdateResult:
        source = create_agent_source(self.site, self.demo.config_path)
        wanted = Version(target) if target else None
        return update_agent(
            self.site, source, self.slots, SilentProgress(), actor="me", retry=retry, target=wanted
        )  # fmt: skip


@pytest.fixture(scope="module")
def laid_out(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp("renewing")
    feed = Feed(directory / "feed")
    feed.publish()
    with serving(feed.directory) as server:
        options = SiteOptions(cases=2, feed_urls=[server.url])
        with DemoSite(directory / "site", options=options) as demo:
            feed.trusted_root(demo.trusted_root)
            Journal.create(demo.state / JOURNAL_FILE).close()
            site = build_site(load_config(demo.config_path), demo.config_path)
            yield Place(demo, feed, site)


@pytest.fixture
def place(laid_out: Place) -> Place:
    """The site with this agent as chosen one, and no agent on offer."""
    laid_out.file.directory.mkdir(parents=True, exist_ok=True)
    laid_out.file.path.unlink(missing_ok=True)
    laid_out.file.update(lambda _: AgentSelection(MINE))
    laid_out.feed.roles["ncen-updater"].targets.clear()
    laid_out.feed.publish()
    return laid_out


def test_next_agent_gets_a_slot_on_trial(place: Place, tmp_path: Path) -> None:
    place.offer(NEXT)
    assert place.renew() == AgentUpdateResult(MINE, NEXT)
    assert place.sequence == AgentSelection(NEXT, MINE, TrialState.ON_TRIAL)
    program = place.file.directory / "current/bin/ncen-updater"
    evil = tmp_path / "ncen_updater"
    evil.mkdir()
    (evil / "__init__.py").write_text("raise SystemExit('evil')")
    ended = subprocess.run(
        [program, "--version"], cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)},
        capture_output=True, text=True, check=True, timeout=DEADLINE_S,
    )  # fmt: skip
    assert ended.stdout == f"ncen-updater {NEXT}\n"
    with Journal.open(place.site.state_directory / JOURNAL_FILE, read_only=True) as journal:
        events = [e for e in journal.list_events() if e.kind == AGENT_SELECTED]
    assert [(e.data["version"], e.data["origin"]) for e in events] == [(NEXT, MINE)]
    assert not list((place.site.state_directory / "downloads/ncen-updater").glob("*"))
    assert not list(place.file.directory.glob("*.partial"))
    with refused(AGENT_ON_TRIAL):
        place.renew()
    # The same slot is not made twice, and a slot of another content is recreated.
    inode = (place.slots.get_path(NEXT) / "bin").stat().st_ino
    place.file.update(lambda _: AgentSelection(MINE))
    place.renew()
    assert (place.slots.get_path(NEXT) / "bin").stat().st_ino == inode


def test_agent_is_updated_by_command_and_by_check(place: Place) -> None:
    place.offer(NEXT)
    live = LiveSite(place.demo, place.feed.directory)
    checked = json.loads(live.run("check", "--json").stdout)
    assert checked["agent"] == {"version": NEXT, "error": None}
    place.file.path.unlink()
    refused = live.run("self-update", "--json")
    assert refused.returncode == ExitCode.USAGE
    assert json.loads(refused.stdout)["error"]["code"] == AGENT_NOT_FROM_SLOT.code


@pytest.mark.parametrize(
    ("version", "content", "reason"),
    [
        (
            "0.8.1",
            agent_release("0.8.1", agent_wheel("0.8.1", imports="import gone")),
            "import_check",
        ),
        ("0.8.3", without_digest("0.8.3"), "pip"),
    ],
    ids=["does not import", "is named without a digest"],
)
def test_broken_agent_is_not_selected(
    place: Place, version: str, content: dict[str, bytes], reason: str
) -> None:
    place.offer(version, content)
    with pytest.raises(AgentSlotError) as caught:
        place.renew()
    assert reason in f"{caught.value} {caught.value.values['reason']}"
    assert place.sequence == AgentSelection(MINE)
    assert not list(place.file.directory.glob(f"{version}*"))


def test_agent_is_not_updated_beside_a_change(place: Place) -> None:
    place.offer(NEXT)
    with (
        hold_change_lock(place.site.state_directory / CHANGE_LOCK_FILE, "test"),
        pytest.raises(SiteBusyError),
    ):
        place.renew()
    change = Change(
        id="abcdefgh",
        kind=ChangeKind.UPGRADE,
        mode=DatabaseMode.MIGRATE,
        state=ChangeState.RUNNING,
        product="ncen",
        from_version="3.2.4",
        to_version="3.3.0",
        generation=1,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    journal_path = place.site.state_directory / JOURNAL_FILE
    content = journal_path.read_bytes()
    with Journal.open(journal_path) as journal:
        journal.begin_change(change)
    try:
        with refused(OPEN_CHANGE):
            place.renew()
    finally:
        for part in journal_path.parent.glob(f"{JOURNAL_FILE}-*"):
            part.unlink()
        journal_path.write_bytes(content)
    assert place.sequence == AgentSelection(MINE)


def test_concurrent_update_finds_an_agent_on_trial(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looked before the first one had chosen, and has the lock after it."""
    place.offer(NEXT)
    chosen = AgentSelection(NEXT, MINE, TrialState.ON_TRIAL)
    source = create_agent_source(place.site, place.demo.config_path)
    ask = source.refresh

    def slowly() -> FeedView:
        place.file.update(lambda _: chosen)
        return ask()

    monkeypatch.setattr(source, "refresh", slowly)
    with refused(AGENT_ON_TRIAL):
        update_agent(place.site, source, place.slots, SilentProgress(), actor="me")
    assert place.sequence == chosen


def test_rejected_agent_is_not_offered_again(place: Place) -> None:
    bad = replace(
        AgentSelection(MINE), failed={NEXT: FailedAgent(1, datetime(2026, 1, 1, tzinfo=UTC))}
    )
    place.file.update(lambda _: bad)
    place.offer(NEXT)
    assert refresh_agent_metadata(place.site, place.demo.config_path) is None
    assert find_offered_agent(place.site, place.demo.config_path) is None
    assert place.renew() == AgentUpdateResult(MINE)
    assert place.sequence == bad
    place.file.update(lambda _: AgentSelection(MINE))
    assert find_offered_agent(place.site, place.demo.config_path) == NEXT


def test_offline_site_is_offered_only_imported_agents(place: Place) -> None:
    place.offer(NEXT)
    refresh_agent_metadata(place.site, place.demo.config_path)
    feed = place.site.config.feed.model_copy(update={"offline": True})
    offline = replace(place.site, config=place.site.config.model_copy(update={"feed": feed}))
    source = create_agent_source(place.site, place.demo.config_path)
    [offer] = source.refresh().offers
    source.discard_release(offer)
    assert find_offered_agent(offline, place.demo.config_path) is None
    assert find_offered_agent(place.site, place.demo.config_path) == NEXT
    source.download_release(offer, SilentProgress())
    assert find_offered_agent(offline, place.demo.config_path) == NEXT


@pytest.mark.parametrize("full", ["state", "slots"])
def test_full_disk_fails_the_reachability_check(
    place: Place, monkeypatch: pytest.MonkeyPatch, full: str
) -> None:
    """Or an agent that fills it would confirm itself with the last block."""
    check_site(place.site)
    there = {"state": place.site.state_directory, "slots": place.slots.directory}[full]
    free = disk_space.get_free_bytes

    def little(path: Path) -> int:
        return 1_000_000 if Path(path) == there else free(path)

    monkeypatch.setattr(disk_space, "get_free_bytes", little)
    with pytest.raises(InsufficientSpaceError):
        check_site(place.site)


def test_slots_of_rejected_agents_free_space(place: Place) -> None:
    for version in ("0.0.7", "0.0.8"):
        (place.slots.get_path(version)).mkdir()
        (place.slots.get_path(version) / "slot.json").write_text("{}")
    bad = {"0.0.7": FailedAgent(1, datetime(2026, 1, 1, tzinfo=UTC))}
    place.file.update(lambda _: AgentSelection(MINE, failed=bad))
    place.offer(NEXT)
    assert place.renew().version is not None
    assert "0.0.7" not in place.slots.list_versions()
    assert "0.0.8" in place.slots.list_versions()


def test_agent_on_trial_is_not_updated(place: Place) -> None:
    place.offer(NEXT)
    refresh_agent_metadata(place.site, place.demo.config_path)
    place.file.update(lambda _: AgentSelection(MINE, "0.0.1", TrialState.ON_TRIAL))
    assert find_offered_agent(place.site, place.demo.config_path) is None


def test_altered_wheel_is_rejected(place: Place) -> None:
    place.offer(NEXT)
    built = place.feed.add_release(
        "0.9.2", product="ncen-updater", content=agent_release("0.9.2"), manifest=MANIFEST
    )
    place.feed.publish()
    served = place.feed.served(built.document.archive)
    served.write_bytes(served.read_bytes()[:-1] + b"x")
    with pytest.raises(DownloadDamagedError):
        place.renew()
    assert place.sequence == AgentSelection(MINE)


@pytest.mark.parametrize(("said", "works"), [("ncen-updater 1.2", True), ("ncen-updater 7", False)])
def test_slot_must_report_its_version(tmp_path: Path, said: str, works: bool) -> None:
    python = tmp_path / "1.2/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\necho {said}\n")
    python.chmod(0o755)
    assert AgentSlots(tmp_path).is_working("1.2") is works


def test_slot_is_executable_by_everyone_whatever_the_umask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The building unit creates private files; the feed reader is another user."""

    def installed(_: AgentSlots, partial: Path, *__: object) -> None:
        (partial / "lib").mkdir()
        (partial / "bin").mkdir()

    def fill(place: Path) -> None:
        for name, content in agent_release(NEXT).items():
            (place / name).parent.mkdir(exist_ok=True)
            (place / name).write_bytes(content)

    monkeypatch.setattr(AgentSlots, "_install", installed)
    monkeypatch.setattr(AgentSlots, "_test_slot", lambda *_: None)
    slots = AgentSlots(tmp_path / "opt")
    before = os.umask(0o077)
    try:
        slots.build(NEXT, "digest", fill, SilentProgress())
        assert os.umask(0o077) == 0o077
    finally:
        os.umask(before)
    slot = slots.get_path(NEXT)
    closed = [p for p in (slot, *slot.rglob("*")) if p.stat().st_mode & 0o444 != 0o444]
    assert not closed
    assert (slot / "bin").stat().st_mode & 0o005 == 0o005
