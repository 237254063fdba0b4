"""Contents of a file of texts or settings, in any format."""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

#: The parts of a key, as its format has them: context and text, section and name, names of objects.
TextKey = tuple[str, ...]


class UnusableFileError(Exception):
    """A file that cannot be read as what it should be.

    Attributes:
        why: For people.
        line: Where, if that is known.
    """

    def __init__(self, why: str, line: int | None = None) -> None:
        super().__init__(why)
        self.why = why
        self.line = line


@dataclass(frozen=True)
class TextEntry:
    """One text or one value.

    Attributes:
        value: The text; in settings and in JSON also another value.
        plural: The forms of a text that counts, the first of them again with them.
        source: The text that it translates, where the format has it beside.
        source_plural: The same in the plural.
        fuzzy: Whether its translator was not sure.
        formats: gettext's flags of what a program fills in; None in other formats.
    """

    value: object
    plural: tuple[str, ...] = ()
    source: str | None = None
    source_plural: str | None = None
    fuzzy: bool = False
    formats: tuple[str, ...] | None = None

    @property
    def forms(self) -> tuple[str, ...]:
        """Its texts; none where it is no text."""
        if self.plural:
            return self.plural
        return (self.value,) if isinstance(self.value, str) else ()

    @property
    def is_empty(self) -> bool:
        """Whether nobody has written anything yet."""
        return self.value in ("", None) and not any(self.plural)

    @property
    def digest(self) -> str:
        """Names what was written; short, since it only has to tell a change of it."""
        content = repr((self.value, self.plural)).encode("utf-8", "surrogatepass")
        return hashlib.sha256(content).hexdigest()[:16]

    def has_same_text(self, other: TextEntry) -> bool:
        """Whether it says the same."""
        return (self.value, self.plural) == (other.value, other.plural)


@dataclass(frozen=True)
class TextCatalog:
    """Everything in one file, in its order.

    Attributes:
        entries: By key.
        header: What a format has beside its entries.
    """

    entries: Mapping[TextKey, TextEntry] = field(default_factory=dict)
    header: Mapping[str, str] = field(default_factory=dict)

    def __iter__(self) -> Iterator[TextKey]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def find_entry(self, key: TextKey) -> TextEntry | None:
        """Return the entry of a key; None if it is missing or empty."""
        found = self.entries.get(key)
        return None if found is None or found.is_empty else found


def format_key(key: TextKey) -> str:
    """Name a key for people, and for patterns of a manifest: its parts with dots between."""
    return ".".join(part.replace(".", "\\.") if len(key) > 1 else part for part in key if part)


def matches_pattern(key: TextKey, pattern: str) -> bool:
    """Whether a pattern of a manifest means a key."""
    return fnmatch.fnmatchcase(format_key(key), pattern)
