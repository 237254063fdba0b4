"""Who may have a release, and when: drafts over releases that are published already. Pure.

The release itself never changes; what changes is the offer that the product's officers sign: its
waves, a halt, its channel and its countries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from datetime import datetime

from tuf.api.metadata import Targets  # type: ignore[attr-defined]

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import Text
from ncen_updater.common.messages import NOTHING_TO_DO, UNKNOWN_RELEASE
from ncen_updater.formats.document import Offer, archive_target, release_target
from ncen_updater.formats.manifest import Channel
from ncen_updater.formats.rollout import Halt, Wave
from ncen_updater.formats.tuf_names import OFFER_FIELD
from ncen_updater.publisher.feed.feed import FeedState, unknown_role
from ncen_updater.publisher.feed.repository import FeedRepository
from ncen_updater.publisher.signing.draft import Draft, offer_json, plain


def offer_of(state: FeedState, product: str, version: str) -> Offer:
    """The offer of a release as it is published now.

    Raises:
        UnknownProduct: If the product has no role.
        UnknownRelease: If the feed does not carry the version.
    """
    if product not in state.delegated:
        raise unknown_role(state, product)
    target = state.delegated[product].signed.targets.get(release_target(product, version))
    if target is None or not target.custom:
        raise UpdaterError(UNKNOWN_RELEASE, product=product, version=version)
    return Offer.model_validate(target.custom[OFFER_FIELD])


def draft_waves(
    state: FeedState,
    product: str,
    version: str,
    waves: Sequence[Wave],
    now: datetime,
    *,
    add: bool = False,
) -> Draft:
    """Another schedule; it lifts a halt.

    Args:
        state: The published feed.
        product: What the release is of.
        version: Which one.
        waves: The schedule; none opens the release to every site at once.
        now: Moment of the draft (UTC).
        add: Keep the waves that are there, and add these.

    Raises:
        UnknownProduct, UnknownRelease: As :func:`offer_of`.
        NothingToDo: If that is the schedule already, or the release was withdrawn.
    """
    kept = offer_of(state, product, version).waves if add else ()
    schedule = tuple(sorted({*kept, *waves}, key=lambda w: (w.opens, w.percent, w.countries)))
    changes = {"waves": schedule, "halted": None}
    return _steer(state, product, version, changes, f"Waves of {product} {version}", now)


def draft_halt(state: FeedState, product: str, version: str, halt: Halt, now: datetime) -> Draft:
    """Keep a release from sites that have not begun with it.

    Raises:
        UnknownProduct, UnknownRelease, NothingToDo: As :func:`draft_waves`.
    """
    return _steer(state, product, version, {"halted": halt}, f"Halt of {product} {version}", now)


def draft_resumption(state: FeedState, product: str, version: str, now: datetime) -> Draft:
    """Lift a halt; the waves go on as they were signed.

    Raises:
        UnknownProduct, UnknownRelease, NothingToDo: As :func:`draft_waves`.
    """
    title = f"End of the halt of {product} {version}"
    return _steer(state, product, version, {"halted": None}, title, now)


def draft_channel(
    state: FeedState, product: str, version: str, channel: Channel, now: datetime
) -> Draft:
    """Another channel: a preview that proved good becomes stable.

    Raises:
        UnknownProduct, UnknownRelease, NothingToDo: As :func:`draft_waves`.
    """
    title = f"Channel of {product} {version}"
    return _steer(state, product, version, {"channel": channel}, title, now)


def draft_audience(
    state: FeedState, product: str, version: str, countries: Sequence[str], now: datetime
) -> Draft:
    """Other countries; none means all of them.

    Raises:
        UnknownProduct, UnknownRelease, NothingToDo: As :func:`draft_waves`.
    """
    changes = {"countries": tuple(sorted(set(countries)))}
    return _steer(state, product, version, changes, f"Countries of {product} {version}", now)


def _steer(
    state: FeedState,
    product: str,
    version: str,
    changes: Mapping[str, object],
    title: str,
    now: datetime,
) -> Draft:
    before = offer_of(state, product, version)
    if before.withdrawn is not None:
        raise UpdaterError(
            NOTHING_TO_DO,
            reason=Text(
                "{product} {version} was withdrawn", {"product": product, "version": version}
            ),
        )
    fields = {name: getattr(before, name) for name in Offer.model_fields}
    after = Offer.model_validate({**fields, **changes})
    if after == before:
        raise UpdaterError(
            NOTHING_TO_DO,
            reason=Text(
                "{product} {version} is so already", {"product": product, "version": version}
            ),
        )
    repository = FeedRepository(state, state.policy, now)
    with repository.edit_targets(product) as targets:
        name = release_target(product, version)
        targets.targets[name].unrecognized_fields["custom"] = {OFFER_FIELD: offer_json(after)}
    if product in state.policy.plain_tufup:
        _list_plainly(repository, state, targets, after)
    return Draft(title, repository.changed)


def _list_plainly(repository: FeedRepository, state: FeedState, own: Targets, offer: Offer) -> None:
    """Let plain tufup clients see a release when it is open to everybody, and only then."""
    archive = archive_target(offer.product, offer.version)
    listed = archive in state.targets.signed.targets
    if listed == plain(offer):
        return
    with repository.edit_targets() as top:
        if listed:
            del top.targets[archive]
        else:
            top.targets[archive] = deepcopy(own.targets[archive])
