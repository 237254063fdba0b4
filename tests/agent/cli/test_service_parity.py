"""Each command through the service and alone, on one site: the same facts, the same questions.

What changes nothing meets the same state both ways, and has to say the same letter for letter. What
changes something is done on two sites that were laid out alike, each its own way.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from demo.databases import PostgresPlace
from demo.site import DemoSite, SiteOptions
from ncen_updater.agent.model.event_names import JOURNAL_FILE
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common.cli.render import make_sentence
from tests.agent.cli.terminal_run import run_on_terminal
from tests.support.postgres import available, running
from tests.support.rotation import in_turns
from tests.support.service_process import PROGRAM, Served, served
from tests.support.sites import TrialFeed, connect, serve

#: What must not be the same, by command and place in its document, and why.
MUST_DIFFER = {
    ("status", "service"): "only the service knows what it does",
    ("status", "you"): "only the service asks the kernel who that is",
    ("status", "at"): "the time",
    ("upgrade", "error.state"): "the service knows that a refusal changed nothing",
    ("confirm", "error.state"): "likewise",
    ("rollback", "error.state"): "likewise",
}
#: Lines for people that only one way has: the operation in progress, as the service or else the
#: change lock names it; and why there is none.
ONLY_THERE = ("Operation: ", "Operation in progress: ")
#: What is another one each time: ids, digests, times, seconds and what was measured.
EACH_TIME = (
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?(\+00:00|Z)?( UTC)?"), "<time>"),
    # In groups of eight where people compare it, which a terminal breaks.
    (re.compile(r"\b[0-9a-f]{64}\b|\b[0-9a-f]{8}(?: [0-9a-f]{8})*\b"), "<digest>"),
    (re.compile(r"(< )?\b[0-9.]+ (ms|s|seconds?|min|minutes?)\b"), "<seconds>"),
    (re.compile(r"\b(change|Change) [a-z2-7]{8}\b"), "change <id>"),
    (re.compile(r"process \d+"), "process <number>"),
)
MEASURED = re.compile(r"(_s|_bytes|^seconds|^id|^undoes|^number|^low|^high|^step_s|^sizes)$")
NUMBER = re.compile(r"(?:< )?\d+(?:\.\d+)*(?: (?:ms|s|min|h|kB|MB|B|bytes)\b)?")
READS = (
    "status", "history", "history aaaaaaaa", "check",
    "plan", "plan --sql", "plan 9.9.9 --sql", "dossier", "self-update",
    "confirm",
    "upgrade", "upgrade --dry-run", "upgrade 9.9.9 --yes", "rollback", "rollback --dry-run",
    "rollback --yes", "approve", "approve --dry-run",
)  # fmt: skip


@dataclass(frozen=True)
class CommandOutput:
    """The output of a command."""

    code: int
    document: Any
    words: list[str]

    def part(self, command: str) -> tuple[int, Any, list[str]]:
        """What has to be the same both ways."""
        document = json.loads(json.dumps(self.document))
        for name, place in MUST_DIFFER:
            *above, last = place.split(".")
            inner = document
            for key in above:
                inner = inner.get(key, {})
            if name == command.split(maxsplit=1)[0]:
                inner.pop(last, None)
        why = make_sentence(str(self.document.get("service", {}).get("reason")))
        words = [
            _each_time(line)
            for line in self.words
            if line != why and not line.startswith(ONLY_THERE)
        ]
        return self.code, _plain(document), words


def _each_time(text: str) -> str:
    for pattern, instead in EACH_TIME:
        text = pattern.sub(instead, text)
    return text


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: "<measured>" if MEASURED.search(key) and item is not None else _plain(item)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return _each_time(value) if isinstance(value, str) else value


def _unmeasured(value: object) -> object:
    """Without figures: both sites are alike but for times, and what was measured."""
    if isinstance(value, Mapping):
        return {key: _unmeasured(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_unmeasured(item) for item in value]
    if isinstance(value, str):
        bare = _each_time(value)
        return NUMBER.sub(lambda m: m[0] if m[0].count(".") > 1 else "<number>", bare)
    return "<number>" if isinstance(value, float) or type(value) is int else value


def _differences(there: object, alone: object, place: str = "") -> Iterator[tuple[object, ...]]:
    if isinstance(there, Mapping) and isinstance(alone, Mapping):
        for key in there.keys() | alone.keys():
            yield from _differences(there.get(key), alone.get(key), f"{place}.{key}")
    elif (
        isinstance(there, list | tuple)
        and isinstance(alone, list | tuple)
        and len(there) == len(alone)
    ):
        for number, (one, other) in enumerate(zip(there, alone, strict=True)):
            yield from _differences(one, other, f"{place}[{number}]")
    elif there != alone:
        yield place, there, alone


class Both:
    """A site whose service runs, and a person who uses it or leaves it out."""

    def __init__(self, service: Served) -> None:
        self.service = service
        self.different: list[object] = []

    def run(self, way: str, command: str) -> CommandOutput:
        words = ["--local"] if way == "alone" else []
        done = self.service.run(*words, "--json", "--text", "--quiet", *command.split())
        document = json.loads(done.stdout.replace(str(self.service.root), "<site>"))
        return CommandOutput(done.returncode, document, document.pop("lines", []))

    def ask(self, way: str, command: str, answer: str) -> tuple[int, list[str]]:
        """Run a command at a terminal; what was shown, the question with it."""
        words = ["--local"] if way == "alone" else []
        environment: Mapping[str, str] = {
            key: value
            for key, value in os.environ.items()
            if key in ("PATH", "HOME") or key.startswith("COVERAGE_")
        }
        code, shown = run_on_terminal(
            [*PROGRAM, "--config", str(self.service.config), *words, "--quiet", *command.split()],
            {**environment, "LANG": "C.UTF-8", "TERM": "dumb", "NO_COLOR": "1"},
            {"yes to confirm": answer},
        )
        shown = shown.replace("\r", "").replace(str(self.service.root), "<site>")
        return code, [_each_time(line) for line in shown.splitlines()]

    def same(self, command: str) -> CommandOutput:
        """A command that changes nothing says the same both ways."""
        there, alone = self.run("service", command), self.run("alone", command)
        self.compare(command, there.part(command), alone.part(command))
        return there

    def compare(self, command: str, there: object, alone: object) -> None:
        """Keep what differs, so that one run shows all of it."""
        self.different += [(command, *found) for found in _differences(there, alone)]

    def same_question(self, command: str) -> list[str]:
        """A command that is answered with no shows and asks the same both ways."""
        there, alone = self.ask("service", command, "no"), self.ask("alone", command, "no")
        self.compare(command, there, alone)
        assert there[0] == 4, there
        return there[1]

    def watched(self, way: str, command: str) -> list[object]:
        """A change whose watched time a person ends from another terminal."""
        found: list[object] = []

        def work() -> None:
            found.append(self.ask(way, command, "yes"))

        person = threading.Thread(target=work)
        last = self.last_event()
        person.start()
        self.service.until("step-done", after=last, step="maintenance-off")  # the downtime is known
        try:
            if command == "upgrade":
                self.compare_during_soak()
        finally:
            done = self.run(way, "confirm")
            person.join()
        return [*found, done.part("confirm")]

    def compare_during_soak(self) -> None:
        """Show and request the rollback both ways, also during the soak."""
        assert self.same("rollback --dry-run").document["to"] == "3.2.4"
        for command in ("verify", "doctor", "status"):
            self.same(command)
        assert "Roll back to 3.2.4 now?" in "\n".join(self.same_question("rollback"))

    def last_event(self) -> int:
        """Number of the newest event of the journal."""
        with Journal.open(self.service.demo.state / JOURNAL_FILE, read_only=True) as journal:
            return journal.read_last_event_number()


def site_of(directory: Path, feed: TrialFeed, url: str, place: PostgresPlace | None) -> DemoSite:
    """A site whose service does nothing automatically."""
    options = SiteOptions(
        feed_urls=(url,), cases=20, icomm=False, soak_s=600.0, soak_interval_s=0.1,
        settings={"service": {"timezone": "UTC", "mode": "notify"}},
    )  # fmt: skip
    demo = DemoSite(directory / "site", place, options)
    demo.lay_out()
    connect(demo, feed)
    demo.start_app()
    return demo


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TrialFeed, str]]:
    made = TrialFeed(tmp_path_factory.mktemp("feed"))
    made.publish(["3.3.0"])
    with serve(made.directory) as url:
        yield made, url


@contextmanager
def person_at(
    directory: Path, feed: tuple[TrialFeed, str], place: PostgresPlace | None = None
) -> Iterator[Both]:
    """A site of its own, laid out as any other."""
    directory.mkdir(exist_ok=True)
    demo = site_of(directory, *feed, place)
    try:
        with served(demo.config_path, demo.root) as service:
            service.demo = demo
            yield Both(service)
    finally:
        demo.close()


@in_turns("first")
@pytest.mark.parametrize("first", [0, 1, 2])
def test_read_only_commands_agree_with_and_without_the_service(
    tmp_path: Path, feed: tuple[TrialFeed, str], first: int
) -> None:
    with person_at(tmp_path, feed) as both:
        both.run("service", "check")
        both.run("alone", "plan")
        for command in READS[first::3]:
            both.same(command)
        assert both.different == []
        (both.service.demo.state / JOURNAL_FILE).rename(both.service.demo.state / "aside")
        said = both.same("status")
        if both.different:  # the service recorded the missing journal between the two, and once
            both.different.clear()
            said = both.same("status")
        assert (said.code, said.document["error"]["code"]) == (12, "NU-6001")
        assert both.different == []


def test_changing_commands_agree_with_and_without_the_service(
    tmp_path: Path, feed: tuple[TrialFeed, str]
) -> None:
    """Each way on a site of its own: the same records, and the same done in the same order."""

    def work(way: str) -> list[tuple[str, object]]:
        with person_at(tmp_path / way, feed) as both:
            both.run("service", "check")
            # What begins next is told from what the service has made of that.
            both.service.until_next_upgrade(lambda next_upgrade: next_upgrade["target"] is not None)
            said = changes(both, way)
            assert both.different == []
            return said

    with ThreadPoolExecutor(2) as people:
        there, alone = people.map(work, ("service", "alone"))
    assert list(_differences(_unmeasured(there), _unmeasured(alone))) == []


def changes(both: Both, way: str) -> list[tuple[str, object]]:
    """Run every changing command, one way; return the output of each."""
    said: list[tuple[str, object]] = []

    def run(command: str) -> None:
        said.append((command, both.run(way, command).part(command)))

    def ask(command: str, *sentences: str) -> None:
        """Be asked; on one of the sites by both ways, to see that the question is the same."""
        if way == "service":
            shown = "\n".join(both.same_question(command))
            assert all(sentence in shown for sentence in sentences), shown

    run("hold --reason fair")
    run("upgrade --yes")
    run("unhold")
    run("rehearse")
    if way == "service":
        assert both.same("dossier").document["version"] == "3.3.0"
        assert "ALTER TABLE" in both.same("plan --sql").document["sql"]
    ask("approve", "Approve upgrade to 3.3.0?")
    said.append(("approve", both.ask(way, "approve", "yes")))
    run("approve --withdraw")
    run("schedule 2099-01-01")
    run("schedule --cancel")
    ask("upgrade", "3.2.4 -> 3.3.0", "Upgrade ncen to 3.3.0 now?")
    said.append(("upgrade", both.watched(way, "upgrade")))
    run("rollback --dry-run")
    ask("rollback", "from 3.3.0 to 3.2.4 keeps all records", "Roll back to 3.2.4 now?")
    said.append(("rollback", both.watched(way, "rollback")))
    if way == "service":
        newest = both.same("history").document["changes"][0]["id"]
        both.same(f"history {newest}")
    return said


def test_rollback_agrees_with_and_without_the_service_on_postgresql(
    tmp_path: Path, feed: tuple[TrialFeed, str]
) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="nu-test-") as directory,
        running(available()[-1], Path(directory)) as server,
    ):
        place = PostgresPlace(
            str(server.host), prefix="both_", programs=server.binaries.directory
        )  # fmt: skip
        with person_at(tmp_path, feed, place) as both:
            both.watched("alone", "upgrade")
            assert both.same("rollback --dry-run").document["to"] == "3.2.4"
            assert "Roll back to 3.2.4 now?" in "\n".join(both.same_question("rollback"))
            assert both.different == []
