"""A site that is worked on in French: no command says a word of English.

A word is French if the French catalogue has it; else it has to be a name
(:mod:`tests.support.french`) or be given here. Text of others within « » is not judged: it is
quoted, and said to be so.
"""

from __future__ import annotations

import html
import json
import re
import subprocess
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest

from ncen_updater.agent.cli.main import COMMANDS
from ncen_updater.agent.engine.rehearsal.rehearsal_store import RehearsalStore
from ncen_updater.agent.model.event_names import JOURNAL_FILE
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common.cli.render import group_digest
from tests.agent.cli.live import LiveSite, live_site
from tests.agent.cli.site import make_site
from tests.agent.cli.test_mistakes import MISCONFIGURED, TYPED, misconfigured
from tests.support.french import DETAIL, foreign

ROOT = Path(__file__).resolve().parents[3]
#: Databases, tables and files of the stand-in, directories of its feed, parts of a bundle.
DATA = (
    "ncen mu port louis seizures suspects companies photographs trees releases persons aliases"
    " offences sqlite clôture factice"
)
#: A site, and what tomllib says of a file.
DATA_OF_TOML = "ncen ke Illegal character at line column"
#: What is done to the site, in order. `plan --sql` alone is left out: it writes SQL for a program.
SESSION: tuple[tuple[str, ...], ...] = (
    ("status",), ("doctor",), ("verify",), ("history",), ("check",), ("plan",),
    ("adopt", "9.9.9"), ("adopt", "3.3.0"), ("adopt", "3.2.4", "--dry-run"), ("adopt", "3.2.4"),
    ("adopt", "3.2.4"), ("status",), ("doctor",), ("verify",), ("check",), ("plan",),
    ("plan", "9.9.9"), ("approve",), ("schedule", "2020-01-01"), ("schedule", "--cancel"),
    ("rehearse", "3.3.0"), ("approve", "3.3.0"),
    ("approve", "3.3.0", "--yes"), ("schedule", "2099-01-01T22:00", "--yes"), ("status",),
    ("hold", "--reason", "clôture"), ("upgrade", "3.3.0", "--yes"), ("status",), ("unhold",),
    ("upgrade", "3.3.8", "--yes"), ("upgrade", "3.3.0", "--dry-run"), ("upgrade", "3.3.0"),
    ("upgrade", "3.3.0", "--yes"), ("status",), ("confirm",), ("verify",),
    ("upgrade", "3.3.1", "--yes"), ("status",), ("rollback", "--dry-run"), ("rollback", "--yes"),
    ("rollback", "--yes"), ("resume",), ("history",), ("history", "zzzzzzzz"), ("watch",),
    ("prune", "--dry-run"), ("translations",), ("support-bundle", "--dry-run"),
    ("import", "/nowhere.ncen"), ("receipt",),
    ("mirror", "/nowhere/m", "--dry-run"), ("adopt", "3.2.4", "--restored", "--dry-run"),
    ("self-update",),
    ("setup", "--dry-run", "--root", "/nowhere"), ("dossier", "3.3.0"), ("serve", "--nonsense"),
    ("console", "--nonsense"),
)  # fmt: skip


def text_of(page: str) -> str:
    """The words of a page that people read."""
    bare = re.sub(r"<(style|head)\b.*?</\1>|<pre\b.*?</pre>", " ", page, flags=re.DOTALL)
    return html.unescape(re.sub(r"<[^>]+>", " ", bare))


def test_digest_is_not_taken_for_a_word() -> None:
    """Once in a hundred runs a group of a digest had letters only, and the session failed."""
    digest = "0123456789abcdef" * 3 + "abcdefaf" + "cafebabe"
    assert foreign(f"Empreinte : {group_digest(digest)}") == []
    assert foreign("Empreinte : seizures") == ["seizures"]


def ask(site: LiveSite, words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return site.run(*words, LANGUAGE="fr")


def test_whole_session_is_in_french(tmp_path: Path) -> None:
    assert {words[0] for words in SESSION} == set(COMMANDS)
    said: list[tuple[str, str]] = []
    with live_site(tmp_path, ("3.2.4", "3.3.0", "3.3.1", "3.3.8"), soak_s=0.3) as site:
        for words in SESSION:
            done = ask(site, words)
            page = done.stdout.lstrip().startswith("<!")
            out = text_of(done.stdout) if page else done.stdout
            said.append((" ".join(words), out + done.stderr))
        changes = json.loads(site.run("history", "--json").stdout)["changes"]
        ids = [change["id"] for change in changes]
        assert {change["state"] for change in changes} >= {"finished", "reverted"}
        with Journal.open(site.demo.state / JOURNAL_FILE, read_only=True) as journal:
            rehearsed = [
                one.id for one in RehearsalStore(journal).list_newest()
            ]  # may be letters alone, too
        for change in ids:
            for more in ((), ("--events",)):
                shown = ask(site, ("history", change, *more)).stdout
                said.append((f"history {more}", re.sub(r"\(ligne \d+ : .*?\)", "", shown)))
        for page_of in sorted(site.demo.state.glob("dossiers/*.fr.html")):
            said.append(("dossier", text_of(page_of.read_text("utf-8"))))
    notes = tomllib.loads((ROOT / "manifests/3.3.0/manifest.toml").read_text("utf-8"))["notes"]
    found = {
        command: left
        for command, text in said
        if (left := foreign(DETAIL.sub("", text), DATA, notes["fr"]["text"], *ids, *rehearsed))
    }
    assert found == {}, found


@pytest.mark.parametrize("typed", [row[0] for row in TYPED], ids=" ".join)
def test_errors_about_mistyped_commands_are_in_french(tmp_path: Path, typed: list[str]) -> None:
    done = make_site(tmp_path / "site").run(*typed, LANGUAGE="fr")
    assert done.returncode == 2
    assert foreign(done.stdout + done.stderr, *COMMANDS, *typed) == []


@pytest.mark.parametrize(("before", "after"), [row[:2] for row in MISCONFIGURED])
def test_errors_about_configuration_mistakes_are_in_french(
    tmp_path: Path, before: str, after: str
) -> None:
    site = make_site(tmp_path / "site")
    misconfigured(site, before, after)
    for command in ("doctor", "check", "status"):
        done = site.run(command, LANGUAGE="fr")
        assert foreign(done.stdout + done.stderr, DATA_OF_TOML, after) == [], (
            done.stdout + done.stderr
        )
