"""The application's own way into the server, which the agent's lines may close."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator

import psycopg
import pytest

from demo.embedded_postgres import EmbeddedPostgres
from ncen_updater.agent.databases.postgresql.application_login import REFUSED
from ncen_updater.common.messages import APPLICATION_SHUT_OUT
from tests.agent.databases.postgresql.site import OWNER, Site
from tests.agent.databases.postgresql.test_crash import own_server
from tests.support.errors import refused

__all__ = ["own_server"]


@pytest.mark.parametrize(
    ("said", "refused"),
    [
        (f'FATAL:  Peer authentication failed for user "{OWNER}"', True),
        (f'FATAL:  no pg_hba.conf entry for host "[local]", user "{OWNER}"', True),
        (f"FATAL:  authentification peer échouée pour l'utilisateur « {OWNER} »", True),
        (f"FATAL:  aucune entrée dans pg_hba.conf pour l'hôte « [local] » et « {OWNER} »", True),
        ("fe_sendauth: no password supplied", False),  # which it has
        (f'FATAL:  password authentication failed for user "{OWNER}"', False),
        (f"FATAL:  authentification par mot de passe échouée pour « {OWNER} »", False),
        ("FATAL:  the database system is starting up", False),
        ("", False),
    ],
)
def test_which_words_lock_the_application_out(said: str, refused: bool) -> None:
    assert bool(REFUSED.search(said)) is refused


@pytest.fixture
def site(own_server: EmbeddedPostgres) -> Iterator[Site]:
    site = Site(own_server)
    site.build()
    before = (own_server.data / "pg_hba.conf").read_text()
    yield site
    lines(site, before, "")
    site.clear()


def lines(site: Site, hba: str, ident: str) -> None:
    """Write both files, and have the server read them."""
    loaded = "SELECT pg_conf_load_time()"
    before = site.sql("postgres", loaded)
    (site.server.data / "pg_hba.conf").write_text(hba)
    (site.server.data / "pg_ident.conf").write_text(ident)
    site.sql("postgres", "SELECT pg_reload_conf()")
    while site.sql("postgres", loaded) == before:
        pass


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes the application's user")
def test_application_that_is_locked_out_at_its_next_start_is_found(site: Site) -> None:
    other = pwd.getpwnam("daemon")
    hba = f"local all {OWNER} peer map=ncen\nlocal all all trust\n"
    site.server.host.chmod(0o755)
    engine = site.engine(user=str(other.pw_name))
    with psycopg.connect(site.server.conninfo("t_seizure", OWNER)):
        # A session of before the reload goes on, and shows by which way the application comes.
        lines(site, hba, f"ncen root {OWNER}\n")
        with refused(APPLICATION_SHUT_OUT) as caught:
            engine.exposures()
        assert (caught.value.values["user"], caught.value.values["role"]) == ("daemon", OWNER)
        assert "Peer authentication failed" in (caught.value.detail or "")
        lines(site, hba, f"ncen root {OWNER}\nncen daemon {OWNER}\n")
        engine.exposures()
    lines(site, hba, f"ncen root {OWNER}\n")
    engine.exposures()  # nobody comes by the socket
