"""Tests that work on the site drops access to files of the database server."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ncen_updater.agent.adapters import rights
from ncen_updater.agent.cli import resume
from ncen_updater.agent.cli.main import run
from ncen_updater.common.landlock import get_abi_version
from tests.agent.cli.site import make_site
from tests.feed.test_reader_unit import CONFIG
from tests.support.forks import DEADLINE_S

needs_landlock = pytest.mark.skipif(get_abi_version() < 2, reason="this kernel knows no Landlock")
#: Tells what can be read and seen after it was given up; root could all.
TRY = """
import json, os, pathlib, sys
from ncen_updater.agent.adapters import rights
from ncen_updater.agent.config.loader import load_config
config, root, writable = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3]
rights.os.access = lambda place, _: str(place).endswith(writable)
rights.drop_server_file_access(load_config(config))
def reads(place):
    try:
        return (root / place).read_text()
    except PermissionError:
        return "refused"
server = "var/lib/postgresql/17/main"
(root / "state/file").write_text("kept")
os.link(root / "state/file", root / "received/beside")  # as files of officers are kept
os.replace(root / "state/file", root / "received/moved")
print(json.dumps({
    "server": reads(f"{server}/global/1260"),
    "beside": reads("var/lib/other/file"),
    "names": os.listdir(root / server / "global"),
    "room": os.statvfs(root / server).f_blocks > 0,
    "child": os.system(f"cat {root / server}/global/1260 > /dev/null 2>&1") == 0,
}))
"""


@needs_landlock
@pytest.mark.parametrize(
    ("runner", "files", "writable", "kept"),
    [
        ("systemd", None, "/nowhere", False),
        ("systemd", None, "/17/main", True),  # what an interrupted copy left is removed there
        (
            "systemd",
            "var/lib/photographs",
            "/nowhere",
            True,
        ),  # a new name beside it would be closed
        ("process", None, "/nowhere", True),
    ],
)
def test_database_server_files_become_unreadable(
    tmp_path: Path, runner: str, files: str | None, writable: str, kept: bool
) -> None:
    site = tmp_path / "site"
    for name in ("var/lib/postgresql/17/main/global/1260", "var/lib/other/file"):
        (site / name).parent.mkdir(parents=True)
        (site / name).write_text("content")
    for name in ("state", "received", "databases", "opt", "run"):
        (site / name).mkdir()
    config = tmp_path / "agent.toml"
    text = CONFIG.format(url="http://127.0.0.1:1/", root=site).replace('"door"', '"run/door"')
    text = text.replace('runner = "systemd"', f'runner = "{runner}"')
    if files is not None:
        text += f'\n[[files]]\nname = "photographs"\ndirectory = "{files}"\n'
    config.write_text(text)
    ended = subprocess.run(
        [sys.executable, "-c", TRY, str(config), str(site), writable],
        capture_output=True, text=True, check=False, timeout=DEADLINE_S,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout) == {
        "server": "content" if kept else "refused",
        "beside": "content",
        "names": ["1260"],
        "room": True,
        "child": kept,
    }


@pytest.mark.parametrize(
    ("words", "given_up"), [(["--boot"], 1), (["--boot", "--dry-run"], 0), ([], 0)]
)
def test_boot_drops_file_access_where_a_change_is_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], given_up: int
) -> None:
    site = make_site(tmp_path / "site")
    seen: list[object] = []
    monkeypatch.setattr(resume, "_has_no_open_change", lambda _: False)
    monkeypatch.setattr(rights, "drop_server_file_access", seen.append)
    run(["--config", str(site.config), "--local", "--quiet", "resume", *words])
    assert len(seen) == given_up
