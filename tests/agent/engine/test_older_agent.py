"""An older agent works on a SQLite site, as one that the failsafe brought back; today's goes on.

It writes what it has to say of a set into the set itself, as today's agent does too, and nothing
into the agent's own records: it is played by today's agent, whose records are put back afterwards.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.version import Version

from demo.site import DemoSite, digests
from ncen_updater.agent.databases.base import DatabaseRole
from ncen_updater.agent.databases.sqlite.layout import Layout
from ncen_updater.agent.diagnostics.verify import verify_site
from ncen_updater.agent.journal.change import Change, Phase, StepName
from ncen_updater.agent.journal.journal import Journal
from ncen_updater.agent.journal.names import JOURNAL
from ncen_updater.common.messages import MARKERS_DISAGREE
from ncen_updater.common.progress import Silent
from tests.agent.engine.looks import Killed
from tests.agent.engine.made import operations, runs, site_on
from tests.support.errors import refused
from tests.support.rotation import in_turns
from tests.support.sites import TrialFeed, serve, site_in_process

pytestmark = in_turns("demo")

FIRST, SECOND, THIRD, LAST = "3.2.4", "3.3.0", "3.3.10", "3.4.0"


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TrialFeed, str]]:
    made = TrialFeed(tmp_path_factory.mktemp("feed"))
    made.publish((FIRST, SECOND, THIRD, LAST))
    with serve(made.directory) as url:
        yield made, url


@pytest.fixture(params=["sqlite", "sqlite in-place"])
def demo(
    request: pytest.FixtureRequest, tmp_path: Path, feed: tuple[TrialFeed, str]
) -> Iterator[DemoSite]:
    """A site that today's agent upgraded to the second release."""
    with site_on(request, tmp_path, feed) as site:
        operations(site).upgrade(Version(SECOND))
        yield site


@contextlib.contextmanager
def an_older_agent(demo: DemoSite) -> Iterator[None]:
    """Play one that knows of no records."""
    kept = demo.root / "records"
    records = demo.state / "databases"
    names = ("sets", "sets.json")
    shutil.copytree(records, kept)
    yield
    for name in names:
        path = records / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        before = kept / name
        if before.is_dir():
            shutil.copytree(before, path)
        elif before.exists():
            shutil.copy(before, path)
    shutil.rmtree(kept)


def layout(demo: DemoSite) -> Layout:
    """The sets as today's agent sees them, without writing."""
    found = site_in_process(demo).engine._layout  # type: ignore[attr-defined]
    assert isinstance(found, Layout)
    return found


def newest(demo: DemoSite) -> Change:
    with Journal.open(demo.state / JOURNAL, read_only=True) as journal:
        return journal.changes(1)[0]


def kinds(demo: DemoSite) -> list[str]:
    with Journal.open(demo.state / JOURNAL, read_only=True) as journal:
        return [event.kind for event in journal.events()]


def test_what_it_set_aside_is_kept_and_leads_back(demo: DemoSite) -> None:
    """Seen: the next upgrade removed the only way back, as what an interrupted one had left."""
    with an_older_agent(demo):
        operations(demo).upgrade(Version(THIRD))
    change = newest(demo).id
    # Whoever only looks knows it at once; nothing is written by looking.
    kept = layout(demo).previous_set(change)
    assert kept is not None
    assert runs(demo) == THIRD
    assert "records-caught-up" not in kinds(demo)

    operations(demo).resume(by_person=True)
    assert kinds(demo).count("records-caught-up") == 1
    assert layout(demo).previous_set(change) == kept
    assert not [role for _, role, _ in site_in_process(demo).engine.leftovers()
                if role is DatabaseRole.CANDIDATE]  # fmt: skip

    operations(demo).upgrade(Version(LAST))
    assert layout(demo).previous_set(change) == kept
    assert kept.is_dir()
    operations(demo).rollback()
    operations(demo).rollback()
    assert runs(demo) == SECOND
    assert kinds(demo).count("records-caught-up") == 1


def test_it_went_back(demo: DemoSite) -> None:
    before = digests(demo)
    with an_older_agent(demo):
        operations(demo).upgrade(Version(THIRD))
        operations(demo).rollback()
    assert runs(demo) == SECOND
    assert digests(demo) == before
    operations(demo).upgrade(Version(THIRD))
    assert runs(demo) == THIRD


@in_turns("step")
@pytest.mark.parametrize(
    "step", [StepName.MIGRATE, StepName.CUT_OVER, StepName.COMMIT], ids=lambda step: step.value
)
def test_it_was_torn(demo: DemoSite, step: StepName) -> None:
    """Seen in place: migrated files stayed live under the old code."""
    before = digests(demo)

    def strike(name: StepName, phase: Phase) -> None:
        if (name, phase) == (step, Phase.AFTER_EFFECT):
            raise Killed

    with an_older_agent(demo), pytest.raises(Killed):
        operations(demo, strike).upgrade(Version(THIRD))
    operations(demo).resume(by_person=False)
    assert runs(demo) == (THIRD if step is StepName.COMMIT else SECOND)
    if step is not StepName.COMMIT:
        assert digests(demo) == before
    operations(demo).upgrade(Version(LAST))
    assert runs(demo) == LAST


def test_torn_while_it_is_written_down(demo: DemoSite, monkeypatch: pytest.MonkeyPatch) -> None:
    with an_older_agent(demo):
        operations(demo).upgrade(Version(THIRD))
    change = newest(demo).id
    kept = layout(demo).previous_set(change)

    def strike(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(Layout, "know", strike)
        operations(demo).resume(by_person=True)
    operations(demo).resume(by_person=True)
    assert layout(demo).previous_set(change) == kept
    operations(demo).rollback()
    assert runs(demo) == SECOND


def test_what_the_journal_does_not_know_of_is_not_read(demo: DemoSite) -> None:
    """Files that agents wrote are moved about: none of them begins to count by that."""
    operations(demo).upgrade(Version(THIRD))
    change = newest(demo).id
    kept = layout(demo).previous_set(change)
    assert kept is not None
    mode = kept.stat().st_mode
    kept.chmod(0o755)
    other = next(path for path in kept.parent.iterdir() if path != kept)
    for name in ("role.json", "marker.json", "touched.json", "committed.json"):
        if (kept / name).exists():
            shutil.move(kept / name, other / name)
    kept.chmod(mode)
    operations(demo).resume(by_person=True)
    assert "records-caught-up" not in kinds(demo)
    assert layout(demo).previous_set(change) == kept
    assert runs(demo) == THIRD
    with Journal.open(demo.state / JOURNAL, read_only=True) as journal:
        assert not verify_site(site_in_process(demo), journal, Silent())


def test_two_sets_that_say_the_same_are_for_a_person(demo: DemoSite) -> None:
    with an_older_agent(demo):
        operations(demo).upgrade(Version(THIRD))
    kept = layout(demo).previous_set(newest(demo).id)
    assert kept is not None
    twin = kept.parent / "twin"
    twin.mkdir()
    shutil.copy(kept / "role.json", twin)
    records = {path: path.read_bytes() for path in (demo.state / "databases").rglob("*.json")}
    with refused(MARKERS_DISAGREE, match="twin"):
        operations(demo).upgrade(Version(LAST))
    with refused(MARKERS_DISAGREE, match="twin"):
        operations(demo).resume(by_person=True)
    assert {p: p.read_bytes() for p in (demo.state / "databases").rglob("*.json")} == records
    (twin / "role.json").unlink()
    twin.rmdir()
    operations(demo).upgrade(Version(LAST))
    assert runs(demo) == LAST
