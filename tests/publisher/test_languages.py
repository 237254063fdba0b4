"""A language of a release, signed like it: from a translator's file to the feed."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from demo.release_flow import publish_language, publish_release
from demo.releases import assemble
from ncen_updater.common.canonical_json import canonical_json
from ncen_updater.common.messages import (
    ALREADY_PUBLISHED,
    BELOW_THRESHOLD,
    BUILD_REFUSED,
    LANGUAGE_FILE_UNUSABLE,
    LANGUAGES_NOT_DELEGATED,
    LINT_REFUSES,
    PAPERS_MISSING,
    UNKNOWN_LANGUAGE,
    UNKNOWN_RELEASE,
    UNSOUND_DRAFT,
)
from ncen_updater.feed.offers import languages_of
from ncen_updater.formats.document import Withdrawal
from ncen_updater.formats.errors import BadLanguage
from ncen_updater.formats.language import parse_language_document
from ncen_updater.publisher.build.languages import (
    Sent,
    _declared,
    make_language,
    stage_language,
)
from ncen_updater.publisher.cli.main import run
from ncen_updater.publisher.feed.feed import Feed
from ncen_updater.publisher.feed.publish import Publisher
from ncen_updater.publisher.new.trial import KeyRing, make_feed, publish_draft
from ncen_updater.publisher.review.review import Review, review
from ncen_updater.publisher.review.words import annex_lines, page_of, words_of
from ncen_updater.publisher.signing import roles
from ncen_updater.publisher.signing.compare_staging import compare_carried, compare_files
from ncen_updater.publisher.signing.draft import draft_keys, draft_releases
from ncen_updater.publisher.signing.event import SigningEvent
from ncen_updater.publisher.signing.event_files import PAPERS
from ncen_updater.publisher.signing.language_drafts import (
    draft_language_withdrawal,
    languages_of_feed,
)
from tests.publisher.described import undescribed
from tests.publisher.feeds import ceremony_of
from tests.publisher.releases import NOW, clock, ring
from tests.publisher.test_cli import Officer
from tests.publisher.test_lint_carried import carrying, po
from tests.support.errors import refused

SR = {"title": "Predmeti", "seizure": {"saved": "Sačuvano kao {ref}", "new": "Novo"}}


@dataclass(frozen=True)
class Desk:
    """A feed with a release that carries texts, and a translator's directory."""

    place: Path
    keys: KeyRing

    @property
    def feed(self) -> Feed:
        return Feed(self.place / "feed")

    def write(self, name: str, content: object) -> Path:
        path = self.place / name
        path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
        return path

    def sent(self, content: object, name: str = "sr.json") -> list[Sent]:
        return [Sent(self.write(name, content))]

    def staged(self, content: object = SR, language: str = "sr") -> Path:
        made = make_language(self.feed, "ncen", "3.3.0", language, self.sent(content))
        stage_language(made, self.place / "staging")
        return self.place / "staging"

    def event(self, staging: Path) -> SigningEvent:
        state = self.feed.state()
        draft = draft_releases(state, staging, NOW, (), None, self.feed)
        return SigningEvent.create(
            self.place / "event", draft.title, draft.roles, state, draft.papers
        )

    def published(self, content: object = SR, language: str = "sr") -> None:
        publish_language(
            self.place / "feed", "ncen", "3.3.0", language, self.sent(content), self.keys, clock
        )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    place = tmp_path_factory.mktemp("languages")
    desk = Desk(place, ring(place))
    make_feed(place / "feed", desk.keys, clock)
    publish_release(place / "feed", [carrying(place / "r", "3.3.0")], desk.keys, clock)
    return desk


@pytest.fixture
def desk(tmp_path: Path, made: Desk) -> Desk:
    shutil.copytree(made.place / "feed", tmp_path / "feed")
    return replace(made, place=tmp_path)


def said(page: Review, language: str = "en") -> list[str]:
    lines = [*words_of(page, language), *annex_lines(page)]
    return [line if isinstance(line, str) else line.render(language) for line in lines]


def codes(made: Any) -> list[str]:
    return [found.code for found in made.findings]


# ---- what a translator sends --------------------------------------------------------------------


