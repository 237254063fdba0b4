"""Whether it was proved here, and not long ago, that a dump of this site can be restored. Pure.

Where a dump is the way back of a change in place, the originals are touched only after that proof:
a rehearsal restores one, as the agent will have to. It holds for the server, the programs, the role
and what the database administrator put in, as they were, and for the schemas that it tried.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from ncen_updater.agent.journal.wordings import Wordings
from ncen_updater.common.i18n import N_, Text
from ncen_updater.common.records import Record


@dataclass(frozen=True)
class _InReport(Record):
    """A proof as the report of its rehearsal keeps it; the time is the report's."""

    basis: str
    schemas: Mapping[str, tuple[str, ...]]
    releases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Proof:
    """What a rehearsal proved.

    Attributes:
        at: When.
        basis: What it holds for, as the engine says it.
        schemas: By database the fingerprints of the schema: before, and after each release.
        releases: Those that were tried; an older agent kept none.
    """

    at: datetime
    basis: str
    schemas: Mapping[str, Sequence[str]] = field(default_factory=dict)
    releases: Sequence[str] = ()

    def as_json(self) -> dict[str, object]:
        """Return it as a rehearsal's report keeps it, without the time."""
        schemas = {name: tuple(found) for name, found in self.schemas.items()}
        return _InReport(self.basis, schemas, tuple(self.releases)).to_json()

    @classmethod
    def from_json(cls, at: datetime, data: object) -> Proof | None:
        """Read it from a report; None where there is none, or what an older agent wrote."""
        try:
            found = _InReport.from_json(data)
        except ValueError:
            return None
        return cls(at, found.basis, found.schemas, found.releases)

    def after(self, release: str, before: Mapping[str, str], after: Mapping[str, str]) -> Proof:
        """Return it with what an upgrade made of schemas that it holds for.

        A rehearsal migrates what was restored, an upgrade the originals: where the server words a
        schema anew in a restore, what comes of both is the same structure in other words.

        Args:
            release: What was upgraded to.
            before: By database the fingerprint that the upgrade found,
            after: and the one that it left.
        """
        more = {
            name: (*self.schemas[name], found)
            for name, found in after.items()
            if before.get(name) in self.schemas.get(name, ())
        }
        return replace(self, schemas={**self.schemas, **more}) if release in self.releases else self

    def reworded(self, wordings: Wordings) -> Proof:
        """Return it with the other wordings of the schemas that it holds for."""
        every = {name: wordings.all(name, found) for name, found in self.schemas.items()}
        return replace(self, schemas=every)


def why_unproved(
    proof: Proof | None,
    basis: str,
    schemas: Mapping[str, str],
    now: datetime,
    longest: timedelta,
) -> Text | None:
    """Return why nothing is proved as things are now; None where it is proved.

    Args:
        proof: The newest.
        basis: What a proof has to hold for now.
        schemas: By database the fingerprint of its schema now.
        now: The time.
        longest: So old may a proof become.
    """
    if proof is None:
        return Text(N_("no rehearsal has restored one yet"))
    if now - proof.at > longest:
        days = {"days": (now - proof.at).days}
        return Text(N_("the rehearsal that restored one is {days} days old"), days)
    if proof.basis != basis:
        return Text(
            N_("the server, its programs, the agent's role or what is in the databases changed")
        )
    for name, found in sorted(schemas.items()):
        if found not in proof.schemas.get(name, ()):
            return Text(N_("the structure of database '{name}' was changed"), {"name": name})
    return None
