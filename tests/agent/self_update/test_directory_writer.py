"""The service gives up the right to its own code; a process apart does five actions for it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from ncen_updater.agent.self_update.agent_selection import AgentSelection, SequenceFile, TrialState
from ncen_updater.common.landlock import available, everything_but
from tests.support.forks import DEADLINE_S

needs_landlock = pytest.mark.skipif(not available(), reason="this kernel knows no Landlock")
HEAD = """
import json, os, subprocess, sys, threading
from datetime import UTC, datetime
from pathlib import Path
from ncen_updater.agent.self_update.directory_writer import OwnCode, OwnAction, doer_of
from ncen_updater.common.errors import UpdaterError
agent, state = Path(sys.argv[1]), Path(sys.argv[2])
def of(act):
    try:
        act()
        return "done"
    except OSError as error:
        return error.strerror
    except UpdaterError as error:
        return error.code
def make():
    return doer_of(agent, "2.0", lambda: datetime.now(UTC), lambda: None)
with OwnCode(agent, make, lambda: None) as own:
    own.give_up_rights()
"""


def run(agent: Path, state: Path, body: str) -> Any:
    """Run code with such a process beside it; return what it prints as JSON."""
    code = HEAD + textwrap.indent(textwrap.dedent(body), "    ")
    words = [sys.executable, "-c", code, str(agent), str(state)]
    ended = subprocess.run(words, capture_output=True, text=True, check=False, timeout=DEADLINE_S)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    agent, state = tmp_path / "opt" / "agent", tmp_path / "var"
    (agent / "2.0").mkdir(parents=True)
    state.mkdir()
    (agent / "failsafe.py").write_text("pass\n")
    SequenceFile(agent).update(lambda _: AgentSelection("2.0", "1.0", TrialState.TRYING, 1))
    return agent, state


@needs_landlock
def test_no_way_of_writing_leads_to_the_code(places: tuple[Path, Path]) -> None:
    said = run(*places, body="""
    elsewhere = state / "file"
    elsewhere.write_text("x")
    (state / "link").symlink_to(agent / "failsafe.py")
    shell = lambda text: subprocess.run(["sh", "-c", text], check=False, stderr=-3).returncode
    late = []
    thread = threading.Thread(target=lambda: late.append(of(lambda: open(agent / "new", "w"))))
    thread.start(); thread.join()
    print(json.dumps({
        "open": of(lambda: open(agent / "failsafe.py", "r+")),
        "truncate": of(lambda: os.truncate(agent / "failsafe.py", 0)),
        "link": of(lambda: open(state / "link", "a")),
        "make": of(lambda: open(agent / "2.0" / "new", "w")),
        "mkdir": of(lambda: os.mkdir(agent / "new")),
        "remove": of(lambda: os.unlink(agent / "failsafe.py")),
        "over": of(lambda: os.replace(elsewhere, agent / "failsafe.py")),
        "away": of(lambda: os.rename(agent / "2.0", state / "2.0")),
        "whole": of(lambda: os.rename(agent, agent.parent / "other")),
        "beside": of(lambda: os.symlink("/tmp", agent / "current.new")),
        "thread": late[0],
        "child": shell(f"echo x > {agent}/failsafe.py"),
        "state": of(lambda: (state / "file").write_text("y")),
        "null": of(lambda: open("/dev/null", "w")),
    }))
    """)  # fmt: skip
    assert said.pop("state") == said.pop("null") == "done"
    assert said.pop("child") != 0
    assert {way for way, came in said.items() if came == "done"} == set()
    agent = places[0]
    assert (agent / "failsafe.py").read_text() == "pass\n"
    assert sorted(path.name for path in agent.iterdir()) == [
        "2.0", "current", "failsafe.py", "sequence.json", "sequence.lock",
    ]  # fmt: skip


@needs_landlock
def test_the_five_actions_are_done_all_the_same(places: tuple[Path, Path]) -> None:
    assert run(*places, body="""
    own.do(OwnAction.UNCOUNT)
    own.do(OwnAction.CONFIRM)
    print(json.dumps(of(lambda: own.do("give me a shell"))))
    own.do(OwnAction.STEADY)
    """) == "NU-9402"  # fmt: skip
    found = SequenceFile(places[0]).load()
    assert found == AgentSelection("2.0", "1.0", TrialState.GOOD)


def test_an_error_of_an_action_arrives(places: tuple[Path, Path]) -> None:
    (places[0] / "sequence.json").write_text("{")
    said = run(*places, body="print(json.dumps(of(lambda: own.do(OwnAction.CONFIRM))))")
    assert said == "NU-9401"


def test_told_to_end_it_still_does_what_is_left(places: tuple[Path, Path]) -> None:
    """systemd tells both at once; the service then takes back the count of its start."""
    run(*places, body=f"""
    os.kill(own._child, {int(signal.SIGTERM)})
    own.do(OwnAction.UNCOUNT)
    print("null")
    """)  # fmt: skip
    found = SequenceFile(places[0]).load()
    assert found is not None
    assert found.attempts == 0


def test_it_ends_with_a_service_that_was_killed(places: tuple[Path, Path]) -> None:
    code = HEAD + "    print(own._child, flush=True); os.kill(os.getpid(), 9)"
    words = [sys.executable, "-c", code, *map(str, places)]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert int(process.stdout.readline())
        assert process.stdout.read() == b""  # it held this open, too: it has ended


def test_where_it_is_gone_nothing_is_waited_for(places: tuple[Path, Path]) -> None:
    said = run(*places, body="""
    os.kill(own._child, 9)
    print(json.dumps(of(lambda: own.do(OwnAction.CONFIRM))))
    """)  # fmt: skip
    assert said == "NU-9402"


def test_everything_but_one_directory(tmp_path: Path) -> None:
    agent = tmp_path / "opt" / "agent"
    agent.mkdir(parents=True)
    beside = tmp_path / "opt" / "beside"
    beside.touch()
    allowed = set(everything_but(agent))
    assert beside in allowed
    assert not any(agent.is_relative_to(place) for place in allowed)


@needs_landlock
@pytest.mark.parametrize("where", [".", "agent", "agent/in", "new", "new/place", "../var"])
def test_what_is_written_beside_it_is_not_closed(places: tuple[Path, Path], where: str) -> None:
    """As where 'current' lies beside the agent, or a directory has still to be made there."""
    needed = places[0].parent / where
    code = f"""if True:
    import os
    from pathlib import Path
    from ncen_updater.common.landlock import keep_from
    agent, needed = Path({str(places[0])!r}), Path({str(needed)!r})
    kept = keep_from(agent, [needed])
    needed.mkdir(parents=True, exist_ok=True)
    (needed / "new").symlink_to("a")
    os.replace(needed / "new", needed / "current")
    print(kept)
    """
    ended = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_S,
    )
    assert (ended.returncode, ended.stdout) == (0, f"{where == '../var'}\n"), ended.stderr
