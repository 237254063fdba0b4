"""Restarts, stops and power cuts that must not be blamed on the release or the agent."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from random import Random

from benchmarks.debian.container import Container, wait_for
from benchmarks.debian.site import running, sequence
from benchmarks.machine.boots import torn
from benchmarks.machine.box import CACHE, LIBPQ, SERVER, Box
from benchmarks.machine.disk import Image, Loss
from benchmarks.machine.judge import Facts, acknowledged, find_faults, measure_user_return, status
from benchmarks.machine.line import Outside
from benchmarks.machine.prepare import Ground, change_disk
from benchmarks.machine.record import Recorded, approve, is_service_running
from benchmarks.machine.site import START, TARGET
from benchmarks.machine.trouble import Event, report_event, waiting
from benchmarks.report import print_line

#: Replaces libraries that the agent's processes have open by identical ones, as an upgrade does.
EXCHANGE = """
for library in libssl.so.3 libcrypto.so.3 libsqlite3.so.0 libc.so.6; do
  for file in /usr/lib/x86_64-linux-gnu/$library; do
    real=$(readlink -f "$file")
    cp -p "$real" "$real.new" && mv "$real.new" "$real"
  done
done
"""
#: A maintenance file in a directory that exists only on a running system, and a site that uses it.
PORTAL = "run/portal/maintenance"
ELSEWHERE = f"""
mkdir -p etc/systemd/system/ncen-updater-apply@.service.d
mkdir -p etc/systemd/system/ncen-updater-resume.service.d
for unit in apply@ resume; do
  cat > etc/systemd/system/ncen-updater-$unit.service.d/portal.conf <<'END'
