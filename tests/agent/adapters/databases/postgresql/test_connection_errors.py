"""Tests of the SQLSTATE of a refused session, in any language of the server."""

from __future__ import annotations

import ctypes.util
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from demo.embedded_postgres import EmbeddedPostgres, find_binaries
from ncen_updater.agent.adapters.databases.postgresql.connection import (
    Server,
    ServerTimeouts,
    ask_sqlstate,
)
from ncen_updater.agent.config.engines import PostgresSettings
from ncen_updater.agent.model.errors import DatabaseUnreachableError, is_login_refused

GERMAN = Path("/usr/share/locale/de/LC_MESSAGES")
RULES = """\
local all by_peer     peer map=nobody_at_all
local all by_password scram-sha-256
local all unnamed     reject
local all no_login,missing,postgres,full trust
"""
ANSWERS = {
    ("by_peer", "postgres", ""): "28000",
    ("by_password", "postgres", "wrong"): "28P01",
    ("by_password", "postgres", ""): "28P01",
    ("unnamed", "postgres", ""): "28000",
    ("not_in_the_rules", "postgres", ""): "28000",
    ("missing", "postgres", ""): "28000",
    ("no_login", "postgres", ""): "28000",
    ("postgres", "nowhere", ""): "3D000",
    ("full", "postgres", ""): "53300",
    ("postgres", "postgres", ""): "00000",
}


@pytest.fixture(scope="module")
def german() -> Iterator[EmbeddedPostgres]:
    """A server whose messages are in German, where the machine has them."""
    system = [one for one in find_binaries() if one.directory.is_relative_to("/usr/lib")]
    if not (system and (GERMAN / f"postgres-{system[-1].major}.mo").exists()):
        pytest.skip("there is no PostgreSQL with messages in German")
    with tempfile.TemporaryDirectory(prefix="nu-test-") as name, pytest.MonkeyPatch.context() as at:
        place = Path(name)
        place.chmod(0o755)
        words = ["localedef", "-i", "de_DE", "-f", "UTF-8", str(place / "de_DE.UTF-8")]
        if subprocess.run(words, check=False, capture_output=True).returncode:
            pytest.skip("the German locale cannot be made")
        at.setenv("LOCPATH", name)
        settings = ["lc_messages=de_DE.UTF-8"]
        with EmbeddedPostgres(system[-1], place / "server", settings) as server:
            _prepare(server)
            yield server


def _prepare(server: EmbeddedPostgres) -> None:
    with psycopg.connect(server.conninfo(), autocommit=True) as session:
        for role in ("by_peer LOGIN", "by_password LOGIN PASSWORD 'right'", "unnamed LOGIN",
                     "no_login", "full LOGIN CONNECTION LIMIT 0"):  # fmt: skip
            session.execute(f"CREATE ROLE {role}".encode())
        (server.data / "pg_hba.conf").write_text(RULES)
        before = session.execute("SELECT pg_conf_load_time()").fetchone()
        session.execute("SELECT pg_reload_conf()")
        while session.execute("SELECT pg_conf_load_time()").fetchone() == before:
            pass


def conninfo(server: EmbeddedPostgres, user: str, database: str, password: str) -> str:
    return server.conninfo(database, user) + (f" password={password}" if password else "")


@pytest.mark.parametrize(("login", "code"), ANSWERS.items(), ids=[" ".join(a) for a in ANSWERS])
def test_german_server_answers_are_classified(
    german: EmbeddedPostgres, login: tuple[str, str, str], code: str
) -> None:
    answered, words = ask_sqlstate(conninfo(german, *login), 10)
    assert answered == code
    assert "LOCATION" not in words
    assert "\n" not in words


def test_german_answers_are_classified_through_system_libpq(german: EmbeddedPostgres) -> None:
    """Debian's package has no compiled psycopg: it reaches libpq by ctypes."""
    if ctypes.util.find_library("pq") is None:
        pytest.skip("there is no libpq beside psycopg's own")
    asked = (
        "import sys; from ncen_updater.agent.adapters.databases.postgresql.connection"
        " import ask_sqlstate; print(*ask_sqlstate(sys.argv[1], 10))"
    )
    words = [sys.executable, "-c", asked, conninfo(german, "by_peer", "postgres", "")]
    environment = {**os.environ, "PSYCOPG_IMPL": "python"}
    told = subprocess.run(words, env=environment, check=True, capture_output=True, text=True)
    assert told.stdout.startswith("28000 Peer-Authentifizierung")


def test_refused_german_login_is_distinguished_from_an_unreachable_server(
    german: EmbeddedPostgres,
) -> None:
    for host, refused in ((german.host, True), (german.directory, False)):
        settings = PostgresSettings(host=str(host), user="by_peer", owner="by_peer")
        with pytest.raises(DatabaseUnreachableError) as caught:
            Server(settings, ServerTimeouts()).open_session("postgres")
        assert is_login_refused(caught.value) is refused


@pytest.mark.parametrize("listens", [True, False])
def test_silent_server_is_reported(tmp_path: Path, listens: bool) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        if listens:
            silent.bind(str(tmp_path / ".s.PGSQL.5432"))
            silent.listen()
        code, words = ask_sqlstate(f"host={tmp_path} user=x dbname=x", 0.2)
    assert code is None
    assert ("no answer in" in words) is listens


def test_transient_login_failure_does_not_fall_back_to_the_agent_role(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first login fails, the one that asks why works: nothing was refused."""

    def fail(*_: object, **__: object) -> None:
        raise psycopg.OperationalError("sorry, too many clients already")

    room = "ncen_updater.agent.adapters.databases.postgresql.connection"
    monkeypatch.setattr(psycopg, "connect", fail)
    monkeypatch.setattr(f"{room}.ask_sqlstate", lambda *_: ("00000", ""))
    server = Server(PostgresSettings(host="/none"), ServerTimeouts())
    monkeypatch.setattr(
        server, "open_control_session", lambda: pytest.fail("it is asked no further")
    )
    with pytest.raises(DatabaseUnreachableError):
        server.open_session("cases", as_owner=True)
    assert server.has_owner_login is None
