"""Tests of the pages of script/manuals, judged by the programs that read them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from ncen_updater.agent.cli import main as agent
from ncen_updater.agent.cli import main as agent_main
from ncen_updater.common import messages
from ncen_updater.common.i18n import translate
from ncen_updater.common.journald import make_message_id
from ncen_updater.publisher.cli import main as publisher
from ncen_updater.publisher.cli import main as publisher_main

ROOT = Path(__file__).resolve().parents[2]
LANGUAGES = {"en": "man1", "fr": "fr/man1"}
COMMANDS = [
    *(("ncen-updater", name, text) for name, (_, text) in agent.COMMANDS.items()),
    *(("ncen-publisher", name, text) for name, (_, text) in publisher.COMMANDS.items()),
]


def program(name: str) -> str:
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("made")
    subprocess.run([sys.executable, str(ROOT / "script/manuals"), str(directory)], check=True)
    return directory


def read(page: Path) -> str:
    """Return a page without what only a formatter needs."""
    return page.read_text("utf-8").replace("\\-", "-").replace("\\e", "\\").replace("\\&", "")


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_command_has_one_page(made: Path, language: str) -> None:
    pages = {path.name for path in (made / "man" / LANGUAGES[language]).iterdir()}
    programs = {name for name, _, _ in COMMANDS}
    assert pages == {f"{name}.1" for name in programs} | {f"{p}-{c}.1" for p, c, _ in COMMANDS}


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_option_is_documented_in_the_language(made: Path, language: str) -> None:
    for name, group in (("ncen-updater", agent_main.cli), ("ncen-publisher", publisher_main.cli)):
        context = click.Context(group)
        whole = read(made / "man" / LANGUAGES[language] / f"{name}.1")
        for command in group.list_commands(context):
            found = group.get_command(context, command)
            assert found is not None
            assert f"\n.B {command}\n" in whole
            text = read(made / "man" / LANGUAGES[language] / f"{name}-{command}.1")
            for option in found.params:
                if isinstance(option, click.Option) and not option.hidden:
                    assert option.opts[0] in text
                    said = " ".join(translate(option.help or "", language).split())
                    assert said in text, (command, option.opts[0])


@pytest.mark.parametrize("language", LANGUAGES)
def test_formatters_accept_every_page(made: Path, language: str) -> None:
    pages = sorted((made / "man" / LANGUAGES[language]).iterdir())
    ended = subprocess.run(
        [program("mandoc"), "-T", "lint", "-W", "warning", *map(str, pages)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout[:2000]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_accept_the_completion(made: Path, shell: str) -> None:
    for path in (made / "completions" / shell).iterdir():
        subprocess.run([program(shell), "-n", str(path)], check=True)


def test_bash_completes_a_command_and_an_option(made: Path) -> None:
    script = (
        f"source {made}/completions/bash/ncen-updater;"
        "complete_line() { COMPREPLY=(); COMP_WORDS=(ncen-updater $1 $2); COMP_CWORD=$3;"
        " _ncen_updater_completion ncen-updater; echo ${COMPREPLY[@]}; };"
        "complete_line upg '' 1; complete_line upgrade --dry 2"
    )
    ended = subprocess.run(
        [program("bash"), "-c", script], capture_output=True, text=True, check=True,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
    )  # fmt: skip
    assert ended.stdout.split() == ["upgrade", "--dry-run"]


def test_journal_catalogue_explains_every_code_in_both_languages(
    made: Path, tmp_path: Path
) -> None:
    catalogue = (made / "catalog/ncen-updater.catalog").read_text("utf-8")
    ids = re.findall(r"^-- ([0-9a-f]{32})( fr)?$", catalogue, re.MULTILINE)
    assert len(set(ids)) == len(ids)
    assert {i for i, language in ids if language} == {i for i, language in ids if not language}
    errors = (one for one in vars(messages).values() if isinstance(one, messages.ErrorMessage))
    said = [one for one in errors if one.severity is None]  # findings are not logged
    assert len(said) > 250
    for message in said:
        assert (make_message_id(message.code), " fr") in ids, message
    directory = tmp_path / "usr/lib/systemd/catalog"
    directory.mkdir(parents=True)
    (directory / "ncen-updater.catalog").write_text(catalogue, "utf-8")
    (tmp_path / "var/lib/systemd/catalog").mkdir(parents=True)
    for words in (["--update-catalog"], ["--dump-catalog", make_message_id("NU-9501")]):
        ended = subprocess.run(
            [program("journalctl"), f"--root={tmp_path}", "--no-pager", *words],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    assert "systemctl start ncen-updater-fetch.socket" in ended.stdout
