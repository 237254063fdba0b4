"""Tests of a site whose application is a unit behind nginx, with fake systemd and nginx."""

from __future__ import annotations

import json
import os
import random
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from demo.ports import find_free_ports
from ncen_updater.agent.adapters.feed_reader import worker as fetching
from ncen_updater.agent.config.loader import load_config
from ncen_updater.agent.model.event_names import JOURNAL_FILE
from ncen_updater.agent.setup import proof_steps
from ncen_updater.agent.setup.machine import Machine
from ncen_updater.agent.setup.record import SetupPhase
from ncen_updater.agent.setup.server_files import MARK
from ncen_updater.agent.setup.steps import CommandStep
from ncen_updater.agent.setup.unit_files import make_unit_drop_in
from ncen_updater.agent.setup.web_servers import CHECK, CHECK_ENDING
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common.messages import (
    SETUP_IN_USE,
    SETUP_STEP_FAILED,
    SETUP_UNDONE_UNHEALTHY,
    ExitCode,
)
from ncen_updater.common.progress import SilentProgress
from tests.agent.cli.live import PROGRAM as PROGRAM_LINE
from tests.agent.cli.terminal_run import run_on_terminal
from tests.agent.setup.site import VERSION, BareSite, bare_site
from tests.agent.setup.test_setup import KILLS
from tests.support.activation import ACTIVATOR, activated
from tests.support.errors import refused
from tests.support.forks import run_agent
from tests.support.kill_points import changes_of, killed_at
from tests.support.rotation import seed

CURRENT = "/opt/ncen/current"
#: Plays ``systemctl`` and ``nginx``; each order is a line of the log.
PROGRAM = """#!/bin/sh
NCEN_CONFIG={config} NCEN_RUN={run}
export NCEN_CONFIG NCEN_RUN
place={root}/srv/old/current
[ -e {dropin} ] && place=$(sed -n 's|^ExecStart=\\(.*\\)/app/bin/ncenctl.*|\\1|p' {dropin})
ctl() {{ {python} -S -B "$place/app/bin/ncenctl" "$1"; }}
pid=$(head -n 1 {run}/ncen.pid 2> /dev/null)
case "${{0##*/}} $*" in
  *" show *.service"*)
    printf 'Id=ncen.service\\nMainPID=%s\\nUser={user}\\nActiveState=active\\n' "${{pid%% *}}"
    printf 'ExecStart={{ path=x ; argv[]=x ; ignore_errors=no ; }}\\nWorkingDirectory={root}/srv\\n'
    printf '\\nId=other.service\\nMainPID=0\\nUser=\\nActiveState=inactive\\n' ;;
  *" show "*)
    state=inactive
    ctl status > /dev/null && state=active
    printf 'Id=ncen.service\\nLoadState=loaded\\nActiveState=%s\\n' $state
    printf 'UnitFileState=enabled\\n'
    printf 'Result=success\\nExecMainStatus=0\\nRequires=ncen-updater-resume.service\\n' ;;
  *" cat nosuch"*) exit 1 ;;
  *" cat "*) cat {unit} {dropin} 2> /dev/null || [ -e {unit} ] ;;
  *" restart ncen.service"*)
    [ ! -e {page} ] || echo "users see the page" >> {log}
    echo "restart $place" >> {log}; ctl stop; ctl start ;;
  *" start ncen-updater-resume"*) echo "systemctl $*" >> {log}; [ ! -e {root}/../no-resume ] ;;
  *" stop -- "*"ncen.service"*) ctl stop ;;
  *" start "*"ncen.service"*) ctl start ;;
  *" start -- ncen-worker"*) echo "start the worker" >> {log} ;;
  nginx*) echo "nginx $*" >> {log}; [ ! -e {root}/broken ] || ! grep -q include {web} ;;
  *) echo "${{0##*/}} $*" >> {log} ;;
esac
"""
NGINX = """server {
    listen 127.0.0.1:FRONT;
    location / {
        proxy_pass http://127.0.0.1:PORT;
    }
}
"""


