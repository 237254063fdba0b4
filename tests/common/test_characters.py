"""No value moves the cursor, hides a line or turns one round; every script stays readable."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

import ncen_updater
from ncen_updater.common.cli.characters import (
    escape_json,
    fit_encoding,
    isolate_right_to_left,
    measure_width,
    pad_text,
    prepare_for_terminal,
    strip_control_characters,
    supports_isolates,
    truncate_text,
    wrap_data_line,
    wrap_text,
)
from ncen_updater.common.cli.render import format_error, format_table
from ncen_updater.common.cli.session import CliSession
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import STEP_NOT_EFFECTIVE

ZWNJ, ZWJ, RLO, PDF, RLM = "\u200c", "\u200d", "\u202e", "\u202c", "\u200f"
#: The review's: a title, a cleared screen, an override, a carriage return, and others of the kind.
HOSTILE = f"Z\x1b]0;owned\x07\x1b[2J{RLO}drowssap{PDF}\r\x9b2J\x85\u2028\u2066x\u2069\U000e0041"
#: Words that are other words without their joiners: Sinhala, Persian, Devanagari, and a family.
WORDS = {
    "Sinhala": f"ශ්{ZWJ}රී ලංකා",
    "Persian": f"می{ZWNJ}خواهم",
    "Devanagari": f"क्{ZWJ}ष",
    "emoji": f"👩{ZWJ}👧",
}
HEBREW = "\u05e9\u05dc\u05d5\u05dd"
ACTS = set("\x1b\x07\r\x9b\x85") | {"\u2028", RLO, PDF, "\u2066", "\U000e0041"}


@pytest.mark.parametrize("word", WORDS.values(), ids=WORDS)
def test_joiners_are_kept_within_words(word: str) -> None:
    assert strip_control_characters(word) == word
    assert prepare_for_terminal(word).replace("\u2068", "").replace("\u2069", "") == word


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("a\nb\tc", "a\nb\tc"),
        ("a\x1b[2Jb\u202ec\nd", "a [2Jb c\nd"),
        (f"ad{ZWJ}min", "ad min"),
        (f"{ZWNJ}x", " x"),
        (f"a{RLM}b", "a b"),
        (f"{HEBREW}{RLM}!", f"{HEBREW}{RLM}!"),
        (f"a\u2067{HEBREW}\u2069b", f"a {HEBREW} b"),
        ("a\ufeffb\u00adc", "a b c"),
        ("é ü ŝ 漢字", "é ü ŝ 漢字"),
    ],
)
def test_invisible_control_characters_are_removed(text: str, expected: str) -> None:
    assert strip_control_characters(text) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("left to right", "left to right"),
        (f"name: {HEBREW}, 12", f"name: \u2068{HEBREW}\u2069, 12"),
        (f"{HEBREW} {HEBREW} (3)", f"\u2068{HEBREW} {HEBREW}\u2069 (3)"),
        (f"{HEBREW}  3  {HEBREW}", f"\u2068{HEBREW}\u2069  3  \u2068{HEBREW}\u2069"),
        (f"{HEBREW}{RLM}!", f"\u2068{HEBREW}{RLM}\u2069!"),
    ],
)
def test_right_to_left_text_is_isolated(line: str, expected: str) -> None:
    assert isolate_right_to_left(line) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("left to right", "left to right"),
        (f"  {HEBREW} a", f"  \u2067{HEBREW} a\u2069"),
        (f"ncen-updater {HEBREW}", f"\u2067ncen-updater {HEBREW}\u2069"),
        (f"\r\x1b[K{HEBREW} 3", f"\r\x1b[K\u2067{HEBREW} 3\u2069"),
        (f"{HEBREW}  3", f"\u2068{HEBREW}\u2069  3"),
        (f"{HEBREW} \u2068/a\u2069", f"\u2067{HEBREW} \u2068/a\u2069\u2069"),
    ],
)
def test_right_to_left_sentence_is_read_from_the_right(line: str, expected: str) -> None:
    assert prepare_for_terminal(line, is_clean=True, right_to_left=True) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("a\u2068b\u2069c", "a\u2068b\u2069c"),
        ("a\u2069b\u2068c", "a b c"),  # an end before its beginning
        ("a\u2068b", "a b"),
        ("a\u2068\u2068b\u2069c\u2069", "a\u2068\u2068b\u2069c\u2069"),
        ("a\u2067b\u2069c", "a b c"),  # ours alone
        (f"\u2068a{RLO}b\x1b[2J\u2069", "\u2068a b [2J\u2069"),
        ("a\u2068b\nc\u2069", "a b\nc "),  # each line for itself
    ],
)
def test_balanced_isolates_are_kept(line: str, expected: str) -> None:
    assert strip_control_characters(line, keep_isolates=True) == expected
    assert not {"\u2066", "\u2067", "\u2068", "\u2069"} & set(strip_control_characters(line))


@pytest.mark.parametrize(
    ("encoding", "kind", "bears"),
    [
        ("utf-8", "xterm-256color", True), ("UTF-8", None, True), ("utf-16", None, True),
        ("utf-8", "linux", False), ("utf-8", "dumb", False), ("ascii", "xterm", False),
        ("iso8859-15", None, False),
    ],
)  # fmt: skip
def test_isolates_are_used_where_they_work_invisibly(
    encoding: str, kind: str | None, bears: bool
) -> None:
    assert supports_isolates(encoding, kind) == bears
    assert ("\u2068" in prepare_for_terminal(f"a {HEBREW}", without_isolates=not bears)) == bears


@pytest.mark.parametrize(
    ("text", "encoding", "expected"),
    [
        ("é 1\u202f234 → ŝ", "utf-8", "é 1\u202f234 → ŝ"),
        ("é 1\u202f234 œ", "latin-1", "é 1 234 ?"),
        ("é 1\u202f234 ŝ", "ascii", "e 1 234 s"),
        (f"漢{ZWJ}字", "ascii", "??"),
    ],
)
def test_unencodable_characters_are_replaced_by_similar_ones(
    text: str, encoding: str, expected: str
) -> None:
    assert fit_encoding(text, encoding) == expected


@pytest.mark.parametrize(
    ("text", "columns", "lines"),
    [
        ("a bb ccc", 80, ["a bb ccc"]),
        ("aa bb cc", 5, ["aa bb", "cc"]),
        ("漢字 漢字 漢字", 9, ["漢字 漢字", "漢字"]),
        ("/a/long/path/that/stays b", 5, ["/a/long/path/that/stays", "b"]),
        ("  aa bb", 4, ["  aa", "bb"]),
        ("", 4, [""]),
        ("l'étape « a » : x ; y !", 9, ["l'étape", "«\u00a0a\u00a0»\u00a0:", "x\u00a0; y\u00a0!"]),
        ("a :b c: d", 4, ["a :b", "c: d"]),
    ],
)
def test_lines_are_wrapped_by_display_width(text: str, columns: int, lines: list[str]) -> None:
    assert wrap_text(text, columns) == lines


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("abc", 3), ("é", 1), ("e\u0301", 1), ("漢字", 4), ("ｱ", 1), ("\uff21", 2),
        (WORDS["Persian"], 7), (f"a{ZWJ}", 1), ("\u00ad", 1), ("\u1112\u1161", 2), ("กำ", 2),
    ],
)  # fmt: skip
def test_display_width_is_measured(text: str, columns: int) -> None:
    assert measure_width(text) == columns
    assert measure_width(pad_text(text, 9)) == 9


@pytest.mark.parametrize(
    ("line", "lines"),
    [
        ("as it is", ["as it is"]),
        ("  x " + "word " * 9, ["  x" + " word" * 6, "    word word word"]),
        ("[note] " + "word " * 8, ["[note]" + " word" * 6, "  word word"]),
        ("two  columns " + "word " * 9, ["two  columns " + "word " * 9]),
        ("a" * 50, ["a" * 50]),
        ("", [""]),
    ],
)
def test_data_is_wrapped_to_the_terminal(line: str, lines: list[str]) -> None:
    assert wrap_data_line(line, 38) == lines


def test_truncation_keeps_characters_whole() -> None:
    assert truncate_text("漢字x", 3) == "漢"
    assert truncate_text("e\u0301x", 1) == "e\u0301"
    assert truncate_text("abc", 9) == "abc"


def test_columns_are_aligned_in_every_script() -> None:
    rows = [["name", "kg"], ["漢字", "1"], [WORDS["Persian"], "2"], [HOSTILE, "3"]]
    lines = format_table(rows)
    places = {
        measure_width(line[: line.rindex(row[1])]) for line, row in zip(lines, rows, strict=True)
    }
    assert len(places) == 1
    assert not ACTS & set("".join(lines))


def test_documents_keep_their_values_and_escape_control_characters() -> None:
    value = {"a": HOSTILE + WORDS["Sinhala"], "b": "\ud800"}
    written = escape_json(json.dumps(value, ensure_ascii=False))
    assert not ACTS & set(written)
    assert json.loads(written) == value


def test_no_output_moves_the_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    """All ways of a session to its streams: lines, words at once, documents, errors, progress."""
    session = CliSession("ncen-updater")
    session.add_line(f"  code {HOSTILE}: 2 rows")
    session.write_output({})
    session.print_message(HOSTILE)
    session.write_text(HOSTILE)
    session.write_document({"value": HOSTILE})
    CliSession("ncen-updater", as_json=True).write_output({"value": HOSTILE})
    error = UpdaterError(STEP_NOT_EFFECTIVE, step=HOSTILE, detail=HOSTILE)
    session.print_message("\n".join(format_error(error, [])), is_clean=True)
    with session.make_progress() as progress:
        from ncen_updater.common.i18n import LazyText

        progress.report(LazyText("{value}", {"value": HOSTILE}))
    captured = capsys.readouterr()
    for stream in captured:
        assert "drowssap" in stream
        assert not ACTS & set(stream)


def test_own_colours_are_kept() -> None:
    error = UpdaterError(STEP_NOT_EFFECTIVE, step=HOSTILE)
    text = prepare_for_terminal("\n".join(format_error(error, [], rich=True)), is_clean=True)
    assert text.startswith("\x1b[31mError:")
    assert not (ACTS - {"\x1b"}) & set(text)
    assert "\x1b]" not in text and "\x1b[2J" not in text


def test_no_command_bypasses_the_session_output() -> None:
    """Who writes to a stream by other ways than the session's is named here."""
    may = {
        "common/cli/session.py",  # the one way
        "common/cli/progress_display.py",  # progress, cleaned sentence by sentence
        "common/journald.py",  # the log
        "common/workers.py",  # that the caller has gone
        "agent/failsafe.py",  # of the standard library alone: words of its own
        "agent/self_update/packaged_agent.py",
        "console/local_console.py",  # a program of its own, without a session; cleaned line by line
    }
    root = Path(ncen_updater.__file__).parent
    found = set()
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in (
                "print", "click.echo", "click.secho", "sys.stdout.write", "sys.stderr.write",
            ):  # fmt: skip
                found.add(path.relative_to(root).as_posix())
    assert found <= may
