"""Any language can be added as a catalogue: a third one is, here, in a directory of the site."""

from __future__ import annotations

import re
import runpy
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import polib
import pytest

from ncen_updater.agent.cli.main import COMMANDS
from ncen_updater.common.i18n import (
    LOCALE_DIR,
    LazyText,
    LocalizedFigure,
    choose_translation,
    is_right_to_left,
    iter_catalog_texts,
    list_catalog_names,
    list_languages,
    make_language_tag,
    match_language,
    read_language_from_environment,
    translate,
)
from tests.agent.cli.site import AT, TrialSite, make_site

ROOT = Path(__file__).parents[2]
#: Commands that need root: they never use the service, or they read the key of the site.
ROOT_COMMANDS = ("adopt", "prune", "receipt", "resume", "setup", "translations")
HELD = "Upgrades on hold since {since} by {by}: {reason}"


RENDER = runpy.run_path(str(ROOT / "script" / "messages.py"))["render_mo"]


def add(directory: Path, language: str, sentences: Mapping[str, str]) -> Path:
    path = directory / language / "LC_MESSAGES" / "ncen_updater.mo"
    path.parent.mkdir(parents=True)
    path.write_bytes(RENDER(sentences))
    return path


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = tmp_path / "locale"
    monkeypatch.setenv("NCEN_LOCALE_DIR", str(made))
    return made


def test_sudo_stands_only_before_commands_that_need_root() -> None:
    """Seen: "sudo ncen-updater resume" in one place, "ncen-updater resume" in others."""
    command = re.compile(r"(sudo )?\bncen-updater ([a-z-]+)\b(?! --help)")
    assert set(ROOT_COMMANDS) < set(COMMANDS)
    wrong = [
        text
        for text in iter_catalog_texts()
        if any(bool(sudo) is not (name in ROOT_COMMANDS) for sudo, name in command.findall(text))
    ]
    assert wrong == []


def test_quoted_command_is_unchanged() -> None:
    """Seen: "sudo" in the reason that a person had typed."""
    hold = LazyText("on hold: {reason}", {"reason": "first ncen-updater resume"})
    assert hold.render("fr").endswith("first ncen-updater resume")


def test_counts_by_name_have_the_colon_of_the_language() -> None:
    counts = LazyText("{codes}", {"codes": "C10: 53, C-1: 2, ..."})
    assert counts.render("en") == "C10: 53, C-1: 2, ..."
    assert counts.render("fr") == "C10 : 53, C-1 : 2, ..."
    assert LazyText("{error}", {"error": "no: file"}).render("fr") == "no: file"


def test_bundled_languages_are_always_available(directory: Path) -> None:
    assert list_languages() == ("en", "fr")
    add(directory, "sw", {"no": "hapana"})
    (directory / "de").mkdir()  # no catalogue in it
    add(directory, "Not-a-language", {})
    assert list_languages() == ("en", "fr", "sw")


def test_english_replaces_missing_translations(directory: Path) -> None:
    add(directory, "sw", {"no": "hapana", "yes": "", "running diagnostics": "inakusanya"})
    assert translate("no", "sw") == "hapana"
    assert translate("yes", "sw") == "yes"
    inner = LazyText(
        "{question} Type yes to confirm", {"question": LazyText("running diagnostics")}
    )
    assert inner.render("sw") == "inakusanya Type yes to confirm"


def test_site_catalogue_may_correct_a_text(directory: Path) -> None:
    add(directory, "fr", {"no": "nenni"})
    assert translate("no", "fr") == "nenni"
    assert translate("yes", "fr") == "oui"


@pytest.mark.parametrize(
    "content", [b"", b"nonsense", b"\xde\x12\x04\x95" + b"\xff" * 40], ids=["empty", "text", "cut"]
)
def test_broken_catalogue_is_ignored(directory: Path, content: bytes) -> None:
    add(directory, "fr", {"no": "nenni"}).write_bytes(content)
    add(directory, "sw", {}).write_bytes(content)
    assert translate("no", "fr") == "non"
    assert translate("no", "sw") == "no"


