"""Every sentence is translated, no code stands for two things, and the lists are current."""

from __future__ import annotations

import gettext
import re
import runpy
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ncen_updater.agent.model.change import ChangeKind
from ncen_updater.agent.model.errors import SiteBusyError
from ncen_updater.common import messages as table
from ncen_updater.common.i18n import LOCALE_DIR, LazyText

SCRIPT = Path(__file__).resolve().parents[2] / "script" / "messages.py"


@pytest.fixture(scope="module")
def messages() -> dict[str, Any]:
    """What script/messages defines."""
    return runpy.run_path(str(SCRIPT))


def test_generated_files_are_current(messages: dict[str, Any]) -> None:
    found = list(messages["problems"]())
    assert not found, "run script/messages; then translate in the .po:\n" + "\n".join(found)


@pytest.mark.parametrize("made", [False, True], ids=["no .venv", "a .venv"])
def test_script_uses_the_python_of_the_project(tmp_path: Path, made: bool) -> None:
    script = tmp_path / "script" / "messages"
    script.parent.mkdir()
    shutil.copy(SCRIPT.with_suffix(""), script)
    if made:
        own = tmp_path / ".venv/bin/python"
        own.parent.mkdir(parents=True)
        own.write_text('#!/bin/sh\necho "taken: $*"\n', "utf-8")
        own.chmod(0o755)
    told = subprocess.run([script, "--check"], capture_output=True, text=True, check=False)
    if made:
        assert (told.returncode, told.stdout) == (
            0,
            f"taken: {script}.py --check\ntaken: {script.parent}/reference.py --check\n",
        )
    else:
        assert told.returncode == 1
        assert "run script/bootstrap dev first" in told.stderr


def test_messages_of_every_form_are_extracted(messages: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "m.py").write_text(
        'A = N_("one")\nE = ErrorMessage("NU-1", N_("two" " three"), N_("one"))\n'
        'f(LazyText("four {x}"), N_("{x}"))\nFinding("NU-6999", LazyText(N_("five")))\n'
        'strict(6301, N_("s"))\n'
    )
    source = messages["read_source"](tmp_path / "p")
    assert set(source.templates) == {"one", "two three", "four {x}", "five", "s"}
    assert set(source.findings) == {"NU-6999", "NU-6301"}


def test_page_texts_are_extracted(messages: dict[str, Any], tmp_path: Path) -> None:
    place = tmp_path / "p" / "room" / "templates"
    place.mkdir(parents=True)
    (place / "page.html").write_text(
        '<p>{{ say("one "\n "and {x}", x=a | f) }}</p>{{ say("two" if a == "no" else "three") }}'
        '{% if a %}{{ row(say("{only} "), say(a), "not said") }}{% endif %}{{ say("4 {z}", y=1) }}'
        '{{ say("five {x}" if a else "six", x=1) }}'
    )
    source = messages["read_source"](tmp_path / "p")
    assert source.templates.keys() == {"one and {x}", "two", "three", "five {x}", "six"}
    assert source.templates["two"] == {"p/room/templates/page.html"}
    where = "p/room/templates/page.html: other values than places: "
    assert source.misfits == [f"{where}{text}" for text in ("{only} ", "4 {z}", "six")]


def test_finding_text_is_found_behind_a_variable(messages: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "m.py").write_text(
        "class ExitCode:\n    ERROR = 1\n"
        'GONE = ErrorMessage("NU-1", N_("gone"), N_("look"))\n'
        "class E(UpdaterError):\n    message = GONE\n"
        'def f():\n    what = N_("first")\n    g(strict(6301, what, N_("remedy")))\n'
        '    what = N_("second")\n    g(info(6302, what, ""))\n'
        "    try:\n        g()\n    except E as error:\n"
        '        Finding("NU-6999", STRICT, error.title_text, error.remedy_text)\n'
    )
    table = messages["render_table"](messages["read_source"](tmp_path / "p"))
    for line in ("| NU-6301 | first |", "| NU-6302 | second |", "| NU-6999 | gone |"):
        assert line in table


def test_every_imported_message_is_in_the_table() -> None:
    root = SCRIPT.parents[1]
    statement = re.compile(rf"from {table.__name__} import (\([^)]*\)|.*)")
    unknown = [
        f"{path.relative_to(root)}: {name}"
        for folder in ("ncen_updater", "tests", "demo", "benchmarks")
        for path in sorted((root / folder).rglob("*.py"))
        for names in statement.findall(path.read_text("utf-8"))
        for name in re.findall(r"\w+", names.partition("#")[0])
        if not hasattr(table, name)
    ]
    assert unknown == []