[Service]
ReadWritePaths=-/run/portal
END
done
sed -i 's,^maintenance_file = .*,maintenance_file = "{PORTAL}",' etc/ncen-updater/agent.toml
"""
PATIENCE_S = 300.0
CUTS = 12


@dataclass(frozen=True)
class Act:
    """An action in the middle of an upgrade.

    Attributes:
        step: The step after whose begin it happens.
        typed: Command for a shell of root.
        ends: Versions on which the site may end.
        stops: Whether it stops the application, which a person starts again.
    """

    what: str
    step: str
    typed: str
    ends: tuple[str, ...]
    stops: bool = False


WORKERS = "systemctl restart 'ncen-updater-apply@*'"
TOOL = f"{EXCHANGE}\nNEEDRESTART_MODE=a needrestart -r a -k -l 2>&1 || needrestart -r a 2>&1"
REINSTALL = f"""
set -e
export DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=a
apt-get install -y --reinstall /{CACHE}/{SERVER} /{CACHE}/{LIBPQ} 2>&1
needrestart -r a 2>&1
"""
ACTS = (
    Act("workers restarted in the soak", "soak", WORKERS, (TARGET,)),
    Act("workers restarted in migrate", "migrate", WORKERS, (TARGET,)),
    Act("needrestart in the soak", "soak", TOOL, (TARGET, START)),
    Act("needrestart in migrate", "migrate", TOOL, (TARGET, START)),
    Act("PostgreSQL reinstalled in the soak", "soak", REINSTALL, (TARGET, START)),
    Act(
        "PostgreSQL, nginx and the agent restarted at once in migrate", "migrate",
        "systemctl restart ncen-updater.service nginx.service postgresql@17-main.service",
        (TARGET, START),
    ),
    Act("daemon-reexec at the start", "switch", "systemctl daemon-reexec", (TARGET,)),
    Act("the application stopped in the soak", "soak", "systemctl stop ncen", (TARGET,), True),
)  # fmt: skip


def restarts(ground: Ground, only: str = "") -> list[Event]:
    """Perform each action in an upgrade of its own."""
    known = Recorded.load(ground.work / "upgrade").known
    acts = [act for act in ACTS if only in act.what]
    return [report_event(_act(ground, act, known)) for act in acts]


def _act(ground: Ground, act: Act, known: Mapping[str, Facts]) -> Event:
    image = waiting(ground)
    outside = Outside(ground.secretariat.feed_with(TARGET))
    box = ground.box(image, "restarts")
    try:
        box.start()
        box.start_users()
        if measure_user_return(box) is None:
            return Event(act.what, wrong=("users cannot work",))
        outside.connect(box)
        container = box.container
        approve(container)
        if wait_for(lambda: _is_started(container, act.step), PATIENCE_S) is None:
            return Event(act.what, wrong=(f"the step {act.step} is not reached",))
        began = time.monotonic()
        typed = container.run("sh", "-c", act.typed)
        took = round(time.monotonic() - began, 1)
        if act.stops:
            time.sleep(15)  # longer than the checks of a bad release take
            container.run("systemctl", "start", "ncen")
        if wait_for(lambda: _settled(container), PATIENCE_S) is None:
            said = container.run("ncen-updater", "status").stdout
            return Event(
                act.what, wrong=(f"the service is deaf, or does not come to rest: {said}",)
            )
        now = time.time()
        asked = container.run("ncen-updater", "check")
        found, wrong = find_faults(box, known, acknowledged(box.log, now))
        if asked.returncode:
            wrong.append(f"check: {asked.returncode} {asked.stdout}{asked.stderr}")
        if typed.returncode:
            wrong.append(f"what was typed ended with {typed.returncode}")
        if found.code not in act.ends:
            wrong.append(f"it ended on {found.code}")
        bad = status(container).get("journal", {}).get("bad_releases")
        if bad:
            wrong.append(f"a release was blamed: {bad}")
        lines = f"{typed.stdout}{typed.stderr}".strip().splitlines()
        note = (
            f"ended with {found.code}; the act took {took} s; users out"
            f" {_longest_gap(box)} s; said: {lines[-3:]}"
        )
        return Event(act.what, note=note, wrong=tuple(wrong))
    finally:
        box.close()
        outside.close()


def _is_started(container: Container, step: str) -> bool | None:
    """Return whether a step was begun, without a process of the agent, so as to see it early."""
    asked = (
        "import sqlite3; print(sqlite3.connect('/var/lib/ncen-updater/journal.sqlite').execute("
        f"\"SELECT count(*) FROM steps WHERE name = '{step}'\").fetchone()[0])"
    )
    return True if container.run("python3", "-c", asked).stdout.strip() not in ("", "0") else None


def _settled(container: Container) -> bool | None:
    """Return whether no change is open, and the service accepts jobs."""
    said = status(container)
    journal, service = said.get("journal"), said.get("service")
    if not isinstance(journal, dict) or not isinstance(service, dict):
        return None
    return None if journal["open_change"] or journal["lock_holder"] or service["running"] else True


def _longest_gap(box: Box) -> float:
    """Return the longest time in which no case was saved, in seconds."""
    times = [case.at for case in acknowledged(box.log, time.time())]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    return round(max(gaps, default=0.0), 1)


def power_cuts(ground: Ground, seed: int) -> list[Event]:
    """Cut the power of an idle site repeatedly: a good agent must stay selected."""
    chance, image = Random(seed), Image(ground.site)
    wrong: list[str] = []
    for number in range(CUTS):
        box = ground.box(image, "cuts")
        try:
            box.start()
            if wait_for(partial(is_service_running, box.container), PATIENCE_S) is None:
                return [report_event(Event(f"{number} cuts", wrong=("the service does not run",)))]
            image = box.cut(chance.choice(list(Loss)), chance).image
        finally:
            box.close()
    box = ground.box(image, "cuts")
    try:
        box.start()
        box.start_users()
        seconds = measure_user_return(box)
        container = box.container
        wait_for(lambda: is_service_running(container), PATIENCE_S)
        chosen, before = sequence(container), _chosen(ground)
        if chosen.get("failed") or chosen.get("current") != before or running(container) != before:
            wrong.append(f"the agent was given up: {chosen}, {running(container)} runs")
        if seconds is None:
            wrong.append("users cannot work")
        note = f"agent {running(container)}, attempts {chosen.get('attempts')}"
        return [
            report_event(Event(f"{CUTS} cuts of a good agent", None, seconds, note, tuple(wrong)))
        ]
    finally:
        box.close()


def _chosen(ground: Ground) -> str:
    """Return the version of the agent in the package that the site was made with."""
    names = [path.name for path in ground.secretariat.directory.glob("ncen-updater_*.deb")]
    return names[0].split("_")[1].partition("~")[0]


def maintenance(ground: Ground, seed: int) -> list[Event]:
    """Boot without the directory of the maintenance file below /run."""
    recorded = Recorded.load(ground.work / "upgrade")
    events = []
    cuts: Mapping[str, Callable[[], Image]] = {
        "nothing open": lambda: Image(ground.site),
        "torn in migrate": lambda: torn(recorded, Random(seed)),
    }
    for what, make in cuts.items():
        file = ground.place("portal.img")
        box = ground.box(change_disk(make(), file, ELSEWHERE), "portal")
        try:
            box.start()
            box.start_users()
            seconds = measure_user_return(box, PATIENCE_S)
            wrong = ["users cannot work"] if seconds is None else []
            if seconds is None:
                print_line(box.container.run("journalctl", "--no-pager", "-n", "60").stdout)
            else:
                wrong += find_faults(box, recorded.known, [])[1]
                if box.container.run("test", "-e", f"/{PORTAL}").returncode == 0:
                    wrong.append("the maintenance file is left")
            name = f"maintenance file below /run, {what}"
            events.append(report_event(Event(name, None, seconds, "", tuple(wrong))))
        finally:
            box.close()
            file.unlink()
    print_line(str([asdict(event) for event in events]))
    return events
