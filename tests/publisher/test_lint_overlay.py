"""Tests of lint for local overlays: each rule finds its mistake, a good release has none."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from demo.release_flow import publish_release
from ncen_updater.common.findings import Finding
from ncen_updater.publisher.build.release_build import build_release
from ncen_updater.publisher.cli.main import run
from ncen_updater.publisher.feed.feed_directory import FeedDirectory
from ncen_updater.publisher.lint.release_lint import (
    find_previous_release,
    lint_release,
)
from ncen_updater.publisher.lint.rules import PreviousRelease
from ncen_updater.publisher.new.trial import FeedKeys
from ncen_updater.publisher.signing.event_files import read_overlay_files
from tests.publisher.releases import clock, write_release

CARRIED = """
[[health]]
name = "answers"
path = "/"

[[overlays]]
kind = "translations"
format = "json"
release_path = "i18n/{lang}.json"
site_path = "i18n/{lang}.json"
areas = [{ keys = "seizure.*", label = "where officers enter seizures" }]

[[overlays]]
kind = "settings"
format = "ini"
release_path = "settings.ini"
site_path = "settings.ini"
required = ["mail.sender"]
rules = [{ key = "lists.rows", type = "integer", least = 10, most = 1000 }]
"""
EN = {"title": "Cases", "seizure": {"saved": "Saved as {ref}", "new": "New & <b>seizure</b>"}}
FR = {"title": "Affaires", "seizure": {"saved": "Sous {ref}", "new": "Nouvelle & <b>saisie</b>"}}
SETTINGS = "[lists]\nrows = 100\n\n[mail]\nsender = a@b\nfax = no\n"
PO = (
    'msgid ""\nmsgstr "Content-Type: text/plain; charset=UTF-8\\n"\n\n'
    'msgid "Saved as %s"\nmsgstr "Sous %s"\n'
)


def release_with_texts(directory: Path, version: str = "3.3.0", extra: str = CARRIED) -> Path:
    release = write_release(directory, version, extra=extra)
    (release / "i18n").mkdir()
    (release / "i18n/en.json").write_text(json.dumps(EN))
    (release / "i18n/fr.json").write_text(json.dumps(FR))
    (release / "settings.ini").write_text(SETTINGS)
    return release


def words(path: str, **changes: object) -> Callable[[Path], None]:
    """Give other texts to a file; None takes one away."""

    def do(release: Path) -> None:
        data = json.loads((release / path).read_text())
        data["seizure"] |= changes
        data["seizure"] = {k: v for k, v in data["seizure"].items() if v is not None}
        (release / path).write_text(json.dumps(data))

    return do


def text(path: str, old: str, new: str) -> Callable[[Path], None]:
    def do(release: Path) -> None:
        content = (release / path).read_text()
        assert old in content
        (release / path).write_text(content.replace(old, new))

    return do


def whole(path: str, content: bytes) -> Callable[[Path], None]:
    def do(release: Path) -> None:
        (release / path).write_bytes(content)

    return do


def gone(path: str) -> Callable[[Path], None]:
    return lambda release: (release / path).unlink()


def linked(release: Path) -> None:
    (release / "settings.ini").rename(release / "others.ini")
    (release / "settings.ini").symlink_to("others.ini")


def po(release: Path, content: str = PO) -> None:
    (release / "i18n/fr.po").write_text(content)
    text("manifest.toml", '"json"', '"po"')(release)
    text("manifest.toml", "{lang}.json", "{lang}.po")(release)
    text("manifest.toml", "areas = ", "# areas = ")(release)


def all_of(*steps: Callable[[Path], None]) -> Callable[[Path], None]:
    def do(release: Path) -> None:
        for step in steps:
            step(release)

    return do


def codes(found: list[Finding]) -> dict[str, str]:
    return {item.code[3:]: item.severity.value for item in found}


ALONE: dict[str, tuple[Callable[[Path], None], dict[str, str]]] = {
    "nothing": (lambda _: None, {}),
    "no settings": (gone("settings.ini"), {"7142": "critical"}),
    "no source": (gone("i18n/en.json"), {"7142": "critical"}),
    "one language only": (gone("i18n/fr.json"), {}),
    "a template that is not there": (
        text("manifest.toml", 'areas = ', 'template = "i18n/all.json"\nareas = '),
        {"7142": "critical"},
    ),
    "a link": (linked, {"7144": "critical"}),
    "a key twice in JSON": (whole("i18n/fr.json", b'{"a": "b", "a": "c"}'), {"7144": "critical"}),
    "a key twice in ini": (
        text("settings.ini", "fax = no", "fax = no\nfax = yes"), {"7144": "critical"},
    ),
    "another encoding": (
        whole("i18n/fr.json", '{"title": "Entrée"}'.encode("latin-1")), {"7144": "critical"},
    ),
    "a zero byte": (whole("i18n/en.json", b'{"a": "\0"}'), {"7144": "critical"}),
    "a placeholder that nothing fills": (
        words("i18n/fr.json", saved="Sous {numero}"), {"7145": "critical"},
    ),
    "a placeholder that is missing": (
        words("i18n/fr.json", saved="Enregistré"), {"7146": "warning"},
    ),
    "a tag that is missing": (words("i18n/fr.json", new="Nouvelle & saisie"), {"7146": "warning"}),
    "a tag that was not there": (
        words("i18n/fr.json", new="<i>Nouvelle</i> & <b>saisie</b>"), {"7146": "warning"},
    ),
    "a key of one language alone": (words("i18n/fr.json", more="Sous {ref} {x}"), {}),
    "no such area": (text("manifest.toml", '"seizure.*"', '"seizures.*"'), {"7150": "warning"}),
    "no such setting": (text("manifest.toml", '"lists.rows"', '"list.rows"'), {"7150": "warning"}),
    "a name that nothing has": (
        text("manifest.toml", "areas = ", 'renamed = { "a" = "b" }\nareas = '),
        {"7150": "warning"},
    ),
    "its own value breaks the rule": (
        text("settings.ini", "rows = 100", "rows = 5"), {"7159": "critical"},
    ),
    "no number": (text("settings.ini", "rows = 100", "rows = many"), {"7159": "critical"}),
    "a setting without a default": (
        text("settings.ini", "sender = a@b\n", ""), {"7157": "warning"},
    ),
    "an empty default": (text("settings.ini", "a@b", ""), {"7157": "warning"}),
    "gettext without a source": (po, {"7143": "warning"}),
    "gettext with the source": (
        all_of(po, whole("i18n/en.po", PO.replace("Sous %s", "").encode())), {},
    ),
    "gettext with a place that nothing fills": (
        lambda r: po(r, PO.replace("Sous %s", "Sous %s %d")),
        {"7143": "warning", "7145": "critical"},
    ),
    "gettext with a text flagged no-format": (
        lambda r: po(
            r,
            PO.replace("Sous %s", "Sous %s %d").replace(
                'msgid "Saved', '#, no-python-format\nmsgid "Saved'
            ),
        ),
        {"7143": "warning"},
    ),
    "gettext of a translator who was not sure": (
        lambda r: po(r, PO.replace('msgid "Sa', '#, fuzzy\nmsgid "Sa').replace("Sous %s", "%d")),
        {"7143": "warning"},
    ),
    "a text twice in gettext": (
        lambda r: po(r, PO + '\nmsgid "Saved as %s"\nmsgstr "x"\n'),
        {"7143": "warning", "7144": "critical"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ALONE)
def test_overlay_mistakes_in_one_release_are_found(tmp_path: Path, name: str) -> None:
    change, expected = ALONE[name]
    release = release_with_texts(tmp_path / "r")
    change(release)
    assert codes(lint_release(release)) == expected


AFTER: dict[str, tuple[Callable[[Path], None], dict[str, str]]] = {
    "nothing": (lambda _: None, {}),
    "a new text": (words("i18n/en.json", artefact="Artefact"), {"7147": "info"}),
    "another wording": (words("i18n/en.json", saved="Kept as {ref}"), {"7147": "info"}),
    "a text that is gone": (words("i18n/en.json", saved=None), {"7147": "info"}),
    "another translation": (words("i18n/fr.json", saved="Comme {ref}"), {}),
    "other placeholders": (
        all_of(
            words("i18n/en.json", saved="Saved as {ref} by {officer}"),
            words("i18n/fr.json", saved="Sous {ref} par {officer}"),
        ),
        {"7147": "info", "7148": "warning"},
    ),
    "another key": (
        words("i18n/en.json", saved=None, stored="Saved as {ref}"),
        {"7147": "info", "7149": "warning"},
    ),
    "another key, declared": (
        all_of(
            words("i18n/en.json", saved=None, stored="Saved as {ref}"),
            text(
                "manifest.toml",
                "areas = ",
                'renamed = { "seizure.saved" = "seizure.stored" }\nareas = ',
            ),
        ),
        {},
    ),
    "a language less": (gone("i18n/fr.json"), {"7152": "warning"}),
    "no longer declared": (
        text("manifest.toml", "i18n/{lang}.json", "i18n2/{lang}.json"),
        {"7142": "critical", "7153": "warning"},
    ),
    "another format": (
        all_of(
            text("manifest.toml", '"ini"', '"properties"'),
            whole("settings.ini", b"lists.rows = 100\nmail.sender = a\n"),
        ),
        {"7154": "critical"},
    ),
    "a setting that is gone": (text("settings.ini", "fax = no\n", ""), {"7155": "warning"}),
    "another default": (text("settings.ini", "= 100", "= 50"), {"7156": "warning"}),
    "a new setting": (text("settings.ini", "fax = no", "fax = no\ntelex = no"), {}),
    "a required one that is new": (
        text("manifest.toml", '"mail.sender"]', '"mail.sender", "mail.host"]'),
        {"7157": "warning"},
    ),
    "a stricter rule": (text("manifest.toml", "least = 10", "least = 20"), {"7158": "warning"}),
    "a looser rule": (text("manifest.toml", "least = 10", "least = 5"), {}),
    "a rule for what is new": (
        all_of(
            text("settings.ini", "fax = no", "fax = no\ntelex = no"),
            text("manifest.toml", "rules = [", 'rules = [{key = "mail.telex", type = "boolean"},'),
        ),
        {},
    ),
    "a rule for what was free": (
        text("manifest.toml", "rules = [", 'rules = [{key = "mail.fax", type = "boolean"}, '),
        {"7158": "warning"},
    ),
}


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("before")
    release_with_texts(place / "r")
    build_release(place / "r", place / "s")
    return place / "s/targets"


@pytest.mark.parametrize("name", AFTER)
def test_overlay_is_compared_with_the_previous_release(
    tmp_path: Path, before: Path, name: str
) -> None:
    change, expected = AFTER[name]
    release = release_with_texts(tmp_path / "r", "3.4.0")
    change(release)
    document = build_release(release_with_texts(tmp_path / "old"), tmp_path / "s").document
    texts = read_overlay_files(
        document, before / document.tree.target, before / document.archive.target
    )
    assert texts.keys() == {"i18n/en.json", "i18n/fr.json", "settings.ini"}
    assert codes(lint_release(release, PreviousRelease(document, texts=texts))) == expected


def test_setting_required_earlier_is_not_reported_again(tmp_path: Path) -> None:
    old, new = release_with_texts(tmp_path / "old"), release_with_texts(tmp_path / "new", "3.4.0")
    for release in (old, new):
        text("settings.ini", "sender = a@b\n", "")(release)
    built = build_release(old, tmp_path / "s")
    targets = tmp_path / "s/targets"
    document = built.document
    texts = read_overlay_files(
        document, targets / document.tree.target, targets / document.archive.target
    )
    assert codes(lint_release(old)) == {"7157": "warning"}
    assert codes(lint_release(new, PreviousRelease(document, texts=texts))) == {}


def test_command_compares_with_the_feed(
    tmp_path: Path, feed: Path, keys: FeedKeys, capsys: pytest.CaptureFixture[str]
) -> None:
    publish_release(feed, [release_with_texts(tmp_path / "r", "3.4.0")], keys, clock)
    release = release_with_texts(tmp_path / "next", "3.5.0")
    words("i18n/en.json", saved="Kept as {ref}", extra="\u202eevil")(release)
    text("settings.ini", "fax = no\n", "")(release)
    previous = find_previous_release(FeedDirectory(feed), release)
    assert previous is not None and previous.texts is not None
    assert previous.texts["settings.ini"] == SETTINGS.encode()
    assert run(["lint", str(release), "--feed", str(feed)]) == 0
    said = capsys.readouterr().out
    assert "1 added, 1 changed, 0 removed" in said.replace("\n", " ")
    assert "mail.fax" in said
