"""The 65 mistakes of the outside trial: what each answers now, by its words, or where it is tried.

A row that is about a site that runs is typed here, at one site for all rows; nothing is changed by
any of them. The others have a test of their own, which compares the words, too.
"""

from __future__ import annotations

import ast
import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ncen_updater.agent.engine.lock import hold_change_lock
from ncen_updater.publisher.new.trial import create_feed, create_keys
from tests.agent.cli.live import LiveSite, live_site
from tests.agent.cli.test_mistakes import output_of

OLD, NEW = "3.2.4", "3.3.0"
ROOT = Path(__file__).parents[3]
CLI, FEED, PUBLISHER = "tests/agent/cli", "tests/feed", "tests/publisher"
DATABASES, DIAGNOSTICS = (
    "tests/agent/adapters/databases/postgresql",
    "tests/agent/reports/diagnostics",
)
ENGINE, FAULTS = "tests/agent/engine", "tests/faults"

Edit = Callable[[str], str]


def put(before: str, after: str) -> Edit:
    """Replace in the configuration what a pattern finds."""

    def edit(text: str) -> str:
        changed = re.sub(before, after, text, count=1, flags=re.DOTALL)
        assert changed != text, before
        return changed

    return edit


def same(text: str) -> str:
    return text


@dataclass(frozen=True)
class Mistake:
    """A row: what is typed where, and what it has to answer.

    Attributes:
        number: Its number in the table of the trial.
        typed: The words after the program's name; ``{tmp}`` is a directory with odd files.
        exit_code: Of the command.
        code: Of the error or finding; empty where there is none.
        words: Required text of the answer.
        edit: What is wrong in the configuration.
        never: Text that must not occur.
    """

    number: int
    typed: str
    exit_code: int
    code: str
    words: tuple[str, ...]
    edit: Edit = same
    never: tuple[str, ...] = ()


NAMED = ("Correct the settings listed under Detail",)
URLS = r'urls = \["(http://[^"]*)"\]'
FRIGHTENING = ("Do not upgrade", "tampered", "Do not start the application")

