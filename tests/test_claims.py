"""Tests that each claim of the explanation pages has an existing heading and tests."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CLAIMS = tomllib.loads((ROOT / "tests/claims.toml").read_text("utf-8"))["claim"]


def list_missing_tests(tests: list[str]) -> list[str]:
    """Tests that are named and do not exist."""
    missing = []
    for name in tests:
        path, _, function = name.partition("::")
        file = ROOT / "tests" / path
        if not file.is_file() or f"def {function}(" not in file.read_text("utf-8"):
            missing.append(name)
    return missing


@pytest.mark.parametrize("page", sorted({claim["page"] for claim in CLAIMS}))
def test_claims_are_below_an_existing_heading(page: str) -> None:
    text = (ROOT / "docs" / page).read_text("utf-8")
    headings = set(re.findall(r"^#+ (.+)", text, re.MULTILINE))
    claimed = {claim["heading"] for claim in CLAIMS if claim["page"] == page}
    assert claimed - headings == set()


def test_every_claim_has_its_tests() -> None:
    assert len(CLAIMS) > 100
    texts = [claim["text"] for claim in CLAIMS]
    assert sorted(set(texts)) == sorted(texts)
    for claim in CLAIMS:
        assert claim["tests"], claim["text"]
        assert list_missing_tests(claim["tests"]) == [], claim["text"]


def test_missing_test_is_found() -> None:
    here = Path(__file__).name
    wanted = [f"{here}::test_none", "gone.py::test_x"]
    assert list_missing_tests([f"{here}::test_missing_test_is_found", *wanted]) == wanted
