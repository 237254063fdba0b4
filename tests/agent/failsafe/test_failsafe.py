"""Tests of the failsafe: its decision as a table, and the file as it runs."""

from __future__ import annotations

import ast
import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from ncen_updater.agent import failsafe
from ncen_updater.agent.failsafe import (
    CONFIRMED,
    MAX_EARLY_EXITS,
    MAX_TRIAL_STARTS,
    ON_TRIAL,
    SlotSelection,
    decide_start,
    order_for_resume,
)
from ncen_updater.agent.self_update.agent_directory import read_failsafe
from ncen_updater.agent.storage.agent_selection import AgentSelection, uncount_start
from tests.support.forks import DEADLINE_S

NOW = "2026-11-24T12:00:00+00:00"
ONCE = {"failures": 1, "at": NOW}
BOTH = ("1.0", "2.0")


@dataclass(frozen=True)
class Row:
    name: str
    state: SlotSelection | None
    start: str | None
    after: SlotSelection | None
    usable: tuple[str, ...] = BOTH
    link: str | None = None


TRIED = SlotSelection("2.0", "1.0", ON_TRIAL)
BACK = SlotSelection("1.0", None, CONFIRMED, 1, {"2.0": ONCE})
ROWS = (
    Row("a new one is counted", TRIED, "2.0", SlotSelection("2.0", "1.0", ON_TRIAL, 1)),
    Row(
        "and has a second start",
        SlotSelection("2.0", "1.0", ON_TRIAL, MAX_TRIAL_STARTS - 1),
        "2.0",
        SlotSelection("2.0", "1.0", ON_TRIAL, MAX_TRIAL_STARTS),
    ),
    Row("and no third", SlotSelection("2.0", "1.0", ON_TRIAL, MAX_TRIAL_STARTS), "1.0", BACK),
    Row("a new one whose slot is missing", TRIED, "1.0", BACK, usable=("1.0",)),
    Row(
        "failures add up",
        SlotSelection("2.0", "1.0", ON_TRIAL, MAX_TRIAL_STARTS, {"2.0": ONCE}),
        "1.0",
        SlotSelection("1.0", None, CONFIRMED, 1, {"2.0": {"failures": 2, "at": NOW}}),
    ),
    Row(
        "a crash of a confirmed one is no reason",
        SlotSelection("2.0", "1.0", CONFIRMED, MAX_EARLY_EXITS - 1),
        "2.0",
        SlotSelection("2.0", "1.0", CONFIRMED, MAX_EARLY_EXITS),
    ),
    Row(
        "five early deaths are",
        SlotSelection("2.0", "1.0", CONFIRMED, MAX_EARLY_EXITS),
        "1.0",
        BACK,
    ),
    Row(
        "unless there is no other",
        SlotSelection("2.0", None, CONFIRMED, MAX_EARLY_EXITS),
        "2.0",
        SlotSelection("2.0", None, CONFIRMED, MAX_EARLY_EXITS + 1),
        usable=("2.0",),
    ),
    Row(
        "a given-up one is no other",
        SlotSelection("2.0", None, CONFIRMED, MAX_EARLY_EXITS, {"1.0": ONCE}),
        "2.0",
        SlotSelection("2.0", None, CONFIRMED, MAX_EARLY_EXITS + 1, {"1.0": ONCE}),
    ),
    Row(
        "a lost slot of a confirmed one says nothing against its release",
        SlotSelection("2.0", "1.0", CONFIRMED),
        "1.0",
        SlotSelection("1.0", None, CONFIRMED, 1),
        usable=("1.0",),
    ),
    Row(
        "without the previous one, the newest that is not bad",
        SlotSelection("3.0", "2.0", ON_TRIAL, MAX_TRIAL_STARTS, {"1.5": ONCE}),
        "1.0",
        SlotSelection("1.0", None, CONFIRMED, 1, {"1.5": ONCE, "3.0": ONCE}),
        usable=("0.9", "1.0", "1.5", "3.0"),
    ),
    Row(
        "itself is no other",
        SlotSelection("2.0", "2.0", ON_TRIAL, MAX_TRIAL_STARTS),
        "1.0",
        BACK,
    ),
    Row("nothing at all", TRIED, None, None, usable=()),
    Row(
        "no file, the link counts",
        None,
        "1.0",
        SlotSelection("1.0", "2.0", ON_TRIAL, 1),
        link="1.0",
    ),
    Row("no file and no link, the newest", None, "2.0", SlotSelection("2.0", "1.0", ON_TRIAL, 1)),
    Row(
        "versions are numbers",
        None,
        "0.10",
        SlotSelection("0.10", "0.9", ON_TRIAL, 1),
        usable=("0.10", "0.9"),
    ),
    Row(
        "a link to what is gone", None, "2.0", SlotSelection("2.0", "1.0", ON_TRIAL, 1), link="7.0"
    ),
    Row("no file and no slot", None, None, None, usable=(), link="1.0"),
)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_start_choice_is_decided(row: Row) -> None:
    choice = decide_start(row.state, row.link, row.usable, NOW)
    assert (choice.version, choice.selection) == (row.start, row.after)
    assert bool(choice.reason) == (row.start is None or row.state is None or row.start != "2.0"
                                or (row.after or TRIED).attempts > MAX_EARLY_EXITS)  # fmt: skip