@contextmanager
def machine_with_units(directory: Path, *, plain: bool = False) -> Iterator[BareSite]:
    """A site of SQLite under a systemd that is played."""
    with bare_site(directory, with_postgres=False, plain=plain) as site:
        demo, root = site.demo, site.demo.root
        (root / "run/systemd/system").mkdir(parents=True)
        unit = root / "etc/systemd/system/ncen.service"
        unit.parent.mkdir(parents=True)
        place = f"{root}/srv/old/current"
        command = f"{place}/app/bin/ncenctl start"
        unit.write_text(f"[Service]\nUser=ncen\nWorkingDirectory={place}\nExecStart={command}\n")
        web = root / "etc/nginx/sites-enabled/ncen"
        web.parent.mkdir(parents=True)
        (front,) = find_free_ports(1)
        web.write_text(NGINX.replace("PORT", str(demo.app_port)).replace("FRONT", str(front)))
        bin_directory = directory / "bin"
        bin_directory.mkdir()
        environment = demo.environment()
        text = PROGRAM.format(
            root=root, config=environment["NCEN_CONFIG"], run=environment["NCEN_RUN"], unit=unit,
            user="nobody", python=sys.executable, log=directory / "orders", web=web,
            page=demo.maintenance_file,
            dropin=f"{unit}.d/50-ncen-updater.conf",
        )  # fmt: skip
        for name in ("systemctl", "nginx", "pg_lsclusters"):
            program = bin_directory / name
            program.write_text("#!/bin/sh\nexit 1\n" if name == "pg_lsclusters" else text)
            program.chmod(0o755)
        application = site.answers["application"]
        for name in ("adapter", "start", "stop", "status", "environment"):
            del application[name]
        application["unit"] = "ncen.service"
        site.machine = Machine(root)
        socket = root / "run/ncen-updater/fetch.sock"
        socket.parent.mkdir()
        words = (sys.executable, "-I", "-m", fetching.__name__, str(demo.config_path))
        with activated(socket, words, directory / "fetch.log"), serving(site, front):
            yield site


@contextmanager
def serving(site: BareSite, port: int) -> Iterator[None]:
    """Play the web server for who looks for the page."""
    web = site.demo.root / "etc/nginx/sites-enabled/ncen"

    class Handler(BaseHTTPRequestHandler):
        """Shows it where its file was changed, and is not hidden."""

        def do_GET(self) -> None:
            """Answer."""
            file = re.search(r"-e (\S+)\)", web.read_text())
            is_shown = file is not None and Path(file[1] + CHECK_ENDING).exists()
            is_shown = is_shown and not (site.demo.root / "hidden").exists()
            self.send_response(503 if is_shown and self.path == CHECK else 404)
            self.send_header("Retry-After", "120")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def plain() -> bool:
    """Whether the files of SQLite lie in a directory, which adopting makes a link."""
    return False


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch, plain: bool) -> Iterator[BareSite]:
    if ACTIVATOR is None:
        pytest.skip("systemd-socket-activate is not installed")
    with tempfile.TemporaryDirectory(prefix="nu-") as directory:  # a socket's path is short
        monkeypatch.setenv("PATH", f"{directory}/bin:{os.environ['PATH']}")
        with machine_with_units(Path(directory), plain=plain) as made:
            yield made


def orders(site: BareSite) -> list[str]:
    """What was ordered of systemd and nginx, and what the application was started from."""
    log = site.demo.root.parent / "orders"
    return log.read_text().splitlines() if log.exists() else []


def test_unit_starts_the_release_and_nginx_shows_the_page(site: BareSite) -> None:
    root, before = site.demo.root, site.look()
    plan = site.plan()
    assert plan.by_hand == ()
    site.apply()
    current = str(root / "opt/ncen/current")
    drop_in = root / "etc/systemd/system/ncen.service.d/50-ncen-updater.conf"
    assert f"ExecStart={current}/app/bin/ncenctl start" in drop_in.read_text()
    web = (root / "etc/nginx/sites-enabled/ncen").read_text()
    assert (
        "include /etc/nginx/snippets/ncen-updater.conf;" in web
        and str(site.demo.maintenance_file) in web
    )
    ordered = orders(site)
    assert f"restart {current}" in ordered
    resume = "systemctl start ncen-updater-resume.service"
    assert ordered.index(resume) < ordered.index(f"restart {current}")
    assert ordered.index("nginx -t") < ordered.index("systemctl reload nginx.service")
    assert ordered[-1] == "systemctl start ncen-updater.service"
    assert 'runner = "systemd"' in site.demo.config_path.read_text()
    site.undo()
    assert site.look() == before
    undone = orders(site)[len(ordered) :]
    assert undone[0] == "systemctl stop ncen-updater.service"
    assert f"restart {root}/srv/old/current" in undone
    assert site.demo.app_running()