def test_a_name_that_was_typed_otherwise_is_no_second_language(desk: Desk) -> None:
    """Seen: 'pt-br' beside 'pt_BR', staged, signed and offered to every site."""
    desk.published({"title": "Casos"}, "pt_BR")
    content = desk.sent({"title": "Casos"})
    for language in ("pt-BR", "pt_br"):
        made = make_language(desk.feed, "ncen", "3.3.0", language, content)
        strict = [f for f in made.findings if f.severity == "strict"]
        assert [f.code for f in strict] == ["NU-7178"], language
        assert "under the name 'pt_BR'" in str(strict[0].what)
    for language in ("pt_BR", "pt"):
        made = make_language(desk.feed, "ncen", "3.3.0", language, content)
        assert "NU-7178" not in codes(made)


def test_what_is_signed_is_what_sites_would_use(desk: Desk) -> None:
    made = make_language(desk.feed, "ncen", "3.3.0", "sr", desk.sent({"title": "Predmeti"}))
    assert codes(made) == ["NU-7174"]
    assert (made.document.translated, made.document.total) == (1, 3)
    (file,) = made.document.files
    assert file.overlay == "i18n/{lang}.json"
    assert [(t.key, t.text, t.source) for t in file.texts] == [
        (("title",), ("Predmeti",), ("Cases",))
    ]


def test_a_po_of_translations_export_tells_what_each_text_was_made_for(desk: Desk) -> None:
    content = (
        'msgid ""\nmsgstr "Content-Type: text/plain; charset=UTF-8\\n"\n\n'
        'msgctxt "title"\nmsgid "Cases"\nmsgstr "Predmeti"\n\n'
        'msgctxt "seizure.saved"\nmsgid "Kept as {ref}"\nmsgstr "Sačuvano {ref}"\n\n'
        '#, fuzzy\nmsgctxt "seizure.new"\nmsgid "New & <b>seizure</b>"\nmsgstr "Novo"\n\n'
        'msgctxt "fax"\nmsgid "Fax"\nmsgstr "Faks"\n'
    )
    made = make_language(desk.feed, "ncen", "3.3.0", "sr", desk.sent(content, "sr.po"))
    assert codes(made) == ["NU-7174", "NU-7175", "NU-7176", "NU-7177"]
    assert [t.key for t in made.document.files[0].texts] == [("title",)]
    said = {found.code: found.what.render("en") for found in made.findings}
    assert "fax" in said["NU-7175"]
    assert "seizure.saved" in said["NU-7176"]
    assert "seizure.new" in said["NU-7177"]


def test_a_release_in_gettext_s_own_form(tmp_path: Path, made: Desk) -> None:
    desk = replace(made, place=tmp_path)
    make_feed(tmp_path / "feed", made.keys, clock)
    release = carrying(tmp_path / "r", "3.3.0")
    po(release)
    (release / "i18n/en.po").write_text('msgid ""\nmsgstr ""\n\nmsgid "Saved as %s"\nmsgstr ""\n')
    publish_release(tmp_path / "feed", [release], made.keys, clock)
    content = (
        'msgid ""\nmsgstr "Content-Type: text/plain; charset=UTF-8\\n"\n'
        '"Plural-Forms: nplurals=3; plural=0;\\n"\n\nmsgid "Saved as %s"\nmsgstr "Kao %s"\n'
    )
    found = make_language(desk.feed, "ncen", "3.3.0", "sr", desk.sent(content, "sr.po"))
    assert (found.document.translated, found.document.total) == (1, 1)
    assert found.document.files[0].plural == "nplurals=3; plural=0;"


@pytest.mark.parametrize(
    ("content", "keys"),
    [
        ({"seizure": {"saved": "Sačuvano"}}, "seizure.saved"),
        ({"seizure": {"saved": "Sačuvano {ref} {who}"}}, "seizure.saved"),
        ({"seizure": {"new": "<script>Novo & <b>x</b>"}}, "seizure.new"),
    ],
)
def test_a_placeholder_that_breaks_is_never_signed(desk: Desk, content: Any, keys: str) -> None:
    made = make_language(desk.feed, "ncen", "3.3.0", "sr", desk.sent(content))
    (found,) = [f for f in made.findings if f.code == "NU-7171"]
    assert found.severity.value == "strict"
    assert keys in found.what.render("en")
    with refused(LINT_REFUSES):
        desk.published(content)
    assert languages_of_feed(desk.feed.state(), "ncen") == []


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("sr.json", "{"), ("sr.json", "[]"), ("sr.json", ""), ("sr.json", '{"a": 1, "a": 2}'),
        ("sr.json", '{"title": "zero \\u0000"}'),
        ("sr.json", {"nothing": "of it"}), ("sr.json", {"title": ""}), ("sr.po", "no catalogue"),
        ("sr.json", {"title": "x" * 20_001}), ("sr.json", {"title": ["a", "list"]}),
    ],
)  # fmt: skip
def test_a_file_that_is_no_translation_is_refused(desk: Desk, name: str, content: object) -> None:
    with refused(LANGUAGE_FILE_UNUSABLE):
        make_language(desk.feed, "ncen", "3.3.0", "sr", desk.sent(content, name))