# ---- power cuts and crashes ----------------------------------------------------------------------


def lead_through(state: SlotSelection, events: str) -> list[str]:
    """Versions that are started: at ``c`` after a crash, at ``b`` in a new boot."""
    boot, started = 0, []
    for event in events:
        boot += event == "b"
        choice = decide_start(state, None, BOTH, NOW, f"boot {boot}")
        assert choice.version is not None and choice.selection is not None
        state = choice.selection
        started.append(choice.version)
    return started


@dataclass(frozen=True)
class Life:
    name: str
    state: SlotSelection
    events: str
    last: str


LIVES = (
    Life(
        "twelve cuts of a confirmed agent", SlotSelection("2.0", "1.0", CONFIRMED), "b" * 12, "2.0"
    ),
    Life("twelve cuts of one on trial", TRIED, "b" * 12, "2.0"),
    Life(
        "a boot before the first start counts nothing", replace(TRIED, boot="boot 0"), "bc", "2.0"
    ),
    Life("a new one that crashes at once", TRIED, "bcc", "1.0"),
    Life(
        "one that crashes once a boot",
        SlotSelection("2.0", "1.0", CONFIRMED),
        "bc" * 5 + "c",
        "1.0",
    ),
    Life("a new one that crashes once, and once more after a cut", TRIED, "bcb" + "c", "1.0"),
    Life("five crashes of one boot", SlotSelection("2.0", "1.0", CONFIRMED), "bccccc", "1.0"),
    Life("four, then a cut", SlotSelection("2.0", "1.0", CONFIRMED), "bccccb", "2.0"),
)


@pytest.mark.parametrize("life", LIVES, ids=lambda life: life.name)
def test_power_cut_is_not_counted_as_a_crash(life: Life) -> None:
    assert lead_through(life.state, life.events)[-1] == life.last


def test_terminated_start_is_uncounted_once() -> None:
    """By the agent; another boot takes back no second one, whose crash is known."""
    crashed = AgentSelection("2.0", "1.0", attempts=3, boot="boot 1")
    left = uncount_start(crashed, "2.0")
    state = SlotSelection(left.current, left.previous, CONFIRMED, left.attempts, {}, left.boot)
    choice = decide_start(state, None, BOTH, NOW, "boot 2")
    assert choice.selection is not None and choice.selection.attempts == 3


def test_failsafe_imports_only_the_standard_library() -> None:
    tree = ast.parse(read_failsafe())
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            names.add((node.module or "").partition(".")[0])
    assert names <= sys.stdlib_module_names | {"__future__"}


# ---- as it is run --------------------------------------------------------------------------------


