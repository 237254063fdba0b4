"""Drafts of a signing event: pure functions of the feed's state.

Each function returns new unsigned versions of roles, and a title. A published release never
changes; only its offer does, which the product's signers sign: waves, halt, channel and countries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from packaging.version import Version
from securesystemslib.signer import Key
from tuf.api.metadata import (  # type: ignore[attr-defined]
    Metadata,
    TargetFile,
    Targets,
)

from ncen_updater.common import atomic_files as durable
from ncen_updater.common.bounded_io import read_file
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import (
    ALREADY_PUBLISHED,
    BAD_CEREMONY,
    NOTHING_TO_DO,
    UNKNOWN_RELEASE,
)
from ncen_updater.formats.receipt import RECEIPT_ADDRESSES_FIELD
from ncen_updater.formats.release_document import (
    Offer,
    ReleaseDocument,
    TargetRef,
    Withdrawal,
    get_archive_target_name,
    get_release_target_name,
    list_release_targets,
    parse_release_document,
)
from ncen_updater.formats.rollout import (
    EMERGENCY_HALT_KEYS_FIELD,
    PUBLISH_AFTER_FIELD,
    PublishCondition,
    RolloutWave,
)
from ncen_updater.formats.target_names import MAX_DOCUMENT_BYTES, OFFER_FIELD, RELEASES_PREFIX
from ncen_updater.publisher.build.attachments import check_attachments
from ncen_updater.publisher.errors import BuildError, describe_system_error
from ncen_updater.publisher.feed.feed_directory import (
    FeedDirectory,
    FeedRepository,
    FeedState,
    list_delegated_roles,
    list_offers,
    make_unknown_role_error,
    verify_role,
)
from ncen_updater.publisher.feed.role_policy import (
    OFFLINE_TOP_ROLES,
    ONLINE_ROLES,
    POLICY_FIELD,
    RETIRED_FIELD,
    read_retired_versions,
)
from ncen_updater.publisher.signing.ceremony import Ceremony, make_root, set_delegations
from ncen_updater.publisher.signing.event_files import collect_review_files
from ncen_updater.publisher.signing.metadata_rules import list_retirable_releases


class OfferSubject(StrEnum):
    """Subject of an event that changes a published offer, for its title."""

    WAVES = "Staged rollout"
    HALT = "Halt"
    HALT_END = "End of the halt"
    CHANNEL = "Channel"
    COUNTRIES = "Countries"


@dataclass(frozen=True)
class Draft:
    """New metadata versions without signatures.

    Attributes:
        title: Their subject in one line.
        roles: The new versions, by role.
        review_files: Files that signers review besides the metadata, by SHA-256: documents, trees,
            SQL and attachments of added releases.
    """

    title: str
    roles: Mapping[str, Metadata[Any]]
    review_files: Mapping[str, Path | bytes] = field(default_factory=dict)


def draft_initial_roles(ceremony: Ceremony, now: datetime) -> Draft:
    """Draft the first versions of root, targets and each product's role."""
    root = make_root(ceremony, 1, now)
    repository = FeedRepository(None, ceremony.make_policy(), now)
    with repository.edit_targets() as targets:
        set_delegations(targets, ceremony)
    for product in ceremony.products:
        with repository.edit_targets(product):
            pass
    return Draft("New feed", {"root": Metadata(root), **repository.changed})


def draft_key_change(state: FeedState, ceremony: Ceremony, now: datetime) -> Draft:
    """Draft a change of keys, thresholds, periods or products.

    Roles whose present signatures do not reach the new threshold are drafted again without change,
    so that the whole change is one event.

    Raises:
        NOTHING_TO_DO: If the feed already matches the ceremony.
        BAD_CEREMONY: If a product's name was used before by a removed product.
    """
    changed: dict[str, Metadata[Any]] = {}
    root = make_root(ceremony, state.root.signed.version + 1, now)
    old = state.root.signed
    fields = (POLICY_FIELD, EMERGENCY_HALT_KEYS_FIELD, RECEIPT_ADDRESSES_FIELD)
    same = (root.keys, root.roles) == (old.keys, old.roles) and all(
        root.unrecognized_fields.get(name) == old.unrecognized_fields.get(name) for name in fields
    )
    if not same:
        changed["root"] = Metadata(root)
    targets = deepcopy(state.targets.signed)
    set_delegations(targets, ceremony)
    repository = FeedRepository(state, ceremony.make_policy(), now)
    if targets.delegations != state.targets.signed.delegations:
        with repository.edit_targets() as edited:
            set_delegations(edited, ceremony)
    for product in ceremony.products:
        if product not in state.delegated:
            _refuse_return(state, ceremony, product)
            with repository.edit_targets(product):
                pass
    changed |= repository.changed
    if not changed:
        raise UpdaterError(
            NOTHING_TO_DO, reason="keys, thresholds and periods already match the ceremony"
        )
    changed |= _list_under_signed_roles(state, changed, repository)
    return Draft("Change of keys, thresholds or expiry periods", changed)


