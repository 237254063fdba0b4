"""Tests of ``try``: upgrade and rollback in a sandbox, and refusal of any other site."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import urllib.parse
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from demo.ports import find_free_ports
from demo.releases import assemble
from demo.site import DemoSite, SiteOptions
from ncen_updater.common.messages import (
    ALREADY_PUBLISHED,
    MIGRATION_FAILED,
    SANDBOX_UNUSABLE,
    ExitCode,
)
from ncen_updater.publisher.cli.main import run
from ncen_updater.publisher.new.sandbox_run import SandboxRun, SandboxStage
from ncen_updater.publisher.new.sandbox_site import SandboxSite
from tests.support.rotation import in_turns

Said = dict[str, Any]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[DemoSite]:
    """A copy of a site: files, an agent.toml, and nothing of an agent's yet."""
    (port,) = find_free_ports(1)
    options = SiteOptions(
        cases=20, icomm=False, soak_s=0.0, feed_urls=[f"http://127.0.0.1:{port}/"]
    )
    with DemoSite(tmp_path / "desk", options=options) as site:
        yield site


def run_trial(
    desk: DemoSite, tmp_path: Path, version: str, capsys: pytest.CaptureFixture[str], *more: str
) -> tuple[int, Said, str]:
    for name in ("3.2.4", version):
        if not (tmp_path / name).exists():
            assemble(name, tmp_path / name)
    words = ["try", str(tmp_path / version), "--before", str(tmp_path / "3.2.4"), "--site",
             str(desk.config_path), "--json", *more]  # fmt: skip
    code = run(words)
    said = capsys.readouterr()
    return code, json.loads(said.out), said.err


