"""What was looked at is kept, and shown as it was at one moment."""

from __future__ import annotations

from pathlib import Path

from ncen_updater.console.looking import Looked, Looking
from ncen_updater.console.service import SiteService
from tests.agent.service.api.conftest import Counter


def look(looking: Looking, mark: str = "m") -> Looked:
    return looking.look("findings", mark, {"language": "en"})


def test_a_page_is_made_of_one_moment(counter: Counter, socket: Path) -> None:
    """What ends while a page is made changes nothing of it: loading, or there."""
    counter.inspector.door.clear()
    looking = Looking(SiteService(socket))
    before = look(looking)
    counter.inspector.door.set()
    while (after := look(looking)).loading:
        pass
    assert (before.loading, before.found) == (True, None)
    assert after.found is not None and after.error is None


def test_what_was_let_go_of_does_not_come_back(counter: Counter, socket: Path) -> None:
    """Work that was begun before somebody asked anew says nothing of what was begun after it."""
    counter.inspector.door.clear()
    looking = Looking(SiteService(socket))
    first = look(looking)
    anew = looking.look("findings", "m", {"language": "en"}, anew=True)
    counter.inspector.door.set()
    while (after := look(looking)).loading:
        pass
    assert first.serial != anew.serial == after.serial


def test_what_was_found_before_the_site_changed_is_stale(socket: Path) -> None:
    looking = Looking(SiteService(socket))
    while look(looking).loading:
        pass
    assert not look(looking).stale
    assert look(looking, "another").stale
