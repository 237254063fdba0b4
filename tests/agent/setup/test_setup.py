"""Tests of a whole setup on real servers and its undo: files byte for byte, databases unchanged."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ncen_updater.agent.cli import main
from ncen_updater.agent.setup import server_files
from ncen_updater.agent.setup.record import SetupPhase, SetupRecord
from ncen_updater.agent.setup.server_files import LoginLines
from ncen_updater.common.messages import SETUP_STEP_FAILED, SETUP_UNDO_FAILED, ExitCode
from tests.agent.setup.site import AGENT, VERSION, BareSite, bare_site
from tests.support.errors import refused
from tests.support.forks import run_agent
from tests.support.kill_points import changes_of, killed_at
from tests.support.rotation import seed

#: Kills on real servers in each direction; more by the environment, for a longer trial.
KILLS = int(os.environ.get("NCEN_SETUP_KILLS", "1"))


@pytest.fixture(params=["postgresql", "sqlite"], scope="module")
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[BareSite]:
    directory = tmp_path_factory.mktemp(request.param)
    with bare_site(directory, with_postgres=request.param == "postgresql") as made:
        yield made


def run(
    site: BareSite, *words: str, config: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """The command, as an administrator types it."""
    kept = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}
    words = ("setup", "--root", str(site.demo.root), *words)
    words = words if config is None else ("--config", str(config), *words)
    return run_agent(*words, environment={**kept, "LANG": "C.UTF-8"})


def differences(site: BareSite, before: dict[str, object]) -> set[str]:
    """What is not as it was."""
    after = site.look()
    return {name for name in before | after if before.get(name) != after.get(name)}


def is_set_up(site: BareSite) -> bool:
    """Whether all of it is there."""
    current = site.demo.root / "opt/ncen/current"
    return (
        site.record().phase is SetupPhase.DONE
        and current.readlink() == Path("slots", VERSION)
        and site.demo.config_path.is_file()
    )


def test_setup_and_undo_restore_the_site(site: BareSite) -> None:
    before = site.look()
    answers = str(site.write_answers())
    shown = run(site, "--answers", answers, "--dry-run")
    assert shown.returncode == 0, shown.stderr
    assert differences(site, before) == set()
    for expected in (f"adopt {VERSION}", 'country = "KE"', "Fingerprint"):
        assert expected in shown.stdout
    if site.server is not None:
        for expected in (f"CREATE ROLE {AGENT!r}".replace("'", '"'), "+ncen_updater "):
            assert expected in shown.stdout
    if site.server is not None:
        assert f"free in {site.server.data}; files can" in shown.stdout
        assert "database copies: " in shown.stdout
    assert run(site, "--answers", answers).returncode == 2  # no prompt is possible
    assert differences(site, before) == set()

    done = run(site, "--answers", answers, "--yes", "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, found.get("state")) == (0, "done"), done.stdout + done.stderr
    assert found["doctor"]["healthy"]
    assert is_set_up(site)
    again = run(site, "--answers", answers, "--yes", "--json")
    assert json.loads(again.stdout)["error"]["code"] == "NU-1205"

    shown = run(site, "--undo", "--dry-run")
    assert (shown.returncode, f"Undo: adopt {VERSION}" in shown.stdout) == (0, True), shown.stderr
    assert is_set_up(site)
    undone = run(site, "--undo", "--yes")
    assert undone.returncode == 0, undone.stderr
    assert differences(site, before) == set()
    nothing = run(site, "--undo", "--yes", "--json")
    assert json.loads(nothing.stdout)["error"]["code"] == "NU-1213"


def test_feed_that_is_lost_after_the_adoption_is_told(
    site: BareSite, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (url,) = site.answers["feed"]["urls"]
    apply = SetupRecord.apply
    kept: list[bytes] = []

    def apply_and_lose(record: SetupRecord, *given: Any) -> None:
        apply(record, *given)
        written = site.demo.config_path.read_bytes()
        kept.append(written)
        site.demo.config_path.write_bytes(written.replace(url.encode(), b"http://127.0.0.1:1"))

    monkeypatch.setattr(SetupRecord, "apply", apply_and_lose)
    words = ["setup", "--root", str(site.demo.root), "--answers", str(site.write_answers())]
    code, shown = main.run([*words, "--yes"]), capsys.readouterr().out
    assert (code, is_set_up(site)) == (ExitCode.BLOCKED, True)
    assert "Setup is complete, but the feed cannot be read" in shown
    assert "then run: ncen-updater check" in shown
    assert "No problem blocks an upgrade" not in shown
    site.demo.config_path.write_bytes(kept[0])
    site.undo()


def test_undo_empties_the_packaged_slots_directory(site: BareSite) -> None:
    slots = site.demo.root / "opt/ncen/slots"
    slots.mkdir(parents=True)
    site.apply()
    assert is_set_up(site)
    site.undo()
    assert list(slots.iterdir()) == []


def test_killed_setup_is_recovered_on_real_servers(site: BareSite) -> None:
    before = site.look()
    chance = random.Random(seed())
    last = changes_of(site.apply)
    back = changes_of(site.undo)
    assert differences(site, before) == set()
    for number in range(KILLS):
        assert killed_at(chance.randint(1, last), site.apply)
        if number % 2 == 0:
            assert run(site, "--yes", *_again(site)).returncode == 0
            assert is_set_up(site)
        _undo(site)
        assert differences(site, before) == set()
        site.apply()
        assert killed_at(chance.randint(1, back), site.undo)
        _undo(site)
        assert differences(site, before) == set()


def test_continued_setup_lists_manual_steps(site: BareSite) -> None:
    left = [line.render() for line in site.plan().by_hand]
    assert left
    last = changes_of(site.apply)
    site.undo()
    assert killed_at(last // 2, site.apply)
    done = run(site, "--yes", "--json", *_again(site))
    assert json.loads(done.stdout)["by_hand"] == left
    _undo(site)


def test_dry_run_of_an_interrupted_setup_changes_nothing(site: BareSite) -> None:
    before = site.look()
    last = changes_of(site.apply)
    site.undo()
    assert killed_at(last // 2, site.apply)
    there = site.look()
    shown = run(site, "--dry-run", "--json")
    assert (shown.returncode, json.loads(shown.stdout)["state"]) == (0, "interrupted")
    assert differences(site, there) <= {"var/lib/ncen-updater/setup/lock"}
    _undo(site)
    assert differences(site, before) == set()


def test_interrupted_setup_preserves_its_configuration(site: BareSite) -> None:
    before = site.look()
    last = changes_of(site.apply)
    site.undo()
    assert killed_at(last // 2, site.apply)
    there = site.look()
    other = site.demo.root / "etc/other.toml"
    for words in ((), ("--undo",)):
        failed = run(site, *words, "--yes", "--json", config=other)
        assert json.loads(failed.stdout)["error"]["code"] == "NU-1219"
    assert differences(site, there) == set()
    undone = run(site, "--undo", "--yes", config=site.demo.config_path)
    assert undone.returncode == 0, undone.stderr
    assert differences(site, before) == set()


def test_configuration_under_another_name_is_found_again(site: BareSite) -> None:
    before = site.look()
    config = site.demo.root / "etc/other.toml"
    done = run(site, "--answers", str(site.write_answers()), "--yes", "--json", config=config)
    assert done.returncode == 0, done.stdout + done.stderr
    assert config.is_file()
    assert site.record().config == config
    undone = run(site, "--undo", "--yes")
    assert undone.returncode == 0, undone.stderr
    assert differences(site, before) == set()


@pytest.mark.parametrize("words", [(), ("--undo",), ("--dry-run",)])
def test_setup_of_the_running_machine_needs_root(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ncen_updater.agent.cli.setup.os.geteuid", lambda: 1000)
    assert main.run(["setup", *words, "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "NU-1201"


def _again(site: BareSite) -> tuple[str, ...]:
    """Answers, where the setup was killed before anything was written down."""
    begun = site.record().phase is not SetupPhase.NONE
    return () if begun else ("--answers", str(site.write_answers()))


def _undo(site: BareSite) -> None:
    undone = run(site, "--undo", "--yes")
    assert undone.returncode == 0 or "NU-1213" in undone.stderr, undone.stderr


def test_release_missing_in_the_feed_is_reported(site: BareSite) -> None:
    before = site.look()
    answers = str(site.write_answers('version = "9.9"'))
    failed = run(site, "--answers", answers, "--yes", "--json")
    error = json.loads(failed.stdout)["error"]
    assert (error["code"], error["values"]["cause"]) == ("NU-1208", "NU-6019")
    assert differences(site, before) == set()


def test_reload_that_locks_out_the_application_is_reverted(
    site: BareSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    if site.server is None:
        pytest.skip("SQLite has no logins")
    before = site.look()

    def shut(agent: str, owner: str, *_: object, user: str) -> LoginLines:
        return LoginLines((f"ours {user} {agent}",), (f"local all {owner} peer map=ours",))

    monkeypatch.setattr("ncen_updater.agent.setup.plan.make_login_lines", shut)
    with refused(SETUP_STEP_FAILED) as caught:
        site.apply()
    assert caught.value.values["cause"] == "NU-1209"
    assert differences(site, before) == set()
    monkeypatch.undo()
    assert server_files.make_login_lines is not shut


@pytest.mark.parametrize(
    ("line", "changed", "code", "place"),
    [
        ('country = "KE"', 'country = "Kenya"', "NU-1005", "site.country"),
        ('id = "ke-national"', 'idd = "ke-national"', "NU-1005", "site.idd"),
        ("fingerprint = ", 'fingerprint = "12"#', "NU-1005", "trust.fingerprint"),
        ("fingerprint = ", f'fingerprint = "{"0" * 64}"#', "NU-1204", ""),
        ("schema = 1", "schema = 2", "NU-1005", "schema"),
        ("[feed]", "[feed", "NU-1004", ""),
        ("health_url = ", 'health_url = "127.0.0.1"#', "NU-1005", "application.health_url"),
        ("root = ", 'root = "/nowhere/root.json"#', "NU-1223", ""),
    ],
)
def test_mistaken_answers_are_named_and_change_nothing(
    site: BareSite, line: str, changed: str, code: str, place: str
) -> None:
    before = site.look()
    answers = site.write_answers()
    text = answers.read_text("utf-8")
    assert line in text
    answers.write_text(text.replace(line, changed, 1), "utf-8")
    failed = run(site, "--answers", str(answers), "--yes", "--json")
    error = json.loads(failed.stdout)["error"]
    assert error["code"] == code
    mistakes = error["values"].get("mistakes", [])
    assert place in {"", *(mistake["setting"] for mistake in mistakes)}
    assert differences(site, before) == set()


def test_configuration_secrets_are_masked(site: BareSite) -> None:
    answers = site.write_answers()
    text = answers.read_text("utf-8").replace(
        "[feed]", '[feed]\nproxy = "http://user:very-secret@proxy:3128"', 1
    )
    table = "[application.environment]\n"
    more = 'TOKEN = \'quo"ted\\secret\'\nLONGER = "very-secret-too"\n'
    text = text.replace(table, table + more, 1)
    answers.write_text(text, "utf-8")
    shown = run(site, "--answers", str(answers), "--dry-run", "--json")
    assert shown.returncode == 0, shown.stderr
    for part in ("very-secret", "ted", "-too"):
        assert part not in shown.stdout + shown.stderr, part
    assert "@proxy:3128" in shown.stdout


def test_site_files_directory_is_unchanged(tmp_path: Path) -> None:
    with bare_site(tmp_path, with_postgres=False, plain=True) as site:
        in_use = site.look()
        failed = run(site, "--answers", str(site.write_answers()), "--yes", "--json")
        error = json.loads(failed.stdout)["error"]
        assert (error["code"], error["values"]["cause"]) == ("NU-1208", "NU-4003")
        assert differences(site, in_use) == set()

        site.demo.stop_app()
        before = site.look()
        apply = partial(site.apply, site.write_answers(f'version = "{VERSION}"'))
        last = changes_of(apply)
        site.undo()
        assert differences(site, before) == set()
        for instant in range(last - 60, last + 1, 15):  # from the directory to the journal
            assert killed_at(instant, apply)
            site.undo()
            assert differences(site, before) == set(), instant


def test_undo_never_removes_adopted_databases(tmp_path: Path) -> None:
    with bare_site(tmp_path, with_postgres=False, plain=True) as site:
        site.demo.stop_app()
        site.apply(site.write_answers(f'version = "{VERSION}"'))
        live = site.demo.root / "srv/ncen/databases/live"
        files = sorted(path.name for path in live.iterdir())
        live.unlink()  # where an undo was killed
        live.mkdir()  # by an application that starts then
        with refused(SETUP_UNDO_FAILED):
            site.undo()
        assert sorted(path.name for path in (live.parent / "sets/base").iterdir()) == files


def test_undo_keeps_directories_that_were_there(tmp_path: Path) -> None:
    """The slot that was adopted in place, and what lay beside the databases."""
    with bare_site(tmp_path, with_postgres=False, plain=True) as site:
        site.demo.stop_app()
        sets = site.demo.root / "srv/ncen/databases/sets"
        sets.mkdir()
        (sets / "of-theirs").touch()
        slots = site.demo.root / "opt/ncen/slots"
        shutil.copytree(site.demo.root / "srv/old" / VERSION, slots / VERSION, symlinks=True)
        site.demo.current = slots / VERSION
        before = {str(path) for path in site.demo.root.rglob("*")}
        site.apply(site.write_answers(f'version = "{VERSION}"'))
        assert (sets / "base").is_dir()
        site.undo()
        assert {str(path) for path in site.demo.root.rglob("*")} == before
