"""``ncen-updater setup`` on a site whose users work: done, undone, killed, and a power cut.

The package is installed as its guide says. All the rest is ``setup``: with a file of answers, and
once with the answers of a person at a terminal. Files, permissions, units, roles, grants and
schemas are checked for leftovers.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random

from benchmarks.debian.container import wait_for
from benchmarks.machine.box import Box
from benchmarks.machine.disk import Image, Loss
from benchmarks.machine.guide import INSTALLATION, commands
from benchmarks.machine.judge import (
    LET_IN_S,
    acknowledged,
    compare_facts,
    facts,
    lost_records,
    measure_user_return,
    status,
)
from benchmarks.machine.line import FEED_URL, Outside
from benchmarks.machine.prepare import Ground
from benchmarks.machine.record import approve
from benchmarks.machine.site import CLUSTER, START, TARGET, Administrator
from benchmarks.report import print_line

BY_HAND = Path(f"/srv/ncen/{START}")
ANSWERS = """\
schema = 1
[site]
id = "mu-port-louis"
country = "MU"
[feed]
urls = ["{feed}"]
[trust]
root = "/root/secretariat/root.json"
fingerprint = "{fingerprint}"
[people]
operators = ["amina"]
approvers = ["amina"]
[[windows]]
start = "00:00"
end = "12:00"
[[windows]]
start = "12:00"
end = "00:00"
"""
DRY_RUN = "ncen-updater setup --answers /root/setup.toml --dry-run"
SETUP = "ncen-updater setup --answers /root/setup.toml --yes"
SETUP_AGAIN, UNDO = "ncen-updater setup --yes", "ncen-updater setup --undo --yes"
#: A person's seven answers.
TYPED = ("mu-port-louis", "MU", FEED_URL, "/root/secretariat/root.json", "amina", "none", "y")
#: Everything that setup may change, except files that Debian's programs maintain.
STATE = """
find /etc /opt/ncen /var/lib/ncen-updater /run/ncen ! -path '/etc/*-' \
  -printf '%p %y %m %u:%g %l\\n' 2>/dev/null || true
find /etc /var/lib/ncen-updater -type f ! -path '/etc/*-' -exec sha256sum {} +
systemctl list-unit-files --no-legend --plain 'ncen*'
systemctl is-active ncen ncen-updater ncen-updater-resume || true
readlink /proc/$(systemctl show --property=MainPID --value ncen)/cwd
! pg_lsclusters --no-header | grep -q online ||
  runuser -u postgres -- pg_dumpall --schema-only | grep -v restrict
"""
#: Runs setup, and waits until its record has a step; then setup is killed, or continues.
UNTIL = """
import json, os, signal, subprocess, sys
said = open('/root/said', 'w')
setup = subprocess.Popen(sys.argv[3:], stdout=said, stderr=said, start_new_session=True)
def is_reached():
    try:
        with open('/var/lib/ncen-updater/setup/record.json') as record:
            entries = json.load(record)['steps']
    except (OSError, ValueError):
        return False
    names = ('kind', 'path', 'before_files')
    return any(
        entry['state'] and ' '.join(str(entry['step'].get(name)) for name in names) == sys.argv[1]
        for entry in entries
    )
while not is_reached():
    if setup.poll() is not None:
        sys.exit(open('/root/said').read())
if sys.argv[2] == 'kill':
    os.killpg(setup.pid, signal.SIGKILL)
    setup.wait()
