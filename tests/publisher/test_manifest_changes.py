"""Tests of the manifest comparison: every field is shown, and important changes are marked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from ncen_updater.formats.manifest import Manifest, parse_manifest
from ncen_updater.publisher.review.weakened_protection import manifest_changes, manifest_marks

#: Every field of every model has another value than its default.
WHOLE: dict[str, Any] = {
    "schema": 1, "product": "ncen", "version": "1.0", "reports": "one", "upgrade_from": ">=0",
    "required": True, "channel": "preview", "urgency": "security", "agent": ">=7",
    "countries": ["MU"], "needs": {
        "disk_bytes": 1, "postgresql": ">=16", "sqlite": ">=3.40",
        "programs": [{"name": "node", "version": ">=20"}]},
    "smoke": {"argv": ["bin/smoke"], "timeout_s": 5},
    "databases": [{"name": "main", "tables_without_records": ["sessions"],
        "self_managed": ["tables"],
        "migrations": [
            {"id": "1", "up": "a", "down": "b", "data_loss": ["x"], "verify": "c",
             "transactional": False, "lock_timeout_ms": 1, "statement_timeout_ms": 1},
            {"id": "2", "up": "a", "irreversible": "for a reason"}]}],
    "compatibility": {"schema_number": 2, "compatible_down_to": 1, "expand": True},
    "checks": [{"name": "one", "names": {"fr": "première"}, "database": "main", "sql": "SELECT 1",
                "sql_after": "SELECT 2", "when": "after", "expect": 1},
               {"name": "two", "database": "main", "sql": "SELECT 1", "relation": "equal"}],
    "health": [{"name": "answers", "path": "/", "status": 201, "expect": {"a": 1}}],
    "reference_maps": [{"name": "map", "names": {"fr": "carte"}, "database": "main",
                        "unmapped": "SELECT 1",
                        "affected": "SELECT 2", "codes": ["a"], "strict": True}],
    "files": [{"name": "photographs", "effect": "moves", "description": "all of them"}],
    "overlays": [
        {"kind": "settings", "format": "ini", "release_path": "a.ini", "site_path": "b.ini",
         "source": "fr",
         "encoding": "latin-1", "required": ["x"], "renamed": {"a": "b"},
         "rules": [{"key": "x", "type": "integer", "least": 1, "most": 2, "one_of": ["1"]}]},
        {"kind": "translations", "format": "po", "release_path": "{lang}.po",
         "site_path": "{lang}.po",
         "template": "a.pot", "compiled": True, "areas": [{"keys": "*", "label": "all"}]}],
    "notes": {"en": {"title": "One", "text": "Words"}},
}  # fmt: skip
MIGRATOR: dict[str, Any] = {
    "schema": 1, "product": "ncen", "version": "1.0",
    "migrator": {"argv": ["a"], "timeout_s": 1, "no_rollback_reason": "for a reason",
                 "contract": {"argv": ["b"], "timeout_s": 1}},
}  # fmt: skip
EMPTY = parse_manifest({"schema": 1, "product": "ncen", "version": "0.9"}, "before")


def _fields(model: type[BaseModel], value: Any, seen: dict[type, set[str]]) -> Iterator[Any]:
    """Every leaf of a model's value, noting which fields of which model were met."""
    known = {field.alias or name: name for name, field in model.model_fields.items()}
    for alias, name in known.items():
        if alias not in value:
            continue
        seen.setdefault(model, set()).add(alias)
        inside = getattr(model.model_validate(value), name)
        for item in inside if isinstance(inside, tuple) else (inside,):
            if isinstance(item, BaseModel):
                data = item.model_dump(by_alias=True, exclude_defaults=True)
                yield from _fields(type(item), data, seen)


def test_every_manifest_field_is_compared() -> None:
    """The samples have every field that there is, and the page shows each of them."""
    seen: dict[type, set[str]] = {}
    for sample in (WHOLE, MIGRATOR):
        list(_fields(Manifest, sample, seen))
    seen[Manifest] |= {"notes"}
    for model, met in seen.items():
        every = {field.alias or name for name, field in model.model_fields.items()}  # type: ignore[attr-defined]
        assert met == every, model
    for sample in (WHOLE, MIGRATOR):
        told = {change.path: change.new for change in manifest_changes(made(sample), EMPTY)}
        leaves = dict(_leaves(sample))
        unchanged = {"schema", "product"}
        missing = [
            key for key in leaves if key not in unchanged and leaves[key] not in told.values()
        ]
        assert missing == []


def made(data: dict[str, Any]) -> Manifest:
    return parse_manifest(data, "sample")


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, inside in value.items():
            yield from _leaves(inside, f"{path}.{name}" if path else name)
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        for number, item in enumerate(value):
            yield from _leaves(item, f"{path}.{number}")
    else:
        yield path, value


@pytest.mark.parametrize("path", [path for path, _ in _leaves(WHOLE)])
def test_removed_field_is_shown(path: str) -> None:
    """Each is taken away, or its value, one at a time."""
    data = json.loads(json.dumps(WHOLE))
    place: Any = data
    *steps, last = path.split(".")
    for step in steps:
        place = place[int(step) if isinstance(place, list) else step]
    del place[last]
    try:
        other = Manifest.model_validate(data)
    except ValueError:
        return  # a manifest has it
    assert manifest_changes(other, made(WHOLE)), path


def test_changed_order_is_a_difference() -> None:
    data = json.loads(json.dumps(WHOLE))
    data["checks"].reverse()
    assert [change.path for change in manifest_changes(made(data), made(WHOLE))] == ["checks[]"]


def test_only_differing_items_of_a_long_list_are_shown() -> None:
    data, more = (json.loads(json.dumps(WHOLE)) for _ in "ab")
    data["reference_maps"][0]["codes"] = [f"c{number}" for number in range(3000)]
    more["reference_maps"][0]["codes"] = [*data["reference_maps"][0]["codes"][1:], "new"]
    changes = manifest_changes(made(more), made(data))
    assert [(change.old, change.new) for change in changes] == [(None, "new"), ("c0", None)]
    assert [grave for grave, _ in manifest_marks(changes)] == [True]
