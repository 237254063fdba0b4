"""A language of an application, made after the release and signed like one.

It is the TUF target ``languages/<product>/<version>.<language>.<revision>.json``: one file with the
texts of one language for one release, each with the text that it translates. It is never changed; a
better one is the next revision. The *offer* is the short form inside the signed targets metadata
(custom field ``ncen``), as releases have it.
"""

from __future__ import annotations

import json
from typing import Annotated, Literal

from packaging.version import Version
from pydantic import Field, StringConstraints, ValidationError, model_validator

from ncen_updater.common.canonical_json import canonical_json
from ncen_updater.common.i18n import Text
from ncen_updater.formats.document import Withdrawal
from ncen_updater.formats.errors import BadLanguage
from ncen_updater.formats.forward_compat import understood
from ncen_updater.formats.manifest import (
    PRINTED,
    Language,
    Model,
    PathInside,
    ProductName,
    VersionText,
)

#: No signed language is larger: as many texts as ten applications have.
MAX_LANGUAGE_BYTES = 10_000_000

Revision = Annotated[int, Field(ge=1, le=9999)]
Count = Annotated[int, Field(ge=0, le=1_000_000)]
KeyPart = Annotated[str, StringConstraints(max_length=5000)]
Form = Annotated[str, StringConstraints(max_length=20_000, pattern=r"^[^\x00]*$")]


def language_target(product: str, version: str, language: str, revision: int) -> str:
    """Name of a signed language."""
    return f"languages/{product}/{version}.{language}.{revision}.json"


class LanguageText(Model):
    """One text.

    Attributes:
        key: Its key, in the parts that the format of the application has.
        text: The translation, in the forms of its language.
        source: What it translates, in one form or two.
    """

    key: Annotated[tuple[KeyPart, ...], Field(min_length=1, max_length=40)]
    text: Annotated[tuple[Form, ...], Field(min_length=1, max_length=6)]
    source: Annotated[tuple[Form, ...], Field(min_length=1, max_length=6)]


class LanguageFile(Model):
    """The texts of one file that the release carries.

    Attributes:
        overlay: Which, by the path that a country has for it (``overlay`` of its ``[[carried]]``).
        plural: How gettext counts in this language; only the format ``po`` uses it.
        texts: The texts.
    """

    overlay: PathInside
    plural: Annotated[str, StringConstraints(max_length=500, pattern=PRINTED)] = ""
    texts: Annotated[tuple[LanguageText, ...], Field(min_length=1, max_length=200_000)]


class LanguageOffer(Model):
    """What the signed metadata say of a language.

    Attributes:
        translated: So many texts of the release have a translation with it,
        total: of so many.
        withdrawn: Set when the Secretariat took it back.
    """

    product: ProductName
    version: VersionText
    language: Language
    revision: Revision
    translated: Count
    total: Count
    withdrawn: Withdrawal | None = None

    @property
    def target(self) -> str:
        """Name of its file."""
        return language_target(self.product, self.version, self.language, self.revision)

    def same_language(self, other: LanguageOffer) -> bool:
        """Whether both name the same texts, withdrawn or not."""
        return self.model_copy(update={"withdrawn": other.withdrawn}) == other


class LanguageDocument(Model):
    """The texts of one language for one release, whole."""

    schema_: Annotated[Literal[1], Field(alias="schema")]
    product: ProductName
    version: VersionText
    language: Language
    revision: Revision
    translated: Count
    total: Count
    files: Annotated[tuple[LanguageFile, ...], Field(min_length=1, max_length=50)]

    @model_validator(mode="after")
    def _names_each_once(self) -> LanguageDocument:
        if len({file.overlay for file in self.files}) != len(self.files):
            raise ValueError("a file is named twice")
        for file in self.files:
            if len({text.key for text in file.texts}) != len(file.texts):
                raise ValueError(f"{file.overlay} has a text twice")
        return self

    def canonical(self) -> bytes:
        """Return the signed byte form."""
        return canonical_json(self.model_dump(mode="json", by_alias=True, exclude_defaults=True))

    def offer(self) -> LanguageOffer:
        """Return the short form for the targets metadata."""
        return LanguageOffer(
            product=self.product, version=self.version, language=self.language,
            revision=self.revision, translated=self.translated, total=self.total,
        )  # fmt: skip

    def texts_of(self, overlay: str) -> LanguageFile | None:
        """The texts for one file of the release; None without any."""
        return next((file for file in self.files if file.overlay == overlay), None)


def parse_language_document(
    content: bytes, source: str, *, lenient: bool = False
) -> LanguageDocument:
    """Read a signed language from its byte form.

    Args:
        content: The bytes.
        source: Where they are from, for words.
        lenient: Whether names that are not known are passed over, as sites do.

    Raises:
        BadLanguage: If it is too large, not JSON, or breaks the schema.
    """
    if len(content) > MAX_LANGUAGE_BYTES:
        raise BadLanguage(
            source=source,
            detail=Text(
                "{content} bytes, over {max_language_bytes}",
                {"content": len(content), "max_language_bytes": MAX_LANGUAGE_BYTES},
            ),
        )
    try:
        data = json.loads(content)
        if lenient:
            return understood(LanguageDocument, data)
        return LanguageDocument.model_validate(data)
    except (ValidationError, ValueError, RecursionError) as error:
        raise BadLanguage(source=source, detail=str(error)[:500]) from error


def newest_languages(offers: tuple[LanguageOffer, ...], version: str) -> tuple[LanguageOffer, ...]:
    """The last revision of each language for a release that was not taken back, by name; pure."""
    found: dict[str, LanguageOffer] = {}
    for offer in sorted(offers, key=lambda item: item.revision):
        if Version(offer.version) == Version(version) and offer.withdrawn is None:
            found[offer.language] = offer
    return tuple(found[language] for language in sorted(found))
