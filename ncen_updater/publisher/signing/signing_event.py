"""A signing event: drafts, the published metadata they are based on, and detached signatures.

It is a directory that is carried on a USB stick::

    event.json                   version and digest of each draft
    draft/<role>.json            the drafts, without signatures
    base/<role>.json             the published versions they were drafted from
    roots/<n>.root.json          all published roots, from the first
    review/<sha256>              document, tree, SQL, SBOM and provenance of each release that is
                                 added; document and tree of the previous release
    sig/<role>.<keyid>.json      one file for each signature

A signer returns only the signature file. The digest of the event is the SHA-256 over its title and
the roles, versions and digests of all drafts and of their base: the one number that signers read to
each other.

No file in the directory is trusted. The base must be signed according to the roots beside it, and a
signer compares these roots with their own copy (:meth:`SigningEvent.verify_root`). Otherwise a
drafter could show the difference to a feed that never existed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import Key, Signature, Signer
from tuf.api.metadata import Metadata, Role, Root, Targets  # type: ignore[attr-defined]

from ncen_updater.common import atomic_files as durable
from ncen_updater.common.cli.render import MIN_DIGEST_DIGITS, parse_digest
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.json_records import compute_sha256, encode_canonical_json
from ncen_updater.common.messages import (
    BAD_EVENT,
    DIGEST_INVALID,
    DIGEST_MISMATCH,
    EVENT_BASE_UNTRUSTED,
    FEED_EXISTS,
    OWN_ROOT_REQUIRED,
    PUBLISHER_BAD_SIGNATURE,
    SIGNATURES_UNUSABLE,
)
from ncen_updater.publisher.errors import describe_system_error, report_errors
from ncen_updater.publisher.feed.feed_directory import FeedState, list_delegated_roles
from ncen_updater.publisher.signing.event_files import (
    DetachedSignature,
    RoleName,
    Sha256,
    check_directories,
    pack_event,
    read_metadata,
    read_regular_file,
    read_root_chain,
    read_signatures,
    write_review_files,
    write_signatures,
)
from ncen_updater.publisher.signing.keys import make_key_error
from ncen_updater.publisher.signing.metadata_rules import (
    refuse_backdated,
    refuse_invalid_dates,
    refuse_invalid_drafts,
    refuse_lost_releases,
)

_COMPARABLE_DIGEST = re.compile(f"[0-9a-f]{{{MIN_DIGEST_DIGITS},}}")


class MetadataRef(BaseModel):
    """Version and digest of one draft."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Annotated[int, Field(ge=1)]
    digest: Sha256