@pytest.mark.parametrize("plain", [True])
@pytest.mark.parametrize("keep_unit", [False, True])
def test_files_in_use_are_adopted_in_one_downtime(site: BareSite, keep_unit: bool) -> None:
    before, live = site.look(), site.demo.root / "srv/ncen/databases/live"
    answers, root = site.write_answers(), str(site.demo.root)
    words = ("setup", "--root", root, "--answers", str(answers), "--yes")
    done = run_agent(
        *words, *["--keep-unit"] * keep_unit,
        environment={"PATH": os.environ["PATH"], "LANG": "C.UTF-8"},
    )  # fmt: skip
    assert done.returncode == ExitCode.OK, done.stdout + done.stderr
    assert live.is_symlink()
    assert site.demo.app_running()
    place = "srv/old/current" if keep_unit else "opt/ncen/current"
    restarts = [order for order in orders(site) if order.startswith("restart")]
    assert restarts == [f"restart {root}/{place}"]
    site.undo()
    assert site.look() == before
    assert site.demo.app_running()


@pytest.mark.parametrize("plain", [True])
def test_parts_start_after_the_unit_that_they_may_require(site: BareSite) -> None:
    worker = site.demo.root / "etc/systemd/system/ncen-worker.service"
    site.answers["application"]["parts"] = [{"name": "worker", "unit": worker.name}]
    before, first = site.look(), 0
    for act, place in ((site.apply, "opt/ncen/current"), (site.undo, "srv/old/current")):
        act()
        starts = [line for line in orders(site)[first:] if "restart" in line or "worker" in line]
        assert starts == [f"restart {site.demo.root}/{place}", "start the worker"]
        first = len(orders(site))
    assert site.look() == before


@pytest.mark.parametrize("is_shown", [False, True])
def test_users_see_the_page_during_the_restart(site: BareSite, is_shown: bool) -> None:
    page = site.demo.maintenance_file
    if is_shown:  # by an operator
        page.parent.mkdir(parents=True, exist_ok=True)
        page.touch()
    for act in (site.apply, site.undo):
        first = len(orders(site))
        act()
        ordered = orders(site)[first:]
        at = next(i for i, order in enumerate(ordered) if order.startswith("restart"))
        assert ordered[at - 1] == "users see the page"
        assert page.exists() is is_shown


