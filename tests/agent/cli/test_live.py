"""Every command of the agent as a real process, against a site that runs."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ncen_updater.agent.cli.main import COMMANDS, run
from ncen_updater.agent.engine.operations import Operations
from ncen_updater.agent.model.event_names import JOURNAL_FILE
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.site_history import SiteHistory
from ncen_updater.common.messages import HELD
from ncen_updater.common.progress import SilentProgress
from tests.agent.cli.live import PROGRAM, LiveSite, live_site, wait_for
from tests.agent.cli.terminal_run import run_on_terminal
from tests.support.errors import refused
from tests.support.forks import DEADLINE_S
from tests.support.rotation import in_turns
from tests.support.sites import site_in_process

VERSIONS = ("3.2.4", "3.3.0", "3.3.1", "3.3.6", "3.3.7", "3.3.8")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveSite]:
    """A site that was taken over and runs 3.2.4; every test leaves it so."""
    with live_site(tmp_path_factory.mktemp("live"), VERSIONS, soak_s=0.3) as live:
        before = live.facts()
        refused = live.run("adopt", "9.9.9", "--json")
        assert refused.returncode == 1
        error = json.loads(refused.stdout)["error"]
        assert error["code"] == "NU-6019"
        assert "Run sudo ncen-updater adopt again." in error["state"]
        dry = live.run("adopt", "3.2.4", "--dry-run")
        assert dry.returncode == 0 and "would be compared" not in dry.stderr
        assert not (live.demo.state / JOURNAL_FILE).exists()
        assert live.run("adopt", "3.2.4").returncode == 0
        assert live.facts()[0] == before[0] == "3.2.4"
        yield live


@pytest.mark.parametrize(
    ("arguments", "exit_code", "code"),
    [
        (["adopt", "3.2.4"], 1, "NU-6017"),
        (["plan", "9.9.9"], 3, "NU-2202"),
        (["plan", "x"], 2, "NU-1104"),
        (["upgrade", "3.3.7", "--yes"], 3, "NU-6018"),
        (["upgrade", "3.3.8", "--yes"], 3, "NU-2203"),
        (["upgrade", "3.2.4", "--yes"], 3, "NU-2211"),
        (["upgrade", "3.3.0"], 2, "NU-1102"),
        (["upgrade", "9.9.9"], 3, "NU-2202"),
        (["upgrade", "--nonsense"], 2, "NU-1101"),
        (["rollback", "--yes"], 1, "NU-6014"),
        (["confirm"], 1, "NU-6016"),
        (["history", "zzzzzzzz"], 2, "NU-1106"),
        (["hold", "--reason", "x", "--until", "2020-01-01"], 2, "NU-1107"),
        (["nonsense"], 2, "NU-1101"),
    ],
)
def test_refused_commands_have_an_exit_code_and_a_document(
    site: LiveSite,
    arguments: list[str],
    exit_code: int,
    code: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = site.run(*arguments)
    assert (plain.returncode, plain.stdout) == (exit_code, "")
    for label in ("Error:", "State:", "What to do:", code):
        assert label in plain.stderr
    for name, value in site.environment().items():
        monkeypatch.setenv(name, value)
    assert run([*arguments, "--json"]) == exit_code  # in this process, which saves its start
    document = json.loads(capsys.readouterr().out)
    assert document["error"]["code"] == code
    assert document["error"]["state"]


def test_resume_of_a_whole_site_says_so(site: LiveSite) -> None:
    done = site.run("resume")
    assert (done.returncode, done.stdout) == (0, "No change in progress.\n")


@pytest.mark.parametrize(
    ("arguments", "exit_code", "keys"),
    [
        (["status"], 0, {"running", "journal", "feed"}),
        (["check"], 0, {"available", "hops", "checked_at"}),
        (["plan", "3.3.0"], 0, {"plan", "findings"}),
        (["plan", "3.3.0", "--sql"], 0, {"sql", "digest"}),
        (["upgrade", "3.3.0", "--dry-run"], 0, {"plan"}),
        (["resume"], 0, {"changes", "decision"}),
        (["resume", "--boot"], 0, {"decision"}),
        (["resume", "--dry-run"], 0, {"decision"}),
        (["history"], 0, {"changes"}),
        (["verify"], 0, {"as_recorded", "findings"}),
        (["doctor"], 0, {"healthy", "findings"}),
        (["unhold"], 0, {"lifted"}),
        (["--version"], 0, {"version"}),
    ],
)
def test_json_documents_have_their_keys(
    site: LiveSite, arguments: list[str], exit_code: int, keys: set[str]
) -> None:  # fmt: skip
    done = site.run(*arguments, "--json", "--quiet")
    assert (done.returncode, done.stderr) == (exit_code, "")
    assert keys <= json.loads(done.stdout).keys()


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help_is_in_french(site: LiveSite, name: str) -> None:
    done = site.run("--lang", "fr", *filter(None, [name]), "--help")
    assert done.returncode == 0
    assert done.stdout.startswith("Utilisation :")
    assert "Show this" not in done.stdout
    assert not re.search(r"\bprogress\b", done.stdout)


def test_plan_sql_prints_only_sql(site: LiveSite) -> None:
    out = site.run("plan", "3.3.0", "--sql").stdout
    assert out.startswith("-- 3.2.4 -> 3.3.0\n")
    assert "CREATE TABLE" in out


def test_hold_is_enforced_below_the_command_line(site: LiveSite) -> None:
    before = site.facts()
    assert site.run("hold", "--reason", "fair").returncode == 0
    try:
        for arguments in (["upgrade", "3.3.0"], ["upgrade", "3.3.0", "--yes"]):
            done = site.run(*arguments)
            assert (done.returncode, "fair" in done.stderr) == (5, True)
        with refused(HELD):
            Operations(site_in_process(site.demo), SilentProgress()).upgrade()
        assert site.facts() == before
    finally:
        assert "Removed: 1 hold" in site.run("unhold").stdout


def test_bad_release_is_reverted_and_marked_bad(site: LiveSite) -> None:
    before = site.facts()
    done = site.run("upgrade", "3.3.1", "--yes", "--json")
    assert done.returncode == 11
    error = json.loads(done.stdout)["error"]
    assert error["code"] == "NU-4006"
    assert "reverted; no data loss" in error["state"]
    assert "step failed" not in done.stderr.splitlines()  # the log is not for people
    assert site.facts() == before
    again = site.run("upgrade", "3.3.1", "--yes")
    assert again.returncode == 3
    assert "upgrade 3.3.1 --retry" in again.stderr
    assert "Marked bad: 3.3.1" in site.run("status").stdout


def test_release_that_fails_its_soak_is_rolled_back_with_a_reason(site: LiveSite) -> None:
    config = site.demo.config_path
    text = config.read_text()
    config.write_text(text.replace("seconds = 0.3", "seconds = 30.0"))
    try:
        done = site.run("upgrade", "3.3.6", "--yes", "--json")
    finally:
        config.write_text(text)
    assert done.returncode == 11
    error = json.loads(done.stdout)["error"]
    assert error["code"] == "NU-6009"
    assert "status 503" in error["values"]["problems"]
    assert site.facts()[0] == "3.2.4"


def test_unreachable_feed_and_altered_metadata_change_nothing(
    site: LiveSite, tmp_path: Path
) -> None:
    before = site.facts()
    away = tmp_path / "agent.toml"
    away.write_text(re.sub(r"urls = .*", 'urls = ["http://127.0.0.1:9/"]', site.config()))
    away.chmod(0o600)
    for arguments in (["check"], ["upgrade", "--yes"]):
        done = site.run(*arguments, "--json", NCEN_CONFIG_FILE=str(away))
        assert done.returncode == 7
        assert json.loads(done.stdout)["error"]["code"] == "NU-2102"
    timestamp = site.feed / "metadata" / "timestamp.json"
    signed = timestamp.read_bytes()
    timestamp.write_bytes(signed.replace(b'"version":', b'"version": 1'))
    try:
        assert site.run("check").returncode == 6
    finally:
        timestamp.write_bytes(signed)
    assert site.facts() == before


@in_turns("number")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_during_an_upgrade_leaves_the_site_consistent(
    site: LiveSite, number: signal.Signals
) -> None:
    before = site.facts()
    with site.started("upgrade", "3.3.0", "--yes", "--json") as process:
        wait_for(process, "migrating the databases")
        process.send_signal(number)
        out, _ = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 11
    assert json.loads(out)["error"]["code"] == "NU-6010"
    assert site.facts() == before
    assert site.demo.app_running()


def test_killed_upgrade_is_resumed_at_boot_and_by_command(site: LiveSite) -> None:
    before = site.facts()
    with site.started("upgrade", "3.3.0", "--yes") as process:
        wait_for(process, "migrating the databases")
        process.kill()
    shown = site.run("status")
    assert ", interrupted" in shown.stdout
    assert site.run("upgrade", "--yes").returncode == 9
    done = site.run("resume", "--boot", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["decision"]["action"] == "revert"
    assert not site.demo.app_running()  # left to the system
    site.demo.start_app()
    assert site.facts() == before
    assert site.run("verify").returncode == 0


@pytest.mark.parametrize("broken_off", [False, True])
def test_upgrade_and_rollback_are_confirmed_at_a_terminal(site: LiveSite, broken_off: bool) -> None:
    before = site.facts()
    config = site.demo.config_path
    text = config.read_text()
    config.write_text(text.replace("seconds = 0.3", "seconds = 600.0"))
    try:
        with site.started("upgrade", "3.3.0", "--yes", "--json") as process:
            wait_for(process, "soak period")
            if broken_off:
                process.send_signal(signal.SIGINT)
                out, _ = process.communicate(timeout=DEADLINE_S)
                assert process.returncode == 1
                error = json.loads(out)["error"]
                assert error["code"] == "NU-6010" and "soak period" in error["state"]
            assert site.run("confirm").returncode == 0
            if broken_off:
                done = site.run("resume", "--json")
                out, exit_code = done.stdout, done.returncode
            else:
                out, _ = process.communicate(timeout=DEADLINE_S)
                exit_code = process.returncode
    finally:
        config.write_text(text)
    assert exit_code == 0
    assert json.loads(out)["changes"][0]["state"] == "finished"
    assert site.facts()[0] == "3.3.0"
    assert "keeps all records" in site.run("rollback", "--dry-run").stdout
    assert site.run("rollback").returncode == 2  # a prompt without an answer
    other = site.run("rollback", "--yes", "--undoes", "aaaaaaaa")
    assert (other.returncode, "NU-6044" in other.stderr) == (3, True), other.stderr
    assert site.facts()[0] == "3.3.0"
    head, found, rest = text.partition("[service]\n")
    config.write_text(
        f"{head}[service]\nrequired_approvals = 2\n{rest}"
        if found
        else f"{text}\n[service]\nrequired_approvals = 2\n"
    )
    try:
        alone = site.run("rollback", "--yes")
        assert (alone.returncode, "NU-6056" in alone.stderr) == (4, True), alone.stderr
        assert "Missing approvals: 2" in site.run("rollback", "--dry-run").stdout
        assert site.facts()[0] == "3.3.0"
        back = site.run("rollback", "--yes", "--emergency", "--reason", "officers lose cases")
    finally:
        config.write_text(text)
    assert back.returncode == 0
    assert "finished" in back.stdout and "downtime:" in back.stdout
    assert site.facts()[0] == before[0]
    with Journal.open(site.demo.state / JOURNAL_FILE, read_only=True) as journal:
        assert "3.3.0" not in {row.version for row in SiteHistory(journal).list_bad_releases()}
        told = [event for event in journal.list_events() if event.kind == "emergency-rollback"]
        assert told[-1].get("reason") == "officers lose cases"
        begun = journal.list_events(change=journal.list_changes(1)[0].id)[0]
        assert told[-1].number + 1 == begun.number, "written down before anything is done"


def test_closed_output_pipe_changes_nothing(site: LiveSite) -> None:
    process = subprocess.Popen(
        [*PROGRAM, "plan", "3.3.0", "--json"],
        env=site.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=DEADLINE_S) == 0
    assert "Traceback" not in err and "BrokenPipe" not in err


def test_progress_is_redrawn_only_on_a_terminal(site: LiveSite) -> None:
    command = [*PROGRAM, "check"]
    exit_code, shown = run_on_terminal(command, site.environment())
    assert exit_code == 0
    assert "\r\x1b[K" in shown and "Available: ncen 3.3.7" in shown
    for refusal in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        plain = run_on_terminal(command, site.environment(**refusal))[1]
        assert "\x1b" not in plain
        assert "reading the metadata" in plain
    assert "\x1b" not in site.run("check").stderr


def test_plan_fits_a_terminal_and_lists_its_steps_on_request(site: LiveSite) -> None:
    short, whole = (site.run("plan", "3.3.0", *more).stdout for more in ((), ("--steps",)))
    plan = short.partition("Plan digest")[0]  # what was found on the site comes after it
    assert len(plan.splitlines()) < 24, short
    found = json.loads(site.run("plan", "3.3.0", "--json").stdout)["plan"]["steps"]
    listed = [line for line in whole.splitlines() if re.match(r" +\d+ [ *-] \S", line)]
    assert len(listed) == sum(step["runs"] for step in found) > 15
    assert whole.startswith(short.partition("To list the steps")[0])
    french = site.run("--lang", "fr", "plan", "3.3.0", "--steps").stdout
    assert "copie des bases de données" in french


def test_severity_is_coloured_only_on_a_terminal(site: LiveSite) -> None:
    command = [*PROGRAM, "plan", "3.3.0"]
    shown = run_on_terminal(command, site.environment())[1]
    assert "\x1b[33m[warning]\x1b[0m NU-" in shown
    assert "\x1b" not in run_on_terminal(command, site.environment(NO_COLOR="1"))[1]
    assert "\x1b" not in site.run("plan", "3.3.0").stdout


@in_turns("answer", "language")
@pytest.mark.parametrize(("answer", "language"), [("no", "en"), ("", "en"), ("non", "fr")])
def test_declined_prompt_starts_nothing(site: LiveSite, answer: str, language: str) -> None:
    before, history = site.facts(), site.run("history", "--json").stdout
    question = {"en": "Upgrade ncen to", "fr": "Mettre ncen"}[language]
    exit_code, shown = run_on_terminal(
        [*PROGRAM, "upgrade", "3.3.0", "--lang", language], site.environment(), {question: answer}
    )
    assert (exit_code, "NU-1103" in shown) == (4, True)
    assert "0002_v330" in shown.partition(question)[0]  # the plan was read first
    assert site.facts() == before
    assert site.run("history", "--json").stdout == history


def test_accepted_prompt_is_carried_out(site: LiveSite) -> None:
    before = site.facts()
    exit_code, shown = run_on_terminal(
        [*PROGRAM, "upgrade", "3.3.1", "--retry", "--lang", "fr"],
        site.environment(),
        {"Mettre ncen": "oui"},
    )
    assert (exit_code, "NU-4006" in shown) == (11, True)
    assert "Erreur" in shown
    assert site.facts() == before
