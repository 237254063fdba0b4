"""Other faults of a site: interrupted package, full disk, network down, wrong clock, removal."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

from benchmarks.debian.container import Container, wait_for
from benchmarks.debian.site import running, sequence
from benchmarks.machine.boots import server_failed, torn
from benchmarks.machine.box import Box
from benchmarks.machine.disk import Image, Loss
from benchmarks.machine.judge import (
    Facts,
    acknowledged,
    find_faults,
    measure_user_return,
    status,
    waited_for,
)
from benchmarks.machine.line import Outside
from benchmarks.machine.prepare import Ground, change_disk
from benchmarks.machine.record import Recorded, approve, await_rehearsal, is_service_running
from benchmarks.machine.site import START, TARGET
from benchmarks.report import print_line
from ncen_updater.agent.storage.agent_selection import TrialState

FILLER = "/var/tmp/filler"
#: Fills the disk except for some bytes; space reserved for root remains, unless root fills it.
FILL = f"""
room=$(( $(stat -f -c '%a' /) * $(stat -f -c '%S' /) - {{left}} ))
test $room -le 0 || fallocate -l $room {FILLER}
"""
#: A wrong clock, as after an empty battery, for the units that matter here.
CLOCK = """
for unit in ncen postgresql@ ncen-updater ncen-updater-apply@ ncen-updater-fetch@ \\
  ncen-updater-send@ ncen-updater-resume; do
  mkdir -p etc/systemd/system/$unit.service.d
  cat > etc/systemd/system/$unit.service.d/clock.conf <<'END'
