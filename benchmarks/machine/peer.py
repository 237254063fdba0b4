"""The quick start with login by peer and with other paths.

The application logs in by Debian's peer as a system user of its own. Slots and the link are in
``/opt/shop``, and the maintenance file is below ``/run/shop``, which is missing after each boot.
The guide is typed, once without a line that it must not omit. Then the power is cut in the copy,
and the machine starts in three ways: unattended, with a broken configuration, and with a failed
unit, so that a person types ``resume``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random

from benchmarks.debian.container import Container, wait_for
from benchmarks.machine.box import Box
from benchmarks.machine.disk import Image, Loss
from benchmarks.machine.judge import (
    LET_IN_S,
    Acknowledged,
    Facts,
    acknowledged,
    compare_facts,
    facts,
    lost_records,
    measure_user_return,
)
from benchmarks.machine.line import Outside
from benchmarks.machine.prepare import Ground, change_disk
from benchmarks.machine.record import approve
from benchmarks.machine.site import CLUSTER, CONFIG, DOOR, START, TARGET, Administrator
from benchmarks.report import print_line

SHOP = Path("/opt/shop")
CLOSED = "/run/shop/closed"
ELSEWHERE = {
    'feed_state = "var': f'slots = "{SHOP}/slots"\ncurrent = "{SHOP}/current"\nfeed_state = "var',
    DOOR.lstrip("/"): CLOSED.lstrip("/"),
}
OWN_LINE = "ncen ncen ncen"
SPOILT = "sed -i 's/^seconds = 10$/seconds = \"ten\"/' etc/ncen-updater/agent.toml"
FAILS = """
mkdir -p etc/systemd/system/ncen-updater-resume.service.d
printf '[Service]\\nExecStart=\\nExecStart=/bin/false\\n' \
  > etc/systemd/system/ncen-updater-resume.service.d/trial.conf
