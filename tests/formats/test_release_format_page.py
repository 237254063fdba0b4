"""docs/reference/release-format.md: its manifests are accepted, and no field is left out."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from ncen_updater.formats.manifest import Manifest, SignedModel, parse_manifest

PAGE = Path(__file__).parents[2] / "docs/reference/release-format.md"
TEXT = PAGE.read_text("utf-8")
FIRST, *OTHERS = re.findall(r"^```toml\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)


def iter_fields(model: type[SignedModel]) -> Iterator[str]:
    """Yield the names of all fields of a manifest, as they are written."""
    for name, field in model.model_fields.items():
        yield field.alias or name
        found = [field.annotation]
        while found:
            part = found.pop()
            found += get_args(part)
            if isinstance(part, type) and issubclass(part, SignedModel):
                yield from iter_fields(part)


def test_documented_manifest_is_accepted() -> None:
    assert parse_manifest(tomllib.loads(FIRST), "page").product == "ncen"


def test_each_documented_table_is_accepted() -> None:
    for text in OTHERS:
        table = tomllib.loads(text)
        data = {**tomllib.loads(FIRST), **table}
        if "migrator" in table:  # of an application that has no SQL files
            data |= {"databases": [{"name": "cases"}]}
            data |= {"migrator": {"argv": ["bin/migrate"], **table["migrator"]}}
        parse_manifest(data, "page")
    assert len(OTHERS) > 5


def test_every_field_is_documented() -> None:
    fields = set(iter_fields(Manifest))
    assert len(fields) > 60
    assert {name for name in fields if not re.search(rf"\b{name}\b", TEXT)} == set()
