from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import select
import signal
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ncen_updater.agent.adapters.application.command import CommandApplication
from ncen_updater.agent.adapters.application.maintenance import MaintenanceFile, MaintenanceNote
from ncen_updater.agent.adapters.application.process import (
    TAIL_BYTES,
    build_minimal_environment,
    run_command,
)
from ncen_updater.agent.adapters.application.systemd import SystemdApplication
from ncen_updater.agent.config.agent_config import ApplicationSettings, PartSettings
from ncen_updater.agent.engine.lock import hold_application_lock, hold_change_lock
from ncen_updater.agent.engine.site_factory import make_application
from ncen_updater.agent.model.errors import CommandError, StopError
from ncen_updater.agent.policy.restart_policy import should_start
from ncen_updater.common.messages import (
    APPLICATION_COMMAND_RUNNING,
    HEALTH_SETTINGS_WRONG,
    MAINTENANCE_FILE_STUCK,
    STATE_UNKNOWN,
)
from tests.support.errors import refused

# A daemon in the worst manners: it keeps the standard output that it inherited.
CONTROL = """\
import os, signal, subprocess, sys, time
root, verb = sys.argv[1:3]
pid_file = os.path.join(root, "pid")
def pid():
    try:
        number = int(open(pid_file).read())
        with open(f"/proc/{number}/stat") as stat:
            if stat.read().split(") ")[1][0] == "Z":
                return None
        return number
    except (OSError, ValueError):
        return None
if verb == "start":
    with open(os.path.join(root, "environment"), "w") as out:
        out.write(repr(dict(os.environ)))
    child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    open(pid_file, "w").write(str(child.pid))
    print("started")
elif verb == "stop":
    os.kill(pid(), signal.SIGTERM)
elif verb == "status":
    sys.exit(0 if pid() else 3)
"""


class Site:
    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "control.py").write_text(CONTROL)

    def argv(self, verb: str) -> tuple[str, ...]:
        return (sys.executable, str(self.root / "control.py"), str(self.root), verb)

    def settings(self, **changes: object) -> ApplicationSettings:
        return ApplicationSettings.model_validate(
            {
                "adapter": "command",
                "start": self.argv("start"),
                "stop": self.argv("stop"),
                "status": self.argv("status"),
                "health_url": "http://127.0.0.1:9",
                "maintenance_file": self.root / "door",
                "environment": {"FLAVOUR": "vanilla"},
                **changes,
            }
        )

    def application(self, **changes: object) -> CommandApplication:
        return CommandApplication(self.settings(**changes), self.root / "current")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    yield Site(tmp_path)
    with contextlib.suppress(FileNotFoundError, ProcessLookupError, ValueError):
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def test_start_and_stop_are_repeatable(site: Site) -> None:
    application = site.application()
    assert not application.is_running()
    application.stop()
    application.start()
    first = (site.root / "pid").read_text()
    assert application.is_running()
    application.start()
    assert (site.root / "pid").read_text() == first
    application.stop()
    assert not application.is_running()


def test_started_application_is_not_a_child_and_keeps_running(site: Site) -> None:
    site.application().start()
    pid = int((site.root / "pid").read_text())
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    assert int(fields[1]) != os.getpid()
    assert int(fields[3]) not in (os.getsid(0), os.getpid())


