"""Tests of installing the agent on an empty server, and of removing it, by its commands."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ncen_updater.agent.cli.install import InitialSettings, render_config
from ncen_updater.agent.config.errors import ConfigError
from ncen_updater.agent.config.loader import load_config
from ncen_updater.agent.engine.lock import hold_change_lock
from ncen_updater.agent.model.change import Change, ChangeKind, ChangeState, DatabaseMode
from ncen_updater.agent.self_update import agent_directory as after_confirmation
from ncen_updater.agent.self_update.agent_directory import (
    prune_slots,
    read_failsafe,
    update_failsafe,
)
from ncen_updater.agent.storage.agent_selection import (
    AgentSelection,
    AgentSelectionFile,
    TrialState,
)
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common.messages import (
    AGENT_RELEASE_UNUSABLE,
    CHANGE_STILL_OPEN,
    INSTALLED_BY_PACKAGE,
    ROOT_ALREADY_INSTALLED,
    ROOT_UNUSABLE,
    SERVICE_STILL_RUNS,
    ExitCode,
)
from tests.agent.self_update.factories import agent_release
from tests.support.forks import DEADLINE_S
from tests.support.tuf_repository import Feed

VERSION = "0.9.0"
ANSWERS = ("--site", "xx-test", "--country", "XX", "--feed-url", "http://127.0.0.1:9/",
           "--engine", "sqlite")  # fmt: skip


@dataclass
class Server:
    """An empty server below a directory, an unpacked release and a root beside it."""

    root: Path
    release: Path
    trusted: Path

    def run(self, *words: str) -> tuple[int, dict[str, Any]]:
        kept = {k: v for k, v in os.environ.items() if k == "PATH" or k.startswith("COVERAGE_")}
        ended = subprocess.run(
            [sys.executable, "-m", "ncen_updater.agent.cli.main", "--json", *words],
            env=kept, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
            timeout=DEADLINE_S,
        )  # fmt: skip
        return ended.returncode, json.loads(ended.stdout)

    def install(self, *words: str) -> tuple[int, dict[str, Any]]:
        return self.run(
            "install", "--root", str(self.root), "--from", str(self.release),
            "--trusted-root", str(self.trusted), *ANSWERS, *words,
        )  # fmt: skip

    def uninstall(self, *words: str) -> tuple[int, dict[str, Any]]:
        return self.run("uninstall", "--root", str(self.root), "--yes", *words)

    def everything(self) -> dict[str, str]:
        found = {}
        for path in self.root.rglob("*"):
            if "lib" not in path.parts and not path.is_dir():
                found[str(path)] = str(path.lstat().st_mtime_ns)
        return found

    @property
    def agent(self) -> Path:
        return self.root / "opt/ncen-updater"

    @property
    def state(self) -> Path:
        return self.root / "var/lib/ncen-updater"


def make_server(directory: Path) -> Server:
    feed = Feed(directory / "feed")
    release = directory / "release"
    files = {
        **agent_release(VERSION),
        "manifest.toml": f'schema = 1\nproduct = "ncen-updater"\nversion = "{VERSION}"\n'.encode(),
        "units/ncen-updater.service": b"[Unit]\n",
        "units/ncen-updater.tmpfiles": b"d /run/ncen\n",
        "install": b"#!/bin/sh\n",
    }
    for name, content in files.items():
        (release / name).parent.mkdir(parents=True, exist_ok=True)
        (release / name).write_bytes(content)
    root = directory / "server"
    root.mkdir()
    return Server(root, release, feed.trusted_root(directory / "root.json"))


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return make_server(tmp_path)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = make_server(tmp_path_factory.mktemp("installed"))
    (server.root / "opt/ncen/slots/3.2.4").mkdir(parents=True)
    code, document = server.install("--dry-run")
    assert (code, document["dry_run"]) == (0, True)
    assert sorted(p.name for p in server.root.iterdir()) == ["opt"], "a dry run changes nothing"
    planned = document["parts"]
    code, document = server.install()
    assert (code, document["parts"]) == (0, planned)
    yield server


@pytest.fixture
def copied(installed: Server, tmp_path: Path) -> Server:
    """A copy that may be taken away."""
    root = tmp_path / "copy"
    shutil.copytree(installed.root, root, symlinks=True)
    config = root / "etc/ncen-updater/agent.toml"
    config.write_text(config.read_text().replace(str(installed.root), str(root)))
    return Server(root, installed.release, installed.trusted)


def test_installation_is_complete(installed: Server) -> None:
    root = installed.root
    config = load_config(root / "etc/ncen-updater/agent.toml")
    assert (config.site.id, config.paths.root) == ("xx-test", root)
    assert (root / "etc/ncen-updater/trust/root.json").read_bytes() == (
        installed.trusted.read_bytes()
    )
    assert AgentSelectionFile(installed.agent).load() == AgentSelection(VERSION)
    assert (installed.agent / "failsafe.py").read_bytes() == read_failsafe()
    assert (root / "etc/systemd/system/ncen-updater.service").is_file()
    assert (root / "etc/tmpfiles.d/ncen-updater.conf").is_file()
    said = subprocess.run(
        [root / "usr/local/bin/ncen-updater", "--version"], capture_output=True, text=True,
        check=True, timeout=DEADLINE_S,
    )  # fmt: skip
    assert said.stdout == f"ncen-updater {VERSION}\n"


def test_second_installation_changes_nothing(installed: Server) -> None:
    before = installed.everything()
    code, document = installed.install()
    assert (code, document["parts"]) == (0, [])
    assert installed.everything() == before


def test_lost_parts_are_recreated(copied: Server) -> None:
    (copied.agent / "failsafe.py").unlink()
    (copied.agent / "current").unlink()
    code, document = copied.install()
    assert code == 0
    assert "failsafe" in document["parts"]
    assert f"activation of ncen-updater {VERSION}" in document["parts"]
    assert (copied.agent / "current").readlink() == Path(VERSION)


def test_failsafe_is_kept_while_an_agent_is_on_trial(copied: Server) -> None:
    older = read_failsafe() + b"# older\n"
    (copied.agent / "failsafe.py").write_bytes(older)
    AgentSelectionFile(copied.agent).update(
        lambda _: AgentSelection(VERSION, "0.1", TrialState.ON_TRIAL)
    )
    assert copied.install()[0] == 0
    assert (copied.agent / "failsafe.py").read_bytes() == older
    assert update_failsafe(copied.agent, Path(sys.executable))
    assert (copied.agent / "failsafe.py").read_bytes() == read_failsafe()
    assert not update_failsafe(copied.agent, Path(sys.executable))


def test_failsafe_incompatible_with_this_python_is_rejected(copied: Server) -> None:
    older = b"# older\n"
    (copied.agent / "failsafe.py").write_bytes(older)
    assert not update_failsafe(copied.agent, Path("/bin/false"))
    assert (copied.agent / "failsafe.py").read_bytes() == older
    assert not list(copied.agent.glob(".failsafe*"))


@pytest.mark.parametrize(
    ("sound", "broken"),
    [
        ("            os.execv(path", "            sys.exit(0), os.execv(path"),
        ("    return run_resume(directory", "    return 0 or len(words"),
        ("write_selection(directory, state)\n    except", "raise ValueError(state)\n    except"),
        (
            "        return StartDecision(state.current, replace(state, attempts",
            "        return StartDecision(state.previous, replace(state, attempts",
        ),
    ],
)
def test_defective_failsafe_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sound: str, broken: str
) -> None:
    """It would disable every agent, without a way to restore one."""
    older = read_failsafe() + b"# older\n"
    (tmp_path / "failsafe.py").write_bytes(older)
    (tmp_path / ".failsafe.py.left").mkdir()  # of a trial that a power cut ended
    text = read_failsafe().decode()
    assert sound in text
    content = text.replace(sound, broken).encode()
    monkeypatch.setattr(after_confirmation, "read_failsafe", lambda: content)
    assert not update_failsafe(tmp_path, Path(sys.executable))
    assert (tmp_path / "failsafe.py").read_bytes() == older
    assert [path.name for path in tmp_path.iterdir()] == ["failsafe.py"]


def test_unreferenced_slots_are_pruned(copied: Server) -> None:
    for version in ("0.7.0", "0.8.0"):
        (copied.agent / version).mkdir()
        (copied.agent / version / "slot.json").write_text("{}")
    (copied.agent / "1.0.partial").mkdir()
    alive: list[None] = []
    assert prune_slots(copied.agent, lambda: alive.append(None)) == ()
    assert not alive
    AgentSelectionFile(copied.agent).update(lambda _: AgentSelection(VERSION, "0.8.0"))
    assert prune_slots(copied.agent, lambda: alive.append(None)) == ("0.7.0",)
    assert alive, "whoever watches would have ended the service on a slow disk"
    assert sorted(p.name for p in copied.agent.glob("[01]*")) == ["0.8.0", VERSION]


def test_another_root_is_refused(copied: Server, tmp_path: Path) -> None:
    copied.trusted = Feed(tmp_path / "other").trusted_root(tmp_path / "other.json")
    code, document = copied.install()
    assert (code, document["error"]["code"]) == (ExitCode.TRUST, ROOT_ALREADY_INSTALLED.code)


def test_invalid_root_is_refused(server: Server) -> None:
    altered = json.loads(server.trusted.read_bytes())
    altered["signed"]["version"] += 1
    for content in ("{}", json.dumps(altered)):
        server.trusted.write_text(content)
        code, document = server.install()
        assert (code, document["error"]["code"]) == (ExitCode.TRUST, ROOT_UNUSABLE.code)
    assert list(server.root.iterdir()) == []


def test_invalid_release_is_refused(server: Server) -> None:
    shutil.rmtree(server.release / "wheels")
    code, document = server.install()
    assert (code, document["error"]["code"]) == (ExitCode.USAGE, AGENT_RELEASE_UNUSABLE.code)
    assert document["error"]["state"] == "Application and databases unchanged."
    assert list(server.root.iterdir()) == []


def test_invalid_configuration_is_not_left_behind(server: Server) -> None:
    (server.root / "ready.toml").write_text("schema = 1\n")
    code, document = server.run(
        "install", "--root", str(server.root), "--from", str(server.release), "--trusted-root",
        str(server.trusted), "--settings", str(server.root / "ready.toml"),
    )  # fmt: skip
    assert code == ExitCode.ERROR
    assert document["error"]["code"].startswith("NU-10")
    assert not list((server.root / "etc/ncen-updater").glob("*.toml*"))
    assert not list((server.root / "etc/ncen-updater").glob(".agent*"))


def test_missing_answers_are_named_without_a_terminal(server: Server) -> None:
    code, document = server.run("install", "--root", str(server.root), "--site", "x")
    assert code == ExitCode.USAGE
    assert "--country" in document["error"]["detail"]


def test_removal_keeps_the_application(copied: Server) -> None:
    Journal.create(copied.state / "journal.sqlite").close()
    before = set(copied.everything())
    code, document = copied.uninstall("--dry-run")
    assert (code, len(document["parts"])) == (0, 4)
    assert set(copied.everything()) >= before
    assert copied.uninstall()[0] == 0
    assert not copied.agent.exists()
    assert not (copied.root / "usr/local/bin/ncen-updater").is_symlink()
    assert not (copied.root / "etc/systemd/system/ncen-updater.service").exists()
    assert not (copied.root / "etc/tmpfiles.d/ncen-updater.conf").exists()
    assert (copied.root / "opt/ncen/slots/3.2.4").is_dir()
    assert (copied.state / "journal.sqlite").is_file()
    assert copied.uninstall("--purge")[0] == 0
    assert not copied.state.exists()
    assert not (copied.root / "etc/ncen-updater").exists()
    assert (copied.root / "opt/ncen/slots/3.2.4").is_dir()


def test_removal_is_refused_during_a_change_or_with_a_running_service(copied: Server) -> None:
    with Journal.create(copied.state / "journal.sqlite") as journal:
        change = Change(
            id="abcdefgh",
            kind=ChangeKind.UPGRADE,
            mode=DatabaseMode.MIGRATE,
            state=ChangeState.RUNNING,
            product="ncen",
            from_version="3.2.4",
            to_version="3.3.0",
            generation=1,
            created_at=datetime(2026, 1, 1, tzinfo=UTC),
        )
        journal.begin_change(change)
    code, document = copied.uninstall()
    assert (code, document["error"]["code"]) == (ExitCode.BUSY, CHANGE_STILL_OPEN.code)
    (copied.state / "journal.sqlite").unlink()
    with hold_change_lock(copied.state / "service/service.lock", "service"):
        code, document = copied.uninstall()
        # Seen: "wait until it has finished", of a service that never does; of a dry run, too.
        assert (code, document["error"]["code"]) == (ExitCode.BUSY, SERVICE_STILL_RUNS.code)
        assert copied.uninstall("--dry-run")[0] == 0
    assert copied.agent.is_dir()


def test_packaged_files_are_left_to_the_package(copied: Server) -> None:
    unit = copied.root / "usr/lib/systemd/system/ncen-updater-resume.service"
    unit.parent.mkdir(parents=True)
    unit.write_text("[Unit]\n")
    for words in ([], ["--dry-run"], ["--purge"]):
        # Seen: the slots went, the unit that nCEN requires stayed, and nCEN did not start again.
        code, document = copied.uninstall(*words)
        assert (code, document["error"]["code"]) == (ExitCode.BLOCKED, INSTALLED_BY_PACKAGE.code)
    assert "sudo apt remove ncen-updater" in document["error"]["remedy"]
    assert copied.agent.is_dir()


def test_answers_make_a_valid_configuration(tmp_path: Path) -> None:
    answers = InitialSettings(
        site='a "site"', country="KE", feed=("http://a/", "http://b/"), engine="sqlite",
        databases=(("cases", "ncen_cases"),), engine_settings={"directory": "srv/db"},
        unit="app.service",        health_url="http://127.0.0.1:9000", runner="systemd",
    )  # fmt: skip
    (tmp_path / "run/ncen").mkdir(parents=True)
    (tmp_path / "agent.toml").write_text(render_config(replace(answers, site="a-site"), tmp_path))
    config = load_config(tmp_path / "agent.toml")
    assert (config.site.id, config.site.country) == ("a-site", "KE")
    assert config.feed.urls == answers.feed
    assert config.databases.engine_settings.local_directory == tmp_path / "srv/db"
    assert config.databases.names == dict(answers.databases)
    assert config.application.unit == "app.service"
    assert config.application.health_url == "http://127.0.0.1:9000"
    assert config.service.runner == "systemd"
    (tmp_path / "agent.toml").write_text(render_config(answers, tmp_path))
    with pytest.raises(ConfigError):
        load_config(tmp_path / "agent.toml")
