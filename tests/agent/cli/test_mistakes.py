"""Tests of errors after mistakes in commands and configuration: one row for each mistake."""

from __future__ import annotations

import subprocess
from types import ModuleType

import psycopg
import pytest

from demo.embedded_postgres import EmbeddedPostgres
from ncen_updater.agent.adapters.databases.postgresql.connection import (
    Server,
    ServerTimeouts,
    classify_refusal,
)
from ncen_updater.agent.cli import main
from ncen_updater.agent.cli.main import run
from ncen_updater.agent.config.engines import PostgresSettings
from ncen_updater.agent.model.errors import (
    DatabaseUnreachableError,
    find_unreachable_error,
    is_login_refused,
)
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import (
    DATABASE_LOGIN_REFUSED,
    DATABASE_UNKNOWN,
    PASSWORD_MISSING,
    PASSWORD_REFUSED,
    ROLE_UNKNOWN,
    ErrorMessage,
)
from ncen_updater.publisher.cli import main as publisher_main
from tests.agent.adapters.databases.postgresql.site import NEWEST
from tests.agent.cli.site import CONFIG, TrialSite


def output_of(done: subprocess.CompletedProcess[str]) -> str:
    return " ".join((done.stdout + done.stderr).split())


#: What is typed, and what it answers.
TYPED: list[tuple[list[str], int, str, str]] = [
    (["upgarde"], 2, "NU-1123", "did you mean 'upgrade'?"),
    (["stauts"], 2, "NU-1123", "did you mean 'status'?"),
    (["role-back"], 2, "NU-1123", "did you mean 'rollback'?"),
    (["donwgrade"], 2, "NU-1123", "did you mean 'rollback'?"),
    (["--lang", "fr", "undo"], 2, "NU-1123", "Vouliez-vous dire « rollback » ?"),
    (["nonsense"], 2, "NU-1101", "No such command"),
    (["plan", "1,1,0"], 2, "NU-1104", "Use the form 3.3.0"),
    (["plan", "latest"], 2, "NU-1104", "run: ncen-updater check"),
    (["upgrade", "--force"], 2, "NU-1101", "No such option"),
    (["upgrade", "--yess"], 2, "NU-1101", "Did you mean '--yes'?"),
    (["rollback", "3"], 2, "NU-1101", "unexpected extra argument"),
    (["upgrade", "3.3.0", "3.4.0"], 2, "NU-1101", "unexpected extra argument"),
    (["history", "--limit", "1.5"], 2, "NU-1101", "Invalid value"),
]


@pytest.mark.parametrize(("typed", "exit_code", "code", "words"), TYPED)
def test_mistyped_command_has_a_helpful_error(
    site: TrialSite, typed: list[str], exit_code: int, code: str, words: str
) -> None:  # fmt: skip
    done = site.run(*typed)
    assert (done.returncode, code in done.stderr) == (exit_code, True), done.stderr
    assert words in output_of(done)


#: Word to the command that is suggested for it; None for words that only look like one.
MEANT = {
    "pause": "hold", "stop": "hold", "freeze": "hold", "undo": "rollback", "back": "rollback",
    "accept": "approve", "agree": "approve", "ok": "approve", "remove": "prune", "clean": "prune",
    "delete": "prune", "log": "history", "logs": "history", "journal": "history",
    "events": "history", "info": "status", "state": "status", "apply": "upgrade",
    "install-update": "upgrade", "test": "rehearse", "try": "rehearse", "simulate": "rehearse",
    "download": "rehearse", "fetch": "rehearse", "report": "support-bundle",
    "bundle": "support-bundle", "validate": "doctor", "diagnose": "doctor", "health": "doctor",
    "config": "setup", "start": None, "enable": None, "roles": None,
}  # fmt: skip


