"""Console: page sizes, response times, resources, and delay of events.

A site with a thousand changes in its journal, its service and its console, each a process of its
own. Pages are requested like in a browser, with all their resources. The delay from a journal event
to the display is measured at the page *Live* and, if a browser is available, also inside it. The
load of many users is measured at the console behind a web server, where each logs in by password;
that requires root, and PAM rules that accept any password.
"""

from __future__ import annotations

import argparse
import json
import os
import pwd
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.report import compile_as_installed, finish, median, print_line
from demo.site import DemoSite, SiteOptions
from ncen_updater.agent.model.change import (
    Change,
    ChangeKind,
    ChangeState,
    DatabaseMode,
    StepName,
    StepState,
    new_change_id,
)
from ncen_updater.agent.model.change_facts import ChangeFacts
from ncen_updater.agent.model.event_names import JOURNAL_FILE
from ncen_updater.agent.storage.journal.journal import Journal
from tests.console.support import Guest, entered
from tests.login.login_socket import LoginSocket, login_socket, opened
from tests.login.proxied_console import Person, console_process
from tests.support.webdriver import browser, missing

PAGES = (
    "/", "/hold", "/upgrade", "/approve", "/live", "/history", "/rollback-plan", "/audit-log",
    "/settings",
    "/help",
)  # fmt: skip
#: Pages of the load test; the service limits the slow requests of one account.
QUICK = ("/", "/hold", "/history", "/settings")
AIMS = {"page_kb": 150.0, "rest_mb": 35.0, "delay_s": 1.0}
SESSIONS = 4
REST_S = 5.0
#: Account that logs in: a user of every Debian system, whose group has the viewer right.
MEMBER = "daemon"
ANYBODY = "auth required pam_permit.so\naccount required pam_permit.so\n"
NAMED = re.compile(
    r'<link rel="stylesheet" href="([^"]+)"|<(?:script|iframe|img)[^>]* src="([^"]+)"'
)
STEPS = re.compile(r'<li class="([a-z]*)"><span class="is">')
#: Script that records in the page *Live* each change of its steps, and its time.
LISTENS = """
window.heard = [];
let before = null;
const look = () => {
  const steps = [...document.querySelectorAll(".steps li")].map((step) => step.className).join();
  if (steps !== before) window.heard.push(Date.now() / 1000);
  before = steps;
};
look();
new MutationObserver(look).observe(document, { subtree: true, childList: true, attributes: true });
"""


def fill(path: Path, count: int) -> None:
    """Write changes with their steps into a journal, like real upgrades."""
    begin = datetime.now(UTC) - timedelta(days=count)
    moments = [begin]
    first = Change(
        id="aaaaaaaa",
        kind=ChangeKind.UPGRADE,
        mode=DatabaseMode.MIGRATE,
        state=ChangeState.RUNNING,
        product="ncen",
        from_version="3.2.4",
        to_version="3.3.0",
        generation=1,
        created_at=begin,
    )
    with Journal.open(path, now=lambda: moments[-1]) as journal:
        for number in range(count):
            moments.append(begin + timedelta(days=number))
            change = replace(
                first, id=new_change_id(), generation=number + 1, created_at=moments[-1]
            )
            journal.begin_change(change)
            for name in (
                StepName.MAINTENANCE_ON,
                StepName.COPY,
                StepName.MIGRATE,
                StepName.MAINTENANCE_OFF,
            ):
                for state in (StepState.INTENDED, StepState.DONE):
                    journal.record_step(
                        change.id, name, state, ChangeFacts(downtime_s=60.0 + number % 30)
                    )
            journal.set_change_state(change.id, ChangeState.FINISHED)


def pss_mb(process: int) -> float:
    """Return the proportional set size (PSS) of a process, MB."""
    text = Path(f"/proc/{process}/smaps_rollup").read_text("ascii")
    return round(int(re.findall(r"^Pss: +(\d+)", text, re.MULTILINE)[0]) * 1024 / 1e6, 1)


# ---- pages ---------------------------------------------------------------------------------------