ROWS = [
    Mistake(1, "doctor", 3, "NU-1004", ("at line 6", "missing quote"), put('"MU"', '"MU')),
    Mistake(2, "status", 1, "NU-1008", ("straight quotes",), put('"MU"', "\u201cMU\u201d")),
    Mistake(3, "status", 1, "NU-1005", ("line 12: feed.url is not", "Did you mean urls?"),
            put("urls =", "url =")),
    Mistake(4, "doctor", 3, "NU-1005", ("ISO 3166 code in capitals, such as KE",),
            put('"MU"', '"Mauritius"')),
    Mistake(5, "status", 1, "NU-1005", ("Use one of: 'postgresql', 'sqlite'.",),
            put('"sqlite"', '"postgres"')),
    Mistake(6, "doctor", 3, "NU-1005", ("Write a list, in square brackets: [...]",),
            put(URLS, r'urls = "\1"')),
    Mistake(7, "status", 1, "NU-1005",
            ("Did you mean application?", "Status: unknown",
             "unknown ('maintenance_file' is missing or not text). Nothing"),
            put(r"\[application\]", "[aplication]")),
    Mistake(8, "doctor", 3, "NU-1005", ("4 errors", "line 6: site.country", "line 15:"),
            lambda text: put("urls =", "url =")(put('"sqlite"', '"x"')(put('"MU"', '"x"')(text)))),
    Mistake(9, "doctor", 3, "NU-1005", ("Begin with http:// or https://",),
            put('health_url = "http://', 'health_url = "')),
    Mistake(13, "doctor", 3, "NU-1005", ("Move it to [site].",),
            lambda text: put(r"\[paths\]", '[paths]\ncountry = "MU"')(
                put('country = "MU"\n', "")(text))),
    Mistake(15, "doctor", 3, "NU-1005", ("/etc/hostname",),
            put(r'maintenance_file = ".*?"', 'maintenance_file = "/etc/hostname/closed"')),
    Mistake(16, "doctor", 3, "NU-6101", ("Correct 'current' under [paths]",),
            put(r"\[paths\]", '[paths]\ncurrent = "/opt/curent"'), FRIGHTENING),
    Mistake(17, "doctor", 3, "NU-3201", ("Check current and slots in [paths]",),
            put(r"\[paths\]", '[paths]\nslots = "/opt/slot"'), FRIGHTENING),
    Mistake(23, "doctor", 3, "NU-6128", ("correct application.health_url",),
            put(r'health_url = "http://127.0.0.1:\d+', 'health_url = "http://127.0.0.1:9')),
    Mistake(24, "doctor", 3, "NU-6308", ("/nowhere/ncenctl of 'status' not found",),
            put(r"status = \[.*?\]", 'status = ["/nowhere/ncenctl"]')),
    Mistake(31, "check", 7, "NU-2102",
            ("Feed unreachable", "Connection refused", "the feed URL"),
            put(URLS, 'urls = ["http://127.0.0.1:9/"]'), ("Max retries", "Errno", "Pool(")),
    Mistake(33, "check", 7, "NU-2106", ("status 404", "the feed URL"),
            put(URLS, r'urls = ["\1nothing/"]')),
    Mistake(33, "check", 7, "NU-2103", ("TLS connection to the feed failed", "wrong version"),
            put(r'urls = \["http:', 'urls = ["https:'), ("Max retries", "_ssl.c", "Pool(")),
    Mistake(35, "import {tmp}/half.ncen", 6, "NU-2303", ("is truncated", "Copy the bundle")),
    Mistake(35, "import {tmp}/letter.pdf", 6, "NU-2302", ("is not an offline bundle", "(*.ncen)")),
    Mistake(35, "import {tmp}/empty.ncen", 6, "NU-2302", ("is not an offline bundle",)),
    Mistake(35, "import {tmp}", 2, "NU-1101", ("is a directory",)),
    Mistake(35, "import {tmp}/nothing", 1, "NU-2313", ("drive is mounted",)),
    Mistake(49, "plan 9.9.9", 3, "NU-2202", ("to list the available releases",)),
    Mistake(49, f"plan {OLD}", 3, "NU-2211", ("is already installed", "No action required")),
    Mistake(50, "adopt 1.0", 1, "NU-6019", ("not available",)),
    Mistake(51, f"adopt {NEW}", 3, "NU-606", (f"Version reported by the application: {OLD}",)),
    Mistake(47, f"approve {NEW} --yes", 13, "NU-6024", (f"Run: ncen-updater rehearse {NEW}",)),
    Mistake(56, "hold", 2, "NU-1101", ("--reason",)),
    Mistake(56, "hold --reason x --until tomorrow", 2, "NU-1105",
            ("Invalid time: 'tomorrow'", "Use the form 2030-01-31")),
    Mistake(56, "hold --reason x --until 25/12/2026", 2, "NU-1105", ("Use the form 2030-01-31",)),
    Mistake(56, "hold --reason x --until 2020-01-01", 2, "NU-1107", ("not in the future",)),
    Mistake(58, "rollback --yes", 1, "NU-6014", ("No previous release to roll back to",)),
    Mistake(59, "upgrade", 2, "NU-1102", ("in a terminal, or add --yes",)),
    Mistake(60, "schedule --cancel", 0, "",
            ("Not scheduled.", "Rehearsal required")),
]  # fmt: skip

