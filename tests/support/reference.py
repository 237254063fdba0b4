"""Definitions of script/reference.py for tests of documents."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

REFERENCE: dict[str, Any] = runpy.run_path(
    str(Path(__file__).resolve().parents[2] / "script/reference.py")
)


def list_undocumented_keys(name: str, document: dict[str, object]) -> set[str]:
    """Return the top-level keys of a document that the reference does not list for its command."""
    return set(document) - set(REFERENCE["list_keys"](name))