def test_a_file_is_for_a_path_that_the_release_carries(desk: Desk) -> None:
    for overlay in ("settings.ini", "i18n/sr.json", "../x"):
        with refused(LANGUAGE_FILE_UNUSABLE, match=r"i18n/\{lang\}.json"):
            make_language(
                desk.feed, "ncen", "3.3.0", "sr", [Sent(desk.write("sr.json", SR), overlay)]
            )
    nothing = cast("Any", SimpleNamespace(manifest=SimpleNamespace(carried=(), version="1.0.0")))
    with refused(LANGUAGE_FILE_UNUSABLE, match="carries no texts"):  # seen: "translations at: -"
        _declared(nothing, Sent(desk.place / "sr.po"))
    twice = [Sent(desk.write("sr.json", SR)), Sent(desk.write("b.json", SR))]
    with refused(BadLanguage):
        make_language(desk.feed, "ncen", "3.3.0", "sr", twice)
    with refused(LANGUAGE_FILE_UNUSABLE):
        make_language(desk.feed, "ncen", "3.3.0", "sr", [Sent(desk.place / "missing.json")])


def test_it_is_for_a_release_that_is_published(desk: Desk) -> None:
    with refused(UNKNOWN_RELEASE):
        make_language(desk.feed, "ncen", "3.4.0", "sr", desk.sent(SR))