@pytest.mark.parametrize("plain", [True])
def test_kill_around_the_downtime_is_recovered(site: BareSite) -> None:
    """Killed, then undone or continued: the application runs, on files that are whole."""
    chance, before = random.Random(seed()), site.look()
    last = changes_of(site.apply)
    back = changes_of(site.undo)
    assert site.look() == before
    around = range(last - 90, last, 15)  # from the download to the last restart
    for instant in (*around, *(chance.randint(1, last) for _ in range(KILLS - 1))):
        assert killed_at(instant, site.apply)
        killed_at(chance.randint(1, 2 * back), site.undo)
        site.undo()
        assert (site.look() == before, site.demo.app_running()) == (True, True), instant
    assert killed_at(last - 40, site.apply)
    site.apply()
    assert site.demo.app_running()
    assert (site.demo.root / "srv/ncen/databases/live").is_symlink()
    assert killed_at(back // 2, site.undo)
    site.undo()
    assert (site.look() == before, site.demo.app_running()) == (True, True)


def test_manual_steps_are_listed_last(site: BareSite) -> None:
    answers, root = site.write_answers(), site.demo.root
    words = ("setup", "--root", str(root), "--answers", str(answers), "--keep-unit", "--yes")
    done = run_agent(*words, environment={"PATH": os.environ["PATH"], "LANG": "C.UTF-8"})
    assert done.returncode == ExitCode.OK, done.stdout + done.stderr
    _, _, last = done.stdout.partition("NU-6145")
    assert f"By hand: Let ncen.service start {root}/opt/ncen/current" in last


def test_release_without_the_program_of_the_unit_is_refused(site: BareSite) -> None:
    unit = site.demo.root / "etc/systemd/system/ncen.service"
    unit.write_text(unit.read_text().replace("ncenctl start", "of-theirs"))
    before = site.look()
    with refused(SETUP_STEP_FAILED) as caught:
        site.apply()
    assert caught.value.values["cause"] == "NU-1216"
    assert "--keep-unit" in str(caught.value.detail)
    assert site.look() == before
    assert not [order for order in orders(site) if order.startswith("restart")]


def test_application_is_not_restarted_where_what_it_requires_fails(site: BareSite) -> None:
    before, root = site.look(), site.demo.root
    plan = site.plan()
    (root.parent / "no-resume").touch()
    with refused(SETUP_STEP_FAILED) as caught:
        site.record().apply(SilentProgress(), plan.steps)
    (root.parent / "no-resume").unlink()
    assert caught.value.values["cause"] == "NU-1214"
    assert "ncen-updater-resume" in str(caught.value.detail)
    assert not [order for order in orders(site) if order.startswith("restart")]
    assert site.look() == before


def test_undo_restores_the_files_of_an_unhealthy_application(site: BareSite) -> None:
    before = site.look()
    site.apply()
    old = site.demo.root / "srv/old/current/app/bin/ncenctl"
    old.rename(old.with_name("away"))
    with refused(SETUP_UNDONE_UNHEALTHY) as caught:
        site.undo()
    assert caught.value.values["unit"] == "ncen.service"
    assert site.look() == before
    assert site.record().phase is SetupPhase.NONE
    old.with_name("away").rename(old)


def test_failed_step_reports_an_unhealthy_application(site: BareSite) -> None:
    before = site.look()
    old = site.demo.root / "srv/old/current/app/bin/ncenctl"
    plan = site.plan()
    old.rename(old.with_name("away"))  # it runs, and could not start again
    with refused(SETUP_STEP_FAILED) as caught:
        site.record().apply(SilentProgress(), [*plan.steps, CommandStep([["false"]])])
    assert caught.value.values["cause"] == "NU-1214"
    assert "not healthy" in str(caught.value.detail)
    assert site.look() == before
    old.with_name("away").rename(old)


def test_setup_killed_before_its_restart_is_not_continued_after_an_upgrade(site: BareSite) -> None:
    root = site.demo.root
    drop_in = root / "etc/systemd/system/ncen.service.d/50-ncen-updater.conf"
    site.apply()
    record = json.loads((site.demo.state / "setup/record.json").read_text())
    record["phase"], record["steps"][-1]["state"] = "doing", None
    record["steps"][-2]["state"] = "begun"
    (site.demo.state / "setup/record.json").write_text(json.dumps(record))
    with Journal.open(site.demo.state / JOURNAL_FILE) as journal:
        journal.record_event("approved", None, version="9.9")
    ordered = orders(site)
    for act in (site.apply, site.undo):
        with refused(SETUP_IN_USE):
            act()
        assert drop_in.exists()
        assert orders(site) == ordered
        assert site.record().phase is SetupPhase.DOING


def test_web_server_that_rejects_its_file_is_reverted(site: BareSite) -> None:
    (site.demo.root / "broken").touch()
    before = site.look()
    with refused(SETUP_STEP_FAILED) as caught:
        site.apply()
    assert caught.value.values["cause"] == "NU-1214"
    assert "nginx -t" in str(caught.value.detail)
    assert site.look() == before
    assert orders(site)[-1] == "systemctl daemon-reload"


def test_maintenance_page_that_is_not_shown_is_reverted(
    site: BareSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proof_steps, "PAGE_LIMIT_S", 0.5)
    (site.demo.root / "hidden").touch()
    before = site.look()
    with refused(SETUP_STEP_FAILED) as caught:
        site.apply()
    assert caught.value.values["cause"] == "NU-1222"
    assert "404" in str(caught.value.detail)
    assert site.look() == before
    assert not Path(f"{site.demo.maintenance_file}{CHECK_ENDING}").exists()


def test_seven_answers_are_sufficient(site: BareSite) -> None:
    before, trust = site.look(), site.answers["trust"]
    environment = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "TERM": "xterm", "HOME": "/"}
    replies = {
        "Site ID": "two words",
        "Use letters, digits, dots": "k" * 501,
        "Use at most 500": "ke-national",
        "Country": "ke",
        "Feed URL": site.answers["feed"]["urls"][0],
        "Trusted root received": trust["root"],
        "Accounts of": "none",
        "Maintenance window": "at night",
        "Use hours, such": "22:00-04:00",
        "Apply this plan?": "yes",
    }
    command = [*PROGRAM_LINE, "setup", "--root", str(site.demo.root)]
    code, shown = run_on_terminal(command, environment, replies)
    assert site.record().phase is SetupPhase.DONE, shown
    assert code == 0, shown
    assert trust["fingerprint"] in shown
    assert "unit: ncen.service (sure" in shown
    assert f"health URL: {site.demo.app_url}/healthz ({VERSION}) (sure" in shown
    assert "web server: nginx, " in shown
    assert f"free in {site.demo.root}/srv/ncen/databases/live; files can" in shown
    config = load_config(site.demo.config_path)
    assert (config.site.country, config.application.unit) == ("KE", "ncen.service")
    assert len(config.service.windows) == 1
    assert set(config.databases.names) == set(site.demo.databases.names)
    site.undo()
    assert site.look() == before


