"""Any language can be added as a catalogue: a third one is, here, in a directory of the site."""

from __future__ import annotations

import runpy
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from ncen_updater.common.i18n import Text, language_from_environment, languages, translate
from tests.agent.cli.site import AT, TrialSite, make_site

ROOT = Path(__file__).parents[2]
HELD = "Upgrades are on hold, without end: {reason}"


RENDER = runpy.run_path(str(ROOT / "script" / "messages"))["render_mo"]


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


def test_what_came_with_the_program_is_always_there(directory: Path) -> None:
    assert languages() == ("en", "fr")
    add(directory, "sw", {"no": "hapana"})
    (directory / "de").mkdir()  # no catalogue in it
    add(directory, "Not-a-language", {})
    assert languages() == ("en", "fr", "sw")


def test_english_stands_in_for_what_is_not_translated(directory: Path) -> None:
    add(directory, "sw", {"no": "hapana", "yes": "", "gathering": "inakusanya"})
    assert translate("no", "sw") == "hapana"
    assert translate("yes", "sw") == "yes"
    inner = Text("{question} Type yes to agree", {"question": Text("gathering")})
    assert inner.render("sw") == "inakusanya Type yes to agree"


def test_a_catalogue_of_the_site_may_correct_a_sentence(directory: Path) -> None:
    add(directory, "fr", {"no": "nenni"})
    assert translate("no", "fr") == "nenni"
    assert translate("yes", "fr") == "oui"


@pytest.mark.parametrize(
    "content", [b"", b"nonsense", b"\xde\x12\x04\x95" + b"\xff" * 40], ids=["empty", "text", "cut"]
)
def test_a_broken_catalogue_is_left_out(directory: Path, content: bytes) -> None:
    add(directory, "fr", {"no": "nenni"}).write_bytes(content)
    add(directory, "sw", {}).write_bytes(content)
    assert translate("no", "fr") == "non"
    assert translate("no", "sw") == "no"


def test_places_that_a_translator_broke_do_no_harm(directory: Path) -> None:
    add(directory, "sw", {HELD: "{reason.__class__} {0} {nobody} {reason!r:>9}"})
    text = Text(HELD, {"reason": "x"})
    assert text.render("sw") == "{reason.__class__} {0} {nobody} {reason!r:>9}"


def test_the_environment_asks_for_it(directory: Path) -> None:
    assert language_from_environment({"LANG": "sw_KE.UTF-8"}) == "en"
    add(directory, "sw", {})
    assert language_from_environment({"LANG": "sw_KE.UTF-8"}) == "sw"
    assert language_from_environment({"LANG": "../../etc"}) == "en"


def run(site: TrialSite, directory: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return site.run(*words, NCEN_LOCALE_DIR=str(directory))


def test_the_real_program_speaks_it(tmp_path: Path, directory: Path) -> None:
    site = make_site(tmp_path / "site")
    words = ("hold", "--reason", "x", "--lang", "sw")
    done = run(site, directory, *words)
    assert done.returncode == 2
    assert "sw" in done.stderr
    add(directory, "sw", {HELD: "Imesimamishwa: {reason}"})
    done = run(site, directory, *words)
    assert (done.returncode, done.stdout) == (0, "Imesimamishwa: x\n")
    # Help in it too, and what it does not have in English.
    assert "Forbid upgrades" in run(site, directory, "--help", "--lang", "sw").stdout


def test_an_order_to_the_service_takes_it(directory: Path) -> None:
    from ncen_updater.agent.approvals.store import Person
    from ncen_updater.agent.journal.orders import Order, OrderKind
    from ncen_updater.agent.service.loop import words_of_order

    order = Order(1, OrderKind.CHECK, {"language": "sw"}, Person("amina", 1001), AT)
    assert words_of_order(order) == ("check",)
    add(directory, "sw", {})
    assert words_of_order(order) == ("check", "--lang", "sw")


def test_notifications_take_it(tmp_path: Path, directory: Path) -> None:
    from ncen_updater.agent.config.loader import load_config

    add(directory, "sw", {})
    site = make_site(tmp_path / "site")
    site.config.write_text(site.config.read_text() + '[notify]\nlanguage = "sw"\n')
    assert load_config(site.config).notify.language == "sw"