"""
AT_LOGINS = f"file {CLUSTER}/pg_hba.conf None"
CUT = "power cut at the restart"
AT_ADOPTION, AT_RESTART = "adopt None None", "restart None False"


@dataclass(frozen=True)
class SetupAttempt:
    """One trial of setup.

    Attributes:
        seconds: Duration of setup.
        figures: What users observed, and number of typed commands.
    """

    what: str
    seconds: float | None = None
    figures: Mapping[str, float] | None = None
    wrong: tuple[str, ...] = ()


class Trial:
    """A machine with the package, whose users work."""

    def __init__(self, box: Box) -> None:
        self.box, self.container = box, box.container
        self.before = self.list_state()
        self.known = {START: facts(self.container, BY_HAND)}
        self.wrong: list[str] = []
        self.began = time.time()

    def list_state(self) -> set[str]:
        """Return the state of the site, a line for each fact."""
        return set(self.container.must("sh", "-c", STATE).splitlines())

    def require_unchanged(self, when: str) -> None:
        """Record differences from the state before."""
        now = self.list_state()
        self.wrong += [f"{when}, gone: {line}" for line in sorted(self.before - now)[:10]]
        self.wrong += [f"{when}, new: {line}" for line in sorted(now - self.before)[:10]]

    def type(self, line: str, *, user: str = "root", status: int = 0) -> str:
        """Type a command; record an unexpected exit status."""
        ended = self.container.run("runuser", "-u", user, "--", "sh", "-c", line)
        said = ended.stdout + ended.stderr
        if ended.returncode != status:
            self.wrong.append(f"{line}: exit status {ended.returncode}: {said}")
        return said

    def require_sound(self, current: Path) -> None:
        """Record lost cases, and anything but one whole version."""
        now = time.time()
        self.wrong += compare_facts(facts(self.container, current), self.known)
        self.wrong += lost_records(self.container, acknowledged(self.box.log, now))

    def require_set_up(self) -> None:
        """Record missing results of setup."""
        self.type("ncen-updater doctor")
        self.type("ncen-updater check")
        self.require_sound(Path("/opt/ncen/current"))

    def count(self) -> dict[str, float]:
        """Return what users observed since the trial began."""
        lines = self.box.log.read_bytes().split(b"\n")[:-1]
        entries = [json.loads(line) for line in lines]
        outages = [one for one in entries if one.get("from_wall", 0.0) > self.began]
        longest = max((float(one["outage_s"]) for one in outages), default=0.0)
        refused = sum(int(one["refused"]) for one in outages)
        return {"outages": len(outages), "longest_s": round(longest, 1), "refused": refused}


def try_setup(ground: Ground, seed: int, only: str = "") -> list[SetupAttempt]:
    """Set a site up, undo it, kill setup twice, and cut the power once."""
    site = ground.work / "setup.img"
    if not site.exists():
        _install(ground, site)
    acts: Mapping[str, Callable[[Trial], SetupAttempt]] = {
        "set up, upgrade, roll back": _set_up,
        "set up by seven answers, undo": _undo,
        "killed at the logins, set up again": partial(_kill, step=AT_LOGINS, then=SETUP_AGAIN),
        "killed in the adoption, undone": partial(_kill, step=AT_ADOPTION, then=UNDO),
    }
    rows = [_try(ground, Image(site), what, act) for what, act in acts.items() if only in what]
    if only in CUT:
        rows.append(_cut(ground, Image(site), Random(seed)))
    return rows


def _install(ground: Ground, site: Path) -> None:
    outside = Outside(ground.secretariat.feed)
    box = ground.box(Image(ground.bare), "setup")
    try:
        box.boot()
        outside.connect(box)
        shared, [package] = ground.secretariat.directory, ground.secretariat.packages()
        person = Administrator(box.container, shared, package)
        person.install_package()
        if failed := [line for line in person.typed if line.status]:
            raise RuntimeError(f"lines of the guide fail: {failed}")
        digest = hashlib.sha256((shared / "root.json").read_bytes()).hexdigest()
        answers = ANSWERS.format(feed=FEED_URL, fingerprint=digest)
        box.container.must("sh", "-c", 'printf %s "$0" > /root/setup.toml', answers)
        box.power_off().save(site)
    finally:
        box.close()
        outside.close()


def _try(
    ground: Ground, site: Image, what: str, act: Callable[[Trial], SetupAttempt]
) -> SetupAttempt:
    # A rehearsal of a newer release would block the undo.
    sent = ground.secretariat
    outside = Outside(sent.feed_with(TARGET) if act is _set_up else sent.feed)
    box = ground.box(site, "setup")
    try:
        box.boot()
        outside.connect(box)
        box.start_users()
        if measure_user_return(box) is None:
            raise RuntimeError("users cannot work")
        trial = Trial(box)
        tried = act(trial)
        row = SetupAttempt(what, tried.seconds, tried.figures, (*tried.wrong, *trial.wrong))
        print_line(str(row))
        return row
    finally:
        box.close()
        outside.close()


def _set_up(trial: Trial) -> SetupAttempt:
    trial.type(DRY_RUN)
    trial.require_unchanged("dry run")
    began = time.monotonic()
    said = trial.type(SETUP)
    seconds = round(time.monotonic() - began, 1)
    print_line(said)
    trial.require_set_up()
    figures = {"typed": len(commands(INSTALLATION.read_text("utf-8"), 1)) + 2, **trial.count()}
    if figures["outages"] > 1:
        trial.wrong.append("users were refused more than once")
    approve(trial.container)
    _await_version(trial, TARGET)
    trial.known[TARGET] = facts(trial.container)
    # In the foreground it would wait until the end of the soak period.
    trial.container.must(
        "sh", "-c", "runuser -u amina -- ncen-updater rollback --yes > /dev/null 2>&1 &"
    )
    _await_version(trial, START)
    trial.type("ncen-updater confirm", user="amina")
    trial.require_sound(Path("/opt/ncen/current"))
    return SetupAttempt("", seconds, figures)


def _await_version(trial: Trial, version: str) -> None:
    def look() -> bool | None:
        said = status(trial.container)
        if not said or said["running"]["version"] != version:
            return None
        change = said["journal"]["open_change"]
        return True if change is None or change["step"] == "soak" else None

    if wait_for(look, LET_IN_S) is None:
        trial.wrong.append(f"{version} does not run: {status(trial.container)}")


def _undo(trial: Trial) -> SetupAttempt:
    keys = "\\n".join(TYPED)
    began = time.monotonic()
    said = trial.type(f"printf '{keys}\\n' | script -qec 'ncen-updater setup' /dev/null")
    seconds = round(time.monotonic() - began, 1)
    print_line(said)
    trial.require_set_up()
    trial.type(UNDO)
    trial.require_unchanged("undo")
    trial.require_sound(BY_HAND)
    return SetupAttempt("", seconds, {"questions": len(TYPED), **trial.count()})


def _kill(trial: Trial, step: str, then: str) -> SetupAttempt:
    trial.container.must("python3", "-c", UNTIL, step, "kill", *SETUP.split())
    began = time.monotonic()
    trial.type(then)
    seconds = round(time.monotonic() - began, 1)
    if then == UNDO:
        trial.require_unchanged("undo")
        trial.require_sound(BY_HAND)
    else:
        trial.require_set_up()
        trial.type(UNDO)
        trial.require_unchanged("undo")
    return SetupAttempt("", seconds, trial.count())


def _cut(ground: Ground, site: Image, chance: Random) -> SetupAttempt:
    """Cut the power while nCEN restarts, and continue."""
    outside = Outside(ground.secretariat.feed)
    box = ground.box(site, "setup")
    try:
        box.boot()
        outside.connect(box)
        before = Trial(box)
        box.container.must("python3", "-c", UNTIL, AT_RESTART, "go on", *SETUP.split())
        image = box.cut(chance.choice(list(Loss)), chance).image
        kept = ground.place("setup-cut.img")
        image.save(kept)
    finally:
        box.close()
    box = ground.box(Image(kept), "setup")
    try:
        box.boot()
        outside.connect(box)
        box.start_users()
        found = measure_user_return(box)
        trial = Trial(box)
        trial.before, trial.known = before.before, before.known
        began = time.monotonic()
        trial.type(SETUP_AGAIN)
        seconds = round(time.monotonic() - began, 1)
        trial.require_set_up()
        trial.type(UNDO)
        trial.require_unchanged("undo")
        figures = {"in_after_s": found or LET_IN_S, **trial.count()}
        row = SetupAttempt(CUT, seconds, figures, tuple(trial.wrong))
        print_line(str(row))
        return row
    finally:
        box.close()
        outside.close()
        kept.unlink()