#: The rows that are tried elsewhere: file and test.
ELSEWHERE = {
    10: f"{CLI}/test_mistakes.py::test_configuration_mistake_has_a_helpful_error",
    11: f"{CLI}/test_mistakes.py::test_configuration_mistake_has_a_helpful_error",
    12: f"{CLI}/test_mistake_table.py::test_text_in_other_encodings_is_reported",
    14: f"{CLI}/test_mistakes.py::test_configuration_mistake_has_a_helpful_error",
    18: f"{DIAGNOSTICS}/test_owner.py::test_unknown_database_is_reported",
    19: f"{CLI}/test_mistakes.py::test_unreachable_database_server_is_reported",
    20: f"{CLI}/test_mistakes.py::test_unknown_database_and_role_are_named",
    21: f"{DATABASES}/test_blockers.py::test_missing_privileges_are_found",
    22: f"{DIAGNOSTICS}/test_owner.py::test_unknown_owner_role_is_reported",
    25: f"{DATABASES}/test_programs.py::test_mismatched_program_version_is_refused_before_copying",
    26: f"{CLI}/test_mistakes.py::test_refused_connection_is_classified",
    27: f"{CLI}/test_mistakes.py::test_refused_connection_is_classified",
    28: f"{CLI}/test_mistakes.py::test_password_file_mistakes_are_reported",
    29: f"{CLI}/test_mistake_table.py::test_invalid_trusted_root_is_reported",
    30: f"{CLI}/test_mistake_table.py::test_root_of_another_feed_is_reported",
    32: f"{FEED}/test_attack_files.py::test_files_are_refused_with_their_code",
    34: f"{FEED}/test_expired_metadata.py::test_expired_metadata_is_reported_and_blocks_nothing",
    36: f"{CLI}/test_full_disk.py::test_full_agent_disk_stops_writers_but_not_readers",
    37: f"{DATABASES}/test_pure.py::test_blocker_rules_have_their_finding",
    38: f"{FAULTS}/test_application.py::test_application_that_refuses_to_stop_is_left_running",
    39: f"{ENGINE}/test_blame.py::test_sqlstate_is_classified",
    40: f"{ENGINE}/test_blame.py::test_signal_wrapped_by_a_library_is_recognised",
    41: f"{CLI}/test_live.py::test_signal_during_an_upgrade_leaves_the_site_consistent",
    42: f"{CLI}/test_live.py::test_upgrade_and_rollback_are_confirmed_at_a_terminal",
    43: f"{DIAGNOSTICS}/test_doctor.py::"
    "test_open_change_is_listed_first_and_suppresses_its_consequences",
    44: f"{CLI}/test_mistake_table.py::test_concurrent_command_names_the_running_one",
    45: f"{CLI}/test_access.py::test_user_in_no_group_is_told_which_group_to_join",
    46: f"{CLI}/test_approve.py::test_two_approvers_approve_what_was_rehearsed",
    48: f"{CLI}/test_approve.py::"
    "test_insufficient_rights_skip_the_prompt_and_a_new_rehearsal_needs_new_approvals",
    52: f"{CLI}/test_adopt.py::test_adoption_uses_the_reported_version_and_restores_a_lost_journal",
    53: f"{FAULTS}/test_old_journals.py::test_journal_from_before_a_later_change_reverts_nothing",
    54: f"{DIAGNOSTICS}/test_doctor.py::test_every_altered_file_is_named",
    55: f"{DIAGNOSTICS}/test_doctor.py::test_changed_schema_asks_first_who_changed_it",
    57: f"{CLI}/test_mistakes.py::test_mistyped_command_has_a_helpful_error",
    61: f"{PUBLISHER}/test_mistakes.py::test_failed_key_creation_leaves_nothing",
    62: f"{PUBLISHER}/test_mistakes.py::test_missing_product_is_resolved_or_named",
    63: f"{PUBLISHER}/test_keys.py::test_invalid_ceremony_is_refused",
    64: f"{PUBLISHER}/test_tokens.py::test_unusable_token_is_refused",
    65: f"{PUBLISHER}/test_publish.py::test_outdated_event_is_refused",
}