def test_commands_get_a_minimal_environment(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", "secret")
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    site.application().start()
    seen = (site.root / "environment").read_text()
    assert "PGPASSWORD" not in seen
    assert "PYTHONPATH" not in seen
    assert "'FLAVOUR': 'vanilla'" in seen
    assert f"'NCEN_CURRENT': '{site.root / 'current'}'" in seen
    assert build_minimal_environment({"X": "1"})["PATH"]


def test_failed_command_reports_its_output(site: Site) -> None:
    application = site.application(start=("sh", "-c", "echo no licence; exit 4"))
    with pytest.raises(CommandError, match=r"exit code 4.*no licence"):
        application.start()


@pytest.mark.parametrize("argv", [("/no/such/program",), ("/etc/passwd",)])
def test_missing_command_is_named(site: Site, argv: tuple[str, ...]) -> None:
    with pytest.raises(CommandError, match=argv[0]):
        site.application(start=argv).start()


@pytest.mark.parametrize("status", [1, 2, 4, 127])
def test_unclear_status_is_not_taken_for_stopped(site: Site, status: int) -> None:
    application = site.application(status=("sh", "-c", f"echo huh; exit {status}"))
    for act in (application.is_running, application.stop, application.start):
        with refused(STATE_UNKNOWN, match="huh"):
            act()


def test_application_that_does_not_stop_is_an_error(site: Site) -> None:
    times = itertools.count()
    application = CommandApplication(
        site.settings(stop=("true",), stop_timeout_s=5),
        site.root / "current",
        clock=lambda: float(next(times)),
        wait=lambda seconds: None,
    )
    application.start()
    with pytest.raises(StopError, match="within 5 s"):
        application.stop()


def test_failed_stop_command_of_a_running_application_is_an_error(site: Site) -> None:
    application = site.application(stop=("sh", "-c", "echo not allowed; exit 1"))
    application.start()
    with pytest.raises(StopError, match="not allowed"):
        application.stop()


def test_timed_out_command_is_killed_with_its_children(tmp_path: Path) -> None:
    script = f"sleep 1000 & echo $! > {tmp_path}/child; echo waiting; wait"
    ended = run_command(("sh", "-c", script), build_minimal_environment(), 2.0)
    assert ended.status is None
    assert ended.output == "waiting"
    child = int((tmp_path / "child").read_text())
    try:
        # A killed process takes a moment to die; this waits for that, and for no fixed time.
        process = os.pidfd_open(child)
    except ProcessLookupError:
        return
    try:
        ready, _, _ = select.select([process], [], [], 30)
        assert ready
    finally:
        os.close(process)


def test_only_the_end_of_long_output_is_stored() -> None:
    script = "import sys; sys.stdout.write('x' * 1_000_000 + '\\xe9 the end')"
    ended = run_command(
        (sys.executable, "-c", script), {**build_minimal_environment(), "LC_ALL": "C"}, 30.0
    )
    assert ended.status == 0
    assert ended.output.endswith("the end")
    assert len(ended.output) <= TAIL_BYTES


def test_command_killed_by_a_signal_names_the_signal(site: Site) -> None:
    with pytest.raises(CommandError, match="signal 9"):
        site.application(start=("sh", "-c", "kill -9 $$")).start()


def test_maintenance_file_states_reason_and_start(site: Site) -> None:
    notes = iter([MaintenanceNote(change="abc", version="3.3.0"), MaintenanceNote(change="abd")])
    application = CommandApplication(
        site.settings(), site.root / "current", make_note=lambda: next(notes)
    )
    assert not application.is_in_maintenance()
    application.enable_maintenance()
    assert application.is_in_maintenance()
    first = json.loads((site.root / "door").read_text())
    assert first["change"] == "abc"
    assert first["version"] == "3.3.0"
    assert first["reason"]
    application.enable_maintenance()
    second = json.loads((site.root / "door").read_text())
    assert second["since"] == first["since"]
    assert second["change"] == "abd"
    assert application.read_maintenance_change() == "abd"
    (site.root / "door").write_text("[" * 100_000)
    assert application.read_maintenance_change() == ""
    for _ in range(2):
        application.disable_maintenance()
        assert not application.is_in_maintenance()
    assert [p.name for p in site.root.iterdir()] == ["control.py"]


def test_maintenance_file_is_readable_by_everyone(site: Site) -> None:
    application = CommandApplication(site.settings(), site.root / "current")
    before = os.umask(0o077)
    try:
        application.enable_maintenance()
    finally:
        os.umask(before)
    assert (site.root / "door").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("content", ["", "not json", "[]", '{"since": 3}'])
def test_maintenance_file_of_any_content_means_maintenance(site: Site, content: str) -> None:
    application = site.application()
    (site.root / "door").write_text(content)
    assert application.is_in_maintenance()
    application.enable_maintenance()
    assert json.loads((site.root / "door").read_text())["since"]
    application.disable_maintenance()
    assert not application.is_in_maintenance()


def test_maintenance_file_that_cannot_be_moved_is_an_error(site: Site) -> None:
    application = site.application(maintenance_file=site.root / "no" / "door")
    with refused(MAINTENANCE_FILE_STUCK):
        application.enable_maintenance()
    assert not application.is_in_maintenance()
    (site.root / "door").mkdir()
    for act in (site.application().disable_maintenance, site.application().enable_maintenance):
        with refused(MAINTENANCE_FILE_STUCK):
            act()
    assert site.application().is_in_maintenance()


SYSTEMCTL = """\
#!/bin/sh
echo "$@" >> "$NCEN_TEST_DIR/calls"
case "$1" in
show) cat $NCEN_TEST_DIR/more 2>/dev/null; for name in load state job restarts; do
        value=$(cat $NCEN_TEST_DIR/$name $NCEN_TEST_DIR/$name.$4 2>/dev/null | tail -n 1)
        case $name in load) echo "LoadState=$value";; state) echo "ActiveState=$value";;
                      job) echo "Job=$value";; restarts) echo "NRestarts=${value:-0}";; esac
      done;;
start) [ "$(cat $NCEN_TEST_DIR/state)" = failed ] && { echo start limit hit; exit 1; }
       echo activating > $NCEN_TEST_DIR/state;;
stop) echo inactive > $NCEN_TEST_DIR/state;;
reset-failed) echo inactive > $NCEN_TEST_DIR/state;;
esac
"""


@pytest.fixture
def unit(tmp_path: Path) -> SystemdApplication:
    program = tmp_path / "systemctl"
    program.write_text(SYSTEMCTL)
    program.chmod(0o755)
    (tmp_path / "load").write_text("loaded\n")
    (tmp_path / "state").write_text("inactive\n")
    settings = ApplicationSettings.model_validate(
        {
            "unit": "ncen.service",
            "health_url": "http://127.0.0.1:9",
            "maintenance_file": tmp_path / "door",
            "environment": {"NCEN_TEST_DIR": str(tmp_path)},
        }
    )
    return SystemdApplication(settings, tmp_path / "current", systemctl=str(program))


def calls(tmp_path: Path) -> list[str]:
    lines = (tmp_path / "calls").read_text().splitlines()
    return [line for line in lines if not line.startswith("show")]


def test_unit_is_started_without_waiting_and_stopped(
    unit: SystemdApplication, tmp_path: Path
) -> None:
    unit.stop()
    unit.start()
    assert unit.is_running()
    unit.start()
    unit.stop()
    assert not unit.is_running()
    assert calls(tmp_path) == ["start --no-block -- ncen.service", "stop -- ncen.service"]


def test_failed_unit_is_reset_before_its_start(unit: SystemdApplication, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("failed\n")
    unit.start()
    assert calls(tmp_path)[0] == "reset-failed -- ncen.service"
    assert unit.is_running()


@pytest.mark.parametrize(
    ("state", "running"),
    [
        ("active", True),
        ("activating", True),
        ("deactivating", True),
        ("reloading", True),
        ("inactive", False),
        ("failed", False),
    ],
)
def test_unit_in_transition_counts_as_running(
    unit: SystemdApplication, tmp_path: Path, state: str, running: bool
) -> None:
    (tmp_path / "state").write_text(f"{state}\n")
    assert unit.is_running() is running


@pytest.mark.parametrize(
    ("more", "failed"),
    [
        ("Result=exit-code\nExecMainStatus=1\n", True),
        ("Result=signal\nExecMainStatus=11\n", True),
        ("Result=exit-code\nExecMainStatus=143\n", False),
        ("Result=exit-code\nExecMainStatus=130\n", False),
        ("Result=timeout\nExecMainStatus=9\n", False),
    ],
)
def test_stopped_unit_is_not_restarted_by_systemd(
    unit: SystemdApplication, tmp_path: Path, more: str, failed: bool
) -> None:
    """A Java program exits with 143 on SIGTERM; systemd calls that a failure."""
    (tmp_path / "state").write_text("failed\n")
    enabled = "UnitFileState=enabled\nActiveEnterTimestampMonotonic=7\n"
    (tmp_path / "more").write_text(enabled + more)
    assert unit.observe_state().failed is failed
    verdict = should_start(unit.observe_state(), "boot", "boot")
    assert verdict is failed


STARTED = "Result=success\nActiveEnterTimestampMonotonic=7\n"
DEAD = "ExecMainExitTimestampMonotonic={dead}\nActiveExitTimestampMonotonic={left}\n"


@pytest.mark.parametrize(
    ("state", "more", "on_purpose"),
    [
        ("inactive", STARTED, True),
        # Also one that is not enabled, and was disabled when it was stopped.
        (
            "inactive",
            STARTED + "UnitFileState=disabled\n",
            True,
        ),
        ("failed", STARTED + "Result=exit-code\nExecMainStatus=143\n", True),
        ("failed", STARTED + "Result=exit-code\n", False),
        ("failed", STARTED + "Result=signal\nExecMainStatus=9\n", False),
        (
            "failed",
            STARTED + "Result=oom-kill\nUnitFileState=disabled\n",
            False,
        ),
        # Too slow to end, or to start.
        ("failed", STARTED + "Result=timeout\nInactiveExitTimestampMonotonic=6\n", True),
        ("failed", STARTED + "Result=timeout\nInactiveExitTimestampMonotonic=8\n", False),
        # It ended well, before systemd knew of it, or after SIGTERM.
        ("inactive", STARTED + DEAD.format(dead=8, left=9), False),
        ("inactive", STARTED + DEAD.format(dead=9, left=8), True),
        ("inactive", STARTED + DEAD.format(dead=6, left=8), True),  # RemainAfterExit=
        # Not started since the machine was: a person stopped nothing.
        ("inactive", "Result=success\nActiveEnterTimestampMonotonic=0\n", False),
        ("active", STARTED, False),
        ("activating", STARTED, False),
    ],
)
def test_orderly_stop_is_distinguished_from_an_unexpected_exit(
    unit: SystemdApplication, tmp_path: Path, state: str, more: str, on_purpose: bool
) -> None:
    (tmp_path / "state").write_text(f"{state}\n")
    (tmp_path / "more").write_text(more)
    assert unit.was_stopped_on_request() is on_purpose


@pytest.mark.parametrize(("load", "state"), [("not-found", "inactive"), ("loaded", "odd")])
def test_unclear_unit_state_is_not_taken_for_stopped(
    unit: SystemdApplication, tmp_path: Path, load: str, state: str
) -> None:
    (tmp_path / "load").write_text(f"{load}\n")
    (tmp_path / "state").write_text(f"{state}\n")
    for act in (unit.is_running, unit.stop, unit.start):
        with refused(STATE_UNKNOWN):
            act()


def test_factory_creates_the_configured_adapter(site: Site, tmp_path: Path) -> None:
    assert isinstance(make_application(site.settings(), tmp_path / "c"), CommandApplication)
    settings = site.settings(adapter="systemd", unit="x.service")
    assert isinstance(make_application(settings, tmp_path / "c"), SystemdApplication)
    with refused(HEALTH_SETTINGS_WRONG):
        make_application(site.settings(health_url="http://h:99999"), tmp_path / "c")


def test_maintenance_enabled_again_keeps_its_first_start_time(tmp_path: Path) -> None:
    times = iter([datetime(2026, 11, 24, tzinfo=UTC), datetime(2026, 11, 25, tzinfo=UTC)])
    door = MaintenanceFile(tmp_path / "door", now=lambda: next(times))
    for _ in range(2):
        door.write()
        assert json.loads((tmp_path / "door").read_text())["since"].startswith("2026-11-24")


def test_queued_start_of_systemd_is_cancelled(unit: SystemdApplication, tmp_path: Path) -> None:
    """The agent that requested it was killed; systemd would start the unit some time later."""
    (tmp_path / "job").write_text("1234\n")
    assert not unit.is_running()
    unit.stop()
    assert calls(tmp_path) == ["stop -- ncen.service"]


def test_queued_start_counts_as_starting(unit: SystemdApplication, tmp_path: Path) -> None:
    """Such as behind our own resume unit, which the start pulled in."""
    (tmp_path / "job").write_text("1234\n")
    assert not unit.is_running()
    assert unit.describe_outage() is None
    (tmp_path / "job").write_text("\n")
    (tmp_path / "more").write_text("Result=success\n")
    assert str(unit.describe_outage()) == "ncen.service not running: success"


def test_unit_blocked_by_a_failed_dependency_names_it(
    unit: SystemdApplication, tmp_path: Path
) -> None:
    program = tmp_path / "systemctl"
    answer = "is-failed) echo failed; echo active;;\nstart)"
    program.write_text(SYSTEMCTL.replace("start)", answer, 1))
    (tmp_path / "more").write_text("Requires=ncen-updater-resume.service -.mount\n")
    why = "failed dependency: ncen-updater-resume.service"
    assert str(unit.describe_outage()) == f"ncen.service not running: {why}"


@pytest.mark.parametrize(
    ("lines", "directory"),
    [
        ("ExecStart=/srv/ncen/bin/ncen", "/srv/ncen"),
        ("WorkingDirectory=/srv/ncen/3.2.4\nExecStart=/srv/ncen/3.2.4/bin/ncen", "/srv/ncen/3.2.4"),
        ("ExecStart={current}/bin/ncen", ""),
        ("WorkingDirectory={current}\nExecStart=/srv/python/bin/python3 -m ncen", ""),
        ("ExecStart={above}/bin/start", ""),
        ("ExecStart=/usr/local/bin/start-ncen", ""),
        ("ExecStart=/srv/a/bin/a\nExecStart=/srv/a/bin/b", ""),
    ],
)
def test_unit_of_another_installation_is_found(
    unit: SystemdApplication, tmp_path: Path, lines: str, directory: str
) -> None:
    text = lines.format(current=tmp_path / "current", above=tmp_path)
    (tmp_path / "unit").write_text(f"[Service]\n{text}\n")
    program = tmp_path / "systemctl"
    program.write_text(SYSTEMCTL.replace("start)", "cat) cat $NCEN_TEST_DIR/unit;;\nstart)", 1))
    found = unit.find_outside_installations()
    assert found == ({"ncen.service": directory} if directory else {})


@pytest.fixture
def units(unit: SystemdApplication, tmp_path: Path) -> SystemdApplication:
    """Three units: one with health checks, an import, and mail that starts after maintenance."""
    for name in ("import", "mail"):
        (tmp_path / f"state.{name}.service").write_text("inactive\n")
    settings = unit._settings.model_copy(
        update={
            "parts": (
                PartSettings(name="import", unit="import.service"),
                PartSettings(name="mail", unit="mail.service", start_after_maintenance=True),
            )
        }
    )
    return SystemdApplication(settings, tmp_path / "current", systemctl=str(tmp_path / "systemctl"))


def test_units_start_in_order_and_stop_in_reverse_order(
    units: SystemdApplication, tmp_path: Path
) -> None:
    units.start()
    units.start_deferred_parts()
    for name in ("", ".import.service", ".mail.service"):
        (tmp_path / f"state{name}").write_text("inactive\n")
    (tmp_path / "job").write_text("1\n")
    units.stop()
    assert calls(tmp_path) == [
        "start --no-block -- ncen.service",
        "start --no-block -- import.service",
        "start --no-block -- mail.service",
        "stop -- mail.service",
        "stop -- import.service",
        "stop -- ncen.service",
    ]


def test_application_runs_while_any_unit_runs(units: SystemdApplication, tmp_path: Path) -> None:
    assert not units.is_running()
    (tmp_path / "state.mail.service").write_text("deactivating\n")
    assert units.is_running()


def test_missing_part_is_named_once_it_should_run(
    units: SystemdApplication, tmp_path: Path
) -> None:
    assert units.find_missing_parts(include_deferred=False) == ("import",)
    assert units.find_missing_parts(include_deferred=True) == ("import", "mail")
    for name in ("import", "mail"):
        (tmp_path / f"state.{name}.service").write_text("active\n")
    assert units.find_missing_parts(include_deferred=True) == ()
    (tmp_path / "state.mail.service").write_text("activating\n")
    assert units.find_missing_parts(include_deferred=True) == ("mail",)


def test_restart_loop_counts_as_not_running(units: SystemdApplication, tmp_path: Path) -> None:
    """A worker that dies at each start is up for an instant each time."""
    units.start()
    restarts = tmp_path / "restarts.import.service"
    (tmp_path / "state.import.service").write_text("active\n")
    (tmp_path / "state").write_text("active\n")
    assert units.find_missing_parts(include_deferred=False) == ()
    restarts.write_text("1\n")
    assert units.find_missing_parts(include_deferred=False) == ("import",)
    assert units.find_missing_parts(include_deferred=False) == ("import",)


def test_single_restart_is_one_failed_check(units: SystemdApplication, tmp_path: Path) -> None:
    """The soak needs several in a row; one exit in an hour must not roll a release back."""
    units.start()
    for name in ("state", "state.import.service", "state.mail.service"):
        (tmp_path / name).write_text("active\n")
    assert units.find_missing_parts(include_deferred=True) == ()
    restarts = tmp_path / "restarts.import.service"
    for count, missing in ((1, ("import",)), (1, ()), (2, ("import",)), (3, ("import",)), (3, ())):
        restarts.write_text(f"{count}\n")
        assert units.find_missing_parts(include_deferred=True) == missing


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parts": [{"name": "mail"}]}, "'start', 'stop' and 'status' in the part 'mail'"),
        ({"adapter": "systemd", "unit": "x", "parts": [{"name": "mail"}]}, "'unit' in the part"),
        (
            {"adapter": "systemd", "unit": "x", "parts": [{"name": "mail", "unit": "x"}]},
            "duplicate unit",
        ),
        (
            {
                "adapter": "systemd",
                "unit": "x",
                "parts": [{"name": "mail", "unit": "y"}, {"name": "mail", "unit": "z"}],
            },
            "duplicate name",
        ),
    ],
)
def test_uncontrollable_parts_are_rejected(
    site: Site, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        site.settings(**changes)


def test_command_waits_for_that_of_a_killed_agent(site: Site) -> None:
    theirs = os.open(site.root / "door.command-lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(theirs, fcntl.LOCK_EX)
    times = itertools.count()
    application = CommandApplication(
        site.settings(), site.root / "current",
        clock=lambda: float(next(times)), wait=lambda seconds: None,
    )  # fmt: skip
    for act in (application.stop, application.start):
        with refused(APPLICATION_COMMAND_RUNNING):
            act()
    os.close(theirs)
    application.start()
    application.stop()


def test_maintenance_file_in_the_state_directory_does_not_block_commands(site: Site) -> None:
    """The agent that holds the change lock, also by the directory, gives the commands."""
    times = itertools.count()
    application = CommandApplication(
        site.settings(), site.root / "current",
        clock=lambda: float(next(times)), wait=lambda seconds: None,
    )  # fmt: skip
    with (
        hold_change_lock(site.root / "lock", "upgrade"),
        hold_application_lock(site.root / "door", "upgrade"),
    ):
        application.start()
        assert application.is_running()
        application.stop()
    assert not application.is_running()
