"""``agent.toml``, read whole and in part."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given

from ncen_updater.agent.config.errors import ConfigError
from ncen_updater.agent.config.essential_settings import load_essential_settings
from ncen_updater.agent.config.loader import load_config
from tests.agent.cli.site import CONFIG
from tests.badinput.hostile import DEEP, FEW, HUGE, LARGE, NO_FILES, bounded, spoilt, typed

GOOD = CONFIG.format(root="/nowhere")
READERS = pytest.mark.parametrize("read", [load_config, load_essential_settings])


def load_and_restore(read: Callable[[Path], object], path: Path) -> None:
    before = path.read_bytes()
    typed(lambda: read(path))
    assert path.read_bytes() == before


@READERS
@pytest.mark.parametrize(
    "text",
    {
        "a number too long for Python": f"schema = {HUGE}",
        "a hexadecimal number too long to be shown": f"schema = 0x{'f' * 5000}",
        "a number too large for a machine": f"schema = {LARGE}",
        "not finite": "schema = nan\n[application]\nstart_timeout_s = inf",
        "nested lists": "schema = " + "[" * DEEP,
        "nested closed lists": "schema = " + "[" * DEEP + "]" * DEEP,
        "nested tables": "a = " + "{a = " * DEEP,
        "a key of many parts": ".".join("a" * DEEP) + " = 1",
        "a table of many parts": "[" + ".".join("a" * DEEP) + "]",
        "spaced parts": " . ".join("a" * DEEP) + " = 1",
        "quoted parts": ".".join(['"a"'] * DEEP) + " = 1",
        "a time out of reach": "schema = 9999-12-31T23:59:60-23:59",
        "no such day": "schema = 2026-02-30",
        "odd offset": "schema = 2026-01-01T00:00:00+99:99",
        "zero characters": GOOD.replace('"ke-1"', '"ke\\u0000"'),
        "half a character": GOOD.replace('"ke-1"', '"\\ud800"'),
    }.items(),
    ids=lambda item: item[0],
)
def test_hostile_texts_are_refused(
    tmp_path: Path, read: Callable[[Path], object], text: tuple[str, str]
) -> None:
    path = tmp_path / "agent.toml"
    path.write_text(text[1])
    with bounded(), pytest.raises(ConfigError):
        typed(lambda: read(path)) or pytest.fail("accepted")
        read(path)


@READERS
@pytest.mark.parametrize("kind", NO_FILES)
def test_special_files_are_refused(
    tmp_path: Path, read: Callable[[Path], object], kind: str
) -> None:
    path = tmp_path / "agent.toml"
    NO_FILES[kind](path)
    with bounded():
        assert isinstance(typed(lambda: read(path)), ConfigError)


@READERS
@pytest.mark.parametrize("name", ["a\0b", "x" * 300, "\udcff", ""])
def test_invalid_names_are_refused(
    tmp_path: Path, read: Callable[[Path], object], name: str
) -> None:
    assert isinstance(typed(lambda: read(tmp_path / name)), ConfigError)


@FEW
@given(content=spoilt(GOOD.encode()))
def test_spoilt_configurations_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "agent.toml"
    path.write_bytes(content)
    load_and_restore(load_config, path)
    load_and_restore(load_essential_settings, path)