class Place:
    """A directory of slots whose agents write down that they were started."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.starts = directory / "starts"
        (directory / "failsafe.py").write_bytes(read_failsafe())

    def slot(self, version: str, program: str = '#!/bin/sh\necho {v} "$@" >> {s}\n') -> None:
        place = self.directory / version / "bin"
        place.mkdir(parents=True)
        (place / "python").symlink_to(sys.executable)
        (place / "ncen-updater").write_text(program.format(v=version, s=self.starts))
        (place / "ncen-updater").chmod(0o755)

    def choose(self, state: SlotSelection) -> None:
        failsafe.write_selection(self.directory, state)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-I", str(self.directory / "failsafe.py"), *words],
            capture_output=True, text=True, check=False, timeout=DEADLINE_S,
        )  # fmt: skip

    @property
    def started(self) -> list[str]:
        return self.starts.read_text().splitlines() if self.starts.exists() else []

    @property
    def state(self) -> SlotSelection | None:
        return failsafe.read_selection(self.directory)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(tmp_path)
    made.slot("1.0")
    made.slot("2.0")
    return made


def test_previous_agent_returns_after_two_failed_starts(place: Place) -> None:
    place.choose(TRIED)
    ended = [place.run() for _ in range(4)]
    assert place.started == ["2.0 serve", "2.0 serve", "1.0 serve", "1.0 serve"]
    assert [e.returncode for e in ended] == [0, 0, 0, 0]
    assert place.state is not None
    assert (place.state.current, place.state.state) == ("1.0", CONFIRMED)
    assert place.state.failed["2.0"]["failures"] == 1
    assert (place.directory / "current").readlink() == Path("1.0")
    assert "returning to agent 1.0" in ended[2].stderr


def test_selection_file_is_replaced_and_not_rewritten(place: Place) -> None:
    place.choose(TRIED)
    with (place.directory / "sequence.json").open("rb") as before:
        place.choose(SlotSelection("1.0"))
        assert json.load(before)["current"] == "2.0"


def test_arguments_are_passed_to_the_agent(place: Place) -> None:
    place.choose(SlotSelection("1.0"))
    place.run("--config", "/etc/x", "serve")
    assert place.started == ["1.0 --config /etc/x serve"]


def test_agent_learns_its_selection_directory(place: Place) -> None:
    place.slot("3.0", '#!/bin/sh\necho "$NCEN_FAILSAFE_DIRECTORY" >> {s}\n')
    place.choose(SlotSelection("3.0"))
    place.run()
    assert place.started == [str(place.directory)]


def test_link_follows_the_selection(place: Place) -> None:
    (place.directory / "current").symlink_to("1.0")
    place.choose(TRIED)
    place.run()
    assert (place.directory / "current").readlink() == Path("2.0")


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"[]", b"[" * 60_000, b"\xff", b'{"current": "../../bin"}', b"x" * 200_000,
        json.dumps({"current": "2.0", "previous": None, "state": "confirmed", "attempts": -1,
                    "failed": {}}).encode(),
        json.dumps({"current": "2.0", "previous": None, "state": "confirmed", "attempts": 0,
                    "failed": {"1.0": 7}}).encode(),
        json.dumps({"current": "/bin", "previous": None, "state": "confirmed", "attempts": 0,
                    "failed": {}}).encode(),
    ],
)  # fmt: skip
def test_damaged_selection_starts_the_linked_agent_on_trial(place: Place, content: bytes) -> None:
    (place.directory / "sequence.json").write_bytes(content)
    (place.directory / "current").symlink_to("1.0")
    ended = place.run()
    assert place.started == ["1.0 serve"]
    assert place.state == SlotSelection("1.0", "2.0", ON_TRIAL, 1, boot=failsafe.read_boot())
    assert (place.directory / "sequence.json.damaged").read_bytes() == content
    assert "missing or damaged" in ended.stderr


SOUND = {
    "current": "2.0", "previous": "1.0", "state": ON_TRIAL, "attempts": 0, "boot": "boot 1",
    "failed": {"0.9": ONCE},
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("current", None), ("current", "../2.0"), ("previous", "x"), ("previous", 1),
        ("state", "new"), ("attempts", -1), ("attempts", True), ("attempts", "0"), ("boot", 7),
        ("failed", []), ("failed", {"x": ONCE}), ("failed", {"1.0": 7}),
        ("failed", {"1.0": {"failures": "1", "at": NOW}}),
        ("failed", {"1.0": {"failures": 1, "at": "today"}}),
        ("failed", {"1.0": {"failures": 1}}),
    ],
)  # fmt: skip
def test_selection_with_one_invalid_value_is_damaged(
    tmp_path: Path, name: str, value: object
) -> None:
    file = tmp_path / failsafe.STATE_FILE
    file.write_text(json.dumps(SOUND))
    assert failsafe.read_selection(tmp_path) is not None
    file.write_text(json.dumps(SOUND | {name: value}))
    assert failsafe.read_selection(tmp_path) is None


def test_root_does_not_start_a_slot_writable_by_others(place: Place) -> None:
    """A process with the agent's rights may give such a file away, and another would fill it."""
    if os.geteuid() != 0:
        pytest.skip("the rule is root's: others start what is their own")
    module = place.directory / "2.0/bin/module.py"
    for owner, mode in ((65534, 0o644), (0, 0o664)):
        module.touch()
        os.chown(module, owner, owner)
        module.chmod(mode)
        place.choose(SlotSelection("2.0", "1.0"))
        assert "users other than root can write to " in place.run().stderr
    assert place.started == ["1.0 serve"] * 2


