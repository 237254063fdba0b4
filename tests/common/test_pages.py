"""Pages: a value is never markup, and a page with an empty place is none."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from jinja2 import TemplateNotFound, UndefinedError

from ncen_updater.common.html_templates import render_page
from ncen_updater.common.i18n import LazyText

Maker = Callable[..., str]
NUMBERS = itertools.count()
ROOT = Path(__file__).parents[2]
UNSAFE = re.compile(r"\|\s*safe\b|autoescape (false|true)|\bMarkup\b|autoescape=(?!True)")


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Maker:
    """Makes a page of a template."""
    package = f"pages_on_trial_{next(NUMBERS)}"
    (tmp_path / package / "templates").mkdir(parents=True)
    (tmp_path / package / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(template: str, language: str = "en", **values: object) -> str:
        name = f"{next(NUMBERS)}.html"  # what was read once is not read again
        (tmp_path / package / "templates" / name).write_text(template, "utf-8")
        return render_page(package, name, language, **values).decode()

    return make


def test_value_is_escaped_everywhere(made: Maker) -> None:
    hostile = "<b>&'\"{{ 7 * 7 }}{x}"
    text = "&lt;b&gt;&amp;&#39;&#34;{{ 7 * 7 }}{x}"
    template = '<p id="{{ v }}">{{ v }}|{{ say("a {x}", x=v) }}|{{ say(t) }}|{{ v ~ v }}</p>'
    words = LazyText("b {x}", {"x": hostile})
    page = made(template, v=hostile, t=words)
    assert page == f'<p id="{text}">{text}|a {text}|b {text}|{text}{text}</p>'


def test_macro_values_are_escaped_once(made: Maker) -> None:
    template = "{% macro row(v) %}<b>{{ v }}</b>{% endmacro %}{{ row(v) }}"
    assert made(template, v="<&>") == "<b>&lt;&amp;&gt;</b>"


def test_control_characters_are_replaced(made: Maker) -> None:
    page = made(
        "{{ v }}|{% for b in v | paragraphs %}[{{ b }}]{% endfor %}", v="a\x1b\u202eb\n\n\x00"
    )
    assert page == "a  b\n\n |[a  b]"
    assert made("[{{ v }}]", v="\ud800") == "[?]"


@pytest.mark.parametrize(
    "template",
    ["{{ v.nothing }}", "{{ nothing }}", "{% if nothing %}{% endif %}",
     "{{ say('a {x}', x=nothing) }}", "{% for x in v.nothing %}{% endfor %}", "{{ v['nothing'] }}",
     "{{ nothing | time }}"],
)  # fmt: skip
def test_undefined_name_is_an_error(made: Maker, template: str) -> None:
    with pytest.raises(UndefinedError, match="nothing"):
        made(template, v={"a": 1})


def test_missing_value_is_an_error(made: Maker) -> None:
    with pytest.raises(TypeError, match="value of the page is None"):
        made("{{ v.a }}", v={"a": None})


def test_missing_template_is_an_error() -> None:
    with pytest.raises(TemplateNotFound):
        render_page("ncen_updater.agent.reports.dossier", "other.html", "en")


def test_texts_are_rendered_in_the_language(made: Maker) -> None:
    assert (
        made('{{ say("yes") }} {{ say(t) }} {{ language }}', "fr", t=LazyText("no")) == "oui non fr"
    )


def test_french_punctuation_is_not_separated_from_its_word(made: Maker) -> None:
    template = '{{ say("{name}: {text}", name="a", text="b") }}|{{ v }}|{{ v | spaced }}'
    assert made(template, "fr", v="x : y") == "a\u00a0: b|x : y|x\u00a0: y"


def test_nothing_can_be_marked_safe() -> None:
    """Neither a template nor Python takes a value out of the escaping."""
    found = [
        f"{path}: {word[0]}"
        for pattern in ("*.py", "templates/*")
        for path in (ROOT / "ncen_updater").rglob(pattern)
        if path.is_file()
        for word in UNSAFE.finditer(path.read_text("utf-8"))
    ]
    assert found == []
    for told in ("{{ v|safe }}", "{% autoescape false %}", "Markup(v)", "autoescape=False"):
        assert UNSAFE.search(told), told


def test_library_is_loaded_only_for_rendering() -> None:
    script = (
        "import sys; import ncen_updater.agent.reports.dossier.page, ncen_updater.agent.cli.main;"
        "assert 'jinja2' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