class _EventFile(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    schema_: Annotated[Literal[1], Field(alias="schema")] = 1
    title: Annotated[str, StringConstraints(max_length=500)]
    drafts: Annotated[dict[RoleName, MetadataRef], Field(min_length=1, max_length=50)]
    base: Annotated[dict[RoleName, MetadataRef], Field(max_length=50)]


def compute_signed_digest(metadata: Metadata[Any]) -> str:
    """Return the SHA-256 of exactly the bytes that are signed."""
    return compute_sha256(metadata.signed_bytes)


@dataclass(frozen=True)
class SigningEvent:
    """A signing event whose files are consistent.

    Attributes:
        directory: Directory of the event.
        title: Its subject in one line.
        drafts: New versions without signatures, by role.
        base: The published versions they are based on; empty for the first event of a feed.
        roots: All published roots; empty for the first event of a feed.
    """

    directory: Path
    title: str
    drafts: Mapping[str, Metadata[Any]]
    base: Mapping[str, Metadata[Any]]
    roots: Sequence[Metadata[Root]] = ()

    @classmethod
    def create(
        cls,
        directory: Path,
        title: str,
        drafts: Mapping[str, Metadata[Any]],
        base: FeedState | None,
        review_files: Mapping[str, Path | bytes] | None = None,
    ) -> SigningEvent:
        """Write a new event; ``event.json`` is written last, so that an incomplete one is invalid.

        Args:
            directory: A new directory.
            title: Its subject in one line.
            drafts: New versions without signatures, by role.
            base: The published feed they are based on; None for the first event of a feed.
            review_files: Files for review, by SHA-256.

        Raises:
            FEED_EXISTS: If the directory is not empty.
            PUBLISHER_TARGET_MISSING: If a review file has changed meanwhile.
        """
        if directory.exists() and any(directory.iterdir()):
            raise UpdaterError(FEED_EXISTS, path=directory)
        known: dict[str, Metadata[Any]] = {}
        if base is not None:
            known = {"root": base.root, "targets": base.targets}
            known |= {role: m for role in drafts if (m := base.get_role(role)) is not None}
        for folder, contents in (("draft", drafts), ("base", known)):
            durable.make_directory(directory / folder)
            for role, metadata in contents.items():
                durable.write_file(directory / folder / f"{role}.json", metadata.to_bytes())
        durable.make_directory(directory / "roots")
        for root in base.previous_roots if base is not None else ():
            name = f"{root.signed.version}.root.json"
            durable.write_file(directory / "roots" / name, root.to_bytes())
        write_review_files(directory, review_files or {})
        durable.make_directory(directory / "sig")
        record = _EventFile(title=title, drafts=_make_refs(drafts), base=_make_refs(known))
        durable.write_file(
            directory / "event.json",
            encode_canonical_json(record.model_dump(mode="json", by_alias=True)),
        )
        pack_event(directory)
        return cls.load(directory)

    @classmethod
    def load(cls, directory: Path) -> SigningEvent:
        """Load an event and check that every file matches ``event.json``.

        Raises:
            BAD_EVENT: If it cannot be read, is inconsistent, or was changed after it was drafted.
            EVENT_BASE_UNTRUSTED: If its base lacks signatures.
            UNSOUND_DRAFT, BAD_DATES, DUPLICATE_KEY, KEY_NOT_ALLOWED: If a draft breaks a rule.
        """
        check_directories(directory)
        with report_errors(BAD_EVENT, OSError, ValueError, RecursionError, path=directory):
            record = _EventFile.model_validate(
                json.loads(read_regular_file(directory / "event.json"))
            )
        drafts = {r: _load_metadata(directory, "draft", r, ref) for r, ref in record.drafts.items()}
        base = {r: _load_metadata(directory, "base", r, ref) for r, ref in record.base.items()}
        for role, metadata in drafts.items():
            expected = base[role].signed.version + 1 if role in base else 1
            if metadata.signed.version != expected:
                raise UpdaterError(
                    BAD_EVENT,
                    path=directory,
                    detail=LazyText(
                        "{role} must have version {expected}", {"role": role, "expected": expected}
                    ),
                )
        event = cls(directory, record.title, drafts, base, read_root_chain(directory))
        root, targets = event._get_root(), event._get_targets()
        if root is None or targets is None or bool(base) != ({"root", "targets"} <= base.keys()):
            raise UpdaterError(BAD_EVENT, path=directory, detail="root or targets missing")
        event._verify_base()
        refuse_invalid_drafts(root, targets, drafts)
        refuse_invalid_dates(root, drafts)
        refuse_backdated(base, drafts)
        refuse_lost_releases(base, drafts)
        return event

    def _verify_base(self) -> None:
        newest = compute_signed_digest(self.roots[-1]) if self.roots else None
        if newest != (compute_signed_digest(self.base["root"]) if self.base else None):
            raise UpdaterError(EVENT_BASE_UNTRUSTED, reason="its base is not its newest root")
        for role, metadata in self.base.items():
            delegator = self.base["root" if role in ("root", "targets") else "targets"].signed
            try:
                counted = delegator.get_verification_result(
                    role, metadata.signed_bytes, metadata.signatures
                )
            except ValueError as error:
                raise UpdaterError(
                    EVENT_BASE_UNTRUSTED, reason=describe_system_error(error)
                ) from error
            if not counted:
                raise UpdaterError(
                    EVENT_BASE_UNTRUSTED,
                    reason=LazyText(
                        "signature threshold not reached for the current {role}", {"role": role}
                    ),
                )

    def verify_root(self, trusted: Metadata[Root] | None) -> None:
        """Compare the event's roots with a root that the signer got through another channel.

        Args:
            trusted: Any root of the feed, the first or a later one; None if the signer has none.

        Raises:
            OWN_ROOT_REQUIRED: If there is none to compare.
            EVENT_BASE_UNTRUSTED: If the event does not contain this root.
        """
        if trusted is None:
            if self.roots:
                raise UpdaterError(OWN_ROOT_REQUIRED)
            return
        number = trusted.signed.version
        if number > len(self.roots):
            raise UpdaterError(
                EVENT_BASE_UNTRUSTED,
                reason=LazyText("root {number} is not reached", {"number": number}),
            )
        if compute_signed_digest(self.roots[number - 1]) != compute_signed_digest(trusted):
            raise UpdaterError(
                EVENT_BASE_UNTRUSTED,
                reason=LazyText("its root {number} differs", {"number": number}),
            )

    @property
    def digest(self) -> str:
        """Return the digest that signers compare."""
        record = _EventFile(
            title=self.title, drafts=_make_refs(self.drafts), base=_make_refs(self.base)
        )
        return compute_sha256(encode_canonical_json(record.model_dump(mode="json", by_alias=True)))

    def get_newest(self, role: str) -> Metadata[Any] | None:
        """Return the draft of a role, else the version it is based on."""
        return self.drafts.get(role) or self.base.get(role)

    def list_signers(self, role: str) -> dict[str, Key]:
        """Return the keys that may sign a draft, by its old and its new delegator."""
        keys: dict[str, Key] = {}
        top = role in ("root", "targets")
        for delegator in (self.base, self.drafts):
            holder = delegator.get("root" if top else "targets")
            if holder is not None:
                keys |= _list_role_keys(holder.signed, role)
        return keys

    def sign_drafts(self, signer: Signer, digest: str, answer: Path | None = None) -> list[Path]:
        """Sign every draft that the key may sign.

        Args:
            signer: The signer's key.
            digest: Digest of the event as the signer received it: eight words, or its first 32 or
                more digits; spaces are ignored.
            answer: File for all signatures; without it, each is stored in the event.

        Returns:
            The signature files, to be sent back.

        Raises:
            DIGEST_INVALID: If it is neither eight words nor at least 32 digits.
            DIGEST_MISMATCH: If the digest is that of another event.
            KEY_NOT_ALLOWED: If the key may sign none of the drafts.
        """
        self.refuse_other_digest(digest)
        keyid, roles = signer.public_key.keyid, self.list_signable_roles(signer.public_key)
        made = []
        for role in roles:
            metadata = self.drafts[role]
            signature = signer.sign(metadata.signed_bytes)
            key = self.list_signers(role)[keyid]
            self._verify(key, signature, role, self.directory)
            made.append(
                DetachedSignature(
                    role=role,
                    version=metadata.signed.version,
                    digest=compute_signed_digest(metadata),
                    keyid=keyid,
                    sig=signature.signature,
                )
            )
        if answer is not None:
            write_signatures(answer, made)
            return [answer]
        return [self._store_signature(one) for one in made]

    def _store_signature(self, one: DetachedSignature) -> Path:
        path = self.directory / "sig" / f"{one.role}.{one.keyid}.json"
        durable.make_directory(path.parent)
        durable.write_file(path, encode_canonical_json(one.model_dump()))
        return path

    def is_renewal_of(self, state: FeedState, roles: Sequence[str]) -> bool:
        """Return whether the event has the next version of each of these roles."""
        return all(
            role in self.drafts
            and (published := state.get_role(role)) is not None
            and self.drafts[role].signed.version == published.signed.version + 1
            for role in roles
        )

    def list_signable_roles(self, key: Key) -> list[str]:
        """Return the roles whose drafts a key may sign.

        Raises:
            KEY_NOT_ALLOWED: If it may sign none of them.
        """
        roles = [role for role in self.drafts if key.keyid in self.list_signers(role)]
        if not roles:
            allowed = {k: v for role in self.drafts for k, v in self.list_signers(role).items()}
            raise make_key_error(key, ", ".join(self.drafts), allowed.values())
        return roles

    def refuse_other_digest(self, digest: str) -> None:
        """Compare the digest that the signer typed; called before the key is opened.

        The correct digest is never printed, so that a signer with another one asks instead of
        copying.

        Raises:
            DIGEST_INVALID: If it is neither eight words nor at least 32 digits.
            DIGEST_MISMATCH: If it differs.
        """
        typed = parse_digest(digest)
        if not _COMPARABLE_DIGEST.fullmatch(typed):
            raise UpdaterError(DIGEST_INVALID)
        if not self.digest.startswith(typed):
            raise UpdaterError(
                DIGEST_MISMATCH, event=self.title, typed=digest.strip(),
                state=LazyText(N_("Nothing was signed.")),
            )  # fmt: skip

    def refuse_future_drafts(self, now: datetime) -> None:
        """Refuse drafts issued later than this machine's time.

        Raises:
            BAD_DATES: Naming the role.
        """
        root = self._get_root()
        assert root is not None, "load refuses an event without one"  # noqa: S101
        refuse_invalid_dates(root, self.drafts, now)

    def merge_signatures(self, path: Path) -> list[DetachedSignature]:
        """Merge a signature file, completely or not at all, after verifying it.

        Raises:
            SIGNATURES_UNUSABLE: If it cannot be read, or was made for another draft.
            KEY_NOT_ALLOWED: If its key may not sign for this role.
            PUBLISHER_BAD_SIGNATURE: If a signature is invalid.
        """
        found = [answer for answer, _ in self._check_signature_file(path)]
        for answer in found:
            self._store_signature(answer)
        return found

    def apply_signatures(self) -> dict[str, Metadata[Any]]:
        """Return the drafts with all signatures of ``sig``, each verified again.

        Raises:
            SIGNATURES_UNUSABLE, KEY_NOT_ALLOWED, PUBLISHER_BAD_SIGNATURE: As for
                :meth:`merge_signatures`.
        """
        result = {
            role: Metadata.from_bytes(metadata.to_bytes()) for role, metadata in self.drafts.items()
        }
        for path in sorted((self.directory / "sig").glob("*.json")):
            for answer, signature in self._check_signature_file(path):
                result[answer.role].signatures[answer.keyid] = signature
        return result

    def _check_signature_file(self, path: Path) -> list[tuple[DetachedSignature, Signature]]:
        return [(answer, self._verify_detached(answer, path)) for answer in read_signatures(path)]

    def _verify_detached(self, answer: DetachedSignature, path: Path) -> Signature:
        draft = self.drafts.get(answer.role)
        ref = draft and (compute_signed_digest(draft), draft.signed.version)
        if ref != (answer.digest, answer.version):
            detail = LazyText("it is for another draft of {role}", {"role": answer.role})
            raise UpdaterError(SIGNATURES_UNUSABLE, path=path, detail=detail)
        allowed = self.list_signers(answer.role)
        key = allowed.get(answer.keyid)
        if key is None:
            raise make_key_error(answer.keyid, answer.role, allowed.values())
        signature = Signature(answer.keyid, answer.sig)
        self._verify(key, signature, answer.role, path)
        return signature

    def _verify(self, key: Key, signature: Signature, role: str, path: Path) -> None:
        try:
            key.verify_signature(signature, self.drafts[role].signed_bytes)
        except UnverifiedSignatureError as error:
            raise UpdaterError(PUBLISHER_BAD_SIGNATURE, path=path, role=role) from error

    def _get_root(self) -> Root | None:
        metadata = self.get_newest("root")
        return metadata.signed if metadata and isinstance(metadata.signed, Root) else None

    def _get_targets(self) -> Targets | None:
        metadata = self.get_newest("targets")
        return metadata.signed if metadata and isinstance(metadata.signed, Targets) else None


def _make_refs(roles: Mapping[str, Metadata[Any]]) -> dict[str, MetadataRef]:
    return {
        role: MetadataRef(version=metadata.signed.version, digest=compute_signed_digest(metadata))
        for role, metadata in sorted(roles.items())
    }


def _list_role_keys(delegator: Root | Targets, role: str) -> dict[str, Key]:
    holder: Role | None
    if isinstance(delegator, Root):
        holder, keys = delegator.roles.get(role), delegator.keys
    else:
        holder = list_delegated_roles(delegator).get(role)
        keys = delegator.delegations.keys if delegator.delegations else {}
    return {keyid: keys[keyid] for keyid in (holder.keyids if holder else ()) if keyid in keys}


def _load_metadata(directory: Path, folder: str, role: str, ref: MetadataRef) -> Metadata[Any]:
    path = directory / folder / f"{role}.json"
    metadata = read_metadata(path, role)
    if compute_signed_digest(metadata) != ref.digest:
        detail = LazyText("{role} was changed after it was drafted", {"role": role})
        raise UpdaterError(BAD_EVENT, path=path, detail=detail)
    if folder == "draft" and metadata.signatures:
        raise UpdaterError(BAD_EVENT, path=path, detail="the draft is already signed")
    return metadata
