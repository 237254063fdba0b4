"""Tests of confirmations at a terminal, in the reader's language."""

from __future__ import annotations

import os
import sys

import pytest

from tests.agent.cli.terminal_run import run_on_terminal

ASK = """
import sys
from ncen_updater.common.cli.session import CliSession
from ncen_updater.common.i18n import LazyText
from ncen_updater.common.errors import UpdaterError
try:
    session = CliSession("ncen-publisher", language=sys.argv[1])
    session.ask_confirmation(LazyText("Now?"), assume_yes=False)
except UpdaterError as error:
    print(error.code)
else:
    print("AGREED")
"""


@pytest.mark.parametrize(
    ("language", "answer", "agreed"),
    [
        ("en", "y", True),
        ("en", "o", False),
        ("fr", "oui", True),
        ("fr", "o", True),
        ("fr", "O", True),
        ("fr", "yes", True),
        ("fr", "n", False),
        ("fr", "non", False),
        ("fr", "", False),
        ("fr", "ou", False),
    ],
)
def test_confirmation_accepts_the_word_or_its_first_letter(
    language: str, answer: str, agreed: bool
) -> None:
    command = [sys.executable, "-c", ASK, language]
    code, shown = run_on_terminal(command, os.environ, {"]": answer})
    assert code == 0, shown
    assert ("AGREED" in shown, "NU-1103" in shown) == (agreed, not agreed), shown
