"""Signed languages that lie on the disk, beside the files of their release."""

from __future__ import annotations

from pathlib import Path

from ncen_updater.common.bounded_io import NotReadable, TooLarge, read_file
from ncen_updater.common.canonical_json import sha256_hex
from ncen_updater.formats.errors import BadLanguage
from ncen_updater.formats.language import (
    MAX_LANGUAGE_BYTES,
    LanguageDocument,
    LanguageOffer,
    parse_language_document,
)


def language_place(downloads: Path, offer: LanguageOffer) -> Path:
    """Where a signed language lies.

    Args:
        downloads: The directory of all downloads.
        offer: The language.
    """
    name = f"language.{offer.language}.{offer.revision}.json"
    return downloads / offer.product / offer.version / name


def read_language(
    downloads: Path, offer: LanguageOffer, length: int, sha256: str
) -> LanguageDocument | None:
    """Read a signed language; None where it does not lie whole.

    Args:
        downloads: The directory of all downloads.
        offer: The language.
        length: Of its file, as it was signed.
        sha256: The same.

    Raises:
        BadLanguage: If it is what was signed, and not of the agreed form, or not what it is called.
    """
    try:
        # Read once: what is hashed is what is understood.
        content = read_file(language_place(downloads, offer), MAX_LANGUAGE_BYTES)
    except (FileNotFoundError, NotReadable, TooLarge):
        return None
    if (len(content), sha256_hex(content)) != (length, sha256):
        return None
    document = parse_language_document(content, offer.target, lenient=True)
    if not document.offer().same_language(offer):
        raise BadLanguage(source=offer.target, detail="it says something else than the list")
    return document
