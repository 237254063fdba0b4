"""History of the metadata that mirrors of a feed served: detect two files with one version.

Two different metadata files of one role and version can both be valid, and some sites then see one,
some the other: a signer signed twice, or the holder of the online keys serves different files to
different sites. No single site notices that. So the metadata of several mirrors is compared with
each other and with a history that anyone can keep, publish and compare: one JSON line per file,
with the digest of the previous line, so that no line can be removed or inserted unnoticed::

    {"at":"2026-11-26T07:00:00Z","before":"0000...","digest":"9f3c...","place":"https://...",
     "role":"ncen","version":3}

A history belongs to one feed. It records what was served; the signers are in the metadata.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from tuf.api.metadata import Metadata

from ncen_updater.common import atomic_files as durable
from ncen_updater.common.bounded_io import parse_json, read_file
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.findings import Finding, report_finding
from ncen_updater.common.json_records import compute_sha256, encode_canonical_json
from ncen_updater.common.messages import (
    HISTORY_BROKEN,
    MONITOR_COPY_OUTDATED,
    MONITOR_EQUIVOCATION,
)
from ncen_updater.formats.rollout import format_utc_time
from ncen_updater.publisher.signing.event_files import Sha256
from ncen_updater.publisher.signing.signing_event import compute_signed_digest

FIRST_DIGEST: Final = "0" * 64
MAX_HISTORY_BYTES: Final = 50_000_000


@dataclass(frozen=True, order=True)
class ObservedMetadata:
    """Metadata as a mirror served it.

    Attributes:
        role: The role.
        version: Its version.
        digest: Digest of the signed bytes.
        source: The mirror's address, or the name of a history.
    """

    role: str
    version: int
    digest: str
    source: str


def observe_metadata(place: str, lists: dict[str, Metadata[Any]]) -> tuple[ObservedMetadata, ...]:
    """Return the observations of verified metadata at one mirror."""
    return tuple(
        ObservedMetadata(role, metadata.signed.version, compute_signed_digest(metadata), place)
        for role, metadata in sorted(lists.items())
    )


def find_equivocations(shown: Iterable[ObservedMetadata]) -> Iterator[Finding]:
    """Yield a finding for each version of a role with two different files. Pure."""
    first: dict[tuple[str, int], ObservedMetadata] = {}
    reported: set[tuple[str, int, str]] = set()
    for one in shown:
        before = first.setdefault((one.role, one.version), one)
        if before.digest == one.digest or (one.role, one.version, one.digest) in reported:
            continue
        reported.add((one.role, one.version, one.digest))
        values: dict[str, object] = {
            "role": one.role, "version": one.version, "first": before.source, "second": one.source,
            "digest": before.digest[:16], "other": one.digest[:16],
        }  # fmt: skip
        found = report_finding(MONITOR_EQUIVOCATION, **values)
        yield replace(found, figures={**values, "digest": before.digest, "other": one.digest})


def find_outdated(
    places: Sequence[Sequence[ObservedMetadata]], before: Iterable[ObservedMetadata] = ()
) -> Iterator[Finding]:
    """Yield a finding for each mirror with older metadata than another mirror or a history. Pure.

    A copy may be some minutes old. One that stays old withholds new metadata from its sites, such
    as an emergency halt.

    Args:
        places: Present observations, by mirror.
        before: Observations of histories.
    """
    newest: dict[str, ObservedMetadata] = {}
    for one in (*before, *(one for place in places for one in place)):
        if one.role not in newest or newest[one.role].version < one.version:
            newest[one.role] = one
    for one in sorted(one for place in places for one in place):
        best = newest[one.role]
        if one.version < best.version:
            values: dict[str, object] = {
                "role": one.role, "place": one.source, "version": one.version,
                "newest": best.version, "other": best.source,
            }  # fmt: skip
            yield report_finding(MONITOR_COPY_OUTDATED, **values)


class _HistoryLine(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)  # a newer program may record more

    at: str
    before: Sha256
    digest: Sha256
    place: Annotated[str, StringConstraints(max_length=2000)]
    role: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    version: Annotated[int, Field(ge=1, lt=2**63)]


@dataclass(frozen=True)
class MetadataHistory:
    """A history file; it need not exist yet.

    Attributes:
        path: Path of the file.
    """

    path: Path

    def read_observed(self) -> tuple[ObservedMetadata, ...]:
        """Return all observations, oldest first.

        Raises:
            HISTORY_BROKEN: If the file is not a history, or its chain of digests is broken.
        """
        return tuple(self._iter_observed())

    def _iter_observed(self) -> Iterator[ObservedMetadata]:
        before = FIRST_DIGEST
        for number, line in enumerate(self._read_content().splitlines(), 1):
            try:
                data = _HistoryLine.model_validate(parse_json(line))
            except ValueError as error:
                raise self._make_broken_error(number, error) from error
            if data.before != before:
                raise self._make_broken_error(number, "it does not follow from the previous line")
            before = compute_sha256(line)
            place = f"{self.path.name}: {data.place}"
            yield ObservedMetadata(data.role, data.version, data.digest, place)

    def _read_content(self) -> bytes:
        try:
            content = read_file(self.path, MAX_HISTORY_BYTES)
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise self._make_broken_error(0, error) from error
        if content and not content.endswith(b"\n"):
            raise self._make_broken_error(content.count(b"\n") + 1, "incomplete last line")
        return content

    def _make_broken_error(self, line: int, reason: object) -> UpdaterError:
        return UpdaterError(HISTORY_BROKEN, path=self.path, line=line, detail=str(reason)[:500])

    def append_new(self, shown: Iterable[ObservedMetadata], now: datetime) -> int:
        """Append new observations; return their number.

        An observation is added even if it contradicts an earlier one, which is the history's
        purpose.

        Raises:
            HISTORY_BROKEN: If the present history is invalid, or the file cannot be written.
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
