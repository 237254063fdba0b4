"""What lists a feed has shown, in more than one place and over time: no number twice.

Two lists of one role with one number and other bytes are two true lists, of which some sites see
one and some the other: an officer signed twice, or whoever holds the online keys does not show
everybody the same. No site notices by itself. So lists of several places are compared, and with a
history that anybody can keep, publish and compare: one JSON line a list, each with the digest of
the line before it, so that nothing in the middle can be taken away or put in unseen::

    {"at":"2026-11-26T07:00:00Z","before":"0000...","digest":"9f3c...","place":"https://...",
     "role":"ncen","version":3}

One history is of one feed. It says what was shown, and not who signed: that is in the lists.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from tuf.api.metadata import Metadata

from ncen_updater.common import atomic_files as durable
from ncen_updater.common.bounded_io import NotReadable, TooLarge, parse_json, read_file
from ncen_updater.common.canonical_json import canonical_json, sha256_hex
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.findings import Finding, Severity
from ncen_updater.common.i18n import N_, Text
from ncen_updater.common.messages import HISTORY_BROKEN
from ncen_updater.formats.rollout import format_moment
from ncen_updater.publisher.signing.event import digest_of

TWO_LISTS: Final = "NU-7205"
OLDER: Final = "NU-7206"
FIRST: Final = "0" * 64
MOST_BYTES: Final = 50_000_000
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


@dataclass(frozen=True, order=True)
class ListShown:
    """A list as a place showed it.

    Attributes:
        role: Which list.
        version: Its number.
        digest: Of the bytes that were signed.
        place: Who showed it: an address, or the name of a history.
    """

    role: str
    version: int
    digest: str
    place: str


def shown_in(place: str, lists: dict[str, Metadata[Any]]) -> tuple[ListShown, ...]:
    """What a place shows, of lists that were verified."""
    return tuple(
        ListShown(role, metadata.signed.version, digest_of(metadata), place)
        for role, metadata in sorted(lists.items())
    )


def contradictions(shown: Iterable[ListShown]) -> Iterator[Finding]:
    """Say which lists have one number and are not one list; pure."""
    first: dict[tuple[str, int], ListShown] = {}
    told: set[tuple[str, int, str]] = set()
    for one in shown:
        before = first.setdefault((one.role, one.version), one)
        if before.digest == one.digest or (one.role, one.version, one.digest) in told:
            continue
        told.add((one.role, one.version, one.digest))
        values = {
            "role": one.role, "version": one.version, "first": before.place, "second": one.place,
            "digest": before.digest[:16], "other": one.digest[:16],
        }  # fmt: skip
        yield Finding(
            TWO_LISTS,
            Severity.STRICT,
            Text(
                N_(
                    "There are two lists '{role}' with the number {version}: {first} shows"
                    " {digest}, {second} shows {other}. Sites do not all see the same."
                ),
                values,
            ),
            Text(
                N_(
                    "Keep both files. Ask each officer, by voice, what they signed, and take who"
                    " holds the online keys for untrue until that is explained. Then publish a"
                    " list with a higher number."
                )
            ),
            {**values, "digest": before.digest, "other": one.digest},
        )


def behind(
    places: Sequence[Sequence[ListShown]], before: Iterable[ListShown] = ()
) -> Iterator[Finding]:
    """Say which place shows an older list than another one, or than was shown before; pure.

    A copy may be some minutes behind; one that stays so keeps its sites from what is new, as from a
    brake.

    Args:
        places: What each place shows now.
        before: What histories hold.
    """
    newest: dict[str, ListShown] = {}
    for one in (*before, *(one for place in places for one in place)):
        if one.role not in newest or newest[one.role].version < one.version:
            newest[one.role] = one
    for one in sorted(one for place in places for one in place):
        best = newest[one.role]
        if one.version < best.version:
            values = {
                "role": one.role, "place": one.place, "version": one.version,
                "newest": best.version, "other": best.place,
            }  # fmt: skip
            yield Finding(
                OLDER,
                Severity.ADVISORY,
                Text(
                    N_(
                        "{place} shows version {version} of '{role}', {other} shows version"
                        " {newest}."
                    ),
                    values,
                ),
                Text(N_("Renew the copy that is behind; if it stays so, ask who keeps it.")),
                values,
            )


class _ShownLine(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)  # a newer program may note more

    at: str
    before: Sha256
    digest: Sha256
    place: Annotated[str, StringConstraints(max_length=2000)]
    role: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    version: Annotated[int, Field(ge=1, lt=2**63)]


@dataclass(frozen=True)
class ShownHistory:
    """The file; it need not be there yet.

    Attributes:
        path: Where it lies.
    """

    path: Path

    def lists(self) -> tuple[ListShown, ...]:
        """Return all that was shown, oldest first.

        Raises:
            HistoryBroken: If the file is no such history, or its chain does not close.
        """
        return tuple(self._lists())

    def _lists(self) -> Iterator[ListShown]:
        before = FIRST
        for number, line in enumerate(self._content().splitlines(), 1):
            try:
                data = _ShownLine.model_validate(parse_json(line))
            except (ValidationError, ValueError) as error:
                raise self._broken(number, error) from error
            if data.before != before:
                raise self._broken(number, "it does not follow from the line before it")
            before = sha256_hex(line)
            place = f"{self.path.name}: {data.place}"
            yield ListShown(data.role, data.version, data.digest, place)

    def _content(self) -> bytes:
        try:
            content = read_file(self.path, MOST_BYTES)
        except FileNotFoundError:
            return b""
        except (OSError, NotReadable, TooLarge) as error:
            raise self._broken(0, error) from error
        if content and not content.endswith(b"\n"):
            raise self._broken(content.count(b"\n") + 1, "it is cut off")
        return content

    def _broken(self, line: int, reason: object) -> UpdaterError:
        return UpdaterError(HISTORY_BROKEN, path=self.path, line=line, detail=str(reason)[:500])

    def add(self, shown: Iterable[ListShown], now: datetime) -> int:
        """Add what is not in it yet; return how many lists that were.

        A list is added also where it contradicts one that is there: that is what it is for.

        Raises:
            HistoryBroken: If what is there cannot be followed, or the disk does not take it.
        """
        known = {(one.role, one.version, one.digest) for one in self.lists()}
        content = self._content()
        last = content.splitlines()[-1:]
        before, added = sha256_hex(last[0]) if last else FIRST, 0
        for one in shown:
            if (one.role, one.version, one.digest) in known:
                continue
            known.add((one.role, one.version, one.digest))
            line = canonical_json({
                "at": format_moment(now), "before": before, "digest": one.digest,
                "place": one.place, "role": one.role, "version": one.version,
            }).rstrip(b"\n")  # fmt: skip
            content, before, added = content + line + b"\n", sha256_hex(line), added + 1
        if added:
            try:
                durable.write(self.path, content, 0o644)
            except OSError as error:
                raise self._broken(0, error) from error
        return added