def _refuse_return(state: FeedState, ceremony: Ceremony, product: str) -> None:
    """Refuse the name of a removed product, whose last metadata version clients remember."""
    if state.snapshot is not None and f"{product}.json" in state.snapshot.signed.meta:
        raise UpdaterError(
            BAD_CEREMONY,
            path=ceremony.source,
            detail=LazyText(
                "product '{product}' existed before; choose another name",
                {"product": product},
            ),
        )


def _list_under_signed_roles(
    state: FeedState, changed: Mapping[str, Metadata[Any]], repository: FeedRepository
) -> Mapping[str, Metadata[Any]]:
    """Draft unchanged roles again whose signatures do not reach the new threshold."""
    whole = state.replace_roles(changed)
    delegated = list_delegated_roles(whole.targets.signed)
    for role in ("targets", *state.delegated):
        stays = role not in changed and (role == "targets" or role in delegated)
        if stays and not verify_role(whole, role):
            with repository.edit(role):
                pass
    return repository.changed


def draft_renewal(state: FeedState, roles: Sequence[str], now: datetime) -> Draft:
    """Draft the renewal of roles: the same content with a new expiry date.

    Raises:
        UNKNOWN_PRODUCT: If a role does not exist.
        NOTHING_TO_DO: If no role is named, or an online role, which no signer signs.
    """
    repository = FeedRepository(state, state.policy, now)
    for role in roles:
        if role in ONLINE_ROLES:
            raise UpdaterError(
                NOTHING_TO_DO,
                reason=LazyText("to renew {role}, run: ncen-publisher refresh", {"role": role}),
            )
        if role not in OFFLINE_TOP_ROLES and role not in state.delegated:
            raise make_unknown_role_error(state, role)
        with repository.edit(role):
            pass
    if not roles:
        raise UpdaterError(NOTHING_TO_DO, reason="no role given")
    return Draft(f"Renewal of {', '.join(roles)}", repository.changed)


def draft_releases(
    state: FeedState,
    staging: Path,
    now: datetime,
    waves: Sequence[RolloutWave] = (),
    builder: Key | None = None,
    feed: FeedDirectory | None = None,
) -> Draft:
    """Draft all releases of a staging directory that are not yet published.

    Args:
        state: The published feed.
        staging: Output directory of ``build``.
        now: Time of the draft (UTC).
        waves: Rollout waves; without any, the releases open to all sites at once.
        builder: The builder's public key, to verify the provenance.
        feed: The feed with the previous release, for the signers to compare.

    Raises:
        BuildError: If a file belongs to no release, differs from its release document, or is a
            symbolic link.
        UNKNOWN_PRODUCT: If a product has no role.
        ALREADY_PUBLISHED: If a target name exists with other content.
        UpdaterError: If SBOM or provenance of a release are invalid.
        NOTHING_TO_DO: If everything is already published.
    """
    root = staging / "targets"
    staged = _list_staged_files(root)
    files = _skip_retired_releases(state, root, staged, feed)
    documents = {
        name: parse_release_document(_read_document(root / name), str(root / name))
        for name in files
        if name.startswith(RELEASES_PREFIX)
    }
    if not documents and files == staged:
        raise UpdaterError(
            NOTHING_TO_DO,
            reason=LazyText("no release description in {staging}", {"staging": staging}),
        )
    for name, document in documents.items():
        if not any(name in held.signed.targets for held in state.delegated.values()):
            check_attachments(document, {name: root / name for name in files}, builder)
    repository = FeedRepository(state, state.policy, now)
    titles: list[str] = []
    claimed: set[str] = set()
    review_files: dict[str, Path | bytes] = {}
    for product in sorted({d.manifest.product for d in documents.values()}):
        role = list_delegated_roles(state.targets.signed).get(product)
        if role is None:
            raise make_unknown_role_error(state, product)
        names = [n for n in files if role.is_delegated_path(n)]
        own = {n: d for n, d in documents.items() if d.manifest.product == product}
        targets = [_make_target_file(root, staging, name, own, waves) for name in names]
        claimed.update(names)
        fresh = _add_targets(repository, state, product, targets, listed=not waves)
        added = {n: d for n, d in own.items() if n in fresh}
        titles += [f"{product} {d.manifest.version}" for d in added.values()]
        review_files |= _collect_review_files(root, added, targets)
        published = state.delegated.get(product)
        for document in added.values():
            review_files |= collect_review_files(
                root, document, feed, published.signed if published else None
            )
    foreign = [name for name in files if name not in claimed]
    if foreign:
        raise BuildError(
            path=staging,
            reason=LazyText("no role can sign {foreign}", {"foreign": ", ".join(foreign[:5])}),
        )
    if not repository.changed:
        raise UpdaterError(
            NOTHING_TO_DO, reason="everything in the staging directory is already published"
        )
    return Draft(f"Release of {', '.join(titles)}", repository.changed, review_files)


