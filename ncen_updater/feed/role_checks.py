"""Signed lists looked at by themselves: the root to start from, what a list says of itself.

Whoever uses a release looks at them too, so nothing here may import what speaks HTTP.
"""

from __future__ import annotations

import logging
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import (  # type: ignore[attr-defined]  # exported in fact only
    Metadata,
    Root,
    Signed,
    TargetFile,
    Targets,
)
from tuf.api.serialization import DeserializationError

from ncen_updater.common import atomic_files as durable
from ncen_updater.common.i18n import LazyText
from ncen_updater.common.json_records import within_calendar
from ncen_updater.common.messages import OFFER_INVALID
from ncen_updater.feed.errors import TrustedRootMissingError, TrustError
from ncen_updater.formats.target_names import ISSUE_TIME_FIELD, ROLE_FIELD

logger = logging.getLogger(__name__)

MAX_ROLE_BYTES = {"root": 512_000, "timestamp": 16_384, "snapshot": 2_000_000, "targets": 5_000_000}
#: No list lapses later here: a grace and a zone are added without leaving the calendar.
_LAST = datetime(9000, 1, 1, tzinfo=UTC)
DIGEST_DIGITS = {"sha256": 64, "sha512": 128}


class TufWrongRoleError(RepositoryError):
    """A list whose signers meant it for another role."""

    def __init__(self, role: str, other: str) -> None:
        super().__init__(f"{role}: signed for {other}")
        self.role, self.other = role, other


def get_max_role_bytes(role: str) -> int:
    """Return the maximum size of a role's metadata.

    It does not depend on the length in the metadata that names it, which one key alone may sign.
    """
    return MAX_ROLE_BYTES.get(role, MAX_ROLE_BYTES["targets"])


def _load_root(path: Path) -> tuple[int, bytes] | None:
    """Version and bytes of a root that verifies by its own keys; None if there is no such file."""
    try:
        content = path.read_bytes()
        metadata = Metadata[Root].from_bytes(content)
        if not isinstance(metadata.signed, Root):
            return None
        metadata.signed.verify_delegate("root", metadata.signed_bytes, metadata.signatures)
    except (OSError, RepositoryError) as error:
        logger.info("no usable root in %s: %s", path, error)
        return None
    return int(metadata.signed.version), content


def restore_root(directory: Path, trusted_root: Path) -> None:
    """Make sure that the metadata directory holds a root to start from.

    The stored root stays if it is whole and not older than the installed one. Of the same version
    and another content it is that of another feed, as where a wrong root was installed and put
    right: no later list of this feed would ever follow from it.

    Raises:
        TrustedRootMissingError: If the installed one cannot be used: nothing could be proved by it.
    """
    durable.make_directory(directory)
    stored = directory / "root.json"
    have, installed = _load_root(stored), _load_root(trusted_root)
    if installed is None:
        raise TrustedRootMissingError(path=trusted_root)
    version, content = installed
    if have is None or version > have[0] or (version == have[0] and content != have[1]):
        # The first use of a new site is not worth a warning; a root that vanished later is.
        level = logging.WARNING if any(directory.iterdir()) else logging.INFO
        was = have[0] if have else None
        logger.log(level, "root from %s: version %s, was %s", trusted_root, version, was)
        durable.write_file(stored, content)


def parse_unverified(data: bytes) -> Signed | None:
    """Read a list whose signatures nobody has looked at; None if it is none."""
    try:
        return cast("Signed", Metadata.from_bytes(data).signed)
    except DeserializationError as error:
        logger.info("not metadata: %s", error)
        return None


def require_role(signed: Targets, role: str) -> None:
    """Refuse a list that its signers meant for another role, though its signatures fit.

    Raises:
        TufWrongRoleError: If it says so.
    """
    says = signed.unrecognized_fields.get(ROLE_FIELD, role)  # another publisher's says nothing
    if says != role:
        raise TufWrongRoleError(role, str(says))


def read_issue_time(signed: Root | Targets) -> datetime | None:
    """When signers signed a list; None if it does not say so in a way that can be believed."""
    text = signed.unrecognized_fields.get(ISSUE_TIME_FIELD)
    if text is None:
        return None
    try:
        issued = within_calendar(datetime.fromisoformat(text))
    except (TypeError, ValueError) as error:
        logger.warning("field %s cannot be read: %s", ISSUE_TIME_FIELD, error)
        return None
    return issued if issued < signed.expires else None  # else a slip of the pen


def lapses_at(signed: Signed, grace: timedelta = timedelta(0)) -> datetime:
    """Return when a list lapses; one of the calendar's last years lapses before them."""
    return min(signed.expires, _LAST) + grace


def get_target_digest(target: TargetFile) -> tuple[str, str]:
    """Return the algorithm and the digest against which a file is checked.

    Releases are signed with SHA-256 throughout; other publishers may use SHA-512 alone.

    Raises:
        OFFER_INVALID: If it was signed with neither, or with what cannot be one: it becomes a name.
    """
    for algorithm, digits in DIGEST_DIGITS.items():
        if algorithm in target.hashes:
            digest = str(target.hashes[algorithm])
            if not re.fullmatch(rf"[0-9a-f]{{{digits}}}", digest):
                raise TrustError(
                    OFFER_INVALID,
                    name=target.path,
                    detail=LazyText(
                        "{digest} is not a valid {algorithm} digest",
                        {"digest": repr(digest[:80]), "algorithm": algorithm},
                    ),
                )
            return algorithm, digest
    raise TrustError(OFFER_INVALID, name=target.path, detail="no SHA-256 or SHA-512 digest")


def is_safe_target_path(path: str) -> bool:
    """Whether the name of a file in a list leads nowhere but to a place below the feed."""
    return not ({"", ".", ".."} & set(path.split("/")) or "\\" in path or "\0" in path)
