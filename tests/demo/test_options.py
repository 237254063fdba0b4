"""Options, help and narration of the demonstration."""

from __future__ import annotations

import io

import pytest

from demo.__main__ import main
from demo.session import README
from demo.show.narrator import Narrator
from tests.support.french import foreign


def test_help_is_in_the_language_of_the_user(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Seen: ``script/demo --help`` in English for LANG=fr."""
    monkeypatch.setenv("LC_ALL", "fr_FR.UTF-8")
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("Utilisation : script/demo [OPTIONS]")
    assert foreign(shown, "script demo SQLite PostgreSQL root") == []


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--cases", "0"], "'--cases'"),
        (["--keep", str(README)], "If an earlier demonstration left it, remove it first."),
    ],
)
def test_invalid_options_are_refused(
    words: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--lang", "en"]) == 2
    assert problem in " ".join(capsys.readouterr().err.split())


def test_left_out_lines_are_counted_in_words() -> None:
    """Seen: "[... 3]"."""
    for limit, said in ((1, "[... and 2 more lines]"), (2, "[... and 1 more line]")):
        stream = io.StringIO()
        Narrator(stream, "en").output("a\nb\nc", limit)
        assert stream.getvalue().splitlines()[-1].strip() == said