@in_turns("up")
@pytest.mark.parametrize("up", [True, False])
def test_release_is_upgraded_and_rolled_back_in_the_sandbox(
    desk: DemoSite, tmp_path: Path, up: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    if up:
        desk.start_app()
    code, said, told = run_trial(desk, tmp_path, "3.3.0", capsys, "--yes")
    assert (code, said["passed"]) == (0, True), told
    assert [stage["name"] for stage in said["stages"]] == [
        "adopt", "check", "plan", "rehearse", "upgrade", "verify", "rollback", "verify again",
    ]  # fmt: skip
    assert said["downtime_s"] > 0
    assert desk.current.resolve().name == "3.2.4"
    assert not desk.app_running(), "what was started for the trial is stopped after it"
    again, refusal, _ = run_trial(desk, tmp_path, "3.3.0", capsys, "--yes")
    assert (again, refusal["error"]["code"]) == (1, SANDBOX_UNUSABLE.code), "no fresh copy any more"


def test_failing_release_reports_its_reason(
    desk: DemoSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said, told = run_trial(desk, tmp_path, "3.3.1", capsys, "--yes")
    last = said["stages"][-1]
    assert (code, said["passed"], last["passed"]) == (ExitCode.BLOCKED, False, False)
    assert last["code"].startswith("NU-") and last["code"] in told
    assert last["document"]["error"]["title"] in told, "the code alone says nothing to a person"
    assert last["document"]["error"]["remedy"] in told
    assert desk.current.resolve().name == "3.2.4"
    assert not desk.app_running()


def test_rollback_that_works_only_once_is_reported(
    desk: DemoSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assemble("3.3.0", tmp_path / "3.3.0")
    down = tmp_path / "3.3.0/migrations/sqlite/companies/0002_v330.down.sql"
    down.write_text(down.read_text() + "CREATE TABLE ncen_kept__once (id INTEGER);\n")
    code, said, told = run_trial(desk, tmp_path, "3.3.0", capsys, "--yes")
    last = said["stages"][-1]
    assert (code, last["name"], last["passed"]) == (ExitCode.BLOCKED, "rehearse", False)
    assert last["code"] == MIGRATION_FAILED.code
    assert "rollback failed with sample values: Migration 0002_v330 of database companies" in told


def test_occupied_port_is_reported_before_the_build(
    desk: DemoSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    port = urllib.parse.urlsplit(desk.options.feed_urls[0]).port
    with socket.create_server(("127.0.0.1", port or 0)):
        code, refusal, told = run_trial(desk, tmp_path, "3.3.0", capsys, "--yes")
    assert (code, refusal["error"]["code"]) == (1, SANDBOX_UNUSABLE.code)
    assert "building" not in told


def test_trial_continues_from_the_failed_stage(
    desk: DemoSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = ["--yes", "--keep", str(tmp_path / "kept")]
    _, first, _ = run_trial(desk, tmp_path, "3.3.1", capsys, *kept)
    failed = first["stages"][-1]["name"]
    built = {p: p.stat().st_mtime_ns for p in (tmp_path / "kept/built").rglob("*")}
    code, again, told = run_trial(desk, tmp_path, "3.3.1", capsys, *kept)
    assert (code, [stage["name"] for stage in again["stages"]]) == (ExitCode.BLOCKED, [failed])
    assert built == {p: p.stat().st_mtime_ns for p in (tmp_path / "kept/built").rglob("*")}

    code, said, told = run_trial(desk, tmp_path, "3.3.0", capsys, *kept)  # one more release
    assert (code, said["passed"]) == (0, True), told
    assert [stage["name"] for stage in said["stages"]][:2] == ["check", "plan"]
    assert not desk.app_running()

    (tmp_path / "3.3.0/more").write_text("x")
    code, said, _ = run_trial(desk, tmp_path, "3.3.0", capsys, *kept)
    assert (code, said["error"]["code"]) == (1, ALREADY_PUBLISHED.code)
    code, said, _ = run_trial(desk, tmp_path, "3.3.0", capsys, "--yes")
    assert said["error"]["code"] == SANDBOX_UNUSABLE.code, "another feed is not its own"


#: An agent, or a command of a site, that leaves behind where it would look for programs.
TELLS_PATH = """
import os, pathlib
pathlib.Path(os.environ["HOME"], "path").write_text(os.environ["PATH"])
print("{}")
"""

#: Answers as the agent does where an application's own migrator leads no rollback: it counts what
#: was entered since, and wants that number said, also where it is 0. One more comes in meanwhile.
STUBBORN = """
import json, pathlib, sys
asked, place = sys.argv[1:], pathlib.Path(sys.argv[0]).with_suffix(".count")
if asked[0] != "rollback":
    print("{}")
    sys.exit(0)
count = int(place.read_text()) if place.exists() else START
said = int(asked[asked.index("--accept-loss") + 1]) if "--accept-loss" in asked else None
if said is not None and said >= count:
    print("{}")
    sys.exit(0)
if "--dry-run" not in asked and said is not None:
    place.write_text(str(count + 1))
print(json.dumps({"error": {"code": "NU-6015", "values": {"count": count}}}))
sys.exit(4)
"""


def test_release_does_not_see_our_libraries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With our virtual environment on the path ``python3`` in a release would be the one in it."""
    monkeypatch.setenv("PATH", os.pathsep.join((f"{sys.prefix}/bin/", "/usr/bin")))
    own, made_of = f"{sys.prefix}/bin", f"{sys.base_prefix}/bin"
    assert own != made_of, "the tests run in a virtual environment"
    monkeypatch.setenv("HOME", str(tmp_path))
    program, told = tmp_path / "agent.py", tmp_path / "path"
    program.write_text(TELLS_PATH, "utf-8")
    site = SandboxSite(tmp_path / "agent.toml", tmp_path / "root.json", 0, "shop",
                    {"status": [sys.executable, str(program)]}, tmp_path / "current")  # fmt: skip
    assert site.is_running()
    assert told.read_text("utf-8") == f"{made_of}:/usr/bin"
    told.unlink()
    SandboxRun(site, [sys.executable, str(program)], "en", lambda _: None).run_stages("1.0", "2.0")
    assert told.read_text("utf-8") == f"{made_of}:/usr/bin"


@pytest.mark.parametrize("start", [0, 3])
def test_trial_gives_the_consent_that_a_rollback_needs(tmp_path: Path, start: int) -> None:
    """Seen: no application with a migrator of its own ever went back on the desk."""
    program = tmp_path / "agent.py"
    program.write_text(STUBBORN.replace("START", str(start)), "utf-8")
    site = SandboxSite(tmp_path / "agent.toml", tmp_path / "root.json", 0, "shop",
                    {"status": ["true"]}, tmp_path / "current")  # fmt: skip
    told: list[SandboxStage] = []
    stages = SandboxRun(site, [sys.executable, str(program)], "en", told.append).run_stages(
        "1.0", "2.0"
    )
    assert [stage.name for stage in stages][-2:] == ["rollback", "verify again"]
    assert all(stage.is_passed for stage in stages)


#: Answers as the agent does where the plan is blocked: no error, and the reason among its lines.
BLOCKED = """
import json, sys
if sys.argv[1] != "plan":
    print("{}")
    sys.exit(0)
print(json.dumps({"plan": {"blocked": True}, "lines": ["The agent is root (NU-4204)."]}))
sys.exit(3)
"""


def test_blocked_plan_names_its_blockers(tmp_path: Path) -> None:
    """Seen: 'look over the site: FAILED (3)', 'the stage that failed says why', and no word why."""
    program = tmp_path / "agent.py"
    program.write_text(BLOCKED, "utf-8")
    site = SandboxSite(tmp_path / "agent.toml", tmp_path / "root.json", 0, "shop",
                    {"status": ["true"]}, tmp_path / "current")  # fmt: skip
    told: list[SandboxStage] = []
    last = SandboxRun(site, [sys.executable, str(program)], "en", told.append).run_stages(
        "1.0", "2.0"
    )[-1]
    assert (last.name, last.is_passed, last.code) == ("plan", False, "")
    assert "NU-4204" in last.output
    assert last.document == {"plan": {"blocked": True}}


#: Answers as the agent does where the application changed its schema after its start.
CHANGED = """
import json, sys
if sys.argv[1] != "verify":
    print("{}")
    sys.exit(0)
figures = {"database": "synapse", "kinds": KINDS}
found = [{"code": "NU-6106", "figures": figures}]
print(json.dumps({"findings": found, "lines": ["[critical] NU-6106 The schema of synapse"]}))
sys.exit(12)
"""


@pytest.mark.parametrize(
    ("kinds", "hint"),
    [
        (
            ["columns", "indexes"],
            'synapse in the manifest: self_managed = ["columns", "indexes"]',
        ),
        (["indexes", "functions"], "Cannot be declared: functions of synapse"),
        ([], None),
    ],
)
def test_changed_schema_names_the_missing_declaration(
    tmp_path: Path, kinds: list[str], hint: str | None
) -> None:
    """Seen: 'Do not upgrade', to who had made the release and knew what it was."""
    program = tmp_path / "agent.py"
    program.write_text(CHANGED.replace("KINDS", repr(kinds)), "utf-8")
    site = SandboxSite(tmp_path / "agent.toml", tmp_path / "root.json", 0, "shop",
                    {"status": ["true"]}, tmp_path / "current")  # fmt: skip
    round_ = SandboxRun(site, [sys.executable, str(program)], "en", lambda _: None)
    stages = round_.run_stages("1.0", "2.0")
    assert stages[-1].name == "verify" and not stages[-1].is_passed
    hints = [str(line) for line in round_.suggest_manifest_lines(stages, "1.0", "2.0")]
    if hint is None:
        assert hints == []
    else:
        assert len(hints) == 1 and hint in hints[0]
        assert round_.suggest_manifest_lines(stages[:-1], "1.0", "2.0") == (), (
            "nothing failed there"
        )


def test_application_with_token_health_is_started(tmp_path: Path) -> None:
    """The sandbox requests as the site does, and sends no token to redirect targets."""
    heard: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            heard.append(self.headers["Authorization"])
            self.send_response(302 if self.path == "/health" and len(heard) == 1 else 200)
            self.send_header("Location", "/elsewhere")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    (tmp_path / "token").write_text("geheim\n")
    (tmp_path / "token").chmod(0o600)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        application = {
            "start": ["true"], "health_url": f"http://127.0.0.1:{server.server_address[1]}",
            "health_path": "/health", "health_token_file": "token", "health_token_scheme": "Token",
        }  # fmt: skip
        SandboxSite(tmp_path / "agent.toml", tmp_path / "root.json", 0, "shop", application,
                 tmp_path / "current", tmp_path).start_application()  # fmt: skip
        server.shutdown()
        thread.join()
    assert heard == ["Token geheim", None]


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("[paths]\nroot = ", "[paths]\nstate = ", "'root' in [paths]"),
        ("http://127.0.0.1:", "http://192.0.2.1:", "'urls' in [feed]"),
        ("http://127.0.0.1:", "https://127.0.0.1:", "'urls' in [feed]"),
        ('adapter = "command"', 'adapter = "systemd"', "[application] needs"),
        ("[site]", "[site]\nproduct = 'shop'", "a release is of ncen"),
        ("[site]", "[site", "line"),
    ],
)
def test_possible_production_site_is_refused(
    desk: DemoSite,
    tmp_path: Path,
    old: str,
    new: str,
    why: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = desk.config_path.read_text()
    assert old in text
    desk.config_path.write_text(text.replace(old, new, 1))
    code, said, _ = run_trial(desk, tmp_path, "3.3.0", capsys, "--yes")
    assert (code, said["error"]["code"]) == (1, SANDBOX_UNUSABLE.code)
    assert why in said["error"]["title"]
    assert not desk.trusted_root.exists()


@pytest.mark.parametrize("what", ["state", "root", "no consent", "port"])
def test_existing_files_are_not_touched(
    desk: DemoSite, tmp_path: Path, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, expected, more = 1, SANDBOX_UNUSABLE.code, ["--yes"]
    taken = socket.socket()
    if what == "state":
        (desk.state / "journal.sqlite").write_bytes(b"mine")
    elif what == "root":
        desk.trusted_root.write_bytes(b"mine")
    elif what == "port":
        port = desk.options.feed_urls[0].rpartition(":")[2].strip("/")
        taken.bind(("127.0.0.1", int(port)))
        taken.listen()
    else:
        code, expected, more = 2, "NU-1102", []
    with taken:
        got, said, _ = run_trial(desk, tmp_path, "3.3.0", capsys, *more)
    assert (got, said["error"]["code"]) == (code, expected)
    assert desk.trusted_root.exists() == (what == "root")
    there = {p.relative_to(desk.state).as_posix() for p in desk.state.rglob("*")}
    assert there == ({"journal.sqlite"} if what == "state" else set())