def test_placeholders_broken_by_a_translator_are_harmless(directory: Path) -> None:
    add(directory, "sw", {HELD: "{reason.__class__} {0} {nobody} {reason!r:>9}"})
    text = LazyText(HELD, {"reason": "x"})
    assert text.render("sw") == "{reason.__class__} {0} {nobody} {reason!r:>9}"


def test_language_is_read_from_the_environment(directory: Path) -> None:
    assert read_language_from_environment({"LANG": "sw_KE.UTF-8"}) == "en"
    add(directory, "sw", {})
    assert read_language_from_environment({"LANG": "sw_KE.UTF-8"}) == "sw"
    assert read_language_from_environment({"LANG": "../../etc"}) == "en"


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ("fr", ("fr",)), ("FR", ("fr",)), ("pt_BR", ("pt_BR", "pt")), ("pt-br", ("pt_BR", "pt")),
        ("pt_BR.UTF-8", ("pt_BR", "pt")), ("es-419", ("es_419", "es")),
        ("sr_RS@latin", ("sr_RS@latin", "sr@latin", "sr_RS", "sr")),
        ("zh-Hant-TW", ("zh_Hant_TW", "zh_Hant", "zh_TW", "zh")),
        ("C", ()), ("C.UTF-8", ()), ("POSIX", ()), ("", ()), ("../../etc", ()), ("fr_", ()),
        ("*", ()), ("fr\n", ()), ("fr/x", ()),
    ],
)  # fmt: skip
def test_regional_language_falls_back_to_its_base(asked: str, names: tuple[str, ...]) -> None:
    assert list_catalog_names(asked) == names


@pytest.mark.parametrize(
    ("environment", "language"),
    [
        ({"LANG": "pt_BR.UTF-8"}, "pt_BR"), ({"LANG": "pt_PT.UTF-8"}, "pt"),
        ({"LANG": "fr_CA.UTF-8"}, "fr"), ({"LANG": "en_GB.UTF-8"}, "en"),
        ({"LANG": "C.UTF-8"}, "en"), ({"LANG": "C"}, "en"), ({}, "en"),
        ({"LANG": "de_DE.UTF-8"}, "en"), ({"LANG": "fr", "LC_MESSAGES": "pt"}, "pt"),
        ({"LANG": "fr", "LC_ALL": "C"}, "en"), ({"LANG": "fr", "LC_ALL": ""}, "fr"),
        ({"LANG": "fr", "LANGUAGE": "de:pt_BR:fr"}, "pt_BR"),
        ({"LANG": "fr", "LANGUAGE": ""}, "fr"),
        ({"LANG": "C.UTF-8", "LANGUAGE": "fr"}, "fr"), ({"LANG": "C", "LANGUAGE": "fr"}, "en"),
        ({"LANGUAGE": "fr"}, "en"), ({"LANG": "fr", "LANGUAGE": "en_US:fr"}, "en"),
        ({"LANG": "fr", "LANGUAGE": "pt", "NCEN_LANG": "en"}, "en"),
        ({"LANG": "fr", "NCEN_LANG": "nonsense of somebody's"}, "fr"),
    ],
)  # fmt: skip
def test_environment_is_read_as_by_the_c_library(
    directory: Path, environment: dict[str, str], language: str
) -> None:
    for name in ("pt", "pt_BR"):
        add(directory, name, {})
    assert read_language_from_environment(environment) == language


def test_missing_regional_text_falls_back_to_the_language(directory: Path) -> None:
    add(directory, "pt", {"no": "não", "yes": "sim"})
    add(directory, "pt_BR", {"yes": "sim!", "running diagnostics": ""})
    assert [translate(word, "pt_BR") for word in ("yes", "no")] == ["sim!", "não"]
    assert translate("running diagnostics", "pt_BR") == "running diagnostics"
    assert match_language("de", "pt-BR") == "pt_BR"
    assert LocalizedFigure("1.5", pt="1,5").render("pt_BR") == "1,5"
    assert choose_translation({"en": "a", "pt": "b"}, "pt_BR") == "b"
    assert choose_translation({"en": "a"}, "pt_BR") == "a"


