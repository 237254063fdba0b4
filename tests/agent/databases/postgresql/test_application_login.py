"""The application's own way into the server, which the agent's lines may close."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator

import psycopg
import pytest

from demo.embedded_postgres import EmbeddedPostgres
from ncen_updater.agent.databases.base import RunAs
from ncen_updater.agent.databases.postgresql.application_login import locked_out
from ncen_updater.common.messages import APPLICATION_LOCKED_OUT
from tests.agent.databases.postgresql.site import OWNER, Site
from tests.agent.databases.postgresql.test_crash import own_server
from tests.support.errors import refused

__all__ = ["own_server"]

PEER = f'FATAL:  Peer authentication failed for user "{OWNER}"'


@pytest.mark.parametrize(
    ("said", "by_socket", "found"),
    [
        ({OWNER: PEER}, [OWNER], (OWNER, PEER)),
        ({OWNER: 'no pg_hba.conf entry for host "[local]"'}, [OWNER],
         (OWNER, 'no pg_hba.conf entry for host "[local]"')),
        ({OWNER: PEER}, [], None),  # it comes over the network
        ({OWNER: "fe_sendauth: no password supplied"}, [OWNER], None),  # which it has
        ({OWNER: 'password authentication failed for user "ncen"'}, [OWNER], None),
        ({OWNER: "the database system is starting up"}, [OWNER], None),
        ({OWNER: ""}, [OWNER], None),
        ({"a": "", "b": PEER}, ["a", "b"], ("b", PEER)),
    ],
)  # fmt: skip
def test_who_is_locked_out(
    said: dict[str, str], by_socket: list[str], found: tuple[str, str] | None
) -> None:
    assert locked_out(said, by_socket) == found


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
    assert isinstance(engine.migrator_user(), RunAs)
    with psycopg.connect(site.server.conninfo("t_seizure", OWNER)):
        # A session of before the reload goes on, and shows by which way the application comes.
        lines(site, hba, f"ncen root {OWNER}\n")
        with refused(APPLICATION_LOCKED_OUT) as caught:
            engine.require_application_logins()
        assert (caught.value.values["user"], caught.value.values["role"]) == ("daemon", OWNER)
        assert "Peer authentication failed" in (caught.value.detail or "")
        lines(site, hba, f"ncen root {OWNER}\nncen daemon {OWNER}\n")
        engine.require_application_logins()
    lines(site, hba, f"ncen root {OWNER}\n")
    engine.require_application_logins()  # nobody comes by the socket
