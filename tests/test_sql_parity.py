"""Tests that ``ncen-publisher lint`` reads SQL as a site of that engine does.

The same release directory goes through the program of the signers and through the loader and the
runner of the agent, on a real database; both refuse, or both accept.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from demo.embedded_postgres import EmbeddedPostgres
from ncen_updater.agent.adapters.databases.base import DatabaseEngine, LiveDatabase
from ncen_updater.agent.adapters.databases.migrations.domain_checks import run_release_query
from ncen_updater.agent.adapters.databases.migrations.planner import load_migrations
from ncen_updater.agent.adapters.databases.postgresql.engine import PostgresEngine
from ncen_updater.agent.adapters.databases.sqlite.engine import SqliteEngine
from ncen_updater.agent.config.engines import PostgresSettings
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.progress import SilentProgress
from ncen_updater.formats.manifest import load_manifest
from ncen_updater.publisher.cli.main import run
from ncen_updater.publisher.lint import sql_rules
from ncen_updater.publisher.lint.release_lint import lint_release
from tests.agent.adapters.databases.migrations.factories import CHANGE
from tests.agent.adapters.databases.migrations.test_runner import Database, on_postgres, on_sqlite
from tests.agent.adapters.databases.postgresql.site import LIMITS, NEWEST
from tests.publisher.releases import write_release

TABLE = "CREATE TABLE a (b int, c text); CREATE INDEX c_of_a ON a (c);"
HEALTH = '[[health]]\nname = "answers"\npath = "/health"\n'


@dataclass(frozen=True)
class Case:
    """A text as the second migration of a release, and who runs it.

    Attributes:
        where: ``up``, ``down`` or ``verify``; the other files are sound.
    """

    name: str
    text: bytes
    accepts: tuple[str, ...] = ()
    transactional: bool = True
    where: str = "up"


PG, LITE, BOTH = ("postgresql",), ("sqlite",), ("postgresql", "sqlite")
WITH = b"WITH x AS (%s) SELECT * FROM x"
ATOMIC = (
    b"CREATE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 1;"
    b" SELECT CASE WHEN true THEN 2 END; END; INSERT INTO a (b) VALUES (1)"
)
TRIGGER = (
    b"CREATE TRIGGER t AFTER INSERT ON a BEGIN UPDATE a SET c = CASE WHEN 1 THEN 'x' END;"
    b" DELETE FROM a WHERE b = 3; END; INSERT INTO a (b) VALUES (1)"
)
CASES = [
    # A case in which the two earlier readers disagreed.
    Case("plain", b"ALTER TABLE a ADD COLUMN d text", BOTH),
    Case("commit", b"UPDATE a SET b = 1; COMMIT; SELECT 1"),
    Case("commit in words", b"UPDATE a SET c = 'x; COMMIT' -- ; COMMIT;\n", BOTH),
    Case("alter system", b"ALTER SYSTEM SET work_mem = '1MB'"),
    Case("set role", b"SET ROLE postgres"),
    Case("create database", b"CREATE DATABASE x"),
    Case("copy to a program", b"COPY a TO PROGRAM 'cat'"),
    Case("atomic body", ATOMIC, PG),
    Case("nested comment", b"/* a /* ; COMMIT; */ b */ UPDATE a SET b = 1", PG),
    Case("brackets", b"CREATE TABLE x ([a; COMMIT; b] int)", LITE),
    Case("backticks", b"CREATE TABLE x (`a; COMMIT; b` int)", LITE),
    Case("quoted name", b'CREATE TABLE x ("a; COMMIT; b" int)', BOTH),
    Case("dollar quotes", b"DO $$ BEGIN UPDATE a SET b = 1; END $$", PG),
    Case("trigger", TRIGGER, LITE),
    # What else the language has to hide or show a statement.
    Case("named dollar quotes", b"DO $x$ BEGIN PERFORM $$;COMMIT;$$; END $x$", PG),
    Case("dollar in a name", b"CREATE TABLE a$b$ (x int); CREATE TABLE c$b$ (x int)", BOTH),
    Case("escape string", rb"UPDATE a SET c = E'\'; COMMIT; --'", PG),
    Case("escape string goes on", b"UPDATE a SET c = E'x'\n'\\'; COMMIT; --'", PG),
    Case("no escape string", rb"UPDATE a SET c = '\'; COMMIT; --'"),
    Case("comment to a carriage return", b"SELECT 1 -- x\r; COMMIT; SELECT 2", LITE),
    Case("unterminated string", b"UPDATE a SET c = 'x"),
    Case("unterminated comment", b"UPDATE a SET b = 1; /* x", LITE),
    Case("carriage returns", b"UPDATE a\r\nSET b = 1;\r\n-- x\r\nUPDATE a SET b = 2;\r\n", BOTH),
    Case("byte order mark", b"\xef\xbb\xbfUPDATE a SET b = 1", LITE),
    Case("marked trigger", b"\xef\xbb\xbf" + TRIGGER, LITE),
    Case("no-break space", b"\xc2\xa0UPDATE a SET b = 1"),
    Case("zero byte", b"UPDATE a SET b = 1;\0"),
    Case("not UTF-8", b"UPDATE a SET c = '\xe9'"),
    Case("empty", b"", BOTH),
    Case("comment alone", b"-- nothing to do\n", BOTH),
    # Messages to a client, or about the role, the transaction or another database.
    Case("psql", b"\\set x 1\nUPDATE a SET b = 1"),
    Case("psql at the end", b"UPDATE a SET b = 1 \\g"),
    Case("copy from the client", b"COPY a FROM stdin;\n1\tx\n\\.\n"),
    Case("copy to the client", b"COPY (SELECT b FROM a) TO STDOUT"),
    Case("copy of a column of that name", b"CREATE TABLE stdin (b int)", BOTH),
    Case("start transaction", b"START TRANSACTION"),
    Case("savepoint", b"SAVEPOINT s; RELEASE s"),
    Case("rollback to", b"SAVEPOINT s; ROLLBACK TO s"),
    Case("read-only", b"SET TRANSACTION READ ONLY"),
    Case("all to come read-only", b"SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"),
    Case("role, quoted", b'SET "role" = \'postgres\''),
    Case("authorization", b"SET LOCAL SESSION AUTHORIZATION postgres"),
    Case("authorization as a setting", b"SET session_authorization = postgres"),
    Case("search path", b"SET LOCAL search_path = public", PG),
    Case("discard all", b"DISCARD ALL"),
    Case("attach", b"ATTACH 'x' AS y"),
    Case("journal mode", b"PRAGMA journal_mode = DELETE"),
    Case("journal mode, quoted", b'PRAGMA main."journal_mode" = DELETE'),
    Case("user version", b"PRAGMA main.user_version = 3", LITE),
    # What refuses a transaction, with and without saying so in the manifest.
    Case("index", b"CREATE INDEX CONCURRENTLY i ON a (b)"),
    Case("index alone", b"CREATE INDEX CONCURRENTLY i ON a (b)", PG, transactional=False),
    Case("vacuum", b"VACUUM"),
    Case("vacuum alone", b"VACUUM", BOTH, transactional=False),
    Case("vacuum of one table alone", b"VACUUM a", PG, transactional=False),
    Case("vacuum into", b"VACUUM INTO '/nowhere'", transactional=False),
    Case("reindex", b"REINDEX (VERBOSE) SCHEMA public"),
    Case("cluster", b"CLUSTER"),
    Case("cluster alone", b"CLUSTER", PG, transactional=False),
    Case("two alone", b"UPDATE a SET b = 1; UPDATE a SET b = 2", transactional=False),
    Case("none alone", b"-- nothing", transactional=False),
    Case("commit alone", b"COMMIT", transactional=False),
    Case("discard alone", b"DISCARD ALL", transactional=False),
    # Plain mistakes.
    Case("no command", b"UPDATE a SET b = 1;\nSELEC 1"),
    Case("comma", b"CREATE TABLE x (a int,)"),
    Case("no expression", b"UPDATE a SET b = WHERE c = 'x'"),
    Case("the other's type", b"ALTER TABLE a ALTER COLUMN b TYPE bigint", PG),
    Case("a value to come", b"UPDATE a SET b = :value"),
    Case("a numbered value to come", b"UPDATE a SET b = $1"),
    Case("a function's value", ATOMIC.replace(b"1;", b"$1;").replace(b"f()", b"f(int)", 1), PG),
    Case("body of a trigger", b"CREATE TRIGGER t AFTER INSERT ON a BEGIN UPDAT a; END"),
    # The down migration, and what is asked afterwards.
    Case("down", b"UPDATE a SET b = 1 WHERE b IS NULL", BOTH, where="down"),
    Case("empty down", b"-- nothing is undone", BOTH, where="down"),
    Case("commit down", b"COMMIT", where="down"),
    Case("mistake down", b"DROP TABL a", where="down"),
    Case("verify", b"SELECT 1 FROM a;\n" + WITH % b"SELECT 1 FROM a", BOTH, where="verify"),
    Case("verify in brackets", b"(SELECT 1 FROM a)", BOTH, where="verify"),
    Case("table verify", b"TABLE a", PG, where="verify"),
    Case("empty verify", b"", BOTH, where="verify"),
    Case("marked verify", b"\xef\xbb\xbfSELECT 1 FROM a", LITE, where="verify"),
    Case("delete in verify", b"DELETE FROM a", where="verify"),
    Case("delete within verify", WITH % b"DELETE FROM a RETURNING b", where="verify"),
    Case("mistake in verify", b"SELECT FROM WHERE", where="verify"),
]  # fmt: skip
QUESTIONS = {
    "one value": ("SELECT count(*) FROM a", BOTH),
    "a semicolon or two": ("SELECT count(*) FROM a;; -- ;", BOTH),
    "with": ("WITH x AS (SELECT b FROM a) SELECT count(*) FROM x", BOTH),
    "in brackets": ("(SELECT 1)", PG),
    "a verb as a name": ("SELECT count(*) FROM (SELECT 1) merge", BOTH),
    "two": ("SELECT 1; SELECT 2", ()),
    "none": ("-- SELECT 1", ()),
    "delete": ("DELETE FROM a", ()),
    "delete within": ("WITH x AS (DELETE FROM a RETURNING b) SELECT count(*) FROM x", ()),
    "delete after": ("WITH x AS (SELECT 1) DELETE FROM a", ()),
    "into": ("SELECT b INTO x FROM a", ()),
    "for update": ("SELECT b FROM a FOR UPDATE", ()),
    "show": ("SHOW server_version", ()),
    "pragma": ("PRAGMA user_version", ()),
    "mistake": ("SELECT count(* FROM a", ()),
    "a value to come": ("SELECT count(*) FROM a WHERE b = $1", ()),
    "a cast": ("SELECT count(*)::text FROM a", PG),
}


def release_with(directory: Path, engine: str, case: Case) -> Path:
    """A release for one engine whose second migration is the case."""
    place = "m/{engine}/002."
    texts = {"up": b"SELECT 1", "down": b"SELECT 1", "verify": b"SELECT 1 WHERE 1 = 0"}
    texts |= {case.where: case.text}
    extra = (
        '[[databases]]\nname = "cases"\n[[databases.migrations]]\nid = "001"\n'
        'up = "m/{engine}/001.sql"\nirreversible = "nothing was before it"\n'
        '[[databases.migrations]]\nid = "002"\n'
        f"transactional = {str(case.transactional).lower()}\n"
    )
    extra += "".join(f'{kind} = "{place}{kind}.sql"\n' for kind in texts)
    release = write_release(directory, extra=extra + HEALTH)
    files = release / "m" / engine
    files.mkdir(parents=True)
    (files / "001.sql").write_text(TABLE)
    for kind, text in texts.items():
        (files / f"002.{kind}.sql").write_bytes(text)
    return release


def lint(release: Path, capsys: pytest.CaptureFixture[str]) -> tuple[bool, list[dict[str, Any]]]:
    """Whether the signers' program accepts a release, and what it finds."""
    code = run(["lint", str(release), "--json"])
    findings = json.loads(capsys.readouterr().out)["findings"]
    assert code in (0, 3)
    assert not [f for f in findings if f["code"] == "NU-7126"], "squawk-cli is not installed"
    return code == 0, findings