@pytest.mark.parametrize(
    ("language", "turned", "tag"),
    [
        ("en", False, "en"), ("fr", False, "fr"), ("pt_BR", False, "pt-BR"), ("ar", True, "ar"),
        ("ar_DZ", True, "ar-DZ"), ("dv", True, "dv"), ("sr@latin", False, "sr-Latn"),
        ("uz_Arab", True, "uz-Arab"), ("ks@devanagari", False, "ks-Deva"),
        ("nonsense", False, "nonsense"),
    ],
)  # fmt: skip
def test_right_to_left_languages_are_recognised(language: str, turned: bool, tag: str) -> None:
    assert (is_right_to_left(language), make_language_tag(language)) == (turned, tag)


def test_values_are_isolated_in_a_right_to_left_language(directory: Path) -> None:
    add(directory, "ar", {HELD: "الترقيات معلقة: {reason}"})
    path = "\u2069/etc/\u202ex\u2068"
    said = LazyText(HELD, {"reason": path}).render("ar")
    assert said == "الترقيات معلقة: \u2068 /etc/ x \u2069"
    inner = LazyText(
        "{question} Type yes to confirm", {"question": LazyText(HELD, {"reason": "a\nb"})}
    )
    assert "\u2068a\u2069\n\u2068b\u2069" in inner.render("ar")