def weight(guest: Guest, path: str) -> dict[str, float]:
    """Return the size of a page with its resources, and the number of requests."""
    text = guest.settled(path).text
    named = dict.fromkeys("".join(found) for found in NAMED.findall(text))
    parts = [text, *(guest.get(place).text for place in named)]
    whole = sum(len(part.encode()) for part in parts)
    return {"kb": round(whole / 1000, 1), "requests": len(parts)}


def first_byte_s(guest: Guest, path: str) -> float:
    """Return the seconds until the first byte of a response."""
    line = guest.connection()
    begin = time.perf_counter()
    line.request("GET", path, headers={"Host": guest.host, "Cookie": guest.cookie})
    answer = line.getresponse()
    answer.read(1)
    took = time.perf_counter() - begin
    answer.read()
    line.close()
    return took


# ---- what happens --------------------------------------------------------------------------------


class Happenings:
    """Causes events that *Live* shows: a step of the last change begins or is done.

    The change has ended, so that the service does not resume it.

    Args:
        path: The journal.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._count = path, 0

    def one(self) -> float:
        """Cause an event at a random point of the polling interval; return its time."""
        time.sleep(0.37 + 0.13 * (self._count % 7))
        state = (StepState.INTENDED, StepState.DONE)[self._count % 2]
        self._count += 1
        with Journal.open(self._path) as journal:
            journal.record_step(journal.list_changes(1)[0].id, StepName.SOAK, state)
            return time.time()


def delays(guest: Guest, happenings: Happenings, count: int) -> list[float]:
    """Return the delays in seconds from a journal event to the polled page that shows it."""

    def steps() -> list[str]:
        return STEPS.findall(guest.get("/live").text)

    before, found = steps(), []
    for _ in range(count):
        begin = happenings.one()
        while (now := steps()) == before:
            pass
        before = now
        found.append(time.time() - begin)
    return found


def browser_delays(link: str, happenings: Happenings, count: int) -> list[float]:
    """Measure the same delays in a real browser; return nothing without a browser."""
    lacks = missing()
    if lacks is not None:
        print_line(lacks)
        return []
    found = []
    with browser() as person:
        person.open(link)
        person.until("the first page", lambda: person.all('body[data-page="status"]'))
        person.open(re.sub(r"(://[^/]+).*", r"\1/live", person.address))
        person.run(LISTENS)
        person.until("the first message", lambda: person.run("return window.heard.length"))
        for number in range(count):
            begin = happenings.one()
            script = f"return window.heard[{number + 1}] || 0"
            found.append(person.until("a message", lambda: person.run(script)) - begin)  # noqa: B023
    return found


def summary(seconds: Sequence[float]) -> dict[str, float] | None:
    """Return the median and the longest time; None without any."""
    return {"median": median(seconds), "longest": round(max(seconds), 4)} if seconds else None


# ---- the two ways in -----------------------------------------------------------------------------


@dataclass
class LinkConsole:
    """Console of one user, started by this user."""

    process: subprocess.Popen[str]

    def link(self) -> str:
        """Return the next link."""
        assert self.process.stdout is not None
        return str(json.loads(self.process.stdout.readline())["link"])

    def another(self) -> str:
        """Press Enter to get another link."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.link()


@contextmanager
def link_console(service: Path) -> Iterator[LinkConsole]:
    """Start the console of the current user."""
    words = [
        sys.executable,
        "-m",
        "ncen_updater.console.local_console",
        "--socket",
        str(service),
        "--json",
    ]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield LinkConsole(process)
        finally:
            process.terminate()


def one_person(service: Path, journal: Path, runs: int) -> dict[str, object]:
    """Measure the console of one user."""
    with link_console(service) as console:
        link = console.link()
        guest = entered(int(re.findall(r":(\d+)/", link)[0]), link)
        pages = {path: weight(guest, path) for path in PAGES}
        for path, found in pages.items():
            print_line(f"{path}: {found['kb']} kB in {found['requests']} requests")
        first = {p: median([first_byte_s(guest, p) for _ in range(runs)]) for p in PAGES}
        print_line(f"first bytes in seconds: {first}")
        time.sleep(REST_S)
        rest = pss_mb(console.process.pid)
        print_line(f"{rest} MB at rest")
        happenings = Happenings(journal)
        told = delays(guest, happenings, runs * 4)
        seen = browser_delays(console.another(), happenings, runs * 4)
    return {
        "pages": pages, "first_byte_s": first, "rest_mb": rest, "told_s": summary(told),
        "seen_s": summary(seen),
    }  # fmt: skip