def test_a_feed_of_before_is_told_what_to_sign(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its product may not sign such names; the same ceremony, drafted anew, gives them."""
    before = [path for path in roles.paths_of("ncen") if not path.startswith("languages/")]
    ceremony = ceremony_of(
        desk.keys.officers, {name: held[0] for name, held in desk.keys.online.items()}
    )
    with monkeypatch.context() as patch:
        patch.setattr("ncen_updater.publisher.signing.ceremony.paths_of", lambda _: before)
        draft = draft_keys(desk.feed.state(), ceremony, NOW)
        publish_draft(desk.place / "feed", draft, desk.keys, clock)
    with refused(LANGUAGES_NOT_DELEGATED):
        make_language(desk.feed, "ncen", "3.3.0", "sr", desk.sent(SR))
    publish_draft(
        desk.place / "feed", draft_keys(desk.feed.state(), ceremony, NOW), desk.keys, clock
    )
    desk.published({"title": "Predmeti"})


# ---- what officers sign -------------------------------------------------------------------------


def test_officers_see_coverage_and_texts_before_they_sign(desk: Desk) -> None:
    """From the event alone."""
    content = {"title": "Predmeti\u202e", "seizure": {"saved": "Sačuvano kao {ref}"}}
    event = desk.event(desk.staged(content))
    assert event.title == "Languages of ncen 3.3.0 (sr)"
    page = review(event, whole=True)
    lines = said(page)
    assert page.sentences[0].render() == (
        "ncen 3.3.0 in 'sr' (revision 1) is offered to every site that asks for it: 2 of 3"
        " translated."
    )
    assert [line for line in lines if "3.3.0 in 'sr': 2 of 3 translated." in line]
    assert "  i18n/sr.json: seizure.saved, “Saved as {ref}”: “Sačuvano kao {ref}”" in lines
    assert "  i18n/sr.json: title, “Cases”: “Predmeti ”" in lines
    assert (page.grave, page.releases) == ((), ())
    html = page_of(page).decode()
    assert "Sačuvano kao {ref}" in html
    assert "Langues de" in "\n".join(said(page, "fr"))
    assert compare_carried(event, None) == []
    assert compare_files(event, desk.place / "staging", None) == []


def test_officers_see_what_a_language_says_otherwise_than_before(desk: Desk) -> None:
    """From the event alone: of many texts those that differ, all of them."""
    desk.published({"title": "Predmeti", "seizure": {"saved": "Sačuvano kao {ref}"}})
    event = desk.event(desk.staged({"seizure": {"saved": "Obrisano {ref}"}}))
    shutil.rmtree(desk.place / "staging")
    page = review(event, whole=True)
    assert [text.render() for text in page.languages[0].texts] == [
        "compared with 3.3.0, revision 1",
        "i18n/sr.json: seizure.saved, “Saved as {ref}”: “Sačuvano kao {ref}” becomes"
        " “Obrisano {ref}”",
        "gone: i18n/sr.json: title, “Predmeti”",
    ]


def test_a_language_of_a_release_with_migrations_is_judged_from_the_event_alone(
    tmp_path: Path, made: Desk
) -> None:
    make_feed(tmp_path / "feed", made.keys, clock)
    release = assemble("3.2.4", tmp_path / "release")
    publish_release(tmp_path / "feed", [release], made.keys, clock)
    desk = replace(made, place=tmp_path)
    sent = desk.sent({"title": "Predmeti"})
    language = make_language(desk.feed, "ncen", "3.2.4", "sr", sent)
    stage_language(language, tmp_path / "staging")
    page = review(desk.event(tmp_path / "staging"), whole=True)
    assert page.grave == ()
    assert [line for line in said(page) if "NU-7174" in line]
    french = "\n".join(said(page, "fr"))
    assert "Langues de ncen 3.2.4 (sr)" in french


def test_one_signature_is_not_enough(desk: Desk) -> None:
    event = desk.event(desk.staged({"title": "Predmeti"}))
    event.sign(desk.keys.officers[0], event.digest)
    with refused(BELOW_THRESHOLD):
        Publisher(desk.feed, clock).publish(event, [desk.place / "staging"], desk.keys.online)
    event.sign(desk.keys.officers[1], event.digest)
    Publisher(desk.feed, clock).publish(event, [desk.place / "staging"], desk.keys.online)
    listed = desk.feed.state().delegated["ncen"].signed.targets
    (offer,) = languages_of("ncen", listed)
    path = desk.feed.target_path(listed[offer.target])
    document = parse_language_document(path.read_bytes(), offer.target)
    assert document.offer() == offer
    with refused(ALREADY_PUBLISHED):
        (desk.place / "staging/targets" / offer.target).write_bytes(
            document.model_copy(update={"translated": 2}).canonical()
        )
        desk.event(desk.place / "staging")


def test_nobody_signs_a_language_that_was_not_shown(desk: Desk) -> None:
    event = desk.event(desk.staged({"title": "Predmeti"}))
    listed = event.drafts["ncen"].signed.targets
    of_release = listed["releases/ncen/3.3.0.json"].hashes["sha256"]
    (event.directory / PAPERS / of_release).write_bytes(b"{}")
    assert [t for t in review(event).grave if "could not be read" in t.render()]
    with refused(PAPERS_MISSING):
        review(event, whole=True)
    assert review(event, feed=desk.place / "feed", whole=True).grave == ()
    own = listed["languages/ncen/3.3.0.sr.1.json"].hashes["sha256"]
    (event.directory / PAPERS / own).unlink()
    for look in (lambda: review(event), lambda: compare_carried(event, None)):
        with refused(PAPERS_MISSING):
            look()


def _coverage(data: dict[str, Any]) -> None:
    data["translated"] = 3


def _place(data: dict[str, Any]) -> None:
    data["files"][0]["texts"][0] |= {"key": ["seizure", "saved"], "source": ["Saved as {ref}"]}


def _other(data: dict[str, Any]) -> None:
    data["files"][0]["texts"][0]["source"] = ["Files"]


def _settings(data: dict[str, Any]) -> None:
    data["files"][0]["overlay"] = "settings.ini"


@pytest.mark.parametrize(
    ("change", "code"),
    [(_coverage, "NU-7173"), (_place, "NU-7171"), (_other, "NU-7172"), (_settings, "NU-7170")],
)
def test_what_somebody_bent_after_the_build_is_marked(desk: Desk, change: Any, code: str) -> None:
    """Whoever drafts is not believed: the officer's own program counts and compares."""
    staging = desk.staged({"title": "Predmeti"})
    path = staging / "targets/languages/ncen/3.3.0.sr.1.json"
    data = json.loads(path.read_bytes())
    change(data)
    path.write_bytes(canonical_json(data))
    page = review(desk.event(staging), whole=True)
    assert [t for t in page.grave if f"lint refuses it ({code})" in t.render()]
    words = ["draft", "--feed", str(desk.place / "feed"), "--staging", str(staging)]
    assert run([*words, "--event", str(desk.place / "second")]) == 3
    assert not (desk.place / "second").exists()


def test_a_language_under_another_name_is_no_draft(desk: Desk) -> None:
    staging = desk.staged({"title": "Predmeti"})
    path = staging / "targets/languages/ncen/3.3.0.sr.1.json"
    path.rename(path.with_name("3.3.0.sw.1.json"))
    with refused(BUILD_REFUSED):
        desk.event(staging)


def test_lists_that_contradict_a_language_are_no_event(desk: Desk) -> None:
    event = desk.event(desk.staged({"title": "Predmeti"}))
    draft = event.drafts["ncen"]
    draft.signed.targets["languages/ncen/3.3.0.sr.1.json"].custom["ncen"]["language"] = "sw"
    with refused(UNSOUND_DRAFT):
        SigningEvent.create(desk.place / "bent", event.title, event.drafts, desk.feed.state())


# ---- revisions and taking back ------------------------------------------------------------------


def test_a_better_one_is_the_next_revision_and_one_is_taken_back(desk: Desk) -> None:
    desk.published({"title": "Predmeti"})
    desk.published(SR | {"seizure": {"saved": "Kao {ref}"}})
    offers = languages_of_feed(desk.feed.state(), "ncen")
    assert [(o.revision, o.translated) for o in offers] == [(1, 1), (2, 2)]
    gone = Withdrawal(reason="wrong terms", advice="take the one before")
    draft = draft_language_withdrawal(desk.feed.state(), "ncen", "3.3.0", "sr", gone, NOW)
    event = SigningEvent.create(desk.place / "gone", draft.title, draft.roles, desk.feed.state())
    lines = said(review(event))
    assert [line for line in lines if line.strip().startswith("WITHDRAWN: ncen 3.3.0 in 'sr'")]
    assert [line for line in lines if "is taken back: no site takes it any more" in line]
    assert not [line for line in lines if line.strip().startswith("WITHDRAWN: ncen 3.3.0:")]
    publish_draft(desk.place / "feed", draft, desk.keys, clock)
    offers = languages_of_feed(desk.feed.state(), "ncen")
    assert [o.withdrawn for o in offers] == [None, gone]
    publish_draft(
        desk.place / "feed",
        draft_language_withdrawal(desk.feed.state(), "ncen", "3.3.0", "sr", gone, NOW),
        desk.keys,
        clock,
    )
    with refused(UNKNOWN_LANGUAGE):
        draft_language_withdrawal(desk.feed.state(), "ncen", "3.3.0", "sr", gone, NOW)


def test_the_commands_from_a_file_to_the_feed(
    desk: Desk, made: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    """As an officer types them; the answers are read as programs read them."""
    shutil.copytree(made.place / "keys", desk.place / "keys")
    officer = Officer(desk.place, capsys)
    feed = ("--feed", desk.place / "feed")

    def answered(name: str, *words: object) -> dict[str, Any]:
        code, out, err = officer.run("language", name, *words, "--json")
        assert code == 0, err
        document: dict[str, Any] = json.loads(out)
        assert not undescribed(f"language {name}", document)
        return document

    broken = desk.write("broken.json", {"seizure": {"saved": "x"}})
    tried = ("language", "add", "sr", broken, "--version", "3.3.0", *feed, "--dry-run")
    code, out, _ = officer.run(*tried, "--json")
    assert (code, [f["code"] for f in json.loads(out)["findings"]]) == (3, ["NU-7171", "NU-7174"])
    staging, event = desk.place / "staging", desk.place / "event"
    staging.mkdir()
    file = f"i18n/{{lang}}.json={desk.write('sr.json', {'title': 'Predmeti'})}"
    words = (file, "--version", "3.3.0", *feed)
    assert officer.run("language", "add", "sr", *words)[0] == 2
    assert officer.run("language", "add", "Serbian", *words, "--dry-run")[0] == 2
    found = answered("add", "sr", *words, "--staging", staging)
    assert (found["translated"], found["total"], found["revision"]) == (1, 3, 1)
    shown = officer.json("draft", *feed, "--staging", staging, "--event", event)
    assert shown["title"] == "Languages of ncen 3.3.0 (sr)"
    officer.sign_and_publish(event, "--staging", staging)
    lines = officer.json("status", desk.place / "feed")["languages"]
    assert [(o["language"], o["revision"], o["withdrawn"]) for o in lines] == [("sr", 1, None)]
    assert (
        "ncen 3.3.0 in 'sr', revision 1: 1 of 3 translated"
        in officer.run("status", desk.place / "feed")[1]
    )
    found = answered(
        "withdraw", "sr", "--version", "3.3.0", *feed, "--reason", "wrong terms",
        "--advice", "drop it", "--event", desk.place / "gone",
    )  # fmt: skip
    assert found["title"] == "Withdrawal of ncen 3.3.0 (sr)"
