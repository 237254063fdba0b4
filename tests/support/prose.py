"""Split a document into sentences."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

KINDS = ("tutorials", "how-to", "reference", "explanation")
#: Pages generated from texts that have rules of their own.
GENERATED = frozenset({"messages.md", "commands.md"})
_FENCE = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)
_ITEM = re.compile(r"^\s*(?:[-*]|\d+\.) +(?:\[[ x]\] )?", re.MULTILINE)
_LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
_END = re.compile(r"(?<=[.!?])[*)]* +(?=[*(]*[A-ZÀ-Ý`\d«])")


def find_pages(documents: Path, *, generated: bool = False) -> list[Path]:
    """Return the documentation pages below a directory, by default without generated ones."""
    found = (page for kind in KINDS for page in documents.glob(f"{kind}/*.md"))
    return sorted(page for page in found if generated or page.name not in GENERATED)


def iter_blocks(text: str) -> Iterator[str]:
    """Yield paragraphs, list items and table cells; omit code and headings."""
    for block in re.split(r"\n\s*\n", _FENCE.sub("", text)):
        if re.match(r"^(?: {4}|#)", block.strip("\n")):
            continue
        rows = [line for line in block.splitlines() if line.lstrip().startswith("|")]
        for row in rows:
            yield from (cell for cell in re.split(r"(?<!\\)\|", row) if re.search(r"\w", cell))
        rest = "\n".join(line for line in block.splitlines() if line not in rows)
        yield from _ITEM.split(rest)


def iter_sentences(text: str) -> Iterator[str]:
    """Yield the sentences of a document; inline code counts as one word."""
    for block in iter_blocks(text):
        words = re.sub(r"`[^`]*`", "`", _LINK.sub(r"\1", block))
        yield from filter(None, (part.strip() for part in _END.split(" ".join(words.split()))))


def count_words(sentence: str) -> int:
    """Return how many words a sentence has."""
    return sum(bool(re.search(r"[\w`]", word)) for word in sentence.split())
