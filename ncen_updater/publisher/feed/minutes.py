"""Who signed what was published: read from the lists themselves, which a feed keeps for ever.

Nothing is written down for it. A list without its signatures is none, so that the minutes cannot be
lost, nor say another thing than what sites believed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import Key
from tuf.api.metadata import Metadata, Root, Targets  # type: ignore[attr-defined]

from ncen_updater.publisher.feed.feed import Feed
from ncen_updater.publisher.signing.keys import owner_of
from ncen_updater.publisher.signing.roles import issued_at


@dataclass(frozen=True)
class SignedList:
    """One list that officers signed.

    Attributes:
        drafted: When it was drafted (UTC); empty if it does not say.
        signed: Who signed it: owners of keys that some list of this feed names.
    """

    role: str
    version: int
    drafted: str
    signed: tuple[str, ...]


def minutes(feed: Feed) -> tuple[SignedList, ...]:
    """Every version of every list that officers sign, the newest first.

    Raises:
        FeedBroken: If one cannot be read.
    """
    found = list(feed.signed_lists())
    keys: dict[str, Key] = {}
    for _, metadata in found:
        keys |= _keys(metadata.signed)
    lines = [
        SignedList(
            role,
            metadata.signed.version,
            issued_at(metadata.signed),
            tuple(sorted(_signers(metadata, keys))),
        )
        for role, metadata in found
    ]
    return tuple(sorted(lines, key=lambda line: (line.drafted, line.version, line.role))[::-1])


def _keys(signed: Root | Targets) -> Mapping[str, Key]:
    if isinstance(signed, Root):
        return signed.keys
    return signed.delegations.keys if signed.delegations is not None else {}


def _signers(metadata: Metadata[Any], keys: Mapping[str, Key]) -> Iterator[str]:
    for keyid, signature in metadata.signatures.items():
        if keyid in keys:
            try:
                keys[keyid].verify_signature(signature, metadata.signed_bytes)
            except UnverifiedSignatureError:
                continue  # it counted for nobody
            yield owner_of(keys[keyid])
