"""Tests of an application with its own system user: its logins, and group members."""

from __future__ import annotations

import dataclasses
import grp
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ncen_updater.agent.adapters.databases.postgresql.connection import ADMITS
from ncen_updater.agent.setup.facts import Cluster, HbaRule, SiteFacts, survey_cluster
from ncen_updater.agent.setup.machine import Machine, ServerAddress, find_server
from ncen_updater.agent.setup.plan import open_databases
from ncen_updater.agent.setup.proposal import make_proposal
from ncen_updater.agent.setup.record import SetupRecord
from ncen_updater.agent.setup.steps import (
    FileStep,
    MembersStep,
    RoleStep,
    ServerStep,
    SetupStep,
    try_role,
)
from ncen_updater.common.messages import (
    SETUP_FILE_UNSAFE,
    SETUP_LOGIN_BROKEN,
    SETUP_LOGINS_DIFFER,
    SETUP_STEP_FAILED,
)
from ncen_updater.common.progress import SilentProgress
from tests.agent.setup.site import CATALOGUE, facts_of, running_as_debian
from tests.support.errors import refused
from tests.support.system_users import create_users

root_alone = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root becomes the application's user"
)
AGENT, OWNER = "setup_agent", "daemon"


@pytest.fixture(scope="module")
def server() -> Iterator[ServerAddress]:
    """A server as Debian has it, with the database of a role that is a system user, too."""
    with running_as_debian() as made:
        address = find_server(str(made.host), made.port)
        assert address is not None
        address.query([f"CREATE ROLE {OWNER} LOGIN", f"CREATE DATABASE ncen_cases OWNER {OWNER}"])
        yield address


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A world-readable directory."""
    with tempfile.TemporaryDirectory(prefix="nu-") as place:
        Path(place).chmod(0o755)
        yield Path(place)


def steps(cluster: Cluster, user: str | None = OWNER) -> list[SetupStep]:
    """What opens the databases to the agent."""
    found = make_proposal(SiteFacts(clusters=(cluster,)), "ncen")
    assert (found.owner, dict(found.names)) == (OWNER, {"cases": "ncen_cases"})
    return list(open_databases(cluster, OWNER, ["ncen_cases"], AGENT, user))


def look(server: ServerAddress, cluster: Cluster) -> list[object]:
    files = [facts_of(Path(name)) for name in (cluster.hba_file, cluster.ident_file)]
    return [*files, *server.query(CATALOGUE)]


def answer(server: ServerAddress, role: str, user: str | None) -> str | None:
    return try_role(server, role, user, "ncen_cases")[0]


def test_setup_does_not_depend_on_settings_of_the_superuser(server: ServerAddress) -> None:
    alter = f"ALTER ROLE {server.superuser}"
    server.query([
        f"{alter} SET datestyle = 'German'", f"{alter} SET default_transaction_read_only = on"
    ])  # fmt: skip
    try:
        ((loaded,),), _, _ = server.query(
            ["SELECT pg_conf_load_time()", "CREATE ROLE setup_tried", "DROP ROLE setup_tried"]
        )
        assert loaded.startswith("20")
    finally:
        server.query(["SET default_transaction_read_only = off", f"{alter} RESET ALL"])


@root_alone
def test_logins_keep_working_and_root_gains_both_roles(
    server: ServerAddress, tmp_path: Path
) -> None:
    cluster = survey_cluster(server)
    before = look(server, cluster)
    assert answer(server, OWNER, OWNER) in ADMITS
    assert answer(server, OWNER, None) not in ADMITS
    record = SetupRecord(Machine(tmp_path), tmp_path / "state")
    record.apply(SilentProgress(), steps(cluster))
    assert answer(server, OWNER, OWNER) == "00000"
    assert answer(server, OWNER, None) == "00000"
    assert answer(server, AGENT, None) == "00000"
    assert answer(server, OWNER, "bin") == answer(server, AGENT, OWNER) == "28000"
    record.undo(SilentProgress())
    assert look(server, cluster) == before
    assert answer(server, OWNER, OWNER) == "00000"
    assert answer(server, OWNER, None) == "28000"
    assert not (tmp_path / "state").exists()


@root_alone
@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        (f"ncen_updater {OWNER} {OWNER}\n", ""),  # the application's own line
        ("ncen_updater root setup_agent\n", ""),
    ],
)
def test_reload_that_breaks_a_login_is_reverted(
    server: ServerAddress, tmp_path: Path, wrong: str, right: str
) -> None:
    cluster = survey_cluster(server)
    before = look(server, cluster)
    broken = [
        dataclasses.replace(step, content=step.content.replace(wrong, right))
        if isinstance(step, FileStep)
        else step
        for step in steps(cluster)
    ]
    record = SetupRecord(Machine(tmp_path), tmp_path / "state")
    with refused(SETUP_STEP_FAILED) as caught:
        record.apply(SilentProgress(), broken)
    assert caught.value.values["cause"] == "NU-1209"
    assert look(server, cluster) == before
    assert answer(server, OWNER, OWNER) == "00000"


def test_login_method_differing_between_databases_is_refused(server: ServerAddress) -> None:
    cluster = survey_cluster(server)
    other = dataclasses.replace(cluster.databases[0], name="ncen_mail")
    rule = HbaRule(0, "local", ("ncen_mail",), ("all",), "scram-sha-256")
    cluster = dataclasses.replace(
        cluster, databases=(*cluster.databases, other), rules=(rule, *cluster.rules)
    )
    with refused(SETUP_LOGINS_DIFFER) as caught:
        list(open_databases(cluster, OWNER, ["ncen_cases"], AGENT, OWNER))
    assert caught.value.values["databases"] == "ncen_cases (peer), ncen_mail (scram-sha-256)"


def test_undo_restores_and_reloads_the_server_files(server: ServerAddress) -> None:
    loaded = "SELECT pg_conf_load_time()"
    machine, nobody = Machine(Path("/nowhere")), [["nobody", None, "postgres", "00000"]]
    for before_files in (False, True):
        (((before,),),) = server.query([loaded])
        step = ServerStep(dataclasses.asdict(server), nobody, before_files=before_files)
        step.undo(machine, {})
        assert (server.query([loaded]) != [[[before]]]) is before_files


def test_login_that_fails_before_any_change_stops_setup(
    server: ServerAddress, tmp_path: Path
) -> None:
    cluster = survey_cluster(server)
    before = look(server, cluster)
    planned = [
        dataclasses.replace(step, logins=[[OWNER, None, "not there", "00000"]])
        if isinstance(step, ServerStep)
        else step
        for step in steps(cluster, None)
    ]
    record = SetupRecord(Machine(tmp_path), tmp_path / "state")
    with refused(SETUP_STEP_FAILED) as caught:
        record.apply(SilentProgress(), planned)
    assert caught.value.values["cause"] == SETUP_LOGIN_BROKEN.code
    assert look(server, cluster) == before
    assert not (tmp_path / "state").exists()


def test_line_that_the_server_cannot_read_is_reverted(
    server: ServerAddress, tmp_path: Path
) -> None:
    cluster = survey_cluster(server)
    before = look(server, cluster)
    broken = [
        dataclasses.replace(step, content=f"nonsense\n{step.content}")
        if isinstance(step, FileStep) and step.path == cluster.hba_file
        else step
        for step in steps(cluster, None)
    ]
    record = SetupRecord(Machine(tmp_path), tmp_path / "state")
    with refused(SETUP_STEP_FAILED) as caught:
        record.apply(SilentProgress(), broken)
    assert caught.value.values["cause"] == "NU-1215"
    assert look(server, cluster) == before


def test_existing_role_and_grants_are_preserved(server: ServerAddress) -> None:
    server.query([f"CREATE ROLE {AGENT} LOGIN", f"GRANT pg_signal_backend TO {AGENT}"])
    try:
        before = server.query(CATALOGUE)
        step = RoleStep(
            dataclasses.asdict(server), AGENT, ("pg_signal_backend", "pg_read_all_stats")
        )
        machine = Machine(Path("/nowhere"))
        seen = step.capture(machine)
        step.do(machine, seen)
        step.do(machine, seen)
        assert server.query(CATALOGUE) != before
        step.undo(machine, seen)
        step.undo(machine, seen)
        assert server.query(CATALOGUE) == before
    finally:
        server.query([f"DROP ROLE {AGENT}"])


@root_alone
def test_file_of_another_user_cannot_redirect_root(open_directory: Path) -> None:
    secret, place = open_directory / "secret", open_directory / "theirs"
    secret.write_text("root's alone")
    secret.chmod(0o600)
    place.mkdir()
    link = place / "pg_hba.conf"
    link.symlink_to(secret)
    os.chown(place, 1, 1)
    os.lchown(link, 1, 1)
    with refused(SETUP_FILE_UNSAFE):
        FileStep(str(link), "x", identity=(1, 1)).read()
    link.unlink()
    link.write_text("x")
    os.chown(link, 1, 1)
    step = FileStep(str(link), "y", "x", identity=(1, 1))
    machine = Machine(open_directory)
    seen = step.capture(machine)
    os.chown(place, 0, 0)  # not theirs to write any more: root must not write in their place
    with pytest.raises(PermissionError):
        step.do(machine, seen)
    assert (link.read_text(), os.geteuid()) == ("x", 0)


@root_alone
def test_only_added_members_are_removed(tmp_path: Path) -> None:
    with create_users({"nu-setup-a": "nu-setup", "nu-setup-b": "nu-setup"}):
        machine = Machine(tmp_path)
        machine.require(("gpasswd", "--add", "nu-setup-a", "nu-setup"))
        before = Path("/etc/group").read_text()
        step = MembersStep("nu-setup", ("nu-setup-a", "nu-setup-b"))
        seen = step.capture(machine)
        step.do(machine, seen)
        assert sorted(grp.getgrnam("nu-setup").gr_mem) == ["nu-setup-a", "nu-setup-b"]
        step.undo(machine, seen)
        assert grp.getgrnam("nu-setup").gr_mem == ["nu-setup-a"]
        assert Path("/etc/group").read_text() == before
