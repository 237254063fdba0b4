"""Tests of each blocker, made on a real server; a healthy site has none."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Mapping

import psycopg
import pytest

from ncen_updater.agent.adapters.databases.base import ChangeRef
from ncen_updater.agent.adapters.databases.postgresql.catalogue import candidate_name
from ncen_updater.agent.adapters.databases.postgresql.rehearsal_copies import find_matching_program
from ncen_updater.common.findings import Finding, Severity
from ncen_updater.common.progress import SilentProgress
from tests.agent.adapters.databases.postgresql.site import AGENT, CHANGE, NEWEST, Site


def look(site: Site, change: ChangeRef = CHANGE, *, final: bool = False) -> Mapping[str, Finding]:
    found = site.engine().find_blockers(change, application_stopped=final)
    assert all(str(finding.title) and str(finding.remedy) for finding in found)
    return {finding.code: finding for finding in found}


def test_idle_database_has_no_blockers(any_site: Site) -> None:
    found = look(any_site, final=True)
    # The data directory is visible to superusers and to roles that may read all settings.
    assert set(found) == (set() if any_site.user != AGENT else {"NU-4125"})
    assert all(finding.severity is Severity.WARNING for finding in found.values())
    if any_site.user == AGENT:
        assert f'GRANT pg_read_all_settings TO "{AGENT}"' in str(found["NU-4125"].remedy)
        any_site.sql("postgres", f"GRANT pg_read_all_settings TO {AGENT}")
        assert look(any_site, final=True) == {}


@NEWEST
def test_foreign_sessions_are_blockers(site: Site) -> None:
    conninfo = site.server.conninfo("t_seizure")
    with psycopg.connect(conninfo, application_name="reports"):
        before, after = look(site)["NU-4120"], look(site, final=True)["NU-4120"]
    assert (before.severity, after.severity) == (Severity.WARNING, Severity.CRITICAL)
    assert "reports (1, postgres)" in str(after.title)


@NEWEST
def test_agent_sessions_are_not_foreign_before_the_downtime(site: Site) -> None:
    conninfo = site.server.conninfo("t_seizure")
    with psycopg.connect(conninfo, application_name="ncen-updater rehearsal"):
        before, after = look(site), look(site, final=True)
    assert "NU-4120" not in before
    assert after["NU-4120"].severity is Severity.CRITICAL


@NEWEST
def test_dump_of_a_rehearsal_is_not_foreign(site: Site) -> None:
    """Seen: "pg_dump (1, ncen_updater): stop these programs", while a release was rehearsed."""
    server = site.engine()._server
    waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    with psycopg.connect(site.server.conninfo("t_seizure")) as holder:
        holder.execute("LOCK TABLE cases")
        words = [
            find_matching_program(server, "pg_dump"),
            "-f",
            "/dev/null",
            "-h",
            str(site.server.host),
            "-p",
            str(site.server.port),
            "-U",
            server.settings.user,
            "-d",
            "t_seizure",
        ]
        with subprocess.Popen(
            words, env=server.build_child_environment(server.settings.user)
        ) as dump:
            try:
                while site.sql("postgres", waits) != [(1,)]:
                    assert dump.poll() is None
                found = look(site)
            finally:
                dump.terminate()
    assert "pg_dump" not in str(found.get("NU-4120"))
    assert "ncen-updater" not in str(found.get("NU-4120"))


@NEWEST
def test_objects_that_a_copy_omits_are_found(site: Site) -> None:
    site.sql(
        "t_seizure",
        "SELECT pg_create_logical_replication_slot('cdc', 'pgoutput')",
        "CREATE SUBSCRIPTION sub CONNECTION 'dbname=nowhere' PUBLICATION p WITH (connect = false)",
    )
    with contextlib.closing(psycopg.connect(site.server.conninfo("t_seizure"))) as connection:
        connection.execute("INSERT INTO loose VALUES ('z')")
        connection.execute("PREPARE TRANSACTION 'half done'")
    try:
        found = look(site)
        assert {"NU-4121", "NU-4122", "NU-4123"} <= set(found)
        assert "half done" in str(found["NU-4121"].title)
        assert "cdc" in str(found["NU-4122"].title)
        assert "sub" in str(found["NU-4123"].title)
        assert {found[code].severity for code in ("NU-4122", "NU-4123")} == {Severity.CRITICAL}
    finally:
        site.sql(
            "t_seizure",
            "ALTER SUBSCRIPTION sub SET (slot_name = NONE)",
            "DROP SUBSCRIPTION sub",
        )


def test_missing_privileges_are_found(site: Site) -> None:
    site.sql(
        "postgres",
        f"ALTER ROLE {AGENT} NOCREATEDB",
        f"REVOKE ncen, pg_signal_backend FROM {AGENT}",
    )
    limited = Site(site.server, user=AGENT, names=site.names)
    assert {"NU-4126", "NU-4127", "NU-4128", "NU-4135"} <= set(look(limited))
    assert not {"NU-4126", "NU-4127", "NU-4128", "NU-4135"} & set(look(site))


@NEWEST
def test_leftover_and_missing_databases_are_found(site: Site) -> None:
    engine = site.engine()
    engine.fence(CHANGE)
    engine.copy_databases(CHANGE, engine.plan_copy(CHANGE), SilentProgress())
    assert "NU-4132" in look(site)
    site.sql("postgres", "ALTER DATABASE t_seizure RENAME TO away")
    assert "NU-4134" in look(site)
    assert candidate_name("t_seizure", CHANGE.id) in site.databases()


def test_outdated_collation_and_invalid_objects_are_found(site: Site) -> None:
    if site.server.binaries.major < 15:
        pytest.skip("PostgreSQL 14 records no version of a database's collation")
    site.sql(
        "postgres",
        "UPDATE pg_database SET datcollversion = '0.1' WHERE datname = 't_seizure'",
        "UPDATE pg_database SET datconnlimit = -2 WHERE datname LIKE 'T%suspect'",
    )
    found = look(site)
    assert {"NU-4129", "NU-4131"} <= set(found)
