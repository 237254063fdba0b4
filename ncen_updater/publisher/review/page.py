"""The same on paper: one HTML file without scripts, to be printed and signed."""

from __future__ import annotations

from collections.abc import Sequence

from ncen_updater.common.cli.render import SEVERITIES
from ncen_updater.common.i18n import DEFAULT_LANGUAGE, Text
from ncen_updater.common.pages import fill
from ncen_updater.publisher.review.review import Review
from ncen_updater.publisher.review.words import HEADS, marked, title_words
from ncen_updater.publisher.signing.digest_words import spoken


def page_of(
    page: Review,
    remarks: Sequence[Text] = (),
    language: str = DEFAULT_LANGUAGE,
    *,
    compared: Sequence[tuple[Text, Sequence[Text]]] = (),
    signed: Sequence[Text] = (),
) -> bytes:
    """Write the page.

    Args:
        page: What it shows.
        remarks: What else the program has to say, such as that nothing was compared.
        language: Of the sentences.
        compared: What was compared of each release, and what its papers say.
        signed: Who has signed when it was written.
    """
    title = title_words(page.title)
    return fill(
        "ncen_updater.publisher.review",
        "review.html",
        language,
        page=page,
        title=title.render(language) if isinstance(title, Text) else title,
        remarks=remarks,
        compared=compared,
        signed=signed,
        groups=list(marked(page)),
        words=spoken(page.digest),
        severities=SEVERITIES,
        heads=HEADS,
    )
