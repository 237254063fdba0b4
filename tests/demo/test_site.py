"""The stand-in as users and the agent see it: real processes, real requests."""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from demo.databases import PostgresPlace, apply_release
from demo.embedded_postgres import EmbeddedPostgres
from demo.evidence import case_references
from demo.releases import assemble
from demo.site import DemoSite, SiteOptions, digests, version_of
from demo.traffic import Tally, acknowledged
from ncen_updater.agent.config.loader import load_config
from ncen_updater.agent.storage.slots.store import SlotStore
from tests.support.forks import DEADLINE_S

QUIET = SiteOptions(cases=60, icomm=False)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[DemoSite]:
    with DemoSite(tmp_path / "site", options=QUIET) as made:
        yield made


def ask(url: str, body: dict[str, Any] | None = None) -> tuple[int, str]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=DEADLINE_S) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def until(condition: Any, seconds: float = DEADLINE_S) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_site_is_laid_out_as_the_agent_expects(site: DemoSite) -> None:
    config = load_config(site.config_path)
    store = SlotStore(site.slots, site.current)
    version = store.read_current()
    assert version is not None and str(version) == "3.2.4"
    assert store.verify_slot(version) == ()
    assert config.paths.resolve(config.paths.current) == site.current
    site.start_app()
    assert version_of(site).whole == "3.2.4"
    # Running it must not write into the slot.
    assert store.verify_slot(version) == ()


def test_start_stop_and_status_are_repeatable(site: DemoSite) -> None:
    assert not site.app_running()
    site.stop_app()
    site.start_app()
    site.start_app()
    assert site.app_running()
    site.stop_app()
    site.stop_app()
    assert not site.app_running()


def test_killed_application_counts_as_stopped_and_restarts(site: DemoSite) -> None:
    site.start_app()
    os.kill(int((site.run / "ncen.pid").read_text().split()[0]), signal.SIGKILL)
    until(lambda: not site.app_running())
    site.stop_app()
    site.start_app()
    assert version_of(site).reported == "3.2.4"


def test_case_is_written_to_all_databases(site: DemoSite) -> None:
    site.start_app()
    status, body = ask(site.app_url + "/cases", {"family_name": "O'Brien", "summary": "x"})
    reference = json.loads(body)["case_ref"]
    assert status == 201
    assert all(reference in found for found in case_references(site.databases).values())
    assert json.loads(ask(f"{site.app_url}/cases/{reference}")[1])["persons"] == ["P-" + reference]
    found = json.loads(ask(site.app_url + "/search?q=O%27Bri")[1])["persons"]
    assert found
    assert ask(site.app_url + "/cases/NONE")[0] == 404


def test_maintenance_blocks_users_and_admits_probes(site: DemoSite) -> None:
    site.start_app()
    site.start_front_door()
    assert ask(site.public_url + "/")[0] == 200
    site.maintenance_file.touch()
    status, page = ask(site.public_url + "/")
    assert status == 503 and "being upgraded" in page and "mise à niveau" in page
    assert ask(site.app_url + "/cases", {})[0] == 503
    assert ask(site.app_url + "/cases?probe=1")[0] == 200
    assert ask(site.app_url + "/healthz")[0] == 200


def test_health_check_reports_mixture_and_leaves_no_row(site: DemoSite) -> None:
    site.start_app()
    before = digests(site)
    assert ask(site.app_url + "/healthz")[0] == 200
    assert digests(site) == before
    apply_release(site.databases, assemble("3.3.0", site.root / "source"))
    status, body = ask(site.app_url + "/healthz")
    assert status == 503 and json.loads(body)["schema"] == "3.3.0"
    assert version_of(site).whole is None


def test_mail_is_sent_only_without_maintenance(tmp_path: Path) -> None:
    with DemoSite(tmp_path / "site", options=SiteOptions(cases=20)) as site:
        outbox = site.overlay / "icomm-outbox.jsonl"
        site.start_app()
        until(lambda: ask(site.app_url + "/cases", {})[0] == 201)
        until(lambda: outbox.exists() and outbox.read_bytes())
        site.maintenance_file.touch()
        sent = outbox.read_bytes()
        assert b"global-cen" in sent


def test_users_lose_no_acknowledged_record(site: DemoSite) -> None:
    site.start_app()
    site.start_front_door()
    site.start_traffic(pause_s=0.01)
    until(lambda: site.traffic_log.exists() and len(acknowledged(site.traffic_log)) > 5)
    site.stop_app()
    before = len(acknowledged(site.traffic_log))
    site.start_app()
    until(lambda: len(acknowledged(site.traffic_log)) > before + 5)
    summary = site.stop_traffic()
    references = acknowledged(site.traffic_log)
    assert summary["acknowledged"] == len(references)
    assert len(summary["outages"]) <= 1 or summary["refused"] > 0
    assert set(references) <= case_references(site.databases)["seizures"]


def test_outage_starts_with_the_first_refusal() -> None:
    tally = Tally()
    tally.accepted(100, 1)
    tally.rejected(101, 2, "ValueError: status 502")
    tally.rejected(102, 3, "TimeoutError: timed out")
    assert tally.accepted(105.0, 6.0) is not None
    tally.rejected(110, 11)
    summary = tally.summary(112.0, 13.0)
    assert (summary.acknowledged, summary.refused) == (2, 3)
    assert [o.seconds for o in summary.outages] == [4.0, 2.0]
    assert [o.reason for o in summary.outages] == ["ValueError: status 502", ""]
    assert summary.longest_outage_s == 4.0


@pytest.mark.parametrize(
    ("version", "status", "reported"), [("3.3.4", 503, "3.3.4"), ("3.3.5", 200, "3.2.9")]
)
def test_bad_applications_answer_as_declared(
    tmp_path: Path, version: str, status: int, reported: str
) -> None:
    options = SiteOptions(cases=0, icomm=False, version=version)
    with DemoSite(tmp_path / "site", options=options) as site:
        site.start_app()
        found, body = ask(site.app_url + "/healthz")
        assert (found, json.loads(body)["version"]) == (status, reported)


def test_release_turns_unhealthy_after_maintenance(tmp_path: Path) -> None:
    options = SiteOptions(cases=0, icomm=False, version="3.3.6")
    with DemoSite(tmp_path / "site", options=options) as site:
        site.maintenance_file.touch()
        site.start_app()
        assert ask(site.app_url + "/healthz")[0] == 200
        site.maintenance_file.unlink()
        until(lambda: ask(site.app_url + "/healthz")[0] == 503)


def test_postgresql_application_survives_a_database_rename(
    postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    place = PostgresPlace(str(postgres.host), prefix="site_")
    try:
        with DemoSite(tmp_path / "site", place, QUIET) as site:
            site.start_app()
            assert version_of(site).whole == "3.2.4"
            with psycopg.connect(postgres.conninfo(), autocommit=True) as connection:
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname LIKE 'site\\_%'"
                )
            assert ask(site.app_url + "/cases", {})[0] == 201
            assert ask(site.app_url + "/healthz")[0] == 200
    finally:
        with psycopg.connect(postgres.conninfo(), autocommit=True) as connection:
            for name in place.names.values():
                connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())