@pytest.mark.parametrize(("typed", "meant"), MEANT.items())
def test_command_is_suggested_by_meaning(
    typed: str, meant: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([typed]) == 2
    err = capsys.readouterr().err
    assert f"did you mean '{meant}'?" in err if meant else "did you mean" not in err


@pytest.mark.parametrize("program", [main, publisher_main])
def test_synonyms_lead_to_commands_without_being_commands(program: ModuleType) -> None:
    words = " ".join(program.SYNONYMS.values()).split()
    assert set(program.SYNONYMS) <= set(program.COMMANDS)
    assert not set(words) & set(program.COMMANDS)
    assert len(words) == len(set(words))


@pytest.mark.parametrize("typed", ["--to", "--at"])
def test_no_suggestion_is_made_for_distant_words(site: TrialSite, typed: str) -> None:
    done = site.run("rollback", typed, "3.2.4")
    assert f"No such option '{typed}'" in done.stderr
    assert "Did you mean" not in done.stderr


SERVICE = '[service]\n[[service.windows]]\ndays = ["{day}"]\nstart = "{start}"\nend = "23:00"\n'


#: What is replaced by what in the configuration, and what it answers.
MISCONFIGURED = [
    ('"ke-1"', "\u201cke-1\u201d", "NU-1008", "at line 3"),
    ('"ke-1"', "\u00abke-1\u00bb", "NU-1008", 'straight quotes: "..."'),
    ('"ke-1"', '"ke-1', "NU-1004", "missing quote"),
    ('id = "ke-1"', 'id = "ke-1"\nid = "ke-2"', "NU-1009", "at line 4"),
    ("[site]", "[site]\n[site]", "NU-1009", "Remove one of the two"),
    ("", SERVICE.format(day="samedi", start="22:00"), "NU-1005", "is invalid"),
    ("", SERVICE.format(day="sat", start="22h00"), "NU-1005", "such as 22:00"),
    ("", '[service]\ntimezone = "Port Louis"\n', "NU-1005", "such as Africa/Nairobi"),
    ("[application]", "[aplication]", "NU-1005", "Did you mean application?"),
    ('"KE"', '"Kenya"', "NU-1005", "code in capitals"),
]


def misconfigured(site: TrialSite, before: str, after: str) -> None:
    """Make a mistake in the configuration of a site."""
    text = CONFIG.format(root=site.root)
    text = text.replace(before, after, 1) if before else text + after
    site.config.write_text(text, "utf-8")


@pytest.mark.parametrize(("before", "after", "code", "words"), MISCONFIGURED)
def test_configuration_mistake_has_a_helpful_error(
    site: TrialSite, before: str, after: str, code: str, words: str
) -> None:  # fmt: skip
    misconfigured(site, before, after)
    done = site.run("doctor")
    assert code in done.stdout and words in output_of(done), done.stdout
    for never in ("is empty", "isoformat", "Cannot overwrite", "Traceback"):
        assert never not in output_of(done)


@pytest.mark.parametrize(
    ("setting", "value", "code", "words"),
    [
        ("current", "curent", "NU-6101", "Correct 'current' under [paths]"),
        ("slots", "slot", "NU-3201", "Check current and slots in [paths]"),
    ],
)
def test_missing_paths_are_reported(
    site: TrialSite, setting: str, value: str, code: str, words: str
) -> None:
    text = CONFIG.format(root=site.root)
    site.config.write_text(text.replace(f'{setting} = "{setting}"', f'{setting} = "{value}"'))
    done = site.run("doctor")
    assert code in done.stdout and words in output_of(done), done.stdout
    assert "Do not upgrade" not in output_of(done)


POSTGRESQL = """engine = "postgresql"
names = { cases = "cases" }
[databases.postgresql]
host = "127.0.0.1"
port = 9
user = "agent"
owner = "ncen"
"""


def at_a_server(site: TrialSite, *lines: str) -> None:
    """Let the databases of a site be at a server that is not there."""
    text = CONFIG.format(root=site.root)
    begin, end = text.index("engine ="), text.index("[application]")
    site.config.write_text(text[:begin] + POSTGRESQL + "".join(lines) + text[end:])


def test_unreachable_database_server_is_reported(site: TrialSite) -> None:
    at_a_server(site)
    done = site.run("doctor")
    assert done.returncode == 3, done.stderr
    for words in ("NU-4002", "Connection refused", "systemctl status postgresql"):
        assert words in output_of(done)


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        (0o644, "is readable by other users: {path}. Run: chmod 600 {path}"),
        (None, "file not found"),
    ],
)
def test_password_file_mistakes_are_reported(site: TrialSite, mode: int | None, words: str) -> None:
    path = site.root / "password"
    if mode is not None:
        path.write_text("*:*:*:agent:secret\n")
        path.chmod(mode)
    at_a_server(site, f'password_file = "{path}"\n')
    done = site.run("doctor")
    assert words.format(path=path) in output_of(done), done.stdout
    assert "secret" not in done.stdout


@pytest.mark.parametrize(
    ("code", "words", "message"),
    [
        ("28P01", "fe_sendauth: no password supplied", PASSWORD_MISSING),
        ("28P01", 'FATAL:  password authentication failed for user "x"', PASSWORD_REFUSED),
        ("28P01", 'FATAL: Passwort-Authentifizierung für Benutzer "x" fehl', PASSWORD_REFUSED),
        ("3D000", "FATAL:  Datenbank »x« existiert nicht", DATABASE_UNKNOWN),
        ("28000", 'FATAL:  role "x" does not exist', ROLE_UNKNOWN),
        ("28000", "FATAL:  Rolle »x« existiert nicht", DATABASE_LOGIN_REFUSED),
        (None, "connection refused. Is the server running on that host", None),
    ],
)
def test_refused_connection_is_classified(
    code: str | None, words: str, message: ErrorMessage | None
) -> None:
    assert classify_refusal(code, words) is message


@pytest.mark.parametrize(
    ("code", "refused"),
    [
        ("28000", True),  # peer, pg_hba.conf, no such role, no LOGIN
        ("28P01", True),
        ("3D000", True),
        ("53300", False),  # too many connections
        ("55000", False),  # closed for a change
        ("57014", False),  # the login took too long
        ("57P03", False),  # starts or ends
        (None, False),
    ],
)
def test_refused_login_needs_an_operator(code: str | None, refused: bool) -> None:
    error = UpdaterError()
    error.__cause__ = DatabaseUnreachableError(database="x", sqlstate=code)
    assert find_unreachable_error(error) is error.__cause__
    assert is_login_refused(error) is refused
    assert not is_login_refused(UpdaterError())
    assert not is_login_refused(DatabaseUnreachableError(database="x"))


@NEWEST
def test_unknown_database_and_role_are_named(postgres: EmbeddedPostgres) -> None:
    for user, database, message in (
        ("nobody_here", "postgres", ROLE_UNKNOWN),
        (postgres.user, "nowhere", DATABASE_UNKNOWN),
    ):
        settings = PostgresSettings(host=str(postgres.host), user=user, owner=user)
        with pytest.raises(DatabaseUnreachableError) as caught:
            Server(settings, ServerTimeouts()).open_session(database)
        assert caught.value.message is message
        assert isinstance(caught.value.__cause__, psycopg.Error)


@pytest.mark.parametrize(
    ("typed", "command"),
    [("update", "upgrade"), ("downgrade", "rollback"), ("revert", "rollback")],
)
def test_foreign_command_name_is_a_hidden_alias(
    typed: str, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([typed, "--help"]) == 0
    assert f"ncen-updater {command} " in capsys.readouterr().out
    assert run(["--help"]) == 0
    assert f"  {typed} " not in capsys.readouterr().out