def test_slot_that_cannot_be_read_does_not_prevent_the_start_of_another(place: Place) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root examines the files of a slot")
    # The system's error is another one than on a damaged disk.
    (place.directory / "2.0/bin/link").symlink_to("x" * 1000)
    place.choose(SlotSelection("2.0", "1.0"))
    assert "the slot of agent 2.0 cannot be read" in place.run().stderr
    assert place.started == ["1.0 serve"]


def test_packaged_copy_serves_as_the_slot_until_removed(place: Place) -> None:
    place.choose(SlotSelection("1.0"))
    (place.directory / "1.0").rename(place.directory / ".kept-1.0")
    place.run()
    assert (place.directory / "current").readlink() == Path(".kept-1.0")
    (place.directory / ".kept-1.0").rename(place.directory / "1.0")
    place.run()
    assert place.started == ["1.0 serve"] * 2
    assert (place.directory / "current").readlink() == Path("1.0")


def test_start_is_counted_by_a_separate_call(place: Place) -> None:
    place.choose(TRIED)
    assert place.run("--count").returncode == 0
    assert place.started == []
    assert place.state is not None and place.state.attempts == 1


def test_unusable_program_is_skipped(place: Place) -> None:
    place.slot("3.0", "#!/no/such/interpreter\n")
    place.choose(SlotSelection("3.0", "2.0", ON_TRIAL))
    ended = place.run()
    assert place.started == ["2.0 serve"]
    assert "cannot be started" in ended.stderr
    assert place.state is not None
    assert "3.0" in place.state.failed


def test_slot_with_a_missing_interpreter_is_skipped(place: Place) -> None:
    (place.directory / "2.0/bin/python").unlink()
    (place.directory / "2.0/bin/python").symlink_to("/usr/bin/python-of-yesterday")
    place.choose(TRIED)
    place.run()
    assert place.started == ["1.0 serve"]


def test_unfinished_directory_is_not_a_slot(place: Place) -> None:
    place.slot("3.0.partial")
    place.choose(SlotSelection("2.0", None, CONFIRMED, MAX_EARLY_EXITS))
    place.run()
    assert place.started == ["1.0 serve"]


def test_missing_slots_are_reported_with_a_remedy(place: Place) -> None:
    place.choose(TRIED)
    shutil.rmtree(place.directory / "1.0")
    shutil.rmtree(place.directory / "2.0")
    ended = place.run()
    assert ended.returncode == 1
    assert "sudo apt install --reinstall ncen-updater" in ended.stderr
    assert place.state == TRIED


def test_uncountable_start_uses_the_previous_agent(place: Place) -> None:
    place.choose(TRIED)

    def full() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20, 20))  # what a full disk is to one file

    ended = subprocess.run(
        [sys.executable, "-c", _IGNORING_SIGXFSZ, str(place.directory / "failsafe.py")],
        capture_output=True, text=True, check=False, timeout=DEADLINE_S, preexec_fn=full,
    )  # fmt: skip
    assert os.strerror(errno.EFBIG) in ended.stderr
    assert place.started == ["1.0 serve"]
    assert place.state == TRIED
    # What the other units start, too.
    assert (place.directory / "current").readlink() == Path("1.0")


_IGNORING_SIGXFSZ = """
import os, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
os.execv(sys.executable, [sys.executable, "-I", sys.argv[1]])
"""


