"""Rules that metadata must fulfil before anyone signs or publishes it. Pure.

Both the signer's program and the publisher apply them, so that neither has to trust the other.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from packaging.version import Version
from pydantic import ValidationError
from securesystemslib.signer import Key
from tuf.api.metadata import Metadata, Root, Signed, TargetFile, Targets, VerificationResult  # type: ignore[attr-defined]

from ncen_updater.common.cli.render import format_date, format_scheduled_time
from ncen_updater.common.errors import UpdaterError, get_error_text
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import (
    BAD_DATES,
    BELOW_THRESHOLD,
    ONLINE_KEY_MISSING,
    PUBLISHER_ROLE_EXPIRED,
    UNSOUND_DRAFT,
)
from ncen_updater.feed.emergency_halt_statements import read_emergency_halt_keys
from ncen_updater.formats.errors import describe_mistakes
from ncen_updater.formats.manifest import Channel, is_version_accepted
from ncen_updater.formats.receipt import RECEIPT_ADDRESSES_FIELD, read_receipt_addresses
from ncen_updater.formats.release_document import Offer
from ncen_updater.formats.rollout import EMERGENCY_HALT_KEYS_FIELD, PUBLISH_AFTER_FIELD
from ncen_updater.formats.target_names import OFFER_FIELD, RELEASES_PREFIX
from ncen_updater.publisher.feed.feed_directory import (
    FeedState,
    list_delegated_roles,
    list_offers,
    verify_role,
)
from ncen_updater.publisher.feed.role_policy import (
    OFFLINE_TOP_ROLES,
    ONLINE_ROLES,
    POLICY_FIELD,
    RETIRED_FIELD,
    read_issue_time,
    read_policy,
    read_publish_condition,
    read_retired_versions,
)
from ncen_updater.publisher.signing.keys import (
    compute_fingerprint,
    compute_keyid,
    describe_keys,
    list_key_owners,
    make_key_error,
    refuse_duplicate_keys,
)
from ncen_updater.publisher.signing.value_format import format_signed_time

#: Issue times raise every site's clock floor, so a time far in the future would lock all sites out.
#: Two days, since a signer's machine without a network may have an inaccurate clock.
CLOCK_TOLERANCE: Final = timedelta(days=2)
ALL_PERCENT: Final = 100
# Printable ASCII, without characters that are special in a shell, a URL or a terminal.
TARGET_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~@/-]{0,299}")


def refuse_invalid_drafts(
    root: Root, targets: Targets, drafts: Mapping[str, Metadata[Any]]
) -> None:
    """Refuse drafts that break a rule, before a signer has to judge them.

    Args:
        root: The newest root, drafted or published.
        targets: The newest top-level targets.
        drafts: The new versions.

    Raises:
        UNSOUND_DRAFT: With the first problem.
        DUPLICATE_KEY: If one public key has two ids.
        KEY_NOT_ALLOWED: If an online key may sign for an offline role.
    """
    for role, problem in _find_problems(root, targets, drafts):
        raise UpdaterError(UNSOUND_DRAFT, role=role, reason=problem)
    delegations = targets.delegations
    products = list(delegations.keys.values()) if delegations else []
    halt_keys = list(read_emergency_halt_keys(root).values())
    if len(halt_keys) != len(root.unrecognized_fields.get(EMERGENCY_HALT_KEYS_FIELD) or {}):
        raise UpdaterError(UNSOUND_DRAFT, role="root", reason="unusable emergency halt key")
    refuse_duplicate_keys([*root.keys.values(), *products, *halt_keys])
    online = {
        compute_fingerprint(root.keys[keyid]): root.keys[keyid]
        for name in ONLINE_ROLES
        for keyid in root.roles[name].keyids
    }
    signers = [root.keys[k] for name in ("root", "targets") for k in root.roles[name].keyids]
    for key in (*signers, *products, *halt_keys):
        if compute_fingerprint(key) in online:
            offline = {k.keyid: k for k in signers if compute_fingerprint(k) not in online}
            raise make_key_error(key, "targets", offline.values())


def _find_problems(
    root: Root, targets: Targets, drafts: Mapping[str, Metadata[Any]]
) -> Iterator[tuple[str, LazyText | str]]:
    if not root.consistent_snapshot:
        yield "root", "consistent snapshots are disabled"
    try:
        read_policy(root)
        read_receipt_addresses(root.unrecognized_fields)
    except ValueError as error:
        yield "root", describe_mistakes(error, RECEIPT_ADDRESSES_FIELD)
    yield from (("root", text) for text in _find_key_problems(root.keys))
    yield from (("root", text) for text in _find_key_problems(read_emergency_halt_keys(root)))
    for name, holder in root.roles.items():
        yield from (("root", text) for text in _find_holder_problems(name, holder, root.keys))
    delegations = targets.delegations
    if delegations is not None:
        yield from (("targets", text) for text in _find_key_problems(delegations.keys))
        for name, holder in (delegations.roles or {}).items():
            yield from (
                ("targets", text) for text in _find_holder_problems(name, holder, delegations.keys)
            )
            if not holder.terminating or holder.paths is None:
                yield "targets", f"{name} is not terminating, or has no paths"
        if delegations.succinct_roles is not None:
            yield "targets", "hash bins are not supported"
    products = list_delegated_roles(targets)
    for role, metadata in drafts.items():
        if role not in ("root", "targets") and role not in products:
            yield role, "no such product"
        yield from ((role, text) for text in _find_condition_problems(role, metadata.signed))
        if isinstance(metadata.signed, Targets):
            for path, target in metadata.signed.targets.items():
                yield from ((role, text) for text in _find_target_problems(path, target))
                yield from ((role, text) for text in _find_offer_problems(path, metadata.signed))
                if role in products and not products[role].is_delegated_path(path):
                    yield role, f"it may not name {path!r}"
            yield from (
                ("targets", text) for text in _find_foreign_archives(role, metadata.signed, targets)
            )


def _find_condition_problems(role: str, signed: Signed) -> Iterator[LazyText | str]:
    try:
        condition = read_publish_condition(signed)
    except ValueError as error:
        yield get_error_text(error)
    else:
        if condition is not None and condition.product != role:
            yield LazyText("{field} is for another product", {"field": PUBLISH_AFTER_FIELD})


def _find_key_problems(keys: Mapping[str, Key]) -> Iterator[str]:
    for keyid, key in keys.items():
        try:
            compute_fingerprint(key)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            yield f"the key {keyid[:16]} cannot be used: {error}"
            continue
        if compute_keyid(key) != keyid:
            yield f"the id {keyid[:16]} does not belong to its key"


def _find_holder_problems(name: str, holder: Any, keys: Mapping[str, Key]) -> Iterator[str]:  # noqa: ANN401
    if any(keyid not in keys for keyid in holder.keyids):
        yield f"{name} refers to a key that is not listed"
    if holder.threshold > len(holder.keyids):
        yield f"{name}: {holder.threshold} of {len(holder.keyids)} keys cannot be met"


def _find_target_problems(path: str, target: TargetFile) -> Iterator[str]:
    if not TARGET_NAME.fullmatch(path) or any(p in ("", ".", "..") for p in path.split("/")):
        yield f"{path!r} is not a valid target name"
    digest = target.hashes.get("sha256", "")
    if not re.fullmatch(r"[0-9a-f]{64}", str(digest)) or target.length < 0:
        yield f"{path!r} has no digest or no length"


def _find_foreign_archives(role: str, product: Targets, top: Targets) -> Iterator[str]:
    """Yield archives in the top-level targets that differ from those of the product.

    Plain tufup clients find archives only there.
    """
    for path in product.targets.keys() & top.targets.keys():
        one, other = product.targets[path], top.targets[path]
        if (one.length, one.hashes) != (other.length, other.hashes):
            yield f"{path!r} differs from the file in {role}"


def _find_offer_problems(path: str, targets: Targets) -> Iterator[LazyText | str]:
    if not path.startswith(RELEASES_PREFIX):
        return
    target = targets.targets[path]
    custom = target.custom if isinstance(target.custom, dict) else {}
    try:
        offer = Offer.model_validate(custom.get(OFFER_FIELD, {}))
    except ValidationError as error:
        values = {"path": path, "mistakes": describe_mistakes(error, OFFER_FIELD)}
        yield LazyText("{path} has no valid offer: {mistakes}", values)
        return
    if path != f"{RELEASES_PREFIX}{offer.product}/{offer.version}.json":
        yield f"{path!r} offers {offer.product} {offer.version}"
    archive = targets.targets.get(offer.archive.target)
    named = (offer.archive.length, offer.archive.sha256)
    if archive is None or (archive.length, archive.hashes.get("sha256")) != named:
        yield f"{path!r} refers to an archive that the role does not list"


def refuse_invalid_dates(
    root: Root, drafts: Mapping[str, Metadata[Any]], now: datetime | None = None
) -> None:
    """Refuse drafts that are valid for longer than the policy allows, or issued in the future.

    Args:
        root: The newest root, with the policy.
        drafts: The new versions.
        now: The time (UTC); None to skip the check of the clock.

    Raises:
        BAD_DATES: Naming the role.
    """
    periods = read_policy(root).expiry_days
    for role, metadata in drafts.items():
        text = read_issue_time(metadata.signed)
        issued = _parse_time(role, text)
        if role not in periods:
            raise UpdaterError(
                BAD_DATES,
                role=role,
                reason=LazyText("no expiry period in {policy}", {"policy": POLICY_FIELD}),
            )
        if metadata.signed.expires - issued > timedelta(days=periods[role]):
            raise UpdaterError(
                BAD_DATES,
                role=role,
                reason=LazyText("valid for more than {days} days", {"days": periods[role]}),
            )
        if now is not None and issued - now > CLOCK_TOLERANCE:
            words = N_("drafted in the future ({at})")
            raise UpdaterError(
                BAD_DATES, role=role, reason=LazyText(words, {"at": format_signed_time(text)})
            )


def refuse_backdated(
    base: Mapping[str, Metadata[Any]], drafts: Mapping[str, Metadata[Any]]
) -> None:
    """Refuse drafts issued before the versions they replace: the drafter's clock is behind.

    They would expire too early by the same time.

    Args:
        base: The published metadata, by role.
        drafts: The new versions.

    Raises:
        BAD_DATES: Naming the role.
    """
    for role, metadata in drafts.items():
        before = read_issue_time(base[role].signed) if role in base else ""
        text = read_issue_time(metadata.signed)
        if before and _parse_time(role, before) - _parse_time(role, text) > CLOCK_TOLERANCE:
            words = N_("drafted ({at}) before the version it replaces ({before})")
            values = {"at": format_signed_time(text), "before": format_signed_time(before)}
            raise UpdaterError(BAD_DATES, role=role, reason=LazyText(words, values))


class _Paths:
    """The upgrade paths of all sites, by country, channel and state of the rollout. Pure.

    Args:
        offers: All offers of a product.
        retired: Versions that left the metadata earlier; sites may still run them.
        at: When the metadata is issued (UTC).
    """

    def __init__(self, offers: Sequence[Offer], retired: Iterable[str], at: datetime) -> None:
        listed = {offer.release_version: offer for offer in offers}
        self._starts = sorted({*listed, *map(Version, retired)}, reverse=True)
        self._steps = {
            start: [
                version
                for version, offer in listed.items()
                if version > start and is_version_accepted(offer.upgrade_from, start)
            ]
            for start in self._starts
        }
        named = [offer.countries for offer in offers]
        named += [wave.countries for offer in offers for wave in offer.waves]
        views: set[tuple[frozenset[Version], tuple[Version, ...]]] = set()
        for country in {"", *(code for codes in named for code in codes)}:  # "": any other one
            for channel in Channel:
                theirs = {v: o for v, o in listed.items() if _is_for(o, country, channel)}
                stops = tuple(sorted(v for v, offer in theirs.items() if offer.required))
                opened = frozenset(v for v, o in theirs.items() if _is_open(o, country, at))
                # Also with all halts ended and all waves open, as it may become.
                views |= {(opened, stops), (frozenset(theirs), stops)}
        self._views = [(*view, self._find_newest(*view)) for view in views]

    def find_lost(self, leaving: Collection[Version]) -> tuple[Version, Version] | None:
        """Return a version whose sites reach only older releases without some releases.

        Also return the one of these that would help most. None if no site loses anything. New
        sites are adopted with the newest release, so it is never without use.
        """
        for available, stops, before in self._views:
            after = self._find_newest(available.difference(leaving), stops)
            # The newest of these, so that it loses a step of its own.
            start = next((one for one in self._starts if after[one] < before[one]), None)
            if start is not None:
                steps = self._list_steps(start, available.intersection(leaving), stops)
                return start, max(steps, key=lambda step: (before[step], step))
            newest = max(available, default=None)
            if newest is not None and newest in leaving:
                return newest, newest
        return None

    def _find_newest(
        self, available: Collection[Version], stops: Sequence[Version]
    ) -> Mapping[Version, Version]:
        newest: dict[Version, Version] = {}
        for start in self._starts:
            steps = self._list_steps(start, available, stops)
            newest[start] = max((newest[step] for step in steps), default=start)
        return newest

    def _list_steps(
        self, start: Version, available: Collection[Version], stops: Sequence[Version]
    ) -> list[Version]:
        stop = next((stop for stop in stops if stop > start), None)
        return [
            step
            for step in self._steps[start]
            if step in available and (stop is None or step <= stop)
        ]


def _is_for(offer: Offer, country: str, channel: Channel) -> bool:
    return (
        offer.withdrawn is None
        and (not offer.countries or country in offer.countries)
        and channel in (offer.channel, Channel.PREVIEW)
    )


def _is_open(offer: Offer, country: str, at: datetime) -> bool:
    """Return whether a release is open to every site of a country."""
    return offer.halted is None and (
        not offer.waves
        or any(
            wave.percent == ALL_PERCENT
            and wave.opens <= at
            and (not wave.countries or country in wave.countries)
            for wave in offer.waves
        )
    )


def list_retirable_releases(
    offers: Sequence[Offer], retired: Iterable[str], limit: Version, at: datetime
) -> tuple[Offer, ...]:
    """Return the releases older than a limit that may leave the metadata, oldest first. Pure.

    Required and withdrawn releases stay, and so does the newest release of each country and
    channel, with those without which a site could no longer reach it.

    Args:
        offers: All offers of a product.
        retired: Versions that left the metadata earlier; sites may still run them.
        limit: The oldest version to keep.
        at: When the metadata is issued (UTC).
    """
    leaving = {
        offer.release_version: offer
        for offer in sorted(offers, key=lambda offer: offer.release_version)
        if offer.release_version < limit and not _must_stay(offer)
    }
    paths = _Paths(offers, retired, at)
    while (lost := paths.find_lost(leaving)) is not None:
        del leaving[lost[1]]
    return tuple(leaving.values())


def _must_stay(offer: Offer) -> bool:
    """Return whether sites need the entry: to stop there, or to learn of the withdrawal."""
    return offer.required or offer.withdrawn is not None


def refuse_lost_releases(
    base: Mapping[str, Metadata[Any]], drafts: Mapping[str, Metadata[Any]]
) -> None:
    """Refuse drafts in which a release leaves the metadata that a site may still need.

    Args:
        base: The published metadata, by role.
        drafts: The new versions.

    Raises:
        UNSOUND_DRAFT: Naming the release.
    """
    for role, metadata in drafts.items():
        if role not in OFFLINE_TOP_ROLES:
            old = base[role].signed if role in base else Targets()
            for problem in _find_lost_releases(role, old, metadata.signed):
                raise UpdaterError(UNSOUND_DRAFT, role=role, reason=problem)


def _find_lost_releases(role: str, old: Targets, new: Targets) -> Iterator[LazyText | str]:
    try:
        before, after = read_retired_versions(old), read_retired_versions(new)
    except ValueError as error:
        yield get_error_text(error)
        return
    listed = list_offers(new)
    versions = {offer.version for offer in listed}
    gone = [offer for offer in list_offers(old) if offer.version not in versions]
    if set(after) != {*before, *(offer.version for offer in gone)}:
        yield f"{RETIRED_FIELD} does not name the releases that left the metadata"
    for offer in gone:
        if _must_stay(offer):
            yield f"{offer.version} is required or withdrawn and must stay"
    if gone:
        paths = _Paths([*listed, *gone], before, _parse_time(role, read_issue_time(new)))
        lost = paths.find_lost({offer.release_version for offer in gone})
        if lost is not None:
            yield f"sites of {lost[0]} need {lost[1]}"


def refuse_clock_behind(published: FeedState | None, now: datetime) -> None:
    """Refuse to sign if the clock is behind the issue times of published metadata.

    Metadata signed with such a clock could be expired when it is published.

    Args:
        published: The published feed; None before the first publication.
        now: The time (UTC).

    Raises:
        BAD_DATES: Naming the role.
    """
    if published is None:
        return
    for role in published.list_offline_roles():
        metadata = published.get_role(role)
        text = read_issue_time(metadata.signed) if metadata is not None else ""
        if text and _parse_time(role, text) - now > CLOCK_TOLERANCE:
            words = N_("published at {at}, but the clock of this machine shows {now}")
            values = {"at": format_signed_time(text), "now": format_scheduled_time(now)}
            raise UpdaterError(BAD_DATES, role=role, reason=LazyText(words, values))


def _parse_time(role: str, text: str) -> datetime:
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError as error:
        raise UpdaterError(
            BAD_DATES,
            role=role,
            reason=LazyText("invalid issue time {text}", {"text": repr(text)}),
        ) from error


def require_threshold(role: str, result: VerificationResult) -> None:
    """Require the threshold of a role.

    Raises:
        ONLINE_KEY_MISSING: For an online role, naming its keys.
        BELOW_THRESHOLD: Naming who may still sign.
    """
    if not result and role in ONLINE_ROLES:
        raise UpdaterError(
            ONLINE_KEY_MISSING, role=role, keys=describe_keys(result.unsigned.values())
        )
    if not result:
        raise UpdaterError(
            BELOW_THRESHOLD,
            role=role,
            signed=len(result.signed),
            threshold=result.threshold,
            missing=", ".join(list_key_owners(result.unsigned.values())),
        )


def require_signatures(state: FeedState, previous: Root | None, roles: Iterable[str]) -> None:
    """Require the threshold of every role; for a new root also that of the previous root.

    Args:
        state: The feed to publish.
        previous: The previous root; None if the root is unchanged or the first.
        roles: The roles to check.

    Raises:
        BELOW_THRESHOLD: If a role has too few signatures.
    """
    root = state.root
    step = root.signed.get_root_verification_result(previous, root.signed_bytes, root.signatures)
    require_threshold("root", step.first)
    require_threshold("root", step.second)
    for role in roles:
        require_threshold(role, verify_role(state, role))
    for role in list_delegated_roles(state.targets.signed):
        if role not in state.delegated:
            raise UpdaterError(BELOW_THRESHOLD, role=role, signed=0, threshold=1, missing="-")


def refuse_expired_roles(state: FeedState, now: datetime) -> None:
    """Refuse to publish if an offline role has expired.

    Raises:
        PUBLISHER_ROLE_EXPIRED: Naming all of them, so that one event can renew them.
    """
    expired = {
        role: metadata.signed.expires
        for role in state.list_offline_roles()
        if (metadata := state.get_role(role)) is not None and metadata.signed.is_expired(now)
    }
    if expired:
        raise UpdaterError(
            PUBLISHER_ROLE_EXPIRED,
            role=", ".join(expired),
            expires=format_date(min(expired.values())),
        )
