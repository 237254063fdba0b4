"""Signing ledger of a signer: never sign two different metadata files of one version.

Two drafts of one version with enough signatures each are both valid. The holder of the online keys
could then serve one of them to some countries and the other to the rest, unnoticed. So the signer's
program records what it signed, and requires a reason to sign a second draft.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from ncen_updater.common import atomic_files as durable
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import LEDGER_BROKEN, OTHER_DRAFT_SIGNED
from ncen_updater.formats.rollout import format_utc_time
from ncen_updater.publisher.errors import describe_system_error
from ncen_updater.publisher.signing.event_files import Sha256, read_regular_file
from ncen_updater.publisher.signing.signing_event import SigningEvent, compute_signed_digest
from ncen_updater.publisher.signing.value_format import format_signed_time

LEDGER_SUFFIX: Final = ".signed.jsonl"


class _LedgerEntry(BaseModel):
    """One signed metadata file.

    Attributes:
        feed: Digest of the feed's first root, since a signer may sign for several feeds.
        role: The role.
        version: Version of its metadata.
        digest: Digest of the signed bytes.
        title: Title of the event.
        at: Time of signing (UTC).
    """

    model_config = ConfigDict(extra="ignore", frozen=True)  # a newer program may record more

    feed: Sha256
    role: str
    version: Annotated[int, Field(ge=1)]
    digest: Sha256
    title: str
    at: str


@dataclass(frozen=True)
class SigningLedger:
    """The ledger file, beside the signer's key.

    Attributes:
        path: Path of the file; it need not exist.
    """

    path: Path

    def refuse_second_draft(self, event: SigningEvent, roles: Sequence[str]) -> None:
        """Refuse another draft of metadata that was already signed.

        Args:
            event: The event to sign.
            roles: The roles to sign.

        Raises:
            OTHER_DRAFT_SIGNED: Naming the signed draft.
            LEDGER_BROKEN: If the file cannot be read.
        """
        known = {(one.feed, one.role, one.version): one for one in self._read_entries()}
        for new in self._make_entries(event, roles, ""):
            before = known.get((new.feed, new.role, new.version))
            if before is not None and before.digest != new.digest:
                raise UpdaterError(
                    OTHER_DRAFT_SIGNED,
                    role=new.role,
                    version=new.version,
                    title=before.title,
                    at=format_signed_time(before.at),
                )

    def record_signing(self, event: SigningEvent, roles: Sequence[str], now: datetime) -> None:
        """Record what is about to be signed; existing entries are not changed.

        Raises:
            LEDGER_BROKEN: If the file cannot be read.
        """
        known = self._read_entries()
        recorded = {(one.feed, one.role, one.version, one.digest) for one in known}
        fresh = [
            one
            for one in self._make_entries(event, roles, format_utc_time(now))
            if (one.feed, one.role, one.version, one.digest) not in recorded
        ]
        if fresh:
            lines = [json.dumps(one.model_dump(), sort_keys=True) for one in [*known, *fresh]]
            durable.write_file(self.path, ("\n".join(lines) + "\n").encode(), 0o600)

    def _make_entries(
        self, event: SigningEvent, roles: Sequence[str], at: str
    ) -> Iterator[_LedgerEntry]:
        first = event.roots[0] if event.roots else event.drafts["root"]
        for role in roles:
            draft = event.drafts[role]
            yield _LedgerEntry(
                feed=compute_signed_digest(first),
                role=role,
                version=draft.signed.version,
                digest=compute_signed_digest(draft),
                title=event.title,
                at=at,
            )

    def _read_entries(self) -> list[_LedgerEntry]:
        try:
            lines = read_regular_file(self.path).decode().splitlines()
            return [_LedgerEntry.model_validate(json.loads(line)) for line in lines if line]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, RecursionError) as error:
            raise UpdaterError(
                LEDGER_BROKEN, path=self.path, detail=describe_system_error(error)[:500]
            ) from error
