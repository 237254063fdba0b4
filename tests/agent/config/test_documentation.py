from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import get_args, get_origin

import pytest
from pydantic import BaseModel

from ncen_updater.agent.config.agent_config import AgentConfig
from ncen_updater.agent.policy.windows import Weekday

ROOT = Path(__file__).parents[3]


def settings(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str, object]]:
    for name, field in model.model_fields.items():
        annotation = field.annotation
        options = get_args(annotation) if get_origin(annotation) is not None else (annotation,)
        inner = [o for o in options if isinstance(o, type) and issubclass(o, BaseModel)]
        if inner:
            yield from settings(inner[0], f"{prefix}.{name}" if prefix else name)
        else:
            default = "required" if field.is_required() else field.get_default()
            yield prefix, field.alias or name, default


SETTINGS = [(table, name, default) for table, name, default in settings(AgentConfig)]


def section(text: str, table: str) -> str:
    start = text.index(f"# [{table}]")
    return text[start : text.find("\n#", start + 1)]


@pytest.mark.parametrize(
    ("table", "name", "default"), SETTINGS, ids=[f"{t}.{n}" for t, n, _ in SETTINGS]
)
def test_every_setting_is_documented_with_its_default(
    table: str, name: str, default: object
) -> None:
    text = (ROOT / "docs/reference/configuration.md").read_text()
    if table in ("", "databases") and name in ("schema", "names"):
        assert f"`{name} = 1`" in text or "`[databases.names]`" in text
        return
    row = next(
        line for line in section(text, table).splitlines() if line.startswith(f"| `{name}` |")
    )
    shown = row.split("|")[2].strip().strip("`").strip('"')
    if default == "required" or default is None:
        assert shown == ("required" if default == "required" else "none")
    elif isinstance(default, bool):
        assert shown == str(default).lower()
    elif default == tuple(Weekday):
        assert shown == "every day"
    elif default == ():
        assert shown == "[]"
    elif isinstance(default, float):
        assert float(shown) == default
    elif default is not ... and not callable(default):
        assert shown in (str(default), "{}")


@pytest.mark.parametrize(("table", "name"), [(t, n) for t, n, _ in SETTINGS])
def test_every_setting_is_in_the_example(table: str, name: str) -> None:
    text = (ROOT / "packaging" / "agent.toml.example").read_text()
    if name == "names":
        assert "[databases.names]" in text
        return
    start = text.index(f"[{table}]") if table else 0
    assert f"{name} = " in text[start : text.find("\n[", start + 1) if table else None] or (
        f"# {name} = " in text[start:]
    )


def test_walk_covers_all_settings() -> None:
    assert len(SETTINGS) > 45
