"""Tests of additions to the files of PostgreSQL."""

from __future__ import annotations

import pytest

from ncen_updater.agent.setup.server_files import (
    MARK,
    make_login_lines,
    put_first,
    quote_name,
)

AGENTS = "local all ncen_updater peer map="


@pytest.mark.parametrize(
    ("method", "options", "ident", "hba"),
    [
        ("peer", (),
         ("ncen_updater root ncen_updater", "ncen_updater root ncen", "ncen_updater ncen ncen"),
         (f"{AGENTS}ncen_updater", "local all ncen peer map=ncen_updater")),
        ("peer", ("map=own",), ("own root ncen_updater", "own root ncen"), (f"{AGENTS}own",)),
        ("scram-sha-256", (), ("ncen_updater root ncen_updater",), (f"{AGENTS}ncen_updater",)),
        ("trust", (), ("ncen_updater root ncen_updater",), (f"{AGENTS}ncen_updater",)),
        ("", (), ("ncen_updater root ncen_updater", "ncen_updater root ncen"),
         (f"{AGENTS}ncen_updater", "local all ncen peer map=ncen_updater")),
    ],
)  # fmt: skip
def test_login_lines_match_the_application_method(
    method: str, options: tuple[str, ...], ident: tuple[str, ...], hba: tuple[str, ...]
) -> None:
    lines = make_login_lines("ncen_updater", "ncen", method, options)
    assert (lines.ident, lines.hba) == (ident, hba)


@pytest.mark.parametrize(
    "text", ["", "# only a comment", "# form\x0cfeed\n\nlocal a\n", "# a \\\nlocal a\nhost b"]
)
def test_login_lines_precede_all_others_and_split_none(text: str) -> None:
    assert put_first(text, ["new"]) == f"{MARK}\nnew\n{text}"


@pytest.mark.parametrize(
    ("name", "quoted"), [("ncen", "ncen"), ("all", '"all"'), ("a b", '"a b"'), ('a"', '"a"""')]
)
def test_names_are_quoted(name: str, quoted: str) -> None:
    assert quote_name(name) == quoted