[Service]
{environment}
END
done
"""
SHIFT = (
    "LD_PRELOAD=/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "FAKETIME={shift}",
    "DONT_FAKE_MONOTONIC=1",
)
PATIENCE_S = 900.0


@dataclass(frozen=True)
class Event:
    """One fault and its result.

    Attributes:
        at: Number of entries of the disk before a cut.
        in_after_s: Seconds from power on until users can work.
    """

    what: str
    at: int | None = None
    in_after_s: float | None = None
    note: str = ""
    wrong: tuple[str, ...] = ()


def report_event(event: Event) -> Event:
    """Print an event and return it."""
    print_line(str(asdict(event)))
    return event


def _come_up(box: Box) -> float | None:
    box.start()
    box.start_users()
    return measure_user_return(box)


def _cuts(
    ground: Ground, box: Box, begin: int, number: int, chance: Random,
    judge: Callable[[Box, float, list[str]], str],
    what: str, known: Mapping[str, Facts], *, agent: bool, outside: Outside | None = None,
) -> list[Event]:  # fmt: skip
    """Cut what a machine just did after chosen entries, and judge each."""
    end = box.disk.stop()
    box.stop_users()
    box.container.cut()  # one machine at a time
    log = ground.place("officers.jsonl")
    shutil.copyfile(box.log, log)
    events = []
    for at in sorted(chance.sample(range(begin + 1, end + 1), number)):
        image, _ = box.recording.cut(box.disk.begin, at, chance.choice(list(Loss)), chance)
        entered = acknowledged(log, box.recording.when(at))
        other = ground.box(image, "torn")
        try:
            seconds = _come_up(other)
            if outside is not None:
                outside.connect(other)
            if seconds is None:
                events.append(report_event(Event(what, at, None, "", ("users cannot work",))))
                continue
            wrong: list[str] = []
            note = judge(other, seconds, wrong)
            wrong += find_faults(other, known, entered, agent=agent)[1]
            if waited := waited_for(other, seconds):
                note += f"; slow: {waited}"
            events.append(report_event(Event(what, at, seconds, note, tuple(wrong))))
        finally:
            other.close()
    return events


def waiting(ground: Ground) -> Image:
    """Return the disk of a site that has rehearsed the newer release and waits for approval."""
    file = ground.work / "waiting.img"
    if not file.exists():
        print_line("letting a site rehearse")
        outside = Outside(ground.secretariat.feed_with(TARGET))
        box = ground.box(Image(ground.site), "waiting")
        try:
            box.boot()
            outside.connect(box)
            await_rehearsal(box.container)
            box.power_off().save(file)
        finally:
            box.close()
            outside.close()
    return Image(file)


def _known(ground: Ground) -> Mapping[str, Facts]:
    return Recorded.load(ground.work / "upgrade").known


def package(ground: Ground, newer: Path, cuts: int, seed: int) -> list[Event]:
    """Cut the power during the installation of a newer package; then install it again."""
    shutil.copyfile(newer, ground.secretariat.directory / "newer.deb")
    box = ground.box(Image(ground.site), "package")

    def judge(other: Box, _seconds: float, wrong: list[str]) -> str:
        container = other.container
        before = installed(container)
        container.run("dpkg", "--configure", "-a")
        again = container.run("dpkg", "--install", "/pkg/newer.deb")
        if again.returncode:
            wrong.append(f"installing it again: {again.stdout}{again.stderr}")
        if wait_for(lambda: is_service_running(container), PATIENCE_S) is None:
            wrong.append("the service does not run")
        if wait_for(lambda: True if running(container) == "0.2.0" else None, PATIENCE_S) is None:
            wrong.append("the newer agent does not run")
        return f"{before}, then {installed(container)}, agent {running(container)}"

    try:
        if _come_up(box) is None:
            raise RuntimeError("users cannot work")
        wait_for(lambda: is_service_running(box.container), PATIENCE_S)
        begin = len(box.recording)
        box.container.must("dpkg", "--install", "/pkg/newer.deb")
        time.sleep(2)
        return _cuts(
            ground, box, begin, cuts, Random(seed), judge, "package", _known(ground), agent=True
        )
    finally:
        box.close()


def installed(container: Container) -> str:
    """Return the package status from dpkg."""
    query = ["dpkg-query", "--show", "--showformat", "${Status} ${Version}", "ncen-updater"]
    return container.run(*query).stdout.strip()


def self_update(ground: Ground, release: Path, cuts: int, seed: int) -> list[Event]:
    """Cut the power during a self-update."""
    feed = ground.work / "feed-agent"
    if not feed.exists():
        shutil.copytree(ground.secretariat.feed, feed)
        ground.secretariat.publish_source(feed, release)
    outside = Outside(feed)
    box = ground.box(Image(ground.site), "renewal")

    def settled(container: Container) -> bool | None:
        found = sequence(container)
        if found.get("state") != TrialState.CONFIRMED:
            return None
        return True if running(container) == found.get("current") else None

    def judge(other: Box, _seconds: float, wrong: list[str]) -> str:
        if wait_for(lambda: settled(other.container), PATIENCE_S) is None:
            wrong.append(f"no agent is confirmed: {sequence(other.container)}")
        # The network is back: an old agent updates itself at the next check.
        other.container.run("ncen-updater", "check")
        new = wait_for(lambda: True if running(other.container) == "0.2.0" else None, 120)
        wait_for(lambda: settled(other.container), PATIENCE_S)
        return f"agent {running(other.container)}{'' if new else ', not renewed yet'}"

    try:
        if _come_up(box) is None:
            raise RuntimeError("users cannot work")
        outside.connect(box)
        container = box.container
        wait_for(lambda: is_service_running(container), PATIENCE_S)
        begin = len(box.recording)
        container.run("ncen-updater", "check")
        done = wait_for(lambda: True if running(container) == "0.2.0" else None, PATIENCE_S)
        if done is None or wait_for(lambda: settled(container), PATIENCE_S) is None:
            log = container.run("journalctl", "-b", "-p", "err", "-n", "5", "-o", "cat").stdout
            raise RuntimeError(f"the agent is not renewed: {sequence(container)}; {log}")
        return _cuts(
            ground, box, begin, cuts, Random(seed), judge, "self-update", _known(ground),
            agent=True, outside=outside,
        )  # fmt: skip
    finally:
        box.close()
        outside.close()


def full_disk(ground: Ground, seed: int) -> list[Event]:
    """Fill the disk during a change, and before an interrupted change is completed."""
    events = []
    for step, left, user in (
        ("preflight", 4 << 20, "nobody"),
        ("copy", 8 << 20, "nobody"),
        ("migrate", 0, "nobody"),
        ("start", 0, "nobody"),
        ("copy", 0, "root"),
    ):
        events.append(report_event(_full(ground, step, left, user)))
    events.append(report_event(_full_and_torn(ground, seed)))
    return events


def _full(ground: Ground, step: str, left: int, user: str) -> Event:
    recorded = Recorded.load(ground.work / "upgrade")
    image = waiting(ground)
    outside = Outside(ground.secretariat.feed_with(TARGET))
    box = ground.box(image, "full")
    what = f"full from {step} on, {left >> 20} MB left to {user}"
    try:
        if _come_up(box) is None:
            return Event(what, wrong=("users cannot work",))
        outside.connect(box)
        container = box.container
        approve(container)
        if wait_for(lambda: _in_step(container, step), PATIENCE_S) is None:
            return Event(what, wrong=(f"the step {step} is not reached",))
        container.run("runuser", "-u", user, "--", "sh", "-c", FILL.format(left=left))
        wait_for(lambda: _rest(container) or server_failed(container), PATIENCE_S)
        time.sleep(5)  # the log has its result
        said = container.run("ncen-updater", "status").stdout
        container.run("rm", "-f", FILLER)
        in_page = re.search(r"^Status: .*$", said, re.MULTILINE)
        # Debian starts the server once; after a full disk a person starts it.
        container.run("systemctl", "start", "postgresql@17-main")
        now = time.time()
        if wait_for(lambda: _rest(container), PATIENCE_S) is None:
            return Event(what, wrong=(f"it does not come to rest: {status(container)}",))
        again = wait_for(lambda: _entered_since(box, now), PATIENCE_S)
        found, wrong = find_faults(box, recorded.known, acknowledged(box.log, now))
        if again is None:
            wrong.append("users cannot work again")
        shown = in_page[0] if in_page else said[:300]
        return Event(what, note=f"ended with {found.code}; while full: {shown}", wrong=tuple(wrong))
    finally:
        box.close()
        outside.close()


def _in_step(container: Container, step: str) -> bool | None:
    asked = (
        "import sqlite3; print(sqlite3.connect('/var/lib/ncen-updater/journal.sqlite').execute("
        f"\"SELECT count(*) FROM steps WHERE name = '{step}'\").fetchone()[0])"
    )
    return True if container.run("python3", "-c", asked).stdout.strip() not in ("", "0") else None


def _rest(container: Container) -> bool | None:
    said = status(container)
    journal, service = said.get("journal"), said.get("service")
    if not isinstance(journal, dict) or not isinstance(service, dict):
        return None
    return None if journal["open_change"] or journal["lock_holder"] or service["running"] else True


def _entered_since(box: Box, since: float) -> bool | None:
    found = [case for case in acknowledged(box.log, time.time()) if case.at > since]
    return True if found else None


def _full_and_torn(ground: Ground, seed: int) -> Event:
    recorded = Recorded.load(ground.work / "upgrade")
    file = ground.place("full.img")
    script = f"cat /dev/zero > .{FILLER} 2> /dev/null || true"
    image = change_disk(torn(recorded, Random(seed)), file, script)
    box = ground.box(image, "full")
    what = "full at power on, torn in migrate"
    try:
        box.start()
        box.start_users()
        early = measure_user_return(box, 60)
        said = box.container.run("ncen-updater", "status")
        log = box.container.run(
            "journalctl", "-b", "-o", "cat", "--no-pager", "-u", "ncen-updater*"
        )
        named = "disk" in (said.stdout + log.stdout).lower()
        box.container.run("rm", "-f", FILLER)
        # Debian starts the server once; after a full disk a person starts it.
        box.container.run("systemctl", "start", "postgresql@17-main")
        now = time.time()
        seconds = wait_for(lambda: _entered_since(box, now), PATIENCE_S)
        after = round(time.time() - now, 1) if seconds else None
        wrong = find_faults(box, recorded.known, [])[1] if seconds else ["users cannot work"]
        if not named:
            wrong.append("the full disk is not named")
        first = said.stdout.splitlines()[1:2]
        note = f"in while full: {early}; in {after} s after room was made; said: {first}"
        return Event(what, note=note, wrong=tuple(wrong))
    finally:
        box.close()
        file.unlink()


def no_line(ground: Ground) -> list[Event]:
    """Boot without a network, then roll back without it."""
    recorded = Recorded.load(ground.work / "upgrade")
    box = ground.box(Image(recorded.directory / "end.img"), "no-line")
    try:
        seconds = _come_up(box)
        container = box.container
        wait_for(lambda: is_service_running(container), PATIENCE_S)
        checked = container.run("ncen-updater", "check")
        back = container.run("ncen-updater", "rollback", "--yes")
        found, wrong = find_faults(box, recorded.known, acknowledged(box.log, time.time()))
        if seconds is None:
            wrong.append("users cannot work")
        if checked.returncode != 7:
            wrong.append(f"check ends with {checked.returncode}: {checked.stdout}{checked.stderr}")
        if back.returncode or found.code != START:
            wrong.append(f"rollback: {back.returncode} {back.stdout}{back.stderr}")
        return [
            report_event(
                Event("no network", None, seconds, f"rolled back to {found.code}", tuple(wrong))
            )
        ]
    finally:
        box.close()


def clocks(ground: Ground) -> list[Event]:
    """Start with a clock that is years off; nothing retained may expire."""
    return [report_event(_clock(ground, shift)) for shift in ("+9y", "-9y")]


def _clock(ground: Ground, shift: str) -> Event:
    recorded = Recorded.load(ground.work / "upgrade")
    file = ground.place("clock.img")
    variables = [variable.format(shift=shift) for variable in SHIFT]
    script = CLOCK.format(environment="\n".join(f"Environment={one}" for one in variables))
    image = change_disk(Image(recorded.directory / "end.img"), file, script)
    box = ground.box(image, "clock")
    # The commands of a person use the clock of the machine, which the units share here.
    typed = ("env", *variables)
    try:
        seconds = _come_up(box)
        container = box.container
        wait_for(lambda: is_service_running(container), PATIENCE_S)
        container.run(*typed, "ncen-updater", "prune")
        time.sleep(20)
        said = container.run(*typed, "ncen-updater", "rollback", "--dry-run")
        wrong = find_faults(box, recorded.known, [])[1] if seconds else ["users cannot work"]
        kept = container.run(
            "runuser", "-u", "postgres", "--", "psql", "-XAtc",
            "SELECT count(*) FROM pg_database WHERE datname ~ '__prev_'",
        ).stdout.strip()  # fmt: skip
        if kept != "3":
            wrong.append(f"databases that are kept: {kept}")
        if said.returncode:
            wrong.append(f"going back is refused: {said.stdout}{said.stderr}")
        year = container.run(*typed, "date", "+%Y").stdout.strip()
        note = f"the clock of units says {year}"
        return Event(f"clock {shift}", None, seconds, note, tuple(wrong))
    finally:
        box.close()
        file.unlink()


def removal(ground: Ground, cuts: int, seed: int) -> list[Event]:
    """Remove the package while a change is open, cut the power in it, and install it again."""
    return [report_event(_refused(ground)), *_removed(ground, cuts, seed)]


def _refused(ground: Ground) -> Event:
    recorded = Recorded.load(ground.work / "upgrade")
    image = waiting(ground)
    outside = Outside(ground.secretariat.feed_with(TARGET))
    box = ground.box(image, "removal")
    try:
        if _come_up(box) is None:
            return Event("apt remove in a change", wrong=("users cannot work",))
        outside.connect(box)
        container = box.container
        approve(container)
        wait_for(lambda: _in_step(container, "copy"), PATIENCE_S)
        removed = container.run("apt-get", "-y", "remove", "ncen-updater")
        wait_for(lambda: is_service_running(container), PATIENCE_S)
        over = wait_for(
            lambda: True if status(container).get("running", {}).get("version") == TARGET else None,
            PATIENCE_S,
        )
        found, wrong = find_faults(box, recorded.known, acknowledged(box.log, time.time()))
        if removed.returncode == 0:
            wrong.append("it was removed while a change is open")
        if over is None:
            wrong.append(f"the upgrade did not go on: {found.code}")
        return Event(
            "apt remove in a change", note=f"refused, then {found.code}", wrong=tuple(wrong)
        )
    finally:
        box.close()
        outside.close()


def _removed(ground: Ground, cuts: int, seed: int) -> list[Event]:
    box = ground.box(Image(ground.site), "removal")
    deb = next(ground.secretariat.directory.glob("ncen-updater_*.deb")).name

    def judge(other: Box, _seconds: float, wrong: list[str]) -> str:
        before = installed(other.container)
        other.container.run("dpkg", "--configure", "-a")
        again = other.container.run("dpkg", "--install", f"/pkg/{deb}")
        if (
            again.returncode
            or wait_for(lambda: is_service_running(other.container), PATIENCE_S) is None
        ):
            wrong.append(f"it does not come back: {again.stdout}{again.stderr}")
        state = other.container.run("systemctl", "is-enabled", "ncen-updater-resume").stdout
        required = other.container.run("systemctl", "show", "-P", "Requires", "ncen").stdout
        if state.strip() != "enabled" or "ncen-updater-resume.service" not in required:
            wrong.append(f"nothing comes before the application: {state}{required}")
        return f"{before}, then {installed(other.container)}"

    try:
        if _come_up(box) is None:
            raise RuntimeError("users cannot work")
        wait_for(lambda: is_service_running(box.container), PATIENCE_S)
        begin = len(box.recording)
        box.container.must("apt-get", "-y", "remove", "ncen-updater")
        time.sleep(2)
        return _cuts(
            ground, box, begin, cuts, Random(seed), judge, "apt remove", _known(ground), agent=True
        )
    finally:
        box.close()