def test_no_finding_is_without_text() -> None:
    lines = (SCRIPT.parents[1] / "docs/reference/messages.md").read_text("utf-8").splitlines()
    assert [line for line in lines if line.endswith("|  |")] == []


def test_code_used_twice_is_detected(messages: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "m.py").write_text(
        'A = ErrorMessage("NU-1", N_("a"), N_("b"))\nB = ErrorMessage("NU-1", N_("c"), N_("d"))\n'
    )
    source = messages["read_source"](tmp_path / "p")
    assert messages["duplicates"](source) == ["NU-1: A and B"]


def test_catalogue_is_readable_by_gettext(messages: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "fr" / "LC_MESSAGES"
    path.mkdir(parents=True)
    rows = {"a": "é", "b\nc": 'd"\n', "empty": ""}
    (path / "x.mo").write_bytes(messages["render_mo"](rows))
    catalogue = gettext.translation("x", tmp_path, ["fr"])
    assert [catalogue.gettext(key) for key in rows] == ["é", 'd"\n', "empty"]


def test_catalogue_is_reproducible(messages: dict[str, Any]) -> None:
    rows = {"b": "x", "a": "é", "c": ""}
    made = messages["render_mo"](rows)
    assert made == messages["render_mo"](dict(reversed(rows.items())))
    assert b"20" not in made, "no date"


def test_fuzzy_translation_is_ignored(messages: dict[str, Any], tmp_path: Path) -> None:
    """As editors of catalogues write it."""
    (tmp_path / "x.po").write_text(
        'msgid ""\nmsgstr "Content-Type: text/plain; charset=UTF-8\\n"\n\n'
        '# a note\n#: x.py:3\n#, fuzzy\n#| msgid "before"\nmsgid "a"\nmsgstr "é"\n\n'
        'msgid ""\n"b "\n"c"\nmsgstr ""\n"d "\n"é"\n\n#~ msgid "gone"\n#~ msgstr "parti"\n',
        "utf-8",
    )
    assert messages["read_po"](tmp_path / "x.po") == {"a": "", "b c": "d é"}


def test_po_file_round_trips(messages: dict[str, Any], tmp_path: Path) -> None:
    source = messages["Source"]({'a "b"\n\\c': {"x.py"}, "d": {"y.py"}})
    rows = {'a "b"\n\\c': 'é "\\"\n', "d": ""}
    (tmp_path / "x.po").write_text(messages["render_po"](source, rows), "utf-8")
    assert messages["read_po"](tmp_path / "x.po") == rows


def test_enumeration_values_are_translated_to_french() -> None:
    assert (LOCALE_DIR / "fr" / "LC_MESSAGES" / "ncen_updater.mo").is_file()
    assert LazyText("{kind}", {"kind": ChangeKind.ROLLBACK}).render("fr") == "retour arrière"
    assert "en cours : x" in SiteBusyError(holder="x").title_text.render("fr")


def test_names_in_statements_are_quoted(messages: dict[str, Any]) -> None:
    # Seen: a name with a hyphen or capitals had to be quoted by hand.
    catalogue = messages["read_po"](LOCALE_DIR / "fr" / "LC_MESSAGES" / "ncen_updater.po")
    bare = re.compile(r"\b(TO|ROLE|DATABASE|FROM|GRANT|TABLESPACE|ON|PUBLIC,) \{(?!quoted_)")
    texts = [str(text) for pair in catalogue.items() for text in pair]
    assert sum("GRANT " in text for text in texts) > 10
    assert [text for text in texts if bare.search(text)] == []


def test_quotation_marks_in_names_are_doubled_in_statements() -> None:
    # Seen: a name with a quotation mark ended the SQL name of the remedy early.
    values = {"database": 'a"b', "role": 'c"; DROP'}
    text = LazyText('{database}: GRANT "{role}" TO "{database}_old"; REVOKE "{role}"', values)
    expected = 'a"b: GRANT "c""; DROP" TO "a""b_old"; REVOKE "c""; DROP"'
    assert text.render() == expected
    assert LazyText(table.DATABASE_CLOSED.remedy, values).render("fr").count('"a""b"') == 1