def _list_staged_files(root: Path) -> list[str]:
    """Return the names of all files, without temporary files of an interrupted build."""
    found = []
    for path in root.rglob("*"):
        if path.is_symlink():
            raise BuildError(path=root, reason=f"{path.relative_to(root)} is a link")
        if path.is_file() and not durable.is_partial_file(path):
            found.append(path.relative_to(root).as_posix())
    return sorted(found)


def _skip_retired_releases(
    state: FeedState, root: Path, files: list[str], feed: FeedDirectory | None
) -> list[str]:
    """Return the staged files without those of retired releases.

    Raises:
        ALREADY_PUBLISHED: If one differs from the release that was published.
    """
    skipped: set[str] = set()
    for product, metadata in state.delegated.items():
        for version in read_retired_versions(metadata.signed):
            document = get_release_target_name(product, version)
            if document in files:
                target = TargetFile.from_file(document, str(root / document), ["sha256"])
                if feed is None or not feed.get_target_path(target).is_file():
                    raise UpdaterError(ALREADY_PUBLISHED, product=product, version=version)
                skipped.update(list_release_targets(product, version, files))
    return [name for name in files if name not in skipped]


def _read_document(path: Path) -> bytes:
    try:
        return read_file(path, MAX_DOCUMENT_BYTES)
    except (OSError, ValueError) as error:
        raise BuildError(path=path, reason=describe_system_error(error)) from error


def _collect_review_files(
    root: Path, documents: Mapping[str, ReleaseDocument], targets: Sequence[TargetFile]
) -> dict[str, Path | bytes]:
    """Collect the files that signers review: release documents, SBOMs and provenance."""
    found: dict[str, Path | bytes] = {
        t.hashes["sha256"]: root / t.path for t in targets if t.path in documents
    }
    for document in documents.values():
        for ref in (document.sbom, document.provenance):
            if ref is not None:
                found[ref.sha256] = root / ref.target
    return found


def draft_withdrawal(
    state: FeedState, product: str, version: str, withdrawal: Withdrawal, now: datetime
) -> Draft:
    """Draft the withdrawal of a release.

    Its files are kept, so that sites that run it can still read its document.

    Raises:
        UNKNOWN_PRODUCT: If the product has no role.
        UNKNOWN_RELEASE: If the feed does not contain the version.
    """
    if product not in state.delegated:
        raise make_unknown_role_error(state, product)
    name = get_release_target_name(product, version)
    if name not in state.delegated[product].signed.targets:
        raise UpdaterError(UNKNOWN_RELEASE, product=product, version=version)
    repository = FeedRepository(state, state.policy, now)
    with repository.edit_targets(product) as targets:
        target = targets.targets[name]
        offer = Offer.model_validate((target.custom or {})[OFFER_FIELD])
        target.unrecognized_fields["custom"] = {
            OFFER_FIELD: encode_offer(offer.model_copy(update={"withdrawn": withdrawal}))
        }
    archive = get_archive_target_name(product, version)
    if archive in state.targets.signed.targets:
        # A tufup client reads the top level only and knows no withdrawals, so the archive is
        # removed there.
        with repository.edit_targets() as top:
            del top.targets[archive]
    return Draft(f"Withdrawal of {product} {version}", repository.changed)


