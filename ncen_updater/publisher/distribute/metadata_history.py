"""Metadata versions that a feed has shown, per mirror and over time: no version number twice.

Two versions of one role's metadata with the same number and different bytes are both valid, and
some sites see one and some the other: a signer signed twice, or the holder of the online keys shows
different files to different sites. No site notices that alone. So the metadata of several mirrors
is compared, also with a history that anybody can keep, publish and compare: one JSON line for each,
with the digest of the line before it, so that no line can be removed or inserted unnoticed::

    {"at":"2026-11-26T07:00:00Z","before":"0000...","digest":"9f3c...","place":"https://...",
     "role":"ncen","version":3}

A history belongs to one feed. It records what was shown; who signed is in the metadata.
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
from ncen_updater.common.bounded_io import (
    FileTooLargeError,
    NotRegularFileError,
    parse_json,
    read_file,
)
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.findings import Finding, Severity, make_finding
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.json_records import compute_sha256, encode_canonical_json
from ncen_updater.common.messages import HISTORY_BROKEN
from ncen_updater.formats.rollout import format_utc_time
from ncen_updater.publisher.signing.signing_event import compute_signed_digest

EQUIVOCATION: Final = "NU-7205"
METADATA_OUTDATED: Final = "NU-7206"
FIRST_DIGEST: Final = "0" * 64
MAX_HISTORY_BYTES: Final = 50_000_000
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


@dataclass(frozen=True, order=True)
class ObservedMetadata:
    """A list as a place showed it.

    Attributes:
        role: Which list.
        version: Its number.
        digest: Of the bytes that were signed.
        source: Who showed it: an address, or the name of a history.
    """

    role: str
    version: int
    digest: str
    source: str


def observe_metadata(place: str, lists: dict[str, Metadata[Any]]) -> tuple[ObservedMetadata, ...]:
    """Return the observations of verified metadata at one place."""
    return tuple(
        ObservedMetadata(role, metadata.signed.version, compute_signed_digest(metadata), place)
        for role, metadata in sorted(lists.items())
    )


def find_equivocations(shown: Iterable[ObservedMetadata]) -> Iterator[Finding]:
    """Say which lists have one number and are not one list; pure."""
    first: dict[tuple[str, int], ObservedMetadata] = {}
    reported: set[tuple[str, int, str]] = set()
    for one in shown:
        before = first.setdefault((one.role, one.version), one)
        if before.digest == one.digest or (one.role, one.version, one.digest) in reported:
            continue
        reported.add((one.role, one.version, one.digest))
        values = {
            "role": one.role, "version": one.version, "first": before.source, "second": one.source,
            "digest": before.digest[:16], "other": one.digest[:16],
        }  # fmt: skip
        yield Finding(
            EQUIVOCATION,
            Severity.CRITICAL,
            LazyText(
                N_(
                    "Two versions {version} of '{role}' metadata: {first} shows {digest}, {second}"
                    " shows {other}"
                ),
                values,
            ),
            LazyText(
                N_(
                    "Keep both files, stop using the online keys, and ask each signer by voice what"
                    " they signed. Then publish a higher version."
                )
            ),
            {**values, "digest": before.digest, "other": one.digest},
        )


def find_outdated(
    places: Sequence[Sequence[ObservedMetadata]], before: Iterable[ObservedMetadata] = ()
) -> Iterator[Finding]:
    """Say which place shows an older list than another one, or than was shown before; pure.

    A copy may be some minutes behind; one that stays so keeps its sites from what is new, as from
    an emergency halt.

    Args:
        places: What each place shows now.
        before: What histories hold.
    """
    newest: dict[str, ObservedMetadata] = {}
    for one in (*before, *(one for place in places for one in place)):
        if one.role not in newest or newest[one.role].version < one.version:
            newest[one.role] = one
    for one in sorted(one for place in places for one in place):
        best = newest[one.role]
        if one.version < best.version:
            values = {
                "role": one.role, "place": one.source, "version": one.version,
                "newest": best.version, "other": best.source,
            }  # fmt: skip
            yield make_finding(
                METADATA_OUTDATED,
                Severity.WARNING,
                N_("{place} has '{role}' version {version}, {other} has version {newest}"),
                N_("Update the older copy."),
                **values,
            )


class _HistoryLine(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)  # a newer program may note more

    at: str
    before: Sha256
    digest: Sha256
    place: Annotated[str, StringConstraints(max_length=2000)]
    role: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    version: Annotated[int, Field(ge=1, lt=2**63)]


@dataclass(frozen=True)
class MetadataHistory:
    """The file; it need not be there yet.

    Attributes:
        path: Where it lies.
    """

    path: Path

    def read_observed(self) -> tuple[ObservedMetadata, ...]:
        """Return all that was shown, oldest first.

        Raises:
            HISTORY_BROKEN: If the file is no such history, or its chain does not close.
        """
        return tuple(self._iter_observed())

    def _iter_observed(self) -> Iterator[ObservedMetadata]:
        before = FIRST_DIGEST
        for number, line in enumerate(self._read_content().splitlines(), 1):
            try:
                data = _HistoryLine.model_validate(parse_json(line))
            except (ValidationError, ValueError) as error:
                raise self._make_broken_error(number, error) from error
            if data.before != before:
                raise self._make_broken_error(number, "it does not follow from the line before it")
            before = compute_sha256(line)
            place = f"{self.path.name}: {data.place}"
            yield ObservedMetadata(data.role, data.version, data.digest, place)

    def _read_content(self) -> bytes:
        try:
            content = read_file(self.path, MAX_HISTORY_BYTES)
        except FileNotFoundError:
            return b""
        except (OSError, NotRegularFileError, FileTooLargeError) as error:
            raise self._make_broken_error(0, error) from error
        if content and not content.endswith(b"\n"):
            raise self._make_broken_error(content.count(b"\n") + 1, "it is cut off")
        return content

    def _make_broken_error(self, line: int, reason: object) -> UpdaterError:
        return UpdaterError(HISTORY_BROKEN, path=self.path, line=line, detail=str(reason)[:500])

    def append_new(self, shown: Iterable[ObservedMetadata], now: datetime) -> int:
        """Add what is not in it yet; return how many lists that were.

        A list is added also where it contradicts one that is there: that is what it is for.

        Raises:
            HISTORY_BROKEN: If what is there cannot be followed, or the disk does not take it.
        """
        known = {(one.role, one.version, one.digest) for one in self.read_observed()}
        content = self._read_content()
        last = content.splitlines()[-1:]
        before, added = compute_sha256(last[0]) if last else FIRST_DIGEST, 0
        for one in shown:
            if (one.role, one.version, one.digest) in known:
                continue
            known.add((one.role, one.version, one.digest))
            line = encode_canonical_json({
                "at": format_utc_time(now), "before": before, "digest": one.digest,
                "place": one.source, "role": one.role, "version": one.version,
            }).rstrip(b"\n")  # fmt: skip
            content, before, added = content + line + b"\n", compute_sha256(line), added + 1
        if added:
            try:
                durable.write_file(self.path, content, 0o644)
            except OSError as error:
                raise self._make_broken_error(0, error) from error
        return added