def test_check_reports_the_choice_and_changes_nothing(place: Place) -> None:
    place.choose(SlotSelection("2.0", "1.0", ON_TRIAL, MAX_TRIAL_STARTS))
    before = (place.directory / "sequence.json").read_bytes()
    ended = place.run("--check")
    assert json.loads(ended.stdout)["start"] == "1.0"
    assert (place.directory / "sequence.json").read_bytes() == before
    assert not place.started


# ---- at the start of the machine -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "link", "usable", "wanted"),
    [
        (TRIED, "2.0", BOTH, ["1.0", "2.0"]),
        (SlotSelection("2.0", "1.0", ON_TRIAL, MAX_TRIAL_STARTS), "2.0", BOTH, ["1.0", "2.0"]),
        (SlotSelection("2.0", "1.0", ON_TRIAL), "2.0", ("0.9", "2.0"), ["0.9", "2.0"]),
        (SlotSelection("2.0", "1.0"), "2.0", BOTH, ["2.0", "1.0"]),
        (SlotSelection("2.0", "1.0"), "2.0", ("1.0",), ["1.0"]),
        (SlotSelection("2.0", None, CONFIRMED, 0, {"1.0": ONCE}), "2.0", BOTH, ["2.0"]),
        (None, "1.0", BOTH, ["1.0", "2.0"]),
        (None, None, BOTH, ["2.0"]),
        (TRIED, "2.0", (), []),
    ],
)
def test_resume_candidates_are_ordered(
    state: SlotSelection | None, link: str | None, usable: tuple[str, ...], wanted: list[str]
) -> None:
    assert order_for_resume(state, link, usable) == wanted


SAYS = '#!/bin/sh\necho {{v}} "$@" >> {{s}}\n{end}\n'


@pytest.mark.parametrize(
    ("end", "status", "started"),
    [
        ("exit 0", 0, ["3.0"]),
        ("exit 9", 9, ["3.0"]),
        ("exit 12", 12, ["3.0"]),
        ("exit 1", 0, ["3.0", "2.0"]),
        ("exit 2", 0, ["3.0", "2.0"]),
        ("exit 126", 0, ["3.0", "2.0"]),
        ("exit 127", 0, ["3.0", "2.0"]),
        ("kill -SEGV $$", 0, ["3.0", "2.0"]),
    ],
)
def test_confirmed_agent_resumes_and_the_other_one_on_failure(
    place: Place, end: str, status: int, started: list[str]
) -> None:
    place.slot("3.0", SAYS.format(end=end))
    chosen = SlotSelection("3.0", "2.0", CONFIRMED, 1)
    place.choose(chosen)
    ended = place.run("resume", "--boot")
    assert ended.returncode == status
    assert place.started == [f"{version} resume --boot" for version in started]
    assert place.state == chosen


def test_agent_on_trial_does_not_delay_the_application(place: Place) -> None:
    place.slot("3.0", SAYS.format(end="exec sleep 1000"))
    chosen = SlotSelection("3.0", "2.0", ON_TRIAL, 1)
    place.choose(chosen)
    assert place.run("resume", "--boot").returncode == 0
    assert place.started == ["2.0 resume --boot"]
    assert place.state == chosen


def test_missing_resume_candidate_is_reported(place: Place) -> None:
    for version in ("3.0", "4.0"):
        place.slot(version, SAYS.format(end="exit 1"))
    place.choose(SlotSelection("4.0", "3.0"))
    assert place.run("resume", "--boot").returncode == 1
    for version in ("1.0", "2.0", "3.0", "4.0"):
        shutil.rmtree(place.directory / version)
    ended = place.run("resume", "--boot")
    assert ended.returncode == 1
    assert "no slot can be started" in ended.stderr


@pytest.mark.parametrize("status", [12, 1])
def test_termination_during_a_resume_tries_no_other_agent(place: Place, status: int) -> None:
    place.slot("3.0", f"#!/bin/sh\ntrap 'exit {status}' TERM\necho ready\nwhile :; do :; done\n")
    place.choose(SlotSelection("3.0", "2.0"))
    words = [sys.executable, "-I", str(place.directory / "failsafe.py"), "resume"]
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, start_new_session=True, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        os.killpg(process.pid, signal.SIGTERM)
        assert process.wait(DEADLINE_S) == status
    assert not place.started
