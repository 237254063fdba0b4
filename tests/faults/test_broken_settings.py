"""A machine that starts with a configuration that was spoilt while a change was open."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ncen_updater.agent.config.agent_config import AgentConfig
from ncen_updater.agent.config.errors import ConfigError
from ncen_updater.agent.config.loader import iter_settings, load_config
from ncen_updater.agent.config.validation_cache import (
    VALID,
    choose_usable_config,
    find_state_directory,
)
from ncen_updater.agent.model.change import StepName, StepPhase
from tests.faults.test_scenarios import back_at_old, killed_upgrade
from tests.faults.test_scenarios import module_trial as module_trial  # noqa: PLC0414
from tests.faults.test_scenarios import trial as trial  # noqa: PLC0414
from tests.faults.trial import Trial
from tests.support.forks import run_agent
from tests.support.rotation import in_turns

ENVIRONMENT = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
SETTINGS = [(table, name) for table, name in iter_settings(AgentConfig) if name != "name" or table]
#: No setting takes a list with nothing but an empty list in it.
WRONG: list[list[str]] = [[]]
FILES = {
    "no file": None,
    "an empty file": "",
    "no TOML": "[site\nid = ",
    "no text": "\x00\x00",
    "another form": "schema = 2\n",
}


def as_toml(value: object) -> str:
    if isinstance(value, dict):
        return f"{{{', '.join(f'{json.dumps(k)} = {as_toml(v)}' for k, v in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(as_toml, value))}]"
    return json.dumps(value)


def spoilt(text: str, table: str, name: str) -> str:
    """The file with one setting that cannot be."""
    data = tomllib.loads(text)
    place: Any = data
    for part in table.split(".") if table else ():
        place = place.setdefault(part, {})
        if isinstance(place, list):
            place = place[0]
    place[name] = WRONG
    return "".join(f"{json.dumps(key)} = {as_toml(value)}\n" for key, value in data.items())


@pytest.fixture
def interrupted(trial: Trial) -> Iterator[Trial]:
    """A site whose power went in an upgrade that began under a good configuration."""
    config = trial.demo.config_path
    good = config.read_bytes()
    run_agent("--config", str(config), "plan", "3.3.0", environment=ENVIRONMENT)
    assert (find_state_directory(config) / VALID).exists()
    killed_upgrade(trial, StepName.MAINTENANCE_ON, StepPhase.AFTER_EFFECT)
    yield trial
    config.write_bytes(good)


def recovers(trial: Trial) -> None:
    config = trial.demo.config_path
    with pytest.raises(ConfigError):
        load_config(config)
    done = run_agent("--config", str(config), "resume", "--boot", environment=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    assert back_at_old(trial)
    assert not trial.demo.maintenance_file.exists()
    # No change is open: the application may start, whatever the file contains.
    again = run_agent("--config", str(config), "resume", "--boot", environment=ENVIRONMENT)
    assert again.returncode == 0, again.stderr


@in_turns("table", "name")
@pytest.mark.parametrize(("table", "name"), SETTINGS)
def test_boot_recovers_with_any_broken_setting(interrupted: Trial, table: str, name: str) -> None:
    config = interrupted.demo.config_path
    config.write_text(spoilt(config.read_text("utf-8"), table, name), "utf-8")
    recovers(interrupted)


@in_turns("kind")
@pytest.mark.parametrize("kind", FILES)
def test_boot_recovers_without_a_configuration(interrupted: Trial, kind: str) -> None:
    text = FILES[kind]
    interrupted.demo.config_path.unlink()
    if text is not None:
        interrupted.demo.config_path.write_text(text, "utf-8")
    recovers(interrupted)


def test_boot_recovers_without_the_maintenance_directory(interrupted: Trial) -> None:
    config, place = interrupted.demo.config_path, interrupted.demo.maintenance_file.parent
    below_run = place.parent / "run/other/closed"
    text = config.read_text("utf-8")
    config.write_text(
        text.replace("maintenance_file = ", f'maintenance_file = "{below_run}" # '), "utf-8"
    )
    done = run_agent("--config", str(config), "resume", "--boot", environment=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    assert back_at_old(interrupted)
    assert below_run.parent.stat().st_mode & 0o777 == 0o755, "or the web server does not see it"


@pytest.mark.parametrize(("table", "name"), SETTINGS)
def test_last_valid_configuration_is_used(module_trial: Trial, table: str, name: str) -> None:
    config = module_trial.demo.config_path
    good = config.read_text("utf-8")
    place = config.with_name("spoilt.toml")
    place.write_text(spoilt(good, table, name), "utf-8")
    kept = find_state_directory(config) / VALID
    kept.parent.mkdir(exist_ok=True)
    kept.write_text(good, "utf-8")
    with pytest.raises(ConfigError):
        load_config(place)
    # Where the state is named by what is wrong, the usual place is asked.
    if (table, name) not in {("", "paths"), ("paths", "root"), ("paths", "state")}:
        assert choose_usable_config(place) == kept


def test_usable_configuration_is_used(module_trial: Trial, tmp_path: Path) -> None:
    config = module_trial.demo.config_path
    assert choose_usable_config(config) == config
    with pytest.raises(ConfigError):
        choose_usable_config(tmp_path / "etc/ncen-updater/agent.toml")
