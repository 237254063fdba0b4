"""Sizes in sentences, as people read them."""

from __future__ import annotations

import re

import pytest

from ncen_updater.common.cli.render import format_amount
from ncen_updater.common.i18n import LazyText, iter_catalog_texts


@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("en", "The copies need 46.0 GB, and 1.5 MB are free: 512 B."),
        ("fr", "The copies need 46,0 Go, and 1,5 Mo are free: 512 o."),
    ],
)
def test_byte_placeholders_are_formatted_as_sizes(language: str, words: str) -> None:
    """Seen: "The copies need 46034972672 bytes" (NU-4124)."""
    text = "The copies need {needed_bytes}, and {free_bytes} are free: {bytes}."
    values = {"needed_bytes": 46_034_972_672, "free_bytes": 1_500_000, "bytes": 512}
    assert LazyText(text, values).render(language) == words


def test_disk_space_messages_use_sizes() -> None:
    room = re.compile(r"\b(?:free|room|disk)\b.*\} bytes|\} bytes.*\b(?:free|room|disk)\b")
    assert [text for text in iter_catalog_texts() if room.search(text)] == []


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("copying the databases", "1.5 MB"),
        ("copying {name}", "1.5 MB"),
        ("Downloading {name} (bytes)", "1.5 MB"),
        ("publishing {name}", "1,500,000"),
        ("seizures: migration {id}", "1,500,000"),
    ],
)
def test_figures_of_copies_have_a_unit(text: str, shown: str) -> None:
    """Seen: "copying the databases, 1,500,000 of 3,000,000"."""
    assert format_amount(LazyText(text), 1_500_000) == shown
