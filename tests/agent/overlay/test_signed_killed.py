"""``translations take`` is killed at every change that it makes to the disk."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from packaging.version import Version

from demo.site import DemoSite
from ncen_updater.agent.cli.session import AgentSession
from ncen_updater.agent.cli.signed_languages import NOTE, drop, show_offered, take
from ncen_updater.agent.diagnostics.overlay import overlay_look
from ncen_updater.agent.engine.operations import Operations
from ncen_updater.agent.journal.journal import Journal
from ncen_updater.agent.journal.names import JOURNAL
from ncen_updater.agent.overlay.layer import CURRENT, SIGNED, Layer
from ncen_updater.agent.site import Site
from ncen_updater.common.atomic_files import is_leftover
from ncen_updater.common.bounded_io import parse_json
from ncen_updater.common.i18n import Text
from ncen_updater.common.progress import Progress, Silent
from ncen_updater.formats.manifest import CarriedKind
from tests.agent.overlay.test_change import layer_of, refreshed, seen
from tests.agent.overlay.test_signed_change import published
from tests.support.killing import killed_at
from tests.support.sites import running_site

OLD, NEW = Version("3.2.4"), Version("3.3.0")
BEFORE = {"menu": {"fax": "Faks"}}
AFTER = {"title": "nCEN na srpskom", "menu": {"fax": "Telefaks", "search": "Pretraga"}}


class Person:
    """Who types the command: agrees, and reads what is shown."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.document: dict[str, Any] = {}

    @contextmanager
    def progress(self) -> Iterator[Progress]:
        yield Silent()

    def show(self, words: Text | str) -> None:
        self.said.append(words.render("en") if isinstance(words, Text) else words)

    def agree(self, question: Text, *, yes: bool) -> None:
        assert yes, question

    def finish(self, document: dict[str, Any]) -> None:
        self.document = document


class Taking:
    """A site where the first revision is in use and the second is on offer."""

    def __init__(self, demo: DemoSite) -> None:
        self.demo, self.feed = demo, demo.root.parent / "feed"
        published(self.feed, "3.2.4", BEFORE)
        self.site: Site = refreshed(demo)
        self.layer: Layer = layer_of(self.site)
        self.take()
        self.kept = demo.root / "kept-merged"
        shutil.copytree(self.layer.merged, self.kept, symlinks=True)
        published(self.feed, "3.2.4", AFTER)
        for offer in self.site.source.refresh().languages:
            self.site.source.fetch_language(offer, Silent())  # downloading has tests of its own

    def _typed(self, command: Callable[..., object], **more: object) -> Person:
        person = Person()
        session = cast("AgentSession", person)
        command(session, self.site, self.layer, OLD, "sr", **more)
        return person

    def take(self) -> Person:
        return self._typed(take, yes=True)

    def drop(self) -> Person:
        return self._typed(drop)

    def as_before(self) -> None:
        shutil.rmtree(self.layer.merged)
        shutil.copytree(self.kept, self.layer.merged, symlinks=True)

    def seen(self) -> object:
        """What nCEN reads when it starts: of a language that nobody has, nothing."""
        (directory,) = {declared.slot.partition("{")[0] for declared in self.layer.carried(OLD)
                        if declared.kind is CarriedKind.TRANSLATIONS}  # fmt: skip
        path = self.layer.merged / "current" / directory / "sr.json"
        return parse_json(path.read_bytes()) if path.exists() else None

    def told(self) -> tuple[int | None, bool]:
        """What ``translations report`` says: which revision is taken, and whether it is in use."""
        person = Person()
        session = cast("AgentSession", person)
        (row,) = show_offered(session, self.site, self.layer, OLD)
        waits = [line for line in person.said if "officers still see" in line]
        return cast("int | None", row["taken"]), not waits

    def codes(self) -> set[str]:
        return {finding.code for finding in overlay_look(self.site, OLD)} - {"NU-6134"}

    def notes(self) -> list[object]:
        with Journal.open(self.site.state / JOURNAL, read_only=True) as journal:
            return [event.data.get("signed") for event in journal.events() if event.kind == NOTE]

    def leftovers(self) -> list[Path]:
        return [path for path in self.layer.merged.rglob("*") if is_leftover(path)]


@pytest.fixture(scope="module")
def taking() -> Iterator[Taking]:
    with running_site("3.2.4", "3.3.0", own_words=True) as demo:
        yield Taking(demo)


def test_texts_are_the_old_or_the_new_ones_and_it_is_told_which(taking: Taking) -> None:
    """Kept first, then merged and chosen: in between it is taken, and nobody sees it yet."""
    taking.as_before()
    old = taking.seen()
    taking.take()
    new = taking.seen()
    assert old != new
    states = []
    for instant in range(1, 200):
        taking.as_before()
        killed = killed_at(instant, taking.take)
        in_use = taking.seen()
        assert in_use in (old, new), "never half of either"
        revision, used = taking.told()
        assert used is (revision == (2 if in_use == new else 1))
        assert taking.codes() == (set() if used else {"NU-6142"})
        states.append((revision, in_use == new))
        taking.take()
        assert (taking.seen(), taking.told(), taking.codes()) == (new, (2, True), set())
        assert taking.notes()[-1] == "3.2.4 (2)"
        taking.layer.collect()
        assert taking.leftovers() == []
        if not killed:
            break
    assert states == sorted(states), "and never back"
    assert set(states) == {(1, False), (2, False), (2, True)}


def torn(taking: Taking) -> None:
    """Killed as soon as the language is kept, and before what is merged is chosen."""
    for instant in range(1, 200):
        taking.as_before()
        assert killed_at(instant, taking.take)
        if taking.told() == (2, False):
            return
    raise AssertionError("there is such an instant")


def test_the_next_merge_uses_it(taking: Taking) -> None:
    torn(taking)
    with Operations(taking.site, Silent()).between_changes("translations"):
        taking.layer.choose(taking.layer.build(None, OLD))
    assert (taking.told(), taking.codes()) == ((2, True), set())


def test_one_that_was_dropped_and_is_still_in_use_is_told(taking: Taking) -> None:
    taking.as_before()
    old = taking.seen()
    for instant in range(1, 200):
        taking.as_before()
        if not killed_at(instant, taking.drop):
            break
        revision, used = taking.told()
        assert used is ((revision == 1) is (taking.seen() == old))
        assert taking.codes() == (set() if used else {"NU-6142"})
    assert taking.told() == (None, True)


def test_nothing_is_told_where_it_cannot_be_read_which_is_in_use(taking: Taking) -> None:
    """Seen: somebody without root, who looks alone, read that officers do not see the language."""
    torn(taking)
    assert taking.codes() == {"NU-6142"}
    written = taking.layer.merged / CURRENT / SIGNED
    written.unlink()
    written.symlink_to(written.name)  # as to a user without root: there, and not to be read
    assert taking.codes() == set()


def test_an_upgrade_after_it_uses_it(taking: Taking) -> None:
    torn(taking)
    Operations(taking.site, Silent()).upgrade(NEW)
    assert taking.layer.is_of(NEW)
    assert taking.layer.not_in_use(NEW) == ()
    assert seen(taking.demo, "texts/sr")["title"] == "nCEN na srpskom"
    Operations(taking.site, Silent()).rollback()
    assert (taking.told(), taking.codes()) == ((2, True), set())