def draft_retirement(state: FeedState, product: str, version: str, now: datetime) -> Draft:
    """Draft that releases older than a version leave the metadata, as far as no site needs them.

    Raises:
        UNKNOWN_PRODUCT, UNKNOWN_RELEASE: As :func:`find_offer`.
        NOTHING_TO_DO: If none may leave.
    """
    limit = find_offer(state, product, version).release_version
    published = state.delegated[product].signed
    retired = read_retired_versions(published)
    issued = now.replace(microsecond=0)  # as signers' programs read it
    leaving = list_retirable_releases(list_offers(published), retired, limit, issued)
    if not leaving:
        words = N_("no release older than {version} can retire")
        raise UpdaterError(NOTHING_TO_DO, reason=LazyText(words, {"version": version}))
    repository = FeedRepository(state, state.policy, now)
    with repository.edit_targets(product) as targets:
        for offer in leaving:
            for name in list_release_targets(product, offer.version, list(targets.targets)):
                del targets.targets[name]
        all_retired = sorted({*retired, *(offer.version for offer in leaving)}, key=Version)
        targets.unrecognized_fields[RETIRED_FIELD] = all_retired
    archives = {get_archive_target_name(product, offer.version) for offer in leaving}
    if archives & state.targets.signed.targets.keys():
        with repository.edit_targets() as top:
            for name in archives & top.targets.keys():
                del top.targets[name]
    return Draft(f"Retirement of releases older than {product} {version}", repository.changed)


def encode_offer(offer: Offer) -> dict[str, Any]:
    """Encode an offer for signing, without empty values, since every site downloads it."""
    dumped = offer.model_dump(mode="json", exclude_none=True)
    return {key: value for key, value in dumped.items() if value not in ([], {})}


def _make_target_file(
    root: Path,
    staging: Path,
    name: str,
    documents: Mapping[str, ReleaseDocument],
    waves: Sequence[RolloutWave],
) -> TargetFile:
    target: TargetFile = TargetFile.from_file(name, str(root / name), ["sha256"])
    document = documents.get(name)
    if document is not None:
        manifest = document.manifest
        if name != get_release_target_name(manifest.product, manifest.version):
            raise BuildError(
                path=staging, reason=LazyText("{name} holds another release", {"name": name})
            )
        offer = document.to_offer().model_copy(update={"waves": tuple(waves)})
        target.unrecognized_fields["custom"] = {OFFER_FIELD: encode_offer(offer)}
        return target
    for owner in documents.values():
        for ref in list_target_refs(owner):
            if ref.target == name:
                _require_staged_file(staging, target, ref)
                if ref is owner.archive:
                    # Exactly these two keys: with any other key a tufup client looks for 'required'
                    # at the top level and would skip a required release.
                    required = {"required": owner.manifest.required}
                    target.unrecognized_fields["custom"] = {"user": {}, "tufup": required}
                return target
    raise BuildError(path=staging, reason=LazyText("{name} belongs to no release", {"name": name}))


def list_target_refs(document: ReleaseDocument) -> list[TargetRef]:
    """Return all files that a release document names."""
    attachments = (document.sbom, document.provenance)
    refs = [document.archive, document.tree, *document.deltas]
    return [*refs, *(ref for ref in attachments if ref is not None)]


def _require_staged_file(staging: Path, target: TargetFile, ref: TargetRef) -> None:
    if (target.length, target.hashes["sha256"]) != (ref.length, ref.sha256):
        raise BuildError(
            path=staging,
            reason=LazyText("{name}: digest mismatch", {"name": ref.target}),
        )


def _add_targets(
    repository: FeedRepository,
    state: FeedState,
    product: str,
    files: Sequence[TargetFile],
    *,
    listed: bool,
) -> set[str]:
    """Add targets that are not yet published; return their names."""
    known = state.delegated[product].signed.targets if product in state.delegated else {}
    fresh: list[TargetFile] = []
    for target in files:
        before = known.get(target.path)
        if before is None:
            fresh.append(target)
        elif (before.length, before.hashes) != (target.length, target.hashes):
            raise UpdaterError(ALREADY_PUBLISHED, product=product, version=target.path)
    if not fresh:
        return set()
    with repository.edit_targets(product) as targets:
        targets.targets.update({target.path: target for target in fresh})
    archives = [t for t in fresh if "/" not in t.path]
    if product in state.policy.plain_tufup and archives and listed:
        with repository.edit_targets() as top:
            top.targets.update({target.path: deepcopy(target) for target in archives})
    return {target.path for target in fresh}


