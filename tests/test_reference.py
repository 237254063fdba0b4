"""Tests that generated parts of pages are current and complete."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import click
import pytest

from tests.support.reference import REFERENCE

ROOT = Path(__file__).parents[1]
COMMANDS: dict[str, click.Command] = {
    name: command
    for program, group in REFERENCE["PROGRAMS"].items()
    for name, command in REFERENCE["walk_commands"](group, program)
}
PAGES = [path for path in (ROOT / "docs").rglob("*.md") if "<!-- generated" in path.read_text()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_generated_parts_are_current(page: Path) -> None:
    text = page.read_text("utf-8")
    assert text.count("<!-- generated: ") == len(REFERENCE["GENERATED"].findall(text))
    assert REFERENCE["renew"](page, text) == text, "run script/messages"


def test_description_of_the_api_is_current() -> None:
    assert REFERENCE["OPENAPI"].read_text("utf-8") == REFERENCE["format_openapi"]()


def test_outdated_page_is_renewed(tmp_path: Path) -> None:
    renew: Any = runpy.run_path(str(ROOT / "script/reference.py"))["renew"]
    renew.__globals__["PARTS"] = {"x": lambda language: [language, "new"]}
    page = ROOT / "docs/fr/reference/x.md"
    text = "a\n<!-- generated: x -->\n\nold\n\n<!-- end -->\nb\n"
    assert renew(page, text) == "a\n<!-- generated: x -->\n\nfr\nnew\n\n<!-- end -->\nb\n"


@pytest.mark.parametrize(
    ("lines", "user"),
    [
        ("", "root"),
        ("User=feed", "feed"),
        ("DynamicUser=yes", "dynamic"),
        ("DynamicUser=no", "root"),
    ],
)
def test_unit_user_is_shown(tmp_path: Path, lines: str, user: str) -> None:
    (tmp_path / "a.service").write_text(f"[Service]\n{lines}\n")
    assert REFERENCE["describe_unit"](tmp_path / "a.service")[:2] == ["`a.service`", user]


@pytest.mark.parametrize("language", ["en", "fr"])
def test_every_command_is_on_the_page(language: str) -> None:
    page = ROOT / "docs" / ("fr" if language == "fr" else "") / "reference/commands.md"
    heads = re.findall(r"^#### (.+)", page.read_text("utf-8"), re.MULTILINE)
    assert sorted(heads) == sorted(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_no_two_options_share_a_destination(name: str) -> None:
    """Two options with one destination overwrite each other, as '--language' and '--lang' once."""
    values = [option.name for option in COMMANDS[name].params]
    assert sorted(set(values)) == sorted(values)


def test_listed_json_keys_exist_in_the_product() -> None:
    """As a key or as the field of a record; schemas of the local API need no list."""
    texts = [path.read_text("utf-8") for path in (ROOT / "ncen_updater").rglob("*.py")]
    known = {
        key
        for text in texts
        for pair in re.findall(r'"(\w+)"(?::|\])|^ {4}(\w+): ', text, re.MULTILINE)
        for key in pair
    }
    listed = {
        key for keys in REFERENCE["DOCUMENTS"].values() if not isinstance(keys, str) for key in keys
    }
    assert listed - known == set()


def test_every_command_documents_its_json_keys() -> None:
    without = {name for name in COMMANDS if not REFERENCE["list_keys"](name)}
    assert without == {"ncen-updater serve"}
