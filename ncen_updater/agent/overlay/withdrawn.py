"""Signed languages in use here that officers took back. Pure but for what lies on the disk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from packaging.version import Version

from ncen_updater.agent.overlay.signed_languages import SignedLanguages, TakenLanguage
from ncen_updater.formats.document import Withdrawal
from ncen_updater.formats.language import LanguageOffer


def withdrawn_languages(
    signed: SignedLanguages, offers: Iterable[LanguageOffer]
) -> Iterator[tuple[TakenLanguage, Withdrawal]]:
    """Name each that was taken here and is no longer meant to be used, with why.

    Args:
        signed: What was taken.
        offers: What the signed list says.
    """
    taken = {(one.version, one.language, signed.revision(one)): one for one in signed.taken()}
    for offer in offers:
        one = taken.get((Version(offer.version), offer.language, offer.revision))
        if one is not None and offer.withdrawn is not None:
            yield one, offer.withdrawn