def run(site: TrialSite, directory: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return site.run(*words, NCEN_LOCALE_DIR=str(directory))


def test_real_program_uses_the_site_language(tmp_path: Path, directory: Path) -> None:
    site = make_site(tmp_path / "site")
    words = ("hold", "--reason", "x", "--lang", "sw")
    done = run(site, directory, *words)
    assert done.returncode == 2
    assert "sw" in done.stderr
    add(directory, "sw", {HELD: "Imesimamishwa: {reason}"})
    done = run(site, directory, *words)
    assert (done.returncode, done.stdout) == (0, "Imesimamishwa: x\n")
    # Help in it too, and what it does not have in English.
    assert "Hold upgrades" in run(site, directory, "--help", "--lang", "sw").stdout


def test_job_uses_the_requested_language(directory: Path) -> None:
    from ncen_updater.agent.model.change import Actor
    from ncen_updater.agent.service.loop import build_job_command
    from ncen_updater.agent.storage.journal.jobs import Job, JobKind

    order = Job(1, JobKind.CHECK, {"language": "sw"}, Actor("amina", 1001), AT)
    assert build_job_command(order) == ("check",)
    add(directory, "sw", {})
    assert build_job_command(order) == ("check", "--lang", "sw")


def test_notifications_use_the_site_language(tmp_path: Path, directory: Path) -> None:
    from ncen_updater.agent.config.loader import load_config

    add(directory, "sw", {})
    site = make_site(tmp_path / "site")
    site.config.write_text(site.config.read_text() + '[notify]\nlanguage = "sw"\n')
    assert load_config(site.config).notify.language == "sw"


@pytest.mark.skipif(shutil.which("msginit") is None, reason="gettext is not installed here")
def test_documented_translation_commands_work(tmp_path: Path, directory: Path) -> None:
    """The commands of docs/how-to/translate.md, with an Arabic of a few sentences."""
    document = (ROOT / "docs/how-to/translate.md").read_text("utf-8")
    commands = [line.strip() for line in document.splitlines() if line.startswith("       ")]
    assert [line.split()[0] for line in commands] == ["msgfilter", "msginit"]
    (tmp_path / "ncen_updater.po").write_bytes(
        (LOCALE_DIR / "fr" / "LC_MESSAGES" / "ncen_updater.po").read_bytes()
    )
    said = {HELD: ["الترقيات معلقة بلا نهاية: {reason}"], "Removed: {count} holds": ["{count}"]}
    counts = "Waiting for approval of {version}: {count} missing"
    said[counts] = [f"{version} {{count}}:{version}" for version in range(6)]
    for command in commands:
        subprocess.run(["sh", "-c", command], cwd=tmp_path, check=True, capture_output=True)
    made = polib.pofile(str(tmp_path / "ar.po"))
    rule = re.search(r"\| Arabic \| `([^`]*)`", document)
    assert rule is not None
    made.metadata["Plural-Forms"] = rule[1]
    assert not [row.msgid for row in made if row.translated()], "nothing of French is left"
    for row in made:
        forms = said.get(row.msgid)
        if forms and row.msgid_plural:
            row.msgstr_plural = dict(enumerate(forms))
        elif forms:
            row.msgstr = forms[0]
    made.save(str(tmp_path / "ar.po"))
    place = directory / "ar" / "LC_MESSAGES"
    place.mkdir(parents=True)
    told = re.search(r"`(msgfmt[^`]*)`", document)
    assert told is not None
    subprocess.run(["sh", "-c", told[1]], cwd=tmp_path, check=True, capture_output=True)
    (tmp_path / "ncen_updater.mo").rename(place / "ncen_updater.mo")
    text = LazyText(counts, {"version": "3.3.0", "count": 3})
    assert text.render("ar_EG") == "3 \u20683\u2069:3"
    assert read_language_from_environment({"LANG": "ar_EG.UTF-8"}) == "ar"


def test_right_to_left_language_is_rendered_in_commands_and_pages(
    tmp_path: Path, directory: Path
) -> None:
    from ncen_updater.agent.reports.dossier.page import render_dossier
    from tests.agent.reports.dossier.test_page import DOSSIER

    add(directory, "ar", {HELD: "الترقيات معلقة: {reason}", "rollback": "طريق العودة"})
    site = make_site(tmp_path / "site")
    done = run(site, directory, "hold", "--reason", "/srv/x 1.2", "--lang", "ar-EG")
    assert done.returncode == 0
    assert done.stdout == f"\u2067{LazyText(HELD, {'reason': '/srv/x 1.2'}).render('ar')}\u2069\n"
    content = render_dossier(DOSSIER, "ar").decode()
    assert '<html lang="ar" dir="rtl">' in content
    assert "طريق العودة" in content
    assert '<html lang="fr" dir="ltr">' in render_dossier(DOSSIER, "fr").decode()


def test_tables_and_dossiers_are_rendered_in_any_script(directory: Path) -> None:
    """Joiners stay, columns stand one below the other, and figures are those of the language."""
    import dataclasses

    from ncen_updater.agent.reports.dossier.page import render_dossier
    from ncen_updater.common.cli.characters import measure_width, prepare_for_terminal
    from ncen_updater.common.cli.render import format_bytes, format_table
    from tests.agent.reports.dossier.test_page import DOSSIER

    sinhala = "ශ්\u200dරී"
    rows = [["a", "b", "c"], [sinhala, format_bytes(1500), "x"], ["漢字", "سلام", "x"]]
    for language, size in (("fr", "1,5 ko"), ("pt_BR", "1.5 kB"), ("ar", "1.5 kB")):
        lines = [
            prepare_for_terminal(line, right_to_left=is_right_to_left(language))
            for line in format_table(rows, language)
        ]
        assert sinhala in lines[1] and size in lines[1]
        assert len({measure_width(line.rpartition(" ")[0]) for line in lines[1:]}) == 1
    add(directory, "pt_BR", {"rollback": "caminho de volta"})
    content = render_dossier(dataclasses.replace(DOSSIER, site=sinhala), "pt_BR").decode()
    assert '<html lang="pt-BR" dir="ltr">' in content
    assert "Caminho de volta" in content and sinhala in content