def find_offer(state: FeedState, product: str, version: str) -> Offer:
    """Return the published offer of a release.

    Raises:
        UNKNOWN_PRODUCT: If the product has no role.
        UNKNOWN_RELEASE: If the feed does not contain the version.
    """
    if product not in state.delegated:
        raise make_unknown_role_error(state, product)
    target = state.delegated[product].signed.targets.get(get_release_target_name(product, version))
    if target is None or not target.custom:
        raise UpdaterError(UNKNOWN_RELEASE, product=product, version=version)
    return Offer.model_validate(target.custom[OFFER_FIELD])


def draft_waves(
    state: FeedState,
    product: str,
    version: str,
    waves: Sequence[RolloutWave],
    now: datetime,
    *,
    add: bool = False,
    condition: PublishCondition | None = None,
) -> Draft:
    """Draft new rollout waves, which also end a halt.

    Args:
        state: The published feed.
        product: Product of the release.
        version: Version of the release.
        waves: The waves; without any, the release opens to all sites at once.
        now: Time of the draft (UTC).
        add: Whether to keep the present waves and add these.
        condition: Condition for publishing; None for at any time.

    Raises:
        UNKNOWN_PRODUCT, UNKNOWN_RELEASE, NOTHING_TO_DO: As :func:`draft_offer_change`.
    """
    present = find_offer(state, product, version).waves if add else ()
    schedule = tuple(sorted({*present, *waves}, key=lambda w: (w.opens, w.percent, w.countries)))
    changes = {"waves": schedule, "halted": None}
    return draft_offer_change(state, product, version, OfferSubject.WAVES, changes, now, condition)


def draft_offer_change(
    state: FeedState,
    product: str,
    version: str,
    subject: OfferSubject,
    changes: Mapping[str, object],
    now: datetime,
    condition: PublishCondition | None = None,
) -> Draft:
    """Draft a change of a published offer: of its waves, halt, channel or countries.

    Args:
        state: The published feed.
        product: Product of the release.
        version: Version of the release.
        subject: Subject of the event.
        changes: The new values, by field of the offer.
        now: Time of the draft (UTC).
        condition: Condition for publishing; None for at any time.

    Raises:
        UNKNOWN_PRODUCT, UNKNOWN_RELEASE: As :func:`find_offer`.
        NOTHING_TO_DO: If nothing changes, or the release is withdrawn.
    """
    before = find_offer(state, product, version)
    if before.withdrawn is not None:
        raise UpdaterError(
            NOTHING_TO_DO,
            reason=LazyText(
                "{product} {version} is withdrawn", {"product": product, "version": version}
            ),
        )
    fields = {name: getattr(before, name) for name in Offer.model_fields}
    after = Offer.model_validate({**fields, **changes})
    if after == before:
        raise UpdaterError(
            NOTHING_TO_DO,
            reason=LazyText(
                "{product} {version} has this value already",
                {"product": product, "version": version},
            ),
        )
    repository = FeedRepository(state, state.policy, now)
    with repository.edit_targets(product) as targets:
        name = get_release_target_name(product, version)
        targets.targets[name].unrecognized_fields["custom"] = {OFFER_FIELD: encode_offer(after)}
        if condition is not None:
            targets.unrecognized_fields[PUBLISH_AFTER_FIELD] = condition.model_dump(mode="json")
    if product in state.policy.plain_tufup:
        _update_tufup_visibility(repository, state, targets, after)
    return Draft(f"{subject} of {product} {version}", repository.changed)


def _update_tufup_visibility(
    repository: FeedRepository, state: FeedState, own: Targets, offer: Offer
) -> None:
    """List a release for plain tufup clients if and only if it is open to everyone."""
    archive = get_archive_target_name(offer.product, offer.version)
    listed = archive in state.targets.signed.targets
    # A plain client knows no waves, halts or withdrawals.
    if listed is not bool(offer.waves or offer.halted or offer.withdrawn):
        return
    with repository.edit_targets() as top:
        if listed:
            del top.targets[archive]
        else:
            top.targets[archive] = deepcopy(own.targets[archive])
