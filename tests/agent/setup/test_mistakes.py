"""Tests of mistakes in a setup: each is named with its remedy, and changes nothing.

What needs a booted Debian is tried by ``benchmarks.machine --parts mistakes``.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from ncen_updater.common.toml_writer import render_toml
from tests.agent.setup.site import AGENT, BareSite, bare_site, facts_of, files_of
from tests.agent.setup.test_setup import run
from tests.agent.setup.test_units import machine_with_units
from tests.support.activation import ACTIVATOR

Answers = dict[str, Any]
Mend = Callable[[], object]
#: Makes a mistake in the answers, or at the site; returns a function that corrects it.
Edit = Callable[[BareSite, Answers], Mend | None]
NOWHERE = "/nowhere/at-all"


@dataclass(frozen=True)
class Mistake:
    """One mistake.

    Attributes:
        what: Name of the row.
        edit: Makes it.
        code: Of the error; where a step failed, the code of its cause.
        helps: Text of the error that helps to correct it.
    """

    what: str
    edit: Edit
    code: str
    helps: str


def put(path: str, value: object) -> Edit:
    """Set an answer."""

    def edit(_: BareSite, answers: Answers) -> None:
        *tables, name = path.split(".")
        for table in tables:
            answers = answers.setdefault(table, {})
        answers[name] = value

    return edit


def no_feed(_: BareSite, answers: Answers) -> None:
    del answers["feed"]


def web_page_as_root(site: BareSite, answers: Answers) -> None:
    path = site.demo.root.parent / "root.html"
    path.write_text("<!DOCTYPE html><html><body>root.json")
    digest = sha256(path.read_bytes()).hexdigest()
    answers["trust"] = {"root": str(path), "fingerprint": digest}


def https_of_an_http_server(_: BareSite, answers: Answers) -> None:
    answers["feed"]["urls"] = [answers["feed"]["urls"][0].replace("http:", "https:")]


def two_names_of_one_database(site: BareSite, answers: Answers) -> None:
    names = dict(site.demo.databases.names)
    answers["databases"]["names"] = dict.fromkeys(names, next(iter(names.values())))


def role_of_the_application(_: BareSite, answers: Answers) -> None:
    answers["databases"]["user"] = answers["databases"]["owner"]


def one_approver_of_two(_: BareSite, answers: Answers) -> None:
    answers |= {"required_approvals": 2, "people": {"approvers": ["root"]}}


def open_password_file(site: BareSite, answers: Answers) -> None:
    path = site.demo.root.parent / "pgpass"
    path.write_text("*:*:*:ncen:secret\n")
    path.chmod(0o644)
    answers["databases"]["password_file"] = str(path)


def unused_health_address(_: BareSite, answers: Answers) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        answers["application"]["health_url"] = f"http://127.0.0.1:{free.getsockname()[1]}"


def stopped_application(site: BareSite, _: Answers) -> Mend:
    site.demo.stop_app()
    return site.demo.start_app


def broken_rules(site: BareSite, _: Answers) -> Mend:
    assert site.server is not None
    path = site.server.data / "pg_hba.conf"
    text = path.read_text()
    path.write_text(f"lokal all all peer\n{text}")
    return lambda: path.write_text(text)


def broken_web_server(site: BareSite, _: Answers) -> Mend:
    web, broken = site.demo.root / "etc/nginx/sites-enabled/ncen", site.demo.root / "broken"
    text = web.read_text()
    web.write_text(f"include nowhere;\n{text}")
    broken.touch()

    def mend() -> None:
        web.write_text(text)
        broken.unlink()

    return mend


def role_without_createdb(site: BareSite, _: Answers) -> Mend:
    site.ask("postgres", f"CREATE ROLE {AGENT} LOGIN")
    return lambda: site.ask("postgres", f"DROP ROLE {AGENT}")


def current_that_is_a_directory(site: BareSite, _: Answers) -> Mend:
    path = site.demo.root / "opt/ncen/current"
    path.mkdir(parents=True)

    def mend() -> None:
        path.rmdir()
        path.parent.rmdir()
        path.parent.parent.rmdir()

    return mend


def slot_with_other_files(site: BareSite, _: Answers) -> Mend:
    path = site.demo.root / "opt/ncen/slots/3.2.4/app.py"
    path.parent.mkdir(parents=True)
    path.write_text("print()")

    def mend() -> None:
        path.unlink()
        for place in list(path.parents)[:4]:
            place.rmdir()

    return mend


def full_disk(site: BareSite, _: Answers) -> Mend:
    place = site.demo.root / "var/lib/ncen-updater"
    place.mkdir(parents=True, exist_ok=True)
    words = ["mount", "-t", "tmpfs", "-o", "size=100k", "full", str(place)]
    if os.geteuid() != 0 or subprocess.run(words, check=False).returncode:
        pytest.skip("only root may mount a small disk")
    return lambda: subprocess.run(["umount", str(place)], check=True)


def names_turned_round(site: BareSite, answers: Answers) -> None:
    names = site.demo.databases.names
    answers["databases"]["names"] = {physical: logical for logical, physical in names.items()}


def closed_database(site: BareSite, answers: Answers) -> Mend:
    answers["databases"]["names"] = {**site.demo.databases.names, "suspects": "Suspects-2"}
    site.ask("postgres", 'CREATE DATABASE "Suspects-2" ALLOW_CONNECTIONS false')
    return lambda: site.ask("postgres", 'DROP DATABASE "Suspects-2"')


def control_database_of_others(site: BareSite, _: Answers) -> Mend:
    site.ask("postgres", "CREATE DATABASE ncen_updater")
    return lambda: site.ask("postgres", "DROP DATABASE ncen_updater")


def group_as_account(_: BareSite, answers: Answers) -> None:
    answers["people"] = {"operators": ["adm"]}


def dangling_slots(site: BareSite, _: Answers) -> Mend:
    path = site.demo.root / "opt/ncen/slots"
    path.parent.mkdir(parents=True)
    path.symlink_to(NOWHERE)

    def mend() -> None:
        path.unlink()
        path.parent.rmdir()
        path.parent.parent.rmdir()

    return mend


def read_only_settings(site: BareSite, _: Answers) -> Mend:
    place = site.demo.root / "etc"
    place.mkdir(exist_ok=True)
    words = ["mount", "-t", "tmpfs", "-o", "ro", "none", str(place)]
    if os.geteuid() != 0 or subprocess.run(words, check=False).returncode:
        pytest.skip("only root may mount a disk")
    return lambda: subprocess.run(["umount", str(place)], check=True)


def state_that_is_a_file(site: BareSite, _: Answers) -> Mend:
    path = site.demo.state
    aside = path.with_name("aside")
    path.rename(aside)
    path.write_text("")

    def mend() -> None:
        path.unlink()
        aside.rename(path)

    return mend


NAMES = {"seizure": "ncen_seizures", "suspects": "ncen_suspects", "companies": "ncen_companies"}
MISTAKES = (
    Mistake("site ID with a blank", put("site.id", "ke national"), "NU-1005", "letters, digits"),
    Mistake("site ID too long", put("site.id", "k" * 41), "NU-1005", "at most 40"),
    Mistake("country as a word", put("site.country", "Kenya"), "NU-1005", "ISO 3166"),
    Mistake("country in small letters", put("site.country", "ke"), "NU-1005", "capitals"),
    Mistake("country that ISO calls otherwise", put("site.country", "UK"), "NU-1005",
            "unknown country UK. Use an ISO 3166 code"),
    Mistake("table misspelt", put("peeple", {"operators": []}), "NU-1005", "mean people"),
    Mistake("setting misspelt", put("people.operater", ["root"]), "NU-1005", "mean operators"),
    Mistake("schema of tomorrow", put("schema", 2), "NU-1005", "Use one of: 1"),
    Mistake("time zone", put("service", {"timezone": "Nairobbi"}), "NU-1005", "service is not"),
    Mistake("feed without a scheme", put("feed.urls", ["updates.example.org"]), "NU-1005",
            "Begin with http"),
    Mistake("feed as a text", put("feed.urls", "https://a.example"), "NU-1005", "Write a list"),
    Mistake("no feed", no_feed, "NU-1005", "feed is missing"),
    Mistake("feed unreachable", put("feed.urls", ["http://127.0.0.1:9/"]), "NU-2102",
            "http://127.0.0.1:9/"),
    Mistake("https of an http server", https_of_an_http_server, "NU-2103",
            "Check https:// in the feed URL"),
    Mistake("fingerprint too short", put("trust.fingerprint", "ab12"), "NU-1005", "eight words"),
    Mistake("words of another root", put("trust.fingerprint", "babab " * 8), "NU-1204",
            "Call the Secretariat"),
    Mistake("fingerprint of another root", put("trust.fingerprint", "0" * 64), "NU-1204",
            "Call the Secretariat"),
    Mistake("no file of the root", put("trust.root", NOWHERE), "NU-1223", NOWHERE),
    Mistake("web page saved as the root", web_page_as_root, "NU-1223", "not a root of TUF"),
    Mistake("no account of an operator", put("people.operators", ["nobody-such"]), "NU-1224",
            "adduser nobody-such"),
    Mistake("account in capitals", put("people.operators", ["Amina"]), "NU-1005", "accounts"),
    Mistake("no account of the application", put("application.user", "ncen-app"), "NU-1224",
            "adduser ncen-app"),
    Mistake("setting of the account", put("application.user", "ncen-app"), "NU-1224",
            "ncen-app (application.user) does not exist"),
    Mistake("group as an account", group_as_account, "NU-1224", "adm is a group"),
    Mistake("groups that do not exist", put("people.operators", ["root"]), "NU-1225",
            "systemd-sysusers"),
    Mistake("two approvals, one approver", one_approver_of_two, "NU-1005", "second account"),
    Mistake("three approvals", put("required_approvals", 3), "NU-1005", "at most 2"),
    Mistake("hour 25", put("windows", [{"start": "25:00", "end": "04:00"}]), "NU-1005", "22:00"),
    Mistake("window without an end", put("windows", [{"start": "22:00"}]), "NU-1005", "end is"),
    Mistake("day in French", put("windows", [{"days": ["mardi"], "start": "22:00", "end": "4:00"}]),
            "NU-1005", "'tue'"),
    Mistake("day in full", put("windows", [{"days": ["sunday"], "start": "22:00", "end": "04:00"}]),
            "NU-1005", "1 error"),
    # Seen: such a window was open the whole day.
    Mistake("window without duration", put("windows", [{"start": "22:00", "end": "22:00"}]),
            "NU-1005", "start and end are equal"),
    Mistake("window that is no list", put("windows", {"start": "22:00", "end": "04:00"}), "NU-1005",
            "in square brackets"),
    Mistake("engine misspelt", put("databases.engine", "postgres"), "NU-1005", "'postgresql'"),
    Mistake("no role of this owner", put("databases.owner", "ncen_prod"), "NU-1202", "ncen_prod"),
    Mistake("no such database", put("databases.names", {"seizures": "ncen_seizure"}), "NU-1202",
            "ncen_seizure"),
    Mistake("database as the role", put("databases.owner", "ncen_suspects"), "NU-1202",
            "with their owners: ncen_companies ("),
    Mistake("names of databases turned round", names_turned_round, "NU-1202", "ncen_suspects ("),
    Mistake("database without connections", closed_database, "NU-1215",
            'ALTER DATABASE "Suspects-2" ALLOW_CONNECTIONS true'),
    Mistake("control database of another role", control_database_of_others, "NU-1215",
            "ncen_updater, which ncen-updater creates, belongs to role postgres"),
    Mistake("two names of one database", two_names_of_one_database, "NU-1005",
            "two names refer to the same database. See"),
    # Seen: setup changed the logins of this role, and locked the administrators out.
    Mistake("role of the administrators", put("databases.user", "postgres"), "NU-1202", "postgres"),
    Mistake("role of the application", role_of_the_application, "NU-1202", "databases.user"),
    Mistake("name that the release has not", put("databases.names", NAMES), "NU-6061", "seizure"),
    Mistake("PostgreSQL elsewhere", put("databases.host", NOWHERE), "NU-1202", NOWHERE),
    Mistake("PostgreSQL by a host name", put("databases.host", "localhost"), "NU-1005", "socket"),
    Mistake("unused port", put("databases.port", 5999), "NU-1202", "5999"),
    Mistake("no password file", put("databases.password_file", NOWHERE), "NU-1005", NOWHERE),
    Mistake("password file that all can read", open_password_file, "NU-1005", "chmod 600"),
    Mistake("no pg_dump", put("databases.bin_directory", "/etc"), "NU-4108", "client programs"),
    Mistake("unused health URL", unused_health_address, "NU-1226", "health URL"),
    Mistake("health URL without a scheme", put("application.health_url", "127.0.0.1:8080"),
            "NU-1005", "Begin with http"),
    Mistake("health path that is not there", put("application.health_path", "/nowhere"),
            "NU-1226", "status 404"),
    Mistake("version field that is not there", put("application.version_field", "release"),
            "NU-1226", "field 'release' missing"),
    Mistake("application that does not run", stopped_application, "NU-1226", "Start"),
    Mistake("adapter misspelt", put("application.adapter", "commands"), "NU-1005", "'command'"),
    Mistake("no unit", put("application.adapter", "systemd"), "NU-1202", "application.unit"),
    Mistake("no directory of the maintenance file",
            put("application.maintenance_file", "srv/nowhere/file"), "NU-1005", "srv/nowhere"),
    Mistake("version with a v", put("version", "v3.2.4"), "NU-1005", "such as 3.2.4"),
    Mistake("version that the feed has not", put("version", "9.9"), "NU-6019", "9.9"),
    Mistake("line of pg_hba.conf broken before", broken_rules, "NU-1215", 'type "lokal"'),
    Mistake("role of the agent without CREATEDB", role_without_createdb, "NU-4001",
            "permission denied to create database"),
    Mistake("'current' is a directory", current_that_is_a_directory, "NU-3201", "ncen/current"),
    Mistake("slot with other files", slot_with_other_files, "NU-3205", "slots/3.2.4"),
    Mistake("'slots' leads nowhere", dangling_slots, "NU-1206", f"link to {NOWHERE}"),
    Mistake("read-only /etc", read_only_settings, "NU-1206", "Read-only file system"),
    Mistake("state directory is a file", state_that_is_a_file, "NU-1206", "Not a directory"),
    Mistake("disk full", full_disk, "NU-3101", "Free at least"),
)  # fmt: skip
OF_UNITS = (
    Mistake("no such unit", put("application.unit", "nosuch.service"), "NU-1202", "nosuch"),
    Mistake("no such unit of a part",
            put("application.parts", [{"name": "mail", "unit": "nosuch.service"}]), "NU-1202",
            "nosuch"),
    Mistake("file of nginx broken before", broken_web_server, "NU-1214", "nginx -t"),
)  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BareSite]:
    with bare_site(tmp_path_factory.mktemp("mistakes"), with_postgres=True) as made:
        yield made


@pytest.fixture(scope="module")
def machine() -> Iterator[BareSite]:
    if ACTIVATOR is None:
        pytest.skip("systemd-socket-activate is not installed")
    with (
        tempfile.TemporaryDirectory(prefix="nu-") as directory,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("PATH", f"{directory}/bin:{os.environ['PATH']}")
        with machine_with_units(Path(directory)) as made:
            yield made


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.what)
def test_mistake_changes_nothing(site: BareSite, mistake: Mistake) -> None:
    require_harmless(site, mistake)


@pytest.mark.parametrize("mistake", OF_UNITS, ids=lambda mistake: mistake.what)
def test_unit_mistake_changes_nothing(machine: BareSite, mistake: Mistake) -> None:
    require_harmless(machine, mistake)


def look_at_files(site: BareSite) -> dict[str, object]:
    found = dict(files_of(site.demo.root))
    if site.server is not None:
        found |= {
            name: facts_of(site.server.data / name) for name in ("pg_hba.conf", "pg_ident.conf")
        }
    return found


def require_harmless(site: BareSite, mistake: Mistake) -> None:
    answers = json.loads(json.dumps({"schema": 1, **site.answers}))
    mend = mistake.edit(site, answers)
    # Where no step was begun, the databases cannot have changed.
    look = look_at_files if mistake.code.startswith("NU-1") else BareSite.look
    try:
        before = look(site)
        path = site.demo.root.parent / "setup.toml"
        path.write_text(render_toml(answers))
        failed = run(site, "--answers", str(path), "--yes")
        assert failed.returncode != 0
        assert mistake.code in failed.stderr, failed.stderr
        assert mistake.helps in failed.stderr
        assert ("Nothing was changed" in failed.stderr) is ("Setup failed" not in failed.stderr)
        assert "Setup failed" not in failed.stderr or "All changes were undone" in failed.stderr
        assert look(site) == before
    finally:
        if mend is not None:
            mend()
