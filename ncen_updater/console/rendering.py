"""From a page to its bytes."""

from __future__ import annotations

from datetime import datetime, tzinfo
from functools import partial

from ncen_updater.common.cli.render import format_duration, format_time, grouped
from ncen_updater.common.i18n import Text, languages, translate
from ncen_updater.common.pages import fill
from ncen_updater.console.asking import ShownPage
from ncen_updater.console.service import HARMLESS_ORDERS, Document

PACKAGE = "ncen_updater.console"
#: Of languages, as those call themselves; another is named by its letters.
NAMES = {
    "ar": "العربية", "de": "Deutsch", "en": "English", "es": "Español", "fr": "Français",
    "pt": "Português", "ru": "Русский", "sw": "Kiswahili", "zh": "中文",
}  # fmt: skip


def moment_of(text: str) -> datetime:
    """Read a time of the service."""
    return datetime.fromisoformat(text)


def age_of(text: str, now: datetime) -> float:
    """Return how many seconds ago a time was."""
    return max(0.0, (now - moment_of(text)).total_seconds())


def rendered(
    shown: ShownPage,
    language: str,
    *,
    now: datetime,
    zone: tzinfo | None = None,
    token: object = None,
    site: Document | None = None,
    address: str = "/",
    said: Text | None = None,
    styles: str = "",
    by_terminal: bool = True,
    asks_secret: bool = False,
) -> bytes:
    """Return a page.

    Args:
        shown: The page.
        language: Of the sentences.
        now: The time.
        zone: The zone of times; that of the machine by default.
        token: Gives a form to an address what it has to bring along; None where no session is.
        site: What is known of the site, for the head of the page.
        address: Of the page.
        said: What there is to say of the form that led here.
        styles: Marks of the files that belong to it.
        by_terminal: Whether the console ends with a person's terminal.
        asks_secret: Whether people type their password for what they answer for.
    """
    values: dict[str, object] = {
        "when": lambda text: format_time(moment_of(text), zone).render(language),
        "ago": lambda text: format_duration(age_of(text, now)).render(language),
        "took": lambda seconds: format_duration(seconds).render(language),
        "word": partial(translate, language=language),
        "digits": grouped,
        "languages": [(name, NAMES.get(name, name)) for name in languages()],
        "token": token or (lambda _: ""),
        "inside": token is not None,
        "page": shown.name,
        "state": shown.state,
        "again_s": shown.again_s,
        "site": site,
        "address": address,
        "said": said,
        "styles": styles,
        "by_terminal": by_terminal,
        "asks_secret": asks_secret,
        "harmless": HARMLESS_ORDERS,
    }
    return fill(PACKAGE, f"{shown.name}.html", language, **{**values, **shown.values})
