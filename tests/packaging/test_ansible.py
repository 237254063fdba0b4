"""Tests that the Ansible role uses existing names and options; run by Ansible where installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import click
import pytest
from yaml import safe_load  # type: ignore[import-untyped]

from ncen_updater.agent.cli.main import cli
from ncen_updater.agent.setup.answers import load_answers
from ncen_updater.common.messages import SETUP_CONFIGURED, SETUP_NOTHING_TO_UNDO

ROOT = Path(__file__).resolve().parents[2]
ROLE = ROOT / "packaging/ansible/roles/ncen_updater"
TASKS = {path.stem: path.read_text("utf-8") for path in (ROLE / "tasks").iterdir()}
DEFAULTS = safe_load((ROLE / "defaults/main.yml").read_text("utf-8"))
KEYWORDS = frozenset(
    {"name", "when", "register", "check_mode", "changed_when", "failed_when", "diff", "always"}
)
#: Stands for the agent: refuses answers without an ID, and a second setup.
AGENT = f"""#!/bin/sh
echo "$*" >> LOG
case "$*" in
  *--yes) exit ;;
esac
! grep -q -e --yes LOG || {{ echo {SETUP_CONFIGURED.code} >&2; exit 3; }}
[ -s root.json ] && grep -q '^id = "ke-national"$' setup.toml || {{ echo no ID >&2; exit 1; }}
echo the plan
"""
PLAY = """
- hosts: localhost
  connection: local
  gather_facts: false
  environment:
    PATH: "HERE/bin:{{ lookup('env', 'PATH') }}"
    TMPDIR: HERE/left
  vars:
    ncen_updater_answers: HERE/answers.toml
    ncen_updater_root: HERE/root.json
  tasks:
    - block:
        - ansible.builtin.include_role: {name: ncen_updater, tasks_from: setup.yml}
          vars:
            site: nobody
      rescue:
        - ansible.builtin.debug:
            msg: "refused: {{ ansible_failed_result.stderr }}"
    - ansible.builtin.include_role: {name: ncen_updater, tasks_from: setup.yml}
    - ansible.builtin.include_role: {name: ncen_updater, tasks_from: setup.yml}
      when: not ansible_check_mode
"""
PLAN = "setup --answers setup.toml --dry-run"
APPLY = "setup --answers setup.toml --yes"
needs_ansible = pytest.mark.skipif(
    shutil.which("ansible-playbook") is None, reason="ansible-playbook is not installed"
)


def list_tasks(tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return tasks and those of their blocks."""
    inner = [part for task in tasks for part in (*task.get("block", ()), *task.get("always", ()))]
    return [task for task in tasks if "block" not in task] + (list_tasks(inner) if inner else [])


def test_every_variable_has_a_default() -> None:
    text = "".join(TASKS.values())
    registered = set(re.findall(r"register: (\w+)", text))
    assert set(re.findall(r"\bncen_updater_\w+", text)) - registered == set(DEFAULTS)


def test_argument_specification_has_the_same_defaults() -> None:
    specified = safe_load((ROLE / "meta/argument_specs.yml").read_text("utf-8"))
    options = specified["argument_specs"]["main"]["options"]
    assert {name: option["default"] for name, option in options.items()} == DEFAULTS


def test_only_builtin_ansible_modules_are_used() -> None:
    for name, text in TASKS.items():
        for task in list_tasks(safe_load(text)):
            [module] = set(task) - KEYWORDS
            assert module.startswith("ansible.builtin."), (name, task)


def test_command_options_exist() -> None:
    found = re.findall(r"cmd: ncen-updater (\w+) (.*)", "".join(TASKS.values()))
    assert len(found) == 4
    for name, words in found:
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words.split() if word.startswith("--")} <= known


def test_expected_codes_are_those_of_setup() -> None:
    assert set(re.findall(r"'(NU-\d+)'", TASKS["setup"])) == {SETUP_CONFIGURED.code}
    assert set(re.findall(r"'(NU-\d+)'", TASKS["remove"])) == {SETUP_NOTHING_TO_UNDO.code}


def test_keyring_package_is_published_under_its_name() -> None:
    for file in ("script/repository", "docs/how-to/install-agent.md"):
        assert "/ncen-updater-archive-keyring-" in (ROOT / file).read_text("utf-8")
    name = "/ncen-updater-archive-keyring-{{ ansible_facts.distribution_release }}.deb"
    assert name in TASKS["install"]


def test_example_answers_are_valid() -> None:
    answers = load_answers(ROOT / "packaging/examples/setup.toml")
    assert answers.trust.root == Path("/root/root.json")


def run_ansible(directory: Path, *words: str) -> str:
    """Run Ansible with the roles of this checkout, and return what it says."""
    ended = subprocess.run(
        ["ansible-playbook", "-i", "localhost,", *words],
        cwd=directory, capture_output=True, text=True, check=False,
        env={
            **os.environ, "HOME": str(directory), "LC_ALL": "C.UTF-8", "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_ROLES_PATH": str(ROLE.parent),
            "ANSIBLE_REMOTE_TEMP": str(directory / "temporary"),  # not in a home that is not there
        },
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@needs_ansible
def test_ansible_accepts_the_role(tmp_path: Path) -> None:
    run_ansible(tmp_path, "--syntax-check", str(ROLE.parents[1] / "site.yml"))


@needs_ansible
def test_setup_is_planned_and_applied_once(tmp_path: Path) -> None:
    """A check and a second run change nothing; wrong answers are refused before anything."""
    log, left = tmp_path / "log", tmp_path / "left"
    left.mkdir()
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin/ncen-updater"
    program.write_text(AGENT.replace("LOG", str(log)), "utf-8")
    program.chmod(0o755)
    (tmp_path / "root.json").write_text("{}", "utf-8")
    (tmp_path / "answers.toml").write_text(
        """id = "{{ site | default('ke-national') }}"\n""", "utf-8"
    )
    play = tmp_path / "play.yml"
    play.write_text(PLAY.replace("HERE", str(tmp_path)), "utf-8")
    said = run_ansible(tmp_path, "--check", str(play))
    assert "the plan" in said and "changed=1" in said
    assert log.read_text("utf-8").splitlines() == [PLAN, PLAN]
    log.unlink()
    said = run_ansible(tmp_path, str(play))
    assert "refused: no ID" in said and SETUP_CONFIGURED.code in said and "changed=1" in said
    assert log.read_text("utf-8").splitlines() == [PLAN, PLAN, APPLY, PLAN]
    assert [*left.iterdir()] == []
