"""The Ansible role uses names and options that exist; Ansible reads it where it is installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import click
import pytest

from ncen_updater.agent.cli.main import cli

ROOT = Path(__file__).resolve().parents[2]
ROLE = ROOT / "packaging/ansible/roles/ncen_updater"
TASKS = (ROLE / "tasks/main.yml").read_text("utf-8")


def test_every_variable_has_a_default() -> None:
    used = set(re.findall(r"\bncen_updater_\w+", TASKS))
    defaults = re.findall(r"^(ncen_updater_\w+):", (ROLE / "defaults/main.yml").read_text(), re.M)
    assert used == set(defaults)


def test_its_command_has_these_options() -> None:
    found = re.search(r"cmd: ncen-updater (\w+) (.*)", TASKS)
    assert found
    command = cli.get_command(click.Context(cli), found[1])
    assert command is not None
    known = {name for parameter in command.params for name in parameter.opts}
    assert {word for word in found[2].split() if word.startswith("--")} <= known


def test_keyring_package_is_published_under_its_name() -> None:
    for file in ("script/repository", "docs/how-to/install-agent.md"):
        assert "/ncen-updater-archive-keyring-" in (ROOT / file).read_text("utf-8")
    assert "/ncen-updater-archive-keyring-{{ ansible_facts.distribution_release }}.deb" in TASKS


@pytest.mark.skipif(
    shutil.which("ansible-playbook") is None, reason="ansible-playbook is not installed"
)
def test_ansible_reads_it(tmp_path: Path) -> None:
    ended = subprocess.run(
        ["ansible-playbook", "--syntax-check", "-i", "ncen_sites,", "site.yml"],
        cwd=ROLE.parents[1], capture_output=True, text=True, check=False,
        env={**os.environ, "HOME": str(tmp_path), "LC_ALL": "C.UTF-8"},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
