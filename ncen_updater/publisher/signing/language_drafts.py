"""Signed languages in drafts: what a feed has of them, and taking one back. Pure."""

from __future__ import annotations

from datetime import datetime

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import UNKNOWN_LANGUAGE
from ncen_updater.formats.document import Withdrawal
from ncen_updater.formats.language import LanguageOffer
from ncen_updater.formats.tuf_names import LANGUAGES_PREFIX, OFFER_FIELD
from ncen_updater.publisher.feed.feed import FeedRepository, FeedState, unknown_role
from ncen_updater.publisher.signing.draft import Draft


def languages_of_feed(state: FeedState, product: str) -> list[LanguageOffer]:
    """The signed languages that a feed carries of a product, by name.

    Raises:
        UnknownProduct: If the product has no role.
    """
    if product not in state.delegated:
        raise unknown_role(state, product)
    listed = state.delegated[product].signed.targets
    return [
        LanguageOffer.model_validate(target.custom[OFFER_FIELD])
        for name, target in sorted(listed.items())
        if name.startswith(LANGUAGES_PREFIX) and target.custom and OFFER_FIELD in target.custom
    ]


def draft_language_withdrawal(
    state: FeedState,
    product: str,
    version: str,
    language: str,
    withdrawal: Withdrawal,
    now: datetime,
) -> Draft:
    """The newest revision of a language marked as taken back; its file stays.

    The revision before it, where there is one that was not taken back, is on offer again.

    Raises:
        UnknownProduct: If the product has no role.
        UnknownLanguage: If there is none for that release that was not taken back.
    """
    offers = [
        offer
        for offer in languages_of_feed(state, product)
        if (offer.version, offer.language) == (version, language) and offer.withdrawn is None
    ]
    if not offers:
        raise UpdaterError(UNKNOWN_LANGUAGE, language=language, product=product, version=version)
    newest = max(offers, key=lambda offer: offer.revision)
    repository = FeedRepository(state, state.policy, now)
    with repository.edit_targets(product) as targets:
        gone = newest.model_copy(update={"withdrawn": withdrawal})
        targets.targets[newest.target].unrecognized_fields["custom"] = {
            OFFER_FIELD: gone.model_dump(mode="json", exclude_none=True)
        }
    return Draft(f"Withdrawal of {product} {version} ({language})", repository.changed)
