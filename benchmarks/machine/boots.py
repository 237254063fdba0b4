"""Boots after a power cut: seconds until users can work, without the agent, and a late server."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

from benchmarks.debian.container import Container, wait_for
from benchmarks.machine.box import Box
from benchmarks.machine.disk import Image, Loss
from benchmarks.machine.judge import LET_IN_S, Facts, find_faults, measure_user_return
from benchmarks.machine.prepare import Ground, change_disk
from benchmarks.machine.record import Recorded, find_step_ranges
from benchmarks.report import print_line

DATA = "var/lib/postgresql/17/main"
CONFIG = "etc/postgresql/17/main"
#: The server runs and answers that it is starting up, as after a long crash recovery.
LATE = f"""
cat > usr/local/bin/late <<'END'
#!/bin/sh
test -e /tmp/late || {{ sleep SECONDS; touch /tmp/late; }}
exit 1
END
chmod 755 usr/local/bin/late
printf "restore_command = '/usr/local/bin/late'\\nhot_standby = off\\n" > {CONFIG}/conf.d/late.conf
touch {DATA}/recovery.signal
chown --reference={DATA}/PG_VERSION {DATA}/recovery.signal
"""
#: A setting that no server accepts: Debian starts it once, and it fails.
DOWN = f"echo 'nonsense = here' > {CONFIG}/conf.d/down.conf"
REPAIR = f"rm /{CONFIG}/conf.d/down.conf; systemctl start postgresql@17-main"
DOWN_S = 30
#: Instead of a number of recoveries: no change is open.
OVER = -1


@dataclass(frozen=True)
class Boot:
    """One start of the machine.

    Attributes:
        server: Seconds after its start until the server accepts sessions; None if it is down until
            somebody repairs it.
        in_after_s: Seconds from power on until users can work; from the repair if the server was
            down.
    """

    what: str
    agent: bool
    server: float | None
    in_after_s: float | None
    wrong: tuple[str, ...] = ()


def idle(ground: Ground, image: Path, chance: Random) -> Image:
    """Cut the power while users work and no change is open; return the disk."""
    box = ground.box(Image(image), "idle")
    try:
        box.start()
        box.start_users()
        if measure_user_return(box) is None:
            raise RuntimeError("users cannot work")
        time.sleep(8)
        return box.cut(Loss.SUBSET, chance).image
    finally:
        box.close()


def late(
    ground: Ground, seconds: Sequence[float], seed: int, *, agents: Sequence[bool] = (False, True)
) -> list[Boot]:
    """Start an idle machine after a power cut, with and without the agent, with a late server."""
    chance = Random(seed)
    found = []
    for agent in agents:
        cut = idle(ground, ground.site if agent else ground.bare, chance)
        for server in (*seconds, None):
            found.append(_boot(ground, cut, "nothing open", server, agent=agent))
    return found


def torn_and_late(
    ground: Ground, recorded: Recorded, seconds: Sequence[float | None], seed: int
) -> list[Boot]:
    """Measure the boots after an upgrade that a power cut interrupted in its migrations."""
    image = torn(recorded, Random(seed))
    known = recorded.known
    return [
        _boot(ground, image, "torn in migrate", server, agent=True, known=known)
        for server in seconds
    ]


def torn(recorded: Recorded, chance: Random, step: str = "migrate") -> Image:
    """Return the disk after a power cut in a step of a recorded change."""
    recording = recorded.recording()
    at = chance.choice(find_step_ranges(recording)[step])
    image, _ = recording.cut(recorded.begin, at, Loss.TEAR, chance)
    recording.close()
    return image


def _boot(
    ground: Ground, image: Image, what: str, server: float | None, *,
    agent: bool, known: Mapping[str, Facts] | None = None,
) -> Boot:  # fmt: skip
    file = ground.place("changed.img")
    script = DOWN if server is None else LATE.replace("SECONDS", str(server)) if server else "true"
    box = ground.box(change_disk(image, file, script), "late")
    try:
        box.start()
        box.start_users()
        begin = box.began
        if server is None:
            if wait_for(lambda: server_failed(box.container), LET_IN_S) is None:
                raise RuntimeError("the server is not down")
            early = measure_user_return(box, DOWN_S)
            if early is not None:
                raise RuntimeError("users work without a server")
            begin = time.time()
            box.container.must("sh", "-c", REPAIR)
        found = measure_user_return(box, (server or 0) + LET_IN_S)
        seconds = None if found is None else round(found + box.began - begin, 1)
        wrong = [] if found is not None else ["users cannot work"]
        if found is not None and agent and known is not None:
            wrong = find_faults(box, known, [])[1]
        result = Boot(what, agent, server, seconds, tuple(wrong))
    finally:
        box.close()
        file.unlink()
    print_line(str(asdict(result)))
    return result


def server_failed(container: Container) -> bool | None:
    """Return whether the server's unit has failed; None if it has not."""
    state = container.run("systemctl", "is-active", "postgresql@17-main").stdout.strip()
    return True if state == "failed" else None


def flicker(ground: Ground, recorded: Recorded, times: int, seed: int) -> Boot:
    """Cut the power repeatedly, each time after the journal has recorded one more recovery.

    A recovery may end before the power cut; then the repetition ends.
    """
    chance = Random(seed)
    image = torn(recorded, chance)
    noted = cuts = 0
    while cuts < times:
        box = ground.box(image, "flicker")
        try:
            box.start()
            now = wait_for(_one_more(box, noted), LET_IN_S)
            if now is None:
                raise RuntimeError("no recovery begins")
            if now == OVER:
                break
            noted, cuts = now, cuts + 1
            image = box.cut(chance.choice(list(Loss)), chance).image
        finally:
            box.close()
    box = ground.box(image, "flicker")
    try:
        box.start()
        box.start_users()
        seconds = measure_user_return(box)
        wrong = (
            ["users cannot work"] if seconds is None else find_faults(box, recorded.known, [])[1]
        )
        result = Boot(f"{cuts} cuts in recovery", True, 0.0, seconds, tuple(wrong))
    finally:
        box.close()
    print_line(str(asdict(result)))
    return result


def _one_more(box: Box, noted: int) -> Callable[[], int | None]:
    def look() -> int | None:
        found, still_open = _recoveries(box)
        if found > noted:
            return found
        return None if still_open else OVER

    return look


def _recoveries(box: Box) -> tuple[int, bool]:
    """Return the number of recoveries in the journal; :data:`OVER` without an open change."""
    asked = (
        "import sqlite3; print(*sqlite3.connect('/var/lib/ncen-updater/journal.sqlite').execute("
        "\"SELECT (SELECT count(*) FROM events WHERE kind = 'recovery'), (SELECT count(*) FROM"
        " changes WHERE state NOT IN ('finished', 'reverted'))\").fetchone())"
    )
    said = box.container.run("python3", "-c", asked).stdout.split()
    return (int(said[0]), said[1] != "0") if said else (0, True)
