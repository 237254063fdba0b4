"""Sizes in sentences, as people read them."""

from __future__ import annotations

import re

import pytest

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
