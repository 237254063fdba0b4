"""A first ``agent.toml``, from a few answers. What it does not ask has a default."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ncen_updater.agent.databases.engines import ENGINES, kind_of

DATABASES = {"cases": "ncen_cases", "reference": "ncen_reference", "messages": "ncen_messages"}


@dataclass(frozen=True)
class Answers:
    """What a person has to say of a site.

    Attributes:
        databases: Name in the releases to name in the server.
        engine_settings: Of its own table; by default what the engine gives a first site.
        unit: The application's unit.
        health_url: The application's own address.
        runner: ``systemd`` where the units come along that split privilege.
    """

    site: str
    country: str
    feed: tuple[str, ...]
    engine: str = next(iter(ENGINES))
    databases: tuple[tuple[str, str], ...] = tuple(DATABASES.items())
    engine_settings: Mapping[str, str] | None = None
    unit: str = "ncen.service"
    health_url: str = "http://127.0.0.1:8000"
    runner: Literal["process", "systemd"] = "process"


def settings_text(answers: Answers, root: Path) -> str:
    """Return the text of the configuration; pure."""
    quoted = json.dumps  # strings and arrays of JSON are TOML's too
    lines = [
        "# Made by 'ncen-updater install'. Every setting: docs/configuration.md",
        "schema = 1",
        "",
        "[site]",
        f"id = {quoted(answers.site)}",
        f"country = {quoted(answers.country)}",
        "",
        "[paths]",
        f"root = {quoted(str(root))}",
        "",
        "[feed]",
        f"urls = {quoted(list(answers.feed))}" if answers.feed else "offline = true",
        "",
        "[databases]",
        f"engine = {quoted(answers.engine)}",
        "",
        "[databases.names]",
        *(f"{name} = {quoted(physical)}" for name, physical in answers.databases),
        "",
        f"[databases.{answers.engine}]",
    ]
    own = answers.engine_settings
    first = kind_of(answers.engine).first_settings if own is None else own
    lines += [f"{name} = {quoted(value)}" for name, value in first.items()]
    lines += [
        "",
        "[application]",
        f"unit = {quoted(answers.unit)}",
        f"health_url = {quoted(answers.health_url)}",
        'door_file = "run/ncen/door-closed"',
        "",
        "[service]",
        f"runner = {quoted(answers.runner)}",
        "",
    ]
    return "\n".join(lines)