"""
MENDED = "rm -r /etc/systemd/system/ncen-updater-resume.service.d; systemctl daemon-reload"
AT_COPY = (
    "import sqlite3, sys; sys.exit(not sqlite3.connect('/var/lib/ncen-updater/journal.sqlite')"
    ".execute(\"SELECT count(*) FROM events WHERE kind = 'step-intended' AND data LIKE"
    " '%copy%'\").fetchone()[0])"
)


@dataclass(frozen=True)
class TrialPart:
    """One part of the trial.

    Attributes:
        seconds: How long users waited, if it is a start of the machine.
        answers: What users observed.
    """

    what: str
    seconds: float | None = None
    answers: Mapping[str, float] | None = None
    wrong: tuple[str, ...] = ()


def try_peer(ground: Ground, seed: int) -> list[TrialPart]:
    """Follow the guide, cut the power in the copy, and start the machine in three ways."""
    chance = Random(seed)
    site = ground.work / "peer.img"
    rows = [] if site.exists() else _install(ground, site)
    cut, entered, known = _cut(ground, site, chance)
    for what, script in (("no hands", "true"), ("spoilt", SPOILT), ("resume typed", FAILS)):
        rows.append(_start(ground, cut, what, script, entered, known))
        print_line(str(rows[-1]))
    return rows


def _install(ground: Ground, site: Path) -> list[TrialPart]:
    outside = Outside(ground.secretariat.feed)
    box = ground.box(Image(ground.bare), "peer")
    rows = []
    try:
        box.boot()
        outside.connect(box)
        container = box.container
        container.must(
            "sh", "-ec",
            f"""
            mkdir -p /run/shop
            sed -i s,{DOOR},{CLOSED}, /srv/ncen/overlay/ncen.json
            systemctl restart ncen
            """,
        )  # fmt: skip
        config = CONFIG
        for old, new in ELSEWHERE.items():
            config = config.replace(old, new)
        shared, [package] = ground.secretariat.directory, ground.secretariat.packages()
        person = Administrator(container, shared, package, config, str(SHOP / "current"))
        box.start_users()
        person.install(without=OWN_LINE)
        failed = [line for line in person.typed if line.status]
        if failed:
            raise RuntimeError(f"lines of the guide fail: {failed}")
        container.must(
            "sh", "-ec",
            f"sed -i s,{DOOR},{CLOSED}, /etc/nginx/sites-available/ncen; systemctl reload nginx",
        )  # fmt: skip
        refused = container.run("ncen-updater", "adopt", START, "--dry-run")
        said = refused.stdout + refused.stderr
        wrong: tuple[str, ...] = () if refused.returncode == 3 and "NU-4170" in said else (said,)
        rows.append(TrialPart("adopt without the line refuses", None, None, wrong))
        ident = f"{CLUSTER}/pg_ident.conf"
        container.must("sed", "-i", f"1i {OWN_LINE}", ident)
        container.must("systemctl", "reload", "postgresql")
        person.adopt()
        wrong = tuple(f"{line.line}: {line.said}" for line in person.typed if line.status)
        rows.append(TrialPart("the guide typed", None, _answers(box), wrong))
        rows.append(_compare_doctors(container))
        box.power_off().save(site)
    finally:
        box.close()
        outside.close()
    for row in rows:
        print_line(str(row))
    return rows


def _compare_doctors(container: Container) -> TrialPart:
    """Compare ``doctor`` of root and of a user, before and after the units allow a path."""
    more = '[[files]]\\nname = "more"\\ndirectory = "srv/elsewhere/more"\\n'
    file = "/etc/ncen-updater/agent.toml"
    container.must("sh", "-ec", f"mkdir -p /srv/elsewhere/more; cp {file} /root/kept")
    container.must("sh", "-ec", f"printf '{more}' >> {file}")
    closed = [_doctor(container), _doctor(container, "amina")]
    container.must("systemctl", "daemon-reload")
    opened = [_doctor(container), _doctor(container, "amina")]
    container.must("sh", "-ec", f"cat /root/kept > {file}; systemctl daemon-reload")
    wrong = [f"not closed: {said}" for code, said in closed if code != 3 or "NU-6346" not in said]
    wrong += [f"not open: {said}" for code, said in opened if code]
    return TrialPart("doctor of root and of a person", None, None, tuple(wrong))


def _doctor(container: Container, user: str = "root") -> tuple[int, str]:
    ended = container.run("runuser", "-u", user, "--", "ncen-updater", "doctor")
    return ended.returncode, ended.stdout + ended.stderr


def _cut(
    ground: Ground, site: Path, chance: Random
) -> tuple[Image, list[Acknowledged], dict[str, Facts]]:
    """Upgrade by the service, and cut the power in the copy."""
    outside = Outside(ground.secretariat.feed_with(TARGET))
    box = ground.box(Image(site), "peer")
    try:
        box.start()
        box.start_users()
        outside.connect(box)
        if measure_user_return(box) is None:
            raise RuntimeError("users cannot work")
        known = {START: facts(box.container, SHOP / "current")}
        approve(box.container)
        looks = 'until python3 -c "$0"; do :; done'
        box.container.must("sh", "-c", looks, AT_COPY)
        cut = box.cut(chance.choice(list(Loss)), chance)
        kept = ground.work / "peer-cut.img"
        cut.image.save(kept)
        return Image(kept), acknowledged(box.log, cut.at), known
    finally:
        box.close()
        outside.close()


def _start(
    ground: Ground, image: Image, what: str, script: str,
    entered: list[Acknowledged], known: Mapping[str, Facts],
) -> TrialPart:  # fmt: skip
    file = ground.place("changed.img")
    box = ground.box(change_disk(image, file, script), "peer")
    wrong: list[str] = []
    try:
        box.start()
        box.start_users()
        began = box.began
        if script == FAILS:
            if wait_for(lambda: _failed(box.container), LET_IN_S) is None:
                raise RuntimeError("the unit does not fail")
            box.container.must("sh", "-c", MENDED)
            box.container.run("systemctl", "stop", "ncen-updater")
            began = time.time()
            typed = box.container.run("ncen-updater", "resume")
            print_line(f"resume: {typed.returncode} in {time.time() - began:.1f} s: {typed.stdout}")
            if typed.returncode:
                wrong.append(f"resume: {typed.stdout}{typed.stderr}")
        found = measure_user_return(box)
        seconds = None if found is None else round(found + box.began - began, 1)
        wrong += _wrongs(box, entered, known) if found is not None else ["users are not in"]
        return TrialPart(what, seconds, _answers(box), tuple(wrong))
    finally:
        box.close()
        file.unlink()


def _failed(container: Container) -> bool | None:
    state = container.run("systemctl", "is-failed", "ncen-updater-resume").stdout.strip()
    return True if state == "failed" else None


def _wrongs(box: Box, entered: list[Acknowledged], known: Mapping[str, Facts]) -> list[str]:
    container = box.container
    wrong = compare_facts(facts(container, SHOP / "current"), known)
    wrong += lost_records(container, entered)
    if container.run("test", "-e", CLOSED).returncode == 0:
        wrong.append("the maintenance file is left")
    if container.run("systemctl", "is-active", "ncen").stdout.strip() != "active":
        wrong.append("the application is not active")
    return wrong


def _answers(box: Box) -> Mapping[str, float]:
    """Return the number of saved cases, and the seconds of each interval without one."""
    lines = box.log.read_bytes().split(b"\n")[:-1] if box.log.exists() else []
    seen = [json.loads(line) for line in lines]
    outages = [round(float(one["outage_s"]), 1) for one in seen if "outage_s" in one]
    saved = sum("case_ref" in one for one in seen)
    return {"saved": saved, **{f"outage {n}": s for n, s in enumerate(outages, 1)}}
