"""Schemas that a server worded anew when it restored them: other fingerprints, the same schema.

It does so with lists of values, casts, defaults and views. Who restores a dump of its own and looks
at what came of it writes both fingerprints down, and whoever compares fingerprints later asks here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ncen_updater.agent.journal.journal import Journal
from ncen_updater.agent.journal.rows import reading
from ncen_updater.common.records import Record

#: Event: a dump of the agent's own was restored, and its schema is worded anew.
REWORDED = "schemas-reworded"


@dataclass(frozen=True)
class Reworded(Record):
    """What one restore worded anew: fingerprints by database."""

    before: Mapping[str, str]
    after: Mapping[str, str]


def note_reworded(
    journal: Journal, change: str, before: Mapping[str, str], after: Mapping[str, str]
) -> None:
    """Write down what a restore worded anew, if anything; again after a crash, but not twice."""
    known = Wordings.of(journal)
    new = {
        n: text for n, text in after.items() if n in before and not known.same(n, before[n], text)
    }
    if new:
        found = Reworded({name: before[name] for name in new}, new)
        journal.note(REWORDED, change, **found.to_json())


class Wordings:
    """Tells which fingerprints are of one schema. Pure.

    Args:
        found: What restores worded anew, oldest first.
    """

    def __init__(self, found: Sequence[Reworded] = ()) -> None:
        self._found = found

    @classmethod
    def of(cls, journal: Journal) -> Wordings:
        """Read those of a site.

        Raises:
            JournalUnreadable: If what was written down is something else.
        """
        events = journal.events()
        with reading(journal.path):
            return cls([Reworded.from_json(e.data) for e in events if e.kind == REWORDED])

    def first(self, name: str, fingerprint: str) -> str:
        """Return the fingerprint that the schema of a database had before any restore."""
        for item in reversed(self._found):
            if item.after.get(name) == fingerprint:
                fingerprint = item.before[name]
        return fingerprint

    def same(self, name: str, one: object, other: str) -> bool:
        """Whether two fingerprints of a database are of one schema."""
        return self.first(name, str(one)) == self.first(name, other)

    def all(self, name: str, fingerprints: Sequence[str]) -> tuple[str, ...]:
        """Return fingerprints of a database with all others of the same schemas."""
        firsts = {self.first(name, text) for text in fingerprints}
        seen = [text[name] for i in self._found for text in (i.before, i.after) if name in text]
        others = (text for text in seen if self.first(name, text) in firsts)
        return tuple(dict.fromkeys((*fingerprints, *others)))