def many_people(service: Path, directory: Path) -> Mapping[str, float] | None:
    """Measure the console behind a web server with many users; None if users cannot log in."""
    if os.getuid() != 0:
        print_line("only root can let people in by a password")
        return None
    opened(service)
    directory.chmod(0o755)
    path = directory / "console.sock"
    with (
        login_socket(directory, service, rules=ANYBODY) as login,
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener,
    ):
        listener.bind(str(path))
        listener.listen()
        with console_process(listener, login.path) as process:
            visit(path, 1)
            time.sleep(REST_S)
            rest = pss_mb(process.pid)
            visit(path, SESSIONS - 1)
            time.sleep(REST_S)
            inside = _inside(login)
            return {
                "sessions": SESSIONS, "processes": len(inside), "one_mb": rest,
                "all_mb": pss_mb(process.pid),
                "each_process_mb": round(statistics.mean(map(pss_mb, inside)), 1),
            }  # fmt: skip


def visit(path: Path, count: int) -> None:
    """Log in users, each of whom opens some pages."""
    for _ in range(count):
        person = Person(path)
        person.log_in(MEMBER, "any")
        for page in QUICK:
            found = person.get(page)
            if found.status != 200:
                raise SystemExit(f"{page} is refused: {found.text[-1500:]}")


def _inside(login: LoginSocket) -> list[int]:
    """Return the ids of the login processes that run as the test user."""
    uid = pwd.getpwnam(MEMBER).pw_uid
    running = [process.pid for process in login.processes if process.poll() is None]
    return [number for number in running if Path(f"/proc/{number}").stat().st_uid == uid]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--changes", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=5)
    chosen = parser.parse_args(arguments)
    compile_as_installed()
    program = str(Path(sys.executable).parent / "ncen-updater")
    with tempfile.TemporaryDirectory(prefix="nu-bench-") as name:
        directory = Path(name)
        settings = {"service": {"mode": "notify", "viewer_group": MEMBER}}
        with DemoSite(
            directory / "site", options=SiteOptions(cases=100, settings=settings)
        ) as site:
            journal = site.state / JOURNAL_FILE
            Journal.create(journal).close()
            site.start_app()
            print_line(f"writing {chosen.changes} changes")
            fill(journal, chosen.changes)
            environment = {**os.environ, "NCEN_CONFIG_FILE": str(site.config_path)}
            service = site.root / "run/ncen-updater/api.sock"
            with subprocess.Popen([program, "serve"], env=environment) as process:
                try:
                    while not service.exists():
                        time.sleep(0.2)
                    figures = one_person(service, journal, chosen.runs)
                    many = many_people(service, directory)
                finally:
                    process.terminate()
    _print_figures(chosen.changes, figures, many)


def _print_figures(
    changes: int, figures: Mapping[str, object], many: Mapping[str, float] | None
) -> None:
    pages, told, rest = figures["pages"], figures["told_s"], figures["rest_mb"]
    assert isinstance(pages, dict) and isinstance(told, dict) and isinstance(rest, float)
    seen = figures["seen_s"] if isinstance(figures["seen_s"], dict) else told
    ratios = {
        "weight": max(page["kb"] for page in pages.values()) / AIMS["page_kb"],
        "memory": rest / AIMS["rest_mb"],
        "delay": seen["longest"] / AIMS["delay_s"],
    }
    finish(
        "console",
        {
            "changes": changes, **figures, "many": many,
            "ratios": {name: round(ratio, 3) for name, ratio in ratios.items()}, "aims": AIMS,
        },
    )  # fmt: skip


if __name__ == "__main__":
    main()
