"""Tests of the application's login to the server, which the agent's rules may block."""

from __future__ import annotations

import os
from collections.abc import Iterator

import psycopg
import pytest

from demo.embedded_postgres import EmbeddedPostgres
from ncen_updater.agent.adapters.databases.postgresql import roles
from ncen_updater.agent.adapters.databases.postgresql.connection import Server
from ncen_updater.agent.adapters.databases.postgresql.roles import find_login_trouble
from ncen_updater.common.findings import Finding, Severity
from ncen_updater.common.messages import APPLICATION_SHUT_OUT
from tests.agent.adapters.databases.postgresql.site import LIMITS, OWNER, Site
from tests.agent.adapters.databases.postgresql.test_crash import own_server
from tests.support.errors import refused

__all__ = ["own_server"]


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


PEER = f"local all {OWNER} peer map=ncen\nlocal all all trust\n"
WITHOUT = f"ncen root {OWNER}\n"
WITH = f"{WITHOUT}ncen daemon {OWNER}\n"
root_alone = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root becomes the application's user"
)


def test_admitted_application_login_has_no_finding(site: Site) -> None:
    lines(site, PEER, f"ncen /^.*$ {OWNER}\n")
    assert logins(site, user=None if os.geteuid() else "daemon") == ()


@root_alone
def test_application_locked_out_at_its_next_start_is_found(site: Site) -> None:
    # An earlier session survives the reload, and shows the application's login method.
    with psycopg.connect(site.server.conninfo("t_seizure", OWNER)):
        lines(site, PEER, WITHOUT)
        with refused(APPLICATION_SHUT_OUT) as caught:
            logins(site)
        assert (caught.value.values["user"], caught.value.values["role"]) == ("daemon", OWNER)
        assert "Peer authentication failed" in (caught.value.detail or "")
        lines(site, PEER, WITH)
        assert logins(site) == ()


@root_alone
def test_refusal_without_an_application_session_is_not_judged(site: Site) -> None:
    lines(site, PEER, WITHOUT)
    assert "Peer authentication failed" in reason(site)
    lines(site, PEER, WITH)
    assert logins(site) == ()


@root_alone
def test_known_application_password_is_not_requested(site: Site) -> None:
    with psycopg.connect(site.server.conninfo("t_seizure", OWNER)):
        lines(site, PEER.replace("peer map=ncen", "scram-sha-256"), "")
        assert logins(site) == ()


@root_alone
def test_untestable_login_is_reported_with_its_reason(site: Site) -> None:
    with psycopg.connect(site.server.conninfo("t_seizure", OWNER)):
        assert "system user nobody_here not found" in reason(site, user="nobody_here")
        site.sql("postgres", f"ALTER ROLE {OWNER} CONNECTION LIMIT 1")
        assert "too many connections" in reason(site)


@root_alone
def test_endless_login_attempt_is_reported_with_its_reason(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roles, "_LOGIN_PROGRAM", "import time; time.sleep(60)")
    monkeypatch.setattr(roles, "LOGIN_LIMIT_S", 0.1)
    assert "TimeoutExpired" in reason(site)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may try it as anybody")
def test_unprivileged_user_is_told_that_the_login_was_not_tested(site: Site) -> None:
    assert "only the system administrator (root)" in reason(site)


def test_remote_server_is_reached_over_the_network(site: Site) -> None:
    settings = site.engine()._settings.model_copy(update={"host": "127.0.0.1"})
    assert find_login_trouble(Server(settings, LIMITS), "t_seizure", "daemon") == ()


def logins(site: Site, user: str | None = "daemon") -> tuple[Finding, ...]:
    site.server.host.chmod(0o755)
    server = Server(site.engine()._settings, LIMITS)
    return find_login_trouble(server, "t_seizure", user)


def reason(site: Site, user: str = "daemon") -> str:
    """Why a login was not judged, which is no reason to refuse anything."""
    (found,) = logins(site, user)
    assert (found.code, found.severity) == ("NU-4171", Severity.WARNING)
    assert OWNER in found.title.render("en")
    return found.title.render("en")
