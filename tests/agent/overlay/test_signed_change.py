"""A signed language at a site that runs: taken from the feed, upgraded with, given back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version

from demo.release_flow import publish_language
from demo.site import DemoSite
from ncen_updater.agent.diagnostics.overlay import overlay_look
from ncen_updater.agent.engine.operations import Operations
from ncen_updater.agent.engine.plan import make_plan
from ncen_updater.agent.journal.journal import Journal
from ncen_updater.agent.journal.names import JOURNAL
from ncen_updater.common.progress import Silent
from ncen_updater.feed.upgrade_path import UpgradePath
from ncen_updater.formats.document import Withdrawal
from ncen_updater.publisher.build.languages import Sent
from ncen_updater.publisher.feed.feed import Feed
from ncen_updater.publisher.new.trial import publish_draft
from ncen_updater.publisher.signing.language_drafts import draft_language_withdrawal
from tests.agent.cli.live import LiveSite
from tests.agent.overlay.test_change import layer_of, refreshed, seen
from tests.support.sites import keys, running_site

OLD, NEW = Version("3.2.4"), Version("3.3.0")
SERBIAN = {
    "title": "nCEN", "menu": {"search": "Pretraga", "print": "Štampa"},
    "seizure": {"new": "Nova zaplena", "saved": "Sačuvano: {ref}, {officer}"},
}  # fmt: skip


def now() -> datetime:
    return datetime.now(UTC)


def published(feed: Path, version: str, texts: object, language: str = "sr") -> None:
    """Let officers sign a language of a release."""
    path = feed.parent / f"{language}.json"
    path.write_text(json.dumps(texts), "utf-8")
    publish_language(feed, "ncen", version, language, [Sent(path)], keys(), now)


@pytest.fixture
def live() -> Iterator[LiveSite]:
    with running_site("3.2.4", "3.3.0", own_words=True) as demo:
        (demo.country / "i18n").mkdir()
        (demo.country / "i18n/sr.json").write_text('{"menu": {"search": "Traži"}}', "utf-8")
        yield LiveSite(demo, demo.root.parent / "feed")


def answer(live: LiveSite, *words: str, code: int = 0) -> dict[str, Any]:
    """Run a command of the site and read its answer as a program does."""
    done = live.run(*words, "--json")
    assert done.returncode == code, done.stdout + done.stderr
    document: dict[str, Any] = json.loads(done.stdout or done.stderr)
    return document


def shown(demo: DemoSite) -> Any:
    """What officers see in Serbian after nCEN was started anew."""
    demo.stop_app()
    demo.start_app()
    return seen(demo, "texts/sr")


def test_it_rides_with_the_upgrade_and_is_given_back(live: LiveSite) -> None:
    demo, take = live.demo, ("translations", "take", "sr", "--yes")
    published(live.feed, "3.2.4", {"menu": {"search": "Pretraga", "fax": "Faks"}})
    assert (
        answer(live, *take, "--for", "3.3.0", code=3)["error"]["code"] == "NU-9323"
    )  # no slot of it yet
    taken = answer(live, *take)
    assert (taken["changed"], taken["revision"]) == (True, 1)
    # The country's own wording comes first, and of the rest the signed one.
    both = {"search": "Traži", "print": "Print", "fax": "Faks"}
    assert shown(demo)["menu"] == both
    first = layer_of(refreshed(demo)).chosen()

    published(live.feed, "3.3.0", SERBIAN)
    site = refreshed(demo)
    with Journal.open(site.state / JOURNAL) as journal:
        path = Operations(site, Silent()).known_path(journal, NEW)
        assert isinstance(path, UpgradePath)
        make_plan(site, OLD, path, Silent())
    report = answer(live, "translations", "report", "--for", "3.3.0")
    assert report["languages"] == [
        {"language": "sr", "revision": 1, "taken": None, "translated": 5, "total": 12}
    ]
    assert answer(live, *take, "--for", "3.3.0")["changed"] is False  # of what runs
    done = live.run("plan", "3.3.0")
    assert "5 texts are of the signed language for 3.3.0 (revision 1)" in done.stdout, done.stderr
    assert layer_of(site).chosen() == first

    Operations(site, Silent()).upgrade(NEW)
    after = seen(demo, "texts/sr")
    assert after["seizure"]["saved"] == "Sačuvano: {ref}, {officer}"
    assert after["menu"] == {"search": "Traži", "print": "Štampa"}

    Operations(site, Silent()).rollback()
    assert seen(demo, "texts/sr")["menu"] == both
    assert layer_of(site).chosen() == first

    dropped = answer(live, "translations", "drop", "sr")
    assert dropped["changed"] is True
    assert shown(demo)["menu"] == {**both, "fax": "Send by fax"}
    assert answer(live, "translations", "drop", "sr", code=2)["error"]["code"] == "NU-3307"
    came = demo.root / "came.json"
    came.write_text('{"menu": {"fax": "Pošalji faks"}}', "utf-8")
    words = ("translations", "import", str(came), "--language", "sr", "--yes")
    assert answer(live, *words)["added"] == 1
    assert shown(demo)["menu"] == {**both, "fax": "Pošalji faks"}
    with Journal.open(site.state / JOURNAL, read_only=True) as journal:
        told = [e.data for e in journal.events() if e.kind == "translations-applied"]
    assert [data.get("signed") for data in told] == ["3.2.4 (1)", "3.3.0 (1)", "-", None]


def test_texts_that_do_not_fit_are_told_when_they_are_taken(live: LiveSite) -> None:
    """Seen: "nCEN shows them", of which one lacked a placeholder and was not shown."""
    came = live.demo.root / "sw.json"
    texts = {"menu": {"fax": "Tuma faksi"}, "seizure": {"saved": "Imehifadhiwa"}}
    came.write_text(json.dumps(texts), "utf-8")
    done = live.run("translations", "import", str(came), "--language", "sw", "--yes")
    assert done.returncode == 0, done.stderr
    assert "1 wording of yours cannot be used" in done.stdout.splitlines()
    assert seen(live.demo, "texts/sw")["menu"]["fax"] == "Tuma faksi"


def test_one_that_officers_took_back_is_told_and_taken_by_nobody(live: LiveSite) -> None:
    published(live.feed, "3.2.4", {"menu": {"fax": "Faks"}})
    answer(live, "translations", "take", "sr", "--yes")
    gone = Withdrawal(reason="wrong terms", advice="drop it")
    draft = draft_language_withdrawal(Feed(live.feed).state(), "ncen", "3.2.4", "sr", gone, now())
    publish_draft(live.feed, draft, keys(), now)
    again = answer(live, "translations", "take", "sr", "--yes", code=2)
    assert again["error"]["code"] == "NU-3306"
    assert "wrong terms" in live.run("translations", "report").stdout
    found = [f.code for f in overlay_look(refreshed(live.demo), OLD)]
    assert "NU-6137" in found
    answer(live, "translations", "drop", "sr")
    assert "NU-6137" not in [f.code for f in overlay_look(refreshed(live.demo), OLD)]


@pytest.mark.parametrize("how", ["another text", "longer", "gone"])
def test_what_is_not_what_officers_signed_is_not_taken(live: LiveSite, how: str) -> None:
    published(live.feed, "3.2.4", {"menu": {"fax": "Faks"}})
    (path,) = (live.feed / "targets/languages/ncen").iterdir()
    if how == "gone":
        path.unlink()
    else:
        content = path.read_bytes()
        new = content.replace(b"Faks", b"Foks") if how == "another text" else content + b" "
        path.write_bytes(new)
    done = live.run("translations", "take", "sr", "--yes", "--json")
    assert done.returncode in (6, 7), done.stdout + done.stderr
    layer = layer_of(refreshed(live.demo))
    assert (layer.signed.taken(), layer.chosen()) == ((), None)