def test_every_row_of_the_table_has_a_test() -> None:
    assert {row.number for row in ROWS} | set(ELSEWHERE) == set(range(1, 66))
    for place in ELSEWHERE.values():
        file, _, name = place.partition("::")
        tree = ast.parse((ROOT / file).read_text("utf-8"))
        names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert name in names, place


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveSite]:
    """A site that was taken over and runs 3.2.4; every row leaves it so."""
    with live_site(tmp_path_factory.mktemp("mistakes"), (OLD, NEW), soak_s=0.1) as live:
        assert live.run("adopt", OLD).returncode == 0
        yield live


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files that are no bundles."""
    directory = tmp_path_factory.mktemp("odd")
    (directory / "half.ncen").write_bytes(b"PK\x03\x04" + bytes(100))
    (directory / "letter.pdf").write_bytes(b"%PDF-1.4\n1234")
    (directory / "empty.ncen").touch()
    return directory


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.number}-{row.typed.split(' ')[0]}")
def test_mistake_has_the_documented_answer(site: LiveSite, odd: Path, row: Mistake) -> None:
    text, before = site.config(), site.facts()
    site.demo.config_path.write_text(row.edit(text), "utf-8")
    try:
        done = site.run(*row.typed.format(tmp=odd).split(" "))
    finally:
        site.demo.config_path.write_text(text, "utf-8")
    told = output_of(done)
    assert (done.returncode, row.code in told) == (row.exit_code, True), told
    for words in row.words:
        assert words in told
    for never in ("Traceback", *row.never):
        assert never not in told
    assert site.facts() == before


@pytest.mark.parametrize(
    ("coded", "code"),
    [("utf-16", "NU-1010"), ("utf-8-sig", None), ("crlf", None)],
)
def test_text_in_other_encodings_is_reported(site: LiveSite, coded: str, code: str | None) -> None:
    text = site.config()
    content = text.replace("\n", "\r\n").encode() if coded == "crlf" else text.encode(coded)
    site.demo.config_path.write_bytes(content)
    try:
        done = site.run("doctor")
    finally:
        site.demo.config_path.write_text(text, "utf-8")
    assert done.returncode == (3 if code else 0), done.stdout
    if code is not None:
        assert code in output_of(done) and "as UTF-8" in output_of(done)


@pytest.mark.parametrize(
    "content", [None, b'{"signatures": [', b"<html><body>Sign in</body></html>"]
)
def test_invalid_trusted_root_is_reported(site: LiveSite, content: bytes | None) -> None:
    root = site.demo.trusted_root
    good = root.read_bytes()
    root.unlink()
    if content is not None:
        root.write_bytes(content)
    try:
        done = site.run("check")
    finally:
        root.write_bytes(good)
    assert (done.returncode, "NU-2002" in output_of(done)) == (6, True), done.stderr
    assert "verify its digest" in output_of(done)


def test_root_of_another_feed_is_reported(site: LiveSite, tmp_path: Path) -> None:
    """It is reported as such, and once it is replaced nothing is left of it."""
    root = site.demo.trusted_root
    good = root.read_bytes()
    keys = create_keys(tmp_path / "keys", "another long pass phrase")
    create_feed(tmp_path / "feed", keys, lambda: datetime.now(UTC))
    shutil.copyfile(tmp_path / "feed" / "metadata" / "1.root.json", root)
    try:
        done = site.run("check")
    finally:
        root.write_bytes(good)
    assert (done.returncode, "NU-2003" in output_of(done)) == (6, True), done.stderr
    assert "Compare the digest of root.json" in output_of(done)
    assert site.run("check").returncode == 0


def test_concurrent_command_names_the_running_one(site: LiveSite) -> None:
    with hold_change_lock(site.demo.state / "change.lock", "upgrade"):
        done = site.run("upgrade", "--yes", "--json")
    error = json.loads(done.stdout)["error"]
    assert (done.returncode, error["code"]) == (9, "NU-6004")
    assert "upgrade, process" in error["title"] and "ncen-updater status" in error["remedy"]