def site_runs(release: Path, database: Database) -> str | None:
    """What the agent says against the migrations, there and back; None where it runs them."""
    runner = database.runner()
    try:
        manifest = load_manifest(release / "manifest.toml")
        found = load_migrations(manifest, release, database.kind, None).databases["cases"]
        runner.migrate(CHANGE, found, None, SilentProgress())
        runner.migrate(CHANGE, found[:1], found, SilentProgress())
    except UpdaterError as error:
        return f"{error} {error.detail}"
    return None


class Contract:
    """Both refuse, or both accept."""

    engine: str

    @pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
    def test_migration_is_read_alike_by_lint_and_site(
        self, database: Database, case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        release = release_with(tmp_path / "r", self.engine, case)
        accepted, findings = lint(release, capsys)
        said = site_runs(release, database)
        expected = self.engine in case.accepts
        assert (accepted, said is None) == (expected, expected), (said, findings)
        for found in findings:
            # Plain mistakes for PostgreSQL are found by another program, in its own words.
            if found["severity"] == "critical" and (
                self.engine == "sqlite" or found["code"] != "NU-7125"
            ):
                assert said is not None
                assert found["figures"]["reason"] in said

    @pytest.mark.parametrize("name", QUESTIONS)
    def test_query_is_read_alike_by_lint_and_site(
        self, database: Database, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        sql, accepts = QUESTIONS[name]
        release = release_with(tmp_path / "r", self.engine, Case("sound", b"SELECT 1"))
        with (release / "manifest.toml").open("a") as manifest:
            manifest.write(
                '[[checks]]\nname = "asked"\ndatabase = "cases"\n'
                f'sql = "{sql}"\nrelation = "equal"\n'
            )
        assert site_runs(release_with(tmp_path / "s", self.engine, CASES[0]), database) is None
        accepted, findings = lint(release, capsys)
        said = None
        try:
            run_release_query(self.asked(database, tmp_path), LiveDatabase("cases"), sql)
        except UpdaterError as error:
            said = error.detail
        expected = self.engine in accepts
        assert (accepted, said is None) == (expected, expected), (said, findings)

    def asked(self, database: Database, directory: Path) -> DatabaseEngine:
        raise NotImplementedError


class TestSqlite(Contract):
    engine = "sqlite"

    @pytest.fixture
    def database(self, tmp_path: Path) -> Database:
        (tmp_path / "data" / "sets" / "base").mkdir(parents=True)
        (tmp_path / "data" / "live").symlink_to("sets/base")
        return on_sqlite(tmp_path / "data" / "sets" / "base" / "cases.sqlite")

    def asked(self, database: Database, directory: Path) -> DatabaseEngine:
        return SqliteEngine(directory / "data", ("cases",))


@pytest.fixture(scope="module")
def kept(postgres: EmbeddedPostgres) -> Iterator[Database]:
    yield from on_postgres(postgres)


@NEWEST
class TestPostgresql(Contract):
    engine = "postgresql"

    @pytest.fixture
    def database(self, kept: Database) -> Database:
        """Emptied: to make one for every case takes longer than the cases."""
        kept.ask("DROP SCHEMA IF EXISTS ncen_updater, ncen_kept, public CASCADE")
        kept.ask("CREATE SCHEMA public AUTHORIZATION runner_app")
        return kept

    def asked(self, database: Database, directory: Path) -> DatabaseEngine:
        name, host, port = database.ask(
            "SELECT current_database(), current_setting('unix_socket_directories'),"
            " current_setting('port')"
        )[0]
        settings = PostgresSettings(
            host=host,
            port=port,
            user="postgres",
            owner="runner_app",
            control_database="one_reader_control",
        )
        return PostgresEngine(settings, {"cases": str(name)}, timeouts=LIMITS)


def test_common_file_refused_by_one_engine_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Strict where the release is known to be for both, else left to the signer."""
    case = Case("type", b"ALTER TABLE a ALTER b TYPE bigint")
    release = release_with(tmp_path / "r", "sqlite", case)
    manifest = release / "manifest.toml"
    text = manifest.read_text()

    def found() -> list[tuple[str, str, str]]:
        return [
            (f["code"], f["severity"], f["figures"]["engines"])
            for f in lint(release, capsys)[1]
            if "engines" in f["figures"]
        ]

    manifest.write_text(text.replace("m/{engine}/", "m/sqlite/"))
    assert found() == [("NU-7125", "warning", "SQLite")]
    (release / "m/postgresql").mkdir()
    (release / "m/postgresql/001.sql").write_text(TABLE)
    manifest.write_text(text.replace("m/{engine}/002", "m/sqlite/002"))
    assert found() == [("NU-7125", "critical", "SQLite")]
    (release / "m/sqlite/002.up.sql").write_text("COMMIT")
    manifest.write_text(text.replace("m/{engine}/", "m/sqlite/"))
    assert found() == [("NU-7111", "critical", "PostgreSQL, SQLite")]


@pytest.mark.parametrize(("said", "told"), [(None, "not installed"), ("echo x", "squawk failed")])
def test_unchecked_syntax_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str | None, told: str
) -> None:
    program = tmp_path / "squawk"
    program.write_text(f"#!/bin/sh\n{said}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sql_rules, "_find_squawk", lambda: program if said else None)
    release = release_with(tmp_path / "r", "postgresql", Case("mistake", b"SELEC 1"))
    found = {f.code: f for f in lint_release(release)}
    assert found["NU-7126"].severity == "warning"
    assert told in found["NU-7126"].title.render()
    assert "NU-7125" not in found