UNIT = """# /etc/systemd/system/ncen.service
[Unit]
Description=nCEN
[Service]
{lines}
"""


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("ExecStart=/srv/ncen/bin/ncen --port 1", [f"ExecStart={CURRENT}/bin/ncen --port 1"]),
        ("ExecStart=/usr/bin/python3 /srv/ncen/run.py",
         [f"ExecStart=/usr/bin/python3 {CURRENT}/run.py"]),
        ("WorkingDirectory=/srv/ncen\nExecStart=/srv/ncen/a/b/c",
         [f"ExecStart={CURRENT}/a/b/c", f"WorkingDirectory={CURRENT}"]),
        ("ExecStart=/srv/x/y/z\nExecStart=\nExecStart=/srv/ncen/sbin/n \\\n /srv/ncen/c",
         [f"ExecStart={CURRENT}/sbin/n   {CURRENT}/c"]),
        (f"ExecStart=/bin/sh -c 'cd -P {CURRENT} && exec bin/ncen'", []),
        ("WorkingDirectory=/var/lib/ncen\nEnvironment=NCEN_CONFIG=/srv/ncen/ncen.json\n"
         "ExecStart=/bin/sh -c 'cd -P /srv/ncen/3.2.4 && exec /usr/bin/python3 app/run.py /srv/x'",
         [f"ExecStart=/bin/sh -c 'cd -P {CURRENT} && exec /usr/bin/python3 app/run.py /srv/x'"]),
        ("ExecStart=/bin/sh -c 'cd \"/srv/ncen/a\"; exec bin/ncen'",
         [f"ExecStart=/bin/sh -c 'cd \"{CURRENT}\"; exec bin/ncen'"]),
        ("ExecStart=/bin/sh -c 'cd /var/lib/ncen && exec /srv/ncen/bin/ncen'",
         [f"ExecStart=/bin/sh -c 'cd /var/lib/ncen && exec {CURRENT}/bin/ncen'"]),
        (f"ExecStart={CURRENT}-old/bin/ncen", [f"ExecStart={CURRENT}/bin/ncen"]),
        (f"ExecStart=/usr/bin/env X={CURRENT}/x /srv/ncen/bin/ncen", []),
        ("ExecStart=/bin/sh -c 'cd /srv && exec bin/ncen'", None),
        ("ExecStart=/usr/sbin/ncen", None),
        ("ExecStart=/srv/ncen", None),
        ("ExecStart=/srv/ncen/bin/a\nExecStart=/srv/ncen/bin/b", None),
        ("ExecStart=/srv/ncen/bin/a\nExecStop=/srv/ncen/bin/stop", None),
        ("Type=oneshot", None),
    ],
)  # fmt: skip
def test_unit_drop_in_is_generated(lines: str, expected: list[str] | None) -> None:
    made = make_unit_drop_in(UNIT.format(lines=lines), CURRENT)
    if expected is None:
        assert made is None
    elif not expected:
        assert made == ""
    else:
        assert (made or "").splitlines() == [MARK, "[Service]", "ExecStart=", *expected]
